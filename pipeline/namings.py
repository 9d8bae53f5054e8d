"""Namings: how events name their series, and the number that each leads to."""

from __future__ import annotations

import numpy as np

from pipeline.columns import Array
from pipeline.compiled.events import NONE
from pipeline.compiled.namings import DAYS, EMPTY, END, MIDDLE, NUMBER, START, WIDTH, look_up, slot_of
from pipeline.records import Records
from pipeline.texts import Texts

#: How an event names its series: the record's key, subject, type, and retention in days (None: the workspace's default).
Naming = tuple[bytes | None, str, str, int | None]


class Namings:
    """Leads from namings to numbers; a key that is right adds nothing to a naming."""

    def __init__(self) -> None:
        self._own = Texts()
        self._size = 0
        self._entries = np.empty((1 << 7, WIDTH), np.int64)
        self._slots = np.full(1 << 8, EMPTY, np.int64)

    def learn(self, naming: Naming, number: int) -> None:
        """From now on this naming leads to this number."""
        _, subject, type_, retention = naming
        text = np.frombuffer((subject + type_).encode(), np.uint8)
        middle, days = len(subject.encode()), NONE if retention is None else retention
        slot = slot_of(self._slots, self._entries, self._own.text, text, 0, middle, middle, len(text), days)
        if self._slots[slot] == EMPTY:
            self._slots[slot] = self._add(subject, type_, days)
        self._entries[self._slots[slot], NUMBER] = number
        if self._size * 2 > len(self._slots):
            self._rebuild()

    def numbers(self, records: Records, rows: Array) -> Array:
        """The number of each row's series, or `UNKNOWN`; the rows are the plain events of the records."""
        numbers = np.empty(len(rows), np.int64)
        look_up(self._slots, self._entries, self._own.text, records.array, records.rows, rows, numbers)
        return numbers

    def _add(self, subject: str, type_: str, days: int) -> int:
        """The place of a new entry, whose number is yet to be set."""
        place = self._size
        if place == len(self._entries):
            self._entries = np.concatenate([self._entries, np.empty_like(self._entries)])
        for text in (subject, type_):
            self._own.add(text)
        entry, bounds = self._entries[place], self._own.bounds
        entry[START], entry[MIDDLE], entry[END] = bounds[2 * place : 2 * place + 3]
        entry[DAYS] = days
        self._size += 1
        return place

    def _rebuild(self) -> None:
        """Twice the slots, so that at most half of them are taken."""
        self._slots = np.full(2 * len(self._slots), EMPTY, np.int64)
        for place, entry in enumerate(self._entries[: self._size]):
            start, middle, end, days = (int(entry[column]) for column in (START, MIDDLE, END, DAYS))
            own = self._own.text
            self._slots[slot_of(self._slots, self._entries, own, own, start, middle, middle, end, days)] = place
