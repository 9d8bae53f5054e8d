"""Who asks, and how often: bearer keys, scopes, and a token bucket for each key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from math import ceil
from time import monotonic
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from agents.api.keys import Key, KeyRing, Scope
from agents.api.problems import Problem

_bearer = HTTPBearer(auto_error=False, description="An API key: `drawdown api-key create`.")


class RateLimit:
    """A token bucket for each key of this process: `burst` requests at once, `rate` a second for long."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_seconds(self, key: str) -> float:
        """Take a token: 0, or the seconds until there is one."""
        now = self._clock()
        tokens, since = self._buckets.get(key, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        if tokens < 1:
            self._buckets[key] = (tokens, now)
            return (1 - tokens) / self._rate
        self._buckets[key] = (tokens - 1, now)
        return 0.0


class Gate:
    """The keys and their limits."""

    def __init__(self, keys: KeyRing, limit: RateLimit) -> None:
        self.keys = keys
        self._limit = limit

    def admit(self, text: str | None) -> Key:
        """The key of a request, or 401 or 429."""
        key = self.keys.find(text) if text else None
        if key is None:
            challenge = {"WWW-Authenticate": 'Bearer realm="drawdown"'}
            raise Problem(HTTPStatus.UNAUTHORIZED, "a valid API key is needed", headers=challenge)
        if wait := self._limit.wait_seconds(key.id):
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, "too many requests", headers={"Retry-After": str(ceil(wait))})
        return key


async def _caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Key:
    api = request.app.state.api
    if not api.complete:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "still reading the topics", headers={"Retry-After": "1"})
    gate: Gate = api.gate
    key = gate.admit(credentials.credentials if credentials else None)
    request.scope["state"]["key"] = key.id  # for the access log
    return key


def _with(scope: Scope) -> Callable[[Key], Coroutine[Any, Any, Key]]:
    async def scoped(key: Annotated[Key, Depends(_caller)]) -> Key:
        if not key.has(scope):
            raise Problem(HTTPStatus.FORBIDDEN, f"this key lacks the scope {scope!r}")
        return key

    return scoped


Reader = Annotated[Key, Depends(_with("read"))]
Admin = Annotated[Key, Depends(_with("admin"))]
Ingester = Annotated[Key, Depends(_with("ingest"))]
