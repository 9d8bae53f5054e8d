"""The load: a fleet of workspaces, its documents and its usage, sent as whole batches.

`python -m agents.bench.load WORKSPACES RATE SECONDS` sends at a steady pace, and prints when it began.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

import orjson
from aiokafka import AIOKafkaProducer

from agents.batching import Batch, batches, submit
from agents.settings import Settings, load_settings
from schemas.topics import PACKAGES, USAGE, WORKSPACES

#: (key, value); a value of None is a tombstone.
Record = tuple[bytes, bytes | None]

_BATCH_BYTES = 512 * 1024
#: Kafka's largest: as long the filled usage may wait for its commit.
_TRANSACTION_MS = 900_000
_SOURCES = 8
_TICK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Fleet:
    """Workspaces `ws-0`, `ws-1` ..., spread evenly over `accounts` accounts with a plan package for `logs` each."""

    workspaces: int
    accounts: int

    def __str__(self) -> str:
        return f"{self.workspaces:,} workspaces in {self.accounts:,} account{'s' if self.accounts > 1 else ''}"

    def bindings(self) -> Iterator[Record]:
        """Values of `workspaces`."""
        for w in range(self.workspaces):
            name = f"ws-{w}"
            yield name.encode(), orjson.dumps({"workspace": name, "account": f"acct-{w % self.accounts}"})

    def packages(self, quota: int) -> Iterator[Record]:
        """Values of `packages`."""
        now = datetime.now(UTC)
        for a in range(self.accounts):
            package = {
                "package": f"plan-{a}", "account": f"acct-{a}", "kind": "plan", "quotas": {"logs": quota},
                "workspaces": [f"ws-{w}" for w in range(a, self.workspaces, self.accounts)],
                "effective": str((now - timedelta(days=1)).date()), "expires": str((now + timedelta(days=300)).date()),
                "ordered_at": now.isoformat(),
            }  # fmt: skip
            yield f"plan-{a}".encode(), orjson.dumps(package)

    def usage(self, events: int, array: int = 1) -> Iterator[Record]:
        """Distinct events of now; a record has `array` of them, all of one workspace."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        for first in range(0, events, array):
            workspace = f"ws-{first // array * 7919 % self.workspaces}"
            texts = [_event(n, workspace, time, n % 100) for n in range(first, first + array)]
            yield workspace.encode(), (texts[0] if array == 1 else f"[{','.join(texts)}]").encode()


def _event(number: int, workspace: str, time: str, quantity: int) -> str:
    return (
        f'{{"specversion":"1.0","id":"01JD3{number:012}","source":"collector/eu-1/{number % _SOURCES}","type":"usage.logs",'
        f'"subject":"{workspace}","time":"{time}","data":{{"quantity":{quantity}}}}}'
    )


async def put(producer: AIOKafkaProducer, topic: str, records: Iterable[Record], partition: int | None = None) -> None:
    """Send all; the client has them when this returns, and Kafka once the producer was flushed."""
    async for batch in batches(producer, ((topic, partition, key, value) for key, value in records)):
        await submit(producer, batch)


async def send_documents(settings: Settings, fleet: Fleet, quota: int) -> None:
    """Bind the workspaces and sell the packages."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, max_batch_size=_BATCH_BYTES) as producer:
        await put(producer, settings.topic_prefix + WORKSPACES.name, fleet.bindings())
        await put(producer, settings.topic_prefix + PACKAGES.name, fleet.packages(quota))


@asynccontextmanager
async def held_back(settings: Settings, records: Iterable[Record]) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Usage that is in Kafka already, in an open transaction: workers see all of it at once when what this yields is called."""
    async with AIOKafkaProducer(
        bootstrap_servers=settings.kafka, max_batch_size=_BATCH_BYTES, compression_type="lz4",
        transactional_id=f"{settings.group}-load", transaction_timeout_ms=_TRANSACTION_MS,
    ) as producer:  # fmt: skip
        await producer.begin_transaction()
        await put(producer, settings.topic_prefix + USAGE.name, records)
        await producer.flush()
        yield producer.commit_transaction


async def pace(settings: Settings, workspaces: int, rate: int, seconds: int) -> float:
    """Event n, of workspace n mod `workspaces` and quantity 1, is due n / `rate` after the begin (monotonic), and sent at the next tick.

    All batches are made, and compressed, before the first is sent: the sender shares the machine with what it measures.
    """
    time, ticks = datetime.now(UTC).isoformat(timespec="milliseconds"), round(seconds / _TICK_SECONDS)
    topic, names = settings.topic_prefix + USAGE.name, [f"ws-{w}" for w in range(workspaces)]
    async with AIOKafkaProducer(
        bootstrap_servers=settings.kafka, max_batch_size=_BATCH_BYTES, compression_type="lz4"
    ) as producer:
        made = list[list[Batch]]()
        for tick in range(ticks):
            numbers = range(tick * rate * seconds // ticks, (tick + 1) * rate * seconds // ticks)
            events = ((names[n % workspaces], n) for n in numbers)
            sends = ((topic, None, name.encode(), _event(n, name, time, 1).encode()) for name, n in events)
            made.append([batch async for batch in batches(producer, sends)])
            for batch in made[-1]:
                batch.builder._build()  # noqa: SLF001  # compressed now, or the client does so when it sends
        begin = monotonic()
        for tick, some in enumerate(made, 1):
            await asyncio.sleep(begin + tick * _TICK_SECONDS - monotonic())
            for batch in some:
                await submit(producer, batch)
        return begin


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(pace(load_settings(), *map(int, sys.argv[1:])))}\n")
