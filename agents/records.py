"""Fetched records as the parser makes them, a whole batch of the log at a time.

aiokafka hands records on one by one, each in an object of its own; that is most of what its consumer costs. Here a batch becomes
a list at once. Which batches are handed on at all (aborted transactions, control records, checksums) stays aiokafka's decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher


class _Run(NamedTuple):
    """All records of a batch, in place of a record; `offset` is that of the last."""

    offset: int
    records: list[Any]


class _Batch:
    """A batch of the log whose iteration gives its records at once."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[_Run]:
        if records := list(self._batch):
            yield _Run(records[-1].offset, records)


class _Batches:
    """What was fetched of a partition."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> _Batch:
        return _Batch(self._records.next_batch())


class LeanRecords(fetcher.PartitionRecords):
    """Iterates over lists of records. `next_fetch_offset` is the first offset that was not handed on."""

    def __init__(self, tp: Any, records: Any, *more: Any, **named: Any) -> None:
        super().__init__(tp, _Batches(records), *more, **named)
        self._rest: list[Any] = []

    def _consumer_record(self, _tp: Any, run: _Run) -> list[Any]:
        first = self.next_fetch_offset
        return run.records if run.records[0].offset >= first else [r for r in run.records if r.offset >= first]

    def take(self, most: int | None) -> list[Any]:
        """The next records, at most so many; none when there are no more."""
        run = self._rest or next(self, [])
        taken, self._rest = (run, []) if most is None else (run[:most], run[most:])
        if taken:
            self.next_fetch_offset = taken[-1].offset + 1
        return taken


class LeanResult(fetcher.FetchResult):
    """A fetch whose records are taken in lists."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        """The records that come next, at most so many; the position moves behind them."""
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        found: list[Any] = []
        while max_records is None or len(found) < max_records:
            taken = self._partition_records.take(None if max_records is None else max_records - len(found))
            if not taken:
                self._update_position()
                self._partition_records = None
                return found
            found += taken
        self._update_position()
        return found

    def getone(self) -> Any:
        """The next record, or None."""
        return next(iter(self.getall(1)), None)


def install() -> None:
    """From now on all consumers of this process fetch so."""
    fetcher.PartitionRecords, fetcher.FetchResult = LeanRecords, LeanResult
