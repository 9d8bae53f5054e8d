"""Records into whole batches of the client: handed to it one by one they would cost several times as much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.partitioner import DefaultPartitioner

from schemas.topics import MESSAGE_BYTES_MAX

#: (topic, partition or None for the key's, key, value).
Send = tuple[str, int | None, bytes, bytes | None]

_partition = DefaultPartitioner()


class Batch(NamedTuple):
    """A batch that is full, or the last one of its partition; `builder` is the client's."""

    topic: str
    partition: int
    builder: Any


async def batches(producer: AIOKafkaProducer, sends: Iterable[Send]) -> AsyncIterator[Batch]:
    """All records; those of a partition in their order, in as few batches as they fit into.

    Raises `MessageSizeTooLargeError` for one that Kafka would refuse.
    """
    builders: dict[tuple[str, int], Any] = {}
    counts: dict[str, int] = {}
    for topic, partition, key, value in sends:
        if partition is None:
            if topic not in counts:
                counts[topic] = len(await producer.partitions_for(topic))
            partition = partition_of(key, counts[topic])  # noqa: PLW2901
        place = topic, partition
        builder = builders.get(place)
        if builder is None or builder.append(timestamp=None, key=key, value=value) is None:
            if builder is not None:
                yield Batch(*place, builder)
            builder = builders[place] = producer.create_batch()
            builder.append(timestamp=None, key=key, value=value)  # an empty batch takes any record
            if builder.size() > MESSAGE_BYTES_MAX:
                raise MessageSizeTooLargeError(f"a record of {builder.size()} bytes for {topic}")
    for place, builder in builders.items():
        yield Batch(*place, builder)


async def submit(producer: AIOKafkaProducer, batch: Batch) -> asyncio.Future[object]:
    """Hand a batch to the client; the future is done when Kafka has it."""
    handed: asyncio.Future[object] = await producer.send_batch(batch.builder, batch.topic, partition=batch.partition)
    return handed


@lru_cache(maxsize=200_000)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as all of Kafka's clients find it; the hash is remembered, for it is computed in Python."""
    found: int = _partition(key, range(partitions), range(partitions))
    return found
