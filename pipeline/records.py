"""Records of one partition, in order, as they lie in the bytes that were fetched; objects are made of those that are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, overload

import numpy as np

from pipeline.columns import Array
from pipeline.compiled.records import ABSENT, KEY, OFFSET, TIMESTAMP, VALUE, VALUE_END, WIDTH, locate


class Record(NamedTuple):
    """A record: its place in the partition, key (a workspace, ...), value, and milliseconds since the epoch."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = 0


class RecordLike(Protocol):
    """What a record of a Kafka client has too."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def key(self) -> bytes | None:
        """The key."""

    @property
    def value(self) -> bytes | None:
        """The bytes as they were sent."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch."""


class Records(Sequence[Record]):
    """`rows` say where each record lies in `text` (columns of `pipeline.compiled.records`)."""

    __slots__ = ("rows", "text")

    def __init__(self, text: bytes, rows: Array) -> None:
        self.text = text
        self.rows = rows

    @classmethod
    def located(cls, text: bytes, count: int, base_offset: int, base_timestamp: int) -> Records | None:
        """The records of a batch of the log, in Kafka's format 2, uncompressed; None if that is not what the text holds."""
        if not 0 <= count <= len(text):  # no room is made for more than there can be
            return None
        records = cls(text, np.empty((count, WIDTH), np.int64))
        return records if locate(records.array, base_offset, base_timestamp, records.rows) else None

    @classmethod
    def of(cls, records: Iterable[RecordLike]) -> Records:
        """The same of objects."""
        parts, rows, at = list[bytes](), list[tuple[int, ...]](), 0
        for record in records:
            places = list[int]()
            for part in (record.key, record.value):
                if part is None:
                    places += ABSENT, ABSENT
                else:
                    places += at, at + len(part)
                    parts.append(part)
                    at += len(part)
            rows.append((record.offset, record.timestamp, *places))
        return cls(b"".join(parts), np.array(rows, np.int64).reshape(-1, WIDTH))

    @classmethod
    def joined(cls, some: Sequence[Records]) -> Records:
        """All of these, one behind the other."""
        if len(some) == 1:
            return some[0]
        rows = np.concatenate([np.empty((0, WIDTH), np.int64), *(one.rows for one in some)])
        first = at = 0
        for one in some:
            places = rows[first : first + len(one), KEY:]
            places[places != ABSENT] += at
            first, at = first + len(one), at + len(one.text)
        return cls(b"".join([one.text for one in some]), rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Records: ...
    def __getitem__(self, place: int | slice) -> Record | Records:
        if isinstance(place, slice):
            return Records(self.text, self.rows[place])
        return next(iter(Records(self.text, self.rows[place, np.newaxis])))

    def __iter__(self) -> Iterator[Record]:
        text = self.text
        for offset, timestamp, key, key_end, value, value_end in self.rows.tolist():
            yield Record(
                offset,
                None if key == ABSENT else text[key:key_end],
                None if value == ABSENT else text[value:value_end],
                timestamp,
            )

    @property
    def array(self) -> Array:
        """The text, for compiled loops."""
        return np.frombuffer(self.text, np.uint8)

    @property
    def value_bytes(self) -> int:
        """The length of all values."""
        return int((self.rows[:, VALUE_END] - self.rows[:, VALUE]).sum())

    @property
    def next_offset(self) -> int:
        """The offset behind the last record."""
        return int(self.rows[-1, OFFSET]) + 1

    def stamped(self, timestamp: int) -> Records:
        """The same records with this timestamp."""
        rows = self.rows.copy()
        rows[:, TIMESTAMP] = timestamp
        return Records(self.text, rows)

    def since(self, offset: int) -> Records:
        """The records from this offset on."""
        return self[int(np.searchsorted(self.rows[:, OFFSET], offset)) :]
