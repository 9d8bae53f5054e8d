"""`/healthz`, `/readyz`, `/metrics`, and the dashboard's files."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from agents.api.services import Api, api_of
from agents.metrics import READY

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parents[1] / "dashboard"
#: No inline script or style can run, and nothing is fetched from elsewhere.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Assets(StaticFiles):
    """The dashboard's files; asked for again each time, and answered with 304 while they are the same."""

    def file_response(self, *arguments: Any, **keywords: Any) -> Response:
        """As Starlette's, with our headers."""
        response = super().file_response(*arguments, **keywords)
        response.headers.update(_HEADERS)
        return response


_pages = Assets(directory=FOLDER, check_dir=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def dashboard(request: Request) -> Response:
    """The page."""
    if not (FOLDER / "index.html").exists():
        return PlainTextResponse("Drawdown's API is at /openapi.json; this installation has no dashboard.\n")
    return await _pages.get_response("index.html", request.scope)


@router.get("/healthz")
async def healthz() -> Response:
    """The process is alive."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Able to do its work: the views are complete and up to date, and ClickHouse answers."""
    checks = await _checks(api_of(request))
    status = HTTPStatus.OK if all(checks.values()) else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse({"status": "ready" if all(checks.values()) else "not ready", "checks": checks}, status)


async def _checks(api: Api) -> dict[str, bool]:
    return {
        "views_complete": api.complete,
        "kafka": api.watch.is_live,
        "clickhouse": api.history.embedded or await api.history.ping(),
    }


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus."""
    READY.set(all((await _checks(api_of(request))).values()))
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
