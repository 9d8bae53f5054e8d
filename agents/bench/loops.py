"""What the worker is compared with: `python -m agents.bench.loops bare|stock EVENTS ARRAY` prints events per second.

bare   aiokafka's `getmany`, decode and add: the ceiling of the client
stock  a Faust agent, `async for value`, decode and add
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.settings import load_settings
from schemas.topics import USAGE
from schemas.wire import UsageEvent

_FETCH_BYTES = 4 * 1024 * 1024
_FETCH_RECORDS = 10_000


def _adder(totals: Counter[str], array: int) -> Callable[[bytes], None]:
    """Decodes a record of one event, or of an array of them, and adds it up."""
    one, many = msgspec.json.Decoder(UsageEvent).decode, msgspec.json.Decoder(list[UsageEvent]).decode

    def add(value: bytes) -> None:
        event = one(value)
        totals[event.subject] += event.data.quantity

    def add_all(value: bytes) -> None:
        for event in many(value):
            totals[event.subject] += event.data.quantity

    return add if array == 1 else add_all


async def bare(events: int, array: int) -> float:
    """Events per second of the client alone."""
    settings = load_settings()
    topic, add = settings.topic_prefix + USAGE.name, _adder(Counter(), array)
    async with AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, auto_offset_reset="earliest", max_partition_fetch_bytes=_FETCH_BYTES
    ) as consumer:
        consumer.assign([TopicPartition(topic, p) for p in range(settings.partitions)])
        seen, started = 0, 0.0
        while seen < events:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=_FETCH_RECORDS)).values():
                started = started or monotonic()
                for record in records:
                    add(record.value)
                seen += len(records) * array
        return seen / (monotonic() - started)


async def stock(events: int, array: int) -> float:
    """Events per second of a Faust agent as its documentation writes it."""
    with TemporaryDirectory() as directory:
        return await _stock(events, array, directory)


async def _stock(events: int, array: int, directory: str) -> float:
    import faust  # noqa: PLC0415  # only this loop needs it

    settings = load_settings()
    app = faust.App(
        f"{settings.group}-stock", broker=f"kafka://{settings.kafka}", topic_allow_declare=False,
        topic_disable_leader=True, web_enabled=False, consumer_auto_offset_reset="earliest", datadir=directory,
    )  # fmt: skip
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    add = _adder(Counter(), array)

    async def process(stream: Any) -> None:
        seen, started = 0, 0.0
        async for value in stream:
            started = started or monotonic()
            add(value)
            seen += array
            if seen >= events and not done.done():
                done.set_result(seen / (monotonic() - started))

    app.agent(app.topic(settings.topic_prefix + USAGE.name, value_serializer="raw", key_serializer="raw"))(process)
    await app.start()
    rate = await done
    await app.stop()
    return rate


if __name__ == "__main__":
    loops = {"bare": bare, "stock": stock}
    sys.stdout.write(f"\n{asyncio.run(loops[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3])))}\n")
