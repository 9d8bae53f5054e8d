"""Orders and packages: quotes, purchases, upgrades, traffic, and who shares what."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request, Response

from agents.api.accounts import Account, OwnAccount
from agents.api.auth import Admin
from agents.api.billing import Answer, field_error
from agents.api.bodies import AccountName, body_of, read_model
from agents.api.documents import many_of, one_of
from agents.api.keys import Key
from agents.api.models_billing import (
    AccountOrderRequest,
    AmendmentRequest,
    ChangeRequest,
    FaultDocument,
    MeterQuota,
    OrderRequest,
    PackageRow,
    PackageRows,
    QuoteDocument,
    QuoteRequest,
)
from agents.api.problems import FieldError, Problem, no_such
from agents.api.quotas import live_statuses, quota_rows
from agents.api.services import Api, api_of
from schemas.billing import Amendment, Order
from schemas.wire import Package

router = APIRouter()

PackageName = Annotated[str, Path(min_length=1, max_length=256, examples=["order-1"])]
IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=256, description="In place of the body's `id`; one of both is required")
]
_NEW: dict[int | str, dict[str, Any]] = {
    200: one_of("Outcome", "It was carried out before, by the same id"),
    201: one_of("Outcome", "It is carried out"),
}
_QUOTE = {"plan": "startup", "workspaces": ["ws-a", "ws-b"], "traffic": {"logs": 30}}
_ORDER = _QUOTE | {"id": "order-1", "price": "55392.00", "payment": {"cash": "55292.00", "card:c1": "100.00"}}
_UPGRADE = {"id": "order-2", "plan": "development", "price": "238000.00", "payment": {"cash": "238000.00"}}
_TRAFFIC = {"id": "order-3", "traffic": {"sms": 1}, "price": "3720.00", "payment": {"cash": "3720.00"}}


def identity_of(given: str | None, header: str | None) -> str:
    """The id of a command: of its body or header, which must not differ. Without one, a repetition would be another command."""
    identity = given or header
    if identity is not None and identity == (header or identity):
        return identity
    message = "differs from the header Idempotency-Key" if identity else "missing, as is the header Idempotency-Key"
    wrong = FieldError(at="body.id", message=message)
    raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the request is not valid", [wrong])


def operator_of(key: Key) -> str:
    """Who did it, for the log."""
    return f"api-key {key.id}"


def answered(answer: Answer) -> Response:
    """200 or 201 with the outcome."""
    status = HTTPStatus.CREATED if answer.new else HTTPStatus.OK
    return Response(msgspec.json.encode(answer.outcome), status, media_type="application/json")


@router.get("/v1/accounts/{account:path}/orders", responses={200: many_of("orders", "Outcome")})
async def orders(
    request: Request,
    account: OwnAccount,
    identity: Annotated[str | None, Query(alias="id", description="Of one command")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """What became of orders, amendments and deposits of the last 35 days, the newest first."""
    found = api_of(request).feed.books.outcomes(account.account)
    wanted = [outcome for outcome in found if identity in (None, outcome.id)][:limit]
    return Response(msgspec.json.encode({"orders": wanted}), media_type="application/json")


@router.post(
    "/v1/accounts/{account:path}/orders/quote",
    openapi_extra=body_of(QuoteRequest, _QUOTE),
    responses={200: one_of("QuoteDocument", "Also of an order that would be refused: `faults` says why")},
)
async def quote(request: Request, key: Admin, account: AccountName) -> Response:
    """What an order would cost and make, and everything that is wrong with it. Nothing is ordered."""
    api = api_of(request)
    known = await api.accounts.find(key, account)
    wanted = await read_model(request, QuoteRequest)
    quoted = api.billing.quote(known, _order(known, key, wanted, wanted.id or "quote"))
    told = [field_error(fault) for fault in quoted.faults]
    document = QuoteDocument(
        price=quoted.price, currency=known.currency, packages=quoted.packages,
        faults=[FaultDocument(code=one.code or "", at=one.at, message=one.message) for one in told],
    )  # fmt: skip
    return Response(msgspec.json.encode(document), media_type="application/json")


@router.post(
    "/v1/accounts/{account:path}/orders", status_code=HTTPStatus.CREATED, openapi_extra=body_of(OrderRequest, _ORDER),
    responses=_NEW,
)  # fmt: skip
async def order(request: Request, key: Admin, account: AccountName, idempotency_key: IdempotencyKey = None) -> Response:
    """Buy a plan, upgrade one, or add traffic to it: whole, or refused (422) with every reason and nothing changed."""
    api = api_of(request)
    known = await api.accounts.find(key, account)
    wanted = await read_model(request, OrderRequest)
    return await _place(api, known, key, wanted, wanted.price, idempotency_key)


@router.post(
    "/v1/orders", status_code=HTTPStatus.CREATED, openapi_extra=body_of(AccountOrderRequest, {"account": "acct-1"} | _ORDER),
    responses=_NEW,
)  # fmt: skip
async def order_of_account(request: Request, key: Admin, idempotency_key: IdempotencyKey = None) -> Response:
    """The same, for the account that the body names."""
    api = api_of(request)
    wanted = await read_model(request, AccountOrderRequest)
    known = await api.accounts.find(key, wanted.account)
    return await _place(api, known, key, wanted, wanted.price, idempotency_key)


@router.post(
    "/v1/packages/{package:path}/upgrade", status_code=HTTPStatus.CREATED, openapi_extra=body_of(ChangeRequest, _UPGRADE),
    responses=_NEW,
)  # fmt: skip
async def upgrade(request: Request, key: Admin, package: PackageName, idempotency_key: IdempotencyKey = None) -> Response:  # fmt: skip
    """Replace a plan by a larger one for the rest of its term; the price is the difference for the days that are left."""
    return await _change(request, key, package, idempotency_key)


@router.post(
    "/v1/packages/{package:path}/traffic", status_code=HTTPStatus.CREATED, openapi_extra=body_of(ChangeRequest, _TRAFFIC),
    responses=_NEW,
)  # fmt: skip
async def traffic(request: Request, key: Admin, package: PackageName, idempotency_key: IdempotencyKey = None) -> Response:  # fmt: skip
    """Add traffic packages to a plan; they are valid as long as it is."""
    return await _change(request, key, package, idempotency_key)


async def _change(request: Request, key: Key, package: str, header: str | None) -> Response:
    api = api_of(request)
    found = api.feed.packages.get(package)
    if found is None or not key.may(found.account):
        raise no_such("package")
    wanted = await read_model(request, ChangeRequest)
    of_package = QuoteRequest(**wanted.model_dump(exclude={"price"}), package=package)
    return await _place(api, api.accounts.account(found.account), key, of_package, wanted.price, header)


def _order(known: Account, key: Key, wanted: QuoteRequest, identity: str, price: Decimal = Decimal(0)) -> Order:
    # The order of names in a document means nothing: the same document is the same order.
    return Order(
        account=known.account, id=identity, effective=wanted.effective or known.today, price=price,
        payment=dict(sorted(wanted.payment.items())), operator=operator_of(key), at=datetime.now(UTC), plan=wanted.plan,
        package=wanted.package, traffic=dict(sorted(wanted.traffic.items())), workspaces=tuple(wanted.workspaces),
    )  # fmt: skip


async def _place(
    api: Api, known: Account, key: Key, wanted: QuoteRequest, price: Decimal, header: str | None
) -> Response:
    order = _order(known, key, wanted, identity_of(wanted.id, header), price)
    return answered(await api.billing.order(partial(api.accounts.account, order.account), order))


@router.get("/v1/accounts/{account:path}/packages")
async def packages(request: Request, account: OwnAccount) -> PackageRows:
    """The packages with their contents, the days that are left, and what is used of them today."""
    api, today = api_of(request), account.today
    rows = quota_rows(account, today, api.catalog, live_statuses(api.feed.live.figures(account.account), today))
    used = {(row.package, row.meter): row.used for row in rows}
    found = [_row(api, package, account, used) for package in account.packages]
    states = ("active", "upcoming", "ended")
    found.sort(key=lambda row: (states.index(row.state), row.belongs_to or row.package, row.kind, row.package))
    return PackageRows(account=account.account, today=today, packages=found)


def _row(api: Api, package: Package, account: Account, used: dict[tuple[str, str], int]) -> PackageRow:
    today, meters = account.today, api.catalog.meters
    ended = package.status == "ended" or package.expires < today
    plan = api.catalog.plans.get(package.plan or "")
    return PackageRow(
        package=package.package, kind=package.kind, plan=package.plan, plan_name=plan.name if plan else None,
        state="ended" if ended else "upcoming" if package.effective > today else "active",
        workspaces=list(package.workspaces), effective=package.effective, expires=package.expires,
        days_left=0 if ended else (package.expires - max(today, package.effective)).days + 1, price=package.price,
        currency=package.currency, belongs_to=package.belongs_to, changeable=package.order is not None and not ended,
        quotas=[
            MeterQuota(meter=meter, meter_name=meters[meter].name, unit=meters[meter].unit, quota=quota,
                       used=used.get((package.package, meter), 0))
            for meter, quota in package.quotas.items()
        ],
    )  # fmt: skip


@router.post(
    "/v1/accounts/{account:path}/packages/{package:path}/amendments", status_code=HTTPStatus.CREATED,
    openapi_extra=body_of(AmendmentRequest, {"id": "amendment-1", "workspaces": ["ws-b", "ws-a"]}), responses=_NEW,
)  # fmt: skip
async def amend(
    request: Request, key: Admin, account: AccountName, package: PackageName, idempotency_key: IdempotencyKey = None
) -> Response:
    """Share a package by other workspaces, or in another order, or end it; the days before keep what they had."""
    api = api_of(request)
    known = await api.accounts.find(key, account)
    found = api.feed.packages.get(package)
    if found is None or found.account != account:
        raise no_such("package")
    wanted = await read_model(request, AmendmentRequest)
    amendment = Amendment(
        account=account, id=identity_of(wanted.id, idempotency_key), package=package,
        workspaces=tuple(wanted.workspaces or ()), effective=wanted.effective or known.today, operator=operator_of(key),
        at=datetime.now(UTC),
    )  # fmt: skip
    return answered(await api.billing.amend(partial(api.accounts.account, account), amendment))
