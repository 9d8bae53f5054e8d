"""The sink: replays change nothing, ClickHouse may be away, and a value that does not fit stops it with its place."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, date, datetime
from typing import Any

import pytest

from agents.clickhouse import INSERT_SETTINGS
from agents.migrate import migrate
from agents.sink import RowRefused, Sink
from conftest import Meter
from driver import packed
from schemas.log import Bound, Correction, RoutedUsage, encode_account_event
from schemas.wire import WorkspaceBinding

BASE = {"account": "a", "day": "2026-11-24", "meter": "logs", "at": "2026-11-24T10:00:00.123456Z"}


def overage(version: int, workspace: str = "w", **more: Any) -> dict[str, Any]:
    return BASE | {
        "id": f"{workspace}-{version}", "workspace": workspace, "basis": "package", "retention_days": None,
        "quantity": version * 1_000_000, "version": version, "settled": False, "currency": "CNY", "site": "cn",
    } | more  # fmt: skip


def status(version: int) -> dict[str, Any]:
    return BASE | {
        "package": "p", "quota": 100, "used": version, "remaining": 100 - version, "utilization": version / 100,
        "workspaces": [{"workspace": "w", "demand": version, "covered": version}], "burn_rate_per_minute": 0,
        "exhausts_at": None, "version": version,
    }  # fmt: skip


def totals(version: int) -> dict[str, Any]:
    row = {"workspace": "w", "meter": "logs", "retention_days": 30, "quantity": version, "converted": 2 * version}
    return BASE | {"version": version, "counted": version, "duplicates": 0, "conflicts": 0, "totals": [row]}


VIEWS = (
    "SELECT workspace, quantity, version FROM overage",
    "SELECT count() FROM overage_events FINAL",
    "SELECT workspace, units, price, amount FROM rated_overage",
    "SELECT workspace, demand, covered FROM allocations",
    "SELECT version, used FROM quota_history FINAL ORDER BY version",
    "SELECT workspace, retention_days, quantity, converted FROM usage_totals",
    "SELECT counted FROM usage_outcomes",
)


@pytest.mark.parametrize("seed", range(3))
def test_replays_in_any_order_and_batching_change_nothing(meter: Meter, seed: int) -> None:
    """The same values again, shuffled, cut otherwise and repeated: every view shows what it showed."""
    rng = random.Random(seed)
    tables = {"overage_landing": overage, "quota_landing": status, "totals_landing": totals}
    seen = []
    for again in range(3):
        for table, make in tables.items():
            values = [json.dumps(make(version)).encode() for version in range(1, 9)]
            if again:
                values = rng.sample(values, 8) + rng.choices(values, k=4)
            while values:
                cut = rng.randrange(1, 6)
                block, values = b"\n".join(values[:cut]), values[cut:]
                meter.client.raw_insert(table, insert_block=block, fmt="JSONEachRow", settings=INSERT_SETTINGS)
        seen.append([meter.rows(view) for view in VIEWS])
    assert seen[0] == seen[1] == seen[2], f"seed {seed}"
    assert seen[0][0] == [("w", 8_000_000, 8)]


def test_a_value_that_does_not_fit(meter: Meter) -> None:
    """The sink stops and names the value's place; the good ones before it are in, and nothing is committed beyond it."""
    values = [overage(1), overage(2), overage(3, quantity="many"), overage(4)]
    meter.send("overage", [(b"a", json.dumps(value).encode()) for value in values])
    with pytest.raises(RowRefused, match=r"overage\[\d\]@2 for overage_landing"):
        asyncio.run(asyncio.wait_for(Sink(meter.settings).run(), 30))
    assert meter.rows("SELECT quantity FROM overage") == [(2_000_000,)]


def test_of_account_events_usage_and_corrections_go_in_with_their_place(meter: Meter) -> None:
    """Of a binding that is the plan. The offsets are those of the log, whatever lies between."""
    bound = WorkspaceBinding("w", "a", plan="free", retention_days={"logs": 30})
    day, at = date(2026, 11, 24), datetime(2026, 11, 24, 10, tzinfo=UTC)
    columns = packed(
        at=[0], quantities=[7], micros=[1_795_514_400_000_000], offsets=[3], indexes=[-1], identities=[(0, 0)]
    )
    events = [
        Bound("a", bound, at),
        RoutedUsage("a", 0, [("w", day, "logs", 30)], **columns, sources=["s"], ids=["i"]),
        Bound("a", bound),
        Correction("a", "c", day, "w", "logs", 30, -7, "a reason", "an operator", at),
    ]  # fmt: skip
    meter.send("account-events", [(b"a", encode_account_event(event)) for event in events])
    sink = Sink(meter.settings)

    async def until_there() -> None:
        running = asyncio.create_task(sink.run())
        tables = ("corrections", "bindings", "usage_events")
        await asyncio.to_thread(meter.wait, lambda: all(meter.rows(f"SELECT 1 FROM {t}") for t in tables), "all three")
        await sink.stop()
        await running

    asyncio.run(until_there())
    assert meter.rows("SELECT workspace, id, offset, log_offset FROM usage_events FINAL") == [("w", "i", 3, 1)]
    since = at.replace(tzinfo=None)
    bindings = meter.rows(
        "SELECT account, binding.workspace, binding.plan, at, log_offset FROM bindings FINAL ORDER BY ALL"
    )
    assert bindings == [("a", "w", "free", since, 0), ("a", "w", "free", None, 2)]
    columns = "id, account, day, workspace, meter, retention_days, quantity, reason, operator, at, log_offset"
    assert meter.rows(f"SELECT {columns} FROM corrections FINAL") == [
        ("c", "a", day, "w", "logs", 30, -7, "a reason", "an operator", since, 3)
    ]


def test_a_usage_without_a_price_is_not_free(meter: Meter) -> None:
    """An account in a currency that the price list lacks shows no amount, not 0."""
    block = json.dumps(overage(1, currency="EUR")).encode()
    meter.client.raw_insert("overage_landing", insert_block=block, fmt="JSONEachRow", settings=INSERT_SETTINGS)
    assert meter.rows("SELECT quantity, amount FROM rated_overage") == [(1_000_000, None)]


def test_a_workspace_that_a_package_lists_no_more_has_no_allocation(meter: Meter) -> None:
    """The newest status is the whole truth of its package."""
    both = [{"workspace": w, "demand": 50, "covered": 50} for w in "AB"]
    values = [status(1) | {"workspaces": both}, status(2) | {"workspaces": both[:1]}]
    for value in values:
        block = json.dumps(value).encode()
        meter.client.raw_insert("quota_landing", insert_block=block, fmt="JSONEachRow", settings=INSERT_SETTINGS)
    assert meter.rows("SELECT workspace, covered FROM allocations") == [("A", 50)]


def test_a_price_that_left_the_catalog_is_gone(meter: Meter) -> None:
    """Only the list loaded last is in force, also where the clock is behind that of the load before."""
    before = meter.rows("SELECT * FROM rates ORDER BY ALL")
    stale = "SELECT * EXCEPT (effective_from, updated, price), toDate('2025-01-01'), now64(6) + INTERVAL 1 DAY, 9.9"
    columns = "(meter, retention_days, site, currency, unit_size, is_default, effective_from, updated, price)"
    meter.client.command(f"INSERT INTO rates_loaded {columns} {stale} FROM rates_loaded LIMIT 1")
    migrate(meter.settings)
    assert meter.rows("SELECT * FROM rates ORDER BY ALL") == before


async def test_a_stop_while_clickhouse_is_away_accuses_no_row(meter: Meter) -> None:
    """The sink ends quietly, and the batch comes again with the next one."""
    await meter._send(meter.settings.topic_prefix + "overage", [(b"a", json.dumps(overage(1)).encode())])
    away = meter.settings.model_copy(update={"clickhouse": "http://127.0.0.1:9"})
    sink = Sink(away)
    running = asyncio.create_task(sink.run())
    await asyncio.sleep(5)
    await sink.stop()
    await asyncio.wait_for(running, 30)
    again = Sink(meter.settings)
    running = asyncio.create_task(again.run())
    await asyncio.to_thread(meter.wait, lambda: bool(meter.rows("SELECT 1 FROM overage")), "the row comes again")
    await again.stop()
    await running
