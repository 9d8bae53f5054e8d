"""The duplicate memory in the changelog: pieces of a day, appended at checkpoints and merged so that they stay few.

A piece is a range of the memory's log. When the last `_MERGE` pieces of a day are all small, one takes their place, or that of as
many as fit into a record; a piece that has grown to a size class is left alone until there are as many of that class. So an
identity is written a few times at most, and a day of N identities restores from about N / 32,000 pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.columns import Array
from pipeline.duplicates import ENTRY, DuplicateMemory
from pipeline.entries import Entry, ids_entry

_MERGE = 32
#: Size classes in identities: below the first a piece is tiny, below the second small; then it is full.
_CLASSES = (1_000, 32_000)
#: A piece is one state entry, and has to fit into a record.
_PIECE_MAX = 200_000


@dataclass(slots=True)
class _Piece:
    key: bytes
    start: int
    end: int
    count: int

    @property
    def size_class(self) -> int:
        return sum(self.count >= limit for limit in _CLASSES)


class Pieces:
    """The pieces of one partition's memory."""

    def __init__(self, memory: DuplicateMemory) -> None:
        self._memory = memory
        self._days: dict[int, list[_Piece]] = {}
        self._written = 0

    def append(self, next_offset: int) -> Iterator[Entry]:
        """Entries of what was counted since the last call; `next_offset` is that of the checkpoint, for their keys."""
        end, number = len(self._memory), 0
        for start in range(self._written, end, _PIECE_MAX):
            stop = min(start + _PIECE_MAX, end)
            for day in self._memory.days(start, stop):
                yield self._add(day, next_offset, number, start, stop)
                number += 1
                yield from self._merge(day, next_offset, number)
                number += 1
        self._written = end

    def _add(self, day: int, next_offset: int, number: int, start: int, end: int) -> Entry:
        value = self._memory.piece(start, end, day)
        key, _ = entry = ids_entry(day, next_offset, number, value)
        self._days.setdefault(day, []).append(_Piece(key, start, end, len(value) // ENTRY.itemsize))
        return entry

    def _merge(self, day: int, next_offset: int, number: int) -> Iterator[Entry]:
        pieces = self._days[day]
        tail = pieces[-_MERGE:]
        if len(tail) < _MERGE or len({p.size_class for p in tail}) > 1 or tail[0].size_class == len(_CLASSES):
            return
        while sum(p.count for p in tail) > _PIECE_MAX:
            del tail[0]
        del pieces[-len(tail) :]
        while pieces and pieces[-1].size_class == tail[0].size_class and sum(p.count for p in tail) < _CLASSES[-1]:
            tail.insert(0, pieces.pop())
        yield self._add(day, next_offset, number, tail[0].start, tail[-1].end)
        yield from ((piece.key, None) for piece in tail)

    def load(self, day: int, key: bytes, value: bytes) -> None:
        """A piece out of the changelog; pieces of a day come in the order of their keys."""
        start = len(self._memory)
        self._memory.load(value)
        self._written = len(self._memory)
        self._days.setdefault(day, []).append(_Piece(key, start, self._written, len(value) // ENTRY.itemsize))

    def forget_before(self, day: int) -> Iterator[Entry]:
        """Tombstones of all days before this ordinal, which the memory forgets."""
        for gone in [known for known in self._days if known < day]:
            yield from ((piece.key, None) for piece in self._days.pop(gone))
        self._move(self._memory.forget_before(day))

    def _move(self, moved: Array) -> None:
        for pieces in self._days.values():
            for piece in pieces:
                piece.start, piece.end = int(moved[piece.start]), int(moved[piece.end])
        self._written = int(moved[self._written])
