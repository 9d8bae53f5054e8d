"""The shapes of the answers out of ClickHouse, as the OpenAPI document shows them."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer

Basis = Literal["package", "payg"]


def _iso(value: object) -> object:
    """Only what the document says: a number is no day."""
    if isinstance(value, str) and not _ISO_DAY.fullmatch(value):
        raise ValueError("a day is written YYYY-MM-DD")
    return value


_ISO_DAY = re.compile(r"\d{4}-\d\d-\d\d")
#: A day in a request: one that ClickHouse's `Date` knows.
RequestDay = Annotated[date, BeforeValidator(_iso), Field(ge=date(1970, 1, 1), le=date(2149, 6, 6))]
#: Money and units: text, exact, without trailing zeros.
Exact = Annotated[Decimal, PlainSerializer(lambda value: f"{value.normalize():f}", return_type=str)]


class OverageRow(BaseModel):
    """The newest overage of its identity; `quantity` is the running total."""

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
    at: datetime
    currency: str
    site: str


class Overage(BaseModel):
    """The overage of a range of days. `truncated`: there are more rows than one answer has."""

    account: str
    from_: date = Field(serialization_alias="from")
    to: date
    truncated: bool
    overage: list[OverageRow]


class ChargeLine(BaseModel):
    """Priced usage. Without a price in the list, `units`, `price` and `amount` are null."""

    meter: str
    basis: Basis
    retention_days: int | None
    quantity: int
    units: Exact | None = Field(examples=["50"])
    price: Exact | None = Field(examples=["1.5"])
    amount: Exact | None = Field(examples=["75"])
    currency: str


class WorkspaceCharges(BaseModel):
    """The charges of a workspace."""

    workspace: str
    name: str
    up_to_now: Exact = Field(examples=["75"])
    up_to_yesterday: Exact = Field(examples=["0"])
    lines: list[ChargeLine]


class DayCharge(BaseModel):
    """The charge of one day."""

    day: date
    amount: Exact


class Charges(BaseModel):
    """What a range of days costs, exact and not rounded; `up_to_yesterday` leaves the account's today out."""

    account: str
    from_: date = Field(serialization_alias="from")
    to: date
    today: date
    currency: str
    up_to_now: Exact = Field(examples=["75"])
    up_to_yesterday: Exact = Field(examples=["0"])
    unpriced: int
    workspaces: list[WorkspaceCharges]
    days: list[DayCharge]


class BurndownPoint(BaseModel):
    """The last value within its interval."""

    at: datetime
    used: int
    remaining: int


class Forecast(BaseModel):
    """As of the last point; `exhausts_at` null: not before the day ends."""

    burn_rate_per_minute: int
    exhausts_at: datetime | None


class BurndownSeries(BaseModel):
    """A package's day."""

    package: str
    quota: int
    points: list[BurndownPoint]
    forecast: Forecast


class Burndown(BaseModel):
    """How a meter's quotas were drawn down over a day."""

    account: str
    meter: str
    day: date
    day_starts_at: datetime
    day_ends_at: datetime
    interval_seconds: int
    packages: list[BurndownSeries]


class StatementLine(BaseModel):
    """One priced line."""

    workspace: str
    meter: str
    basis: Basis
    retention_days: int | None
    quantity: int
    units: Exact
    price: Exact | None
    amount: Exact | None


class Statement(BaseModel):
    """An account's settled day, in its newest revision."""

    account: str
    day: date
    revision: int
    replaces: int | None
    currency: str
    amount: Exact
    lines: list[StatementLine]
    version: int
    at: datetime


class Statements(BaseModel):
    """The revisions of a day, the newest first."""

    statements: list[Statement]
