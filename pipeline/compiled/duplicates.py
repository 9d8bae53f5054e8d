"""The walk through the hash index of the duplicate memory: open addressing, linear probing."""

from __future__ import annotations

import numpy as np

from pipeline.compiled import compiled

#: Outcomes of an event that reached the ledger.
COUNTED, DUPLICATE, CONFLICT = 0, 1, 2
#: A slot that leads to no entry of the log.
EMPTY = 0xFFFF_FFFF
_ONE = np.uint64(1)


@compiled
def place(index, log, first, outcomes, slots):
    """Outcome and slot of each of the log's entries from `first` on, in order; a new one takes the empty slot where it belongs."""
    mask = np.uint64(len(index) - 1)
    for i in range(len(outcomes)):
        entry = log[first + i]
        low, high = entry["low"], entry["high"]
        slot = low & mask
        while index[slot] != EMPTY and (log[index[slot]]["low"] != low or log[index[slot]]["high"] != high):
            slot = (slot + _ONE) & mask
        slots[i] = slot
        if index[slot] == EMPTY:
            index[slot] = first + i
            outcomes[i] = COUNTED
        else:
            outcomes[i] = DUPLICATE if log[index[slot]]["content"] == entry["content"] else CONFLICT
