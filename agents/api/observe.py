"""Every request in the log and in the metrics; never its key."""

from __future__ import annotations

import logging
from http import HTTPStatus
from time import perf_counter

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agents.metrics import HTTP_REQUESTS, HTTP_SECONDS

log = structlog.get_logger()

#: Asked for every few seconds by machines.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})


class Observe:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        status, began = int(HTTPStatus.INTERNAL_SERVER_ERROR), perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            seconds = perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")
            HTTP_REQUESTS.labels(scope["method"], route, str(status)).inc()
            HTTP_SECONDS.labels(scope["method"], route).observe(seconds)
            say = log.debug if scope["path"] in _QUIET else log.info
            say("request", method=scope["method"], path=scope["path"], status=status, key=state.get("key"),
                ms=round(seconds * 1000, 1), client=(scope.get("client") or ("",))[0])  # fmt: skip


class ToStructlog(logging.Handler):
    """Hands what a library says to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """One message."""
        structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
