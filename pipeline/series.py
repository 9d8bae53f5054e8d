"""The series that routing has met, numbered: what the hot path has to know of each stands in arrays, by number."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np

from pipeline.columns import Array
from pipeline.compiled.namings import UNKNOWN
from pipeline.days import day_bounds
from pipeline.identities import account_prefix
from pipeline.namings import Naming, Namings
from pipeline.texts import Texts
from schemas.log import SeriesKey
from schemas.wire import WorkspaceBinding

__all__ = ["UNKNOWN", "SeriesTable"]


class SeriesTable:
    """Grows only: a number means the same for as long as the table is held. `len` is how many.

    `numbers`, and `namings` for compiled loops, lead from a naming to the newest day of its series. A naming is there only if its
    key is right. `prefixes` of accounts are what their identities' texts begin with.
    """

    def __init__(self, horizon_days: int) -> None:
        self.numbers: dict[Naming, int] = {}
        self.names: list[SeriesKey] = []
        self.namings = Namings()
        self.prefixes = Texts()
        self.accounts: list[str] = []
        self._by_name: dict[SeriesKey, int] = {}
        self._account_numbers: dict[str, int] = {}
        self._horizon = timedelta(days=horizon_days + 1)
        self._facts = np.empty((4, 1 << 10), np.int64)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def account_of(self) -> Array:
        """Series number -> place in `accounts`."""
        return self._facts[3, : len(self)]

    def account(self, number: int) -> str:
        """The account of a series."""
        return self.accounts[int(self.account_of[number])]

    def holds(self, numbers: Array, micros: Array, now_micros: int) -> Array:
        """Whether each instant lies in the day of its series, and that day still counts now; not for `UNKNOWN`."""
        start, end, until, _ = self._facts[:, numbers]
        found: Array = (numbers != UNKNOWN) & (start <= micros) & (micros < end) & (until > now_micros)
        return found

    def number_of(self, naming: Naming | None, name: SeriesKey, binding: WorkspaceBinding) -> int:
        """The number of a series whose naming was checked; from now on the naming leads to it unless to a newer day.

        None: a naming that does not mean the same series all day.
        """
        number = self._by_name.get(name)
        if number is None:
            number = self._add(name, binding)
        if naming is None:
            return number
        current = self.numbers.get(naming)
        if current is None or self.names[current][1] < name[1]:
            self.numbers[naming] = number
            self.namings.learn(naming, number)
        return number

    def _add(self, name: SeriesKey, binding: WorkspaceBinding) -> int:
        number = self._by_name[name] = len(self)
        if number == self._facts.shape[1]:
            self._facts = np.concatenate([self._facts, np.empty_like(self._facts)], axis=1)
        account = self._account_numbers.setdefault(binding.account, len(self.accounts))
        if account == len(self.accounts):
            self.accounts.append(binding.account)
            self.prefixes.add(account_prefix(binding.account))
        self._facts[:, number] = *_bounds(name[1], binding.time_zone, self._horizon), account
        self.names.append(name)
        return number


def _bounds(day: date, zone_name: str, horizon: timedelta) -> tuple[int, int, int]:
    """First instant of the day and of the next one, and the instant from which on the day is past the horizon."""
    return *day_bounds(day, zone_name), day_bounds(day + horizon, zone_name)[0]
