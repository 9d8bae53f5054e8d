"""The registry: which workspace belongs to which account, read whole from the compacted topic `workspaces`.

Every worker keeps all of it. Before an event is refused because its workspace is unknown, the registry reads on to the
topic's present end: a binding that was acknowledged before the event was sent is always seen.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import structlog
from aiokafka import TopicPartition

from agents.kafka import reader
from agents.parsers import accepted, binding_parser
from agents.settings import Settings
from pipeline.records import RecordLike
from pipeline.routing import Router
from schemas.log import Bound
from schemas.topics import WORKSPACES

log = structlog.get_logger()


class Registry:
    """Keeps the bindings of a `Router` up to date. `changes` grows with every record."""

    def __init__(self, settings: Settings, router: Router) -> None:
        self.changes = 0
        self._settings = settings
        self._router = router
        self._parse = binding_parser(router.catalog)
        self._tp = TopicPartition(settings.topic_prefix + WORKSPACES.name, 0)
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Read the whole topic; raises `KafkaError` when Kafka does not answer."""
        self._consumer = await self._stack.enter_async_context(reader(self._settings, self._tp))
        await self._consumer.seek_to_beginning(self._tp)
        await self.refresh()
        log.info("registry read", workspaces=len(self._router.bindings))

    async def stop(self) -> None:
        """Close the consumer."""
        await self._stack.aclose()

    async def follow(self) -> None:
        """Apply what comes, for ever."""
        while True:
            async with self._lock:
                await self._apply(timeout_ms=0)
            await asyncio.sleep(0.1)

    async def refresh(self) -> None:
        """Return only when everything that is in the topic now has been applied."""
        async with self._lock:
            end = (await self._consumer.end_offsets([self._tp]))[self._tp]
            while await self._consumer.position(self._tp) < end:
                await self._apply(timeout_ms=200)

    async def _apply(self, timeout_ms: int) -> None:
        for records in (await self._consumer.getmany(timeout_ms=timeout_ms)).values():
            for record in records:
                self.change(record)

    def change(self, record: RecordLike) -> None:
        """Apply one record; what the inlet of this topic refuses changes nothing here either."""
        self.changes += 1
        if record.value is None:
            self._router.unbind((record.key or b"").decode(errors="replace"))
            return
        event = accepted(self._parse, record.value)
        if isinstance(event, Bound):
            self._router.bind(event.binding)
