"""The laws of semantics.md are checked always. A breach stops the worker: it is never logged and passed over."""

from __future__ import annotations


class LawBroken(Exception):
    """A law of the ledger does not hold. Nothing may be acknowledged after it; a person has to look."""


def ensure(condition: bool, law: str, *context: object) -> None:
    """Raise `LawBroken` unless `condition`; `context` is what a person needs to find the place."""
    if not condition:
        raise LawBroken(f"{law}: {context!r}" if context else law)
