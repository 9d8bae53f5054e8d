"""One Kafka transaction holds what a chunk became and the offset up to which it was consumed (architecture, decision 3).

Every source partition has a transactional id of its own. Its new owner's `start` fences the old one: Kafka refuses
whatever a worker writes that was stopped, lost its partitions and woke up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation

from agents.batching import Send, batches, submit
from agents.hanging import hanging
from agents.settings import Settings
from schemas.topics import MESSAGE_BYTES_MAX

log = structlog.get_logger()

#: A broker that restarts is away for some seconds; the client tries that long before the worker gives up.
_REQUEST_TIMEOUT_MS = 60_000


@dataclass(frozen=True, slots=True)
class Commit:
    """What becomes durable at once: records to send, and the first offset of the source that is not included.

    `durable` is called when it is.
    """

    sends: list[Send]
    next_offset: int
    durable: Callable[[], None] = lambda: None


class Writes(NamedTuple):
    """What the transactions of a source partition write: the topics, and the partition whose record says that one is included."""

    topics: tuple[str, ...]
    deciding: TopicPartition


class Transactor:
    """The transactional producer of one source partition."""

    def __init__(self, settings: Settings, source: TopicPartition, writes: Writes | None = None) -> None:
        self.source = source
        self._writes = writes
        self._group = settings.group
        self._producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka,
            transactional_id=f"{settings.group}-{source.topic}-{source.partition}",
            max_request_size=MESSAGE_BYTES_MAX,
            max_batch_size=256 * 1024,
            linger_ms=0,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            transaction_timeout_ms=_REQUEST_TIMEOUT_MS,
        )

    async def start(self) -> None:
        """Fence every earlier owner of this source partition; its open transaction is aborted.

        A broker that is stopped may complete a transaction without telling its group coordinator: the records are there, but
        the offset stays pending for ever, and the group's old one is read. A transaction of the same producer that holds the
        offset too, and is aborted, ends that; what was processed already comes again, and the ledger knows it.
        """
        await self._producer.start()
        if self._writes is not None:
            await self._end_hanging(self._writes)
        await self.remind()

    async def _end_hanging(self, writes: Writes) -> None:
        """What hangs is done again, and is aborted, if its deciding record hangs too; else it was included, and is committed."""
        producer, manager = self._producer, self._producer._txn_manager  # noqa: SLF001  # the client adds a partition with a record only
        places = [TopicPartition(topic, n) for topic in writes.topics for n in await producer.partitions_for(topic)]
        found = await hanging(producer.client, manager.producer_id, places)
        if not found:
            return
        again = writes.deciding in found
        log.warning(
            "Kafka completed a transaction without its marks: it is ended now", again=again, where=sorted(found)
        )
        await producer.begin_transaction()
        for tp in found:
            manager.maybe_add_partition_to_txn(tp)
        await (producer.abort_transaction() if again else producer.commit_transaction())

    async def remind(self) -> None:
        """A transaction that changes nothing, so that Kafka keeps this producer."""
        producer = self._producer
        await producer.begin_transaction()
        await producer.send_offsets_to_transaction({self.source: 0}, self._group)
        await producer.abort_transaction()

    async def stop(self) -> None:
        """Close the connection; an open transaction is aborted."""
        await self._producer.stop()

    async def commit(self, commit: Commit) -> None:
        """All of it or nothing. Raises `KafkaError` (`ProducerFenced`: another worker owns the partition now)."""
        producer = self._producer
        await producer.begin_transaction()
        sent: list[asyncio.Future[object]] = []
        try:
            async for batch in batches(producer, commit.sends):
                sent.append(await submit(producer, batch))  # noqa: PERF401  # known also when a later one is refused
            # The client commits also when Kafka has refused a record: nothing may be committed before all are accepted.
            offset = producer.send_offsets_to_transaction({self.source: commit.next_offset}, self._group)
            await asyncio.gather(offset, *sent)
        except IllegalOperation:
            # The transaction failed while this was on its way to it; why, say the records that were there before.
            await asyncio.gather(*sent)
            raise
        await producer.commit_transaction()
