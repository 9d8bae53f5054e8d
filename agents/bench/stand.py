"""The test stand: topics, tables and a group of its own for one measurement, and workers on it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from agents.bench.load import Fleet, Record, held_back, send_documents
from agents.clickhouse import connect
from agents.errors import CommandError
from agents.kafka import admin, committed_offsets
from agents.local.processes import Child
from agents.local.services import Services
from agents.migrate import migrate
from agents.settings import load_settings
from agents.topics import ensure_topics
from schemas.topics import ACCOUNT_EVENTS, PACKAGES, TOPICS, USAGE_TOTALS, WORKSPACES

_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 120
_LOOP_SECONDS = 900
_MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Metered:
    """What the workers did: events per second until the last output was committed, and until ClickHouse had all of it.

    `cpu_micros` is the processor time of all workers for one event, sink included.
    """

    rate: float
    clickhouse_rate: float
    cpu_micros: float


class _Counted(Struct, frozen=True):
    """What the stand reads of usage totals."""

    account: str
    counted: int


class Stand:
    """Everything under a name of its own; taken down afterwards, so that a measurement does not weigh on the next."""

    def __init__(self, services: Services, directory: Path, name: str) -> None:
        self.settings = load_settings(
            kafka=services.kafka, clickhouse=services.clickhouse, topic_prefix=f"{name}.", clickhouse_database=name,
            group=name,
        )  # fmt: skip
        names = ("topic_prefix", "clickhouse_database", "group")
        self.env = services.env | {f"DRAWDOWN_{field.upper()}": getattr(self.settings, field) for field in names}
        self._logs = directory / name
        self._workers: list[Child] = []

    def __enter__(self) -> Stand:
        asyncio.run(ensure_topics(self.settings))
        migrate(self.settings)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        asyncio.run(self._delete_topics())
        with connect(self.settings, database=False) as client:
            client.command(f"DROP DATABASE {self.settings.clickhouse_database} SYNC")

    async def _delete_topics(self) -> None:
        async with admin(self.settings) as client:
            await client.delete_topics([self.topic(topic.name) for topic in TOPICS])

    def topic(self, name: str) -> str:
        """The topic's full name here."""
        return self.settings.topic_prefix + name

    def python(self, module: str, *arguments: object) -> Any:
        """Run a module in a fresh process; the JSON in its last line."""
        command = [sys.executable, "-m", module, *map(str, arguments)]
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_LOOP_SECONDS, env={**os.environ, **self.env}
        )
        if result.returncode:
            raise CommandError(f"{' '.join(command[1:])} ended with {result.returncode}: {result.stderr[-1000:]}")
        return json.loads(result.stdout.splitlines()[-1])

    def meter(self, fleet: Fleet, records: Iterable[Record], events: int, workers: int = 1) -> Metered:
        """How fast the whole worker takes `events` events that wait in Kafka."""
        return asyncio.run(self._meter(fleet, records, events, workers))

    async def _meter(self, fleet: Fleet, records: Iterable[Record], events: int, workers: int) -> Metered:
        async with held_back(self.settings, records) as release:
            # The mean quantity is 49.5: the quotas last nearly to the end.
            await self.prepare(fleet, quota=events * 49 // fleet.accounts, workers=workers)
            busy = self._cpu_seconds()
            async with self.reading(USAGE_TOTALS.name) as consumer:
                await release()
                began, left, ended = await self._watch(consumer, events)
            self._wait_for_clickhouse(events)
            arrived, busy = monotonic(), self._cpu_seconds() - busy
            return Metered(left / (ended - began), left / (arrived - began), busy * _MICROS / events)

    async def prepare(self, fleet: Fleet, quota: int, workers: int = 1) -> None:
        """Start the workers and wait until they have the fleet's documents behind them."""
        for n in range(workers):
            command = [sys.executable, "-m", "agents.cli", "worker"]
            self._workers.append(Child(f"worker {n}", command, self._logs / f"worker-{n}.log", self.env))
        await self._until(self._joined, f"{workers} workers in the group")
        await send_documents(self.settings, fleet, quota)
        await self._until(self._digested, "the documents are in the ledger")

    def stop(self) -> None:
        """Stop the workers."""
        while self._workers:
            self._workers.pop().stop()

    async def _joined(self) -> bool:
        try:
            async with admin(self.settings) as client:
                responses = await client.describe_consumer_groups([self.settings.group])
        except KafkaError:  # a broker that has just started knows no groups yet
            return False
        _, _, state, _, _, members, *_ = responses[0].groups[0]
        return bool(state == "Stable" and len(members) == len(self._workers))

    async def _digested(self) -> bool:
        """Whether routing has passed every document, and the ledger every account event."""
        documents = [TopicPartition(self.topic(name), 0) for name in (WORKSPACES.name, PACKAGES.name)]
        events = [TopicPartition(self.topic(ACCOUNT_EVENTS.name), p) for p in range(self.settings.partitions)]
        committed = await committed_offsets(
            self.settings, self.settings.group, [(tp.topic, tp.partition) for tp in documents + events]
        )
        async with AIOKafkaConsumer(bootstrap_servers=self.settings.kafka) as consumer:
            # In this order: what routing has passed is in account-events already.
            ends = await consumer.end_offsets(documents)
            ends |= await consumer.end_offsets(events)
        # The end of a transaction takes an offset of its own: those of the last bindings and packages may follow each other.
        slack = dict.fromkeys(documents, 0) | dict.fromkeys(events, 2)
        return all(committed.get((tp.topic, tp.partition), 0) >= end - slack[tp] for tp, end in ends.items())

    async def _until(self, reached: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = monotonic() + _PATIENCE_SECONDS
        while not await reached():
            self._require_progress(deadline, what)
            await asyncio.sleep(_POLL_SECONDS)

    def require_alive(self) -> None:
        """Raise `CommandError`, with the end of its log, if a worker has ended."""
        for worker in self._workers:
            if worker.returncode is not None:
                raise CommandError(f"{worker.name} ended with code {worker.returncode}: {worker.tail()}")

    def _require_progress(self, deadline: float, wanted: str) -> None:
        self.require_alive()
        if monotonic() > deadline:
            tails = "; ".join(f"{worker.name}: {worker.tail()}" for worker in self._workers)
            raise CommandError(f"not reached in {_PATIENCE_SECONDS} s: {wanted}; {tails}")

    @asynccontextmanager
    async def reading(self, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
        """A reader of what is committed to a topic from now on, as any other service would be."""
        async with AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka, isolation_level="read_committed"
        ) as consumer:
            partitions = [TopicPartition(self.topic(topic), p) for p in range(self.settings.partitions)]
            consumer.assign(partitions)
            await consumer.seek_to_end(*partitions)
            yield consumer

    async def _watch(self, consumer: AIOKafkaConsumer, events: int) -> tuple[float, int, float]:
        """When the first outputs came (monotonic), how many events were not in them, and when the last came."""
        decode, counted = msgspec.json.Decoder(_Counted).decode, dict[str, int]()
        began, before, total, moved = 0.0, 0, 0, monotonic()
        while total < events:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    output = decode(record.value)
                    counted[output.account] = output.counted
            if (now := sum(counted.values())) != total:
                total, moved = now, monotonic()
                if not began:
                    began, before = moved, total
            self._require_progress(moved + _PATIENCE_SECONDS, f"{events:,} events in the outputs, after {total:,}")
        return began, events - before, moved

    def _wait_for_clickhouse(self, events: int) -> None:
        """Until the tables have all of it: outcomes, and raw events if they are kept."""
        tables = ["SELECT sum(counted) FROM usage_outcomes"]
        tables += ["SELECT count() FROM usage_events"] if self.settings.usage_events else []
        deadline = monotonic() + _PATIENCE_SECONDS
        with connect(self.settings) as client:
            for query in tables:
                while int(str(client.command(query))) < events:
                    self._require_progress(deadline, f"{events:,} events in ClickHouse: {query}")
                    sleep(_POLL_SECONDS)

    def _cpu_seconds(self) -> float:
        """Processor time of the workers so far."""
        ticks = 0
        for worker in self._workers:
            # After the name, which ends with a bracket: utime and stime are fields 14 and 15 of proc(5).
            fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")
