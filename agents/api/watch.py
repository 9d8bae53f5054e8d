"""Whether the live views can be believed: asks Kafka every now and then where its topics end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from time import monotonic

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from agents.api.feed import Feed
from agents.kafka import admin, partition_counts
from agents.metrics import PROGRESS
from agents.settings import Settings
from schemas.topics import USAGE

log = structlog.get_logger()

_PAUSE_SECONDS = 2.0
_ANSWER_SECONDS = 5.0
#: Without an answer, or behind what was asked for, for so long: not ready.
_STUCK_SECONDS = 15.0


class Watch:
    """A consumer that is cut off, or stuck, only sees no records; so this one asks from outside."""

    def __init__(self, settings: Settings, feed: Feed) -> None:
        #: Usage records that no worker has routed yet; None: unknown.
        self.lag: int | None = None
        self._settings = settings
        self._feed = feed
        self._level = monotonic()
        self._ends: dict[TopicPartition, int] = {}

    @property
    def is_live(self) -> bool:
        """Whether all that Kafka had some seconds ago is in the views."""
        return self._feed.caught_up.is_set() and monotonic() - self._level < _STUCK_SECONDS

    async def run(self) -> None:
        """Ask for ever; no answer is an answer too."""
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(admin(self._settings))
            consumer = AIOKafkaConsumer(bootstrap_servers=self._settings.kafka, isolation_level="read_committed")
            await consumer.start()
            stack.push_async_callback(consumer.stop)
            count = (await partition_counts(self._settings, [USAGE]))[USAGE]
            usage = [TopicPartition(self._settings.topic_prefix + USAGE.name, p) for p in range(count)]
            while True:
                try:
                    async with asyncio.timeout(_ANSWER_SECONDS):
                        await self._ask(client, consumer, usage)
                except (TimeoutError, KafkaError) as error:
                    self.lag = None
                    log.warning("Kafka does not answer", error=repr(error))
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _ask(self, client: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, usage: list[TopicPartition]) -> None:
        """Whether the feed has reached the ends of the last time; what the ends are now; how far the workers are."""
        positions = self._feed.positions
        ends = await consumer.end_offsets([*positions, *usage])
        if all(positions[tp] >= end for tp, end in self._ends.items()):
            self._level = monotonic()
            PROGRESS.mark()
        self._ends = {tp: ends[tp] for tp in positions}
        offsets = await client.list_consumer_group_offsets(self._settings.group)
        begins = await consumer.beginning_offsets(usage)
        taken = {tp: offsets[tp].offset if tp in offsets else begins[tp] for tp in usage}
        self.lag = sum(max(ends[tp] - max(taken[tp], begins[tp]), 0) for tp in usage)
