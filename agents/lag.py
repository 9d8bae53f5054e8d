"""How far readers are behind: what `drawdown_consumer_lag` shows, and whether anything is fetched while there is lag.

A fetch that hangs also keeps what the client believes to be the end of its partitions. So the end is asked for by a client of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from agents import health as codes
from agents.health import Health
from agents.metrics import CONSUMER_LAG
from agents.settings import Settings

_INTERVAL_SECONDS = 1.0
#: The bound of one question, so that the next one goes to a broker that came back.
_ANSWER_SECONDS = 5.0
#: Brokers abort what a producer leaves open after its own timeout, 15 minutes at most (`transaction.max.timeout.ms`).
_OPEN_SECONDS = 16 * 60.0

#: (topic, partition) -> the offset that is fetched next, or None where that is not known yet.
Positions = Mapping[tuple[str, int], int | None]
#: Reader, topic, partition.
_Place = tuple[str, str, int]


def positions_of(consumer: AIOKafkaConsumer) -> dict[tuple[str, int], int | None]:
    """Where a consumer is in the partitions assigned to it. It is behind the marks of transactions, unlike the last record.

    From any thread: `AIOKafkaConsumer.position` waits for a position where there is none, and only in the consumer's own loop.
    """
    subscription = consumer._subscription.subscription  # noqa: SLF001  # see above
    assignment = subscription.assignment if subscription is not None else None
    if assignment is None:
        return {}
    return {(tp.topic, tp.partition): assignment.state_value(tp)._position for tp in assignment.tps}  # noqa: SLF001


class LagWatch:
    """Looks every second. `readers`: name -> where that reader is now."""

    def __init__(self, settings: Settings, health: Health, readers: Mapping[str, Callable[[], Positions]]) -> None:
        self._settings = settings
        self._health = health
        self._readers = readers
        self._shown: set[tuple[str, int]] = set()
        #: (reader, topic, partition) -> its position when looked at last.
        self._seen: dict[_Place, int | None] = {}
        #: Where a transaction is open -> its first offset, and since when.
        self._open: dict[TopicPartition, tuple[int, float]] = {}

    async def run(self) -> None:
        """For ever. A Kafka that is away is no error here: it makes the process not ready."""
        async with (
            AIOKafkaConsumer(bootstrap_servers=self._settings.kafka, isolation_level="read_committed") as committed,
            AIOKafkaConsumer(bootstrap_servers=self._settings.kafka, isolation_level="read_uncommitted") as written,
        ):
            while True:
                await self._look(committed, written)
                await asyncio.sleep(_INTERVAL_SECONDS)

    async def _look(self, committed: AIOKafkaConsumer, written: AIOKafkaConsumer) -> None:
        positions = {(reader, *tp): at for reader, where in self._readers.items() for tp, at in where().items()}
        self._notice(positions)
        tps = {TopicPartition(topic, partition) for _, topic, partition in positions}
        self._health.begin(codes.KAFKA)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                ends = await committed.end_offsets(tps) if tps else await _topics(committed)
                beyond = await written.end_offsets(tps) if tps else {}
        except (KafkaError, TimeoutError, OSError):
            return
        self._health.end(codes.KAFKA)
        self._compare(positions, {(tp.topic, tp.partition): end for tp, end in ends.items()})
        self._wait_for_ends(ends, beyond)

    def _wait_for_ends(self, ends: Mapping[TopicPartition, int], beyond: Mapping[TopicPartition, int]) -> None:
        """What comes after a transaction that stays open is hidden from our readers, which seem to be at the end."""
        was = self._open
        self._open = {
            tp: before if (before := was.get(tp)) is not None and before[0] == end else (end, monotonic())
            for tp, end in ends.items()
            if end < beyond.get(tp, end)
        }
        for tp in was.keys() - self._open.keys():
            self._health.end(codes.OPEN, tp)
        for tp, (offset, since) in self._open.items():
            if monotonic() - since > _OPEN_SECONDS:
                self._health.begin(codes.OPEN, tp, topic=tp.topic, partition=tp.partition, offset=offset)
            else:
                self._health.end(codes.OPEN, tp)

    def _compare(self, positions: Mapping[_Place, int | None], ends: Mapping[tuple[str, int], int]) -> None:
        lags: dict[tuple[str, int], int] = {}
        for place, position in positions.items():
            reader, topic, partition = place
            lag = max(0, ends.get((topic, partition), 0) - (position or 0))
            # Ledger and sink both read `account-events`; the one who is behind counts.
            lags[topic, partition] = max(lag, lags.get((topic, partition), 0))
            if not lag:
                self._health.end(codes.FETCH, place)
            else:
                where = {"reader": reader, "topic": topic, "partition": partition, "offset": position, "lag": lag}
                self._health.begin(codes.FETCH, place, **where)
        for tp, lag in lags.items():
            CONSUMER_LAG.labels(*tp).set(lag)
        self._shown = set(lags)

    def _notice(self, positions: Mapping[_Place, int | None]) -> None:
        """What moved does not hang, whatever Kafka answers. What left this process has no lag here."""
        for place in self._seen.keys() | positions.keys():
            if place not in positions or self._seen.get(place) != positions[place]:
                self._health.end(codes.FETCH, place)
        self._seen = dict(positions)
        gone = self._shown - {(topic, partition) for _, topic, partition in positions}
        for tp in gone:
            CONSUMER_LAG.remove(*tp)
        self._shown -= gone


async def _topics(consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
    """A question without partitions: Kafka answers, and nothing lags."""
    await consumer.topics()
    return {}
