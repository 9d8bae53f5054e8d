"""What an account wants to be warned of: the values of the topic `alert-rules` (semantics.md, section 7)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.wire import Name

#: A package's quota of a day and meter is used to a share; it will end before the day does; a day's charge passed an amount.
AlertKind = Literal["threshold", "forecast", "high_consumption"]

#: Most thresholds of one account.
THRESHOLDS_MAX = 20
#: Largest amount.
AMOUNT_MAX = Decimal(10**12)
#: Decimal places of shares and amounts, as in the table `alerts`.
DECIMALS_MAX = 4


class AlertRules(Struct, frozen=True):
    """The rules of one account. Without any, and after a tombstone, the defaults here hold.

    `thresholds` are shares of a quota, `hysteresis` how far below one the use has to fall before it may fire again. `meters`
    limits quota alerts to these; None: all. `amounts` (by meter) and `total_amount` are what a day may cost, in the account's
    currency. `receivers` are the webhooks that are told; None: all of the account.
    """

    account: Name
    thresholds: tuple[Decimal, ...] = (Decimal("0.8"), Decimal("0.9"), Decimal(1))
    hysteresis: Decimal = Decimal("0.05")
    meters: Annotated[tuple[str, ...], Meta(max_length=1000)] | None = None
    forecast: bool = True
    amounts: dict[str, Decimal] = {}
    total_amount: Decimal | None = None
    receivers: Annotated[tuple[Name, ...], Meta(max_length=1000)] | None = None
