"""The Faust app: group membership, assignment and supervision; what it feeds are the partitions of `agents.partitions`.

A partition is opened when it is assigned (which fences its old owner) and closed when it is revoked, before Faust goes on.
"""

from __future__ import annotations

from typing import Any, Protocol

import faust
from faust.types import TP
from mode.supervisors import CrashingSupervisor

from agents.kafka import REBALANCE_SECONDS
from agents.lag import Positions
from agents.settings import Settings
from agents.transport import ChunkSchema, ChunkTransport
from pipeline.records import Records

#: Chunks that Faust keeps per topic before it stops fetching.
_CHUNKS_BUFFERED = 8


class Pipeline(Protocol):
    """What the app drives."""

    async def assign(self, tps: set[TP], generation: int) -> None:
        """Own exactly these source partitions from now on."""

    def positions(self) -> tuple[int | None, dict[TP, int]]:
        """The generation in which the partitions are open, if they are, and where each is to be read on."""

    async def revoke(self) -> None:
        """Make durable what is folded, and let go of everything."""

    def fetched(self, tp: TP, next_offset: int) -> None:
        """A chunk that ends before this offset was fetched, and will be taken."""

    async def take(self, tp: TP, generation: int, records: Records) -> None:
        """Process a chunk; returns when there is room for the next one."""


class MeterApp(faust.App):
    """A Faust app on the chunked transport."""

    pipeline: Pipeline

    def positions(self) -> Positions:
        """Where the fetch is in each partition of this worker."""
        positions: Positions = self.consumer.positions()
        return positions

    def _new_transport(self) -> ChunkTransport:
        return ChunkTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """None: a worker keeps nothing on disk."""

    async def _on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        if not self.should_stop:
            try:
                await self.pipeline.assign(assigned, generation_id)
            except Exception as error:  # noqa: BLE001  # whatever it is, the worker stops
                await self.crash(error)
                return
        await super()._on_partitions_assigned(assigned, generation_id)

    async def _on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super()._on_partitions_revoked(revoked)
        if not self.should_stop:
            try:
                await self.pipeline.revoke()
            except Exception as error:  # noqa: BLE001  # whatever it is, the worker stops
                await self.crash(error)


def create_app(settings: Settings, pipeline: Pipeline, topics: list[str]) -> MeterApp:
    """The app with one agent a topic. An agent that raises stops the worker: it never skips a chunk."""
    app = MeterApp(
        settings.group,
        broker=[f"kafka://{server}" for server in settings.kafka.split(",")],
        agent_supervisor=CrashingSupervisor,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_buffer_maxsize=_CHUNKS_BUFFERED,
        stream_recovery_delay=0.0,
        stream_wait_empty=False,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 4,
        # A member that joins is answered when all have joined.
        broker_request_timeout=max(REBALANCE_SECONDS + 5, settings.session_timeout * 2),
        broker_rebalance_timeout=REBALANCE_SECONDS,
        web_enabled=False,
        reply_create_topic=False,
        autodiscover=False,
    )
    app.pipeline = pipeline
    for name in topics:
        _add_agent(app, name)
    return app


def _add_agent(app: MeterApp, name: str) -> None:
    async def process(stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await app.pipeline.take(event.message.tp, event.message.generation_id, event.value)
            except Exception as error:
                # Faust would go on to the next message; here nothing after a failure may be processed.
                await app.crash(error)
                raise

    app.agent(app.topic(name, schema=ChunkSchema(), acks=False), name=f"agents.{name}")(process)
