"""Faust fed with chunks: one message per fetched partition instead of one per record (architecture, decision 2).

Faust spends its time per message: tasks, a queue hop, an event, an acknowledgement. All of that is needed once per fetch.
A chunk is one Faust message whose value is the fetched records (`pipeline.records`) and whose offset is that of the last one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiokafka
from aiokafka.errors import IllegalStateError
from faust import Schema
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport, server_list
from faust.types import TP, ConsumerMessage
from mode import Service

from agents import records
from agents.kafka import METADATA_MAX_AGE_MS
from agents.lag import Positions, positions_of
from pipeline.law import LawBroken, ensure
from pipeline.records import Records

#: Records of one `fetch` over all partitions; it bounds what a worker holds before it has looked at it.
CHUNK_RECORDS_MAX = 10_000
#: Bytes fetched ahead per partition.
FETCH_BYTES_MAX = 4 * 1024 * 1024
_REBALANCE_POLL_SECONDS = 0.05
#: A fetch asks for all partitions of a broker whose records are wanted just then, and one that these records are wanted of a moment
#: later waits until it ends.
_FETCH_WAIT_MS = 50
#: The client would leave the group, and not come back, when nothing was fetched for so long: while the group has no coordinator, or without
#: partitions. Whether a worker is stuck, `Health` says.
_MAX_POLL_INTERVAL_MS = 10**12
_CHECK_SECONDS = 1.0


records.install()


class ChunkThread(AIOKafkaConsumerThread):
    """The consumer's thread; reads only what is committed, for all our topics are written in transactions."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        self._assignor = aiokafka.coordinator.assignors.roundrobin.RoundRobinPartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=CHUNK_RECORDS_MAX,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
        )

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Say that this worker lives while its ledgers are restored, which may take longer than a session; the client begins after it."""
        self._coordinator._start_heartbeat_task()  # noqa: SLF001  # see above
        await super().on_partitions_assigned(assigned, generation_id)

    async def check(self) -> None:
        """Raise what the group coordinator's answers came to. The client tells it to a fetch alone, and goes on with nothing before."""
        if self._consumer is not None and self._coordinator is not None:  # else it is still looking for Kafka
            await self.call_thread(self._coordinator.check_errors)

    @property
    def _coordinator(self) -> Any:
        return self._ensure_consumer()._coordinator  # noqa: SLF001  # the client has no other way

    def positions(self) -> Positions:
        """Where the fetch is in each assigned partition; none before the start. From any thread."""
        return positions_of(self._consumer) if self._consumer is not None else {}


class ChunkConsumer(Consumer):
    """Hands on, per partition, the fetched records. Offsets are committed by our transactions, not by Faust."""

    #: The generation of the group in which every partition was sought where its stage goes on.
    _sought: int | None = None
    _drops = _seeks = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Where each partition goes on.
        self._next: dict[TP, int] = {}

    @Service.task  # type: ignore[untyped-decorator]
    async def _check(self) -> None:
        """Also while nothing is fetched: a worker without the group would be idle for ever, or go on until it is fenced."""
        while not self.should_stop:
            await self.sleep(_CHECK_SECONDS)
            try:
                await self._thread.check()
            except Exception as error:  # noqa: BLE001  # whatever it is, the worker stops
                if not self.should_stop:  # else the thread, which has the client, is there no more
                    await self.app.crash(error)
                return

    def _new_consumer_thread(self) -> ChunkThread:
        return ChunkThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Go on, in every partition, where its stage does; the client's own position may be earlier or later.

        Seeking again is always safe, for the stages skip what they have passed.
        """
        generation, positions = self.app.pipeline.positions()
        drops = self._drops
        self._seeks += 1
        try:
            await self.seek_wait(positions)
        except IllegalStateError:
            return  # the partitions have just been taken away: the next generation seeks
        self._next = dict(positions)
        self._seeks += 1
        if self._drops == drops:
            self._sought = generation

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """One message a partition, marked with the generation of the group in which it was fetched.

        A fetch moves the consumer on, so a chunk that is dropped leaves a gap. Hence nothing is fetched in a generation before its
        partitions are open and sought, and after a drop they are sought again: a fetch that began before a
        rebalance may end after the seek at its end, and Faust may let fetches go on, or seek, while a rebalance is under way.
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        generation = self.app.consumer_generation_id
        if self._sought != generation:
            await self.perform_seek()
        if self._sought != generation:
            await self.sleep(_REBALANCE_POLL_SECONDS)
            return
        seeks = self._seeks
        fetched, _ = await self._wait_next_records(timeout)
        for tp, chunk in (fetched or {}).items():
            moved = self.app.consumer_generation_id != generation or self._seeks != seeks
            if self.should_stop or not self.flow_active or moved:
                self._sought = None
                self._drops += 1
                return
            try:
                self._follow(tp, chunk)
            except LawBroken as error:
                await self.app.crash(error)
                return
            self.app.pipeline.fetched(tp, chunk.next_offset)
            yield tp, self._to_chunk(tp, chunk, generation)

    def _follow(self, tp: TP, chunk: Records) -> None:
        """The client begins a log anew, in silence, that does not reach to where it was to go on; then what is new would pass for known."""
        first, goes_on = chunk[0].offset, self._next.get(tp, 0)
        ensure(goes_on <= first, "no log is shorter than what was read of it", f"{tp}: after {goes_on} comes {first}")
        self._next[tp] = chunk.next_offset

    def _to_chunk(self, tp: TP, chunk: Records, generation: int) -> ConsumerMessage:
        last = chunk[-1]
        return ConsumerMessage(
            tp.topic, tp.partition, last.offset, last.timestamp / 1000, 0, (), None, chunk, None,
            tp=tp, generation_id=generation,
        )  # fmt: skip

    def positions(self) -> Positions:
        """Where the fetch is in each assigned partition; none before the start."""
        positions: Positions = self._thread.positions()
        return positions

    async def commit(self, *_args: Any, **_kwargs: Any) -> bool:
        """Nothing: the offset of a chunk is committed in the transaction that holds what the chunk became."""
        return False


class ChunkTransport(Transport):
    """The transport of the aiokafka driver with our consumer."""

    Consumer = ChunkConsumer


class ChunkSchema(Schema):
    """Passes a chunk through: there is nothing to deserialize at this level."""

    def loads_key(self, app: Any, message: Any, **_kwargs: Any) -> Any:
        """No key: a chunk has many."""
        return None

    def loads_value(self, app: Any, message: Any, **_kwargs: Any) -> Any:
        """The records."""
        return message.value
