"""An index from what names a series (subject, type, retention) to its number: open addressing, linear probing."""

from __future__ import annotations

import numpy as np

from pipeline.compiled import compiled
from pipeline.compiled.bytes import byte, equal
from pipeline.compiled.events import RECORD, RETENTION, SUBJECT, SUBJECT_END, TYPE, TYPE_END
from pipeline.compiled.records import ABSENT, KEY, KEY_END

#: Columns of an entry: the subject from `START` to `MIDDLE` and the type from there to `END` of the index's own text.
START, MIDDLE, END, DAYS, NUMBER, WIDTH = range(6)
EMPTY = -1
#: The number of a series that is not known.
UNKNOWN = -1
_FNV_START, _FNV_PRIME = np.uint64(0xCBF2_9CE4_8422_2325), np.uint64(0x0000_0100_0000_01B3)


@compiled
def look_up(slots, entries, own, fetched, records, rows, numbers):
    """The number of each event's series; `UNKNOWN` when it is not there, or the record's key is not the event's subject."""
    text, known = fetched.ctypes.data, own.ctypes.data
    for i in range(len(rows)):
        record, start, stop = rows[i, RECORD], rows[i, SUBJECT] + 1, rows[i, SUBJECT_END] - 1
        key, key_end = records[record, KEY], records[record, KEY_END]
        numbers[i] = UNKNOWN
        if key == ABSENT or equal(text, key, key_end, text, start, stop):
            type_start, type_stop, days = rows[i, TYPE] + 1, rows[i, TYPE_END] - 1, rows[i, RETENTION]
            slot = _slot(slots, entries, known, text, start, stop, type_start, type_stop, days)
            if slots[slot] != EMPTY:
                numbers[i] = entries[slots[slot], NUMBER]


@compiled
def slot_of(slots, entries, own, text, start, stop, type_start, type_stop, days):
    """The slot of a naming, or the empty one where it belongs."""
    return _slot(slots, entries, own.ctypes.data, text.ctypes.data, start, stop, type_start, type_stop, days)


@compiled
def _slot(slots, entries, own, text, start, stop, type_start, type_stop, days):
    mixed = _hash(text, type_start, type_stop, _hash(text, start, stop, _FNV_START)) ^ np.uint64(days)
    mixed *= _FNV_PRIME
    mask = len(slots) - 1
    slot = np.int64(mixed >> np.uint64(32)) & mask
    while slots[slot] != EMPTY:
        entry = slots[slot]
        middle = entries[entry, MIDDLE]
        if (
            entries[entry, DAYS] == days
            and equal(own, entries[entry, START], middle, text, start, stop)
            and equal(own, middle, entries[entry, END], text, type_start, type_stop)
        ):
            break
        slot = (slot + 1) & mask
    return slot


@compiled
def _hash(text, start, stop, mixed):
    """Fowler, Noll and Vo's hash (1a, 64 bits) of a text, after what was hashed before."""
    for place in range(start, stop):
        mixed = (mixed ^ np.uint64(byte(text, place))) * _FNV_PRIME
    return mixed
