"""Whether a process can do its work: red when it is stuck, not only when it is dead.

Whoever does work says what it waits for (`begin`, `end`). What has been waited for longer than the limit is a reason to be not ready. The
answer is computed by whoever asks, in another thread, so it comes although the event loop hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Any

#: How often the event loop says that it lives, in seconds.
_BEAT_SECONDS = 0.5
#: A loop that has not said so for that many limits never will: only a restart mends it, so the process counts as dead.
_LIMITS_UNTIL_DEAD = 3

#: What is reported: `code`, `message`, `seconds` and the fields that name the place.
Reason = dict[str, Any]

STARTING = "starting"
EVENT_LOOP = "event_loop_hangs"
ASSIGNMENT = "assignment_hangs"
KAFKA = "kafka_does_not_answer"
FETCH = "nothing_fetched_despite_lag"
OPEN = "transaction_left_open"
PROCESSING = "fetched_but_not_made_durable"
COMMIT = "transaction_hangs"
INSERT = "clickhouse_insert_fails"
LAW = "law_broken"
STOPPING = "stopping"

#: What each code means.
MESSAGES = {
    STARTING: "not all parts have started yet",
    EVENT_LOOP: "the event loop does not answer",
    ASSIGNMENT: "the partitions are being moved and nobody gets done with it",
    KAFKA: "Kafka does not say how far the topics reach",
    FETCH: "there is lag, and nothing is fetched",
    OPEN: "a producer's transaction is open for longer than Kafka allows, and what comes after it cannot be read",
    PROCESSING: "records were fetched, and nothing of them was made durable",
    COMMIT: "a Kafka transaction does not come to its end",
    INSERT: "an insert into ClickHouse fails or hangs",
    LAW: "a law of the ledger is broken: nothing more is acknowledged",
    STOPPING: "the process ends",
}


class Health:
    """One a process. `limit` is in seconds; every method may be called from any thread."""

    def __init__(self, limit: float, *, clock: Callable[[], float] = monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._waits: dict[tuple[str, Hashable], tuple[float, Reason]] = {}
        #: Reasons that hold at once, whatever the limit.
        self._states: dict[str, Reason] = {STARTING: {}}
        self._beat: float | None = None

    def begin(self, code: str, place: Hashable = None, **fields: Any) -> None:
        """Something is waited for from now on, or still; `fields` say more about it."""
        since, _ = self._waits.get((code, place), (self._clock(), None))
        self._waits[code, place] = since, fields

    def end(self, code: str, place: Hashable = None) -> None:
        """It has come, or is not waited for any more."""
        self._waits.pop((code, place), None)

    def started(self) -> None:
        """All parts have started."""
        self._states.pop(STARTING, None)

    def fail(self, code: str, **fields: Any) -> None:
        """Not ready from now on, for good."""
        self._states[code] = fields

    async def beat(self) -> None:
        """Say that the event loop lives, for ever."""
        while True:
            self._beat = self._clock()
            await asyncio.sleep(_BEAT_SECONDS)

    def reasons(self) -> list[Reason]:
        """Why the process is not ready, worst first; empty if it is."""
        now = self._clock()
        found = [_reason(code, 0.0, fields) for code, fields in list(self._states.items())]
        if self._beat is not None and now - self._beat > self.limit:
            found.append(_reason(EVENT_LOOP, now - self._beat, {}))
        waits = sorted(self._waits.copy().items(), key=lambda item: item[1][0])
        found += [_reason(code, now - since, more) for (code, _), (since, more) in waits if now - since > self.limit]
        return found

    @property
    def alive(self) -> bool:
        """Whether the event loop can still come back."""
        return self._beat is None or self._clock() - self._beat <= _LIMITS_UNTIL_DEAD * self.limit


def _reason(code: str, seconds: float, fields: Reason) -> Reason:
    return {"code": code, "message": MESSAGES[code], "seconds": round(seconds, 1), **fields}
