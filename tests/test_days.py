"""Days in the account's time zone, with 23, 24 and 25 hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.days import day_bounds, day_of, to_instant, to_micros

ZONES = [
    "UTC",
    "Asia/Shanghai",
    "America/New_York",
    "Asia/Kolkata",
    "America/Havana",
    "Africa/Cairo",
    "Australia/Lord_Howe",
]
FROM, TO = datetime(2020, 1, 1), datetime(2030, 1, 1)  # noqa: DTZ001  # Hypothesis wants them without a zone


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", date(2026, 3, 8), 23), ("America/New_York", date(2026, 11, 1), 25),
        ("Asia/Shanghai", date(2026, 11, 24), 24), ("Africa/Cairo", date(2026, 4, 24), 23),
        ("America/Havana", date(2026, 11, 1), 25),
    ],
)  # fmt: skip
def test_the_length_of_a_day(zone: str, day: date, hours: int) -> None:
    """A day begins at the first instant of its date, also where midnight is skipped or comes twice."""
    start, end = day_bounds(day, zone)
    assert end - start == hours * 3_600_000_000


@given(st.datetimes(FROM, TO), st.sampled_from(ZONES))
def test_bounds_and_day_agree(naive: datetime, zone: str) -> None:
    """An instant lies in the bounds of its day, and the calendar says the same."""
    instant = naive.replace(tzinfo=UTC)
    micros = to_micros(instant)
    start, end = day_bounds(day_of(micros, zone), zone)
    assert start <= micros < end
    assert day_of(micros, zone) == instant.astimezone(ZoneInfo(zone)).date()
    assert (day_of(start - 1, zone), day_of(end, zone)) == (
        day_of(micros, zone) - timedelta(days=1), day_of(micros, zone) + timedelta(days=1),
    )  # fmt: skip


@given(st.datetimes())
def test_micros_are_exact(naive: datetime) -> None:
    """To the microsecond and back."""
    assert to_instant(to_micros(naive.replace(tzinfo=UTC))) == naive.replace(tzinfo=UTC)
