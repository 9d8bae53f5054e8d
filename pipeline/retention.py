"""Default retentions: what an event that names none gets, also when the default changes within a day (facts sheet, 3.3).

It is the one that held at the event's own time, a function of binding and event alone: in any order of arrival, after any restart
and for every copy the same. So a binding carries what held before (`retention_before`).
"""

from __future__ import annotations

from datetime import date, timedelta

from msgspec import structs

from pipeline.days import MICROS_PER_MINUTE, day_bounds, day_of, to_instant, to_micros
from schemas.catalog import Catalog, Meter
from schemas.wire import Retained, WorkspaceBinding

#: The largest horizon that a worker may have: so many days back an event still counts.
HORIZON_DAYS_MAX = 400
#: What held before so long ago that no event may come from there is dropped from a binding.
_KEPT = timedelta(days=HORIZON_DAYS_MAX + 10)
#: By then every worker knows a binding that was just written.
_KNOWN_MICROS = MICROS_PER_MINUTE // 2


def retention_at(binding: WorkspaceBinding, meter: Meter, micros: int) -> int:
    """The default retention in days at an instant."""
    for past in binding.retention_before.get(meter.key, ()):
        if micros < to_micros(past.until):
            return past.days
    return binding.retention_days.get(meter.key, meter.default_retention)


def is_split(binding: WorkspaceBinding, meter: str, day: date) -> bool:
    """Whether the default changes within the day."""
    past = binding.retention_before.get(meter)
    if not past:
        return False
    start, end = day_bounds(day, binding.time_zone)
    return any(start < to_micros(one.until) < end for one in past)


def succeed(catalog: Catalog, old: WorkspaceBinding, new: WorkspaceBinding, now_micros: int) -> WorkspaceBinding:
    """`new` as it follows `old`: a meter's first change of a day holds at once, later ones, the last, from the next day on.

    At once is from the next full minute on that is at least half a minute away: until then every worker knows it, so no event is
    routed by what it does not know.
    """
    minute = ((now_micros + _KNOWN_MICROS) // MICROS_PER_MINUTE + 1) * MICROS_PER_MINUTE
    start, end = day_bounds(day_of(minute, new.time_zone), new.time_zone)
    before: dict[str, tuple[Retained, ...]] = {}
    for meter, definition in catalog.meters.items():
        default = definition.default_retention
        held, days = (binding.retention_days.get(meter, default) for binding in (old, new))
        past = [one for one in old.retention_before.get(meter, ()) if one.until >= to_instant(now_micros) - _KEPT]
        pending = bool(past) and to_micros(past[-1].until) > minute
        if pending and past[-1].days == days:
            past.pop()
        elif days != held and not pending:
            second = any(start < to_micros(one.until) < end for one in past)
            past.append(Retained(to_instant(end if second else minute), held))
        if past:
            before[meter] = tuple(past)
    return structs.replace(new, retention_before=before)
