"""All source partitions that this worker owns, from an assignment by the group to the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from aiokafka import TopicPartition
from faust.types import TP

from agents import health as codes
from agents.garbage import release
from agents.health import Health
from agents.kafka import committed_offsets, newest_offsets
from agents.partition import Partition, Stage
from agents.settings import Settings
from pipeline.law import LawBroken, ensure
from pipeline.records import Records

log = structlog.get_logger()


class Partitions:
    """All source partitions that this worker owns."""

    def __init__(self, settings: Settings, stages: dict[str, Callable[[int], Stage]], health: Health) -> None:
        self._settings = settings
        self._stages = stages
        self._health = health
        self._owned: dict[TP, Partition] = {}
        self._generation: int | None = None
        #: A signal, or a failure, may come while partitions are being moved.
        self._moving = asyncio.Lock()
        self._opening = self._ending = False
        self._closing: list[Partition] = []
        self.crash: Callable[[Exception], None] = _raise

    async def assign(self, tps: set[TP], generation: int) -> None:
        """Fence first, then read where to go on: an offset read before could be moved by the old owner."""
        async with self._moving:
            await self._release()
            if self._ending:
                return
            self._opening = True
            try:
                await self._open(tps, generation)
            finally:
                self._opening = False

    async def _open(self, tps: set[TP], generation: int) -> None:
        partitions = {
            tp: Partition(
                self._settings, tp, generation, self._stages[tp.topic](tp.partition), self.crash, self._health
            )
            for tp in tps
        }
        self._owned = partitions
        await asyncio.gather(*(partition.fence() for partition in partitions.values()))
        offsets = await committed_offsets(
            self._settings, self._settings.group, [(tp.topic, tp.partition) for tp in tps]
        )
        await asyncio.gather(
            *(partition.open(offsets.get((tp.topic, tp.partition), 0)) for tp, partition in partitions.items())
        )
        await self._check_ends()
        self._generation = generation
        self._health.end(codes.ASSIGNMENT)
        self._health.started()
        log.info("partitions assigned", count=len(tps), generation=generation)

    async def _check_ends(self) -> None:
        """A log that lost its tail, or was made anew, is shorter than what is known of it: what comes next would pass for known."""
        sources = {TopicPartition(tp.topic, tp.partition): partition for tp, partition in self._owned.items()}
        for source, end in (await newest_offsets(self._settings, sources)).items():
            goes_on = sources[source].next_offset
            ensure(goes_on <= end, "no log is shorter than what was read of it", f"{source}: {goes_on} is beyond {end}")

    def positions(self) -> tuple[int | None, dict[TP, int]]:
        """The generation in which the partitions are open, if they are, and where each is to be read on."""
        if self._generation is None:
            return None, {}
        return self._generation, {tp: partition.next_offset for tp, partition in self._owned.items()}

    async def revoke(self) -> None:
        """Commit and close all."""
        async with self._moving:
            await self._release()

    async def leave(self) -> None:
        """Commit and close all for good. Of those that are being opened nothing is folded yet; restoring may take long, and is cut off."""
        self._ending = True
        if not self._opening:
            await self.revoke()

    def abandon(self) -> None:
        """Something is wrong in one of them: commit nothing more in any."""
        self._ending = True
        for partition in (*self._owned.values(), *self._closing):
            partition.abandon()

    async def _release(self) -> None:
        self._generation = None
        self._health.begin(codes.ASSIGNMENT)
        self._closing, self._owned = [*self._owned.values()], {}
        results = await asyncio.gather(*(partition.close() for partition in self._closing), return_exceptions=True)
        self._closing = []
        release()
        # A broken law pages; whatever else there is, it is not to hide behind it.
        for error in sorted(results, key=lambda error: not isinstance(error, LawBroken)):
            if isinstance(error, Exception):
                raise error

    def fetched(self, tp: TP, next_offset: int) -> None:
        """A chunk that ends before this offset is on its way."""
        if tp in self._owned:
            self._owned[tp].fetched(next_offset)

    async def take(self, tp: TP, generation: int, records: Records) -> None:
        """Hand a chunk to its partition; one of a partition that is gone is dropped."""
        partition = self._owned.get(tp)
        if partition is not None:
            await partition.take(generation, records)


def _raise(error: Exception) -> None:
    raise error
