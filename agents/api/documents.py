"""The wire documents in OpenAPI: schemas out of the wire types themselves, bodies with examples."""

from __future__ import annotations

from typing import Any

import msgspec

from agents.api.models_billing import QuoteDocument
from schemas.billing import Outcome
from schemas.wire import Package, UsageEvent, WorkspaceBinding

_REFERENCE = "#/components/schemas/{name}"

_EVENT = {
    "specversion": "1.0", "id": "01JD3", "source": "collector/eu-1/7", "type": "usage.logs", "subject": "ws-a",
    "time": "2026-11-24T10:00:00Z", "data": {"quantity": 1200, "retention_days": 30},
}  # fmt: skip
_BINDING = {
    "workspace": "ws-a", "name": "Shop, production", "account": "acct-1", "plan": "commercial", "time_zone": "Asia/Shanghai",
    "retention_days": {"logs": 14}, "currency": "CNY", "site": "cn",
}  # fmt: skip
_PACKAGE = {
    "package": "pkg-1", "account": "acct-1", "kind": "plan", "plan": "startup", "workspaces": ["ws-a", "ws-b"],
    "quotas": {"logs": 40_000_000}, "effective": "2026-11-01", "expires": "2027-11-07",
    "ordered_at": "2026-11-01T08:00:00Z", "status": "active", "price": "42000.00", "currency": "CNY",
}  # fmt: skip


def components() -> dict[str, Any]:
    """The schemas of the wire types, by name."""
    _, found = msgspec.json.schema_components(
        [UsageEvent, WorkspaceBinding, Package, Outcome, QuoteDocument], ref_template=_REFERENCE
    )
    return found


def reference(name: str) -> dict[str, str]:
    """A reference to a schema."""
    return {"$ref": _REFERENCE.format(name=name)}


def one_of(name: str, description: str) -> dict[str, Any]:
    """A response that is such a document."""
    return {"description": description, "content": {"application/json": {"schema": reference(name)}}}


def many_of(field: str, name: str) -> dict[str, Any]:
    """A response that has a list of such documents in a field."""
    schema = {"type": "object", "required": [field], "properties": {field: _many(name)}}
    return {"description": "OK", "content": {"application/json": {"schema": schema}}}


def _many(name: str) -> dict[str, Any]:
    return {"type": "array", "items": reference(name)}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": content}


EVENTS_BODY = _body({
    "application/cloudevents+json": {"schema": reference("UsageEvent"), "example": _EVENT},
    "application/cloudevents-batch+json": {"schema": _many("UsageEvent"), "example": [_EVENT]},
    "application/json": {"schema": {"oneOf": [reference("UsageEvent"), _many("UsageEvent")]}, "example": _EVENT},
})  # fmt: skip
PACKAGE_BODY = _body({"application/json": {"schema": reference("Package"), "example": _PACKAGE}})
WORKSPACE_BODY = _body({"application/json": {"schema": reference("WorkspaceBinding"), "example": _BINDING}})
