"""The billing center's events and outputs: money in, orders, changes of packages (facts sheet, sections 1, 2 and 5).

Amounts are `Decimal` with at most two decimals, in the account's currency. A pocket is where a wallet's money is: `cash`, `card:<id>`
(a prepaid card), `voucher:<id>` (ordinary) or `threshold:<id>` (usable from a charge of its threshold on); and `arrears`, never above 0.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from msgspec import Struct

from schemas.wire import Currency, Instant, Name, Package


class Funded(Struct, frozen=True, tag="funded", tag_field="kind"):
    """Money that came in. `id` makes a repeated one the same one; `threshold` and `expires` are of vouchers and cards."""

    account: str
    id: Name
    pocket: Name
    amount: Decimal
    operator: str
    at: Instant
    threshold: Decimal = Decimal(0)
    expires: date | None = None


class Order(Struct, frozen=True, tag="order", tag_field="kind"):
    """One purchase, whole or refused whole; `id` makes a repeated order the same order.

    A `plan` for `workspaces` in draw-down order, with or without `traffic` (catalog key -> multiples of its quota); or, for an
    existing plan `package`, its upgrade to `plan`, or `traffic` beside it. `price` is what the buyer confirmed, `payment` says from
    which pockets; it covers from the day `effective` on.
    """

    account: str
    id: Name
    effective: date
    price: Decimal
    payment: dict[str, Decimal]
    operator: str
    at: Instant
    plan: str | None = None
    package: Name | None = None
    traffic: dict[str, int] = {}
    workspaces: tuple[Name, ...] = ()


class Amendment(Struct, frozen=True, tag="amendment", tag_field="kind"):
    """From the day `effective` on an ordered package is shared by other `workspaces`; or, without any, it ends before that day."""

    account: str
    id: Name
    package: Name
    workspaces: tuple[Name, ...]
    effective: date
    operator: str
    at: Instant


class Fault(Struct, frozen=True):
    """One reason of a refusal; `code` is stable."""

    code: str
    message: str


class Outcome(Struct, frozen=True):
    """What became of an order, an amendment or money that came in (topic `orders`). Refused: every fault, and nothing changed."""

    account: str
    id: str
    accepted: bool
    faults: tuple[Fault, ...]
    packages: tuple[Package, ...]
    version: int
    at: Instant


class Posting(Struct, frozen=True):
    """One side of a transaction: a pocket, or an account outside the wallet (`bank`, `granted`, `packages`, `usage`)."""

    account: str
    amount: Decimal


class Transaction(Struct, frozen=True):
    """Money that moved (topic `wallet-transactions`): its postings sum to zero.

    `reference` is the id of the order or of the money that came in, or `day/revision` of a statement.
    """

    id: str
    account: str
    reference: str
    currency: Currency
    postings: tuple[Posting, ...]
    version: int
    at: Instant


class PocketTerms(Struct, frozen=True):
    """Last day of a card or voucher (None: it does not end), and from which charge on a threshold voucher is usable."""

    expires: date | None = None
    threshold: Decimal = Decimal(0)


class WalletStatus(Struct, frozen=True):
    """What is in each pocket (topic `wallets`). `owes_since`: the day since which `arrears` are below 0; `locked` 14 days later.

    `terms` are those of cards and vouchers; a status of before they were said has none.
    """

    account: str
    currency: Currency
    balances: dict[str, Decimal]
    owes_since: date | None
    locked: bool
    version: int
    at: Instant
    terms: dict[str, PocketTerms] = {}


class ArrearsDue(Struct, frozen=True, tag="arrears", tag_field="kind"):
    """The account owes since that day, and its buffer is over: it is locked if it still does."""

    account: str
    since: date
    at: Instant
