"""`drawdown quota`: what an account's packages of a day hold, by workspace in draw-down order, and what is over.

Figures come out of ClickHouse; the account's time zone and packages, which say what today is and what is drawn down first, out of Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec
from clickhouse_connect.driver.client import Client
from rich.progress_bar import ProgressBar
from rich.table import Table

from agents.kafka import all_records, newest_values
from agents.settings import Settings
from agents.tables import plain
from pipeline.admission import UNDECODABLE
from pipeline.waterfall import order_of
from schemas.topics import PACKAGES, WORKSPACES
from schemas.wire import Package, WorkspaceBinding

_NEWEST = """
SELECT account, day, meter, package, quota, used, remaining, utilization, burn_rate_per_minute, exhausts_at, version, at
FROM quota_history WHERE ({account:String} = '' OR account = {account:String}) AND day = {day:Date}
ORDER BY account, meter, package, version DESC LIMIT 1 BY account, meter, package
"""
_SHARES = """
SELECT meter, package, arrayMap(w -> (w.workspace, w.demand, w.covered), workspaces) AS shares
FROM quota_newest FINAL WHERE account = {account:String} AND day = {day:Date}
"""
_OVERAGE = """
SELECT meter, workspace, basis, retention_days, quantity, amount, currency, plan FROM rated_overage
WHERE account = {account:String} AND day = {day:Date} AND quantity > 0 ORDER BY meter, basis, workspace, retention_days
"""
WARN, FULL = 0.8, 1.0

#: A row of a query: column -> value.
Row = dict[str, Any]


@dataclass(slots=True)
class Holder:
    """An account as the registry knows it: `order` is package -> its place in the waterfall."""

    time_zone: str = "UTC"
    order: dict[str, int] = field(default_factory=dict)


async def holder_of(settings: Settings, account: str) -> Holder:
    """Raises `KafkaError` when Kafka does not answer."""
    holder = Holder()
    binding, package = msgspec.json.Decoder(WorkspaceBinding), msgspec.json.Decoder(Package)
    # The binding that came last says the time zone, as in the ledger.
    async for records in all_records(settings, settings.topic_prefix + WORKSPACES.name, 0):
        for record in records:
            known = _decoded(binding, record.value)
            holder.time_zone = known.time_zone if known and known.account == account else holder.time_zone
    values = (await newest_values(settings, settings.topic_prefix + PACKAGES.name, 0)).values()
    packages = [p for value in values if (p := _decoded(package, value)) and p.account == account]
    holder.order = {p.package: place for place, p in enumerate(sorted(packages, key=order_of))}
    return holder


def _decoded(decoder: msgspec.json.Decoder[Any], value: bytes | None) -> Any:
    """The document, or None for a tombstone and for what is none: that ended as a dead letter."""
    try:
        return decoder.decode(value) if value is not None else None
    except UNDECODABLE:
        return None


def newest_quotas(client: Client, account: str, day: date) -> list[Row]:
    """The newest status of every package and meter; of all accounts when `account` is empty."""
    return list(client.query(_NEWEST, parameters={"account": account, "day": day}).named_results())


def day_of_account(client: Client, account: str, day: date, order: dict[str, int]) -> tuple[list[Row], list[Row]]:
    """Quotas, in draw-down order with their `workspaces`, and what is over, each with its charge."""
    parameters = {"account": account, "day": day}
    shares = {(meter, package): held for meter, package, held in client.query(_SHARES, parameters).result_rows}
    quotas = newest_quotas(client, account, day)
    for row in quotas:
        held = shares.get((row["meter"], row["package"]), ())
        row["workspaces"] = [{"workspace": w, "demand": demand, "covered": covered} for w, demand, covered in held]
    quotas.sort(key=lambda row: (row["meter"], order.get(row["package"], len(order)), row["package"]))
    return quotas, list(client.query(_OVERAGE, parameters).named_results())


def as_json(quotas: Sequence[Row], over: Sequence[Row]) -> list[Row]:
    """One object a quota, with the overage of its meter."""
    return [row | {"overage": [o for o in over if o["meter"] == row["meter"]]} for row in quotas]


def state_of(share: float) -> str:
    """The colour of a share of a quota."""
    return "red" if share >= FULL else "yellow" if share >= WARN else "green"


def quota_table(rows: list[Row], title: str) -> Table:
    """A row a package and meter, with a bar that fills: of many accounts at once."""
    table = plain(title=title, title_justify="left")
    for name in ("account", "meter", "package"):
        table.add_column(name, no_wrap=True)
    for name in ("used", "quota", "remaining"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("", justify="right")
    for row in rows:
        share = float(row["utilization"])
        style = state_of(share)
        bar = ProgressBar(total=1.0, completed=min(share, 1.0), width=24, complete_style=style, finished_style=style)
        table.add_row(
            row["account"], row["meter"], row["package"],
            f"{row['used']:,}", f"{row['quota']:,}", f"{row['remaining']:,}", bar, f"[{style}]{share:.0%}[/]",
        )  # fmt: skip
    return table
