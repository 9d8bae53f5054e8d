"""The live table of `drawdown quota`: bars of who holds how much, made for 80 columns and better with more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from itertools import groupby

from clickhouse_connect.driver.client import Client
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from agents.errors import CommandError
from agents.quota import Row, as_json, day_of_account, holder_of, state_of
from agents.settings import Settings
from pipeline.days import zone

#: From this width on numbers are written in full, and a forecast has columns of its own.
_WIDE = 120
#: Longest number that is written in full.
_FULL_MAX = 17
#: Workspaces of one package that a terminal shows.
_WORKSPACES_SHOWN = 12
#: One workspace after the other; readable on dark and on light.
_COLOURS = ("cyan", "magenta", "blue", "green", "yellow", "bright_cyan", "bright_magenta", "bright_blue")
_UNITS = (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3))


def short(quantity: int) -> str:
    """Four figures at most: 139.5M. Rounded down, so that what is not full does not look full."""
    for unit, size in _UNITS:
        if quantity >= size:
            whole, tenth = divmod(quantity * 10 // size, 10)
            return f"{whole}.{tenth}{unit}" if tenth else f"{whole}{unit}"
    return str(quantity)


def money(amount: Decimal | None, currency: str) -> str:
    """What an overage costs up to now; nothing is said where there is no price."""
    return "no price" if amount is None else f"{amount:,.2f} {currency}"


@dataclass(frozen=True, slots=True)
class QuotaView:
    """An account's day; `all_workspaces` for output that nobody looks at live."""

    account: str
    day: date
    zone: tzinfo
    quotas: Sequence[Row]
    over: Sequence[Row]
    all_workspaces: bool = False

    @property
    def longest(self) -> int:
        """Characters of the longest number, in full."""
        numbers = (
            n for row in self.quotas for n in (row["used"], row["quota"], *(w["demand"] for w in row["workspaces"]))
        )
        return max((len(f"{n:,}") for n in numbers), default=0)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _Layout(self, min(options.max_width, 200)).lines()


class Quotas:
    """An account's quotas, read anew for every view. Without a day it is today in the account's time zone, also after midnight."""

    def __init__(self, settings: Settings, client: Client, account: str, day: date | None) -> None:
        self._client = client
        self._account = account
        self._day = day
        self._holder = asyncio.run(holder_of(settings, account))
        self._zone = zone(self._holder.time_zone)

    def _read(self) -> tuple[date, list[Row], list[Row]]:
        day = self._day or datetime.now(self._zone).date()
        quotas, over = day_of_account(self._client, self._account, day, self._holder.order)
        if not quotas and not over:
            raise CommandError(f"account {self._account!r} has no package and no usage on {day} ({self._zone})")
        return day, quotas, over

    def as_json(self) -> list[Row]:
        """One object a quota, with the overage of its meter."""
        _, quotas, over = self._read()
        return as_json(quotas, over)

    def view(self, *, all_workspaces: bool = False) -> QuotaView:
        """As it is now; raises `CommandError` when there is nothing to show."""
        day, quotas, over = self._read()
        return QuotaView(self._account, day, self._zone, quotas, over, all_workspaces)


class _Layout:
    """The lines for one width. Columns: name, bar, used, of, share, and where there is room forecast and rate."""

    def __init__(self, view: QuotaView, width: int) -> None:
        self._view = view
        self._width = width
        self._wide = width >= _WIDE
        self._full = self._wide and view.longest <= _FULL_MAX
        self._number = max(9, view.longest) if self._full else 7
        self._name = max(14, width // 4)
        tail = 2 * self._number + 10 + (self._number + 22 if self._wide else 0)
        self._bar = max(8, width - self._name - tail)

    def lines(self) -> Iterator[Text]:
        view = self._view
        told = max((row["at"] for row in view.quotas), default=None)
        age = f"changed {told.replace(tzinfo=told.tzinfo or UTC).astimezone(view.zone):%H:%M:%S}" if told else ""
        yield self._sides(
            Text.assemble((view.account, "bold"), f"  {view.day:%a %d %b %Y}  ", (str(view.zone), "dim")),
            Text(age, "dim"),
        )
        yield self._head()
        meters = sorted({row["meter"] for row in (*view.quotas, *view.over)})
        by_meter = {m: list(rows) for m, rows in groupby(view.quotas, key=lambda row: row["meter"])}
        for meter in meters:
            yield from self._meter(meter, by_meter.get(meter, []), [o for o in view.over if o["meter"] == meter])

    def _head(self) -> Text:
        cells = ["".ljust(self._name), "who holds how much".ljust(self._bar)[: self._bar]]
        cells += [name.rjust(self._number) for name in ("used", "of")] + ["share".rjust(6)]
        if self._wide:
            cells += ["a minute".rjust(self._number), "forecast".rjust(20)]
        return Text(" ".join(cells)[: self._width], "dim")

    def _meter(self, meter: str, quotas: Sequence[Row], over: Sequence[Row]) -> Iterator[Text]:
        yield Text()
        yield Text(meter, "bold")
        for row in quotas:
            yield from self._package(row)
        for row in over:
            yield self._overage(row)

    def _package(self, row: Row) -> Iterator[Text]:
        share = float(row["utilization"])
        colour, forecast = state_of(share), self._forecast(row)
        bar, covered = Text(), 0
        for place, held in enumerate(row["workspaces"]):
            bar.append_text(self._fill(covered, held["covered"], row["quota"], _COLOURS[place % len(_COLOURS)]))
            covered += held["covered"]
        line = self._cells(f"  {row['package']}", bar, row["used"], row["quota"], Text(f"{share:6.1%}", colour))
        if self._wide:
            line.append(f" {self._text(row['burn_rate_per_minute']).rjust(self._number)} ")
            line.append(forecast.rjust(20), "red" if row["exhausts_at"] else "dim")
        yield line
        yield from self._workspaces(row)
        if not self._wide:
            rate = f"    {short(row['burn_rate_per_minute'])} a minute, "
            yield Text.assemble((rate, "dim"), (forecast, "red" if row["exhausts_at"] else "dim"))

    def _workspaces(self, row: Row) -> Iterator[Text]:
        before, workspaces = 0, row["workspaces"]
        shown = len(workspaces) if self._view.all_workspaces else _WORKSPACES_SHOWN
        for place, held in enumerate(workspaces[:shown]):
            colour = _COLOURS[place % len(_COLOURS)]
            bar = Text(" " * self._columns(before, row["quota"]))
            bar.append_text(self._fill(before, held["covered"], row["quota"], colour))
            before += held["covered"]
            short_by = held["demand"] - held["covered"]
            share = Text(f"+{short(short_by)}".rjust(6), "red") if short_by else Text(" " * 6)
            line = self._cells(f"    ● {held['workspace']}", bar, held["covered"], held["demand"], share)
            line.stylize(colour, 4, 5)
            yield line
        if hidden := workspaces[shown:]:
            total = sum(held["covered"] for held in hidden)
            yield Text(f"    … and {len(hidden)} more that hold {short(total)}", "dim")

    def _overage(self, row: Row) -> Text:
        what = "overage" if row["basis"] == "package" else f"pay as you go, {row['retention_days']} d"
        quantity = self._text(row["quantity"])
        charge = "Free plan" if row["plan"] == "free" else money(row["amount"], row["currency"])
        left = Text.assemble(f"  {row['workspace']}  ", (what, "dim"))
        return self._sides(left, Text(f"{quantity}  {charge}", "red" if row["basis"] == "package" else ""))

    def _forecast(self, row: Row) -> str:
        if row["exhausts_at"] is not None:
            ends = row["exhausts_at"].replace(tzinfo=row["exhausts_at"].tzinfo or UTC)
            return f"ends at {ends.astimezone(self._view.zone):%H:%M}"
        return "used up" if not row["remaining"] else "lasts the day"

    def _cells(self, name: str, bar: Text, used: int, of: int, share: Text) -> Text:
        """One line of the columns."""
        line = Text(name[: self._name - 1] + "…" if len(name) > self._name else name.ljust(self._name))
        line.append(" ")
        bar.truncate(self._bar)
        line.append_text(bar)
        line.append(
            "░" * (self._bar - len(bar.plain)) if not name.startswith("   ") else " " * (self._bar - len(bar.plain)),
            "dim",
        )
        for number in (used, of):
            line.append(" " + self._text(number).rjust(self._number))
        line.append(" ")
        line.append_text(share)
        return line

    def _text(self, quantity: int) -> str:
        return f"{quantity:,}" if self._full else short(quantity)

    def _columns(self, quantity: int, quota: int) -> int:
        """Whole columns of the bar that a quantity fills."""
        return quantity * self._bar // quota if quota else 0

    def _fill(self, before: int, quantity: int, quota: int, colour: str) -> Text:
        """The part of the bar of who comes after `before`: whole columns, so that neighbours never overlap."""
        return Text("█" * (self._columns(before + quantity, quota) - self._columns(before, quota)), colour)

    def _sides(self, left: Text, right: Text) -> Text:
        """Something at the left edge, something at the right one."""
        space = max(2, self._width - left.cell_len - right.cell_len)
        return Text.assemble(left, " " * space, right)
