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
from pipeline.days import all_to_micros
from pipeline.identities import identities_in, identities_of
from pipeline.series import UNKNOWN, SeriesTable
from pipeline.texts import Listing, joined
from schemas.wire import QUANTITY_MAX, UsageEvent


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


def scan(values: Sequence[bytes], record_bytes: int, record_events: int) -> tuple[bytes, Array, Array]:
    """The values joined, a row for each event of the plain ones (`pipeline.compiled.events`), and which values are plain.

    Records of more bytes or events than that are not.
    """
    text, bounds = joined(values)
    rows = np.empty((len(text) // plain.EVENT_BYTES_MIN + 1, plain.WIDTH), np.int64)
    found = np.zeros(len(values), np.bool_)
    size = plain.scan(np.frombuffer(text, np.uint8), bounds, record_bytes, record_events, rows, found)
    return text, rows[:size], found


class Plain:
    """Plain events of some records."""

    def __init__(self, records: Sequence[Record], values: bytes, rows: Array) -> None:
        """`values` of the records, joined, and what `scan` found there."""
        self._records, self._values, self._rows = records, values, rows
        self._text = np.frombuffer(values, np.uint8)
        self.quantities, self.micros = rows[:, plain.QUANTITY], rows[:, plain.MICROS]

    def numbers(self, table: SeriesTable) -> Array:
        """The series that they name, or `UNKNOWN`."""
        return table.namings.numbers(self._text, self._rows, [record.key for record in self._records])

    def at(self, place: int) -> tuple[UsageEvent, Record, int]:
        """One event with its record and its index there."""
        record, index, start, end = self._rows[place, : plain.END + 1].tolist()
        return decode_valid(self._values[start:end]), self._records[record], index

    def rows(self, table: SeriesTable, numbers: Array, kept: Array) -> Rows:
        """The rows of the events at the places `kept`; `numbers` are the series of all."""
        rows, series = self._rows[kept], numbers[kept]
        ids, sources = rows[:, plain.ID : plain.ID_END + 1], rows[:, plain.SOURCE : plain.SOURCE_END + 1]
        offsets = np.array([record.offset for record in self._records], np.int64)[rows[:, plain.RECORD]]
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
