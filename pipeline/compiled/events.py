"""Plain events: the JSON that nearly every producer writes, read where it lies.

Plain is a record of one event or of an array of them whose texts are printable ASCII without escapes, whose numbers are natural,
and whose time is RFC 3339 with at most six decimals, from 1970 to 2199. What the typed decoder would make of such a record is
found here (`tests/test_plain.py` compares the two); every other record is left to it, be it valid or not.
"""

from __future__ import annotations

import numpy as np

from pipeline.compiled import compiled
from pipeline.compiled.bytes import byte, equal
from pipeline.compiled.instants import NOT_PLAIN, instant
from schemas.wire import NAME_CHARS_MAX

#: Columns of a row. Places are those of the joined values: an event from `START` to `END`, JSON strings with their quotes.
RECORD, INDEX, START, END, ID, ID_END, SOURCE, SOURCE_END, SUBJECT, SUBJECT_END, TYPE, TYPE_END = range(12)
RETENTION, QUANTITY, MICROS, WIDTH = 12, 13, 14, 15
#: `RETENTION` of an event that names none, and `INDEX` of one that is a record of its own.
NONE = -1
#: No plain event is shorter.
EVENT_BYTES_MIN = 119
#: Largest number of digits: below 2^63, and above every bound of the contract.
_DIGITS_MAX = 17

_UNKNOWN, _ID, _SOURCE, _SUBJECT, _TYPE, _TIME, _DATA, _SPECVERSION = 0, 1, 2, 4, 8, 16, 32, 64
_ALL = 127
_QUANTITY, _RETENTION = 1, 2
_QUOTE, _COMMA, _COLON, _ZERO, _NINE = 34, 44, 58, 48, 57
#: Whether a byte may stand in a plain string: printable ASCII, but no quote and no backslash.
_IN_STRING = np.array([32 <= one < 127 and one not in b'"\\' for one in range(256)])


@compiled
def scan(text, bounds, record_bytes, record_events, rows, plain):
    """The number of rows: one for each event of the plain records; says which those are.

    Records of more bytes or events than that are not.
    """
    size = 0
    for record in range(len(plain)):
        start, end = bounds[record], bounds[record + 1]
        if end - start <= record_bytes:
            after = _record(text, start, end, rows[size:], record_events)
            if after >= 0:
                plain[record] = True
                rows[size : size + after, RECORD] = record
                size += after
    return size


@compiled
def _record(text, start, end, rows, most):
    """How many events a value has, written to the first rows, or `NOT_PLAIN`."""
    at, size = _skip(text, start, end), 0
    if at == end or byte(text, at) != ord("["):
        at = _event(text, at, end, rows[0]) if len(rows) else NOT_PLAIN
        rows[0, INDEX] = NONE
        return 1 if at != NOT_PLAIN and _skip(text, at, end) == end else NOT_PLAIN
    more = True
    while more:
        at = _skip(text, at + 1, end)  # behind the bracket, or a comma
        if size == min(most, len(rows)):
            return NOT_PLAIN
        at = _event(text, at, end, rows[size])
        if at == NOT_PLAIN:
            return NOT_PLAIN
        rows[size, INDEX] = size
        size += 1
        at = _skip(text, at, end)
        if at == end:
            return NOT_PLAIN
        more = byte(text, at) == _COMMA
    return size if byte(text, at) == ord("]") and _skip(text, at + 1, end) == end else NOT_PLAIN


@compiled
def _event(text, at, end, row):
    """The place behind the event, which is in the row then."""
    row[START], row[RETENTION], seen = at, NONE, 0
    first, more = ord("{"), True
    while more:
        name, stop, at = _member(text, at, end, first)
        if at == NOT_PLAIN:
            return NOT_PLAIN
        attribute = _attribute(text, name, stop)
        if seen & attribute:
            return NOT_PLAIN
        seen |= attribute
        at = _data(text, at, end, row) if attribute == _DATA else _text(text, at, end, attribute, row)
        at, more = _after(text, at, end)
        first = _COMMA
    row[END] = at
    return at if seen == _ALL else NOT_PLAIN


@compiled
def _data(text, at, end, row):
    """The place behind `data`."""
    seen, first, more = 0, ord("{"), True
    while more:
        name, stop, at = _member(text, at, end, first)
        if at == NOT_PLAIN:
            return NOT_PLAIN
        field = _UNKNOWN
        if _is(text, name, stop, b"quantity"):
            field = _QUANTITY
            row[QUANTITY], at = _natural(text, at, end)
        elif _is(text, name, stop, b"retention_days"):
            field = _RETENTION
            if _is(text, at, min(at + 4, end), b"null"):
                at += 4
            else:
                row[RETENTION], at = _natural(text, at, end)
        else:
            at = _text(text, at, end, _UNKNOWN, row)
        if seen & field:
            return NOT_PLAIN
        seen |= field
        at, more = _after(text, at, end)
        first = _COMMA
    return at if seen & _QUANTITY else NOT_PLAIN


@compiled
def _member(text, at, end, first):
    """The name of the next member, from and to, and the place of its value; `first` is the bracket or comma before it."""
    if at < 0 or at >= end or byte(text, at) != first:
        return at, at, NOT_PLAIN
    at = _skip(text, at + 1, end)
    if at == end or byte(text, at) != _QUOTE:
        return at, at, NOT_PLAIN
    stop = _quoted(text, at, end)
    if stop == NOT_PLAIN:
        return at, at, NOT_PLAIN
    colon = _skip(text, stop, end)
    if colon == end or byte(text, colon) != _COLON:
        return at, at, NOT_PLAIN
    return at + 1, stop - 1, _skip(text, colon + 1, end)


@compiled
def _after(text, at, end):
    """Behind a value: the place of a comma, or the place behind the closing bracket; and whether it is a comma."""
    if at == NOT_PLAIN:
        return at, False
    at = _skip(text, at, end)
    if at == end:
        return NOT_PLAIN, False
    if byte(text, at) == _COMMA:
        return at, True
    return (at + 1, False) if byte(text, at) == ord("}") else (NOT_PLAIN, False)


@compiled
def _attribute(text, start, stop):
    size = stop - start
    if size == 2:
        return _ID if _is(text, start, stop, b"id") else _UNKNOWN
    if size == 4:
        if _is(text, start, stop, b"type"):
            return _TYPE
        if _is(text, start, stop, b"time"):
            return _TIME
        return _DATA if _is(text, start, stop, b"data") else _UNKNOWN
    if size == 6:
        return _SOURCE if _is(text, start, stop, b"source") else _UNKNOWN
    if size == 7:
        return _SUBJECT if _is(text, start, stop, b"subject") else _UNKNOWN
    return _SPECVERSION if _is(text, start, stop, b"specversion") else _UNKNOWN


@compiled
def _text(text, at, end, attribute, row):
    """The place behind the string of an attribute, whose place, or for `time` whose instant, is in the row then."""
    if at >= end or byte(text, at) != _QUOTE:
        return NOT_PLAIN
    stop = _quoted(text, at, end)
    if stop == NOT_PLAIN or attribute == _UNKNOWN:
        return stop
    if attribute == _TIME:
        row[MICROS] = instant(text, at + 1, stop - 1)
        return stop if row[MICROS] >= 0 else NOT_PLAIN
    if attribute == _SPECVERSION:
        return stop if _is(text, at, stop, b'"1.0"') else NOT_PLAIN
    if attribute == _TYPE:
        row[TYPE], row[TYPE_END] = at, stop
        return stop
    if not 0 < stop - at - 2 <= NAME_CHARS_MAX:
        return NOT_PLAIN
    column = ID if attribute == _ID else SOURCE if attribute == _SOURCE else SUBJECT
    row[column], row[column + 1] = at, stop
    return stop


@compiled
def _quoted(text, at, end):
    """The place behind the string that begins with the quote at this place."""
    at += 1
    while at < end and _IN_STRING[byte(text, at)]:
        at += 1
    return at + 1 if at < end and byte(text, at) == _QUOTE else NOT_PLAIN


@compiled
def _natural(text, at, end):
    """The integer at this place without sign, fraction and exponent, and the place behind it."""
    value, start = 0, at
    while at < end and _ZERO <= byte(text, at) <= _NINE:
        if at - start == _DIGITS_MAX:
            return 0, NOT_PLAIN
        value = value * 10 + np.int64(byte(text, at)) - _ZERO
        at += 1
    if at == start or (byte(text, start) == _ZERO and at - start > 1):
        return 0, NOT_PLAIN
    return value, at


@compiled
def _is(text, start, stop, wanted):
    return equal(text, start, stop, wanted, 0, len(wanted))


@compiled
def _skip(text, at, end):
    """The first place from here on that is no white space."""
    while at < end and (byte(text, at) == ord(" ") or 9 <= byte(text, at) <= 10 or byte(text, at) == 13):
        at += 1
    return at
