"""Errors as RFC 9457 problem details."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """One thing that is wrong with a request: `at` is where, like `query.day` or a JSON path."""

    at: str
    message: str
    code: str | None = None


class ProblemDetails(BaseModel):
    """RFC 9457. `errors` says what is wrong with the request, where that can be told."""

    type: str = Field("about:blank", examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field("", examples=["no such account"])
    instance: str = Field("", examples=["/v1/accounts/acct-1/quotas"])
    errors: list[FieldError] = []


class Problem(HTTPException):
    """An error that the client is told of."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.errors = errors or []


def unavailable(what: str) -> Problem:
    """503: a server behind us does not answer."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{what} does not answer", headers={"Retry-After": "5"})


def no_such(what: str) -> Problem:
    """404; also for what belongs to somebody else."""
    return Problem(HTTPStatus.NOT_FOUND, f"no such {what}")


#: For `responses=` of every route.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}}
    for status in (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
}  # fmt: skip


def install(app: FastAPI) -> None:
    """Every error of the app becomes a problem document."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)


def _answer(
    request: Request, status: int, detail: str, errors: list[FieldError], headers: dict[str, str] | None
) -> Response:
    problem = ProblemDetails(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        errors=errors,
    )
    content = orjson.dumps(problem.model_dump(exclude_none=True, exclude={} if errors else {"errors"}))
    return Response(content, status, headers, media_type=MEDIA_TYPE)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # the handler is registered for this class
    errors = error.errors if isinstance(error, Problem) else []
    headers = dict(error.headers) if error.headers else None
    return _answer(request, error.status_code, str(error.detail), errors, headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # as above
    errors = [FieldError(at=".".join(map(str, e["loc"])), message=e["msg"]) for e in error.errors()]
    return _answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, "the request is not valid", errors, None)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("a request failed", path=request.url.path, exc_info=error)
    return _answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, "an error of ours; it is in the log", [], None)
