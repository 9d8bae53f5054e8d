"""The wallet, and the statements that are taken from it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from agents.api.accounts import Account, OwnAccount
from agents.api.auth import Admin
from agents.api.bodies import AccountName, body_of, read_model
from agents.api.documents import one_of
from agents.api.models_billing import DepositRequest, Entry, Pocket, Posting, StatementDay, StatementMonth, Wallet
from agents.api.models_history import RequestDay, Statements
from agents.api.routes_billing import IdempotencyKey, answered, identity_of, operator_of
from agents.api.routes_history import revisions_of
from agents.api.services import api_of
from agents.wallets import postings_of
from pipeline.wallet import ARREARS, kind_of
from schemas.billing import Funded, PocketTerms, WalletStatus

router = APIRouter()

#: A month that ClickHouse's `Date` knows whole.
_Month = Annotated[
    str | None,
    Query(pattern=r"^(19[7-9]\d|20\d\d|21[0-3]\d)-(0[1-9]|1[0-2])$", description="Left out: the account's present month.",
          examples=["2026-11"]),
]  # fmt: skip
_DEPOSIT = {"id": "deposit-1", "pocket": "card:c1", "amount": "1000.00", "expires": "2027-12-31"}


@router.get("/v1/accounts/{account:path}/wallet")
async def wallet(request: Request, account: OwnAccount, limit: Annotated[int, Query(ge=0, le=1000)] = 50) -> Wallet:
    """Balances as of now; the entries come from ClickHouse, a moment later."""
    api = api_of(request)
    status = api.feed.books.wallet(account.account)
    balances = status.balances if status else {}
    entries = await api.history.transactions(account.account, limit) if status and limit else []
    return Wallet(
        account=account.account, currency=status.currency if status else account.currency,
        pockets=_pockets(status, account.today) if status else [], owes=-balances.get(ARREARS, Decimal(0)),
        owes_since=status.owes_since if status else None, locked=bool(status and status.locked),
        version=status.version if status else None, entries=[_entry(entry) for entry in entries],
    )  # fmt: skip


def _pockets(status: WalletStatus, today: date) -> list[Pocket]:
    """Cash first; a voucher or card that is empty says nothing any more."""
    found = []
    for name, balance in sorted(status.balances.items(), key=_place):
        terms = status.terms.get(name, PocketTerms())
        over = terms.expires is not None and terms.expires < today
        if name != ARREARS and (balance or name == "cash"):
            found.append(
                Pocket(pocket=name, kind=kind_of(name), balance=balance, usable=Decimal(0) if over else balance,
                       expires=terms.expires, threshold=terms.threshold or None)
            )  # fmt: skip
    return found


def _place(item: tuple[str, Decimal]) -> tuple[int, str]:
    kinds = ("cash", "card", "voucher", "threshold", ARREARS)
    return kinds.index(kind_of(item[0])), item[0]


def _entry(row: Mapping[str, Any]) -> Entry:
    postings = [Posting(account=name, amount=amount) for name, amount in postings_of(dict(row))]
    return Entry(id=row["id"], reference=row["reference"], version=row["version"], at=row["at"], postings=postings)


@router.post(
    "/v1/accounts/{account:path}/wallet/deposits", status_code=HTTPStatus.CREATED,
    openapi_extra=body_of(DepositRequest, _DEPOSIT),
    responses={200: one_of("Outcome", "It came in before, by the same id"), 201: one_of("Outcome", "It is in the wallet")},
)  # fmt: skip
async def deposit(
    request: Request, key: Admin, account: AccountName, idempotency_key: IdempotencyKey = None
) -> Response:
    """Money comes in; what the account owes is cleared first."""
    api = api_of(request)
    await api.accounts.find(key, account)
    wanted = await read_model(request, DepositRequest)
    funded = Funded(
        account=account, id=identity_of(wanted.id, idempotency_key), pocket=wanted.pocket, amount=wanted.amount,
        operator=operator_of(key), at=datetime.now(UTC), threshold=wanted.threshold, expires=wanted.expires,
    )  # fmt: skip
    return answered(await api.billing.fund(funded))


def _first(month: str | None, account: Account) -> date:
    return date.fromisoformat(f"{month}-01") if month else account.today.replace(day=1)


@router.get("/v1/accounts/{account:path}/statements")
async def statements(request: Request, account: OwnAccount, month: _Month = None) -> StatementMonth:
    """The settled days of a month, and what each is payable."""
    found = await api_of(request).history.month(account.account, _first(month, account))
    currency = found.days[0]["currency"] if found.days else account.currency
    return StatementMonth(
        account=account.account, month=f"{found.month:%Y-%m}", amount=found.amount, currency=currency,
        days=[StatementDay.model_validate(day) for day in found.days],
    )  # fmt: skip


@router.get(
    "/v1/accounts/{account:path}/statements.csv",
    responses={200: {"description": "A line a row; amounts are exact", "content": {"text/csv": {"schema": {"type": "string"}}}}},
)  # fmt: skip
async def statements_csv(request: Request, account: OwnAccount, month: _Month = None) -> Response:
    """Every line of a month's newest statements, for a spreadsheet."""
    found = await api_of(request).history.month(account.account, _first(month, account))
    text = io.StringIO()
    found.write_csv(text)
    headers = {"Content-Disposition": f'attachment; filename="statements-{found.month:%Y-%m}.csv"'}
    return Response(text.getvalue(), headers=headers, media_type="text/csv")


@router.get("/v1/accounts/{account:path}/statements/{day}/revisions")
async def revisions(
    request: Request, account: OwnAccount, day: Annotated[RequestDay, Path(examples=["2026-11-23"])]
) -> Statements:
    """Every revision of a settled day's statement, the newest first; 404 while the day is open."""
    return Statements(statements=await revisions_of(request, account, day))
