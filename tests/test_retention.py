"""Default retentions that change: an event gets the one of its own time, whatever arrives when, twice, or after a restart."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from driver import CATALOG, LIMITS, Core, essence
from oracle import answer
from pipeline.days import day_bounds, day_of, to_instant, to_micros
from pipeline.retention import HORIZON_DAYS_MAX, retention_at, succeed
from pipeline.routing import Router
from schemas.wire import WorkspaceBinding
from test_settlement import step
from world import binding, event

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LOGS = CATALOG.meters["logs"]
MINUTE = timedelta(minutes=1)


def changed(old: WorkspaceBinding, days: int, at: datetime) -> WorkspaceBinding:
    """After a change of the default retention of logs."""
    return succeed(CATALOG, old, structs.replace(old, retention_days={"logs": days}), to_micros(at))


def held(one: WorkspaceBinding, at: datetime) -> int:
    """The default retention of logs at an instant."""
    return retention_at(one, LOGS, to_micros(at))


def test_the_first_change_of_a_day_holds_at_once_and_the_last_one_from_the_next_day_on() -> None:
    """14 days; at 12:00:20 30 days, then 60, 14 and again 60; the next day the first change holds at once again."""
    one = changed(WorkspaceBinding("A", "acct"), 30, NOW + timedelta(seconds=20))
    assert (held(one, NOW + timedelta(seconds=59)), held(one, NOW + MINUTE)) == (14, 30)
    for number, days in enumerate((60, 14, 60)):
        one = changed(one, days, NOW + (number + 2) * MINUTE)
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    assert (held(one, NOW), held(one, midnight - timedelta(microseconds=1)), held(one, midnight)) == (14, 30, 60)
    one = changed(one, 14, midnight + timedelta(hours=1))
    assert (held(one, midnight), held(one, midnight + timedelta(hours=1, minutes=1))) == (60, 14)
    assert (held(one, NOW), held(one, NOW + MINUTE)) == (14, 30)


def test_a_change_that_is_taken_back_before_it_holds_leaves_nothing() -> None:
    """The second change of the day back to what holds: nothing waits for midnight. And the same once more is no change."""
    one = changed(WorkspaceBinding("A", "acct"), 30, NOW)
    assert changed(changed(one, 60, NOW + 2 * MINUTE), 30, NOW + 3 * MINUTE) == one
    assert changed(one, 30, NOW + 2 * MINUTE) == one


def test_a_change_holds_half_a_minute_later_at_the_earliest_and_the_past_is_kept_for_any_horizon() -> None:
    """At 12:00:29 from 12:01 on, at 12:00:31 from 12:02 on; 400 days later a late event still gets what held at its time."""
    for seconds, minutes in ((29, 1), (30, 2), (59, 2)):
        one = changed(WorkspaceBinding("A", "acct"), 30, NOW + timedelta(seconds=seconds))
        starts = NOW + minutes * MINUTE
        assert (held(one, starts - timedelta(microseconds=1)), held(one, starts)) == (14, 30)
    later = changed(one, 60, NOW + timedelta(days=HORIZON_DAYS_MAX))
    assert (held(later, NOW), held(later, NOW + 3 * MINUTE)) == (14, 30)


changes = st.lists(st.tuples(st.sampled_from([14, 30, 60]), st.integers(0, 4 * 24 * 60)), max_size=12)


@given(changes, st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York"]))
def test_a_day_has_at_most_two_defaults(plan: list[tuple[int, int]], zone: str) -> None:
    """Played against the rule, change by change: what holds at each instant afterwards, and that the past never changes."""
    one, first, waiting, split = WorkspaceBinding("A", "acct", time_zone=zone), 14, None, None
    for days, minutes in sorted(plan, key=lambda change: change[1]):
        at = NOW + minutes * MINUTE
        day = day_of(to_micros(at + MINUTE), zone)
        if waiting is not None and waiting[0] <= day:
            first, waiting = waiting[1], None
        before = one
        one = changed(one, days, at)
        end = to_instant(day_bounds(day, zone)[1])
        starts = to_micros(at + MINUTE) == day_bounds(day, zone)[0]
        if days != first and split != day:
            first, split = days, None if starts else day
        elif split == day:
            waiting = (day_of(to_micros(end), zone), days) if days != first else None
        assert held(one, at + MINUTE) == first
        assert held(one, end) == (waiting[1] if waiting else first)
        for hours in range(96):
            earlier = NOW + timedelta(hours=hours)
            assert earlier > at or held(one, earlier) == held(before, earlier)


def events(rng: random.Random) -> list[tuple[int, int, bytes | None, bytes]]:
    """Events around the changes, most of them without a retention, a fifth of them twice."""
    found = []
    for number in range(120):
        time = NOW + timedelta(minutes=rng.randrange(-40 * 60, 0))
        one = event("A", "logs", rng.randrange(100), f"e{number}", time, rng.choice([None, None, None, 30]))
        found += [(b"A", json.dumps(one).encode())] * (1 + (rng.random() < 0.2))
    rng.shuffle(found)
    return [(0, offset, key, value) for offset, (key, value) in enumerate(found)]


def document(rng: random.Random) -> dict[str, Any]:
    """A binding whose default changed a few times within the last two days."""
    one = WorkspaceBinding("A", "acct", time_zone=rng.choice(["UTC", "Asia/Kolkata"]))
    for hours in sorted(rng.choices(range(-40, 0), k=rng.randrange(1, 6))):
        one = changed(one, rng.choice([14, 30, 60]), NOW + timedelta(hours=hours, seconds=rng.randrange(3600)))
    found: dict[str, Any] = json.loads(msgspec.json.encode(one))
    return found


@pytest.mark.parametrize("seed", range(30))
def test_totals_are_those_of_the_oracle_in_any_order_and_after_restarts(seed: int) -> None:
    """Routing forgets everything between chunks, and copies come on both sides: a copy is always a duplicate."""
    rng = random.Random(seed)
    bound = document(rng)
    records, core = events(rng), Core(NOW)
    core.bind([bound])
    for start in range(0, len(records), 20):
        if rng.random() < 0.3:
            core.router = Router(CATALOG, LIMITS)
            core.router.bind(msgspec.convert(bound, WorkspaceBinding, strict=False))
        core.send(records[start : start + 20])
        step(core)
        if rng.random() < 0.3:
            core.crash()
    step(core)
    expected = answer(records, [binding("A", "acct") | bound], [], dict(CATALOG.meters), NOW)
    assert essence(core.view) == essence(expected), f"seed {seed}"
    assert "conflicting_duplicate" not in expected.outcomes
