"""Routes that answer out of the live views."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Path, Query, Request

from agents.api.accounts import Account, OwnAccount
from agents.api.auth import Reader
from agents.api.models import AccountList, AccountSummary, Alert, Alerts, KeyDocument, Quotas, WorkspaceQuotas
from agents.api.models_history import RequestDay
from agents.api.quotas import free_limits, live_statuses, quota_rows, workspace_meters
from agents.api.services import Api, api_of
from agents.api.stream import EventStream, pulse_figures
from pipeline.days import day_bounds, to_instant

router = APIRouter()

Day = Annotated[RequestDay | None, Query(description="The account's day; left out: today.", examples=["2026-11-24"])]


@router.get("/v1/key")
async def own_key(key: Reader) -> KeyDocument:
    """What this key may do."""
    return KeyDocument(id=key.id, name=key.name, accounts=list(key.accounts), scopes=list(key.scopes))


@router.get("/v1/accounts")
async def accounts(request: Request, key: Reader) -> AccountList:
    """The accounts that this key may read."""
    api = api_of(request)
    return AccountList(accounts=[_summary(api.accounts.account(name)) for name in api.accounts.names(key)])


def _summary(account: Account) -> AccountSummary:
    return AccountSummary(
        account=account.account, workspaces=len(account.workspaces), packages=len(account.packages),
        time_zone=account.time_zone, currency=account.currency, site=account.site, today=account.today,
    )  # fmt: skip


@router.get("/v1/accounts/{account:path}/quotas")
async def quotas(request: Request, account: OwnAccount, day: Day = None) -> Quotas:
    """Every package and meter: quota, used, remaining, utilization, forecast, and who holds how much."""
    api = api_of(request)
    when = day or account.today
    if str(when) >= api.feed.live.first_day:
        statuses = live_statuses(api.feed.live.figures(account.account), when)
    else:
        statuses = await api.history.statuses(account.account, when)
    starts, ends = map(to_instant, day_bounds(when, account.time_zone))
    return Quotas(
        account=account.account, day=when, time_zone=account.time_zone, currency=account.currency,
        day_starts_at=starts, day_ends_at=ends, quotas=quota_rows(account, when, api.catalog, statuses),
    )  # fmt: skip


@router.get("/v1/workspaces/{workspace:path}/quotas")
async def workspace_quotas(
    request: Request, key: Reader, workspace: Annotated[str, Path(min_length=1, max_length=256)]
) -> WorkspaceQuotas:
    """What covers this workspace now, and its overage."""
    api = api_of(request)
    binding = await api.accounts.find_workspace(key, workspace)
    account = api.accounts.account(binding.account)
    day = account.today
    meters = workspace_meters(workspace, account, day, api.catalog, api.feed.live.figures(account.account))
    return WorkspaceQuotas(
        workspace=workspace, name=binding.name, account=account.account, plan=binding.plan, day=day, meters=meters,
        free=free_limits(binding, meters, api.catalog),
    )  # fmt: skip


@router.get("/v1/accounts/{account:path}/alerts")
async def alerts(
    request: Request, account: OwnAccount, day: Day = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Alerts:
    """The newest alerts first; of all days when none is given."""
    figures = api_of(request).feed.live.figures(account.account)
    found = [orjson.loads(value) for _, value in reversed(figures.alert.values())] if figures else []
    wanted = [alert for alert in found if day is None or alert["day"] == str(day)]
    return Alerts(account=account.account, alerts=[Alert.model_validate(alert) for alert in wanted[:limit]])


@router.get(
    "/v1/accounts/{account:path}/stream",
    status_code=HTTPStatus.OK,
    response_class=EventStream,
    responses={200: {"description": "Server-sent events `snapshot`, `quota`, `overage`, `alert` and `heartbeat`.",
                     "content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)  # fmt: skip
async def stream(
    request: Request, key: Reader, account: OwnAccount, last_event_id: Annotated[str | None, Header()] = None
) -> EventStream:
    """Quota status, overage and alerts as they change. With the `Last-Event-ID` that was seen last, nothing is missed."""
    api, name = api_of(request), account.account
    return EventStream(api.feed.live, name, last_event_id, lambda: _pulse(api, name) if api.gate.keys.still_valid(key) else None)  # fmt: skip


def _pulse(api: Api, account: str) -> dict[str, object]:
    figures = api.feed.live.figures(account)
    return pulse_figures(
        figures.newest_at if figures else None, live=api.watch.is_live, lag=api.watch.lag,
        per_second=api.feed.activity.per_second(account, time.time()),
    )  # fmt: skip
