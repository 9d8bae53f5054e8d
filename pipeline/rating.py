"""Rating: what an overage costs (semantics.md, section 6). Exact decimals; nothing is rounded but the payable amount."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact

from pipeline.account import Account, Drawn, OverageKey
from schemas.catalog import Catalog
from schemas.wire import Basis, StatementLine

#: Wide enough for the largest quantity times the largest price; a result that would lose a digit raises `Inexact`.
_EXACT = Context(prec=60, traps=[Inexact])
_CENT = Decimal("0.01")
_UNIT_DIGITS = 2


def units_of(quantity: int, unit_size: int) -> Decimal:
    """Priced units: quantity / unit size with two decimals, truncated."""
    return Decimal(quantity * 10**_UNIT_DIGITS // unit_size).scaleb(-_UNIT_DIGITS, _EXACT)


def basis_of(retention_days: int | None) -> Basis:
    """An overage without a retention is over a package's quota; one with a retention is pay-as-you-go."""
    return "package" if retention_days is None else "payg"


def rated_line(
    catalog: Catalog, account: Account, when: date, meter: str, key: OverageKey, quantity: int
) -> StatementLine:
    """One overage of the account's day: packages' overage at the meter's default retention, pay-as-you-go at its own."""
    (workspace, retention), definition = key, catalog.meters[meter]
    tier = definition.default_retention if retention is None else retention
    units, price = (
        units_of(quantity, definition.unit_size),
        catalog.price(meter, tier, account.site, account.currency, when),
    )
    return StatementLine(
        workspace=workspace, meter=meter, basis=basis_of(retention), retention_days=retention, quantity=quantity,
        units=units, price=price, amount=None if price is None else _EXACT.multiply(units, price),
    )  # fmt: skip


def lines_of(catalog: Catalog, account: Account, when: date) -> Iterator[StatementLine]:
    """Every overage of the account's day as a priced line, by meter, workspace and retention; none on the Free plan."""
    for meter in sorted(account.days[when].by_meter):
        drawn = account.draw(catalog, when, meter)
        overage = drawn.overage
        for key in sorted(overage, key=lambda key: (key[0], -1 if key[1] is None else key[1])):
            if overage[key] and key[0] not in drawn.free:
                yield rated_line(catalog, account, when, meter, key, overage[key])


def payable(lines: Iterable[StatementLine]) -> Decimal:
    """The sum of the lines that have a price, rounded half up to 0.01."""
    total = Decimal(0)
    for line in lines:
        total = _EXACT.add(total, line.amount or Decimal(0))
    return total.quantize(_CENT, rounding=ROUND_HALF_UP)


def charge_of(catalog: Catalog, account: Account, when: date, meter: str, drawn: Drawn) -> Decimal:
    """What a meter's overages of a day cost, without what has no price or is of a workspace on the Free plan."""
    definition, cents = catalog.meters[meter], Counter[int]()
    for (workspace, retention), quantity in drawn.overage.items():
        if workspace not in drawn.free:
            tier = definition.default_retention if retention is None else retention
            cents[tier] += quantity * 10**_UNIT_DIGITS // definition.unit_size
    charge = Decimal(0)
    for tier, units in cents.items():
        price = catalog.price(meter, tier, account.site, account.currency, when)
        if price is not None:
            charge = _EXACT.add(charge, _EXACT.multiply(units_of(units, 10**_UNIT_DIGITS), price))
    return charge
