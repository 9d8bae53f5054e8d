"""Chunks come whole and in order, whatever the group does while a fetch is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiokafka.admin import NewTopic
from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.errors import KafkaError
from faust.types import TP

from agents.app import MeterApp, create_app
from agents.kafka import admin
from conftest import Meter, stopped
from pipeline.law import LawBroken

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


class Slow(Recording):
    """Takes longer to open its partitions than a session lasts; then looks who is in the group."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self.settings = meter.settings
        self.members: list[int] = []

    async def assign(self, tps: set[TP], generation: int) -> None:
        """Ledgers of millions of entries, for instance."""
        await asyncio.sleep(1.3 * self.settings.session_timeout)
        async with admin(self.settings) as client:
            (answer,) = await client.describe_consumer_groups([self.settings.group])
        self.members += [len(members) for _, _, _, _, _, members, *_ in answer.groups]
        await super().assign(tps, generation)


async def test_a_worker_that_restores_for_longer_than_a_session_stays_in_the_group(meter: Meter) -> None:
    """It says meanwhile that it lives; else its partitions would go to another, which would restore them as long, and so on."""
    pipeline = Slow(meter)
    async with running(meter, pipeline):
        await send(meter)
        await asyncio.wait_for(pipeline.complete.wait(), 60)
    assert {*pipeline.members} == {1}
    assert pipeline.taken == VALUES


async def crashed(app: MeterApp, each: Callable[[], Awaitable[Any]] = lambda: asyncio.sleep(0)) -> BaseException | None:
    """Why it has crashed; `each` is done until it has."""
    async with asyncio.timeout(30):
        while not app.crashed:  # Faust has a flag and no event
            await each()
            await asyncio.sleep(0.3)
    return app.crash_reason


@pytest.mark.parametrize("at_rest", [False, True])
async def test_a_log_that_begins_anew_stops_the_worker(meter: Meter, at_rest: bool) -> None:
    """The client reads from the beginning when the log no longer reaches to where it is; all of that would pass for known.

    Also where nothing was fetched yet since the partition was sought.
    """
    pipeline = Recording()
    async with running(meter, pipeline) as app:
        await send(meter)
        await asyncio.wait_for(pipeline.complete.wait(), 30)
        if at_rest:
            await app.consumer.perform_seek()

        async def out_of_range() -> None:
            assignment = app.consumer._thread._consumer._subscription.subscription.assignment
            for tp in assignment.tps:
                assignment.state_value(tp).await_reset(OffsetResetStrategy.EARLIEST)

        # As often as the broker says it: a fetch that began before the seek is dropped.
        assert isinstance(await crashed(app, lambda: app.consumer._thread.call_thread(out_of_range)), LawBroken)
    assert pipeline.taken == VALUES


async def test_a_seek_while_a_fetch_is_under_way_is_no_log_that_begins_anew(meter: Meter) -> None:
    """What was fetched before the seek is dropped, and comes again."""
    pipeline = Recording()
    async with running(meter, pipeline) as app:
        fetch, sought = app.consumer._wait_next_records, asyncio.Event()

        async def fetch_and_seek(timeout: float) -> Any:
            result = await fetch(timeout)
            if result[0] and not sought.is_set():
                sought.set()
                await app.consumer.perform_seek()
            return result

        app.consumer._wait_next_records = fetch_and_seek
        await send(meter)
        await asyncio.wait_for(pipeline.complete.wait(), 30)
    assert sought.is_set()
    assert app.crash_reason is None
    assert pipeline.taken == VALUES


async def test_a_worker_waits_for_a_kafka_that_does_not_answer_at_its_start(meter: Meter) -> None:
    """Until then there is no group coordinator that could be asked."""
    with stopped(meter.services.children["kafka"].pid):
        app = create_app(meter.settings, Recording(), [meter.settings.topic_prefix + "workspaces"])
        starting = asyncio.create_task(app.start())
        await asyncio.sleep(3)
        assert app.crash_reason is None
    await asyncio.wait_for(starting, 60)
    await app.stop()
    assert app.crash_reason is None


async def test_a_worker_that_ends_while_it_asks_for_its_group_ends_in_order(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread of the client may be gone by then: the end was taken for a crash."""
    monkeypatch.setattr("agents.transport._CHECK_SECONDS", 0.0)
    async with running(meter, Recording()) as app:
        thread, gone = app.consumer._thread, asyncio.Event()
        check = thread.check

        async def when_it_is_gone() -> None:
            while not thread.thread_loop.is_closed():  # there is no event that says so
                with suppress(asyncio.CancelledError):  # whichever of the two comes first
                    await asyncio.sleep(0.001)
            gone.set()
            await check()

        thread.check = when_it_is_gone
        await asyncio.sleep(0.1)
    assert gone.is_set()
    assert app.crash_reason is None


async def test_what_the_group_coordinator_refuses_ends_the_worker(meter: Meter) -> None:
    """Also while nothing is fetched: the client waits with it until somebody asks, outside the group."""
    pipeline, told = Recording(), KafkaError("an answer that the client does not know")
    async with running(meter, pipeline, "unknown") as app:
        while pipeline.generation is None:  # noqa: ASYNC110  # nothing is assigned, so nothing is fetched
            await asyncio.sleep(0.1)

        async def refused() -> None:
            coordinator = app.consumer._thread._consumer._coordinator
            app.consumer._thread.pushed = asyncio.ensure_future(coordinator._push_error_to_user(told))

        await app.consumer._thread.call_thread(refused)
        assert repr(await crashed(app)) == repr(told)
