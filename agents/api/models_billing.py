"""The shapes of the billing center's requests and answers, as the OpenAPI document shows them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Struct
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, model_validator

from agents.api.models_history import Exact, RequestDay
from schemas.wire import Package

_CENT = Decimal("0.01")
Name = Annotated[str, Field(min_length=1, max_length=256)]
#: An amount in a request. The same amount is the same text, so that a repeated command is recognized.
Money = Annotated[
    Decimal,
    Field(ge=0, le=10**12, decimal_places=2),
    AfterValidator(lambda amount: amount.quantize(_CENT)),
    PlainSerializer(lambda amount: f"{amount:f}", return_type=str),
]
Multiples = Annotated[int, Field(ge=0, le=10**9)]
_ID = "The same id again is the same command. Required, here or as the header Idempotency-Key, except for a quote"


class _Command(BaseModel):
    """What all commands have."""

    model_config = ConfigDict(extra="forbid")

    id: Name | None = Field(None, description=_ID)
    effective: RequestDay | None = Field(
        None, description="First day that it counts for; left out: the account's today"
    )


class _Wanted(_Command):
    plan: str | None = Field(None, max_length=64, description="A plan of the catalog", examples=["startup"])
    traffic: dict[str, Multiples] = Field({}, description="Traffic package -> how many of its quotas")
    payment: dict[Name, Money] = Field({}, description="Pocket -> amount; in all the price")


class QuoteRequest(_Wanted):
    """A plan for workspaces in draw-down order; or, for the plan package `package`, its upgrade to `plan`, or traffic."""

    package: Name | None = Field(None, description="An existing plan package")
    workspaces: list[Name] = Field([], max_length=10_000, description="Who shares it; the first is covered first")


class OrderRequest(QuoteRequest):
    """As a quote, with the price that was confirmed."""

    price: Money


class AccountOrderRequest(OrderRequest):
    """The same, with the account."""

    account: Name


class ChangeRequest(_Wanted):
    """An upgrade, or traffic, with the price that was confirmed."""

    price: Money


class AmendmentRequest(_Command):
    """Other workspaces for a package, or the same in another order; or its end before the day `effective`."""

    workspaces: list[Name] | None = Field(None, min_length=1, max_length=10_000)
    end: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> AmendmentRequest:
        if self.end == (self.workspaces is not None):
            raise ValueError("either `workspaces`, or `end`")
        return self


class DepositRequest(BaseModel):
    """Money that comes in. Cards, in hundreds, and vouchers are pockets of their own; cash and cards clear arrears first."""

    model_config = ConfigDict(extra="forbid")

    id: Name | None = Field(None, description=_ID)
    pocket: Name = Field(description="`cash`, `card:ID`, `voucher:ID` or `threshold:ID`", examples=["cash"])
    amount: Money
    threshold: Money = Field(Decimal(0), description="Of a threshold voucher: usable from this charge on")
    expires: RequestDay | None = Field(None, description="Last day of a card or voucher")


class FaultDocument(Struct, frozen=True):
    """One reason why an order would be refused: a stable code, where, and in words."""

    code: str
    at: str
    message: str


class QuoteDocument(Struct, frozen=True):
    """What an order would cost and make now. Price and packages hold only without faults."""

    price: Decimal
    currency: str
    packages: list[Package]
    faults: list[FaultDocument]


class MeterQuota(BaseModel):
    """A package's quota of a meter, and what is used of it today."""

    meter: str = Field(examples=["logs"])
    meter_name: str = Field(examples=["Log data"])
    unit: str
    quota: int
    used: int


class PackageRow(BaseModel):
    """A package as its owner sees it. `days_left` counts today; `changeable`: an order made it, and it is not over."""

    package: str
    kind: Literal["plan", "traffic"]
    plan: str | None
    plan_name: str | None
    state: Literal["active", "upcoming", "ended"]
    workspaces: list[str]
    effective: date
    expires: date
    days_left: int
    price: Exact
    currency: str
    belongs_to: str | None
    changeable: bool
    quotas: list[MeterQuota]


class PackageRows(BaseModel):
    """Plans with their traffic packages behind them; what is over comes last."""

    account: str
    today: date
    packages: list[PackageRow]


class Pocket(BaseModel):
    """Money of a kind. `usable`: today; `threshold`: of a threshold voucher."""

    pocket: str = Field(examples=["card:c1"])
    kind: str = Field(description="`cash`, `card`, `voucher` or `threshold`")
    balance: Exact
    usable: Exact
    expires: date | None
    threshold: Exact | None


class Posting(BaseModel):
    """One side of an entry: a pocket, `arrears`, or outside the wallet `bank`, `granted`, `packages`, `usage`."""

    account: str
    amount: Exact


class Entry(BaseModel):
    """Money that moved; the postings sum to zero. `reference`: the id of a command, or `day/revision` of a statement."""

    id: str
    reference: str
    version: int
    at: datetime
    postings: list[Posting]


class Wallet(BaseModel):
    """What the account has and owes, and how that came about, the newest first. `version` null: no money ever came in."""

    account: str
    currency: str
    pockets: list[Pocket]
    owes: Exact
    owes_since: date | None
    locked: bool
    version: int | None
    entries: list[Entry]


class StatementDay(BaseModel):
    """The newest statement of a settled day."""

    day: date
    revision: int
    lines: int
    amount: Exact
    currency: str
    at: datetime


class StatementMonth(BaseModel):
    """The settled days of a month. `amount` is what they are payable in all."""

    account: str
    month: str = Field(examples=["2026-11"])
    amount: Exact
    currency: str
    days: list[StatementDay]
