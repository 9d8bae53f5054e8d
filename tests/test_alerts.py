"""Alerts in the fold, against an independent oracle that looks at everything after every single event."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from alert_oracle import AlertOracle, Rules, Said
from driver import CATALOG, Core
from schemas.alerting import AlertRules
from schemas.log import AlertRulesChanged, Correction, DaySettled, encode_account_event
from schemas.wire import Alert
from world import binding, event, package

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WORKSPACES = ("A", "B", "C")
#: meter -> (retention, factor of the quantities).
METERS = {"logs": (14, 100_000), "hosts": (0, 1), "triggers": (0, 1000)}
QUOTAS = (0, 10, 20, 40, 50, 80)

SHARES = st.sampled_from([Decimal(n) / 20 for n in range(1, 21)])
days = st.sampled_from([0, 0, 0, 1])
workspaces, meters = st.sampled_from(WORKSPACES), st.sampled_from(list(METERS))
amounts = st.sampled_from([Decimal("1.5"), Decimal(3), Decimal("7.5"), Decimal(30)])
usage = st.tuples(st.just("use"), days, workspaces, meters, st.integers(0, 25))
cut = st.sampled_from([("checkpoint",), ("crash",)])
steps = st.lists(
    st.one_of(
        usage, usage, cut,
        st.tuples(
            st.just("package"), st.sampled_from("pq"), meters, st.sampled_from(QUOTAS),
            st.permutations(WORKSPACES).map(lambda names: names[:2]), st.sampled_from(["active", "active", "ended"]),
        ),
        st.tuples(st.just("correct"), days, workspaces, meters, st.integers(-40, 10)),
        st.tuples(
            st.just("rules"), st.lists(SHARES, unique=True, max_size=3), st.sampled_from([Decimal(0), Decimal("0.1")]),
            st.none() | st.lists(meters, unique=True), st.dictionaries(meters, amounts), st.none() | amounts,
        ),
        st.tuples(st.just("plan"), workspaces, st.sampled_from(["free", "commercial"])),
        st.tuples(st.just("settle"), days),
    ),
    min_size=12,
    max_size=40,
)  # fmt: skip
#: What every play begins with: two meters with a quota, and amounts.
OFFER = (
    ("package", "p", "logs", 20, ["A", "B"], "active"),
    ("package", "q", "hosts", 10, ["B", "C"], "active"),
    ("rules", [Decimal("0.8"), Decimal(1)], Decimal("0.1"), None, {"hosts": Decimal(30)}, Decimal("7.5")),
)


class Play:
    """Plays steps to the core and to the oracle."""

    def __init__(self) -> None:
        self.core, self.oracle = Core(NOW), AlertOracle(dict(CATALOG.meters))
        self.core.bind(binding(w, "acct") for w in WORKSPACES)
        self.number = 0

    def step(self, kind: str, *what: Any) -> None:
        """One step; cuts are none of the oracle's business."""
        self.number += 1
        if kind == "checkpoint":
            self.core.fold()
            self.core.checkpoint()
        elif kind == "crash":
            self.core.fold()
            self.core.crash()
        else:
            getattr(self, f"_{kind}")(*what)
            self.oracle.look()

    def _use(self, days: int, workspace: str, meter: str, quantity: int) -> None:
        retention, factor = METERS[meter]
        moment = NOW - timedelta(days=days)
        value = event(workspace, meter, quantity * factor, f"e{self.number}", moment)
        self.core.send([(0, self.number, workspace.encode(), json.dumps(value).encode())])
        self.oracle.use(moment.date(), workspace, meter, retention, quantity * factor)

    def _package(self, name: str, meter: str, quota: int, names: list[str], status: str) -> None:
        document = package(name, "acct", list(names), {meter: quota * METERS[meter][1]}, NOW, status=status)
        self.core.buy([document])
        self.oracle.packages[name] = document

    def _correct(self, days: int, workspace: str, meter: str, quantity: int) -> None:
        (retention, factor), day = METERS[meter], (NOW - timedelta(days=days)).date()
        correction = Correction(
            "acct", f"c{self.number}", day, workspace, meter, retention, quantity * factor, "test", "test", NOW
        )
        self.core.log.append(encode_account_event(correction))
        self.oracle.corrected[day, workspace, meter, retention] += quantity * factor

    def _rules(
        self, thresholds: list[Decimal], hysteresis: Decimal, meters: list[str] | None, amounts: dict[str, Decimal],
        total: Decimal | None,
    ) -> None:  # fmt: skip
        some = None if meters is None else tuple(meters)
        rules = AlertRules("acct", tuple(thresholds), hysteresis, some, amounts=amounts, total_amount=total)
        self.core.log.append(encode_account_event(AlertRulesChanged("acct", rules)))
        self.oracle.rules = Rules(thresholds, hysteresis, meters, amounts, total)

    def _plan(self, workspace: str, plan: str) -> None:
        self.core.bind([binding(workspace, "acct", plan=plan)])
        self.oracle.free.pop(workspace, None)
        if plan == "free":
            self.oracle.free[workspace] = NOW.date()

    def _settle(self, days: int) -> None:
        """A day that has nothing to settle is not settled by that, also when a checkpoint has shown its unused packages."""
        day = (NOW - timedelta(days=days)).date()
        self.core.log.append(encode_account_event(DaySettled("acct", day, NOW)))
        if any(d == day for d, *_ in self.oracle.counted.keys() | self.oracle.corrected.keys()):
            self.oracle.settled.add(day)


def said(alerts: list[Alert]) -> list[Said]:
    """What the oracle says of an alert; it knows no wallet (`test_billing.py` has alerts of debts)."""
    return [
        (a.kind, a.day, a.meter, a.package, a.threshold or Decimal(0), a.firing) for a in alerts if a.kind != "arrears"
    ]


FULL, CUT = ("use", 0, "A", "logs", 20), ("checkpoint",)
BIGGER = ("package", "p", "logs", 40, ["A", "B"], "active")


@example([CUT, ("settle", 0), FULL])
@example([FULL, BIGGER, FULL])
@example([FULL, CUT, BIGGER, FULL])
@example([FULL, CUT, BIGGER, CUT, FULL])
@example(
    [
        ("use", 0, "A", "triggers", 20),
        ("use", 0, "C", "hosts", 25),
        CUT,
        ("plan", "C", "free"),
        ("plan", "C", "commercial"),
    ]
)
@example([("use", 0, "C", "hosts", 25), ("plan", "C", "free"), ("plan", "C", "commercial")])
@settings(max_examples=150, deadline=None)
@given(steps)
def test_alerts_equal_the_oracle_however_the_log_is_cut(plan: list[tuple[Any, ...]]) -> None:
    """Each threshold that was reached fires once for each arming, none that was not; crashes repeat and lose nothing."""
    play = Play()
    for step in (*OFFER, *plan, ("checkpoint",)):
        play.step(*step)
    alerts = play.core.alerts
    assert sorted(said(alerts), key=repr) == sorted(play.oracle.said, key=repr)
    assert len({alert.id for alert in alerts}) == len(alerts)
    again = Core(NOW)
    again.log = play.core.log
    again.fold()
    again.checkpoint()
    assert {alert.id for alert in again.alerts} == {alert.id for alert in alerts}, "a replay says the same alerts"


def play(*steps: tuple[Any, ...]) -> list[Said]:
    """What is said after the offer and these steps."""
    one = Play()
    for step in (*OFFER, *steps, CUT):
        one.step(*step)
    return said(one.core.alerts)


def test_a_threshold_fires_at_it_and_not_below() -> None:
    """15 of 20 are below 0.8, 16 are at it."""
    assert play(("use", 0, "A", "logs", 15)) == []
    assert play(("use", 0, "A", "logs", 16)) == [("threshold", NOW.date(), "logs", "p", Decimal("0.8"), 1)]


def test_an_upgrade_rearms_what_it_takes_below_the_hysteresis() -> None:
    """Both thresholds fire again after the quota was doubled, as the second firing of the day; without it they do not."""
    day = NOW.date()
    first = [("threshold", day, "logs", "p", Decimal(t), 1) for t in ("0.8", "1")]
    assert play(FULL, CUT, FULL, CUT, ("use", 0, "B", "logs", 1)) == first
    assert play(FULL, CUT, BIGGER, CUT, FULL) == first + [(*one[:-1], 2) for one in first]
    small = ("package", "p", "logs", 22, ["A", "B"], "active")
    assert play(FULL, CUT, small, CUT, ("use", 0, "A", "logs", 25)) == first, "20 of 22 are not below 0.7"


def test_a_correction_rearms() -> None:
    """A correction that takes the use below 0.7 of the quota."""
    again = play(FULL, CUT, ("correct", 0, "A", "logs", -10), CUT, ("use", 0, "A", "logs", 6))
    assert [(threshold, firing) for *_, threshold, firing in again] == [
        (Decimal("0.8"), 1), (Decimal(1), 1), (Decimal("0.8"), 2),
    ]  # fmt: skip


def test_a_settled_day_is_silent() -> None:
    """Late usage of a settled day, and of the days before it, changes the statement and warns nobody."""
    assert play(("use", 0, "A", "logs", 1), CUT, ("settle", 0), FULL, ("use", 1, "A", "logs", 20)) == []


def test_high_consumption_of_a_meter_and_of_all() -> None:
    """10 hosts over the quota are 30.00, which does not pass 30, but 7.5; 11 are 33.00."""
    day = NOW.date()
    total = ("high_consumption", day, "", None, Decimal("7.5"), 1)
    quota = [("threshold", day, "hosts", "q", Decimal(t), 1) for t in ("0.8", "1")]
    assert play(("use", 0, "C", "hosts", 20)) == [*quota, total]
    assert play(("use", 0, "C", "hosts", 21)) == [
        *quota,
        ("high_consumption", day, "hosts", None, Decimal(30), 1),
        total,
    ]


class Clock(Play):
    """A play in which A uses logs minute by minute, in tenths of a million; the quota is 20 of them."""

    def __init__(self) -> None:
        super().__init__()
        for step in (*OFFER, CUT):
            self.step(*step)

    def minutes(self, *quantities: int) -> list[tuple[Any, ...]]:
        """So much in each of the next minutes; the forecasts up to then: (firing, used, expected minute)."""
        for quantity in quantities:
            self.core.now += 60_000_000
            if quantity:
                self.step("use", 0, "A", "logs", quantity)
                self.step(*CUT)
        forecasts = [alert for alert in self.core.alerts if alert.kind == "forecast"]
        return [(a.firing, a.value // 100_000, f"{a.exhausts_at:%H:%M:%S}") for a in forecasts]


def test_a_forecast_names_the_minute_and_does_not_flap() -> None:
    """1 + 1 of 20 in three minutes: the other 18 last 27 more. It is said once, whatever the rate does, until an upgrade."""
    play = Clock()
    first = (1, 2, "12:29:00")
    assert play.minutes(1, 1) == [first]
    assert play.minutes(*[0] * 20, 1, 2, 1) == [first]
    play.core.crash()
    assert play.minutes(1, 1) == [first]
    play.step(*BIGGER)
    play.step(*CUT)
    assert play.minutes(1, 2) == [first, (2, 11, "12:58:00")]
    play.core.crash()
    assert len(play.minutes(1, 2)) == 2


def test_what_is_no_trend_makes_no_forecast() -> None:
    """A burst within one minute, a purchase that moves what was used before it, and a rate that lasts until midnight."""
    assert Clock().minutes(0, 0, 0, 15) == []
    play = Clock()
    for step in (("use", 0, "C", "logs", 15), CUT, ("package", "p", "logs", 40, ["C", "A"], "active"), CUT):
        play.step(*step)
    assert play.minutes(0, 0, 1) == []
    play = Clock()
    play.step("package", "p", "logs", 80, ["A", "B"], "active")
    assert play.minutes(1, *[0] * 14, 1, *[0] * 14, 1) == []
