"""Settlement: when an account's day is due, and what its statement says (semantics.md, section 4).

A day is settled, and its statement revised, by a `DaySettled` event in the account's own log: the statement is a function of
the log up to that event, so a replay gives the same revisions. Only *when* such an event is written depends on a clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from hashlib import blake2b

from msgspec import structs

from pipeline.account import Account
from pipeline.billing import lock_day
from pipeline.days import day_bounds, to_instant
from pipeline.outputs import Output
from pipeline.rating import lines_of, payable
from schemas.billing import ArrearsDue
from schemas.catalog import Catalog
from schemas.log import DaySettled
from schemas.topics import LINES_MAX, STATEMENTS
from schemas.wire import Statement, StatementLine

#: Series of the days that are handed out and not folded: what these say may be one commit.
_SERIES_AT_ONCE = 100_000
#: Earlier than any instant: the thing was handed out, and its event is not folded yet.
_HANDED_OUT = -1


class _Queue:
    """What is due at an instant, each thing once until it is taken off."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str, date]] = []
        #: When it is due; the heap may have later instants of the same thing, which count no more.
        self._waiting: dict[tuple[str, date], int] = {}

    def push(self, micros: int, account: str, when: date) -> None:
        """What waits already is due at the earlier of the two instants."""
        known = self._waiting.get((account, when))
        if known is None or micros < known:
            self._waiting[account, when] = micros
            heapq.heappush(self._heap, (micros, account, when))

    def pop_until(self, micros: int) -> Iterator[tuple[str, date]]:
        while self._heap and self._heap[0][0] <= micros:
            due, account, when = heapq.heappop(self._heap)
            if self._waiting.get((account, when)) == due:
                self._waiting[account, when] = _HANDED_OUT
                yield account, when

    def done(self, account: str, when: date) -> None:
        self._waiting.pop((account, when), None)


class Calendar:
    """What the accounts of a partition wait for: days for their statement, and arrears for the end of their buffer."""

    def __init__(self) -> None:
        self._days = _Queue()
        self._arrears = _Queue()
        #: Days whose event is not folded yet -> their series.
        self._unfolded: dict[tuple[str, date], int] = {}

    def watch(self, account: Account, days: Iterable[date]) -> None:
        """The account changed: these changed days of it have to be stated when they are over."""
        self._watch_days(account, days)
        since = account.wallet.owes_since
        if since is not None and not account.wallet.locked:
            self._arrears.push(_locks_at(account, since), account.account, since)

    def moved(self, account: Account) -> None:
        """The account is in another time zone now, where its days may end earlier. Those that end later are told when due."""
        self._watch_days(account, account.days)

    def _watch_days(self, account: Account, days: Iterable[date]) -> None:
        """The days have to be stated when they are over, unless the newest statement still holds."""
        time_zone = account.time_zone
        for when in days:
            if account.days[when].unstated:
                self._days.push(day_bounds(when, time_zone)[1], account.account, when)

    def due(
        self, accounts: Mapping[str, Account], at_micros: int, grace_micros: int
    ) -> Iterator[DaySettled | ArrearsDue]:
        """The events to write now: each once, until it is folded. After an outage there are more: they come when these are folded.

        Arrears come after all days, for what these give back may end a debt.
        """
        at, room = to_instant(at_micros), _SERIES_AT_ONCE - sum(self._unfolded.values())
        if room <= 0:
            return
        for name, when in self._days.pop_until(at_micros - grace_micros):
            account = accounts[name]
            if when not in account.days:
                self._days.done(name, when)
            elif day_bounds(when, account.time_zone)[1] > at_micros - grace_micros:
                # The account has moved to another time zone meanwhile.
                self._days.done(name, when)
                self._watch_days(account, [when])
            else:
                series = self._unfolded[name, when] = len(account.days[when].series)
                yield DaySettled(name, when, at)
                room -= series
                if room <= 0:
                    return
        for name, since in list(self._arrears.pop_until(at_micros)):
            if _locks_at(accounts[name], since) > at_micros:
                self._arrears.done(name, since)
                self.watch(accounts[name], ())
            else:
                yield ArrearsDue(name, since, at)

    def folded(self, event: DaySettled | ArrearsDue) -> None:
        """The event was folded: from now on another change asks for another one."""
        if isinstance(event, DaySettled):
            self._days.done(event.account, event.day)
            self._unfolded.pop((event.account, event.day), None)
        else:
            self._arrears.done(event.account, event.since)


def _locks_at(account: Account, since: date) -> int:
    return day_bounds(lock_day(since), account.time_zone)[0]


def state_day(catalog: Catalog, account: Account, event: DaySettled) -> Statement | None:
    """The statement of the account's day as it stands now; None when the newest one says the same already.

    A day without any use is never stated. The state may have it or not: a checkpoint makes it, to show unused packages.
    """
    when = event.day
    day = account.days.get(when)
    if day is None or not day.series:
        return None
    lines = tuple(lines_of(catalog, account, when))
    stated = _digest(lines)
    day.stale = False
    account.dirty_days.add(when)
    if day.revision and stated == day.stated:
        return None
    if not day.revision:
        day.just_settled = True
        for meter in day.by_meter:
            account.touch(catalog, when, meter)
    day.revision, day.stated = day.revision + 1, stated
    return Statement(
        account=account.account, day=when, revision=day.revision, replaces=day.revision - 1 or None,
        currency=account.currency, amount=payable(lines), lines=lines, version=account.version, at=event.at,
    )  # fmt: skip


def records_of(statement: Statement) -> Iterator[Output]:
    """The statement as records, none larger than Kafka takes; the key of all but the first names the part."""
    key, lines = f"{statement.account}/{statement.day}", statement.lines
    last = max(0, len(lines) - 1) // LINES_MAX
    for part in range(last + 1):
        some = lines[part * LINES_MAX : (part + 1) * LINES_MAX]
        value = structs.replace(statement, lines=some, part=part, last_part=last)
        yield STATEMENTS, f"{key}/{part}" if part else key, value


def _digest(lines: tuple[StatementLine, ...]) -> str:
    text = repr([structs.astuple(line) for line in lines])
    return blake2b(text.encode(), digest_size=16).hexdigest()
