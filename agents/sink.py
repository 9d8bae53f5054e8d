"""The sink: committed Kafka values go into ClickHouse as they are, in batches; ClickHouse takes them apart.

Offsets are committed after the insert, so a batch may come again in another cut: every table is keyed by the identity of its
rows, so that changes nothing. While ClickHouse is away the same batch is tried again with back-off and nothing is read on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, Error
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

from agents import health as codes
from agents.clickhouse import INSERT_SETTINGS, connect
from agents.errors import CommandError, Unreachable
from agents.failures import locate
from agents.health import Health
from agents.kafka import METADATA_MAX_AGE_MS
from agents.lag import Positions, positions_of
from agents.metrics import CLICKHOUSE_INSERT_FAILURES, CLICKHOUSE_INSERT_SECONDS
from agents.settings import Settings
from pipeline.records import RecordLike
from schemas.topics import (
    ACCOUNT_EVENTS,
    ALERTS,
    DEAD_LETTERS,
    ORDERS,
    OVERAGE,
    QUOTA_STATUS,
    STATEMENTS,
    USAGE_TOTALS,
    WALLET_TRANSACTIONS,
    WALLETS,
)

log = structlog.get_logger()

_TABLES = {
    OVERAGE: "overage_landing",
    QUOTA_STATUS: "quota_landing",
    USAGE_TOTALS: "totals_landing",
    ALERTS: "alerts",
    STATEMENTS: "statements",
    ORDERS: "orders",
    WALLETS: "wallets_newest",
    WALLET_TRANSACTIONS: "wallet_transactions",
    DEAD_LETTERS: "dead_letters_landing",
}
#: The account events that have rows; `kind` is the first field that the encoder writes.
_USAGE, _CORRECTION, _BINDING = b'{"kind":"usage"', b'{"kind":"correction"', b'{"kind":"binding"'
#: ClickHouse's codes for input that it cannot parse or store.
_CONTENT_CODES = (
    *("6", "25", "26", "27", "38", "41", "53", "69", "72", "117"),
    *("128", "130", "131", "190", "321", "349", "407"),
)
#: The client gives the group up only when it is dead, not while ClickHouse is away.
_POLL_INTERVAL_MS = 24 * 3600 * 1000
_BACKOFF_SECONDS_MAX = 10
_RECORDS_MAX = 5_000

_Row = tuple[TopicPartition, int, bytes]


class RowRefused(CommandError):
    """ClickHouse refuses a value of one of our own topics: a defect. The sink stops before it, and loses nothing."""


class _Revoked(ConsumerRebalanceListener):  # type: ignore[misc]
    """Counts rebalances: what was read before one is not committed after it."""

    def __init__(self, health: Health) -> None:
        self.rebalances = 0
        self._health = health
        health.begin(codes.ASSIGNMENT, "sink", reader="sink")

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Partitions move."""
        self.rebalances += 1
        self._health.begin(codes.ASSIGNMENT, "sink", reader="sink")

    def on_partitions_assigned(self, assigned: Any) -> None:
        """They have moved."""
        self._health.end(codes.ASSIGNMENT, "sink")


class Sink:
    """One consumer in the group `<group>-sink`; any number of processes may run one."""

    def __init__(self, settings: Settings, health: Health | None = None) -> None:
        self._settings = settings
        self._health = health or Health(settings.stuck_after)
        self._table_of = {settings.topic_prefix + topic.name: table for topic, table in _TABLES.items()}
        self._account_events = settings.topic_prefix + ACCOUNT_EVENTS.name
        self._audited = {_CORRECTION: "corrections", _BINDING: "bindings"}
        self._audited |= {_USAGE: "usage_landing"} if settings.usage_events else {}
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._moves = _Revoked(self._health)
        self._client: Client | None = None
        self._consumer: AIOKafkaConsumer | None = None

    async def run(self) -> None:
        """Until `stop`. Raises `RowRefused`, and `KafkaError` when Kafka is gone for good."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka,
            group_id=f"{self._settings.group}-sink",
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_interval_ms=_POLL_INTERVAL_MS,
            session_timeout_ms=int(self._settings.session_timeout * 1000),
            heartbeat_interval_ms=int(self._settings.session_timeout * 1000 / 4),
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
            fetch_max_wait_ms=100,
        )
        self._consumer = consumer
        consumer.subscribe([*self._table_of, self._account_events], listener=self._moves)
        await consumer.start()
        try:
            while not self._stopping.is_set():
                await self._batch(consumer)
        except (Error, Unreachable):
            # While stopping the batch is given up: its offsets are not committed, so it comes again.
            if not self._stopping.is_set():
                raise
        finally:
            self._stopped.set()
            await consumer.stop()

    async def stop(self) -> None:
        """End after the batch under way; if ClickHouse is away, at once: what is not committed comes again."""
        self._stopping.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), timeout=5)

    def positions(self) -> Positions:
        """Where the consumer is in its partitions."""
        return positions_of(self._consumer) if self._consumer is not None else {}

    async def _batch(self, consumer: AIOKafkaConsumer) -> None:
        """Read for at most an interval, insert, commit."""
        rebalances = self._moves.rebalances
        rows: dict[str, list[_Row]] = defaultdict(list)
        offsets: dict[TopicPartition, int] = {}
        deadline, size = monotonic() + self._settings.sink_interval, 0
        while size < self._settings.sink_bytes and (left := deadline - monotonic()) > 0:
            for tp, records in (await consumer.getmany(timeout_ms=int(left * 1000), max_records=_RECORDS_MAX)).items():
                offsets[tp] = records[-1].offset + 1
                size += self._sort(tp, records, rows)
        for table, some in rows.items():
            if some:
                self._health.begin(codes.INSERT, table=table, rows=len(some))
                await self._insert(table, some)
                self._health.end(codes.INSERT)
        if offsets and self._moves.rebalances == rebalances:
            # A rebalance after this check makes the commit fail, and the rows come again.
            with suppress(CommitFailedError, IllegalStateError):
                await consumer.commit(offsets)

    def _sort(self, tp: TopicPartition, records: Iterable[RecordLike], rows: dict[str, list[_Row]]) -> int:
        """Append what are rows to their table's; their size."""
        found = [(tp, record.offset, record.value) for record in records if record.value is not None]
        if tp.topic != self._account_events:
            rows[self._table_of[tp.topic]] += found
            return sum(len(value) for _, _, value in found)
        size = 0
        for prefix, table in self._audited.items():
            placed = [(tp, offset, _placed(value, offset)) for _, offset, value in found if value.startswith(prefix)]
            rows[table] += placed
            size += sum(len(value) for _, _, value in placed)
        return size

    async def _insert(self, table: str, rows: list[_Row]) -> None:
        """Insert once; a value that is refused for its content is searched for by halves."""
        block = b"\n".join(value for _, _, value in rows)
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(self._is_passing),
                wait=wait_exponential_jitter(multiplier=0.1, max=_BACKOFF_SECONDS_MAX),
                after=partial(self._failed, table),
                reraise=True,
            ):
                with attempt, CLICKHOUSE_INSERT_SECONDS.labels(table=table).time():
                    await asyncio.to_thread(self._insert_now, table, block)
        except DatabaseError as error:
            if not _is_refusal(error):
                raise
            if len(rows) == 1:
                tp, offset, _ = rows[0]
                message = f"ClickHouse refuses {tp.topic}[{tp.partition}]@{offset} for {table}: {error}"
                refused = RowRefused(message)
                locate(refused, topic=tp.topic, partition=tp.partition, offset=offset, table=table)
                raise refused from error
            middle = len(rows) // 2
            await self._insert(table, rows[:middle])
            await self._insert(table, rows[middle:])

    def _failed(self, table: str, state: RetryCallState) -> None:
        CLICKHOUSE_INSERT_FAILURES.inc()
        error = str(state.outcome.exception() if state.outcome else "")[:300]
        self._health.begin(codes.INSERT, table=table, attempt=state.attempt_number, error=error)
        log.warning("insert failed; trying again", table=table, attempt=state.attempt_number, error=error)

    def _insert_now(self, table: str, block: bytes) -> None:
        if self._client is None:
            self._client = connect(self._settings)
        self._client.raw_insert(table, insert_block=block, fmt="JSONEachRow", settings=INSERT_SETTINGS)

    def _is_passing(self, error: BaseException) -> bool:
        """Whether to try again: everything but a refusal of the content, and not while stopping."""
        if self._stopping.is_set():
            return False
        return isinstance(error, Error | CommandError | OSError) and not _is_refusal(error)


def _placed(value: bytes, offset: int) -> bytes:
    """A JSON object with its place in the log."""
    return b'{"log_offset":%d,%b' % (offset, value[1:])


def _is_refusal(error: BaseException) -> bool:
    """Whether ClickHouse says that the content is wrong; an outage is a `DatabaseError` too."""
    return isinstance(error, DatabaseError) and any(f"Code: {code}." in str(error) for code in _CONTENT_CODES)
