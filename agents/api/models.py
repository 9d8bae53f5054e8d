"""The shapes of the live answers, as the OpenAPI document shows them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field


class AccountSummary(BaseModel):
    """An account that the key may read. `today` is its day."""

    account: str = Field(examples=["acct-1"])
    workspaces: int
    packages: int
    time_zone: str = Field(examples=["Asia/Shanghai"])
    currency: str = Field(examples=["CNY"])
    site: str = Field(examples=["cn"])
    today: date


class AccountList(BaseModel):
    """The accounts of the key."""

    accounts: list[AccountSummary]


class KeyDocument(BaseModel):
    """The key of the request, without its secret. `admin` reads and writes; `*` among the accounts: all."""

    id: str
    name: str
    accounts: list[str]
    scopes: list[Literal["ingest", "read", "admin"]]


class Share(BaseModel):
    """What a package covers of a workspace; `demand` is what reached this package, in converted quantity."""

    workspace: str = Field(examples=["ws-a"])
    demand: int = Field(examples=[100_000_000])
    covered: int = Field(examples=[50_000_000])


class QuotaStatus(BaseModel):
    """A package's quota of a day and meter. `version` and `at` are null while nothing was used."""

    account: str = Field(examples=["acct-1"])
    day: date
    meter: str = Field(examples=["logs"])
    package: str = Field(examples=["pkg-1"])
    quota: int = Field(examples=[150_000_000])
    used: int = Field(examples=[120_000_000])
    remaining: int = Field(examples=[30_000_000])
    utilization: float = Field(examples=[0.8])
    workspaces: list[Share]
    burn_rate_per_minute: int = Field(examples=[1_200_000])
    exhausts_at: datetime | None
    version: int | None = Field(examples=[4711])
    at: datetime | None


class QuotaRow(QuotaStatus):
    """As the topic has it, and what the package is. `order` 1 is drawn down first."""

    kind: Literal["plan", "traffic"]
    plan: str | None
    order: int = Field(examples=[1])
    effective: date
    expires: date
    meter_name: str = Field(examples=["Log data"])
    unit: str = Field(examples=["entry"])


class Quotas(BaseModel):
    """Every package and meter of an account's day, in draw-down order within a meter."""

    account: str = Field(examples=["acct-1"])
    day: date
    time_zone: str = Field(examples=["Asia/Shanghai"])
    currency: str = Field(examples=["CNY"])
    day_starts_at: datetime
    day_ends_at: datetime
    quotas: list[QuotaRow]


class Cover(BaseModel):
    """A package that covers a workspace. `place` 1 is the first workspace of the package."""

    package: str = Field(examples=["pkg-1"])
    kind: Literal["plan", "traffic"]
    order: int
    place: int
    quota: int
    used: int
    remaining: int
    demand: int
    covered: int
    version: int | None


class PaygQuantity(BaseModel):
    """Usage of a meter that no package of the workspace has; not converted."""

    retention_days: int | None
    quantity: int


class WorkspaceMeter(BaseModel):
    """A meter of a workspace: what reached its packages, what they cover, and what is left over."""

    meter: str = Field(examples=["logs"])
    demand: int
    covered: int
    overage: int
    packages: list[Cover]
    payg: list[PaygQuantity]


class FreeLimit(BaseModel):
    """A daily limit of the Free plan; `stop` once it is reached."""

    meter: str
    limit: int
    used: int
    stop: bool


class WorkspaceQuotas(BaseModel):
    """What covers a workspace today, and its overage."""

    workspace: str = Field(examples=["ws-a"])
    name: str
    account: str
    plan: Literal["commercial", "free"]
    day: date
    meters: list[WorkspaceMeter]
    free: list[FreeLimit]


class Alert(BaseModel, extra="allow"):
    """As the topic `alerts` has it."""

    id: str
    account: str
    day: date
    kind: str
    meter: str
    at: datetime


class Alerts(BaseModel):
    """The newest first."""

    account: str
    alerts: list[Alert]
