"""One attempt: a signed POST, by the Standard Webhooks specification. Receivers tell repeated ones by `webhook-id`."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from secrets import token_bytes

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from standardwebhooks import Webhook as Signer

from agents.metrics import WEBHOOK_ATTEMPTS
from agents.settings import Settings
from agents.webhooks.targets import CheckedResolver, TargetRefused, check_url
from schemas.alerting import Webhook

_SECRET_BYTES = 32
_CONNECTIONS_MAX = 100
_ERROR_CHARS = 300


def new_secret() -> str:
    """A signing secret."""
    return f"whsec_{b64encode(token_bytes(_SECRET_BYTES)).decode()}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: the receiver's status, or None and an error. `retry_after` is in seconds, if it asks for it."""

    status: int | None
    error: str = ""
    retry_after: int | None = None

    @property
    def delivered(self) -> bool:
        """Any 2xx."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


class Sender:
    """A client that goes to public addresses only, follows no redirect, and reads nothing of an answer but its head."""

    def __init__(self, settings: Settings) -> None:
        self._private = settings.webhook_private_targets
        self._timeout = ClientTimeout(total=settings.webhook_timeout)
        self._session: ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def attempt(self, webhook: Webhook, message: str, body: str, at: datetime | None = None) -> Outcome:
        """Send a message; never raises for what the receiver or the network does."""
        outcome = await self._post(webhook, message, body, at or datetime.now(UTC))
        WEBHOOK_ATTEMPTS.labels(outcome="delivered" if outcome.delivered else "failed").inc()
        return outcome

    async def _post(self, webhook: Webhook, message: str, body: str, at: datetime) -> Outcome:
        headers = {
            "content-type": "application/json",
            "user-agent": "drawdown-webhooks",
            "webhook-id": message,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Signer(webhook.secret).sign(message, at, body),
        }
        try:
            check_url(webhook.url, private=self._private)
            async with self._opened().post(
                webhook.url, data=body.encode(), headers=headers, allow_redirects=False
            ) as answer:
                return Outcome(answer.status, retry_after=_seconds(answer.headers.get("retry-after")))
        except TimeoutError:
            return Outcome(None, f"no answer within {self._timeout.total:g} s")
        except (ClientError, TargetRefused, OSError, ValueError) as error:
            cause = getattr(error, "os_error", error)  # the client hides what the resolver said
            return Outcome(None, f"{type(cause).__name__}: {cause}"[:_ERROR_CHARS])

    def _opened(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(
                    resolver=CheckedResolver(private=self._private), use_dns_cache=False, limit=_CONNECTIONS_MAX,
                    force_close=True,
                ),
                timeout=self._timeout, cookie_jar=DummyCookieJar(), trust_env=False, auto_decompress=False,
            )  # fmt: skip
        return self._session


def _seconds(text: str | None) -> int | None:
    with suppress(ValueError):
        return max(0, int(text or ""))
    return None
