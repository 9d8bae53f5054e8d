"""Plain events: the JSON that nearly every producer writes, read where it lies.

Plain is a record of one event or of an array of them whose texts are printable ASCII without escapes, whose numbers are natural,
and whose time is RFC 3339 with at most six decimals, from 1970 to 2199. What the typed decoder would make of such a record is
found here (`tests/test_plain.py` compares the two); every other record is left to it, be it valid or not.
"""

from __future__ import annotations

import numpy as np

from pipeline.compiled import compiled
from schemas.wire import NAME_CHARS_MAX

#: Columns of a row. Places are those of the joined values: an event from `START` to `END`, JSON strings with their quotes.
RECORD, INDEX, START, END, ID, ID_END, SOURCE, SOURCE_END, SUBJECT, SUBJECT_END, TYPE, TYPE_END = range(12)
RETENTION, QUANTITY, MICROS, WIDTH = 12, 13, 14, 15
#: `RETENTION` of an event that names none, and `INDEX` of one that is a record of its own.
NONE = -1
#: No plain event is shorter.
EVENT_BYTES_MIN = 119
#: What a function returns instead of a place when the text is not plain.
_NOT_PLAIN = -1
#: Largest number of digits: below 2^63, and above every bound of the contract.
_DIGITS_MAX = 17

_UNKNOWN, _ID, _SOURCE, _SUBJECT, _TYPE, _TIME, _DATA, _SPECVERSION = 0, 1, 2, 4, 8, 16, 32, 64
_ALL = 127
_QUANTITY, _RETENTION = 1, 2
_QUOTE, _COMMA, _COLON, _ZERO, _NINE = 34, 44, 58, 48, 57
_DAYS_BEFORE_1970 = 719_468
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
    """How many events a value has, written to the first rows, or `_NOT_PLAIN`."""
    at, size = _skip(text, start, end), 0
    if at == end or _byte(text, at) != ord("["):
        at = _event(text, at, end, rows[0]) if len(rows) else _NOT_PLAIN
        rows[0, INDEX] = NONE
        return 1 if at != _NOT_PLAIN and _skip(text, at, end) == end else _NOT_PLAIN
    more = True
    while more:
        at = _skip(text, at + 1, end)  # behind the bracket, or a comma
        if size == min(most, len(rows)):
            return _NOT_PLAIN
        at = _event(text, at, end, rows[size])
        if at == _NOT_PLAIN:
            return _NOT_PLAIN
        rows[size, INDEX] = size
        size += 1
        at = _skip(text, at, end)
        if at == end:
            return _NOT_PLAIN
        more = _byte(text, at) == _COMMA
    return size if _byte(text, at) == ord("]") and _skip(text, at + 1, end) == end else _NOT_PLAIN


@compiled
def _event(text, at, end, row):
    """The place behind the event, which is in the row then."""
    row[START], row[RETENTION], seen = at, NONE, 0
    first, more = ord("{"), True
    while more:
        name, stop, at = _member(text, at, end, first)
        if at == _NOT_PLAIN:
            return _NOT_PLAIN
        attribute = _attribute(text, name, stop)
        if seen & attribute:
            return _NOT_PLAIN
        seen |= attribute
        at = _data(text, at, end, row) if attribute == _DATA else _text(text, at, end, attribute, row)
        at, more = _after(text, at, end)
        first = _COMMA
    row[END] = at
    return at if seen == _ALL else _NOT_PLAIN


@compiled
def _data(text, at, end, row):
    """The place behind `data`."""
    seen, first, more = 0, ord("{"), True
    while more:
        name, stop, at = _member(text, at, end, first)
        if at == _NOT_PLAIN:
            return _NOT_PLAIN
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
            return _NOT_PLAIN
        seen |= field
        at, more = _after(text, at, end)
        first = _COMMA
    return at if seen & _QUANTITY else _NOT_PLAIN


@compiled
def _member(text, at, end, first):
    """The name of the next member, from and to, and the place of its value; `first` is the bracket or comma before it."""
    if at < 0 or at >= end or _byte(text, at) != first:
        return at, at, _NOT_PLAIN
    at = _skip(text, at + 1, end)
    if at == end or _byte(text, at) != _QUOTE:
        return at, at, _NOT_PLAIN
    stop = _quoted(text, at, end)
    if stop == _NOT_PLAIN:
        return at, at, _NOT_PLAIN
    colon = _skip(text, stop, end)
    if colon == end or _byte(text, colon) != _COLON:
        return at, at, _NOT_PLAIN
    return at + 1, stop - 1, _skip(text, colon + 1, end)


@compiled
def _after(text, at, end):
    """Behind a value: the place of a comma, or the place behind the closing bracket; and whether it is a comma."""
    if at == _NOT_PLAIN:
        return at, False
    at = _skip(text, at, end)
    if at == end:
        return _NOT_PLAIN, False
    if _byte(text, at) == _COMMA:
        return at, True
    return (at + 1, False) if _byte(text, at) == ord("}") else (_NOT_PLAIN, False)


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
    if at >= end or _byte(text, at) != _QUOTE:
        return _NOT_PLAIN
    stop = _quoted(text, at, end)
    if stop == _NOT_PLAIN or attribute == _UNKNOWN:
        return stop
    if attribute == _TIME:
        row[MICROS] = _instant(text, at + 1, stop - 1)
        return stop if row[MICROS] >= 0 else _NOT_PLAIN
    if attribute == _SPECVERSION:
        return stop if _is(text, at, stop, b'"1.0"') else _NOT_PLAIN
    if attribute == _TYPE:
        row[TYPE], row[TYPE_END] = at, stop
        return stop
    if not 0 < stop - at - 2 <= NAME_CHARS_MAX:
        return _NOT_PLAIN
    column = ID if attribute == _ID else SOURCE if attribute == _SOURCE else SUBJECT
    row[column], row[column + 1] = at, stop
    return stop


@compiled
def _quoted(text, at, end):
    """The place behind the string that begins with the quote at this place."""
    at += 1
    while at < end and _IN_STRING[_byte(text, at)]:
        at += 1
    return at + 1 if at < end and _byte(text, at) == _QUOTE else _NOT_PLAIN


@compiled
def _natural(text, at, end):
    """The integer at this place without sign, fraction and exponent, and the place behind it."""
    value, start = 0, at
    while at < end and _ZERO <= _byte(text, at) <= _NINE:
        if at - start == _DIGITS_MAX:
            return 0, _NOT_PLAIN
        value = value * 10 + np.int64(_byte(text, at)) - _ZERO
        at += 1
    if at == start or (_byte(text, start) == _ZERO and at - start > 1):
        return 0, _NOT_PLAIN
    return value, at


@compiled
def _instant(text, at, stop):
    """Microseconds since the epoch of `YYYY-MM-DDThh:mm:ss`, with up to six decimals, and `Z` or `+hh:mm`; or `_NOT_PLAIN`."""
    if stop - at < 20 or not _has_shape(text, at):
        return _NOT_PLAIN
    year, month, day = _digits(text, at, 4), _digits(text, at + 5, 2), _digits(text, at + 8, 2)
    hour, minute, second = _digits(text, at + 11, 2), _digits(text, at + 14, 2), _digits(text, at + 17, 2)
    if not (1970 <= year <= 2199 and 1 <= month <= 12 and 1 <= day <= _days_in(year, month)):
        return _NOT_PLAIN
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return _NOT_PLAIN
    micros, at = _decimals(text, at + 19, stop)
    offset = _offset(text, at, stop)
    if micros < 0 or offset == 1440:
        return _NOT_PLAIN
    seconds = ((_days_since_epoch(year, month, day) * 24 + hour) * 60 + minute - offset) * 60 + second
    return seconds * 1_000_000 + micros


@compiled
def _has_shape(text, at):
    """Whether the marks between the digits of an instant are in their places."""
    return (
        _byte(text, at + 4) == ord("-")
        and _byte(text, at + 7) == ord("-")
        and _byte(text, at + 10) == ord("T")
        and _byte(text, at + 13) == _COLON
        and _byte(text, at + 16) == _COLON
    )


@compiled
def _decimals(text, at, stop):
    """The microseconds of the decimals at this place, if there are any (-1: they are not plain), and the place behind them."""
    if _byte(text, at) != ord("."):
        return 0, at
    at, start, micros = at + 1, at + 1, 0
    while at < stop and _ZERO <= _byte(text, at) <= _NINE:
        micros = micros * 10 + np.int64(_byte(text, at)) - _ZERO
        at += 1
        if at - start > 6:
            return -1, at
    if at == start:
        return -1, at
    for _ in range(6 - (at - start)):
        micros *= 10
    return micros, at


@compiled
def _offset(text, at, stop):
    """Minutes east of UTC of `Z` or `+hh:mm`, which ends the text; 1440 if it does not."""
    if stop - at == 1 and _byte(text, at) == ord("Z"):
        return 0
    if stop - at != 6 or _byte(text, at + 3) != _COLON or (_byte(text, at) != ord("+") and _byte(text, at) != ord("-")):
        return 1440
    hours, minutes = _digits(text, at + 1, 2), _digits(text, at + 4, 2)
    if not (0 <= hours <= 23 and 0 <= minutes <= 59):
        return 1440
    east = hours * 60 + minutes
    return east if _byte(text, at) == ord("+") else -east


@compiled
def _digits(text, at, size):
    """The number of so many digits, or one below 0."""
    value = 0
    for place in range(at, at + size):
        if not _ZERO <= _byte(text, place) <= _NINE:
            return -1
        value = value * 10 + np.int64(_byte(text, place)) - _ZERO
    return value


@compiled
def _days_in(year, month):
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


@compiled
def _days_since_epoch(year, month, day):
    """Days from 1970-01-01, by H. Hinnant's "days from civil": years begin in March."""
    if month <= 2:
        year -= 1
    century, in_era = year // 400, year % 400
    in_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return century * 146_097 + in_era * 365 + in_era // 4 - in_era // 100 + in_year - _DAYS_BEFORE_1970


@compiled
def _is(text, start, stop, wanted):
    if stop - start != len(wanted):
        return False
    for place in range(len(wanted)):
        if _byte(text, start + place) != wanted[place]:
            return False
    return True


@compiled
def _skip(text, at, end):
    """The first place from here on that is no white space."""
    while at < end and (_byte(text, at) == ord(" ") or 9 <= _byte(text, at) <= 10 or _byte(text, at) == 13):
        at += 1
    return at


@compiled
def _byte(text, at):
    """A byte by its place, which is never negative: an unsigned index spares the check."""
    return text[np.uint64(at)]
