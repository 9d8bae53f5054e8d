"""The audit: an account's day once more, from what ClickHouse counts out of the raw events.

It is the second, independent path of `drawdown verify`: written from semantics.md alone, word by word and without any cleverness.
It shares no code with the fold (a linter contract holds it to that), so that a defect would have to be made twice.

Figures are (what, key) -> values. The first value of each is its amount: a row whose amount is 0 says the same as no row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from typing import Any

from schemas.catalog import Catalog, Meter
from schemas.wire import Package

EVENTS, TOTAL, ALLOCATION, OVERAGE, CHARGE = "events", "total", "allocation", "overage", "charge"
STATEMENT, STATEMENT_LINE = "statement", "statement line"

#: What identifies a figure of its kind, and what it says.
COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    EVENTS: ((), ("ended", "counted", "duplicates", "conflicts")),
    TOTAL: (("workspace", "meter", "retention_days"), ("quantity", "converted")),
    ALLOCATION: (("meter", "package", "workspace"), ("covered", "demand")),
    OVERAGE: (("workspace", "meter", "basis", "retention_days"), ("quantity",)),
    CHARGE: (("workspace", "meter", "basis", "retention_days"), ("amount", "units", "price")),
    STATEMENT: (("revision",), ("amount",)),
    STATEMENT_LINE: (("revision", "workspace", "meter", "basis", "retention_days"), ("quantity", "amount")),
}

Key = tuple[Any, ...]
Figures = dict[tuple[str, Key], tuple[Any, ...]]

_WIDE = Context(prec=60)
_HUNDREDTH = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Gain:
    """What the raw events of a series say that lie before a cut of the log (and behind the cut before)."""

    cut: int
    workspace: str
    meter: str
    retention_days: int
    counted: int
    duplicates: int
    conflicts: int
    quantity: int
    largest: int


@dataclass(frozen=True, slots=True)
class Corrected:
    """A correction that the ledger took; `log_offset` is its place."""

    log_offset: int
    workspace: str
    meter: str
    retention_days: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Planned:
    """From the day `since` on a workspace has a plan; `log_offset` is where the log says so. In the order of the log."""

    log_offset: int
    workspace: str
    plan: str
    since: date


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that decides a day. `revision` is that of its newest statement, None while it is open."""

    day: date
    gains: Sequence[Gain]
    corrections: Sequence[Corrected]
    packages: Sequence[Package]
    plans: Sequence[Planned]
    site: str
    currency: str
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What the streamed ledger says, and the place in the log up to which it says so."""

    what: str
    key: Key
    values: tuple[Any, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure on which the two paths disagree; None: this side has no such row."""

    what: str
    key: Key
    streamed: tuple[Any, ...] | None
    recomputed: tuple[Any, ...] | None


def differences(rows: Sequence[Row], figures_at: Callable[[int], Figures], upto: int) -> Iterator[Difference]:
    """Compare what the ledger says with what the events say.

    `upto` is a place in the log that the ledger has passed and whose outputs have all arrived. A row of before has not changed
    since, so it must say what holds there. A row of later holds at its own version. So events may flow meanwhile.
    `figures_at` is asked in the order of the log.
    """
    unsaid = dict(figures_at(upto))
    for row in sorted(rows, key=lambda row: row.version):
        name = (row.what, row.key)
        expected = figures_at(max(upto, row.version)).get(name)
        unsaid.pop(name, None)
        if row.values != expected and not (expected is None and row.values[0] == 0):
            yield Difference(row.what, row.key, row.values, expected)
    for (what, key), values in unsaid.items():
        if values[0] != 0:
            yield Difference(what, key, None, values)


def recompute(catalog: Catalog, evidence: Evidence, upto: int) -> Figures:
    """The day's figures at a place in the log, which is one of the cuts."""
    gains = [gain for gain in evidence.gains if gain.cut <= upto]
    figures: Figures = {(EVENTS, ()): _outcomes(gains)}
    totals = _totals(catalog, gains, [c for c in evidence.corrections if c.log_offset <= upto])
    for (workspace, meter, retention), total in totals.items():
        converted = total * catalog.meters[meter].factors[retention]
        figures[TOTAL, (workspace, meter, retention)] = (total, converted)
    for meter in {meter for _, meter, _ in totals} | {meter for p in evidence.packages for meter in p.quotas}:
        _waterfall(figures, catalog.meters[meter], evidence, totals)
    _rate(
        figures,
        catalog,
        evidence,
        _free([planned for planned in evidence.plans if planned.log_offset <= upto], evidence.day),
    )
    return figures


def _free(plans: Iterable[Planned], day: date) -> set[str]:
    """Section 8: who is on the Free plan that day. What was said first holds for the days before, too.

    Who says what was said last changes nothing, whatever day it is dated.
    """
    plan: dict[str, str] = {}
    said: dict[str, str] = {}
    for one in plans:
        if said.get(one.workspace) == one.plan:
            continue
        said[one.workspace] = one.plan
        if one.since <= day or one.workspace not in plan:
            plan[one.workspace] = one.plan
    return {workspace for workspace, last in plan.items() if last == "free"}


def _outcomes(gains: Iterable[Gain]) -> tuple[int, int, int, int]:
    counted = sum(gain.counted for gain in gains)
    duplicates = sum(gain.duplicates for gain in gains)
    conflicts = sum(gain.conflicts for gain in gains)
    return counted + duplicates + conflicts, counted, duplicates, conflicts


def _totals(
    catalog: Catalog, gains: Iterable[Gain], corrections: Iterable[Corrected]
) -> dict[tuple[str, str, int], int]:
    """Section 2: sums or largest quantities of the distinct events; then the corrections, and never below 0."""
    totals: dict[tuple[str, str, int], int] = {}
    for gain in gains:
        if gain.counted:
            name = (gain.workspace, gain.meter, gain.retention_days)
            before = totals.get(name, 0)
            by_sum = catalog.meters[gain.meter].aggregation == "sum"
            totals[name] = before + gain.quantity if by_sum else max(before, gain.largest)
    for correction in corrections:
        name = (correction.workspace, correction.meter, correction.retention_days)
        totals[name] = totals.get(name, 0) + correction.quantity
    return {name: max(0, total) for name, total in totals.items()}


def _waterfall(figures: Figures, meter: Meter, evidence: Evidence, totals: dict[tuple[str, str, int], int]) -> None:
    """Section 3, word by word, for one meter."""
    demand: Counter[str] = Counter()
    for (workspace, key, retention), total in totals.items():
        if key == meter.key:
            demand[workspace] += total * meter.factors[retention]
    effective = [
        p for p in evidence.packages
        if p.status == "active" and meter.key in p.quotas and p.effective <= evidence.day <= p.expires
    ]  # fmt: skip
    effective.sort(key=lambda p: p.package)
    effective.sort(key=lambda p: p.ordered_at)
    effective.sort(key=lambda p: p.expires)
    effective.sort(key=lambda p: p.kind == "traffic")
    listed: set[str] = set()
    for package in effective:
        left = package.quotas[meter.key]
        for workspace in package.workspaces:
            listed.add(workspace)
            covered = min(demand[workspace], left)
            figures[ALLOCATION, (meter.key, package.package, workspace)] = (covered, demand[workspace])
            demand[workspace] -= covered
            left -= covered
    for workspace in listed:
        figures[OVERAGE, (workspace, meter.key, "package", None)] = (demand[workspace],)
    for (workspace, key, retention), total in totals.items():
        if key == meter.key and workspace not in listed:
            figures[OVERAGE, (workspace, key, "payg", retention)] = (total,)


def _rate(figures: Figures, catalog: Catalog, evidence: Evidence, free: set[str]) -> None:
    """Section 6. What has no price has no amount, and is in no sum; what is `free` is on no statement either."""
    payable = Decimal(0)
    for (what, key), (quantity, *_) in list(figures.items()):
        if what != OVERAGE or quantity == 0:
            continue
        workspace, name, _, retention = key
        if workspace in free:
            figures[CHARGE, key] = (None, None, None)
            continue
        meter = catalog.meters[name]
        tier = meter.default_retention if retention is None else retention
        price = catalog.price(name, tier, evidence.site, evidence.currency, evidence.day)
        if price is None:
            figures[CHARGE, key] = (None, None, None)
        else:
            units = _WIDE.divide(Decimal(quantity), Decimal(meter.unit_size)).quantize(_HUNDREDTH, ROUND_DOWN, _WIDE)
            figures[CHARGE, key] = (_WIDE.multiply(units, price), units, price)
            payable = _WIDE.add(payable, _WIDE.multiply(units, price))
        if evidence.revision is not None:
            figures[STATEMENT_LINE, (evidence.revision, *key)] = (quantity, figures[CHARGE, key][0])
    if evidence.revision is not None:
        figures[STATEMENT, (evidence.revision,)] = (payable.quantize(_HUNDREDTH, ROUND_HALF_UP, _WIDE),)
