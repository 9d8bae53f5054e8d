"""The independent oracle of alerts: after every single event it looks at everything anew, from semantics.md, section 7, alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from oracle import Answer, charge, waterfall

#: kind, day, meter, package, threshold, number of the firing.
Said = tuple[str, date, str, str | None, Decimal, int]


@dataclass
class Rules:
    """What an account wants; the defaults of the semantics."""

    thresholds: list[Decimal] = field(default_factory=lambda: [Decimal("0.8"), Decimal("0.9"), Decimal("1.0")])
    hysteresis: Decimal = Decimal("0.05")
    meters: list[str] | None = None
    amounts: dict[str, Decimal] = field(default_factory=dict)
    total: Decimal | None = None


class AlertOracle:
    """One account. `said` grows with every event."""

    def __init__(self, meters: dict[str, Any]) -> None:
        self.meters = meters
        self.rules = Rules()
        self.counted: dict[tuple[date, str, str, int], int] = defaultdict(int)
        self.corrected: dict[tuple[date, str, str, int], int] = defaultdict(int)
        self.packages: dict[str, dict[str, Any]] = {}
        #: Workspaces on the Free plan, and since when; plans change on one day only.
        self.free: dict[str, date] = {}
        self.settled: set[date] = set()
        self.said: list[Said] = []
        self._alarms: dict[tuple[Any, ...], tuple[int, bool]] = {}

    def use(self, day: date, workspace: str, meter: str, retention: int, quantity: int) -> None:
        """An event."""
        name = (day, workspace, meter, retention)
        before = self.counted[name]
        by_sum = self.meters[meter].aggregation == "sum"
        self.counted[name] = before + quantity if by_sum else max(before, quantity)

    def look(self) -> None:
        """Decide everything."""
        answer = Answer()
        for day, workspace, meter, retention in self.counted.keys() | self.corrected.keys():
            name = (day, workspace, meter, retention)
            total = max(0, self.counted.get(name, 0) + self.corrected.get(name, 0))
            answer.totals["acct", day, workspace, meter, retention] = total
        waterfall(answer, list(self.packages.values()), self.meters)
        for day in sorted({day for _, day, *_ in answer.totals}):
            if all(settled < day for settled in self.settled):
                self._quotas(answer, day)
                self._charges(answer, day)

    def _quotas(self, answer: Answer, day: date) -> None:
        used: dict[tuple[str, str], int] = defaultdict(int)
        for (_, d, meter, package, _), covered in answer.covered.items():
            if d == day:
                used[meter, package] += covered
        for (meter, package), quantity in used.items():
            quota = self.packages[package]["quotas"][meter]
            if quota and (self.rules.meters is None or meter in self.rules.meters):
                for threshold in self.rules.thresholds:
                    share = Decimal(quantity) / quota  # quotas of these worlds divide exactly
                    low = threshold - self.rules.hysteresis
                    self._decide("threshold", day, meter, package, threshold, share >= threshold, share < low)

    def _charges(self, answer: Answer, day: date) -> None:
        charges: dict[str, Decimal] = defaultdict(Decimal)
        for (_, d, workspace, meter, basis, retention), quantity in answer.overage.items():
            if d == day and d < self.free.get(workspace, date.max):
                definition = self.meters[meter]
                tier = definition.default_retention if basis == "package" else retention
                price = next(
                    p.price for p in definition.prices
                    if (p.retention_days, p.site, p.currency) == (tier, "cn", "CNY") and p.effective <= day
                )  # fmt: skip
                charges[meter] += charge(quantity, definition.unit_size, str(price))
        limits = dict(self.rules.amounts)
        if self.rules.total is not None:
            limits[""] = self.rules.total
            charges[""] = sum(charges.values(), Decimal(0))
        for meter, limit in limits.items():
            now = charges[meter]
            self._decide(
                "high_consumption", day, meter, None, limit, now > limit, now < limit - limit * self.rules.hysteresis
            )

    def _decide(
        self, kind: str, day: date, meter: str, package: str | None, threshold: Decimal, reached: bool, fallen: bool
    ) -> None:
        name = (kind, day, meter, package, threshold)
        firings, silent = self._alarms.get(name, (0, False))
        if silent and fallen:
            silent = False
        if reached and not silent:
            firings, silent = firings + 1, True
            self.said.append((*name, firings))
        self._alarms[name] = firings, silent
