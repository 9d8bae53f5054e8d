"""What an account wants to be warned of, and who is told: the topics `alert-rules`, `webhooks`, `webhook-deliveries`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from schemas.wire import Instant, Name

#: A package's quota of a day and meter is used to a share; it will end before the day does; a day's charge passed an amount;
#: the account began to owe; it was locked, because it has owed for longer than the buffer.
AlertKind = Literal["threshold", "forecast", "high_consumption", "arrears", "locked"]

#: All of them.
ALERT_KINDS: tuple[AlertKind, ...] = get_args(AlertKind)
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


class Webhook(Struct, frozen=True):
    """An account's subscription to its alerts. `secret` ("whsec_...") signs; it is told once, at creation.

    `status` "disabled": nothing is sent any more, and `reason` says why.
    """

    id: Name
    account: Name
    url: Annotated[str, Meta(max_length=2048)]
    secret: str
    kinds: tuple[AlertKind, ...]
    created_at: Instant
    status: Literal["active", "disabled"] = "active"
    reason: str = ""
    changed_at: Instant | None = None

    def __repr__(self) -> str:
        """Without the secret: this is what logs and error messages show."""
        return f"Webhook({self.id!r}, {self.account!r}, {self.url!r}, {self.status!r})"


class Delivery(Struct, frozen=True):
    """How telling one webhook of one alert went so far. `body` is what is sent, byte for byte the same every time.

    "pending": it is tried again at `next_at`; "failed": it is not. `status` is the receiver's last HTTP status, if it answered.
    """

    webhook: str
    alert: str
    account: str
    body: str
    created_at: Instant
    state: Literal["pending", "delivered", "failed"] = "pending"
    attempts: int = 0
    next_at: Instant | None = None
    last_at: Instant | None = None
    status: int | None = None
    error: str = ""
