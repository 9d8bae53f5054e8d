"""`drawdown demo`: the purchase page's example in fast motion beside a busy fleet, every figure checked."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.live import Live
from rich.table import Table

from agents.clickhouse import connect
from agents.local.services import ALL_PARTS
from agents.local.up import Up
from agents.quota import newest_quotas, quota_table
from agents.settings import Settings
from schemas.catalog import Catalog, load_catalog
from schemas.topics import PACKAGES, USAGE, WORKSPACES

_SEED = 20261124
_DUPLICATES = 0.02
_EXAMPLE, _A, _B = "purchase-page", "A", "B"
_QUOTA, _EACH, _EXAMPLE_EVENTS = 150_000_000, 100_000_000, 1_000
_FLEET_ACCOUNTS, _FLEET_WORKSPACES, _FLEET_EVENTS = 10, 50, 40_000
_PLAY_SECONDS, _DRAIN_SECONDS, _TICK_SECONDS = 8.0, 60.0, 0.25
#: Share of the events: the largest workspace 35 %, the next four 43 %, the next five 12 %, the other forty 10 %.
_SKEW = [35.0] + [43 / 4] * 4 + [12 / 5] * 5 + [10 / 40] * 40
#: Meter -> (quota of the fleet's plans, retentions in use).
_FLEET_METERS = {
    "logs": (9_000_000, (14, 30, 60)),
    "traces": (600_000, (7, 14)),
    "page_views": (90_000, (7,)),
    "hosts": (40, (0,)),
}

_Key = tuple[str, str, int]


@dataclass
class Script:
    """What is sent, and what must come out: counted independently of the meter while the script is written."""

    day: date
    documents: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    records: list[tuple[str, bytes]] = field(default_factory=list)
    totals: Counter[_Key] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)


def write_script(catalog: Catalog, now: datetime) -> Script:
    """The same script for the same instant."""
    rng, script = random.Random(_SEED), Script(now.date())
    example, fleet = _example(script, now), _fleet(script, rng, catalog, now)
    # Both run side by side; within each, the order stays.
    step = len(fleet) // len(example) + 1
    for i, record in enumerate(example):
        script.records += fleet[i * step : (i + 1) * step]
        script.records.append(record)
    return script


def _package(
    name: str, account: str, kind: str, workspaces: list[str], quotas: dict[str, int], now: datetime
) -> dict[str, Any]:
    return {
        "package": name, "account": account, "kind": kind, "plan": "startup" if kind == "plan" else None,
        "workspaces": workspaces, "quotas": quotas, "effective": str(now.date()), "expires": str(now.date().replace(year=now.year + 1)),
        "ordered_at": now.isoformat(), "status": "active", "price": "42000.00", "currency": "CNY",
    }  # fmt: skip


def _event(script: Script, catalog: Catalog | None, now: datetime, number: int, key: _Key, quantity: int) -> bytes:
    """One event, counted into what must come out."""
    workspace, meter, retention = key
    if catalog is not None and catalog.meters[meter].aggregation == "max":
        script.totals[key] = max(script.totals[key], quantity)
    else:
        script.totals[key] += quantity
    script.outcomes["counted"] += 1
    data = {"quantity": quantity} | ({"retention_days": retention} if retention else {})
    return orjson.dumps({
        "specversion": "1.0", "id": f"{workspace}-{number}", "source": "demo", "type": f"usage.{meter}",
        "subject": workspace, "time": now.isoformat(), "data": data,
    })  # fmt: skip


def _example(script: Script, now: datetime) -> list[tuple[str, bytes]]:
    """A and B share 150 million logs and send 100 million each; B sends first, and every twentieth event twice."""
    script.documents += [(WORKSPACES.name, w, {"workspace": w, "account": _EXAMPLE}) for w in (_A, _B)]
    package = _package("shared-150M", _EXAMPLE, "plan", [_A, _B], {"logs": _QUOTA}, now)
    script.documents.append((PACKAGES.name, package["package"], package))
    records = []
    for number in range(_EXAMPLE_EVENTS):
        for workspace in (_B, _A):
            value = _event(script, None, now, number, (workspace, "logs", 14), _EACH // _EXAMPLE_EVENTS)
            records.append((workspace, value))
            if number % 20 == 0:
                records.append((workspace, value))
                script.outcomes["duplicate"] += 1
    return records


def _fleet(script: Script, rng: random.Random, catalog: Catalog, now: datetime) -> list[tuple[str, bytes]]:
    """50 workspaces in 10 accounts, skewed like real customers; 2 % duplicates, some malformed events."""
    names = [f"ws-{number:02}" for number in range(_FLEET_WORKSPACES)]
    for a in range(_FLEET_ACCOUNTS):
        account, own = f"fleet-{a}", names[a::_FLEET_ACCOUNTS]
        script.documents += [(WORKSPACES.name, w, {"workspace": w, "account": account}) for w in own]
        quotas = {meter: quota for meter, (quota, _) in _FLEET_METERS.items()}
        # The last workspace of each account is in no plan: it pays as it goes, but for the logs of the traffic package.
        plan = _package(f"{account}-plan", account, "plan", own[:-1], quotas, now)
        traffic = _package(f"{account}-traffic", account, "traffic", own[::-1], {"logs": 3_000_000}, now)
        script.documents += [(PACKAGES.name, p["package"], p) for p in (plan, traffic)]
    records = []
    for number in range(_FLEET_EVENTS):
        workspace = rng.choices(names, _SKEW)[0]
        meter = rng.choices(list(_FLEET_METERS), [70, 15, 10, 5])[0]
        quota, retentions = _FLEET_METERS[meter]
        quantity = rng.randrange(quota // 1000 + 2)
        value = _event(script, catalog, now, number, (workspace, meter, rng.choice(retentions)), quantity)
        records.append((workspace, value))
        if rng.random() < _DUPLICATES:
            records.append((workspace, value))
            script.outcomes["duplicate"] += 1
        if number % 2000 == 0:
            records.append((workspace, value[:-5]))
            script.outcomes["dead_letter"] += 1
    return records


def run_demo(settings: Settings, console: Console, *, keep: bool) -> int:
    """Exit code 0 only if every figure is right. State lies in a folder of its own, removed unless kept."""
    run = f"{int(time.time())}"
    if os.environ.get("DRAWDOWN_KAFKA") or os.environ.get("DRAWDOWN_CLICKHOUSE"):
        # Somebody's own servers: names of our own, so that nothing of theirs is touched.
        names = {"topic_prefix": f"drawdown-demo-{run}.", "clickhouse_database": f"drawdown_demo_{run}"}
        settings = settings.model_copy(update=names | {"group": f"drawdown-demo-{run}"})
    directory = Path(tempfile.mkdtemp(prefix="drawdown-demo-"))
    try:
        with ExitStack() as stack:
            with console.status("starting Kafka, ClickHouse, a worker and the API (the first time, Kafka is fetched)"):
                up = Up(settings, directory, ALL_PARTS, auto_ports=True)
                running = stack.enter_context(up)
                client = stack.enter_context(connect(running.settings))
            console.print(f"dashboard: [bold]{running.dashboard}[/]\n", soft_wrap=True)
            script = write_script(load_catalog(settings.catalog), datetime.now(UTC))
            asyncio.run(_play(running.settings, script, client, console))
            right = _report(client, script, console)
            if keep:
                console.print(
                    f"\ndashboard {running.dashboard}\nKafka {running.settings.kafka}, ClickHouse"
                    f" {running.settings.clickhouse}; Ctrl-C stops them",
                    soft_wrap=True,
                )
                running.watch(console)
        return 0 if right else 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _play(settings: Settings, script: Script, client: Client, console: Console) -> None:
    """Send the records over some seconds while a table shows the quotas filling; then wait until all have ended."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, compression_type="lz4", enable_idempotence=True)
    await producer.start()
    try:
        for topic, key, document in script.documents:
            await producer.send(settings.topic_prefix + topic, orjson.dumps(document), key.encode())
        await producer.flush()
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            shown = asyncio.create_task(_show(client, script, live))
            started, usage = time.monotonic(), settings.topic_prefix + USAGE.name
            per_tick = int(len(script.records) / _PLAY_SECONDS * _TICK_SECONDS) + 1
            for tick, first in enumerate(range(0, len(script.records), per_tick), start=1):
                for key, value in script.records[first : first + per_tick]:
                    await producer.send(usage, value, key.encode())
                await asyncio.sleep(max(0.0, started + tick * _TICK_SECONDS - time.monotonic()))
            await producer.flush()
            deadline = time.monotonic() + _DRAIN_SECONDS
            while sum((await asyncio.to_thread(_outcomes, client)).values()) < sum(script.outcomes.values()):
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(_TICK_SECONDS)
            shown.cancel()
    finally:
        await producer.stop()


async def _show(client: Client, script: Script, live: Live) -> None:
    while True:
        rows = await asyncio.to_thread(newest_quotas, client, "", script.day)
        busiest = sorted(rows, key=lambda row: (row["account"] != _EXAMPLE, -row["utilization"]))[:14]
        live.update(quota_table(busiest, "Quotas filling"))
        await asyncio.sleep(_TICK_SECONDS)


def _outcomes(client: Client) -> Counter[str]:
    """How the events ended, as ClickHouse knows it."""
    counted, duplicates = client.query("SELECT sum(counted), sum(duplicates) FROM usage_outcomes").result_rows[0]
    (dead,) = client.query("SELECT count() FROM dead_letters FINAL").result_rows[0]
    return Counter(counted=counted, duplicate=duplicates, dead_letter=dead)


def _report(client: Client, script: Script, console: Console) -> bool:
    """Print the figures out of ClickHouse beside what they must be; whether all are right."""
    table = Table("", "ClickHouse", "expected", "", title="The purchase page's example, and the fleet",
                  title_justify="left", box=None, header_style="bold", pad_edge=False)  # fmt: skip
    right = True
    for name, found, expected in _figures(client, script):
        right &= found == expected
        shown = [f"{value:,}" if isinstance(value, int | Decimal) else str(value) for value in (found, expected)]
        table.add_row(name, *shown, "[green]✓[/]" if found == expected else "[red]✗[/]")
    console.print(table)
    return right


def _figures(client: Client, script: Script) -> list[tuple[str, Any, Any]]:
    def one(sql: str) -> Any:
        return client.query(sql).result_rows[0][0]

    example = f"account = '{_EXAMPLE}' AND meter = 'logs'"
    found = _outcomes(client)
    totals = client.query("SELECT workspace, meter, retention_days, quantity FROM usage_totals").result_rows
    listed = one(
        "SELECT sum(converted) FROM usage_totals WHERE (account, day, meter, workspace) IN"
        " (SELECT account, day, meter, workspace FROM allocations)"
    )
    covered_and_over = one("SELECT sum(covered) FROM allocations") + one(
        "SELECT sum(quantity) FROM overage WHERE basis = 'package'"
    )
    charge = one(f"SELECT sum(amount) FROM rated_overage WHERE {example}")
    return [
        ("A covered", one(f"SELECT sum(covered) FROM allocations WHERE {example} AND workspace = 'A'"), 100_000_000),
        ("B covered", one(f"SELECT sum(covered) FROM allocations WHERE {example} AND workspace = 'B'"), 50_000_000),
        ("B overage", one(f"SELECT sum(quantity) FROM overage WHERE {example} AND workspace = 'B'"), 50_000_000),
        ("charge, CNY", charge.quantize(Decimal("0.01")), Decimal("75.00")),
        ("events in", sum(found.values()), len(script.records)),
        *((f"  {name.replace('_', ' ')}", found[name], script.outcomes[name]) for name in ("counted", "duplicate", "dead_letter")),
        ("day totals that differ", len(set(script.totals.items()) ^ {((w, m, r), q) for w, m, r, q in totals}), 0),
        ("covered + overage", covered_and_over, listed),
        ("fleet charge, CNY", one(f"SELECT sum(amount) FROM rated_overage WHERE account != '{_EXAMPLE}'"),
         _charge(client, load_catalog(), script.day)),
    ]  # fmt: skip


def _charge(client: Client, catalog: Catalog, day: date) -> Decimal:
    """The fleet's charge once more, rated here and not in ClickHouse."""
    rows = client.query("SELECT meter, retention_days, quantity FROM overage WHERE account != {example:String}",
                        parameters={"example": _EXAMPLE}).result_rows  # fmt: skip
    total = Decimal(0)
    for name, retention, quantity in rows:
        meter = catalog.meters[name]
        tier = meter.default_retention if retention is None else retention
        price = catalog.price(name, tier, "cn", "CNY", day) or Decimal(0)
        total += Decimal(quantity * 100 // meter.unit_size) / 100 * price
    return total
