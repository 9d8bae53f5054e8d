"""The consumer behind the live views: every partition of the output topics, outside any group, so that every replica has all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from agents.api.activity import Activity
from agents.api.books import Books
from agents.api.live import Kind, Live
from agents.api.packages import Packages
from agents.kafka import partition_counts, reader
from agents.settings import Settings
from schemas.topics import ALERTS, ORDERS, OVERAGE, PACKAGES, QUOTA_STATUS, USAGE_TOTALS, WALLETS, Topic

log = structlog.get_logger()

#: The topics of the streams, in the order of the resume token.
_STREAMED: tuple[tuple[Topic, Kind], ...] = ((QUOTA_STATUS, "quota"), (OVERAGE, "overage"), (ALERTS, "alert"))
_ONE_DAY = timedelta(days=1)
#: A day may begin 14 h before that of UTC, and a worker's clock may be ahead of ours.
_EARLIEST = timedelta(hours=15)
#: Totals that the rate of events looks back on.
_ACTIVITY = timedelta(seconds=30)
_POLL_MS = 200
#: Pause between polls: what comes meanwhile goes to every stream in one piece.
_PAUSE_SECONDS = 0.05
_RECORDS_MAX = 5_000

_Partitions = dict[Topic, list[TopicPartition]]
_Take = Callable[[ConsumerRecord[Any, Any]], None]


class Feed:
    """Reads the topics into `live`, `packages`, `books` and `activity`. `caught_up`: everything that was there at the start is in."""

    def __init__(self, settings: Settings, packages: Packages) -> None:
        self.packages = packages
        self.books = Books()
        self.activity = Activity()
        self.live = Live()
        self.caught_up = asyncio.Event()
        self.positions: dict[TopicPartition, int] = {}
        self._settings = settings
        self._takes: dict[TopicPartition, _Take] = {}
        self._sources: list[TopicPartition] = []
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Read for ever."""
        tps = await self._partitions()
        async with reader(self._settings, *self._takes) as consumer:
            await self._seek(consumer, tps)
            ends = await consumer.end_offsets(list(self.positions))
            while any(self.positions[tp] < end for tp, end in ends.items()):
                await self._poll(consumer)
            self.caught_up.set()
            log.info("live views are complete", accounts=len(self.live.accounts()))
            while True:
                await self._poll(consumer)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def passed(self, tp: TopicPartition, offset: int) -> None:
        """Return once the record at this offset has been read."""
        await self.until(lambda: self.positions.get(tp, 0) > offset)

    async def until(self, seen: Callable[[], bool]) -> None:
        """Return once the views show it."""
        while not seen():
            self._moved.clear()
            await self._moved.wait()

    async def _partitions(self) -> _Partitions:
        """The partitions of each topic, wired to what their records go to."""
        topics = (*(topic for topic, _ in _STREAMED), PACKAGES, ORDERS, WALLETS, USAGE_TOTALS)
        counts = await partition_counts(self._settings, topics)
        tps = {t: [TopicPartition(self._settings.topic_prefix + t.name, p) for p in range(counts[t])] for t in topics}
        self._wire(tps)
        return tps

    async def _seek(self, consumer: AIOKafkaConsumer, tps: _Partitions) -> None:
        """Start each partition where it begins to matter."""
        now = datetime.now(UTC)
        self._begin_day(now)
        since = datetime.fromisoformat(self.live.first_day).replace(tzinfo=UTC) - _EARLIEST
        starts = await _starts(consumer, tps[QUOTA_STATUS] + tps[OVERAGE], since)
        starts |= await _starts(consumer, tps[USAGE_TOTALS], now - _ACTIVITY)
        starts |= await consumer.beginning_offsets(tps[ALERTS] + tps[PACKAGES] + tps[ORDERS] + tps[WALLETS])
        for tp, offset in starts.items():
            consumer.seek(tp, offset)
        self.positions = starts
        self.live.begin([starts[tp] for tp in self._sources])

    def _wire(self, tps: _Partitions) -> None:
        """What a record of each partition goes to."""
        for topic, kind in _STREAMED:
            for tp in tps[topic]:
                self._takes[tp] = self._taker(kind, len(self._sources))
                self._sources.append(tp)
        for tp in tps[PACKAGES]:
            self._takes[tp] = lambda record: self.packages.take(record.key, record.value)
        for tp in tps[ORDERS]:
            self._takes[tp] = lambda record: self.books.take_outcome(record.value)
        for tp in tps[WALLETS]:
            self._takes[tp] = lambda record: self.books.take_wallet(record.value)
        for tp in tps[USAGE_TOTALS]:
            self._takes[tp] = lambda record: self.activity.take(record.value, record.timestamp / 1000)

    def _taker(self, kind: Kind, source: int) -> _Take:
        def take(record: ConsumerRecord[Any, Any]) -> None:
            if record.value is not None:
                self.live.take(kind, source, record.offset, record.value)

        return take

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        """One fetch into the views and to the streams. Nothing is awaited between the first record and the new positions."""
        batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_MAX)
        # Positions, not the last records: they also pass what closes a transaction.
        positions = {tp: await consumer.position(tp) for tp in self._takes}
        self._begin_day(datetime.now(UTC))
        for tp, records in batches.items():
            take = self._takes[tp]
            for record in records:
                try:
                    take(record)
                except msgspec.DecodeError as error:
                    where = f"{tp.topic}[{tp.partition}]@{record.offset}"
                    log.error("a value of our own topics is unreadable: passed over", where=where, error=str(error))
        self.positions = positions
        self.live.positions = [positions[tp] for tp in self._sources]
        self.live.flush()
        self._moved.set()

    def _begin_day(self, now: datetime) -> None:
        """Somewhere it is still yesterday; what is older is history."""
        day = str((now - _ONE_DAY).date())
        if day != self.live.first_day:
            self.live.forget_before(day)
            self.activity.forget_before(day)


async def _starts(
    consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition], since: datetime
) -> dict[TopicPartition, int]:
    """The first offset of each partition that was written at or after an instant."""
    ends = await consumer.end_offsets(tps)
    found = await consumer.offsets_for_times(dict.fromkeys(tps, int(since.timestamp() * 1000)))
    return {tp: found[tp].offset if found.get(tp) else end for tp, end in ends.items()}
