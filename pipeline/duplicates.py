"""The memory of duplicates: which identities were counted, and with what content (semantics.md, section 2).

Exact: 128 bits (`pipeline.identities`), and 32 bits of the content, so that the same identity with other
content is found. Identities are kept across days: a copy that claims another day is a conflict, not a second event.

An entry is 22 bytes in a log in order of arrival, and 4 bytes in a hash index (open addressing, linear probing) that is at most
0.7 full: between 30 and 37 bytes an identity. All work is done on whole batches.
"""

from __future__ import annotations

import numpy as np

from pipeline.columns import Array
from pipeline.compiled.duplicates import CONFLICT, COUNTED, DUPLICATE, EMPTY, place
from pipeline.law import ensure

__all__ = ["CONFLICT", "COUNTED", "DAY_BASE", "DUPLICATE", "ENTRY", "DuplicateMemory", "contents_of"]

#: One remembered identity; also the format of a state entry. `day` counts from `DAY_BASE`.
ENTRY = np.dtype([("low", "<u8"), ("high", "<u8"), ("day", "<u2"), ("content", "<u4")])
#: 2020-01-01; two bytes then hold the days up to the year 2199.
DAY_BASE = 737_425
#: The index is at most that full, as a fraction.
_FILL, _OF = 7, 10
_BLOCK = 1 << 18
#: Odd constants of a multiplicative hash (Knuth; splitmix64).
_MIX_QUANTITY, _MIX_TIME = np.uint64(0x9E37_79B9_7F4A_7C15), np.uint64(0xBF58_476D_1CE4_E5B9)


def contents_of(seeds: Array, quantities: Array, micros: Array) -> Array:
    """32 bits of each event's content: the stable number of its series, quantity and time."""
    mixed = seeds + quantities.astype(np.uint64) * _MIX_QUANTITY + micros.astype(np.uint64) * _MIX_TIME
    contents: Array = (mixed >> np.uint64(32)).astype(np.uint32)
    return contents


class DuplicateMemory:
    """The identities of one partition of `account-events`; `len` is how many."""

    def __init__(self) -> None:
        self._size = 0
        self._log = np.empty(1 << 10, ENTRY)
        self._index = np.full(1 << 11, EMPTY, np.uint32)

    def __len__(self) -> int:
        return self._size

    @property
    def memory_bytes(self) -> int:
        """What log and index take."""
        return int(self._log.nbytes + self._index.nbytes)

    def admit(self, identities: Array, contents: Array, days: Array) -> Array:
        """The outcome of each event, in order; `days` are ordinals - `DAY_BASE`. The first of an identity counts."""
        count, size = len(identities), self._size
        self._reserve(count)
        batch = self._log[size : size + count]
        batch["low"], batch["high"] = identities["low"], identities["high"]
        batch["content"], batch["day"] = contents, days
        outcomes, slots = self._place(size, count)
        fresh = outcomes == COUNTED
        counted = int(np.count_nonzero(fresh))
        if counted < count:
            # Those that are not counted leave no hole in the log.
            self._log[size : size + counted] = batch[fresh]
            self._index[slots[fresh]] = np.arange(size, size + counted, dtype=np.uint32)
        self._size += counted
        return outcomes

    def _place(self, first: int, count: int) -> tuple[Array, Array]:
        """Find a slot for each of the log's entries from `first` on; outcome and slot of each."""
        outcomes, slots = np.empty(count, np.uint8), np.empty(count, np.int64)
        place(self._index, self._log, first, outcomes, slots)
        return outcomes, slots

    def _reserve(self, more: int) -> None:
        """Room for `more` entries. The log grows by an eighth in place, the index to the next power of two."""
        wanted = self._size + more
        ensure(wanted < EMPTY, "the duplicate memory of a partition holds less than 2^32 identities", wanted)
        if wanted > len(self._log):
            self._log.resize(max(wanted, len(self._log) * 9 // 8), refcheck=False)
        if wanted * _OF > len(self._index) * _FILL:
            self._rebuild(wanted)

    def _rebuild(self, wanted: int) -> None:
        """The index anew, with room for `wanted` identities."""
        self._index = np.full(1 << max(11, (wanted * _OF // _FILL).bit_length()), EMPTY, np.uint32)
        for first in range(0, self._size, _BLOCK):
            self._place(first, min(_BLOCK, self._size - first))

    def piece(self, start: int, end: int, day: int) -> bytes:
        """The entries of a day (ordinal) in a range of the log, as a state entry; it goes back in through `load`."""
        some = self._log[start:end]
        return bytes(some[some["day"] == day - DAY_BASE].tobytes())

    def days(self, start: int, end: int) -> list[int]:
        """The days (ordinals) in a range of the log."""
        return [int(day) + DAY_BASE for day in np.unique(self._log["day"][start:end])]

    def load(self, piece: bytes) -> None:
        """Remember a piece again; what was loaded before changes nothing."""
        ensure(len(piece) % ENTRY.itemsize == 0, "a piece of the duplicate memory holds whole entries", len(piece))
        entries = np.frombuffer(piece, ENTRY)
        self.admit(entries, entries["content"], entries["day"])

    def forget_before(self, day: int) -> Array:
        """Drop the identities of all days before this ordinal; the new place in the log of each old place."""
        keep = self._log["day"][: self._size] >= day - DAY_BASE
        moved = np.zeros(self._size + 1, np.uint32)
        np.cumsum(keep, out=moved[1:])
        if moved[-1] < self._size:
            kept = self._log[: self._size][keep]
            self._size = len(kept)
            self._log = np.empty(max(self._size, 1 << 10), ENTRY)
            self._log[: self._size] = kept
            self._rebuild(self._size)
        return moved
