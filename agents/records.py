"""Batches of the log read where they lie, instead of an object for each record, which is most of what aiokafka's consumer costs.

Which batches are handed on at all (aborted transactions, control records, sound checksums) stays aiokafka's decision.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from crc32c import crc32c

from pipeline.records import Record, Records

#: Offset, length of what follows, epoch, format, checksum, attributes, last offset, first and last timestamp, producer, its epoch,
#: sequence, number of records: https://kafka.apache.org/documentation/#recordbatch. The first two stand before any batch.
_HEADER, _OVERHEAD = struct.Struct(">qiibIhiqqqhii"), struct.Struct(">qi")
_CHECKED_FROM = struct.calcsize(">qiibI")
_FORMAT = 2
#: Attributes.
_COMPRESSION, _APPEND_TIME, _TRANSACTIONAL, _CONTROL = 7, 8, 16, 32
_DECODERS = {0: bytes, 1: codec.gzip_decode, 2: codec.snappy_decode, 3: codec.lz4_decode, 4: codec.zstd_decode}


class _Run(NamedTuple):
    """All records of a batch, in place of a record; `offset` is that of the last."""

    offset: int
    records: Records


class Batch:
    """A batch of the log; iterating gives its records at once."""

    def __init__(self, view: memoryview) -> None:
        if len(view) < _HEADER.size:
            raise CorruptRecordException(f"a batch of {len(view)} bytes, which is less than its header has")
        (
            self.base_offset, _, _, magic, self._checksum, attributes, last_offset, self._first_timestamp,
            self._last_timestamp, self.producer_id, _, _, self._count,
        ) = _HEADER.unpack_from(view)  # fmt: skip
        if magic != _FORMAT:
            raise CorruptRecordException(f"a batch of format {magic}, which Kafka has not written since 0.11")
        self._view = view
        self._attributes = attributes
        self.next_offset = self.base_offset + last_offset + 1
        self.is_transactional = bool(attributes & _TRANSACTIONAL)
        # The log cleaner keeps the batch of a marker that it removes; such a batch says nothing.
        self.is_control_batch = bool(attributes & _CONTROL and self._count)

    def validate_crc(self) -> bool:
        """Whether the bytes are those that were written."""
        return bool(crc32c(self._view[_CHECKED_FROM:]) == self._checksum)

    def __next__(self) -> Record:
        """The first record: the only one of a control batch."""
        return self.records()[0]

    def __iter__(self) -> Iterator[_Run]:
        if self._count:
            records = self.records()
            yield _Run(records.next_offset - 1, records)

    def records(self) -> Records:
        """The records, decompressed. Raises `CorruptRecordException` and `UnsupportedCodecError`."""
        decode = _DECODERS.get(self._attributes & _COMPRESSION)
        if decode is None:
            raise UnsupportedCodecError(f"the batch at offset {self.base_offset} is compressed in an unknown way")
        text = decode(self._view[_HEADER.size :])
        records = Records.located(text, self._count, self.base_offset, self._first_timestamp)
        if records is None:
            raise CorruptRecordException(f"the batch at offset {self.base_offset} is not what its header says")
        return records.stamped(self._last_timestamp) if self._attributes & _APPEND_TIME else records


class Batches:
    """What was fetched of a partition: batches, the last of which may have been cut off."""

    def __init__(self, fetched: bytes) -> None:
        self._fetched = memoryview(fetched)
        self._at = 0

    def size_in_bytes(self) -> int:
        """How much was fetched."""
        return len(self._fetched)

    def has_next(self) -> bool:
        """Whether there is another whole batch."""
        return self._end() is not None

    def next_batch(self) -> Batch:
        """The next batch."""
        start, self._at = self._at, self._end() or self._at
        return Batch(self._fetched[start : self._at])

    def _end(self) -> int | None:
        if self._at + _OVERHEAD.size > len(self._fetched):
            return None
        _, length = _OVERHEAD.unpack_from(self._fetched, self._at)
        end: int = self._at + _OVERHEAD.size + length
        return end if end <= len(self._fetched) else None


class LeanRecords(fetcher.PartitionRecords):
    """Iterates over the records of whole batches. `next_fetch_offset` is the first offset that was not handed on."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._rest: Records = Records.of(())

    def _consumer_record(self, _tp: Any, run: _Run) -> Records:
        return run.records.since(self.next_fetch_offset)

    def take(self, most: int | None) -> Records:
        """The next records, at most so many; none when there are no more."""
        run = self._rest or next(self, self._rest)
        taken, self._rest = (run, run[:0]) if most is None else (run[:most], run[most:])
        if taken:
            self.next_fetch_offset = taken.next_offset
        return taken


class LeanResult(fetcher.FetchResult):
    """A fetch whose records are taken many at a time."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> Records:
        """The records that come next, at most so many; the position moves behind them."""
        found, left = list[Records](), max_records
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return Records.joined(found)
        while left is None or left > 0:
            taken = self._partition_records.take(left)
            if not taken:
                self._update_position()
                self._partition_records = None
                return Records.joined(found)
            found.append(taken)
            left = None if left is None else left - len(taken)
        self._update_position()
        return Records.joined(found)

    def getone(self) -> Record | None:
        """The next record, or None."""
        return next(iter(self.getall(1)), None)


def install() -> None:
    """From now on all consumers of this process fetch so."""
    fetcher.MemoryRecords, fetcher.PartitionRecords, fetcher.FetchResult = Batches, LeanRecords, LeanResult
