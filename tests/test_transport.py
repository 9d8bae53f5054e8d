"""Chunks come whole and in order, whatever the group does while a fetch is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import NewTopic
from faust.types import TP

from agents.app import MeterApp, create_app
from agents.kafka import admin
from conftest import Meter

RECORDS = 200


class Recording:
    """Takes chunks as the partitions do, and keeps the values."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.generation: int | None = None
        self.next: dict[TP, int] = {}
        self.owned = asyncio.Event()
        self.complete = asyncio.Event()

    async def assign(self, tps: set[TP], generation: int) -> None:
        """Everything from the beginning."""
        self.generation, self.next = generation, dict.fromkeys(tps, 0)
        if tps:
            self.owned.set()

    def positions(self) -> tuple[int | None, dict[TP, int]]:
        """Behind what was taken."""
        return self.generation, dict(self.next)

    def fetched(self, tp: TP, next_offset: int) -> None:
        """Nobody watches."""

    async def revoke(self) -> None:
        """Nothing is kept between two assignments."""

    async def take(self, tp: TP, generation: int, records: list[Any]) -> None:
        """As an inlet: what was passed is skipped."""
        if generation == self.generation:
            self.taken += [record.value for record in records if record.offset >= self.next[tp]]
            self.next[tp] = max(self.next[tp], records[-1].offset + 1)
        if len(self.taken) >= RECORDS:
            self.complete.set()


@asynccontextmanager
async def running(meter: Meter, pipeline: Recording, topic: str = "workspaces") -> AsyncIterator[MeterApp]:
    """An app that reads a topic with one partition."""
    app = create_app(meter.settings, pipeline, [meter.settings.topic_prefix + topic])
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


VALUES = [str(number).encode() for number in range(RECORDS)]


async def send(meter: Meter, topic: str = "workspaces") -> None:
    await meter._send(meter.settings.topic_prefix + topic, [(b"key", value) for value in VALUES])


async def test_what_is_dropped_is_fetched_again(meter: Meter) -> None:
    """A fetch that began before a rebalance ends after it: its records are dropped, though nothing was ever committed to go back to."""
    pipeline = Recording()
    async with running(meter, pipeline) as app:
        fetch, dropped = app.consumer._wait_next_records, asyncio.Event()

        def rebalance_over() -> None:
            app.consumer_generation_id -= 1

        async def fetch_across_a_rebalance(timeout: float) -> Any:
            result = await fetch(timeout)
            if result[0] and not dropped.is_set():
                dropped.set()
                app.consumer_generation_id += 1
                asyncio.get_running_loop().call_later(0.3, rebalance_over)
            return result

        app.consumer._wait_next_records = fetch_across_a_rebalance
        await send(meter)
        await asyncio.wait_for(dropped.wait(), 30)
        await asyncio.wait_for(pipeline.complete.wait(), 30)
    assert pipeline.taken == VALUES


async def test_nothing_is_fetched_before_the_partitions_are_open(meter: Meter) -> None:
    """Faust may let fetches go on in a rebalance: what they hand on would be taken by partitions that do not know yet where to begin."""
    pipeline = Recording()
    async with running(meter, pipeline) as app:
        await asyncio.wait_for(pipeline.owned.wait(), 30)
        fetches: list[float] = []
        fetch = app.consumer._wait_next_records

        async def counted(timeout: float) -> Any:
            fetches.append(timeout)
            return await fetch(timeout)

        app.consumer_generation_id += 1  # a rebalance has begun; the partitions are being opened
        await asyncio.sleep(1.5)  # the fetch that was under way is over
        app.consumer._wait_next_records = counted
        await send(meter)
        await asyncio.sleep(0.5)
        assert not fetches
        assert not pipeline.taken
        pipeline.generation = app.consumer_generation_id  # they are open
        await asyncio.wait_for(pipeline.complete.wait(), 30)
    assert pipeline.taken == VALUES


async def test_partitions_that_the_broker_did_not_know_are_assigned_soon(meter: Meter) -> None:
    """A broker that starts may know no topics yet when the group shares them out: the group looks again, and not after minutes."""
    pipeline = Recording()
    async with running(meter, pipeline, "unknown") as app:
        while pipeline.generation is None:  # noqa: ASYNC110  # the first assignment, of nothing
            await asyncio.sleep(0.1)
        assert not app.consumer.assignment()
        async with admin(meter.settings) as client:
            await client.create_topics([NewTopic(meter.settings.topic_prefix + "unknown", 1, 1)])
        await asyncio.wait_for(pipeline.owned.wait(), 30)
        await send(meter, "unknown")
        await asyncio.wait_for(pipeline.complete.wait(), 30)
    assert pipeline.taken == VALUES
