"""Routes that write: usage events, workspaces, packages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec
from aiokafka import TopicPartition
from fastapi import APIRouter, Request, Response
from msgspec import structs
from pydantic import BaseModel, Field

from agents.api.auth import Admin, Ingester
from agents.api.documents import EVENTS_BODY, PACKAGE_BODY, WORKSPACE_BODY, one_of, reference
from agents.api.ingest import Judged, from_headers
from agents.api.problems import MEDIA_TYPE, FieldError, Problem, no_such
from agents.api.services import api_of
from agents.parsers import binding_parser, package_parser
from agents.workspaces import shared_by
from pipeline.admission import UNDECODABLE, explain_document
from pipeline.retention import succeed
from schemas.log import AccountEvent, Bound, PackageChanged
from schemas.reasons import Reason
from schemas.topics import PACKAGES, USAGE, WORKSPACES
from schemas.wire import WorkspaceBinding

router = APIRouter()

_STRUCTURED, _BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
_DOCUMENT_BYTES_MAX = 1024 * 1024
_PASSED_SECONDS = 5.0


class EventError(BaseModel):
    """Why an event is not accepted; `index` is its place in the array, null for the only one."""

    index: int | None = Field(examples=[1])
    code: Reason = Field(examples=["unknown_meter"])
    message: str = Field(examples=["$.type: 'usage.tea' is no usage of a known meter"])


class Accepted(BaseModel):
    """How the events of a request ended."""

    accepted: int = Field(examples=[1])
    rejected: int = Field(examples=[1])
    errors: list[EventError] = []


class NoneAccepted(Accepted):
    """RFC 9457, and how the events ended."""

    type: str = "about:blank"
    title: str = Field(examples=["Bad Request"])
    status: int = Field(examples=[400])
    detail: str = "no event is valid"
    instance: str = "/v1/events"


@router.post(
    "/v1/events",
    status_code=HTTPStatus.ACCEPTED,
    openapi_extra={"requestBody": EVENTS_BODY},
    responses={
        202: {"model": Accepted, "description": "Kafka has all of them"},
        207: {"model": Accepted, "description": "Kafka has those that are valid; `errors` says what is wrong with the others"},
        400: {"description": "No event is valid", "content": {MEDIA_TYPE: {"schema": reference("NoneAccepted")}}},
    },
)  # fmt: skip
async def events(request: Request, key: Ingester) -> Response:
    """CloudEvents in structured, batched or binary mode, or plain JSON: an event, or an array of events of any workspaces."""
    api = api_of(request)
    body = await read_body(request, api.settings.record_bytes_max)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {_STRUCTURED, _BATCH} and "ce-specversion" in request.headers:
        body = from_headers(request.headers, body)
    elif kind not in {_STRUCTURED, _BATCH, "application/json"}:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{_STRUCTURED}, {_BATCH}, application/json, or ce- headers")
    judged = await api.ingest.judge(key, body)
    await api.ingest.write(judged, USAGE)
    return _answer(judged)


def _answer(judged: Judged) -> Response:
    """202, 207, or 400 when nothing was valid."""
    told = Accepted(
        accepted=judged.count, rejected=len(judged.refused),
        errors=[EventError(index=one.index, code=one.code, message=one.message) for one in judged.refused],
    )  # fmt: skip
    if not judged.refused or judged.count:
        status = HTTPStatus.MULTI_STATUS if judged.refused else HTTPStatus.ACCEPTED
        return Response(told.model_dump_json(), status, media_type="application/json")
    large = any(one.code is Reason.RECORD_TOO_LARGE for one in judged.refused)
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if large else HTTPStatus.BAD_REQUEST
    problem = NoneAccepted(**told.model_dump(), title=status.phrase, status=status)
    return Response(problem.model_dump_json(), status, media_type=MEDIA_TYPE)


@router.post(
    "/v1/packages",
    status_code=HTTPStatus.CREATED,
    openapi_extra={"requestBody": PACKAGE_BODY},
    responses={200: one_of("Package", "It was there, and is replaced"), 201: one_of("Package", "It is new")},
)
async def put_package(request: Request, key: Admin) -> Response:
    """Sell a package, or replace the one of this id; the ledger draws days down by it from its `effective` day on.

    409 for one that an order makes (it is amended by commands), and for an id that another account has.
    """
    api = api_of(request)
    event = _parsed(await read_body(request, _DOCUMENT_BYTES_MAX), package_parser(api.catalog))
    assert isinstance(event, PackageChanged)  # noqa: S101  # what this parser makes
    package = event.package
    if not key.may(package.account):
        raise no_such("account")
    known = api.feed.packages.get(package.package)
    if conflict := api.feed.packages.conflict(package):
        raise Problem(HTTPStatus.CONFLICT, conflict)
    value = msgspec.json.encode(package)
    (written,) = await api.writer.write(PACKAGES, [(package.package.encode(), value)])
    with suppress(TimeoutError):
        async with asyncio.timeout(_PASSED_SECONDS):
            await api.feed.passed(TopicPartition(written.topic, written.partition), written.offset)
    return _stored(value, new=known is None)


@router.post(
    "/v1/workspaces",
    status_code=HTTPStatus.CREATED,
    openapi_extra={"requestBody": WORKSPACE_BODY},
    responses={
        200: one_of("WorkspaceBinding", "It was there, and is replaced"),
        201: one_of("WorkspaceBinding", "It is new"),
    },
)
async def put_workspace(request: Request, key: Admin) -> Response:
    """Bind a workspace to an account, or change its binding.

    Time zone, currency and site agree within an account; left out, they are the account's.

    A meter's first change of `retention_days` in a day holds from the next minute on (half a minute away at least), later ones of that day from the next day
    on: the answer's `retention_before` says what held until when.
    """
    api = api_of(request)
    body = await read_body(request, _DOCUMENT_BYTES_MAX)
    event = _parsed(body, binding_parser(api.catalog))
    assert isinstance(event, Bound)  # noqa: S101  # what this parser makes
    binding = event.binding
    if not key.may(binding.account):
        raise no_such("account")
    await api.accounts.refresh()
    known = api.accounts.binding(binding.workspace)
    if known is not None and not key.may(known.account):
        raise Problem(HTTPStatus.CONFLICT, "the id of this workspace is taken")
    workspaces = api.accounts.account(binding.account).workspaces
    given = msgspec.json.decode(body, type=dict[str, Any])
    binding = structs.replace(
        binding, **{name: value for name, value in shared_by(workspaces).items() if name not in given}
    )
    _require_agreement(workspaces, binding)
    if known is not None and known.account == binding.account:
        binding = succeed(api.catalog, known, binding, time.time_ns() // 1000)
    value = msgspec.json.encode(binding)
    await api.writer.write(WORKSPACES, [(binding.workspace.encode(), value)])
    await api.accounts.refresh()
    return _stored(value, new=known is None)


def _require_agreement(workspaces: Iterable[WorkspaceBinding], binding: WorkspaceBinding) -> None:
    """Time zone, currency and site are the account's: its other workspaces say the same, or it is 422."""
    wrong = [
        FieldError(at=f"$.{name}", message=f"the account has {value!r}", code=Reason.INVALID_FIELD)
        for name, value in shared_by(one for one in workspaces if one.workspace != binding.workspace).items()
        if value != getattr(binding, name)
    ]
    if wrong:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the workspaces of an account agree on this", wrong)


def _stored(value: bytes, *, new: bool) -> Response:
    return Response(value, HTTPStatus.CREATED if new else HTTPStatus.OK, media_type="application/json")


def _parsed(body: bytes, parse: Callable[[bytes], AccountEvent]) -> AccountEvent:
    """The document, judged as its inlet judges it; 422 with the code of the dead letter that it would have become."""
    try:
        return parse(body)
    except (*UNDECODABLE, ValueError) as error:
        reason, message = explain_document(body, error)
        at, _, text = message.partition(": ") if reason is Reason.INVALID_FIELD else ("$", "", message)
        told = FieldError(at=at, message=text, code=reason)
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the document is not valid", [told]) from None


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The body; 413 as soon as it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > bytes_max:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {bytes_max} bytes")
    return bytes(body)
