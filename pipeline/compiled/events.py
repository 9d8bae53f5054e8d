"""Plain events: the JSON that nearly every producer writes, read where it lies.

Plain is a record of one event or of an array of them whose texts are printable ASCII without escapes, whose numbers are natural,
and whose time is RFC 3339 with at most six decimals, from 1970 to 2199. What the typed decoder would make of such a record is
found here (`tests/test_plain.py` compares the two); every other record is left to it, be it valid or not.
"""

from __future__ import annotations

from pipeline.compiled import compiled
from pipeline.compiled.bytes import WORD_BYTES, byte, put_number
from pipeline.compiled.instants import NOT_PLAIN, instant
from pipeline.compiled.records import VALUE, VALUE_END
from pipeline.compiled.strings import closing_quote, short
from schemas.wire import NAME_CHARS_MAX

#: Columns of a row. Places are those of what was fetched: an event from `START` to `END`, JSON strings with their quotes.
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
_QUOTE, _COMMA, _COLON, _ZERO, _NINE, _SPACE = b'",:09 '


def _number(text):
    """What `short` finds in a text that begins so."""
    return int.from_bytes(text[:WORD_BYTES], "little")


_NAMED_ID, _NAMED_SOURCE, _NAMED_SUBJECT = _number(b"id"), _number(b"source"), _number(b"subject")
_NAMED_TYPE, _NAMED_TIME, _NAMED_DATA = _number(b"type"), _number(b"time"), _number(b"data")
_NAMED_SPECVERSION, _SPECVERSION_REST = _number(b"specversion"), _number(b"ion")
_NAMED_QUANTITY, _NAMED_RETENTION, _RETENTION_REST = (
    _number(b"quantity"),
    _number(b"retention_days"),
    _number(b"n_days"),
)
_NULL, _ONE_ZERO = _number(b"null"), _number(b"1.0")


@compiled
def scan(fetched, records, record_bytes, record_events, rows, plain):
    """The number of rows: one for each event of the plain records; says which those are.

    Records of more bytes or events than that are not.
    """
    text, room, size = fetched.ctypes.data, len(rows), 0
    for record in range(len(records)):
        start, end = records[record, VALUE], records[record, VALUE_END]
        if end - start <= record_bytes:
            most = min(record_events, room - size)
            found = _record(text, start, end, rows.ctypes.data + size * WIDTH * WORD_BYTES, most)
            if found >= 0:
                plain[record] = True
                for place in range(size, size + found):
                    rows[place, RECORD] = record
                size += found
    return size


@compiled
def _record(text, start, end, row, most):
    """How many events a value has, written to as many rows from the first on, or `NOT_PLAIN`."""
    at, size = _skip(text, start, end), 0
    if at == end or byte(text, at) != ord("["):
        if most < 1:
            return NOT_PLAIN
        at = _event(text, at, end, row)
        put_number(row, INDEX, NONE)
        return 1 if at != NOT_PLAIN and _skip(text, at, end) == end else NOT_PLAIN
    more = True
    while more:
        at = _skip(text, at + 1, end)  # behind the bracket, or a comma
        if size == most:
            return NOT_PLAIN
        at = _event(text, at, end, row)
        if at == NOT_PLAIN:
            return NOT_PLAIN
        put_number(row, INDEX, size)
        row += WIDTH * WORD_BYTES
        size += 1
        at = _skip(text, at, end)
        if at == end:
            return NOT_PLAIN
        more = byte(text, at) == _COMMA
    return size if byte(text, at) == ord("]") and _skip(text, at + 1, end) == end else NOT_PLAIN


@compiled
def _event(text, at, end, row):
    """The place behind the event, which is in the row then."""
    put_number(row, START, at)
    put_number(row, RETENTION, NONE)
    seen, first, more = 0, ord("{"), True
    while more:
        name, stop, at = _member(text, at, end, first)
        if at == NOT_PLAIN:
            return NOT_PLAIN
        attribute = _attribute(text, name, stop, end)
        if seen & attribute:
            return NOT_PLAIN
        seen |= attribute
        at = _data(text, at, end, row) if attribute == _DATA else _text(text, at, end, attribute, row)
        at, more = _after(text, at, end)
        first = _COMMA
    put_number(row, END, at)
    return at if seen == _ALL else NOT_PLAIN


@compiled
def _data(text, at, end, row):
    """The place behind `data`."""
    seen, first, more = 0, ord("{"), True
    while more:
        name, stop, at = _member(text, at, end, first)
        if at == NOT_PLAIN:
            return NOT_PLAIN
        field = _field(text, name, stop, end)
        if seen & field:
            return NOT_PLAIN
        seen |= field
        if field == _UNKNOWN:
            at = _text(text, at, end, _UNKNOWN, row)
        elif field == _RETENTION and at + 4 <= end and short(text, at, at + 4, end) == _NULL:
            at += 4
        else:
            value, at = _natural(text, at, end)
            put_number(row, QUANTITY if field == _QUANTITY else RETENTION, value)
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
    stop = closing_quote(text, at + 1, end)
    if stop == NOT_PLAIN:
        return at, at, NOT_PLAIN
    colon = _skip(text, stop + 1, end)
    if colon == end or byte(text, colon) != _COLON:
        return at, at, NOT_PLAIN
    return at + 1, stop, _skip(text, colon + 1, end)


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
def _attribute(text, start, stop, end):
    size, name = stop - start, short(text, start, stop, end)
    if size == 2:
        return _ID if name == _NAMED_ID else _UNKNOWN
    if size == 4:
        if name == _NAMED_TYPE:
            return _TYPE
        if name == _NAMED_TIME:
            return _TIME
        return _DATA if name == _NAMED_DATA else _UNKNOWN
    if size == 6:
        return _SOURCE if name == _NAMED_SOURCE else _UNKNOWN
    if size == 7:
        return _SUBJECT if name == _NAMED_SUBJECT else _UNKNOWN
    if size == 11 and name == _NAMED_SPECVERSION and short(text, start + WORD_BYTES, stop, end) == _SPECVERSION_REST:
        return _SPECVERSION
    return _UNKNOWN


@compiled
def _field(text, start, stop, end):
    size, name = stop - start, short(text, start, stop, end)
    if size == 8:
        return _QUANTITY if name == _NAMED_QUANTITY else _UNKNOWN
    if size == 14 and name == _NAMED_RETENTION and short(text, start + WORD_BYTES, stop, end) == _RETENTION_REST:
        return _RETENTION
    return _UNKNOWN


@compiled
def _text(text, at, end, attribute, row):
    """The place behind the string of an attribute, whose place, or for `time` whose instant, is in the row then."""
    if at >= end or byte(text, at) != _QUOTE:
        return NOT_PLAIN
    stop = closing_quote(text, at + 1, end)
    if stop == NOT_PLAIN:
        return NOT_PLAIN
    if attribute == _UNKNOWN:
        return stop + 1
    if attribute == _TIME:
        micros = instant(text, at + 1, stop)
        put_number(row, MICROS, micros)
        return stop + 1 if micros >= 0 else NOT_PLAIN
    size = stop - at - 1
    if attribute == _SPECVERSION:
        return stop + 1 if size == 3 and short(text, at + 1, stop, end) == _ONE_ZERO else NOT_PLAIN
    if attribute != _TYPE and not 0 < size <= NAME_CHARS_MAX:
        return NOT_PLAIN
    column = ID
    if attribute == _TYPE:
        column = TYPE
    elif attribute == _SOURCE:
        column = SOURCE
    elif attribute == _SUBJECT:
        column = SUBJECT
    put_number(row, column, at)
    put_number(row, column + 1, stop + 1)
    return stop + 1


@compiled
def _natural(text, at, end):
    """The integer at this place without sign, fraction and exponent, and the place behind it."""
    value, start = 0, at
    while at < end and _ZERO <= byte(text, at) <= _NINE:
        if at - start == _DIGITS_MAX:
            return 0, NOT_PLAIN
        value = value * 10 + byte(text, at) - _ZERO
        at += 1
    if at == start or (byte(text, start) == _ZERO and at - start > 1):
        return 0, NOT_PLAIN
    return value, at


@compiled
def _skip(text, at, end):
    """The first place from here on that is no white space."""
    while at < end and (byte(text, at) == _SPACE or 9 <= byte(text, at) <= 10 or byte(text, at) == 13):
        at += 1
    return at
