"""The ledger: the state of one partition of `account-events`, as a fold over its records.

    fold      one record after the other; skips what it has passed, so a replay changes nothing
    checkpoint  what changed since the last one: state entries, and outputs that carry running totals
    restore   the state again, from its entries

Every input is an argument: the same records in any batching give the same state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np

from pipeline.account import Account
from pipeline.changes import Changes
from pipeline.checkpoint import Checkpoint, Refused
from pipeline.columns import column, position, select
from pipeline.counting import Gain, count
from pipeline.days import day_of
from pipeline.duplicates import COUNTED, DUPLICATE, DuplicateMemory
from pipeline.entries import (
    Entry,
    account_entries,
    correction_entries,
    day_entries,
    day_keys,
    decode_passed,
    decode_position,
    include_account,
    include_binding,
    include_command,
    include_correction,
    include_day,
    include_package,
    include_series,
    include_wallet,
    parts_of,
    passed_entry,
    position_entry,
    wallet_entry,
)
from pipeline.law import ensure
from pipeline.outputs import Output, outputs_of
from pipeline.packages import open_today
from pipeline.pieces import Pieces
from schemas.billing import ArrearsDue
from schemas.catalog import Catalog
from schemas.log import AccountEvent, DaySettled, Usage
from schemas.reasons import PAST_THE_LEDGER, Reason

#: Days past the horizon that the state is kept: routed events may lie that long in `account-events` before the fold.
SLACK_DAYS = 7

_date = lru_cache(maxsize=1024)(date.fromisoformat)


class Ledger:
    """The only writer of the accounts of one partition."""

    def __init__(self, catalog: Catalog, horizon_days: int) -> None:
        self.accounts: dict[str, Account] = {}
        self.next_offset = 0
        self.floor = date.min
        #: The newest day that was used.
        self._newest = date.min
        #: The account that was worked on last: where to look when a law is broken.
        self.working: Account | None = None
        self._catalog = catalog
        self._horizon = timedelta(days=horizon_days + SLACK_DAYS)
        self._seen = DuplicateMemory()
        self._pieces = Pieces(self._seen)
        self._dirty: dict[str, Account] = {}
        self._changes = Changes(catalog)
        self._calendar = self._changes.calendar
        self._refused: list[Refused] = []
        self._outcomes: Counter[tuple[str, int]] = Counter()

    @property
    def dirty(self) -> bool:
        """Whether anything was folded since the last checkpoint."""
        return bool(self._dirty or self._refused)

    def fold(self, offset: int, event: AccountEvent) -> None:
        """Include the record at `offset`; a record that was included before is skipped."""
        self.fold_all([(offset, event)])

    def fold_all(self, records: Iterable[tuple[int, AccountEvent]]) -> None:
        """Include records in order; neighbouring usage batches are counted together, which changes nothing but the time."""
        run: list[tuple[Account, Usage]] = []
        for offset, event in records:
            if offset < self.next_offset:
                continue
            self.next_offset = offset + 1
            self.working = account = self._account(event.account)
            account.version = offset
            self._dirty[account.account] = account
            if isinstance(event, Usage):
                run.append((account, self._without_late(event)))
                continue
            self._count(run)
            run = []
            self._changes.apply(account, event, offset, self.floor)
        self._count(run)

    def _count(self, run: list[tuple[Account, Usage]]) -> None:
        """Law 7: every event of the batches ends as exactly one of counted, duplicate, refused."""
        for counted in count(self._seen, run) if run else ():
            account, usage = counted.account, counted.usage
            self.working = account
            for gain in counted.gains:
                self._add(account, gain)
            self._uncounted(account, usage, counted.known)
            if usage.at:
                last = position(usage, -1)
                account.passed[usage.partition] = max(last, account.passed.get(usage.partition, last))

    def _without_late(self, event: Usage) -> Usage:
        """The batch without the events of days that the state has dropped; they are refused."""
        if all(day >= self.floor for _, day, _, _ in event.series):
            return event
        late_series = np.array([day < self.floor for _, day, _, _ in event.series])
        late = late_series[column(event, "at")]
        for row in np.flatnonzero(late).tolist():
            message = f"{event.series[column(event, 'at')[row]][1]} {PAST_THE_LEDGER}"
            self._refused.append(Refused(event.partition, *position(event, row), Reason.TOO_LATE, message))
        return select(event, ~late)

    def _add(self, account: Account, gain: Gain) -> None:
        workspace, when, meter, retention_days = gain.series
        day = account.touch(self._catalog, when, meter)
        series = day.series_of(workspace, meter, retention_days)
        before = series.counted
        by_sum = self._catalog.meters[meter].aggregation == "sum"
        series.counted = before + gain.total if by_sum else max(before, gain.peak)
        ensure(series.counted >= before, "law 5: totals only grow with usage", series.key)
        day.counted += gain.events
        self._newest = max(self._newest, when)
        day.stale = True
        day.dirty_series.append(series.index)
        self._outcomes[meter, COUNTED] += gain.events

    def _uncounted(self, account: Account, event: Usage, known: list[tuple[int, int]]) -> None:
        """Duplicates and conflicts. One at a position that was passed is a replay of routing, and ended before.

        The position alone never decides: an identity that is not known counts, wherever it stands.
        """
        passed = account.passed.get(event.partition, (-1, -1))
        message = "the identity (source, id) was counted with another content"
        at = column(event, "at")
        for row, outcome in known:
            _, when, meter, _ = event.series[at[row]]
            stood = position(event, row)
            if stood <= passed:
                continue
            day = account.touch(self._catalog, when, meter)
            if outcome == DUPLICATE:
                day.duplicates += 1
                self._outcomes[meter, DUPLICATE] += 1
            else:
                day.conflicts += 1
                self._refused.append(Refused(event.partition, *stood, Reason.CONFLICTING_DUPLICATE, message))

    def checkpoint(self, at_micros: int) -> Checkpoint:
        """What changed since the last checkpoint; `at_micros` is the worker's clock, which only dates outputs."""
        entries: list[Entry] = []
        outputs: list[Output] = []
        changes = self._changes.collect()
        for name in changes.packages_of:
            open_today(self._catalog, self.accounts[name], at_micros)
        for account in self._dirty.values():
            self.working = account
            outputs += outputs_of(self._catalog, account, at_micros)
            entries += account_entries(account)
            entries += [*correction_entries(account), *wallet_entry(account)]
            entries.append(passed_entry(account))
            for when in sorted(account.dirty_days):
                entries += day_entries(account.account, when, account.days[when])
            self._calendar.watch(account, account.dirty_days)
            account.dirty_days.clear()
        outputs += changes.outputs
        entries += self._pieces.append(self.next_offset)
        entries += self._expire(at_micros)
        entries.append(position_entry(self.next_offset, self.floor))
        result = Checkpoint(self.next_offset, entries, outputs, self._refused + changes.refused, self._outcomes)
        self._dirty, self._refused, self._outcomes = {}, [], Counter()
        return result

    def due(self, at_micros: int, grace_micros: int) -> list[DaySettled | ArrearsDue]:
        """The events that the log of this partition needs now; each is given once, and counts when it is folded."""
        return list(self._calendar.due(self.accounts, at_micros, grace_micros))

    def _expire(self, at_micros: int) -> Iterator[Entry]:
        """Tombstones of the days that nothing can change any more; done once a day.

        Usage has to have come that far, too: a worker's clock that is ahead, once, must not make anything forgotten.
        """
        today = min(day_of(at_micros, "UTC"), self._newest)
        if today - self.floor <= self._horizon:
            return
        self.floor = floor = today - self._horizon
        for account in self.accounts.values():
            # What was used while all workers were away waits for its statement.
            for when in [day for day, kept in account.days.items() if day < floor and not kept.unstated]:
                yield from ((key, None) for key in day_keys(account, when))
                account.forget_day(when)
        yield from self._pieces.forget_before(floor.toordinal())

    def restore(self, entries: dict[bytes, bytes]) -> None:
        """The state that a changelog holds: the newest value of each key, without those that are gone."""
        later: dict[str, list[tuple[list[Any], bytes, bytes]]] = {"series": [], "ids": []}
        # In the order of the log, where the entries of an account are together: its objects then are in the processor's cache.
        for key, value in entries.items():
            kind, *parts = parts_of(key)
            if kind == "position":
                position = decode_position(value)
                self.next_offset, self.floor = position.next_offset, position.floor
            elif kind == "ids" or (kind == "series" and parts[-1]):
                later[kind].append((parts, key, value))
            else:
                self._include(kind, parts, value)
        for parts, _, value in sorted(later["series"]):
            self._include("series", parts, value)
        for (day, _, _), key, value in sorted(later["ids"]):
            self._pieces.load(day, key, value)
        for restored in self.accounts.values():
            restored.restored()
            self._calendar.watch(restored, restored.days)

    def _include(self, kind: str, parts: list[Any], value: bytes) -> None:
        """An entry of an account; a day's blocks of series come in their order."""
        account = self._account(parts[0])
        match kind:
            case "day":
                day = account.day(when := _date(parts[1]))
                include_day(day, value)
                if day.counted:
                    self._newest = max(self._newest, when)
            case "series":
                include_series(account.day(_date(parts[1])), parts[2], value)
            case "account":
                include_account(account, value)
            case "binding":
                include_binding(account, value)
            case "package":
                include_package(account, value)
            case "command":
                include_command(account, parts[1], value)
            case "passed":
                account.passed = decode_passed(value)
            case "wallet":
                include_wallet(account, value)
            case "correction":
                include_correction(account, value)
            case _:
                ensure(False, "every state entry is of a known kind", kind)

    def _account(self, name: str) -> Account:
        if name not in self.accounts:
            self.accounts[name] = Account(name)
        return self.accounts[name]

    def digest(self) -> str:
        """A digest of all totals and packages: equal for equal ledgers, however the events came in."""
        state = blake2b(digest_size=16)
        for name, account in sorted(self.accounts.items()):
            for when, day in sorted(account.days.items()):
                for series in sorted(day.order, key=lambda s: s.key):
                    state.update(f"{name}\0{when}\0{series.key}\0{series.total}\n".encode())
            for package in account.packages_by_name:
                state.update(f"{name}\0{package}\n".encode())
        return state.hexdigest()
