"""Deliveries: what is tried when, as pure functions of the delivery, the outcome and the time."""

from __future__ import annotations

from datetime import datetime, timedelta
from http import HTTPStatus
from zlib import crc32

from msgspec import structs

from agents.webhooks.sender import Outcome
from schemas.alerting import Delivery, Webhook

#: The first pause, by how much each is longer than the one before, and the longest.
_FIRST, _GROWTH, _LONGEST = timedelta(seconds=5), 5, timedelta(hours=4)
#: A pause is shortened by up to that share, so that a receiver that comes back is not met by all at once.
_SPREAD = 0.2


def key_of(delivery: Delivery) -> bytes:
    """The key of its record."""
    return f"{delivery.webhook}/{delivery.alert}".encode()


def pause_after(delivery: Delivery) -> timedelta:
    """The time until the next attempt."""
    spread = crc32(key_of(delivery) + bytes([delivery.attempts % 256])) / 2**32
    grown: timedelta = min(_FIRST * _GROWTH ** min(delivery.attempts - 1, 10), _LONGEST)
    return grown * (1 - _SPREAD * spread)


def tried(delivery: Delivery, outcome: Outcome, at: datetime, patience: timedelta) -> Delivery:
    """The delivery after an attempt. The last attempt is `patience` after the first."""
    after = structs.replace(
        delivery, attempts=delivery.attempts + 1, last_at=at, status=outcome.status, error=outcome.error, next_at=None
    )
    deadline = delivery.created_at + patience
    if outcome.delivered:
        return structs.replace(after, state="delivered")
    if outcome.status == HTTPStatus.GONE or at >= deadline:
        return structs.replace(after, state="failed")
    pause = max(pause_after(after), timedelta(seconds=min(outcome.retry_after or 0, _LONGEST.total_seconds())))
    return structs.replace(after, next_at=min(at + pause, deadline))


def given_up(delivery: Delivery, reason: str) -> Delivery:
    """The delivery that is not tried again."""
    return structs.replace(delivery, state="failed", error=reason, next_at=None)


def verdict(webhook: Webhook, failed: Delivery, last_success: datetime | None) -> str | None:
    """Why a webhook is disabled after a delivery has failed for good; None if it is not.

    One that took anything since the delivery's first attempt is alive.
    """
    if webhook.status == "disabled":
        return None
    if failed.status == HTTPStatus.GONE:
        return "the receiver says 410 Gone"
    if last_success is not None and last_success >= failed.created_at:
        return None
    last = f"HTTP {failed.status}" if failed.status else failed.error
    return f"every attempt since {failed.created_at:%Y-%m-%d %H:%M} UTC has failed; the last one: {last}"
