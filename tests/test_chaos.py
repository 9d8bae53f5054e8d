"""Everything at once: three workers under steady load while a seeded schedule kills, stops, hangs, adds and removes things.

A short run is part of the tests; `make chaos` runs many (`DRAWDOWN_CHAOS_SEEDS`, `DRAWDOWN_CHAOS_SECONDS`). The seed replays the schedule.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from agents.kafka import all_records
from audit import faults_in_kafka, table_differences
from chaos import SESSION_SECONDS, Chaos, schedule
from conftest import Meter
from driver import CATALOG
from oracle import answer
from schemas.log import Correction, encode_account_event
from world import World, make_world

SECONDS = float(os.environ.get("DRAWDOWN_CHAOS_SECONDS", "15"))
SEEDS = [int(seed) for seed in os.environ.get("DRAWDOWN_CHAOS_SEEDS", "1").split(",")]
EVENTS_PER_SECOND = 150
DRAIN_SECONDS = 120
SETTLE_SECONDS = 60
#: Days that are over are settled at once, so that what comes late comes for a settled day.
ENV = {
    "DRAWDOWN_SETTLEMENT_GRACE": "0.001", "DRAWDOWN_SESSION_TIMEOUT": str(SESSION_SECONDS), "DRAWDOWN_LOG_FORMAT": "json",
}  # fmt: skip

#: (topic, key, value).
_Send = tuple[str, bytes | None, bytes]


def operators_sends(rng: random.Random, world: World, now: datetime) -> tuple[list[_Send], list[dict[str, Any]]]:
    """What an operator does meanwhile: packages change (in `world` too) and days are corrected. The sends, and the corrections."""
    sends: list[_Send] = []
    corrections: list[dict[str, Any]] = []
    for number in range(12):
        if rng.random() < 0.5:
            place = rng.randrange(len(world.packages))
            old = world.packages[place]
            new = old | {
                "quotas": {meter: rng.randrange(3000) for meter in old["quotas"]},
                "status": rng.choice(("active", "ended")),
            }
            world.packages[place] = new
            sends.append(("packages", new["package"].encode(), msgspec.json.encode(new)))
        else:
            bound = rng.choice(world.bindings)
            one = {
                "account": bound["account"], "id": f"c{number}", "day": str((now - timedelta(days=rng.randrange(1, 6))).date()),
                "workspace": bound["workspace"], "meter": "logs", "retention_days": 14, "quantity": rng.randrange(-200, 200),
                "reason": "chaos", "operator": "test", "at": now,
            }  # fmt: skip
            corrections.append(one)
            event = encode_account_event(msgspec.convert(one, Correction, strict=False))
            sends += [("account-events", bound["account"].encode(), event)] * rng.choice((1, 2))
    return sends, corrections


def load(rng: random.Random, world: World, operator: list[_Send]) -> list[_Send]:
    """All that is sent, in order: the usage with the operator's sends strewn in."""
    places = sorted(rng.randrange(len(world.records)) for _ in operator)
    sends: list[_Send] = []
    for number, (_, _, key, value) in enumerate(world.records):
        while places and places[0] <= number:
            places.pop(0)
            sends.append(operator.pop(0))
        sends.append(("usage", key, value))
    return sends + operator


async def feed(meter: Meter, sends: list[_Send]) -> None:
    """One idempotent producer through all of it, so that what Kafka has is what was sent, once and in order."""
    kafka, patience_ms = meter.settings.kafka, 180_000
    async with AIOKafkaProducer(
        bootstrap_servers=kafka, enable_idempotence=True, request_timeout_ms=patience_ms
    ) as producer:
        began = time.monotonic()
        for number, (topic, key, value) in enumerate(sends):
            await producer.send(meter.settings.topic_prefix + topic, value, key)
            if number % 20 == 0:
                await asyncio.sleep(max(0.0, began + number * SECONDS / len(sends) - time.monotonic()))
        await producer.flush()


async def log_length(meter: Meter) -> int:
    """Records in `account-events`."""
    topic, count = meter.settings.topic_prefix + "account-events", 0
    for partition in range(meter.settings.partitions):
        count += sum([len(records) async for records in all_records(meter.settings, topic, partition)])
    return count


def wait(reached: Callable[[], bool], seconds: float, chaos: Chaos) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            return False
        chaos.tend()
        time.sleep(0.2)
    return True


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.timeout(SECONDS * 3 + DRAIN_SECONDS + SETTLE_SECONDS + 200)
def test_the_ledger_is_exact_after_chaos(
    meter: Meter, tmp_path: Path, seed: int, record_property: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Afterwards everything drains; tables, changelog, output topics and oracle agree to the last event."""
    caplog.set_level(logging.CRITICAL, logger="aiokafka")  # it tells of every attempt while a broker is away
    rng, now = random.Random(seed), datetime.now(UTC)
    world = make_world(seed, now, events=int(SECONDS * EVENTS_PER_SECOND))
    meter.documents(world.bindings, world.packages)
    known = len(world.bindings) + len(world.packages)
    operator, corrections = operators_sends(rng, world, now)
    expected = answer(world.records, world.bindings, world.packages, dict(CATALOG.meters), now, corrections=corrections)
    zones = {b["account"]: b["time_zone"] for b in world.bindings}
    chaos = Chaos(meter, tmp_path, schedule(seed, SECONDS), ENV)
    told = "\n".join([f"seed {seed}", *map(str, chaos.actions)])
    record_property("actions", len(chaos.actions))
    record_property("events", sum(expected.outcomes.values()))
    assert wait(lambda: asyncio.run(log_length(meter)) >= known, 180, chaos), f"{told}\nno start\n{chaos.tails()}"

    sends = load(rng, world, operator)
    with ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(lambda: asyncio.run(feed(meter, sends)))
        chaos.run()
        wait(feeding.done, 200, chaos)
        feeding.result()

    found = ["nothing was looked at"]

    def tables_agree() -> bool:
        found[:] = table_differences(meter, expected, zones)
        return not found

    def kafka_agrees() -> bool:
        found[:] = faults_in_kafka(meter, expected, world.packages, zones)
        return not found

    # What the last usage made due (settlements) is folded after the tables show that usage.
    if wait(tables_agree, DRAIN_SECONDS, chaos):
        wait(kafka_agrees, SETTLE_SECONDS, chaos)
    found += [f"a worker wrote {name}" for name in chaos.files()]
    found += [line for line in chaos.logs().splitlines() if "a law of the ledger" in line]
    assert not found, "\n".join([told, chaos.tails(), f"seed {seed}: {len(found)} differences", *found[:40]])
