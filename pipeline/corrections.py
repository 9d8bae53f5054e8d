"""Corrections: an operator's signed changes of day totals (semantics.md, section 2; `schemas.log.Correction`).

A series' total is what was counted plus all its corrections, and never below 0: a pure function of both sets.
"""

from __future__ import annotations

from datetime import date

from msgspec import structs

from pipeline.account import Account
from schemas.catalog import Catalog
from schemas.log import Correction
from schemas.reasons import Reason


def correct(catalog: Catalog, account: Account, correction: Correction, floor: date) -> tuple[Reason, str] | None:
    """Include the correction, or say why not; `floor` is the oldest day kept. One whose `id` is known already changes nothing.

    The command that writes corrections checks them against what it knows; the ledger decides.
    """
    if correction.day < floor:
        return Reason.TOO_LATE, f"$.day: {correction.day} is past the horizon of the ledger"
    known = account.corrections.get(correction.id)
    if known is not None:
        if structs.replace(correction, at=known.at) == known:
            return None
        return Reason.CONFLICTING_DUPLICATE, f"$.id: {correction.id!r} was another correction"
    meter = catalog.meters.get(correction.meter)
    if meter is None:
        return Reason.UNKNOWN_METER, f"$.meter: {correction.meter!r}"
    if correction.retention_days not in meter.factors:
        return Reason.UNKNOWN_RETENTION, f"$.retention_days: {meter.key} has no {correction.retention_days} days"
    key = (correction.workspace, correction.meter, correction.retention_days)
    day = account.days.get(correction.day)
    if correction.workspace not in account.bindings and (day is None or key not in day.series):
        return Reason.UNKNOWN_WORKSPACE, f"$.workspace: {correction.workspace!r} is not bound to {account.account!r}"
    day = account.touch(catalog, correction.day, correction.meter)
    series = day.series_of(*key)
    series.corrected += correction.quantity
    day.dirty_series.append(series.index)
    day.stale = True
    account.corrections[correction.id] = correction
    account.new_corrections.append(correction)
    account.may_fall = True
    return None
