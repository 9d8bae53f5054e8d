"""Routing: from usage records to rows for batches per account; the hot path of the meter.

A record is one event, or an array of events, of a workspace. Every event ends as a row or as a `Refusal`.

Events go through in blocks, column by column: what is checked for each of them is one array operation a block. Plain events, that
is nearly all, never become objects; others are decoded. An event that does not pass the checks takes the careful path, which
knows why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from pipeline.admission import Limits, Refusal, decode_event, decode_events, explain, is_json, split_array
from pipeline.batches import Rows
from pipeline.candidates import Candidates, Decoded, Plain
from pipeline.compiled.events import NONE
from pipeline.days import MICROS_PER_DAY, day_of
from pipeline.namings import Naming
from pipeline.records import Record, Records
from pipeline.retention import is_split, retention_at
from pipeline.series import UNKNOWN, SeriesTable
from schemas.catalog import Catalog
from schemas.reasons import Reason
from schemas.wire import QUANTITY_MAX, UsageEvent, WorkspaceBinding

#: What precedes the meter in the type of an event.
TYPE_PREFIX = "usage."
#: Series kept between chunks; beyond it the table starts afresh, which costs time and changes nothing.
_SERIES_MAX = 1_000_000
#: Records that are read before the first of them is used: more would fall out of the processor's cache meanwhile.
_BLOCK = 4_000
#: `index` of an event that is a record of its own.
SINGLE = NONE


@dataclass(slots=True)
class Routed:
    """What a chunk became: `events` = all rows + the refusals."""

    rows: list[Rows] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def events(self) -> int:
        """How many events the chunk had."""
        return sum(len(rows.ids) for rows in self.rows) + len(self.refusals)


class Router:
    """Validates events and finds their series. `bind` and `unbind` keep its registry."""

    def __init__(self, catalog: Catalog, limits: Limits) -> None:
        self.catalog = catalog
        self._limits = limits
        self._bindings: dict[str, WorkspaceBinding] = {}
        self._table = SeriesTable(limits.horizon_days)
        self._routed = Routed()
        self._now = self._latest = 0
        self._split: tuple[int, list[bytes]] | None = None

    @property
    def bindings(self) -> dict[str, WorkspaceBinding]:
        """The registry: workspace -> binding."""
        return self._bindings

    def bind(self, binding: WorkspaceBinding) -> None:
        """From now on events of this workspace go to this binding's account."""
        old = self._bindings.get(binding.workspace)
        self._bindings[binding.workspace] = binding
        # No series is known of a workspace that was not.
        if old is not None and _told(old) != _told(binding):
            self._forget()

    def unbind(self, workspace: str) -> None:
        """From now on events of this workspace are refused."""
        self._bindings.pop(workspace, None)
        self._forget()

    def _forget(self) -> None:
        """A table of its own for what comes: rows that were routed before keep theirs."""
        self._table = SeriesTable(self._limits.horizon_days)

    def route(self, records: Records, now_micros: int) -> Routed:
        """The rows and refusals of one chunk of a usage partition; `now_micros` is the worker's clock."""
        self._now, self._latest = now_micros, now_micros + self._limits.future_micros
        if len(self._table) > _SERIES_MAX:
            self._forget()
        self._routed, self._split = Routed(), None
        for first in range(0, len(records), _BLOCK):
            self._block(records[first : first + _BLOCK])
        return self._routed

    def _block(self, records: Records) -> None:
        plain = Plain(records, self._limits.record_bytes, self._limits.record_events)
        self._admit(plain)
        if not plain.found.all():
            self._one_by_one(Records(records.text, records.rows[~plain.found]))

    def _one_by_one(self, records: Iterable[Record]) -> None:
        """Records that are not plain: valid in another way, too large, or malformed."""
        block = Decoded()
        for record in records:
            value = record.value or b""
            event = decode_event(value) if len(value) <= self._limits.record_bytes else None
            if event is not None:
                block.add([event], record, SINGLE)
            else:
                self._unusual(record, value, block)
            if len(block) >= _BLOCK:
                self._admit(block)
                block = Decoded()
        self._admit(block)

    def _unusual(self, record: Record, value: bytes, block: Decoded) -> None:
        if len(value) > self._limits.record_bytes:
            self._refuse(Reason.RECORD_TOO_LARGE, f"{len(value)} bytes", record, b"", None)
        elif (all_good := decode_events(value)) is not None and len(all_good) <= self._limits.record_events:
            block.add(all_good, record, 0)
        elif (elements := split_array(value)) is None:
            self._refuse(*explain(value), record, value, None)
        elif not (valid := is_json(value))[0]:
            self._refuse(Reason.NOT_JSON, valid[1], record, value, None)
        elif len(elements) > self._limits.record_events:
            self._refuse(Reason.RECORD_TOO_LARGE, f"an array of {len(elements)} events", record, b"", None)
        else:
            for index, element in enumerate(elements):
                event = decode_event(element)
                if event is None:
                    self._refuse(*explain(element), record, element, index)
                else:
                    block.add([event], record, index)

    def _admit(self, events: Candidates) -> None:
        """The hot path: rows of all events whose series is known and whose figures are in bounds; the others one by one."""
        numbers, quantities, micros = events.numbers(self._table), events.quantities, events.micros
        good = self._table.holds(numbers, micros, self._now) & (micros <= self._latest)
        good &= (quantities >= 0) & (quantities <= QUANTITY_MAX)
        for place in np.flatnonzero(~good).tolist():
            numbers[place] = self._carefully(*events.at(place), int(micros[place]))
        kept = np.flatnonzero(numbers != UNKNOWN)
        if len(kept):
            self._routed.rows.append(events.rows(self._table, numbers, kept))

    def _refuse(self, reason: Reason, message: str, record: Record, value: bytes, index: int | None) -> None:
        self._routed.refusals.append(Refusal(reason, message, value, record.offset, index, record.key))

    def _carefully(self, event: UsageEvent, record: Record, index: int, micros: int) -> int:
        """Every check in the order of precedence; the number of the series, or `UNKNOWN` after a refusal."""
        found = self._series_or_reason(event, micros, record.key)
        if isinstance(found, int):
            return found
        if index == SINGLE:
            self._refuse(*found, record, record.value or b"", None)
        else:
            self._refuse(*found, record, self._elements(record)[index], index)
        return UNKNOWN

    def _elements(self, record: Record) -> list[bytes]:
        """The elements of an array as their own bytes; kept for the next refusal out of the same record."""
        if self._split is None or self._split[0] != record.offset:
            self._split = record.offset, split_array(record.value or b"") or []
        return self._split[1]

    def _series_or_reason(self, event: UsageEvent, micros: int, key: bytes | None) -> int | tuple[Reason, str]:
        quantity, workspace = event.data.quantity, event.subject
        meter = (
            self.catalog.meters.get(event.type.removeprefix(TYPE_PREFIX))
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
            retention = retention_at(binding, meter, micros)
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
        naming: Naming | None = key, workspace, event.type, event.data.retention_days
        if event.data.retention_days is None and is_split(binding, meter.key, day):
            naming = None  # it leads to one series before the change and to another after it
        return self._table.number_of(naming, (workspace, day, meter.key, retention), binding)


def _told(binding: WorkspaceBinding) -> tuple[object, ...]:
    """What says the series of an event."""
    return binding.account, binding.time_zone, binding.retention_days, binding.retention_before
