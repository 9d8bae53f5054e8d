"""What the fold hands on at a checkpoint."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pipeline.entries import Entry
from pipeline.outputs import Output
from schemas.reasons import Reason
from schemas.topics import ACCOUNT_EVENTS, USAGE, Topic


@dataclass(frozen=True, slots=True)
class Refused:
    """What the fold refuses; `reason` names why. Its bytes are where the position says.

    That is an event of the usage topic, or a correction in this partition of `account-events` (`partition` is None then).
    """

    partition: int | None
    offset: int
    index: int
    reason: Reason
    message: str

    @property
    def topic(self) -> Topic:
        """Where it stands."""
        return ACCOUNT_EVENTS if self.partition is None else USAGE


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that has to become durable at once: `next_offset` is the first record not included."""

    next_offset: int
    entries: list[Entry]
    outputs: list[Output]
    refused: list[Refused]
    outcomes: Counter[tuple[str, int]]
