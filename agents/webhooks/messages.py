"""What webhooks are told: the alert as its topic has it, in the envelope of the Standard Webhooks specification."""

from __future__ import annotations

from datetime import datetime
from secrets import token_hex

import orjson

from schemas.wire import Alert


def body_of(alert: Alert, value: bytes) -> str:
    """`value` is the alert's JSON; its numbers are passed on as they are."""
    return _envelope(f"alert.{alert.kind}", alert.at, orjson.Fragment(value))


def trial_message(account: str, webhook: str, at: datetime) -> tuple[str, str]:
    """Id and body of a message that says nothing but that it arrives."""
    return f"test_{token_hex(12)}", _envelope("webhook.test", at, {"account": account, "webhook": webhook})


def _envelope(kind: str, at: datetime, data: object) -> str:
    return orjson.dumps({"type": kind, "timestamp": at, "data": data}).decode()
