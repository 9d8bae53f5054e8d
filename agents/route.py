"""The inlets: what comes in by `usage`, `workspaces`, `packages` and `alert-rules` goes on to `account-events`, or to `dead-letters`."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import msgspec
from aiokafka import TopicPartition
from msgspec import structs

from agents.batching import Send
from agents.metrics import METERS
from agents.parsers import DOCUMENT_BYTES_MAX
from agents.positions import Position, position_send, routed_until, visible_position
from agents.registry import Registry
from agents.settings import Settings
from agents.transactions import Commit, Writes
from pipeline.admission import UNDECODABLE, Limits, Refusal, explain_document
from pipeline.batches import Rows, batches
from pipeline.days import MICROS_PER_SECOND, to_instant
from pipeline.records import Records
from pipeline.routing import TYPE_PREFIX, Router
from schemas.log import AccountEvent, Bound, encode_account_event
from schemas.reasons import Reason
from schemas.topics import ACCOUNT_EVENTS, DEAD_LETTERS, ROUTED
from schemas.wire import NAME_CHARS_MAX, DeadLetter, encode

#: Batches that are encoded before other partitions get a turn.
_BATCHES_AT_A_STRETCH = 64
#: Longer keys are cut in dead letters, which have to fit into a record.
_KEY_BYTES_MAX = 4 * NAME_CHARS_MAX
#: Of a message, which may quote what it refuses.
_MESSAGE_CHARS_MAX = 2_000
#: Routed events after which a commit does not wait for its interval.
_EVENTS_MAX = 50_000


def limits_of(settings: Settings) -> Limits:
    """What routing admits."""
    return Limits(
        settings.record_bytes_max,
        settings.record_events_max,
        int(settings.future_tolerance * MICROS_PER_SECOND),
        settings.horizon_days,
    )


def dead_letter(settings: Settings, topic: str, partition: int, refusal: Refusal) -> Send:
    """The record of a refused event; of a key that is no name, the beginning."""
    key = None if refusal.key is None else refusal.key[:_KEY_BYTES_MAX]
    letter = DeadLetter(
        topic=topic, partition=partition, offset=refusal.offset, index=refusal.index,
        key=None if key is None else key.decode(errors="replace"), reason=refusal.reason, message=refusal.message[:_MESSAGE_CHARS_MAX],
        value=b64encode(refusal.value).decode(), at=datetime.now(UTC),
    )  # fmt: skip
    return settings.topic_prefix + DEAD_LETTERS.name, None, key or b"", encode(letter)


class _Typed(msgspec.Struct):
    type: str = ""


_typed = msgspec.json.Decoder(_Typed)


def meter_named_in(event: bytes) -> str:
    """The meter that a refused event names, or ""; it need not exist."""
    try:
        return _typed.decode(event).type.removeprefix(TYPE_PREFIX)
    except UNDECODABLE:
        return ""


def count_dead_letters(meters: Counter[str]) -> None:
    """So many events of each meter ended as dead letters."""
    for meter, events in meters.items():
        METERS.count(meter, "dead_letter", events)


class Inlet:
    """What all inlets share: sends pile up between commits, and the offset goes with them."""

    def __init__(self, settings: Settings, topic: str, partition: int) -> None:
        self.interval = settings.route_interval
        self.writes = Writes(tuple(settings.topic_prefix + t.name for t in (ACCOUNT_EVENTS, DEAD_LETTERS)))
        self._settings = settings
        self._topic = topic
        self._partition = partition
        self._account_events = settings.topic_prefix + ACCOUNT_EVENTS.name
        self._sends: list[Send] = []
        self._refused: Counter[str] = Counter()
        self._events = 0
        self.next_offset = 0
        self._committed = 0

    @property
    def full(self) -> bool:
        """Whether to commit at once."""
        return self._events >= _EVENTS_MAX

    async def open(self, next_offset: int) -> None:
        """Go on at the committed offset."""
        self.next_offset = self._committed = next_offset

    async def collect(self) -> Commit | None:
        """What was routed since the last commit."""
        if self.next_offset == self._committed:
            return None
        commit = Commit(self._sends, self.next_offset, partial(count_dead_letters, self._refused))
        self._sends, self._refused, self._events, self._committed = [], Counter(), 0, self.next_offset
        return commit

    def close(self) -> None:
        """Nothing is kept."""

    def _new(self, records: Records) -> Records:
        """The records that were not passed before."""
        fresh = records.since(self.next_offset)
        if fresh:
            self.next_offset = fresh.next_offset
        return fresh

    def _forward(self, event: AccountEvent) -> None:
        self._sends.append((self._account_events, None, event.account.encode(), encode_account_event(event)))

    def _refuse(self, refusal: Refusal) -> None:
        self._sends.append(dead_letter(self._settings, self._topic, self._partition, refusal))
        self._refused[meter_named_in(refusal.value)] += 1


class UsageInlet(Inlet):
    """Routes usage. The router and the registry are shared by all usage partitions of the worker."""

    def __init__(self, settings: Settings, topic: str, partition: int, router: Router, registry: Registry) -> None:
        super().__init__(settings, topic, partition)
        deciding = TopicPartition(settings.topic_prefix + ROUTED.name, partition)
        until = partial(visible_position, settings, partition)
        self.writes = Writes((*self.writes.topics, deciding.topic), deciding, until)
        self._router = router
        self._registry = registry
        self._rows: list[Rows] = []

    async def take(self, records: Records) -> None:
        """Route a chunk. If a workspace is unknown, read the registry up to now and route the chunk once more."""
        fresh = self._new(records)
        now = time.time_ns() // 1000
        routed = self._router.route(fresh, now)
        if any(refusal.reason is Reason.UNKNOWN_WORKSPACE for refusal in routed.refusals):
            known = self._registry.changes
            await self._registry.refresh()
            if self._registry.changes != known:
                routed = self._router.route(fresh, now)
        self._rows += routed.rows
        for refusal in routed.refusals:
            self._refuse(refusal)
        self._events += routed.events

    async def open(self, next_offset: int) -> None:
        """Go on behind what is routed, also if the group's offset was lost."""
        await super().open(next_offset)
        self.next_offset = await routed_until(self._settings, self._partition, next_offset)

    async def collect(self) -> Commit | None:
        """Batches are made here, so that an account has one of them a commit and not one a chunk."""
        for number, usage in enumerate(batches(self._partition, self._rows)):
            self._forward(usage)
            if not number % _BATCHES_AT_A_STRETCH:
                await asyncio.sleep(0)
        self._rows = []
        position = Position(self.next_offset, self._committed)
        commit = await super().collect()
        if commit is not None:
            commit.sends.insert(0, position_send(self._settings, self._partition, position))
        return commit


class DocumentInlet(Inlet):
    """Forwards documents of the operator: workspace bindings, packages, alert rules. A dead letter keeps none that is too large for it.

    `gone` says what a tombstone's key becomes; without it tombstones end with the registry.
    """

    def __init__(
        self, settings: Settings, topic: str, partition: int, parse: Callable[[bytes], AccountEvent],
        gone: Callable[[bytes], AccountEvent] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(settings, topic, partition)
        self._parse = parse
        self._gone = gone

    async def take(self, records: Records) -> None:
        """One account event a document; one that is malformed is a dead letter."""
        for record in self._new(records):
            if record.value is None:
                if self._gone is not None and record.key is not None:
                    self._forward(self._gone(record.key))
                continue
            if len(record.value) > DOCUMENT_BYTES_MAX:
                message = f"{len(record.value)} bytes"
                self._refuse(Refusal(Reason.RECORD_TOO_LARGE, message, b"", record.offset, None, record.key))
                continue
            try:
                self._forward(_dated(self._parse(record.value), record.timestamp))
            except (*UNDECODABLE, ValueError) as error:
                reason, message = explain_document(record.value, error)
                self._refuse(Refusal(reason, message, record.value, record.offset, None, record.key))


def _dated(event: AccountEvent, millis: int) -> AccountEvent:
    """A binding holds from when its document was written, in milliseconds since the epoch; never from later than now."""
    if isinstance(event, Bound):
        return structs.replace(event, at=to_instant(min(max(millis, 0) * 1000, time.time_ns() // 1000)))
    return event
