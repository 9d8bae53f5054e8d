"""The second path of `drawdown verify` on its own: it agrees with the oracle, and finds every figure that is off."""

from __future__ import annotations

import random
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from agents.evidence import day_in
from driver import CATALOG
from oracle import Answer, answer, charge
from pipeline.account import Account
from pipeline.audit import (
    ALLOCATION,
    CHARGE,
    EVENTS,
    OVERAGE,
    STATEMENT,
    TOTAL,
    Corrected,
    Evidence,
    Figures,
    Gain,
    Planned,
    Row,
    differences,
    recompute,
)
from schemas.wire import Package, WorkspaceBinding
from world import make_world

DAY = date(2026, 11, 24)
CUT = 9
PACKAGE = Package(
    "p", "a", "plan", ("A", "B"), {"logs": 150_000_000}, DAY, DAY, datetime(2026, 11, 1, tzinfo=UTC)
)  # fmt: skip
GAINS = [Gain(cut, w, "logs", 14, 1, 0, 0, 50_000_000, 50_000_000) for cut in (5, CUT) for w in "AB"]


def evidence(**more: Any) -> Evidence:
    """The purchase page: A and B use 100M of 150M, one half of it behind the first cut."""
    plain = {
        "day": DAY,
        "gains": GAINS,
        "corrections": [],
        "packages": [PACKAGE],
        "plans": [],
        "site": "cn",
        "currency": "CNY",
    }
    return Evidence(**plain | more)


def some(figures: Figures, what: str) -> dict[tuple[Any, ...], Any]:
    """The amounts of one kind that are not 0."""
    return {key: values[0] for (kind, key), values in figures.items() if kind == what and values[0]}


def rows(figures: Figures, version: int) -> list[Row]:
    return [Row(what, key, values, version) for (what, key), values in figures.items()]


def test_the_purchase_page() -> None:
    figures = recompute(CATALOG, evidence(revision=1), CUT)
    assert some(figures, ALLOCATION) == {("logs", "p", "A"): 100_000_000, ("logs", "p", "B"): 50_000_000}
    assert some(figures, OVERAGE) == {("B", "logs", "package", None): 50_000_000}
    assert figures[CHARGE, ("B", "logs", "package", None)] == (75, 50, Decimal("1.5"))
    assert figures[STATEMENT, (1,)] == (75,)
    assert figures[EVENTS, ()] == (4, 4, 0, 0)


def test_a_figure_of_an_earlier_cut() -> None:
    assert some(recompute(CATALOG, evidence(), 5), TOTAL) == {
        ("A", "logs", 14): 50_000_000,
        ("B", "logs", 14): 50_000_000,
    }


def test_corrections_never_go_below_zero_and_count_at_their_place() -> None:
    corrections = [
        Corrected(7, "B", "logs", 14, -80_000_000), Corrected(8, "B", "logs", 14, -80_000_000),
        Corrected(CUT, "B", "logs", 14, 70_000_000), Corrected(CUT, "C", "hosts", 0, 3),
    ]  # fmt: skip
    figures = recompute(CATALOG, evidence(corrections=corrections), CUT)
    assert some(figures, TOTAL) == {("A", "logs", 14): 100_000_000, ("B", "logs", 14): 10_000_000, ("C", "hosts", 0): 3}
    assert some(recompute(CATALOG, evidence(corrections=corrections), 5), TOTAL) == {
        ("A", "logs", 14): 50_000_000,
        ("B", "logs", 14): 50_000_000,
    }


@pytest.mark.parametrize("seed", range(4))
def test_random_worlds_agree_with_the_oracle(seed: int) -> None:
    now = datetime(2026, 11, 24, 10, tzinfo=UTC)
    world = make_world(seed, now)
    expected = answer(world.records, world.bindings, world.packages, dict(CATALOG.meters), now)
    packages = [msgspec.convert(p, Package, strict=False) for p in world.packages]
    for account, day in {(a, d) for a, d, *_ in expected.totals}:
        mine = _of_day(expected, account, day)
        gains = [Gain(CUT, w, m, r, 1, 0, 0, total, total) for (w, m, r), total in mine.totals.items()]  # type: ignore[misc]
        own = [p for p in packages if p.account == account]
        plans = [Planned(0, b["workspace"], b.get("plan", "commercial"), date.min) for b in world.bindings]
        figures = recompute(CATALOG, evidence(day=day, gains=gains, packages=own, plans=plans), CUT)
        assert some(figures, ALLOCATION) == mine.covered, f"seed {seed}"
        assert some(figures, OVERAGE) == mine.overage, f"seed {seed}"
        for (workspace, meter, basis, retention), quantity in mine.overage.items():  # type: ignore[misc]
            definition = CATALOG.meters[meter]
            tier = definition.default_retention if retention is None else retention
            price = CATALOG.price(meter, tier, "cn", "CNY", day)
            free = price is None or workspace in expected.free
            wanted = None if free else charge(quantity, definition.unit_size, str(price))
            assert figures[CHARGE, (workspace, meter, basis, retention)][0] == wanted, f"seed {seed}"


def _of_day(expected: Answer, account: str, day: date) -> Answer:
    """The oracle's answer for one account's day, without account and day, and without what is 0."""

    def part(table: dict[Any, int], zeros: bool = False) -> dict[Any, int]:
        return {key[2:]: v for key, v in table.items() if key[:2] == (account, day) and (v or zeros)}

    return Answer(part(expected.totals, True), part(expected.covered), part(expected.overage))  # type: ignore[arg-type]


def test_what_the_ledger_says_rightly_makes_no_difference() -> None:
    """Rows of before the cut must say what holds there; rows of later what holds at their own version."""
    at_5, at_9 = (recompute(CATALOG, evidence(), cut) for cut in (5, CUT))
    figures = {5: at_5, CUT: at_9}
    assert not [*differences(rows(at_5, 3), figures.__getitem__, 5)]
    assert not [*differences(rows(at_9, CUT), figures.__getitem__, 5)]
    assert [*differences(rows(at_5, 3), figures.__getitem__, CUT)]


def test_a_row_of_nothing_is_no_row() -> None:
    nothing = recompute(CATALOG, evidence(gains=[]), CUT)
    assert not [*differences([], {CUT: nothing}.__getitem__, CUT)]
    gone = Row(ALLOCATION, ("logs", "ended", "A"), (0, 5), 1)
    assert not [*differences([gone], {CUT: nothing}.__getitem__, CUT)]


def test_every_figure_that_is_off_is_found_and_named() -> None:
    """One off by one, one missing, one too many: always exactly that one."""
    figures = recompute(CATALOG, evidence(revision=1), CUT)
    said = [row for row in rows(figures, CUT) if row.values[0]]
    rng = random.Random(1)
    for i, row in enumerate(said):
        place = rng.randrange(len(row.values))
        wrong = (*row.values[:place], row.values[place] + 1, *row.values[place + 1 :])
        for tampered in ([*said[:i], Row(row.what, row.key, wrong, CUT), *said[i + 1 :]], said[:i] + said[i + 1 :]):
            found = [*differences(tampered, {CUT: figures}.__getitem__, CUT)]
            assert [(d.what, d.key, d.recomputed) for d in found] == [(row.what, row.key, row.values)]
    extra = Row(OVERAGE, ("Z", "logs", "payg", 14), (1,), CUT)
    (found,) = differences([*said, extra], {CUT: figures}.__getitem__, CUT)
    assert (found.key, found.streamed, found.recomputed) == (extra.key, (1,), None)


def test_what_has_no_price_has_no_amount() -> None:
    figures = recompute(CATALOG, evidence(currency="EUR", revision=1), CUT)
    assert figures[CHARGE, ("B", "logs", "package", None)] == (None, None, None)
    assert figures[STATEMENT, (1,)] == (0,)


plan_changes = st.lists(st.tuples(st.sampled_from(["free", "commercial"]), st.integers(-3, 3)), min_size=1, max_size=8)


@given(plan_changes)
def test_ledger_and_audit_agree_on_who_is_free(changes: list[tuple[str, int]]) -> None:
    """Whatever bindings say in the log, also when clocks go back: the plan of each day is the same on both paths."""
    account, plans = Account("a"), []
    for number, (plan, days) in enumerate(changes):
        since = DAY + timedelta(days=days)
        same = number > 0 and account.bindings["A"].plan == plan
        around = [DAY + timedelta(days=days) for days in range(-5, 6)]
        before = [account.free_on(day) for day in around]
        account.bind(WorkspaceBinding("A", "a", plan=plan), since)  # type: ignore[arg-type]
        # The fold prices days anew only when the plan changes: one that says the same must change none.
        assert not same or before == [account.free_on(day) for day in around]
        plans.append(Planned(number, "A", plan, since))
        gains = [Gain(number, "A", "logs", 14, 1, 0, 0, 10**6, 10**6)]
        for day in around:
            figures = recompute(CATALOG, evidence(day=day, gains=gains, packages=[], plans=plans, revision=1), CUT)
            assert (account.free_on(day) == {"A"}) == (figures[STATEMENT, (1,)][0] == 0)


def test_the_driver_gives_utc_without_saying_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """23:30 UTC is the next day in Shanghai and the same in UTC, whatever the host's own time is."""
    naive = datetime(2026, 11, 24, 23, 30)  # noqa: DTZ001  # what the driver gives
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        for at in (naive, naive.replace(tzinfo=UTC)):
            assert (day_in("UTC", at), day_in("Asia/Shanghai", at)) == (DAY, DAY + timedelta(days=1))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_ended_package_covers_nothing() -> None:
    ended = structs.replace(PACKAGE, status="ended")
    figures = recompute(CATALOG, evidence(packages=[ended]), CUT)
    assert some(figures, OVERAGE) == {("A", "logs", "payg", 14): 100_000_000, ("B", "logs", "payg", 14): 100_000_000}
