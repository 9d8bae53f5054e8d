"""The ASGI app."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from agents.api import (
    documents,
    problems,
    routes_alerts,
    routes_billing,
    routes_history,
    routes_live,
    routes_registry,
    routes_site,
    routes_wallet,
    routes_write,
)
from agents.api.observe import Observe
from agents.api.problems import ProblemDetails
from agents.api.routes_site import FOLDER, Assets
from agents.api.routes_write import NoneAccepted
from agents.api.services import Api

_DESCRIPTION = """Shared prepaid quotas drawn down in real time.

Every request under `/v1` carries an API key: `Authorization: Bearer dd_...`. A key is bound to accounts and to scopes (`ingest`, `read`,
`admin`). What belongs to another account is 404. Errors are RFC 9457 problem details."""


def create_app(api: Api) -> FastAPI:
    """The app over these services."""
    app = FastAPI(
        title="Drawdown", version=version("drawdown"), description=_DESCRIPTION, docs_url=None, redoc_url=None,
        openapi_url="/openapi.json",
    )  # fmt: skip
    app.state.api = api
    problems.install(app)
    app.add_middleware(Observe)
    for routes in (
        routes_write,
        routes_live,
        routes_history,
        routes_registry,
        routes_alerts,
        routes_billing,
        routes_wallet,
    ):
        app.include_router(routes.router, responses=problems.RESPONSES)
    app.include_router(routes_site.router)
    app.mount("/assets", Assets(directory=FOLDER / "assets", check_dir=False))
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        schemas.update(documents.components())
        for model in (ProblemDetails, NoneAccepted):
            schema = model.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs"))
            schemas[model.__name__] = schema
        app.openapi_schema = document
    return app.openapi_schema
