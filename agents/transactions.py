"""One Kafka transaction holds what a chunk became and the offset up to which it was consumed (architecture, decision 3).

Every source partition has a transactional id of its own. Its new owner's `start` fences the old one: Kafka refuses
whatever a worker writes that was stopped, lost its partitions and woke up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation

from agents.batching import Send, batches, submit
from agents.hanging import hanging
from agents.kafka import committed_offsets
from agents.settings import Settings
from pipeline.law import ensure
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
    """What the transactions of a source partition write.

    `deciding` is where a record says that one is included: the first of its commit. `until` gives the offset before which all is
    included, by what readers see of these. Without them what hangs is committed.
    """

    topics: tuple[str, ...]
    deciding: TopicPartition | None = None
    until: Callable[[], Awaitable[int]] | None = None


class Transactor:
    """The transactional producer of one source partition."""

    def __init__(self, settings: Settings, source: TopicPartition, writes: Writes) -> None:
        self.source = source
        self._settings, self._writes = settings, writes
        #: Whether our last transaction was aborted; and the connections to Kafka before it.
        self._again, self._connections = False, list[Any]()
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
        await self.remind()
        self._connections = self._connected()
        if found := await self._hanging():
            await self._end(found, again=await self._is_again(found))

    async def settle(self) -> None:
        """What hangs of our own last transaction gets its end: Kafka may have left it so if it was away since.

        It asks Kafka only then. Raises `KafkaError`.
        """
        if not all(connection.connected() for connection in self._connections) and (found := await self._hanging()):
            await self._end(found, again=self._again)
        self._connections = self._connected()

    def _connected(self) -> list[Any]:
        connections = self._producer.client._conns.values()  # noqa: SLF001  # a new one is another object
        return [connection for connection in connections if connection.connected()]

    async def _hanging(self) -> set[TopicPartition]:
        producer = self._producer
        places = [
            TopicPartition(topic, n) for topic in self._writes.topics for n in await producer.partitions_for(topic)
        ]
        return await hanging(producer.client, producer._txn_manager.producer_id, places)  # noqa: SLF001

    async def _is_again(self, found: set[TopicPartition]) -> bool:
        """Whether it was not included, and is done again: neither the deciding record nor the group's offset has its mark."""
        if self._writes.until is None or self._writes.deciding not in found:
            return False
        source = self.source.topic, self.source.partition
        offsets = await committed_offsets(self._settings, self._settings.group, [source])
        return offsets.get(source, 0) <= await self._writes.until()

    async def _end(self, found: set[TopicPartition], *, again: bool) -> None:
        """What is done again is aborted."""
        producer, manager = self._producer, self._producer._txn_manager  # noqa: SLF001  # the client adds a partition with a record only
        log.warning(
            "Kafka completed a transaction without its marks: it is ended now", again=again, where=sorted(found)
        )
        self._again = again
        await producer.begin_transaction()
        for tp in found:
            manager.maybe_add_partition_to_txn(tp)
        await (producer.abort_transaction() if again else producer.commit_transaction())

    async def remind(self) -> None:
        """A transaction that changes nothing, so that Kafka keeps this producer."""
        producer = self._producer
        await producer.begin_transaction()
        await producer.send_offsets_to_transaction({self.source: 0}, self._settings.group)
        await producer.abort_transaction()

    async def stop(self) -> None:
        """Close the connection; an open transaction is aborted."""
        await self._producer.stop()

    async def commit(self, commit: Commit) -> None:
        """All of it or nothing. Raises `KafkaError` (`ProducerFenced`: another worker owns the partition now)."""
        await self.settle()
        self._again = False
        producer, sends = self._producer, iter(commit.sends)
        await producer.begin_transaction()
        sent: list[asyncio.Future[object]] = []
        try:
            if self._writes.deciding is not None:
                first = commit.sends[0]
                ensure(first[:2] == self._writes.deciding, "the deciding record is the first of a commit", first[:2])
                # Kafka has it before any other: if one of these hangs and it does not, it has its mark.
                async for batch in batches(producer, islice(sends, 1)):
                    await (await submit(producer, batch))
            async for batch in batches(producer, sends):
                sent.append(await submit(producer, batch))  # noqa: PERF401  # known also when a later one is refused
            # The client commits also when Kafka has refused a record: nothing may be committed before all are accepted.
            offset = producer.send_offsets_to_transaction({self.source: commit.next_offset}, self._settings.group)
            await asyncio.gather(offset, *sent)
        except IllegalOperation:
            # The transaction failed while this was on its way to it; why, say the records that were there before.
            await asyncio.gather(*sent)
            raise
        await producer.commit_transaction()
