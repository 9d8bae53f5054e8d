"""Streams and readiness on real servers: restarts, other replicas, and servers that are away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from agents.api import watch as watch_module
from agents.api.feed import Feed
from agents.api.history import History
from agents.api.packages import Packages
from agents.api.problems import Problem
from agents.api.watch import Watch
from agents.kafka import all_records
from conftest import Meter
from driver import CATALOG
from served import Event, Served, X, now
from world import binding, event


def use(served: Served, account: str, quantity: int, number: int) -> None:
    """Usage of the account's only workspace, and its overage with it; by Kafka, so that it works without an API."""
    value = json.dumps(event(account, "logs", quantity, f"{account}{number}", now())).encode()
    served.meter.send("usage", [(account.encode(), value)])


def bound(served: Served, account: str) -> str:
    """A new account with one workspace of the same name that pays as it goes."""
    with served.client() as client:
        client.post("/v1/workspaces", json=binding(account, account)).raise_for_status()
    return account


def until(events: Iterator[Event], quantity: int) -> list[Event]:
    """The events up to the overage of this quantity and the next one that has an id."""
    found: list[Event] = []
    for one in events:
        found.append(one)
        if any(e.name == "overage" and e.data["quantity"] == quantity for e in found) and one.id:
            return found
    raise AssertionError(f"the stream ended before {quantity}: {found}")


def in_kafka(served: Served, account: str) -> list[Any]:
    """Every overage event of the account in its topic."""

    async def read() -> list[Any]:
        settings, found = served.meter.settings, []
        for partition in range(settings.partitions):
            async for records in all_records(settings, f"{settings.topic_prefix}overage", partition):
                found += [json.loads(record.value) for record in records if record.key == account.encode()]
        return found

    return asyncio.run(read())


def overage(events: list[Event]) -> list[Any]:
    return [e.data for e in events if e.name == "overage"]


def test_a_stream_begins_with_a_snapshot_and_a_heartbeat(served: Served) -> None:
    """The newest figures, how old they are, and that they are live."""
    with served.stream(X) as events:
        snapshot = next(events)
        # Usage of other tests may still be on its way.
        heartbeat = next(
            one for one in events if one.name == "heartbeat" and one.data["lag_records"] == 0 and one.data["live"]
        )
    assert snapshot.name == "snapshot"
    assert snapshot.id
    used = {(quota["meter"], quota["package"]): quota["used"] for quota in snapshot.data["quotas"]}
    assert used["logs", "px"] == 150
    over = {(o["workspace"], o["meter"], o["basis"]): o["quantity"] for o in snapshot.data["overage"]}
    # Usage may have been folded before the package: what was pay as you go then is 0 now.
    assert (over["xb", "logs", "package"], over.get(("xb", "logs", "payg"), 0)) == (50, 0)
    assert heartbeat.data["age_seconds"] >= 0
    assert heartbeat.data["newest_at"] < heartbeat.data["time"]


@pytest.mark.parametrize("where", ["the same address", "another replica"])
def test_a_restart_misses_nothing(served: Served, where: str) -> None:
    """The API ends under its streams and starts again; what came meanwhile is sent after the id, event by event."""
    account = bound(served, f"restart at {where}")
    with served.stream(account) as events:
        use(served, account, 1, 0)
        seen = until(events, 1)
        last, port = seen[-1].id, served.port
        if where == "another replica":
            served.port = served.start()
        assert served.stop(port) == 0
        assert all(one.name == "heartbeat" for one in events), "the stream ends in good order"
    for number in (1, 2, 3):
        use(served, account, 10**number, number)
        served.meter.wait(lambda n=number: len(in_kafka(served, account)) > n, "the overage event")  # type: ignore[misc]
    if where == "the same address":
        served.port = served.start(port)
    with served.stream(account, last) as events:
        seen += until(events, 1111)
    assert [e.name for e in seen].count("snapshot") == 1, "only at the very beginning"
    assert overage(seen) == in_kafka(served, account)
    assert [o["quantity"] for o in overage(seen)] == [1, 11, 111, 1111]


def test_a_token_that_is_too_old_gives_a_snapshot(served: Served) -> None:
    """Offsets that the process does not reach back to, and nonsense."""
    for last in ("1.0", "nonsense"):
        with served.stream(X, last) as events:
            assert next(events).name == "snapshot"


async def test_a_feed_that_is_stuck_is_noticed(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer stops reading, Kafka goes on: after a while the views are live no more."""
    clock = 0.0
    monkeypatch.setattr(watch_module, "monotonic", lambda: clock)
    monkeypatch.setattr(watch_module, "_PAUSE_SECONDS", 0.05)
    feed = Feed(meter.settings, Packages(CATALOG))
    watch = Watch(meter.settings, feed)
    reading = asyncio.create_task(feed.run())
    await asyncio.wait_for(feed.caught_up.wait(), 30)
    watching = asyncio.create_task(watch.run())

    async def until_live(wanted: bool) -> None:
        async with asyncio.timeout(30):
            while watch.is_live is not wanted:  # noqa: ASYNC110  # it is a property
                await asyncio.sleep(0.05)

    try:
        clock = 60.0
        await until_live(wanted=True)
        reading.cancel()
        alert = {"id": "a", "account": "a", "day": "2026-01-01", "at": "2026-01-01T00:00:00Z"}
        await meter._send(f"{meter.settings.topic_prefix}alerts", [(b"a", json.dumps(alert).encode())])
        async with asyncio.timeout(30):
            while all(feed.positions[tp] >= end for tp, end in watch._ends.items()):  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.05)
        clock = 120.0
        await until_live(wanted=False)
        await asyncio.sleep(0.3)
        assert not watch.is_live
    finally:
        watching.cancel()
        await asyncio.gather(reading, watching, return_exceptions=True)


async def test_clickhouse_away_is_a_503(meter: Meter) -> None:
    """And says when to come again; what is live goes on."""
    history = History(meter.settings.model_copy(update={"clickhouse": "http://127.0.0.1:1"}))
    assert not await history.ping()
    with pytest.raises(Problem) as away:
        await history.overage("a", now().date(), now().date(), 1)
    assert (away.value.status_code, away.value.headers) == (503, {"Retry-After": "5"})
    await history.close()
