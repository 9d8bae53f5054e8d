"""Candidates: events that were read and are not admitted yet, as columns.

Both kinds answer alike. Plain events stay in the bytes of their records, where compiled loops find what is asked for; all others
were made objects by the typed decoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import repeat
from typing import Protocol

import msgspec
import numpy as np

from pipeline.admission import decode_valid
from pipeline.batches import Rows
from pipeline.columns import Array
from pipeline.compiled import events as plain
from pipeline.compiled.records import OFFSET
from pipeline.days import all_to_micros
from pipeline.identities import identities_in, identities_of
from pipeline.records import Record, Records
from pipeline.series import UNKNOWN, SeriesTable
from pipeline.texts import Listing, joined
from schemas.wire import QUANTITY_MAX, UsageEvent


class Candidates(Protocol):
    """Events in order of arrival; every column has one number an event."""

    @property
    def quantities(self) -> Array:
        """Bounded to below 0 and above `QUANTITY_MAX`."""

    @property
    def micros(self) -> Array:
        """The events' own time, microseconds since the epoch."""

    def numbers(self, table: SeriesTable) -> Array:
        """The series that they name, or `UNKNOWN`."""

    def at(self, place: int) -> tuple[UsageEvent, Record, int]:
        """One event with its record and its index there."""

    def rows(self, table: SeriesTable, numbers: Array, kept: Array) -> Rows:
        """The rows of the events at the places `kept`; `numbers` are the series of all."""


class Plain:
    """The plain events of some records; of more bytes or events than that a record is not plain.

    `found` says which records are.
    """

    def __init__(self, records: Records, record_bytes: int, record_events: int) -> None:
        self._records = records
        self._text = records.array
        rows = np.empty((records.value_bytes // plain.EVENT_BYTES_MIN + 1, plain.WIDTH), np.int64)
        self.found = np.zeros(len(records), np.bool_)
        size = plain.scan(self._text, records.rows, record_bytes, record_events, rows, self.found)
        self.events = rows[:size]
        self.quantities, self.micros = self.events[:, plain.QUANTITY], self.events[:, plain.MICROS]

    def numbers(self, table: SeriesTable) -> Array:
        """The series that they name, or `UNKNOWN`."""
        return table.namings.numbers(self._records, self.events)

    def at(self, place: int) -> tuple[UsageEvent, Record, int]:
        """One event with its record and its index there."""
        record, index, start, end = self.events[place, : plain.END + 1].tolist()
        return decode_valid(self._records.text[start:end]), self._records[record], index

    def rows(self, table: SeriesTable, numbers: Array, kept: Array) -> Rows:
        """The rows of the events at the places `kept`; `numbers` are the series of all."""
        rows, series = self.events[kept], numbers[kept]
        ids, sources = rows[:, plain.ID : plain.ID_END + 1], rows[:, plain.SOURCE : plain.SOURCE_END + 1]
        offsets = self._records.rows[rows[:, plain.RECORD], OFFSET]
        identities = identities_in(self._text, sources, ids, table.prefixes, table.account_of[series])
        quantities, micros, indexes = (rows[:, column].copy() for column in (plain.QUANTITY, plain.MICROS, plain.INDEX))
        # Copied while the bytes are at hand, so that the records need not be kept until the batches are made.
        listings = Listing(self._text, sources), Listing(self._text, ids)
        return Rows(table, series, quantities, micros, offsets, indexes, identities, *listings)


class Decoded:
    """Events that the typed decoder made: each with its record, and its index there. All are added before a column is asked for."""

    def __init__(self) -> None:
        self._events: list[UsageEvent] = []
        self._records: list[Record] = []
        self._indexes: list[int] = []

    def __len__(self) -> int:
        return len(self._events)

    def add(self, events: Sequence[UsageEvent], record: Record, first: int) -> None:
        """Neighbouring events of one record."""
        self._events += events
        self._records += [record] * len(events)
        self._indexes += range(first, first + len(events))

    @cached_property
    def quantities(self) -> Array:
        """Bounded to below 0 and above `QUANTITY_MAX`."""
        quantities = [event.data.quantity for event in self._events]
        try:
            return np.array(quantities, np.int64)
        except OverflowError:
            return np.array([min(max(quantity, -1), QUANTITY_MAX + 1) for quantity in quantities], np.int64)

    @cached_property
    def micros(self) -> Array:
        """The events' own time, microseconds since the epoch."""
        return all_to_micros([event.time for event in self._events])

    def numbers(self, table: SeriesTable) -> Array:
        """The series that they name, or `UNKNOWN`."""
        namings = [
            (record.key, event.subject, event.type, event.data.retention_days)
            for record, event in zip(self._records, self._events, strict=True)
        ]
        return np.fromiter(map(table.numbers.get, namings, repeat(UNKNOWN)), np.int64, len(namings))

    def at(self, place: int) -> tuple[UsageEvent, Record, int]:
        """One event with its record and its index there."""
        return self._events[place], self._records[place], self._indexes[place]

    def rows(self, table: SeriesTable, numbers: Array, kept: Array) -> Rows:
        """The rows of the events at the places `kept`; `numbers` are the series of all."""
        places = kept.tolist()
        events, series = [self._events[place] for place in places], numbers[kept]
        sources, ids = [event.source for event in events], [event.id for event in events]
        offsets = np.array([self._records[place].offset for place in places], np.int64)
        indexes = np.array([self._indexes[place] for place in places], np.int64)
        identities = identities_of([table.account(number) for number in series.tolist()], sources, ids)
        listings = _listing(sources), _listing(ids)
        return Rows(table, series, self.quantities[kept], self.micros[kept], offsets, indexes, identities, *listings)


def _listing(texts: Iterable[str]) -> Listing:
    text, bounds = joined([msgspec.json.encode(text) for text in texts])
    return Listing(np.frombuffer(text, np.uint8), np.stack([bounds[:-1], bounds[1:]], axis=1))
