"""The state of one account: bindings, packages and, for each day that can still change, the totals of its series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from sys import intern

from msgspec import Struct, field

from pipeline.alarms import Alarms, Fired
from pipeline.law import ensure
from pipeline.plans import PastPlans, past_after, plan_on
from pipeline.wallet import Wallet
from pipeline.waterfall import Drawdown, draw_down, effective_packages
from schemas.alerting import AlertRules
from schemas.catalog import Catalog, Meter
from schemas.log import Correction
from schemas.wire import Package, WorkspaceBinding, WorkspacePlan

#: Series in one state entry: a checkpoint rewrites only the blocks that changed, so a huge account costs what it uses.
BLOCK = 256

#: What holds for an account without any binding.
_UNBOUND = WorkspaceBinding("-", "-")

#: Identifies an overage within (account, day, meter): workspace and, for pay-as-you-go, the retention (None: package).
OverageKey = tuple[str, int | None]


class Series(Struct, array_like=True, gc=False):
    """The day total of one (workspace, meter, retention), in the meter's unit: what events say, and corrections.

    `index` is its place in its day. In a state entry stands what is before it.
    """

    workspace: str
    meter: str
    retention_days: int
    counted: int = 0
    index: int = 0
    corrected: int = 0

    @property
    def total(self) -> int:
        """What is billed: never below 0, so that the order of corrections does not matter."""
        return max(0, self.counted + self.corrected)

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies the series within its day."""
        return (self.workspace, self.meter, self.retention_days)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the totals and packages of one (account, day, meter) say: draws of the packages, and every overage.

    `free`: workspaces that are on the Free plan that day, whose overage costs nothing. `prices`: site and currency, which say
    what the others cost.
    """

    drawdown: Drawdown
    overage: Mapping[OverageKey, int]
    free: frozenset[str]
    prices: tuple[str, str]


class Day(Struct):
    """One day of an account. `published` is, by meter, what the outputs have said last.

    `revision` is that of its newest statement (0: the day is open) and `stated` a digest of that one's lines.
    """

    series: dict[tuple[str, str, int], Series] = {}
    order: list[Series] = []
    by_meter: dict[str, list[Series]] = {}
    counted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    revision: int = 0
    stated: str = ""
    #: Changed since its newest statement.
    stale: bool = False
    #: Settled since the last checkpoint: every overage is said once more, as settled.
    just_settled: bool = False
    #: Pocket -> what the day's newest statement took from it; what no voucher may pay is kept apart.
    paid: dict[str, Decimal] = {}
    paid_apart: dict[str, Decimal] = {}
    published: dict[str, Drawn] = {}
    #: Since the last checkpoint; lists, since an empty set is large, and most days are at rest.
    dirty_series: list[int] = []
    dirty_meters: list[str] = []
    #: (package, meter) -> (minute since the epoch, used) at most one a minute: the burn rate's samples.
    burn: dict[tuple[str, str], list[tuple[int, int]]] = {}
    alarms: Alarms = field(default_factory=Alarms)

    @property
    def unstated(self) -> bool:
        """Whether it waits for a statement: it was used, and none says what holds now."""
        return bool(self.series) and (self.stale or not self.revision)

    def series_of(self, workspace: str, meter: str, retention_days: int) -> Series:
        """The series, made at its first event; its place in the order never changes."""
        found = self.series.get((workspace, meter, retention_days))
        if found is None:
            found = Series(workspace, meter, retention_days)
            self.add(found)
        return found

    def add(self, series: Series) -> None:
        """Append a series."""
        series.index, series.meter = len(self.order), intern(series.meter)
        self.series[series.key] = series
        self.order.append(series)
        self.by_meter.setdefault(series.meter, []).append(series)


class Account(Struct):
    """`version` is the offset in `account-events` of the last event that changed the account."""

    account: str
    version: int = -1
    bindings: dict[str, WorkspaceBinding] = {}
    #: The workspace whose binding is the newest: it says the account's time zone, currency and site.
    newest: str = ""
    #: By workspace, if it had another plan before.
    past_plans: dict[str, PastPlans] = {}
    packages: dict[str, Package] = {}
    #: None: the defaults.
    rules: AlertRules | None = None
    days: dict[date, Day] = {}
    #: Usage partition -> (offset, index) of the last event from there: what comes again at or below it is a replay.
    passed: dict[int, tuple[int, int]] = {}
    wallet: Wallet = field(default_factory=Wallet)
    #: Orders and other commands that were accepted: id -> digest of their content.
    commands: dict[str, str] = {}
    wallet_dirty: bool = False
    #: By id; they leave with their day.
    corrections: dict[str, Correction] = {}
    #: What changed since the last checkpoint: state entries by kind and name, which days, and which corrections are new.
    changed: list[tuple[str, ...]] = []
    dirty_days: set[date] = set()
    #: (day, meter) that changed since alerts were decided; no set, since an empty one is large.
    undecided: dict[tuple[date, str], None] = {}
    #: Alerts that were decided since the last checkpoint.
    fired: list[Fired] = []
    new_corrections: list[Correction] = []
    #: A package or a correction came since the last checkpoint: only then may an overage fall (law 5).
    may_fall: bool = False
    _effective: dict[tuple[date, str], list[Package]] = {}
    _free: dict[date, frozenset[str]] = {}

    @property
    def time_zone(self) -> str:
        """The account's time zone: bindings agree on it; without any binding, UTC."""
        return self.bindings.get(self.newest, _UNBOUND).time_zone

    @property
    def currency(self) -> str:
        """The account's currency."""
        return self.bindings.get(self.newest, _UNBOUND).currency

    @property
    def site(self) -> str:
        """The account's site: it chooses the price list."""
        return self.bindings.get(self.newest, _UNBOUND).site

    @property
    def prices(self) -> tuple[str, str]:
        """Site and currency."""
        return self.site, self.currency

    @property
    def packages_by_name(self) -> list[Package]:
        """The packages in an order that a restored state has, too."""
        return [package for _, package in sorted(self.packages.items())]

    def effective(self, day: date, meter: str) -> list[Package]:
        """The packages of the day's waterfall, in draw-down order; cached until a package changes."""
        found = self._effective.get((day, meter))
        if found is None:
            found = self._effective[day, meter] = effective_packages(self.packages.values(), day, meter)
        return found

    def plan_on(self, workspace: str, day: date) -> WorkspacePlan:
        """The plan of a bound workspace on that day."""
        return plan_on(self.past_plans.get(workspace, []), self.bindings[workspace], day)

    def free_on(self, day: date) -> frozenset[str]:
        """The workspaces that are on the Free plan that day; cached until a binding changes."""
        found = self._free.get(day)
        if found is None:
            found = self._free[day] = frozenset(w for w in self.bindings if self.plan_on(w, day) == "free")
        return found

    def reprices_all(self, binding: WorkspaceBinding) -> bool:
        """Whether it brings the account another price list; usage may come before its first binding."""
        return (binding.site, binding.currency) != self.prices

    def days_repriced(self, binding: WorkspaceBinding, since: date | None) -> list[date]:
        """The days on which what was used there costs something else once it is bound so; without any binding, all is Commercial."""
        if self.reprices_all(binding):
            return list(self.days)
        name = binding.workspace
        old, past = self.bindings.get(name), self.past_plans.get(name, [])
        after = past_after(past, old, binding, since)
        return [d for d in self.days if plan_on(after, binding, d) != (plan_on(past, old, d) if old else "commercial")]

    def bind(self, binding: WorkspaceBinding, since: date | None) -> None:
        """Add or replace a binding; a change of the plan holds from the day `since` on (None: since ever)."""
        name = binding.workspace
        past = past_after(self.past_plans.pop(name, []), self.bindings.get(name), binding, since)
        if past:
            self.past_plans[name] = past
        self.put_binding(binding)
        self.changed += [("account",), ("binding", name)]

    def put_binding(self, binding: WorkspaceBinding) -> None:
        """Add or replace a binding; it is the newest."""
        self.bindings[binding.workspace], self.newest = binding, binding.workspace
        self._free.clear()

    def put_package(self, package: Package) -> None:
        """Add or replace a package."""
        self.packages[package.package] = package
        self.may_fall = True
        self._effective.clear()

    def forget_day(self, day: date) -> None:
        """The day and its corrections are past the horizon."""
        del self.days[day]
        self._free.pop(day, None)
        self._effective = {key: packages for key, packages in self._effective.items() if key[0] != day}
        self.corrections = {id_: c for id_, c in self.corrections.items() if c.day != day}

    def restored(self) -> None:
        """All entries are included: corrections go to their series, and nothing counts as changed."""
        for c in self.corrections.values():
            self.days[c.day].series[c.workspace, c.meter, c.retention_days].corrected += c.quantity
        self.may_fall = False

    def draw(self, catalog: Catalog, day: date, meter: str) -> Drawn:
        """The waterfall over the totals as they are now. A workspace that no package lists is pay-as-you-go."""
        ledger = self.days.get(day)
        series = ledger.by_meter.get(meter, ()) if ledger else ()
        definition = catalog.meters[meter]
        packages = self.effective(day, meter)
        drawdown = draw_down(packages, meter, demand_of(definition, series))
        overage: dict[OverageKey, int] = {(w, None): over for w, over in drawdown.overage.items()}
        for one in series:
            if one.workspace not in drawdown.overage:
                overage[one.workspace, one.retention_days] = one.total
        _check_account(definition, series, drawdown, overage)
        return Drawn(drawdown, overage, self.free_on(day), self.prices)

    def day(self, day: date) -> Day:
        """What is kept of the day, from now on."""
        found = self.days.get(day)
        if found is None:
            found = self.days[day] = Day()
        return found

    def touch(self, catalog: Catalog, day: date, meter: str) -> Day:
        """The day, about to change at a meter: remembers first what was published, so that a change can be told."""
        ledger = self.day(day)
        if meter not in ledger.published:
            ledger.published[meter] = self.draw(catalog, day, meter)
        if meter not in ledger.dirty_meters:
            ledger.dirty_meters.append(meter)
        self.dirty_days.add(day)
        self.undecided[day, meter] = None
        return ledger


def demand_of(meter: Meter, series: Iterable[Series]) -> dict[str, int]:
    """Workspace -> converted quantity: the sum over retentions of total x factor."""
    demand: dict[str, int] = {}
    factors = meter.factors
    for one in series:
        demand[one.workspace] = demand.get(one.workspace, 0) + one.total * factors[one.retention_days]
    return demand


def _check_account(
    meter: Meter, series: Iterable[Series], drawdown: Drawdown, overage: Mapping[OverageKey, int]
) -> None:
    """Law 1 for the account: what packages cover and what they do not is all that was used."""
    listed = sum(s.total * meter.factors[s.retention_days] for s in series if s.workspace in drawdown.overage)
    covered = sum(draw.used for draw in drawdown.draws)
    over = sum(quantity for (_, retention), quantity in overage.items() if retention is None)
    ensure(
        covered + over == listed, "law 1: covered + overage = converted demand of the account", covered, over, listed
    )
