"""What accounts are warned of, and who is told: alert rules and webhooks."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal, TypeVar

import orjson
from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from agents.api.accounts import OwnAccount
from agents.api.auth import Admin, Reader
from agents.api.bodies import AccountName, body_of, read_model
from agents.api.keys import Key
from agents.api.models_history import Exact
from agents.api.problems import FieldError, Problem, no_such, unavailable
from agents.api.services import api_of
from agents.parsers import rules_parser
from agents.webhooks.manage import WebhookRefused, shown
from pipeline.admission import UNDECODABLE
from schemas.alerting import ALERT_KINDS, AMOUNT_MAX, DECIMALS_MAX, AlertKind, AlertRules, Webhook

router = APIRouter()

_T = TypeVar("_T")
_DEFAULTS = AlertRules("-")
_Share = Annotated[Exact, Field(gt=0, le=1, decimal_places=DECIMALS_MAX)]
_Amount = Annotated[Exact, Field(gt=0, le=AMOUNT_MAX, decimal_places=DECIMALS_MAX)]


class AlertRulesDocument(BaseModel):
    """What an account is warned of; what is left out is as the defaults."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    thresholds: list[_Share] = Field(list(_DEFAULTS.thresholds), description="Shares of a quota.")
    hysteresis: Annotated[Exact, Field(ge=0, le=1, decimal_places=DECIMALS_MAX)] = Field(
        _DEFAULTS.hysteresis, description="How far use must fall below a threshold to re-arm it."
    )
    meters: list[str] | None = Field(None, description="Quota alerts of these meters only; null: all.")
    forecast: bool = Field(default=True, description="Warn when a quota will end before the day does.")
    amounts: dict[str, _Amount] = Field({}, description="Meter -> what its day may cost.", examples=[{"logs": "75"}])
    total_amount: _Amount | None = Field(None, description="What a day may cost in all.")
    receivers: list[str] | None = Field(None, description="Webhooks that are told; null: all of the account.")


class WebhookRequest(BaseModel):
    """A subscription to an account's alerts."""

    model_config = ConfigDict(extra="forbid")

    account: str = Field(min_length=1, max_length=256, examples=["acct-1"])
    url: str = Field(max_length=2048, examples=["https://example.com/drawdown"])
    kinds: list[AlertKind] = Field(list(ALERT_KINDS), min_length=1)


class WebhookDocument(BaseModel):
    """A subscription, and why it is disabled if it is."""

    id: str = Field(examples=["wh_0123456789abcdef"])
    account: str
    url: str
    kinds: list[AlertKind]
    status: Literal["active", "disabled"]
    reason: str
    created_at: datetime
    changed_at: datetime | None


class NewWebhook(WebhookDocument):
    """`secret` verifies signatures; it is told this once."""

    secret: str = Field(examples=["whsec_..."])


class WebhookList(BaseModel):
    """The webhooks of an account."""

    webhooks: list[WebhookDocument]


class DeliveryDocument(BaseModel):
    """How telling a webhook of an alert went; `status` is the receiver's last HTTP status."""

    model_config = ConfigDict(from_attributes=True)

    alert: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    created_at: datetime
    next_at: datetime | None
    last_at: datetime | None
    status: int | None
    error: str


class DeliveryList(BaseModel):
    """The deliveries of a webhook, the newest first."""

    deliveries: list[DeliveryDocument]


class Attempt(BaseModel):
    """What came of an attempt; `id` is its `webhook-id`."""

    id: str
    delivered: bool
    status: int | None
    error: str


async def _answered(work: Awaitable[_T]) -> _T:
    """The result; 503 when Kafka does not answer."""
    try:
        return await work
    except KafkaError:
        raise unavailable("Kafka") from None


@router.get("/v1/accounts/{account:path}/alert-rules")
async def alert_rules(request: Request, account: OwnAccount) -> AlertRulesDocument:
    """The rules in force: the account's own, or the defaults."""
    store = api_of(request).webhooks.store
    await _answered(store.refresh())
    return AlertRulesDocument.model_validate(store.rules(account.account))


@router.put("/v1/accounts/{account:path}/alert-rules", openapi_extra=body_of(AlertRulesDocument))
async def put_alert_rules(request: Request, key: Admin, account: AccountName) -> AlertRulesDocument:
    """Replace the rules; they hold from now on, also for what is used already."""
    api = api_of(request)
    await api.accounts.find(key, account)
    rules = await read_model(request, AlertRulesDocument)
    value = orjson.dumps(rules.model_dump(mode="json") | {"account": account})
    try:
        rules_parser(api.catalog)(value)
    except (*UNDECODABLE, ValueError) as error:
        at, _, message = str(error).partition(": ")
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "the rules are not valid", [FieldError(at=at, message=message)]
        ) from None
    await _answered(api.webhooks.store.put_rules(account, value))
    return rules


@router.delete("/v1/accounts/{account:path}/alert-rules", status_code=HTTPStatus.NO_CONTENT)
async def delete_alert_rules(request: Request, key: Admin, account: AccountName) -> Response:
    """Back to the defaults."""
    api = api_of(request)
    await api.accounts.find(key, account)
    await _answered(api.webhooks.store.put_rules(account, None))
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _find(request: Request, key: Key, webhook: str) -> Webhook:
    store = api_of(request).webhooks.store
    await _answered(store.refresh())
    found = store.get(webhook)
    if found is None or not key.may(found.account):
        raise no_such("webhook")
    return found


async def _readable(request: Request, key: Reader, webhook: str) -> Webhook:
    return await _find(request, key, webhook)


async def _changeable(request: Request, key: Admin, webhook: str) -> Webhook:
    return await _find(request, key, webhook)


OwnWebhook = Annotated[Webhook, Depends(_readable)]
OwnWebhookToChange = Annotated[Webhook, Depends(_changeable)]


def _document(webhook: Webhook) -> WebhookDocument:
    return WebhookDocument.model_validate(shown(webhook))


@router.get("/v1/webhooks")
async def webhooks(
    request: Request,
    key: Reader,
    account: Annotated[str | None, Query(description="Left out: all accounts of the key.", examples=["acct-1"])] = None,
) -> WebhookList:
    """The webhooks of an account, or of all that the key may read."""
    api = api_of(request)
    store = api.webhooks.store
    await _answered(store.refresh())
    names = sorted(filter(key.may, store.accounts()))
    if account is not None:
        names = [(await api.accounts.find(key, account)).account]
    return WebhookList(webhooks=[_document(webhook) for name in names for webhook in store.of(name)])


@router.post("/v1/webhooks", status_code=HTTPStatus.CREATED, openapi_extra=body_of(WebhookRequest))
async def add_webhook(request: Request, key: Admin) -> NewWebhook:
    """Subscribe a URL. Messages are signed by the Standard Webhooks specification, with the secret of this answer."""
    api = api_of(request)
    wanted = await read_model(request, WebhookRequest)
    await api.accounts.find(key, wanted.account)
    try:
        added = await _answered(api.webhooks.add(wanted.account, wanted.url, tuple(dict.fromkeys(wanted.kinds))))
    except WebhookRefused as refused:
        told = FieldError(at="body.url", message=str(refused))
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the webhook is not accepted", [told]) from None
    return NewWebhook.model_validate(shown(added) | {"secret": added.secret})


@router.get("/v1/webhooks/{webhook}")
async def one_webhook(webhook: OwnWebhook) -> WebhookDocument:
    """A webhook."""
    return _document(webhook)


@router.delete("/v1/webhooks/{webhook}", status_code=HTTPStatus.NO_CONTENT)
async def remove_webhook(request: Request, webhook: OwnWebhookToChange) -> Response:
    """Forget a webhook, and its secret."""
    await _answered(api_of(request).webhooks.store.remove(webhook.id))
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post("/v1/webhooks/{webhook}/disable")
async def disable_webhook(request: Request, webhook: OwnWebhookToChange) -> WebhookDocument:
    """Send nothing more to it."""
    return _document(await _answered(api_of(request).webhooks.set_status(webhook, "disabled", "disabled by hand")))


@router.post("/v1/webhooks/{webhook}/enable")
async def enable_webhook(request: Request, webhook: OwnWebhookToChange) -> WebhookDocument:
    """Send alerts to it again, from now on."""
    return _document(await _answered(api_of(request).webhooks.set_status(webhook, "active")))


@router.post("/v1/webhooks/{webhook}/test")
async def try_webhook(request: Request, webhook: OwnWebhookToChange) -> Attempt:
    """Send a message of type `webhook.test` now, and say what came of it."""
    message, outcome = await api_of(request).webhooks.test(webhook)
    return Attempt(id=message, delivered=outcome.delivered, status=outcome.status, error=outcome.error)


@router.get("/v1/webhooks/{webhook}/deliveries")
async def deliveries(
    request: Request, webhook: OwnWebhook, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> DeliveryList:
    """How telling it of each alert went."""
    found = await _answered(api_of(request).webhooks.deliveries(webhook))
    return DeliveryList(deliveries=[DeliveryDocument.model_validate(one) for one in found[:limit]])


@router.post("/v1/webhooks/{webhook}/deliveries/{alert}/resend")
async def resend(request: Request, webhook: OwnWebhookToChange, alert: str) -> Attempt:
    """Send an alert again now, whatever came of it before; receivers tell repetitions by `webhook-id`."""
    after = await _answered(api_of(request).webhooks.resend(webhook, alert))
    if after is None:
        raise no_such("alert")
    return Attempt(id=alert, delivered=after.state == "delivered", status=after.status, error=after.error)
