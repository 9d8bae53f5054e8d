"""Bodies of requests: read after the key was looked at, within a size, and shown in OpenAPI with an example."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import Path, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from agents.api.routes_write import read_body

_M = TypeVar("_M", bound=BaseModel)
_BODY_BYTES_MAX = 64 * 1024
#: The account of the path, for routes that look at the body later than at the account.
AccountName = Annotated[str, Path(min_length=1, max_length=256)]


def body_of(model: type[BaseModel], example: dict[str, Any] | None = None) -> dict[str, Any]:
    """`openapi_extra` of a route whose body is such a document."""
    content: dict[str, Any] = {"schema": model.model_json_schema()}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


async def read_model(request: Request, model: type[_M]) -> _M:
    """The body; 422 with everything that is wrong with it, 413 when it is too large."""
    try:
        return model.model_validate_json(await read_body(request, _BODY_BYTES_MAX))
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from None
