"""Routing: from usage records to batches per account; the hot path of the meter.

A record is one event, or an array of events, of a workspace. Every event ends in a batch or as a `Refusal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Protocol

from pipeline.admission import Limits, Refusal, decode_event, decode_events, explain, is_json, split_array
from pipeline.days import MICROS_PER_DAY, day_bounds, day_of, to_micros
from pipeline.duplicates import identity_of
from pipeline.law import ensure
from schemas.catalog import Catalog
from schemas.log import RoutedUsage, SeriesKey, Usage
from schemas.reasons import Reason
from schemas.wire import QUANTITY_MAX, UsageEvent, WorkspaceBinding

#: What precedes the meter in the type of an event.
TYPE_PREFIX = "usage."
#: Open series kept between chunks; beyond it the cache starts afresh, which costs time and changes nothing.
_SERIES_MAX = 1_000_000
#: Events in one batch: with the longest source and id, all escaped, they stay below `MESSAGE_BYTES_MAX`.
ROWS_MAX = 5_000
#: `index` of an event that is a record of its own.
SINGLE = -1

#: Place of the series in the batch, quantity, micros, offset, index, identity, source, id.
_Row = tuple[int, int, int, int, int, bytes, str, str]


class Record(Protocol):
    """What routing needs of a Kafka record."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def key(self) -> bytes | None:
        """The workspace, or None."""

    @property
    def value(self) -> bytes | None:
        """The bytes as they were sent."""


@dataclass(slots=True)
class _Batch:
    """What a chunk has for one account so far."""

    account: str
    series: list[SeriesKey] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)

    def usages(self, partition: int) -> Iterator[Usage]:
        """The rows as columns, in batches that fit into a record whatever the names in them."""
        for first in range(0, len(self.rows), ROWS_MAX):
            yield self._usage(partition, self.rows[first : first + ROWS_MAX])

    def _usage(self, partition: int, rows: list[_Row]) -> Usage:
        at, quantities, micros, offsets, indexes, identities, sources, ids = map(list, zip(*rows, strict=True))
        return RoutedUsage(
            self.account, partition, self.series, at, quantities, micros, offsets, indexes, b"".join(identities),
            sources, ids,
        )  # fmt: skip


def _nowhere(row: _Row) -> None:
    """Where rows of a series go that is not open in a chunk: `chunk` says so before."""
    ensure(False, "a series is opened before it takes rows", row)


@dataclass(slots=True)
class _Series:
    """A series of one day. It keeps the day's bounds, which spares a look-up in the calendar per event.

    `chunk`, `place` and `append` are of the chunk that met it last: its place in the batch, and the batch's rows.
    """

    account: str
    prefix: str
    key: bytes
    name: SeriesKey
    start: int
    end: int
    chunk: int = -1
    place: int = 0
    append: Callable[[_Row], None] = _nowhere


@dataclass(frozen=True, slots=True)
class Routed:
    """What a chunk became: `events` = the events of all batches + the refusals."""

    usages: list[Usage]
    refusals: list[Refusal]
    events: int


class Router:
    """Validates events and groups them by account and series. `bind` and `unbind` keep its registry."""

    def __init__(self, catalog: Catalog, limits: Limits) -> None:
        self._catalog = catalog
        self._limits = limits
        self._bindings: dict[str, WorkspaceBinding] = {}
        self._open: dict[tuple[str, str, int | None], _Series] = {}
        self._other_days: dict[tuple[str, str, int | None, date], _Series] = {}
        self._batches: dict[str, _Batch] = {}
        self._chunk = 0
        self._refusals: list[Refusal] = []
        self._now = self._latest = 0
        self._split: tuple[Record, list[bytes]] | None = None

    @property
    def bindings(self) -> dict[str, WorkspaceBinding]:
        """The registry: workspace -> binding."""
        return self._bindings

    def bind(self, binding: WorkspaceBinding) -> None:
        """From now on events of this workspace go to this binding's account."""
        self._bindings[binding.workspace] = binding
        self._forget()

    def unbind(self, workspace: str) -> None:
        """From now on events of this workspace are refused."""
        self._bindings.pop(workspace, None)
        self._forget()

    def _forget(self) -> None:
        self._open.clear()
        self._other_days.clear()

    def route(self, partition: int, records: Iterable[Record], now_micros: int) -> Routed:
        """The batches and refusals of one chunk of a usage partition; `now_micros` is the worker's clock."""
        self._now, self._latest = now_micros, now_micros + self._limits.future_micros
        if len(self._open) + len(self._other_days) > _SERIES_MAX:
            self._forget()
        bytes_max, take = self._limits.record_bytes, self._take
        for record in records:
            value = record.value or b""
            event = decode_event(value) if len(value) <= bytes_max else None
            if event is None:
                self._unusual(record, value)
            else:
                take(event, record, SINGLE)
        return self._collect(partition)

    def _take(self, event: UsageEvent, record: Record, index: int) -> None:
        """The hot path: an event of an open series goes straight to its batch, any other takes the careful path."""
        data, micros, key, source = event.data, to_micros(event.time), record.key, event.source
        series = self._open.get((event.subject, event.type, data.retention_days))
        if (
            series is None
            or not series.start <= micros < series.end
            or micros > self._latest
            or not 0 <= data.quantity <= QUANTITY_MAX
            or (key is not None and key != series.key)
            or series.chunk != self._chunk
        ):
            self._one(event, micros, record, index)
            return
        identity = identity_of(series.prefix, source, event.id)
        series.append((series.place, data.quantity, micros, record.offset, index, identity, source, event.id))

    def _collect(self, partition: int) -> Routed:
        events = len(self._refusals) + sum(len(batch.rows) for batch in self._batches.values())
        routed = Routed(
            [usage for batch in self._batches.values() for usage in batch.usages(partition)], self._refusals, events
        )
        self._batches, self._refusals, self._split = {}, [], None
        self._chunk += 1
        return routed

    def _open_in_chunk(self, series: _Series) -> None:
        """Give the series its place in the batch of its account."""
        batch = self._batches.get(series.account)
        if batch is None:
            batch = self._batches[series.account] = _Batch(series.account)
        series.chunk, series.place, series.append = self._chunk, len(batch.series), batch.rows.append
        batch.series.append(series.name)

    def _unusual(self, record: Record, value: bytes) -> None:
        """A record that is no single valid event: an array, too large, or malformed."""
        if len(value) > self._limits.record_bytes:
            self._refuse(Reason.RECORD_TOO_LARGE, f"{len(value)} bytes", record, b"", None)
        elif (all_good := decode_events(value)) is not None and len(all_good) <= self._limits.record_events:
            for index, event in enumerate(all_good):
                self._take(event, record, index)
        elif (elements := split_array(value)) is None:
            self._refuse(*explain(value), record, value, None)
        elif not (valid := is_json(value))[0]:
            self._refuse(Reason.NOT_JSON, valid[1], record, value, None)
        elif len(elements) > self._limits.record_events:
            self._refuse(Reason.RECORD_TOO_LARGE, f"an array of {len(elements)} events", record, b"", None)
        else:
            self._array(elements, record)

    def _array(self, elements: Sequence[bytes], record: Record) -> None:
        for index, element in enumerate(elements):
            event = decode_event(element)
            if event is None:
                self._refuse(*explain(element), record, element, index)
            else:
                self._take(event, record, index)

    def _refuse(self, reason: Reason, message: str, record: Record, value: bytes, index: int | None) -> None:
        self._refusals.append(Refusal(reason, message, value, record.offset, index, record.key))

    def _one(self, event: UsageEvent, micros: int, record: Record, index: int) -> None:
        """The careful path: every check in the order of precedence, then the row goes to its series."""
        found = self._series_or_reason(event, micros, record.key)
        if isinstance(found, _Series):
            if found.chunk != self._chunk:
                self._open_in_chunk(found)
            identity = identity_of(found.prefix, event.source, event.id)
            found.append(
                (found.place, event.data.quantity, micros, record.offset, index, identity, event.source, event.id)
            )
        elif index == SINGLE:
            self._refuse(*found, record, record.value or b"", None)
        else:
            self._refuse(*found, record, self._elements(record)[index], index)

    def _elements(self, record: Record) -> list[bytes]:
        """The elements of an array as their own bytes; kept for the next refusal out of the same record."""
        if self._split is None or self._split[0] is not record:
            self._split = record, split_array(record.value or b"") or []
        return self._split[1]

    def _series_or_reason(self, event: UsageEvent, micros: int, key: bytes | None) -> _Series | tuple[Reason, str]:
        quantity, workspace = event.data.quantity, event.subject
        meter = (
            self._catalog.meters.get(event.type.removeprefix(TYPE_PREFIX))
            if event.type.startswith(TYPE_PREFIX)
            else None
        )
        if meter is None:
            return Reason.UNKNOWN_METER, f"$.type: {event.type[:100]!r} is no usage of a known meter"
        if quantity < 0:
            return Reason.NEGATIVE_QUANTITY, f"$.data.quantity: {quantity}"
        if quantity > QUANTITY_MAX:
            return Reason.QUANTITY_TOO_LARGE, f"$.data.quantity: more than {QUANTITY_MAX}"
        if key is not None and key != workspace.encode():
            return Reason.WRONG_KEY, f"$.subject: {workspace!r} is not the record's key {key[:100]!r}"
        binding = self._bindings.get(workspace)
        if binding is None:
            return Reason.UNKNOWN_WORKSPACE, f"$.subject: {workspace!r} is not bound to an account"
        retention = event.data.retention_days
        if retention is None:
            retention = binding.retention_days.get(meter.key, meter.default_retention)
        if retention not in meter.factors:
            return Reason.UNKNOWN_RETENTION, f"$.data.retention_days: {meter.key} has no retention of {retention} days"
        if micros > self._now + self._limits.future_micros:
            return Reason.FROM_THE_FUTURE, f"$.time: {event.time.isoformat()}"
        if micros < self._now - (self._limits.horizon_days + 2) * MICROS_PER_DAY:
            # Far past any zone's horizon; such a time need not even exist in the account's zone.
            return Reason.TOO_LATE, f"$.time: {event.time.isoformat()} is past the horizon"
        day = day_of(micros, binding.time_zone)
        if day < day_of(self._now, binding.time_zone) - timedelta(days=self._limits.horizon_days):
            return Reason.TOO_LATE, f"$.time: {day} is past the horizon of {self._limits.horizon_days} days"
        return self._series(event, binding, meter.key, retention, day)

    def _series(self, event: UsageEvent, binding: WorkspaceBinding, meter: str, retention: int, day: date) -> _Series:
        """The series of this day; the newest day of a series is the one that the hot path looks for."""
        cached = (event.subject, event.type, event.data.retention_days)
        current = self._open.get(cached)
        if current is not None and current.name[1] == day:
            return current
        other = self._other_days.get((*cached, day))
        if other is not None:
            return other
        start, end = day_bounds(day, binding.time_zone)
        workspace, prefix = event.subject, f"{len(binding.account)}:{binding.account}"
        series = _Series(binding.account, prefix, workspace.encode(), (workspace, day, meter, retention), start, end)
        if current is None or current.name[1] < day:
            self._open[cached] = series
            if current is not None:
                self._other_days[*cached, current.name[1]] = current
        else:
            self._other_days[*cached, day] = series
        return series
