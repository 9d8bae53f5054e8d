"""Alerts of a real worker that is killed again and again: topic and table have each exactly once."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from agents.kafka import all_records
from conftest import Meter
from test_end_to_end import today_noon
from world import binding, event, package


def records_of(meter: Meter, name: str) -> list[dict[str, Any]]:
    """Every committed record of a topic."""

    async def read() -> list[dict[str, Any]]:
        found = []
        for partition in range(meter.settings.partitions):
            async for records in all_records(meter.settings, meter.settings.topic_prefix + name, partition):
                found += [orjson.loads(record.value) for record in records]
        return found

    return asyncio.run(read())


def test_each_alert_once_through_kills(meter: Meter) -> None:
    """Three accounts use their quotas up while the worker is killed; then an upgrade re-arms, and a purchase does not repeat."""
    rng, now = random.Random(3), today_noon()
    accounts = [f"acct-{n}" for n in range(3)]
    meter.documents(
        [binding(f"ws-{a}", a) for a in accounts],
        [package(f"p-{a}", a, [f"ws-{a}"], {"hosts": 100}, now) for a in accounts],
    )
    rules = {"account": "acct-1", "thresholds": [0.5, "0.95"], "hysteresis": 0.1, "amounts": {"hosts": "30"}}
    meter.send(
        "alert-rules", [(b"acct-1", json.dumps(rules).encode()), (b"acct-2", b'{"account": "acct-2", "meters": [7]}')]
    )
    worker = meter.start_worker()
    meter.wait(lambda: meter.rows("SELECT count() FROM dead_letters FINAL") == [(1,)], "bad rules are a dead letter")
    meter.wait(lambda: meter.rows("SELECT count() FROM quota_history FINAL") == [(3,)], "three packages")
    for step in range(10, 121, 10):
        for a in accounts:
            value = event(f"ws-{a}", "hosts", step, f"{a}-{step}", now)
            meter.send("usage", [(f"ws-{a}".encode(), json.dumps(value).encode())])
        if step % 40 == 0:
            time.sleep(rng.uniform(0.2, 1.5))
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            worker = meter.start_worker()
    meter.wait(lambda: meter.ended() == 37, "all events ended")
    defaults = [Decimal(t) for t in ("0.8", "0.9", "1")]
    wanted = {(a, "threshold", t, 1) for a in ("acct-0", "acct-2") for t in defaults}
    wanted |= {("acct-1", "threshold", Decimal(t), 1) for t in ("0.5", "0.95")}
    wanted |= {("acct-1", "high_consumption", Decimal(30), 1)}  # 20 hosts over, 3.00 each

    def said() -> list[tuple[Any, ...]]:
        """Without forecasts, which depend on the clock: a test that spans two minutes of use may have one."""
        return meter.rows("SELECT account, kind, threshold, firing FROM alerts FINAL WHERE kind != 'forecast'")

    meter.wait(lambda: set(said()) == wanted, "the alerts of the day")
    meter.documents([], [package("p-acct-0", "acct-0", ["ws-acct-0"], {"hosts": 200}, now)])
    value = event("ws-acct-0", "hosts", 199, "last", now)
    meter.wait(lambda: meter.rows("SELECT max(quota) FROM quota_history") == [(200,)], "the upgrade")
    meter.send("usage", [(b"ws-acct-0", json.dumps(value).encode())])
    wanted |= {("acct-0", "threshold", t, 2) for t in defaults[:2]}
    meter.wait(lambda: set(said()) == wanted, "what the upgrade re-armed")
    topic = [alert for alert in records_of(meter, "alerts") if alert["kind"] != "forecast"]
    assert len({alert["id"] for alert in topic}) == len(topic) == len(wanted)
    assert Counter(said()) == Counter(wanted)
    charged = next(alert for alert in topic if alert["kind"] == "high_consumption")
    assert (charged["amount"], charged["currency"], charged["meter"]) == (60, "CNY", "hosts")
    assert datetime.fromisoformat(charged["at"]) <= datetime.now(UTC)
