"""Everything at once: three workers under steady load while a seeded schedule kills, stops, adds and removes things.

`make chaos` runs it (`DRAWDOWN_CHAOS_SEEDS`, `DRAWDOWN_CHAOS_SECONDS`). The seed replays the schedule.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaProducer

from conftest import Meter
from driver import CATALOG
from oracle import answer
from test_end_to_end import as_values, assert_equals_oracle
from world import make_world

SECONDS = float(os.environ.get("DRAWDOWN_CHAOS_SECONDS", "20"))
SEEDS = [int(seed) for seed in os.environ.get("DRAWDOWN_CHAOS_SEEDS", "").split(",") if seed]
WORKERS = 3
EVENTS_PER_SECOND = 150


class Chaos:
    """The running workers, and what can be done to them."""

    def __init__(self, meter: Meter, rng: random.Random) -> None:
        self.meter = meter
        self.rng = rng
        self.running: list[subprocess.Popen[bytes]] = []
        self.stopped: list[tuple[float, subprocess.Popen[bytes]]] = []
        self.log: list[str] = []

    def act(self, action: str) -> None:
        """One thing that goes wrong."""
        self.log.append(action)
        if action in ("kafka", "clickhouse"):
            self.rng.choice((self.meter.services.kill, self.meter.services.stop))(action)
            time.sleep(self.rng.uniform(0, 3))
            self.meter.services.start(action)
        elif action == "join" and len(self.running) < WORKERS + 1:
            self.running.append(self.meter.start_worker())
        elif self.running:
            worker = self.running.pop(self.rng.randrange(len(self.running)))
            if action == "stop":
                worker.send_signal(signal.SIGSTOP)
                self.stopped.append((time.monotonic() + self.rng.uniform(1, 20), worker))
            else:
                worker.send_signal(signal.SIGKILL if action == "kill" else signal.SIGTERM)

    def tend(self, everybody: bool = False) -> None:
        """Continue the stopped ones whose time has come, and keep the wanted number of workers."""
        now = time.monotonic()
        for due, worker in list(self.stopped):
            if everybody or due < now:
                worker.send_signal(signal.SIGCONT)
                self.stopped.remove((due, worker))
                self.running.append(worker)
        self.running = [worker for worker in self.running if worker.poll() is None]
        while len(self.running) + len(self.stopped) < WORKERS:
            self.running.append(self.meter.start_worker())


@pytest.mark.skipif(not SEEDS, reason="runs with `make chaos`")
@pytest.mark.parametrize("seed", SEEDS or [0])
@pytest.mark.timeout(SECONDS * 4 + 280)
def test_the_ledger_is_exact_after_chaos(meter: Meter, seed: int) -> None:
    """Afterwards everything drains, and tables and oracle agree to the last event."""
    rng, now = random.Random(seed), datetime.now(UTC)
    world = make_world(seed, now, events=int(SECONDS * EVENTS_PER_SECOND))
    expected = answer(world.records, world.bindings, world.packages, dict(CATALOG.meters), now)
    meter.documents(world.bindings, world.packages)
    values = as_values(world)
    chaos = Chaos(meter, rng)
    chaos.tend()

    started = threading.Event()

    async def feed() -> None:
        """One idempotent producer through all of it, so that what Kafka has is what was sent, once and in order."""
        step, topic = max(1, int(len(values) / SECONDS / 2)), meter.settings.topic_prefix + "usage"
        async with AIOKafkaProducer(bootstrap_servers=meter.settings.kafka, enable_idempotence=True) as producer:
            started.set()
            for first in range(0, len(values), step):
                sent = [await producer.send(topic, value, key) for key, value in values[first : first + step]]
                await asyncio.gather(*sent)
                await asyncio.sleep(0.4)

    feeder = threading.Thread(target=lambda: asyncio.run(feed()))
    feeder.start()
    started.wait()
    try:
        while feeder.is_alive():
            time.sleep(rng.uniform(0.5, 4))
            chaos.act(rng.choices(("kill", "term", "stop", "join", "kafka", "clickhouse"), (4, 3, 3, 3, 1, 2))[0])
            chaos.tend()
    finally:
        feeder.join()
    chaos.tend(everybody=True)

    def drained() -> bool:
        chaos.tend()
        return meter.ended() == sum(expected.outcomes.values())

    try:
        meter.wait(drained, f"seed {seed}: {expected.outcomes} after {chaos.log}", 150)
        assert_equals_oracle(meter, world, now, seed)
    finally:
        for _, worker in chaos.stopped:
            worker.kill()
