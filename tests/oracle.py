"""The independent oracle: a slow batch answer over raw usage records, written from the semantics alone.

It shares no code with `pipeline/`: own JSON checks, own calendar, own waterfall. A record is `(partition, offset, key, value)`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

Record = tuple[int, int, bytes | None, bytes]


@dataclass
class Answer:
    """Everything the meter must say; keys as in the tables."""

    totals: dict[tuple[str, date, str, str, int], int] = field(default_factory=dict)
    covered: dict[tuple[str, date, str, str, str], int] = field(default_factory=dict)
    overage: dict[tuple[str, date, str, str, str, int | None], int] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    #: Workspaces on the Free plan.
    free: set[str] = field(default_factory=set)


class Refused(Exception):
    """The code of a dead letter."""


def answer(
    records: list[Record], bindings: list[dict[str, Any]], packages: list[dict[str, Any]], meters: dict[str, Any],
    now: datetime, horizon_days: int = 35, tolerance: timedelta = timedelta(minutes=10),
    corrections: Iterable[dict[str, Any]] = (),
) -> Answer:  # fmt: skip
    """The batch answer. `meters`: key -> object with aggregation, default_retention and factors."""
    result = Answer()
    bound = {b["workspace"]: b for b in bindings}
    result.free = {name for name, b in bound.items() if b.get("plan") == "free"}
    seen: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    for _, _, key, value in records:
        for text in split(value):
            try:
                account, day, workspace, meter, retention, quantity, identity, moment = check(
                    text, key, bound, meters, now, horizon_days, tolerance
                )
            except Refused as code:
                result.outcomes[str(code)] += 1
                continue
            content = (workspace, meter, retention, quantity, moment)
            first = seen.setdefault((account, *identity), content)
            if first is not content:
                result.outcomes["duplicate" if first == content else "conflicting_duplicate"] += 1
                continue
            result.outcomes["counted"] += 1
            name = (account, day, workspace, meter, retention)
            before = result.totals.get(name, 0)
            by_sum = meters[meter].aggregation == "sum"
            result.totals[name] = before + quantity if by_sum else max(before, quantity)
    correct(result, corrections)
    waterfall(result, packages, meters)
    return result


def correct(result: Answer, corrections: Iterable[dict[str, Any]]) -> None:
    """A total is what was counted plus the corrections of distinct ids, and never below 0."""
    for one in {c["id"]: c for c in corrections}.values():
        name = (one["account"], date.fromisoformat(one["day"]), one["workspace"], one["meter"], one["retention_days"])
        result.totals[name] = result.totals.get(name, 0) + one["quantity"]
    result.totals.update({name: max(0, total) for name, total in result.totals.items()})


def split(value: bytes) -> list[str]:
    """The events of a record as texts; a malformed record is one."""
    try:
        document = json.loads(value)
    except ValueError:
        return [value.decode(errors="replace")]
    return [json.dumps(element) for element in document] if isinstance(document, list) else [value.decode()]


def check(
    text: str, key: bytes | None, bound: dict[str, Any], meters: dict[str, Any], now: datetime, horizon_days: int,
    tolerance: timedelta,
) -> tuple[Any, ...]:  # fmt: skip
    """Every rule in the order of precedence."""
    try:
        event = json.loads(text)
    except ValueError:
        raise Refused("not_json") from None
    names_ok = isinstance(event, dict) and all(
        isinstance(event.get(n), str) and 0 < len(event[n]) <= 256 for n in ("id", "source", "type")
    )
    if not names_ok or event.get("specversion") != "1.0":
        raise Refused("not_a_cloudevent")
    data = event.get("data")
    workspace, quantity = event.get("subject"), data.get("quantity") if isinstance(data, dict) else None
    retention = data.get("retention_days") if isinstance(data, dict) else None
    moment = instant(event.get("time"))
    if (
        not isinstance(workspace, str) or not 0 < len(workspace) <= 256 or moment is None
        or type(quantity) is not int or (retention is not None and type(retention) is not int)
    ):  # fmt: skip
        raise Refused("invalid_field")
    meter = event["type"][6:] if event["type"].startswith("usage.") else None
    if meter not in meters:
        raise Refused("unknown_meter")
    if quantity < 0:
        raise Refused("negative_quantity")
    if quantity > 10**15:
        raise Refused("quantity_too_large")
    if key is not None and key.decode() != workspace:
        raise Refused("wrong_key")
    if workspace not in bound:
        raise Refused("unknown_workspace")
    binding = bound[workspace]
    if retention is None:
        retention = default_retention(binding, meter, meters[meter].default_retention, moment)
    if retention not in meters[meter].factors:
        raise Refused("unknown_retention")
    if moment > now + tolerance:
        raise Refused("from_the_future")
    tz = ZoneInfo(binding.get("time_zone", "UTC"))
    day = moment.astimezone(tz).date()
    if day < now.astimezone(tz).date() - timedelta(days=horizon_days):
        raise Refused("too_late")
    return binding["account"], day, workspace, meter, retention, quantity, (event["source"], event["id"]), moment


def default_retention(binding: dict[str, Any], meter: str, default: int, moment: datetime) -> int:
    """What held at the event's own time: the earliest of the past ones that held until later, else the present one."""
    past = binding.get("retention_before", {}).get(meter, [])
    ends = [(datetime.fromisoformat(one["until"]), one["days"]) for one in past]
    held = [(until, days) for until, days in ends if moment < until]
    present: int = binding.get("retention_days", {}).get(meter, default)
    return min(held)[1] if held else present


def instant(text: Any) -> datetime | None:
    """An RFC 3339 instant with an offset."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None and len(text) > 10 and text[10] in "Tt " else None


def waterfall(result: Answer, packages: list[dict[str, Any]], meters: dict[str, Any]) -> None:
    """Section 3, word by word."""
    for account, day, meter in {(a, d, m) for a, d, _, m, _ in result.totals}:
        demand: Counter[str] = Counter()
        for (a, d, w, m, r), total in result.totals.items():
            if (a, d, m) == (account, day, meter):
                demand[w] += total * meters[m].factors[r]
        effective = [
            p for p in packages
            if p["account"] == account and p.get("status", "active") == "active" and meter in p["quotas"]
            and date.fromisoformat(p["effective"]) <= day <= date.fromisoformat(p["expires"])
        ]  # fmt: skip
        effective.sort(key=lambda p: p["package"])
        effective.sort(key=lambda p: datetime.fromisoformat(p["ordered_at"]))
        effective.sort(key=lambda p: p["expires"])
        effective.sort(key=lambda p: p["kind"] != "plan")
        listed = set()
        for package in effective:
            left = package["quotas"][meter]
            for workspace in package["workspaces"]:
                listed.add(workspace)
                covered = min(demand[workspace], left)
                demand[workspace] -= covered
                left -= covered
                result.covered[account, day, meter, package["package"], workspace] = covered
        for workspace in listed:
            result.overage[account, day, workspace, meter, "package", None] = demand[workspace]
        for (a, d, w, m, r), total in result.totals.items():
            if (a, d, m) == (account, day, meter) and w not in listed:
                result.overage[a, d, w, m, "payg", r] = total


def statements(
    result: Answer, meters: dict[str, Any], prices: dict[tuple[str, int], str]
) -> dict[tuple[str, date], Decimal]:
    """The payable amount of every account's day with usage; `prices`: (meter, retention) -> price of a unit."""
    amounts = {(account, day): Decimal(0) for account, day, *_ in result.totals}
    for (account, day, workspace, meter, _, retention), quantity in result.overage.items():
        tier = meters[meter].default_retention if retention is None else retention
        if (meter, tier) in prices and workspace not in result.free:
            amounts[account, day] += charge(quantity, meters[meter].unit_size, prices[meter, tier])
    return {name: amount.quantize(Decimal("0.01"), "ROUND_HALF_UP") for name, amount in amounts.items()}


def charge(quantity: int, unit_size: int, price: str) -> Decimal:
    """Units with two decimals, truncated, times the price."""
    return (Decimal(quantity) / unit_size).quantize(Decimal("0.01"), "ROUND_DOWN") * Decimal(price)
