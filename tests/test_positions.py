"""Routing goes on behind what is routed, also when Kafka kept a transaction's records and lost its offset."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP

from agents.health import Health
from agents.kafka import all_records, committed_offsets
from agents.partitions import Partitions
from agents.positions import routed_until
from agents.registry import Registry
from agents.route import UsageInlet, limits_of
from agents.settings import Settings
from agents.transactions import Transactor, Writes
from conftest import Meter
from driver import CATALOG
from pipeline.law import LawBroken
from pipeline.records import Record, Records
from pipeline.routing import Router


def record(offset: int) -> Record:
    """A usage record that is no JSON."""
    return Record(offset, b"w", b"{")


async def work(settings: Settings, offsets: list[int]) -> int:
    """A new owner of the first usage partition takes what comes from where it goes on; it commits, and says where that was."""
    usage, router = settings.topic_prefix + "usage", Router(CATALOG, limits_of(settings))
    inlet = UsageInlet(settings, usage, 0, router, Registry(settings, router))
    transactor = Transactor(settings, TopicPartition(usage, 0), Writes(()))
    await transactor.start()
    at = (await committed_offsets(settings, settings.group, [(usage, 0)])).get((usage, 0), 0)
    await inlet.open(at)
    goes_on = inlet.next_offset
    await inlet.take(Records.of(record(offset) for offset in offsets))
    commit = await inlet.collect()
    if commit is not None:
        await transactor.commit(commit)
    await transactor.stop()
    return goes_on


async def set_group(settings: Settings, offset: int, partition: int = 0) -> None:
    """Put the offset of the group where it is not, as a broker that lost it or an operator does."""
    tp = TopicPartition(settings.topic_prefix + "usage", partition)
    async with AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, group_id=settings.group, enable_auto_commit=False
    ) as consumer:
        consumer.assign([tp])
        await consumer.commit({tp: offset})


async def test_an_offset_that_kafka_lost_repeats_nothing(meter: Meter) -> None:
    """The group stands before the last transaction: what that one holds is not routed again, and the group is put right."""
    settings = meter.settings
    assert await work(settings, [0, 1, 2]) == 0
    assert await work(settings, [3, 4]) == 3
    await set_group(settings, 3)
    assert await work(settings, [3, 4]) == 5
    assert await work(settings, [5]) == 5
    assert await work(settings, []) == 6  # readers see a commit when its next owner has started
    topic, letters = settings.topic_prefix + "dead-letters", 0
    for partition in range(settings.partitions):
        letters += sum([len(records) async for records in all_records(settings, topic, partition)])
    assert letters == 6


async def test_an_operator_and_a_new_topic_are_obeyed(meter: Meter) -> None:
    """Any other offset of the group is where routing goes on, and so is none at all."""
    settings = meter.settings
    await work(settings, [0, 1, 2])
    await work(settings, [3, 4])
    for offset in (0, 1, 2, 4):
        assert await routed_until(settings, 0, offset) == offset
    await set_group(settings, 1)
    assert await work(settings, [1, 2]) == 1


async def test_a_log_that_is_shorter_than_what_was_read_of_it_stops_the_worker(meter: Meter) -> None:
    """Its tail was lost, or it was made anew and the group was not told: what comes next would pass for what was read."""
    settings = meter.settings
    usage, router = settings.topic_prefix + "usage", Router(CATALOG, limits_of(settings))

    def stage(partition: int) -> UsageInlet:
        return UsageInlet(settings, usage, partition, router, Registry(settings, router))

    await asyncio.to_thread(meter.send, "usage", [(b"w", b"{")] * 3)
    (number,) = [p for p in range(settings.partitions) if [r async for r in all_records(settings, usage, p)]]
    for offset, broken in ((3, False), (4, True)):
        await set_group(settings, offset, number)
        partitions = Partitions(settings, {usage: stage}, Health(settings.stuck_after))
        with pytest.raises(LawBroken, match="no log is shorter") if broken else nullcontext():
            await partitions.assign({TP(usage, number)}, 1)
        await partitions.revoke()


class Endless(UsageInlet):
    """Takes as long to open as Kafka is away."""

    opening = asyncio.Event()

    async def open(self, next_offset: int) -> None:
        """Never done."""
        await super().open(next_offset)
        self.opening.set()
        await asyncio.Event().wait()


async def test_a_signal_while_partitions_are_opened_is_heeded(meter: Meter) -> None:
    """Nothing is folded yet, so nothing has to be committed; and what the group assigns from then on is not opened."""
    settings = meter.settings
    usage, router = settings.topic_prefix + "usage", Router(CATALOG, limits_of(settings))
    stages = {usage: lambda partition: Endless(settings, usage, partition, router, Registry(settings, router))}
    partitions = Partitions(settings, stages, Health(settings.stuck_after))
    opening = asyncio.create_task(partitions.assign({TP(usage, 0)}, 1))
    await asyncio.wait_for(Endless.opening.wait(), 30)
    await asyncio.wait_for(partitions.leave(), 30)
    assert not opening.done()
    opening.cancel()
    await asyncio.wait([opening])
    await asyncio.wait_for(partitions.assign({TP(usage, 0)}, 2), 30)
    assert partitions.positions() == (None, {})
