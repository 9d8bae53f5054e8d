"""Quotas as people ask for them: the ledger's figures, beside the packages that have none yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import orjson

from agents.api.accounts import Account
from agents.api.live import Figures
from agents.api.models import Cover, FreeLimit, PaygQuantity, QuotaRow, Share, WorkspaceMeter
from pipeline.waterfall import effective_packages
from schemas.catalog import Catalog, Meter
from schemas.wire import Package, WorkspaceBinding

#: (meter, package) -> the topic's value.
Statuses = Mapping[tuple[str, str], Mapping[str, Any]]


def live_statuses(figures: Figures | None, day: date) -> Statuses:
    """The newest statuses of a day."""
    known = figures.quota if figures else {}
    return {(meter, package): orjson.loads(value) for (when, meter, package), (_, value) in known.items() if when == str(day)}  # fmt: skip


def quota_rows(
    account: Account, day: date, catalog: Catalog, statuses: Statuses, workspace: str | None = None
) -> list[QuotaRow]:
    """A row a package that is effective on the day and meter, in draw-down order; of one workspace, or of all."""
    rows = []
    for meter in catalog.meters.values():
        for order, package in enumerate(effective_packages(account.packages, day, meter.key), start=1):
            if workspace is not None and workspace not in package.workspaces:
                continue
            status = statuses.get((meter.key, package.package)) or _untouched(package, meter, day)
            told = {"kind": package.kind, "plan": package.plan, "order": order, "effective": package.effective,
                    "expires": package.expires, "meter_name": meter.name, "unit": meter.unit}  # fmt: skip
            rows.append(QuotaRow.model_validate({**status, **told}))
    return rows


def _untouched(package: Package, meter: Meter, day: date) -> dict[str, Any]:
    quota = package.quotas[meter.key]
    return {
        "account": package.account, "day": day, "meter": meter.key, "package": package.package, "quota": quota, "used": 0,
        "remaining": quota, "utilization": 0.0 if quota else 1.0,
        "workspaces": [Share(workspace=w, demand=0, covered=0) for w in package.workspaces],
        "burn_rate_per_minute": 0, "exhausts_at": None, "version": None, "at": None,
    }  # fmt: skip


def workspace_meters(
    workspace: str, account: Account, day: date, catalog: Catalog, figures: Figures | None
) -> list[WorkspaceMeter]:
    """Every meter that a package of the workspace has, or that it used."""
    rows = quota_rows(account, day, catalog, live_statuses(figures, day), workspace)
    over = [orjson.loads(value) for (when, who, *_), (_, value) in (figures.overage if figures else {}).items()
            if when == str(day) and who == workspace]  # fmt: skip
    meters = []
    for meter in catalog.meters:
        covers = [cover for row in rows if row.meter == meter for cover in _covers(row, workspace)]
        payg = [
            PaygQuantity.model_validate(o)
            for o in over
            if o["meter"] == meter and o["basis"] == "payg" and o["quantity"]
        ]
        overage = sum(o["quantity"] for o in over if o["meter"] == meter and o["basis"] == "package")
        covered = sum(cover.covered for cover in covers)
        if covers or payg or overage:
            meters.append(
                WorkspaceMeter(meter=meter, demand=covered + overage, covered=covered, overage=overage, packages=covers, payg=payg)
            )  # fmt: skip
    return meters


def _covers(row: QuotaRow, workspace: str) -> Iterable[Cover]:
    for place, share in enumerate(row.workspaces, start=1):
        if share.workspace == workspace:
            yield Cover(place=place, demand=share.demand, covered=share.covered,
                        **row.model_dump(include={"package", "kind", "order", "quota", "used", "remaining", "version"}))  # fmt: skip


def free_limits(binding: WorkspaceBinding, meters: list[WorkspaceMeter], catalog: Catalog) -> list[FreeLimit]:
    """The Free plan's daily limits and how much of them is used; empty for other plans."""
    if binding.plan != "free":
        return []
    used = {m.meter: m.demand + sum(p.quantity for p in m.payg) for m in meters}
    return [
        FreeLimit(meter=m.key, limit=m.free_daily, used=used.get(m.key, 0), stop=used.get(m.key, 0) >= m.free_daily)
        for m in catalog.meters.values()
        if m.free_daily is not None
    ]
