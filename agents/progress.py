"""How far a consumer group is: waits until it has processed what the topics held when asked.

A topic that is written in transactions ends with markers that no reader sees, and so no group commits an offset behind them: what
counts is the last record. Markers are also written a little after a transaction's commit is answered, so records of an open
transaction are waited for too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.errors import CommandError
from agents.kafka import committed_offsets, newest_offsets, reader
from agents.settings import Settings

_PAUSE_SECONDS = 0.2
#: A transaction's markers at the end of a partition are few; further back is looked at only when these are all there is.
_LOOK_BACK = 8


class Behind(CommandError):
    """A group did not get there in time."""


async def wait_until_processed(
    settings: Settings, group: str, partitions: Iterable[TopicPartition], deadline: float
) -> dict[TopicPartition, int]:
    """Return when the group has processed every record that is there now; the offset behind the last one, by partition.

    `deadline` is of the monotonic clock; raises `Behind` then.
    """
    ends = await newest_offsets(settings, partitions)
    done = await _committed(settings, group, ends)
    ahead = {tp: (done[tp], end) for tp, end in ends.items() if done[tp] < end}
    targets = done | (await _behind_last_records(settings, ahead, deadline) if ahead else {})
    while late := [tp for tp, target in targets.items() if done[tp] < target]:
        if time.monotonic() > deadline:
            tp = late[0]
            records = targets[tp] - done[tp]
            raise Behind(f"group {group} has not caught up: {tp.topic}[{tp.partition}] has {records} records to go")
        await asyncio.sleep(_PAUSE_SECONDS)
        done = await _committed(settings, group, ends)
    return targets


async def _committed(settings: Settings, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """The offset that the group goes on at, by partition; 0 where it has none."""
    asked = {(tp.topic, tp.partition): tp for tp in partitions}
    found = await committed_offsets(settings, group, asked)
    return {tp: found.get(name, 0) for name, tp in asked.items()}


async def _behind_last_records(
    settings: Settings, ranges: dict[TopicPartition, tuple[int, int]], deadline: float
) -> dict[TopicPartition, int]:
    """One more than the offset of the last committed record in each range; the range's start when it has none."""
    found: dict[TopicPartition, int] = {}
    async with reader(settings, *ranges) as consumer:
        kept = await consumer.beginning_offsets([*ranges])
        back = _LOOK_BACK
        while left := {tp: (max(first, kept[tp]), end) for tp, (first, end) in ranges.items() if tp not in found}:
            last = await _last_records(consumer, {tp: (max(a, b - back), b) for tp, (a, b) in left.items()}, deadline)
            found |= {tp: offset + 1 for tp, offset in last.items()}
            found |= {tp: ranges[tp][0] for tp, (a, b) in left.items() if tp not in last and b - back <= a}
            back *= _LOOK_BACK
    return found


async def _last_records(
    consumer: AIOKafkaConsumer, ranges: dict[TopicPartition, tuple[int, int]], deadline: float
) -> dict[TopicPartition, int]:
    """The offset of the last committed record in each range that has one; waits for transactions that are open there."""
    last: dict[TopicPartition, int] = {}
    for tp, (start, _) in ranges.items():
        consumer.seek(tp, start)
    while waiting := [tp for tp, (_, end) in ranges.items() if await consumer.position(tp) < end]:
        if time.monotonic() > deadline:
            raise Behind(f"a transaction in {waiting[0].topic}[{waiting[0].partition}] does not end")
        for tp, records in (await consumer.getmany(*waiting, timeout_ms=100)).items():
            for record in records:
                if record.offset < ranges[tp][1]:
                    last[tp] = record.offset
    return last
