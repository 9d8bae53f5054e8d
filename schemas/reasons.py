"""The stable codes of a dead letter (contract.md, section 1)."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a record cannot be counted. Names are public and never change their meaning."""

    NOT_JSON = "not_json"
    NOT_A_CLOUDEVENT = "not_a_cloudevent"
    INVALID_FIELD = "invalid_field"
    UNKNOWN_METER = "unknown_meter"
    UNKNOWN_WORKSPACE = "unknown_workspace"
    UNKNOWN_RETENTION = "unknown_retention"
    NEGATIVE_QUANTITY = "negative_quantity"
    QUANTITY_TOO_LARGE = "quantity_too_large"
    WRONG_KEY = "wrong_key"
    FROM_THE_FUTURE = "from_the_future"
    TOO_LATE = "too_late"
    CONFLICTING_DUPLICATE = "conflicting_duplicate"
    RECORD_TOO_LARGE = "record_too_large"


#: How the message of a `too_late` ends that the ledger says of an event that was routed. (Routing refuses late ones itself.)
PAST_THE_LEDGER = "is past the horizon of the ledger"
