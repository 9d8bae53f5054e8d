"""One source partition that this worker owns: takes chunks and commits, at intervals, in transactions of its own.

The order of a commit, and what happens when the worker dies after each step:

    fold the chunk           nothing was written; the chunk comes again
    send state and outputs   the transaction is aborted by the next owner; readers of committed records never see it
    send the offset          as above
    commit                   all three are there, once; the next owner goes on behind them
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, Protocol

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from agents import health as codes
from agents.failures import locate
from agents.health import Health
from agents.metrics import CHECKPOINT_SECONDS, PROGRESS
from agents.settings import Settings
from agents.transactions import Commit, Transactor, Writes
from pipeline.law import ensure
from pipeline.records import Records

log = structlog.get_logger()

_IDLE_SECONDS = 1.0
#: Kafka forgets a producer that has made no transaction for a week (`transactional.id.expiration.ms`), and refuses its next one.
_REMIND_SECONDS = 24 * 3600
#: Bytes of a chunk that are processed at a stretch, some milliseconds long: a commit is a dozen answers of the broker, and each
#: would wait until the whole chunk is done.
_STRETCH_BYTES = 256 * 1024


class Stage(Protocol):
    """What one source partition's records become."""

    interval: float
    writes: Writes

    @property
    def full(self) -> bool:
        """Whether to commit before the next chunk is taken."""

    @property
    def next_offset(self) -> int:
        """The first offset that is not processed."""

    async def open(self, next_offset: int) -> None:
        """Get ready to take records from `next_offset` on; the partition is fenced already."""

    async def take(self, records: Records) -> None:
        """Process records in order; those before the open offset are skipped."""

    async def collect(self) -> Commit | None:
        """What is to be committed now, or None."""

    def close(self) -> None:
        """The partition leaves."""


class Partition:
    """One owned source partition."""

    def __init__(
        self,
        settings: Settings,
        tp: TP,
        generation: int,
        stage: Stage,
        crash: Callable[[Exception], None],
        health: Health | None = None,
    ) -> None:
        self._stage = stage
        self._generation = generation
        self._crash = crash
        self._tp = tp
        self._health = health or Health(settings.stuck_after)
        #: First offsets that are not on their way to us yet, and that still need something.
        self._fetched = self._done = 0
        self._transactor = Transactor(settings, TopicPartition(tp.topic, tp.partition), stage.writes)
        self._lock = asyncio.Lock()
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        #: The stage is full, or the partition is closed: the next commit does not wait for its time.
        self._hurry = asyncio.Event()
        self._closed = False
        self._broken = False
        self._reminded = monotonic()
        self._task: asyncio.Task[None] | None = None

    def abandon(self) -> None:
        """Commit nothing more; what is under way comes to its end."""
        self._broken = True

    async def fence(self) -> None:
        """Shut every earlier owner out."""
        await self._transactor.start()

    async def open(self, next_offset: int) -> None:
        """Restore what there is to restore and start committing."""
        await self._stage.open(next_offset)
        self._done = self.next_offset
        self._task = asyncio.create_task(self._commit_at_intervals(), name=f"commit {self._tp}")

    @property
    def next_offset(self) -> int:
        """Where to read on."""
        return self._stage.next_offset

    def fetched(self, next_offset: int) -> None:
        """Records before this offset are on their way to `take`: from now on they are waited for until they are durable."""
        self._fetched = next_offset
        if next_offset > self._done:
            self._health.begin(codes.PROCESSING, self._tp, **self._place, offset=next_offset)

    @property
    def _place(self) -> dict[str, Any]:
        return {"topic": self._tp.topic, "partition": self._tp.partition}

    async def take(self, generation: int, records: Records) -> None:
        """Process a chunk; waits while the stage is full. A chunk fetched before a rebalance is dropped: it comes again."""
        async with self._lock:
            if self._closed or generation != self._generation:
                return
            ensure(self._task is not None, "nothing is taken before the partition is open", str(self._tp))
            with self._unless_broken():
                for some in _stretches(records):
                    await self._stage.take(some)
                    await asyncio.sleep(0)
            self._work.set()
            self._room.clear()
        if self._stage.full:
            self._hurry.set()
            await self._room.wait()

    async def _commit_at_intervals(self) -> None:
        try:
            while not self._closed:
                # Also without new records: a day that has ended is settled by the clock.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._work.wait(), _IDLE_SECONDS)
                self._work.clear()
                started = monotonic()
                await self._commit()
                if started - self._reminded > _REMIND_SECONDS:
                    await self._remind()
                    self._reminded = started
                took = monotonic() - started
                # A commit that is slow comes more seldom, so that it never takes more than half of the time.
                await self._pause(max(self._stage.interval - took, took))
        except Exception as error:  # noqa: BLE001  # whatever it is, the worker stops
            self._crash(error)

    async def _remind(self) -> None:
        with self._unless_broken():
            self._health.begin(codes.COMMIT, self._tp, **self._place)
            await self._transactor.remind()
            self._health.end(codes.COMMIT, self._tp)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)

    @contextmanager
    def _unless_broken(self) -> Iterator[None]:
        """What ends half-way leaves half of something in the stage, or what was collected nowhere: nothing is committed after it."""
        try:
            yield
        except BaseException as error:  # a cancelled task too
            self._broken = True
            locate(error, **self._place)
            raise

    async def _commit(self) -> None:
        with self._unless_broken():
            async with self._lock:
                if self._broken:
                    return
                commit, taken = await self._stage.collect(), self.next_offset
                self._room.set()
                if not self._closed:
                    self._hurry.clear()
            if commit is not None:
                self._health.begin(codes.COMMIT, self._tp, **self._place, offset=commit.next_offset)
                with CHECKPOINT_SECONDS.labels(topic=self._tp.topic).time():
                    await self._transactor.commit(commit)
                self._health.end(codes.COMMIT, self._tp)
                PROGRESS.mark()
                commit.durable()
            elif not self._closed:
                await self._settle()
        self._processed(taken)

    async def _settle(self) -> None:
        """Readers wait before what hangs, so it is looked for also while there is nothing to commit."""
        try:
            await self._transactor.settle()
        except KafkaError as error:
            if not error.retriable:
                raise
            log.info("Kafka is away; what hangs is looked for when it is back", **self._place)

    def _processed(self, next_offset: int) -> None:
        """Everything before this offset needs nothing more; what was fetched since is waited for from now on."""
        if next_offset > self._done:
            self._health.end(codes.PROCESSING, self._tp)
            if next_offset < self._fetched:
                self._health.begin(codes.PROCESSING, self._tp, **self._place, offset=self._fetched)
        self._done = next_offset

    async def close(self) -> None:
        """Commit what is left, then let go. What cannot be committed any more is processed by the next owner."""
        self._closed = True
        self._hurry.set()
        self._work.set()
        try:
            if self._task is not None:
                await self._task
                await self._commit()
        finally:
            for code in (codes.COMMIT, codes.PROCESSING):
                self._health.end(code, self._tp)
            self._stage.close()
            await self._transactor.stop()


def _stretches(records: Records) -> Iterator[Records]:
    """The chunk in parts of `_STRETCH_BYTES` or so."""
    count = max(1, _STRETCH_BYTES * len(records) // (records.value_bytes + 1))
    return (records[first : first + count] for first in range(0, len(records), count))
