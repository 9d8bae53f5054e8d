"""`/metrics`, `/healthz` and `/readyz` from a thread of their own: they answer although the event loop hangs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from agents.errors import WrongUse
from agents.health import Health

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

_metrics = make_wsgi_app()


def healthz(health: Health) -> tuple[bool, dict[str, Any]]:
    """Whether the process lives, and the body that says so. False: only a restart mends it."""
    return health.alive, {"alive": health.alive}


def readyz(health: Health) -> tuple[bool, dict[str, Any]]:
    """Whether the process can do its work, and the body that says why not."""
    reasons = health.reasons()
    return not reasons, {"ready": not reasons, "reasons": reasons}


_PROBES: dict[str, Callable[[Health], tuple[bool, dict[str, Any]]]] = {"/healthz": healthz, "/readyz": readyz}


def application(health: Health) -> Any:
    """The WSGI application."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            metrics: Iterable[bytes] = _metrics(environ, start_response)
            return metrics
        probe = _PROBES.get(path)
        good, body = probe(health) if probe else (False, {"paths": ["/metrics", *_PROBES]})
        status = "200 OK" if good else "503 Service Unavailable" if probe else "404 Not Found"
        start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
        return [json.dumps(body).encode() + b"\n"]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    #: Seconds after which a caller who says nothing is dropped.
    timeout = 10

    def log_message(self, *_args: Any) -> None:
        """Nothing: probes come every few seconds."""


@contextmanager
def serving(health: Health, host: str, port: int) -> Iterator[None]:
    """Answers inside the context, unless the port is 0. Raises `WrongUse` when the port cannot be had."""
    if not port:
        yield
        return
    try:
        server = make_server(host, port, application(health), _Server, _Quiet)
    except OSError as error:
        raise WrongUse(f"{host}:{port} for /metrics cannot be had (DRAWDOWN_METRICS_PORT): {error.strerror}") from None
    Thread(target=server.serve_forever, name="probes", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
