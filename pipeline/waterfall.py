"""The waterfall: who is covered by which package, and what is left over (semantics.md, section 3).

A pure function of packages and demand, so the order of arrival cannot matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pipeline.law import ensure
from schemas.wire import Package, WorkspaceShare


@dataclass(frozen=True, slots=True)
class Draw:
    """What one package's quota of a day and meter covers. `shares` are in the package's order of workspaces."""

    package: Package
    quota: int
    used: int
    shares: tuple[WorkspaceShare, ...]


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The result for one (account, day, meter): all quantities are converted quantities.

    `overage` has every workspace that some package lists, also those with none (0).
    """

    draws: tuple[Draw, ...]
    overage: Mapping[str, int]


def order_of(package: Package) -> tuple[Any, ...]:
    """Plan before traffic, then earlier expiry, then earlier order, then package id."""
    return (package.kind != "plan", package.expires, package.ordered_at, package.package)


def effective_packages(packages: Iterable[Package], day: date, meter: str) -> list[Package]:
    """The packages that take part in the day's waterfall of a meter, in draw-down order."""
    return sorted(
        (p for p in packages if p.status == "active" and p.effective <= day <= p.expires and meter in p.quotas),
        key=order_of,
    )


def draw_down(packages: Sequence[Package], meter: str, demand: Mapping[str, int]) -> Drawdown:
    """Draw `demand` (workspace -> converted quantity) down from `packages`, which are in draw-down order.

    Raises `LawBroken` when the result breaks laws 1 to 4.
    """
    left_of = {workspace: demand.get(workspace, 0) for package in packages for workspace in package.workspaces}
    draws = []
    for package in packages:
        quota = left = package.quotas[meter]
        shares = []
        for workspace in package.workspaces:
            wanted = left_of[workspace]
            covered = min(wanted, left)
            left_of[workspace] = wanted - covered
            left -= covered
            shares.append(WorkspaceShare(workspace, wanted, covered))
        draws.append(Draw(package, quota, quota - left, tuple(shares)))
    result = Drawdown(tuple(draws), left_of)
    _check(result, demand)
    return result


def _check(result: Drawdown, demand: Mapping[str, int]) -> None:
    """Laws 1 to 4, from the result alone: this shares no running state with the computation above."""
    covered = dict.fromkeys(result.overage, 0)
    for draw in result.draws:
        name = draw.package.package
        ensure(0 <= draw.used <= draw.quota, "law 2: 0 <= covered <= quota", name, draw.used, draw.quota)
        ensure(draw.used == sum(s.covered for s in draw.shares), "law 1: covered adds up to used", name)
        short = False
        for share in draw.shares:
            ensure(0 <= share.covered <= share.demand, "law 2: 0 <= covered <= demand", name, share)
            ensure(not (short and share.covered), "law 4: covered only when all before are fully covered", name, share)
            short = short or share.covered < share.demand
            covered[share.workspace] += share.covered
            if result.overage[share.workspace]:
                ensure(draw.used == draw.quota, "law 3: overage only when the package is exhausted", name, share)
    for workspace, over in result.overage.items():
        wanted = demand.get(workspace, 0)
        ensure(over >= 0 and covered[workspace] + over == wanted, "law 1: covered + overage = demand", workspace)
