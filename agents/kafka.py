"""What we ask of Kafka outside the Faust app: offsets, a whole partition, a single record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_exponential_jitter

from agents.offsets import StableOffsetFetch, take_offsets
from agents.settings import Settings
from schemas.topics import MESSAGE_BYTES_MAX, Topic

#: The leader of a group assigns the partitions that it knows. While a broker starts it may know of none, and everybody idles until it asks
#: again: the client's default for that is five minutes.
METADATA_MAX_AGE_MS = 5_000
#: A rebalance waits so long for a process that restores its state. One that does not answer has its session, which is shorter.
REBALANCE_SECONDS = 60.0
#: A broker that restarts is away for some seconds, and then takes some until it knows its groups and leaders.
_PATIENCE_SECONDS = 60


@asynccontextmanager
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client."""
    client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, KafkaError) and bool(error.retriable)


#: Asks again while the error is one that passes.
patient = retry(
    retry=retry_if_exception(_is_passing),
    wait=wait_exponential_jitter(multiplier=0.1, max=2),
    stop=stop_after_delay(_PATIENCE_SECONDS),
    reraise=True,
)


async def committed_offsets(
    settings: Settings, group: str, partitions: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], int]:
    """(topic, partition) -> the first offset that the group has not processed; patient while a broker starts.

    Waits for transactions under way that hold one of these offsets: what is returned is final. (The client's own request
    answers with the offset before such a transaction, and with none at all while the broker loads its groups.)
    """
    found: dict[tuple[str, int], int] = {}
    await _complete(settings, group, {*partitions}, found)
    return {place: offset for place, offset in found.items() if offset >= 0}


@patient
async def _complete(
    settings: Settings, group: str, wanted: set[tuple[str, int]], found: dict[tuple[str, int], int]
) -> None:
    """Ask for what is missing: of many busy partitions some transaction is always under way."""
    async with admin(settings) as client:
        coordinator = await client.find_coordinator(group)
        question = StableOffsetFetch(group, wanted - found.keys())
        take_offsets(await client._send_request(question, coordinator), found)  # noqa: SLF001


async def partition_counts(settings: Settings, topics: Iterable[Topic]) -> dict[Topic, int]:
    """How many partitions each topic has; a missing one has none."""
    names = {settings.topic_prefix + topic.name: topic for topic in topics}
    async with admin(settings) as client:
        described = await client.describe_topics(list(names))
    return {names[found["topic"]]: len(found["partitions"]) for found in described}


@asynccontextmanager
async def reader(settings: Settings, *partitions: TopicPartition) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of some partitions outside any group, that sees committed records only."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=MESSAGE_BYTES_MAX,
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        yield consumer
    finally:
        await consumer.stop()


async def send(settings: Settings, topic: Topic, key: str, value: bytes) -> None:
    """Write one record, once, and return when Kafka has it; raises `KafkaError`."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, enable_idempotence=True) as producer:
        await producer.send_and_wait(settings.topic_prefix + topic.name, value, key.encode())


async def newest_offsets(settings: Settings, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """The offset behind everything that was written to each partition, also by transactions that are still open."""
    some = [*partitions]
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(some)  # the client learns of all topics at once
        consumer.pause(*some)
        offsets: dict[TopicPartition, int] = await consumer.end_offsets(some)
    finally:
        await consumer.stop()
    return offsets


async def all_records(settings: Settings, topic: str, partition: int) -> AsyncIterator[list[ConsumerRecord[Any, Any]]]:
    """The partition from its first record to what is its end now, in order, as the fetches come."""
    tp = TopicPartition(topic, partition)
    async with reader(settings, tp) as consumer:
        end = (await consumer.end_offsets([tp]))[tp]
        await consumer.seek_to_beginning(tp)
        while await consumer.position(tp) < end:
            if records := await _fetch(consumer, tp):
                yield records


async def newest_values(settings: Settings, topic: str, partition: int) -> dict[bytes, bytes]:
    """The newest value of each key up to the partition's end; a tombstone removes its key."""
    values: dict[bytes, bytes] = {}
    async for records in all_records(settings, topic, partition):
        for record in records:
            if record.value is None:
                values.pop(record.key, None)
            else:
                values[record.key] = record.value
    return values


async def records_at(settings: Settings, topic: str, partition: int, offsets: set[int]) -> dict[int, bytes]:
    """The values at these offsets; one that retention has deleted, or that a topic made anew has not reached, is missing."""
    tp = TopicPartition(topic, partition)
    found: dict[int, bytes] = {}
    async with reader(settings, tp) as consumer:
        beginning, end = [(await some([tp]))[tp] for some in (consumer.beginning_offsets, consumer.end_offsets)]
        for offset in sorted(o for o in offsets if beginning <= o < end):
            if offset in found:
                continue
            consumer.seek(tp, offset)
            while await consumer.position(tp) <= offset:
                found |= {r.offset: r.value or b"" for r in await _fetch(consumer, tp) if r.offset in offsets}
    return found


async def _fetch(consumer: AIOKafkaConsumer, tp: TopicPartition) -> list[ConsumerRecord[Any, Any]]:
    batches = await consumer.getmany(tp, timeout_ms=500)
    return [record for batch in batches.values() for record in batch]
