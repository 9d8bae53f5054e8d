"""What there is: packages, workspaces, and the catalog."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from agents.api.accounts import Account
from agents.api.auth import Reader
from agents.api.documents import many_of
from agents.api.keys import Key
from agents.api.services import api_of
from schemas.catalog import Catalog

router = APIRouter()

_OfAccount = Annotated[str | None, Query(description="Left out: all accounts of the key.", examples=["acct-1"])]


@router.get("/v1/packages", responses={200: many_of("packages", "Package")})
async def packages(request: Request, key: Reader, account: _OfAccount = None) -> Response:
    """The packages of an account, or of all that the key may read."""
    found = [package for one in await _accounts(request, key, account) for package in one.packages]
    return Response(msgspec.json.encode({"packages": found}), media_type="application/json")


@router.get("/v1/workspaces", responses={200: many_of("workspaces", "WorkspaceBinding")})
async def workspaces(request: Request, key: Reader, account: _OfAccount = None) -> Response:
    """The workspaces of an account, or of all that the key may read."""
    found = [binding for one in await _accounts(request, key, account) for binding in one.workspaces]
    return Response(msgspec.json.encode({"workspaces": found}), media_type="application/json")


async def _accounts(request: Request, key: Key, account: str | None) -> list[Account]:
    known = api_of(request).accounts
    return [await known.find(key, account)] if account is not None else [known.account(a) for a in known.names(key)]


class _FromCatalog(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class PriceEntry(_FromCatalog):
    """The price of one unit of a meter with this retention, at a site, from a day on."""

    retention_days: int
    site: str
    currency: str
    effective: date
    price: Decimal


class MeterEntry(_FromCatalog):
    """A meter. `factors`: retention in days -> conversion factor; `unit_size` quantities are one priced unit."""

    meter: str
    name: str
    unit: str
    unit_size: int
    aggregation: Literal["sum", "max"]
    default_retention: int
    factors: dict[int, int]
    free_daily: int | None
    prices: list[PriceEntry]


class PlanEntry(_FromCatalog):
    """A plan package; prices are for the whole term."""

    plan: str
    name: str
    term_days: int
    price: Decimal
    payg_price: Decimal
    currency: str
    quotas: dict[str, int]


class TrafficEntry(_FromCatalog):
    """A traffic package; the price is for one `quota` and day. `rates`: from so many quotas on, that share of it is paid."""

    traffic: str
    meter: str
    quota: int
    price: Decimal
    currency: str
    rates: dict[int, Decimal]


class CatalogDocument(BaseModel):
    """Everything that can be metered and sold."""

    meters: list[MeterEntry]
    plans: list[PlanEntry]
    traffic: list[TrafficEntry]


@router.get("/v1/catalog")
async def catalog(request: Request, key: Reader) -> CatalogDocument:  # noqa: ARG001  # any key that may read
    """The meters with their tiers and prices, the plans and the traffic packages."""
    return catalog_document(api_of(request).catalog)


def catalog_document(known: Catalog) -> CatalogDocument:
    """The catalog as a document."""
    return CatalogDocument(
        meters=[
            MeterEntry(
                meter=m.key, name=m.name, unit=m.unit, unit_size=m.unit_size, aggregation=m.aggregation,
                default_retention=m.default_retention, factors=dict(m.factors), free_daily=m.free_daily,
                prices=[PriceEntry.model_validate(price) for price in m.prices],
            )
            for m in known.meters.values()
        ],
        plans=[
            PlanEntry(plan=p.key, name=p.name, term_days=p.term_days, price=p.price, payg_price=p.payg_price,
                      currency=p.currency, quotas=dict(p.quotas))
            for p in known.plans.values()
        ],
        traffic=[
            TrafficEntry(traffic=t.key, meter=t.meter, quota=t.quota, price=t.price, currency=t.currency, rates=dict(t.rates))
            for t in known.traffic.values()
        ],
    )  # fmt: skip
