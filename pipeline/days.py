"""Days: the rating period is a calendar day in the account's time zone (semantics.md, sections 1 and 4).

Instants are integers: microseconds since 1970-01-01T00:00Z. A day may last 23, 24 or 25 hours.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

MICROS_PER_SECOND = 1_000_000
MICROS_PER_MINUTE = 60 * MICROS_PER_SECOND
MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_DAY = timedelta(days=1)


def to_micros(instant: datetime) -> int:
    """Microseconds since the epoch of an aware datetime, exactly."""
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * MICROS_PER_SECOND + since.microseconds


def all_to_micros(instants: Iterable[datetime]) -> npt.NDArray[Any]:
    """The same of many at once."""
    since = [instant - _EPOCH for instant in instants]
    days, seconds = np.array([s.days for s in since], np.int64), np.array([s.seconds for s in since], np.int64)
    micros: npt.NDArray[Any] = np.array([s.microseconds for s in since], np.int64)
    micros += (days * 86_400 + seconds) * MICROS_PER_SECOND
    return micros


def to_instant(micros: int) -> datetime:
    """The aware UTC datetime of an instant."""
    return _EPOCH + micros * _MICROSECOND


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The IANA time zone; raises `KeyError` (`ZoneInfoNotFoundError`) or `ValueError` for a name that is none."""
    return ZoneInfo(name)


@lru_cache(maxsize=65_536)
def day_bounds(day: date, zone_name: str) -> tuple[int, int]:
    """First instant of the day and of the next one, half-open."""
    return _midnight(day, zone_name), _midnight(day + _ONE_DAY, zone_name)


def day_of(micros: int, zone_name: str) -> date:
    """The day that an instant belongs to."""
    return to_instant(micros).astimezone(zone(zone_name)).date()


def _midnight(day: date, zone_name: str) -> int:
    """Where local midnight does not exist or exists twice, the first instant of the calendar date.

    `fold=0` gives the first of two midnights. For a midnight that a clock change skips, the conversion gives an instant
    past the gap's start by the skipped length; stepping back onto the change is done by searching the date boundary.
    """
    tz = zone(zone_name)
    guess = to_micros(datetime(day.year, day.month, day.day, tzinfo=tz).astimezone(UTC))
    if to_instant(guess).astimezone(tz).date() >= day and to_instant(guess - 1).astimezone(tz).date() < day:
        return guess
    low, high = guess - 86_400 * MICROS_PER_SECOND, guess + 86_400 * MICROS_PER_SECOND
    while high - low > 1:
        middle = (low + high) // 2
        if to_instant(middle).astimezone(tz).date() >= day:
            high = middle
        else:
            low = middle
    return high
