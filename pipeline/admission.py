"""Why a record is refused: the slow path of routing, taken only for input that the typed decoder does not like.

A refusal is a value with a stable code. The order of the checks is the precedence of the codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from schemas.reasons import Reason
from schemas.wire import NAME_CHARS_MAX, UsageEvent

_decoder = msgspec.json.Decoder(UsageEvent)
_events_decoder = msgspec.json.Decoder(list[UsageEvent])
_raw_array = msgspec.json.Decoder(list[msgspec.Raw])
#: Decodes the bytes of an event that is known to be one; raises if it is none.
decode_valid = _decoder.decode
_IDENTITY = ("id", "source", "type")
#: What a decoder raises for input that is none of ours; nesting that is too deep is a `RecursionError`.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One event, or one record, that ends as a dead letter. `value` is its original bytes."""

    reason: Reason
    message: str
    value: bytes
    offset: int
    index: int | None
    key: bytes | None


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest record in bytes, most events in one array, and how far an event may be ahead or behind."""

    record_bytes: int
    record_events: int
    future_micros: int
    horizon_days: int


def explain(value: bytes) -> tuple[Reason, str]:
    """The code and the message for one event that did not decode."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return Reason.NOT_JSON, str(error)
    if not isinstance(document, dict):
        return Reason.NOT_A_CLOUDEVENT, "an event is a JSON object"
    if document.get("specversion") != "1.0":
        return Reason.NOT_A_CLOUDEVENT, 'specversion is not "1.0"'
    for name in _IDENTITY:
        attribute = document.get(name)
        if not isinstance(attribute, str) or not 0 < len(attribute) <= NAME_CHARS_MAX:
            return Reason.NOT_A_CLOUDEVENT, f"{name} is not a string of 1 to {NAME_CHARS_MAX} characters"
    return Reason.INVALID_FIELD, _field_error(value)


def _field_error(value: bytes) -> str:
    try:
        _decoder.decode(value)
    except UNDECODABLE as error:
        return _with_path(str(error))
    return "$: the event cannot be represented"


def _with_path(message: str) -> str:
    """Msgspec names the path last ("... - at `$.a.b`") and a missing field in the text; we put the path first."""
    if message.startswith("$"):
        return message
    text, _, where = message.partition(" - at `")
    path = where.rstrip("`") or "$"
    missing = text.partition("missing required field `")[2].rstrip("`")
    return f"{path}.{missing}: required field is missing" if missing else f"{path}: {text}"


def split_array(value: bytes) -> list[bytes] | None:
    """The elements of a JSON array as their own bytes; None when the value is not one."""
    try:
        return [bytes(element) for element in _raw_array.decode(value)]
    except UNDECODABLE:
        return None


def decode_event(value: bytes) -> UsageEvent | None:
    """The event, or None: then `explain` says why."""
    try:
        return _decoder.decode(value)
    except UNDECODABLE:
        return None


def decode_events(value: bytes) -> list[UsageEvent] | None:
    """The events of an array, or None if any element is none."""
    try:
        return _events_decoder.decode(value)
    except UNDECODABLE:
        return None


def is_json(value: bytes) -> tuple[bool, str]:
    """Whether the value is JSON at all, and what the parser says if not."""
    try:
        document: Any = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return False, str(error)
    return True, type(document).__name__


def explain_document(value: bytes, error: Exception) -> tuple[Reason, str]:
    """The code and the message for a binding or package that `error` refused."""
    valid, message = is_json(value)
    return (Reason.INVALID_FIELD, _with_path(str(error))) if valid else (Reason.NOT_JSON, message)
