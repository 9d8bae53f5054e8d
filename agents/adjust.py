"""`drawdown adjust`: an operator's correction of a day's total, checked whole and written to the account's log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from getpass import getuser
from uuid import uuid4
from zoneinfo import ZoneInfo

from agents.documents import AccountDocuments, documents_of
from agents.errors import WrongUse
from agents.kafka import send
from agents.settings import Settings
from pipeline.days import day_bounds
from pipeline.retention import is_split, retention_at
from schemas.catalog import Catalog, load_catalog
from schemas.log import Correction, encode_account_event
from schemas.topics import ACCOUNT_EVENTS
from schemas.wire import QUANTITY_MAX


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator asks for. `retention_days` and `id` may be left out: the workspace's default of that day, a new id."""

    account: str
    workspace: str
    meter: str
    day: date
    quantity: int
    reason: str
    operator: str
    retention_days: int | None
    id: str | None


def login_name() -> str:
    """Who runs this; empty when the machine does not know."""
    try:
        return getuser()
    except (OSError, KeyError):
        return ""


def adjust(settings: Settings, wish: Wish) -> Correction:
    """Check, send, and return the correction once Kafka has it. Raises `WrongUse` with everything that is wrong at once.

    The ledger looks at it again when it gets there: one that it cannot take becomes a dead letter.
    """
    catalog, now = load_catalog(settings.catalog), datetime.now(UTC)
    documents = asyncio.run(documents_of(settings, catalog, wish.account))
    if errors := _errors(settings, catalog, documents, wish, now):
        raise WrongUse("\n".join(errors))
    correction = Correction(
        account=wish.account, id=wish.id or str(uuid4()), day=wish.day, workspace=wish.workspace, meter=wish.meter,
        retention_days=_retention(catalog, documents, wish), quantity=wish.quantity, reason=wish.reason.strip(),
        operator=wish.operator.strip(), at=now,
    )  # fmt: skip
    asyncio.run(send(settings, ACCOUNT_EVENTS, correction.account, encode_account_event(correction)))
    return correction


def _errors(settings: Settings, catalog: Catalog, documents: AccountDocuments, wish: Wish, now: datetime) -> list[str]:
    today = now.astimezone(ZoneInfo(documents.time_zone)).date()
    meter, binding = catalog.meters.get(wish.meter), documents.bindings.get(wish.workspace)
    errors = []
    if binding is None:
        errors.append(f"--workspace: {wish.workspace!r} is not bound to account {wish.account!r}")
    if meter is None:
        errors.append(f"--meter: {wish.meter!r} is unknown; there are {', '.join(sorted(catalog.meters))}")
    elif wish.retention_days is not None and wish.retention_days not in meter.factors:
        tiers = ", ".join(map(str, meter.factors))
        errors.append(f"--retention-days: {meter.key} has no retention of {wish.retention_days} days, only {tiers}")
    elif wish.retention_days is None and binding is not None and is_split(binding, meter.key, wish.day):
        errors.append(f"--retention-days: the default of {wish.workspace} changed on {wish.day}; name one")
    if wish.day > today:
        errors.append(f"--day: {wish.day} is in the future; it is {today} in {documents.time_zone}")
    if wish.day < today - timedelta(days=settings.horizon_days):
        errors.append(f"--day: {wish.day} is past the horizon of {settings.horizon_days} days")
    if not 0 < abs(wish.quantity) <= QUANTITY_MAX:
        errors.append(f"--quantity: {wish.quantity} is not between 1 and {QUANTITY_MAX}, up or down")
    errors += (
        f"--{name}: is empty"
        for name, text in (("reason", wish.reason), ("operator", wish.operator), ("id", wish.id or "-"))
        if not text.strip()
    )
    return errors


def _retention(catalog: Catalog, documents: AccountDocuments, wish: Wish) -> int:
    if wish.retention_days is not None:
        return wish.retention_days
    midnight, _ = day_bounds(wish.day, documents.time_zone)
    return retention_at(documents.bindings[wish.workspace], catalog.meters[wish.meter], midnight)
