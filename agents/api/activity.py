"""How many events an account's ledger counts a second, out of the running totals of the topic `usage-totals`."""

from __future__ import annotations

from collections import deque

import msgspec
from msgspec import Struct

_WINDOW_SECONDS = 10.0


class _Totals(Struct, frozen=True, gc=False):
    account: str
    day: str
    counted: int
    duplicates: int
    conflicts: int


_decoder = msgspec.json.Decoder(_Totals)


class Activity:
    """Differences of the running totals over the last seconds. The first total of a day that is seen makes no difference."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, str], int] = {}
        self._steps: dict[str, deque[tuple[float, int]]] = {}

    def take(self, value: bytes, at: float) -> None:
        """One record, and when it was written (seconds since the epoch)."""
        told = _decoder.decode(value)
        key, total = (told.account, told.day), told.counted + told.duplicates + told.conflicts
        step = total - self._totals.get(key, total)
        self._totals[key] = total
        if step > 0:
            self._steps.setdefault(told.account, deque()).append((at, step))
            self._forget(told.account, at)

    def per_second(self, account: str, now: float) -> float:
        """Events a second of an account, over the window that ends now."""
        self._forget(account, now)
        return sum(step for _, step in self._steps.get(account, ())) / _WINDOW_SECONDS

    def forget_before(self, day: str) -> None:
        """Totals of earlier days are dropped."""
        self._totals = {key: total for key, total in self._totals.items() if key[1] >= day}

    def _forget(self, account: str, now: float) -> None:
        steps = self._steps.get(account)
        if steps is None:
            return
        while steps and steps[0][0] < now - _WINDOW_SECONDS:
            steps.popleft()
        if not steps:
            del self._steps[account]
