"""The wallet of an account: pockets of money, and double-entry transactions that sum to zero (facts sheet, section 5).

A charge is taken from ordinary vouchers, then threshold vouchers, prepaid cards, cash; what is left makes the arrears (the prepaid
balance below zero). Within a kind: earlier expiry, then id. Pure: a charge is a function of wallet, amount and day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from pipeline.law import ensure

CASH, ARREARS = "cash", "arrears"
#: Kinds of pockets in the order of deduction; arrears come last.
POCKETS = ("voucher", "threshold", "card", "cash")
_VOUCHERS = ("voucher", "threshold")
_ZERO = Decimal(0)

Postings = dict[str, Decimal]

#: Days in arrears after which an account is locked.
BUFFER_DAYS = 14


@dataclass(frozen=True, slots=True)
class Terms:
    """When a voucher or card ends (None: never), and from which charge on a threshold voucher is usable."""

    expires: date | None = None
    threshold: Decimal = _ZERO


def kind_of(pocket: str) -> str:
    """`voucher`, `threshold`, `card`, `cash` or `arrears`."""
    return pocket.partition(":")[0]


@dataclass(slots=True)
class Wallet:
    """Balances of the pockets. `arrears` is never above 0, every other one never below."""

    balances: dict[str, Decimal] = field(default_factory=dict)
    terms: dict[str, Terms] = field(default_factory=dict)
    #: The day since which the account owes; `locked` when it has owed for longer than the buffer.
    owes_since: date | None = None
    locked: bool = False
    #: The day on which it began to owe last, and how often on that day.
    fell: tuple[date, int] | None = None

    def balance(self, pocket: str) -> Decimal:
        """What is in the pocket."""
        return self.balances.get(pocket, _ZERO)

    def usable(self, pocket: str, day: date) -> Decimal:
        """What may be spent out of it on that day."""
        expires = self.terms.get(pocket, Terms()).expires
        return self.balance(pocket) if expires is None or day <= expires else _ZERO

    def apply(self, postings: Mapping[str, Decimal], day: date) -> None:
        """Book a transaction: postings to accounts outside the wallet count for the sum alone."""
        ensure(not sum(postings.values(), _ZERO), "a transaction sums to zero", postings)
        for account, amount in postings.items():
            if kind_of(account) in (*POCKETS, ARREARS):
                self.balances[account] = self.balance(account) + amount
        for pocket, balance in self.balances.items():
            ensure(balance <= 0 if pocket == ARREARS else balance >= 0, "a balance keeps its sign", pocket, balance)
        owes = self.balance(ARREARS) < 0
        self.owes_since = (self.owes_since or day) if owes else None
        self.locked = self.locked and owes

    def fund(self, pocket: str, amount: Decimal) -> Postings:
        """Money that comes in; cash and cards clear arrears first."""
        outside = "granted" if kind_of(pocket) in _VOUCHERS else "bank"
        cleared = _ZERO if kind_of(pocket) in _VOUCHERS else min(amount, -self.balance(ARREARS))
        return _clean({outside: -amount, ARREARS: cleared, pocket: amount - cleared})

    def charge(self, amount: Decimal, day: date, *, vouchers: bool) -> Postings:
        """`amount` for a day's usage; SMS and synthetic tests go without `vouchers`. What no pocket has becomes arrears."""
        postings, left = {"usage": amount}, amount
        for pocket in self._pockets(day):
            if kind_of(pocket) in _VOUCHERS and (not vouchers or amount < self.terms.get(pocket, Terms()).threshold):
                continue
            paid = min(left, self.usable(pocket, day))
            left -= paid
            postings[pocket] = -paid
        postings[ARREARS] = -left
        return _clean(postings)

    def refund(self, amount: Decimal, paid: Mapping[str, Decimal]) -> tuple[Postings, Postings]:
        """`amount` back to where it came from, last source first: the postings, and how much each source gets back.

        `paid`: pocket -> what is left of what was taken from it. Cash, cards and arrears clear what is owed now before they fill.
        """
        ensure(amount <= sum(paid.values(), _ZERO), "no more comes back than was paid", amount, paid)
        postings: Postings = {"usage": -amount, ARREARS: _ZERO}
        returned: Postings = {}
        left, owed = amount, -self.balance(ARREARS)
        for source in sorted(paid, key=self._place, reverse=True):
            back = returned[source] = min(left, paid[source])
            left -= back
            cleared = _ZERO if kind_of(source) in _VOUCHERS else min(owed, back)
            owed -= cleared
            postings[ARREARS] += cleared
            # What was owed then and has been paid since comes back as cash.
            pocket = CASH if source == ARREARS else source
            postings[pocket] = postings.get(pocket, _ZERO) + back - cleared
        return _clean(postings), _clean(returned)

    def _pockets(self, day: date) -> Iterator[str]:
        usable = [pocket for pocket in self.balances if pocket != ARREARS and self.usable(pocket, day)]
        yield from sorted(usable, key=self._place)

    def _place(self, pocket: str) -> tuple[int, date, str]:
        """In the order in which a charge takes from them; arrears are the last."""
        kind, expires = kind_of(pocket), self.terms.get(pocket, Terms()).expires
        return POCKETS.index(kind) if kind in POCKETS else len(POCKETS), expires or date.max, pocket


def _clean(postings: Postings) -> Postings:
    return {account: amount for account, amount in postings.items() if amount}
