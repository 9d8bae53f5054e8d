"""Everything that changes an account: the values of the internal topic `account-events`.

All of an account's events pass through one partition in one order, and its state is a fold over that
order. Usage travels as batches of columns: one batch holds what one fetched chunk of the usage topic had
for an account. ClickHouse reads the very same JSON (`usage_events`), so names are public there too.
"""

from __future__ import annotations

from datetime import date

import msgspec
from msgspec import Struct

from schemas.alerting import AlertRules
from schemas.billing import Amendment, ArrearsDue, Funded, Order
from schemas.wire import Instant, Package, WorkspaceBinding

#: A series of a batch: workspace, day, meter, retention in days.
SeriesKey = tuple[str, date, str, int]


class Usage(Struct, frozen=True, tag="usage", tag_field="kind"):
    """A batch of valid usage events of one account out of one partition of the usage topic, in arrival order.

    This is what the fold reads of it. The event columns have one little-endian number an event, and stand in base64 in the JSON:
    `at` (16 bits) is the event's place in `series`; `quantities` (64 bits); `micros` (64 bits) its own time in microseconds
    since the epoch (UTC); `offsets` (64 bits) and `indexes` (32 bits) say where it stood in the usage topic (index -1: a record
    of its own); `identities` (128 bits) is BLAKE2b of (account, source, id).
    """

    account: str
    partition: int
    series: list[SeriesKey]
    at: bytes
    quantities: bytes
    micros: bytes
    offsets: bytes
    indexes: bytes
    identities: bytes


class RoutedUsage(Usage, frozen=True, tag="usage", tag_field="kind"):
    """The batch as it is written: with the identities in full, for the audit's sake, as JSON arrays of strings."""

    sources: msgspec.Raw
    ids: msgspec.Raw


class Bound(Struct, frozen=True, tag="binding", tag_field="kind"):
    """A workspace was bound to this account, or its binding changed, `at` that instant (None: it holds since ever)."""

    account: str
    binding: WorkspaceBinding
    at: Instant | None = None


class PackageChanged(Struct, frozen=True, tag="package", tag_field="kind"):
    """A package of this account was bought, changed or ended."""

    account: str
    package: Package


class AlertRulesChanged(Struct, frozen=True, tag="alert_rules", tag_field="kind"):
    """What the account wants to be warned of changed; None: the defaults hold again."""

    account: str
    rules: AlertRules | None


class DaySettled(Struct, frozen=True, tag="settlement", tag_field="kind"):
    """The account's day is stated as it stands here. The first one settles the day; a later one revises its statement."""

    account: str
    day: date
    at: Instant


class Correction(Struct, frozen=True, tag="correction", tag_field="kind"):
    """An operator's signed change of a series' day total, in the meter's unit; `id` makes a repeated one the same one.

    The total is what was counted plus all corrections, and never below 0, so the order of corrections does not matter.
    """

    account: str
    id: str
    day: date
    workspace: str
    meter: str
    retention_days: int
    quantity: int
    reason: str
    operator: str
    at: Instant


AccountEvent = (
    Usage
    | Bound
    | PackageChanged
    | AlertRulesChanged
    | DaySettled
    | Correction
    | Funded
    | Order
    | Amendment
    | ArrearsDue
)

_decoder = msgspec.json.Decoder(AccountEvent)
_encoder = msgspec.json.Encoder()


def decode_account_event(value: bytes) -> AccountEvent:
    """The event, or `msgspec.DecodeError`: this topic is ours, so that is a defect and not bad input."""
    event: AccountEvent = _decoder.decode(value)
    return event


def encode_account_event(event: AccountEvent) -> bytes:
    """JSON; `kind` comes first, so that a reader can tell usage apart without decoding."""
    return _encoder.encode(event)
