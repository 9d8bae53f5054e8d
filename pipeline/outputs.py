"""Outputs: what an account says when its ledger changed. All carry running totals and the account's version.

An output that is lost, repeated or reordered heals with the next one; a reader takes the newest version (semantics.md, 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from hashlib import blake2b

from msgspec import Struct

from pipeline.account import Account, Day, Drawn
from pipeline.alerts import alerts_of, decide, foresee
from pipeline.days import MICROS_PER_MINUTE, day_bounds, to_instant
from pipeline.law import ensure
from pipeline.rating import basis_of
from pipeline.waterfall import Draw
from schemas.catalog import Catalog
from schemas.topics import ALERTS, LINES_MAX, OVERAGE, QUOTA_STATUS, USAGE_TOTALS, Topic
from schemas.wire import OverageEvent, QuotaStatus, UsageTotal, UsageTotals

#: (topic, key, value).
Output = tuple[Topic, str, Struct]

#: The burn rate looks back that many minutes (semantics.md, section 7).
BURN_MINUTES = 15
#: Use within fewer minutes than that is a burst, and no trend.
_USE_MINUTES_MIN = 2
_UTILIZATION_STEP = 10_000


def outputs_of(catalog: Catalog, account: Account, at_micros: int) -> Iterator[Output]:
    """Everything that changed in the account since it last spoke."""
    at = to_instant(at_micros)
    for when in sorted(account.dirty_days):
        day = account.days[when]
        for totals in _totals(catalog, account, when, day, at):
            yield USAGE_TOTALS, account.account, totals
        for meter in sorted(day.dirty_meters):
            before, now = day.published[meter], account.draw(catalog, when, meter)
            yield from _overage(account, when, day, meter, before, now, at)
            for key, status in _statuses(account, when, meter, before, now, at_micros):
                yield QUOTA_STATUS, key, status
                foresee(account, status)
            day.published[meter] = now
        decide(catalog, account, when, {meter: day.published[meter] for meter in sorted(day.dirty_meters)})
        day.dirty_meters.clear()
        day.just_settled = False
    account.undecided.clear()
    account.may_fall = False
    yield from ((ALERTS, account.account, alert) for alert in alerts_of(account, at))


def _totals(catalog: Catalog, account: Account, when: date, day: Day, at: datetime) -> Iterator[UsageTotals]:
    changed = [day.order[index] for index in sorted(set(day.dirty_series))]
    rows = tuple(
        UsageTotal(
            s.workspace, s.meter, s.retention_days, s.total, s.total * catalog.meters[s.meter].factors[s.retention_days]
        )
        for s in changed
    )
    # At least one record, for the counters; several where one would not fit.
    for first in range(0, len(rows) or 1, LINES_MAX):
        yield UsageTotals(
            account.account, when, account.version, at, day.counted, day.duplicates, day.conflicts,
            rows[first : first + LINES_MAX],
        )  # fmt: skip


def _overage(
    account: Account, when: date, day: Day, meter: str, before: Drawn, now: Drawn, at: datetime
) -> Iterator[Output]:
    """One event for each running total that changed, or its plan or prices did, or was settled.

    One that is gone (a package lists it now) becomes 0.
    """
    for key in before.overage.keys() | now.overage.keys() if account.may_fall else now.overage.keys():
        old, new = before.overage.get(key, 0), now.overage.get(key, 0)
        workspace, retention = key
        repriced = before.prices != now.prices or (workspace in before.free) != (workspace in now.free)
        if old == new and not (new and (day.just_settled or repriced)):
            continue
        ensure(new >= old or account.may_fall, "law 5: overage only grows while the packages stand", key, old, new)
        basis = basis_of(retention)
        identity = f"{account.account}\0{when}\0{workspace}\0{meter}\0{basis}\0{retention}\0{account.version}"
        event = OverageEvent(
            id=blake2b(identity.encode(), digest_size=16).hexdigest(),
            account=account.account, day=when, workspace=workspace, meter=meter, basis=basis, retention_days=retention,
            quantity=new, version=account.version, settled=day.revision > 0, at=at, currency=account.currency, site=account.site,
            plan="free" if workspace in now.free else "commercial",
        )  # fmt: skip
        yield OVERAGE, account.account, event


def _statuses(
    account: Account, when: date, meter: str, before: Drawn, now: Drawn, at_micros: int
) -> Iterator[tuple[str, QuotaStatus]]:
    """The status of every package whose draw changed; a package that no longer takes part shows a quota of 0."""
    known = {draw.package.package: draw for draw in before.drawdown.draws}
    for draw in now.drawdown.draws:
        if known.pop(draw.package.package, None) != draw or account.may_fall:
            yield _status(account, when, meter, draw, at_micros)
    for gone in known.values():
        shares = tuple(type(s)(s.workspace, s.demand, 0) for s in gone.shares)
        yield _status(account, when, meter, Draw(gone.package, 0, 0, shares), at_micros)


def _status(account: Account, when: date, meter: str, draw: Draw, at_micros: int) -> tuple[str, QuotaStatus]:
    package, left = draw.package.package, draw.quota - draw.used
    rate = _burn(account, when, meter, draw, at_micros)
    exhausts_at = None
    if left and rate:
        ends = at_micros + left * MICROS_PER_MINUTE // rate
        exhausts_at = to_instant(ends) if ends < day_bounds(when, account.time_zone)[1] else None
    steps = draw.used * _UTILIZATION_STEP // draw.quota if draw.quota else _UTILIZATION_STEP
    status = QuotaStatus(
        account=account.account, day=when, meter=meter, package=package, quota=draw.quota, used=draw.used, remaining=left,
        utilization=Decimal(steps) / _UTILIZATION_STEP, workspaces=draw.shares, burn_rate_per_minute=rate,
        exhausts_at=exhausts_at, version=account.version, at=to_instant(at_micros),
    )  # fmt: skip
    return f"{account.account}/{when}/{meter}/{package}", status


def _burn(account: Account, when: date, meter: str, draw: Draw, at_micros: int) -> int:
    """Converted quantity drawn a minute, over the last minutes of the day; 0 until two of these minutes have seen use.

    Samples are what was used at the end of a minute; the first one is where the window begins. It begins anew after a package
    or a correction, for what they move is no usage.
    """
    day, name, minute = account.days[when], (draw.package.package, meter), at_micros // MICROS_PER_MINUTE
    start = max(minute - BURN_MINUTES, day_bounds(when, account.time_zone)[0] // MICROS_PER_MINUTE)
    known = [(minute - 1, draw.used)] if account.may_fall else day.burn.get(name, [(start, 0)])
    samples = [(start, used) for m, used in known if m <= start][-1:]
    samples += [(m, used) for m, used in known if start < m < minute]
    day.burn[name] = samples = [*samples, (minute, draw.used)]
    if len({used for _, used in samples}) <= _USE_MINUTES_MIN:
        return 0
    first_minute, first_used = samples[0]
    return max(draw.used - first_used, 0) // (minute - first_minute)
