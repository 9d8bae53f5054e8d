"""The result of `drawdown verify` for people and for machines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from rich.table import Table

from agents.tables import plain
from agents.verify import Verified
from pipeline.audit import ALLOCATION, CHARGE, COLUMNS, EVENTS, OVERAGE, TOTAL, Difference

_CENT = Decimal("0.01")


def summary_line(verified: Verified) -> str:
    """What was recomputed, in one line."""
    found = summary(verified)
    counts = (
        f"{found['counted']:,} events counted, {found['duplicates']:,} duplicates, {found['conflicts']:,} conflicts"
    )
    meters = "; ".join(
        f"{meter}: {', '.join(f'{quantity:,} {name}' for name, quantity in some.items() if quantity) or '0'}"
        for meter, some in found["meters"].items()
    )
    parts = [counts, f"{found['totals']} totals", meters, f"charge {found['charge']} {found['currency']}"]
    return f"{found['account']}, {found['day']}: {', '.join(filter(None, parts))}"


def correction_lines(verified: Verified) -> Iterator[str]:
    """Every correction of the day, also those that the ledger refused."""
    for row in verified.corrections:
        refused = f" REFUSED ({row['refused']})" if row["refused"] else ""
        yield (
            f"correction {row['id']}:{refused} {row['quantity']:+,} {row['meter']} ({row['retention_days']} days) of"
            f" {row['workspace']} by {row['operator']}: {row['reason']}"
        )


def difference_table(verified: Verified) -> Table:
    """A row a figure on which the two paths disagree."""
    title = f"{verified.account}, {verified.day}: {len(verified.differences)} differences"
    table = plain("what", "key", "streamed", "recomputed", title=title, title_justify="left")
    for column in table.columns[2:]:
        column.justify = "right"
    for difference in verified.differences:
        key = " ".join(str(part) for part in difference.key if part is not None)
        streamed, recomputed = (_words(difference, side) for side in (difference.streamed, difference.recomputed))
        table.add_row(difference.what, key, streamed, recomputed)
    return table


def _words(difference: Difference, values: tuple[Any, ...] | None) -> str:
    if values is None:
        return "no row"
    names = COLUMNS[difference.what][1]
    return ", ".join(f"{name} {'none' if v is None else f'{v:,}'}" for name, v in zip(names, values, strict=True))


def summary(verified: Verified) -> dict[str, Any]:
    """The figures of the day: events, totals, and by meter what is covered, over and paid as it goes; the charge."""
    _, counted, duplicates, conflicts = verified.figures[EVENTS, ()]
    meters: dict[str, dict[str, int]] = defaultdict(lambda: {"covered": 0, "overage": 0, "pay-as-you-go": 0})
    charge, totals = Decimal(0), 0
    for (what, key), values in verified.figures.items():
        if what == TOTAL:
            totals += 1
        elif what == ALLOCATION:
            meters[key[0]]["covered"] += values[0]
        elif what == OVERAGE:
            meters[key[1]]["overage" if key[2] == "package" else "pay-as-you-go"] += values[0]
        elif what == CHARGE:
            charge += values[0] or 0
    return {
        "account": verified.account, "day": str(verified.day), "version": verified.version, "counted": counted,
        "duplicates": duplicates, "conflicts": conflicts, "totals": totals, "meters": dict(sorted(meters.items())),
        "charge": str(charge.quantize(_CENT, ROUND_HALF_UP)), "currency": verified.currency,
    }  # fmt: skip


def as_json(verified: Verified) -> dict[str, Any]:
    """Everything, for machines; amounts are texts, so that no digit is lost."""
    return summary(verified) | {
        "corrections": verified.corrections,
        "differences": [_difference(difference) for difference in verified.differences],
    }


def _difference(difference: Difference) -> dict[str, Any]:
    keys, names = COLUMNS[difference.what]

    def side(values: tuple[Any, ...] | None) -> dict[str, Any] | None:
        return None if values is None else dict(zip(names, values, strict=True))

    return {
        "what": difference.what, "key": dict(zip(keys, difference.key, strict=True)),
        "streamed": side(difference.streamed), "recomputed": side(difference.recomputed),
    }  # fmt: skip
