"""Public wire types: one struct per topic value of the contract.

Types are strict (no coercion, required fields required); unknown attributes are ignored, so that a
producer may send more than we know. Field names are public.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

#: Largest quantity of one event: 10^15. The largest day total a series can reach stays far below 2^63.
QUANTITY_MAX = 10**15

NAME_CHARS_MAX = 256
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
Instant = Annotated[datetime, Meta(tz=True)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Basis = Literal["package", "payg"]


class UsageData(Struct, frozen=True, gc=False):
    """`data` of a usage event. `quantity` counts the meter's unit; `retention_days` defaults to the workspace's."""

    quantity: int
    retention_days: int | None = None


class UsageEvent(Struct, frozen=True, gc=False):
    """One CloudEvent 1.0 of usage: `type` is `usage.` + meter, `subject` the workspace, `(source, id)` the identity."""

    specversion: Literal["1.0"]
    id: Name
    source: Name
    type: str
    subject: Name
    time: Instant
    data: UsageData


#: What a workspace pays for its use: pay-as-you-go and packages, or nothing.
WorkspacePlan = Literal["commercial", "free"]


class Retained(Struct, frozen=True):
    """Before the instant `until` the default retention was so many `days`."""

    until: Instant
    days: int


class WorkspaceBinding(Struct, frozen=True):
    """A workspace and the account that pays for it. `time_zone`, `currency` and `site` are the account's.

    `retention_days`: meter -> default retention of events that name none. `retention_before`: meter -> what held before, by
    ascending instant: an event gets the earliest that still held at its time.
    """

    workspace: Name
    account: Name
    name: str = ""
    plan: WorkspacePlan = "commercial"
    time_zone: str = "UTC"
    retention_days: dict[str, int] = {}
    currency: Currency = "CNY"
    site: str = "cn"
    retention_before: dict[str, tuple[Retained, ...]] = {}


class Package(Struct, frozen=True):
    """A prepaid daily quota for one or more meters, shared by `workspaces` in that order.

    It covers day D when `effective <= D <= expires` (the account's days). `quotas` are converted quantities a day. `order` names the
    order or amendment that made it, if one did; a traffic package `belongs_to` the plan package that it was added to.
    """

    package: Name
    account: Name
    kind: Literal["plan", "traffic"]
    workspaces: tuple[Name, ...]
    quotas: dict[str, Annotated[int, Meta(ge=0, le=10**18)]]
    effective: date
    expires: date
    ordered_at: Instant
    plan: str | None = None
    status: Literal["active", "ended"] = "active"
    price: Decimal = Decimal(0)
    currency: Currency = "CNY"
    order: Name | None = None
    belongs_to: Name | None = None


class OverageEvent(Struct, frozen=True):
    """The running total of what no package covers. `quantity` is cumulative; the newest `version` is the truth.

    `basis` "package": converted quantity over the quotas. "payg": not converted, per retention. `plan` is the workspace's on
    that day: what is used on the Free plan has no price.
    `id` is a function of the identity fields and `version` alone.
    """

    id: str
    account: str
    day: date
    workspace: str
    meter: str
    basis: Basis
    retention_days: int | None
    quantity: int
    version: int
    settled: bool
    at: Instant
    currency: str
    site: str
    plan: WorkspacePlan = "commercial"


class WorkspaceShare(Struct, frozen=True):
    """What a package covers of one workspace: `demand` is what reached this package, in converted quantity."""

    workspace: str
    demand: int
    covered: int


class QuotaStatus(Struct, frozen=True):
    """How far a package's quota of a day and meter is drawn down. `utilization` is `used / quota`, four decimals."""

    account: str
    day: date
    meter: str
    package: str
    quota: int
    used: int
    remaining: int
    utilization: Decimal
    workspaces: tuple[WorkspaceShare, ...]
    burn_rate_per_minute: int
    exhausts_at: Instant | None
    version: int
    at: Instant


class UsageTotal(Struct, frozen=True):
    """The day's total of one series: `quantity` as counted, `converted` = quantity x factor of its retention."""

    workspace: str
    meter: str
    retention_days: int
    quantity: int
    converted: int


class UsageTotals(Struct, frozen=True):
    """The changed day totals of an account, cumulative and versioned like every output (topic `usage-totals`).

    `counted`, `duplicates` and `conflicts` say how every event of the day that reached the ledger ended, in running totals.
    """

    account: str
    day: date
    version: int
    at: Instant
    counted: int
    duplicates: int
    conflicts: int
    totals: tuple[UsageTotal, ...]


class Alert(Struct, frozen=True):
    """A warning. `id` is a function of what it is about and `firing`, so a repeated alert is the same alert.

    `kind` "threshold": `value` of `quota` is at least the share `threshold`. "forecast": at the rate of the last minutes the
    quota ends at `exhausts_at`, before the day does. "high_consumption": the day's charge of a meter, or of all (`meter` ""), is
    `amount`, in `currency`, and more than `threshold`. "arrears": that day the wallet had no money for a charge any more, and
    "locked": that day the account was locked, since it still owed after the buffer; it owes `amount`. `firing` counts from 1: one that was re-armed is another alert.
    """

    id: str
    account: str
    day: date
    kind: str
    meter: str
    package: str | None
    threshold: Decimal | None
    value: int
    quota: int
    version: int
    at: Instant
    firing: int = 1
    exhausts_at: Instant | None = None
    amount: Decimal | None = None
    currency: str | None = None


class StatementLine(Struct, frozen=True):
    """One priced line of a statement: an overage, or pay-as-you-go usage of one retention.

    `price` and `amount` are None where the price list has no price: such a line is in no sum, and never passes for free.
    """

    workspace: str
    meter: str
    basis: Basis
    retention_days: int | None
    quantity: int
    units: Decimal
    price: Decimal | None
    amount: Decimal | None


class Statement(Struct, frozen=True):
    """An account's settled day; what comes late gives a new `revision` that names the one it `replaces`.

    `amount` is payable: the sum of the lines, rounded half up to 0.01. A statement of very many lines comes in parts, 0 to
    `last_part`, each with its `lines` and everything else of the whole. A part of an older revision than part 0 is of no use.
    """

    account: str
    day: date
    revision: int
    replaces: int | None
    currency: str
    amount: Decimal
    lines: tuple[StatementLine, ...]
    version: int
    at: Instant
    part: int = 0
    last_part: int = 0


class DeadLetter(Struct, frozen=True):
    """Input that cannot be counted. `value` is the original bytes in base64; `index` its place in an array, or null."""

    topic: str
    partition: int
    offset: int
    index: int | None
    key: str | None
    reason: str
    message: str
    value: str
    at: Instant


_encoder = msgspec.json.Encoder(decimal_format="number", order="deterministic")


def encode(value: Struct) -> bytes:
    """JSON bytes of a wire value; decimals are exact numbers, dates and instants ISO 8601."""
    return _encoder.encode(value)


__all__ = [
    "NAME_CHARS_MAX",
    "QUANTITY_MAX",
    "Alert",
    "Basis",
    "DeadLetter",
    "OverageEvent",
    "Package",
    "QuotaStatus",
    "Retained",
    "Statement",
    "StatementLine",
    "UsageData",
    "UsageEvent",
    "UsageTotal",
    "UsageTotals",
    "WorkspaceBinding",
    "WorkspacePlan",
    "WorkspaceShare",
    "encode",
]
