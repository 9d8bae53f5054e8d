"""Routes that answer out of ClickHouse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from http import HTTPStatus
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Path, Query, Request

from agents.api.accounts import Account, OwnAccount
from agents.api.models_history import (
    Burndown,
    BurndownPoint,
    BurndownSeries,
    ChargeLine,
    Charges,
    DayCharge,
    Forecast,
    Overage,
    OverageRow,
    RequestDay,
    Statement,
    WorkspaceCharges,
)
from agents.api.problems import FieldError, Problem, no_such
from agents.api.routes_live import Day
from agents.api.services import api_of
from pipeline.days import day_bounds, to_instant

router = APIRouter()

_RANGE = timedelta(days=400)
_ROWS_MAX = 20_000
_ZERO = Decimal(0)


class Days(NamedTuple):
    """A range of days, both ends included."""

    first: date
    last: date


async def _days(
    account: OwnAccount,
    from_: Annotated[RequestDay | None, Query(alias="from", description="Left out: the first of `to`'s month.")] = None,
    to: Annotated[RequestDay | None, Query(description="Left out: the account's today.")] = None,
) -> Days:
    last = to or account.today
    first = from_ or last.replace(day=1)
    if not timedelta(0) <= last - first <= _RANGE:
        wrong = [FieldError(at="query.from", message=f"not within the {_RANGE.days} days before `to`")]
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the request is not valid", wrong)
    return Days(first, last)


Range = Annotated[Days, Depends(_days)]


@router.get("/v1/accounts/{account:path}/overage")
async def overage(request: Request, account: OwnAccount, days: Range) -> Overage:
    """The newest overage events of a range of days."""
    rows = await api_of(request).history.overage(account.account, days.first, days.last, _ROWS_MAX + 1)
    return Overage(
        account=account.account, from_=days.first, to=days.last, truncated=len(rows) > _ROWS_MAX,
        overage=[OverageRow.model_validate(row) for row in rows[:_ROWS_MAX]],
    )  # fmt: skip


@router.get("/v1/accounts/{account:path}/charges")
async def charges(request: Request, account: OwnAccount, days: Range) -> Charges:
    """What the overage and pay-as-you-go usage of a range of days cost, by workspace and by day."""
    history, today = api_of(request).history, account.today
    lines = await history.charge_lines(account.account, days.first, days.last, today)
    by_day = await history.charge_days(account.account, days.first, days.last, account.currency)
    now, before = _sums(lines, account.currency)
    return Charges(
        account=account.account, from_=days.first, to=days.last, today=today, currency=account.currency,
        up_to_now=now, up_to_yesterday=before, unpriced=sum(line["price"] is None for line in lines),
        workspaces=[_workspace(account, name, list(own)) for name, own in groupby(lines, itemgetter("workspace"))],
        days=[DayCharge(day=row["day"], amount=row["charge"] or _ZERO) for row in by_day],
    )  # fmt: skip


def _sums(lines: Iterable[dict[str, Any]], currency: str) -> tuple[Decimal, Decimal]:
    """The charges up to now and up to yesterday; what has no price, or another currency, is in no sum."""
    own = [line for line in lines if line["currency"] == currency]
    return (
        sum((line["charge"] or _ZERO for line in own), _ZERO),
        sum((line["charge_before"] or _ZERO for line in own), _ZERO),
    )


def _workspace(account: Account, workspace: str, lines: Sequence[dict[str, Any]]) -> WorkspaceCharges:
    now, before = _sums(lines, account.currency)
    return WorkspaceCharges(
        workspace=workspace, name=account.name_of(workspace), up_to_now=now, up_to_yesterday=before,
        lines=[
            ChargeLine(
                meter=line["meter"], basis=line["basis"], retention_days=line["retention_days"], quantity=line["total"],
                units=line["unit_count"], price=line["price"], amount=line["charge"], currency=line["currency"],
            )
            for line in lines
        ],
    )  # fmt: skip


@router.get("/v1/accounts/{account:path}/burndown")
async def burndown(
    request: Request,
    account: OwnAccount,
    meter: Annotated[str, Query(description="A meter of the catalog.", examples=["logs"])],
    day: Day = None,
) -> Burndown:
    """How a meter's quotas were drawn down over a day, with the forecast as of the last point."""
    api, when = api_of(request), day or account.today
    if meter not in api.catalog.meters:
        wrong = [FieldError(at="query.meter", message="unknown meter", code="unknown_meter")]
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the request is not valid", wrong)
    rows = await api.history.burndown(account.account, meter, when)
    starts, ends = map(to_instant, day_bounds(when, account.time_zone))
    return Burndown(
        account=account.account, meter=meter, day=when, day_starts_at=starts, day_ends_at=ends,
        interval_seconds=rows[0]["step"] if rows else 1,
        packages=[_series(name, [row["last"] for row in own]) for name, own in groupby(rows, itemgetter("package"))],
    )  # fmt: skip


def _series(package: str, course: Sequence[tuple[Any, ...]]) -> BurndownSeries:
    *_, quota, rate, exhausts_at = course[-1]
    return BurndownSeries(
        package=package, quota=quota, forecast=Forecast(burn_rate_per_minute=rate, exhausts_at=exhausts_at),
        points=[BurndownPoint(at=at, used=used, remaining=remaining) for at, used, remaining, *_ in course],
    )  # fmt: skip


@router.get("/v1/accounts/{account:path}/statements/{day}")
async def statement(
    request: Request, account: OwnAccount, day: Annotated[RequestDay, Path(examples=["2026-11-23"])]
) -> Statement:
    """The statement of a settled day, in its newest revision; 404 while the day is open."""
    return (await revisions_of(request, account, day))[0]


async def revisions_of(request: Request, account: Account, day: date) -> list[Statement]:
    """Every revision of a settled day's statement, the newest first; 404 while the day is open."""
    found = await api_of(request).history.statements(account.account, day)
    if not found:
        raise no_such("statement")
    return [Statement.model_validate(one) for one in found]
