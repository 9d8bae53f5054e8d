"""Settlement: when an account's day is due, and what its statement says (semantics.md, section 4).

A day is settled, and its statement revised, by a `DaySettled` event in the account's own log: the statement is a function of
the log up to that event, so a replay gives the same revisions. Only *when* such an event is written depends on a clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import date
from hashlib import blake2b

from msgspec import structs

from pipeline.account import Account, Day
from pipeline.days import day_bounds, to_instant
from pipeline.rating import lines_of, payable
from schemas.catalog import Catalog
from schemas.log import DaySettled
from schemas.wire import Statement, StatementLine


class Calendar:
    """The days of a partition that wait for their settlement, or for a revision of their statement."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str, date]] = []
        #: Days in the heap, and days whose event is written but not folded yet.
        self._awaiting: set[tuple[str, date]] = set()

    def watch(self, account: Account, when: date) -> None:
        """The day changed: it has to be stated when it is over."""
        name = (account.account, when)
        if name not in self._awaiting and _needs_statement(account.days[when]):
            self._awaiting.add(name)
            heapq.heappush(self._heap, (day_bounds(when, account.time_zone)[1], *name))

    def due(self, accounts: dict[str, Account], at_micros: int, grace_micros: int) -> Iterator[DaySettled]:
        """The events to write now: each day once, until it is folded."""
        while self._heap and self._heap[0][0] + grace_micros <= at_micros:
            _, name, when = heapq.heappop(self._heap)
            account = accounts[name]
            if when not in account.days:
                self._awaiting.discard((name, when))
                continue
            end = day_bounds(when, account.time_zone)[1]
            if end + grace_micros > at_micros:  # the account has moved to another time zone meanwhile
                heapq.heappush(self._heap, (end, name, when))
            else:
                yield DaySettled(name, when, to_instant(at_micros))

    def settled(self, account: str, when: date) -> None:
        """The day's event was folded: from now on another change asks for another one."""
        self._awaiting.discard((account, when))


def _needs_statement(day: Day) -> bool:
    return day.stale or not day.revision


def state_day(catalog: Catalog, account: Account, event: DaySettled) -> Statement | None:
    """The statement of the account's day as it stands now; None when the newest one says the same already."""
    when = event.day
    day = account.days.get(when)
    if day is None:  # it left the state before its event came
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


def _digest(lines: tuple[StatementLine, ...]) -> str:
    text = repr([structs.astuple(line) for line in lines])
    return blake2b(text.encode(), digest_size=16).hexdigest()
