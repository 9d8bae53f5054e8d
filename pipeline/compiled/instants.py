"""Instants in RFC 3339, of the form that a plain event has."""

from __future__ import annotations

from pipeline.compiled import compiled
from pipeline.compiled.bytes import byte

#: What is found instead of an instant, or a place, when the text is not plain.
NOT_PLAIN = -1
_ZERO, _NINE = ord("0"), ord("9")
_DAYS_BEFORE_1970 = 719_468


@compiled
def instant(text, at, stop):
    """Microseconds since the epoch of `YYYY-MM-DDThh:mm:ss`, with decimals or without, and `Z` or `+hh:mm`; or `NOT_PLAIN`.

    The seventh decimal rounds, as it does for msgspec.
    """
    if stop - at < 20 or not _has_shape(text, at):
        return NOT_PLAIN
    year, month, day = _digits(text, at, 4), _digits(text, at + 5, 2), _digits(text, at + 8, 2)
    hour, minute, second = _digits(text, at + 11, 2), _digits(text, at + 14, 2), _digits(text, at + 17, 2)
    if not (1970 <= year <= 2199 and 1 <= month <= 12 and 1 <= day <= _days_in(year, month)):
        return NOT_PLAIN
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return NOT_PLAIN
    micros, at = _decimals(text, at + 19, stop)
    offset = _offset(text, at, stop)
    if micros < 0 or offset == 1440:
        return NOT_PLAIN
    seconds = ((_days_since_epoch(year, month, day) * 24 + hour) * 60 + minute - offset) * 60 + second
    return seconds * 1_000_000 + micros


@compiled
def _has_shape(text, at):
    """Whether the marks between the digits of an instant are in their places."""
    return (
        byte(text, at + 4) == ord("-")
        and byte(text, at + 7) == ord("-")
        and byte(text, at + 10) == ord("T")
        and byte(text, at + 13) == ord(":")
        and byte(text, at + 16) == ord(":")
    )


@compiled
def _decimals(text, at, stop):
    """The microseconds of the decimals at this place, if there are any (-1: they are not plain), and the place behind them."""
    if byte(text, at) != ord("."):
        return 0, at
    at, start, micros = at + 1, at + 1, 0
    while at < stop and _ZERO <= byte(text, at) <= _NINE:
        digit = byte(text, at) - _ZERO
        if at - start < 6:
            micros = micros * 10 + digit
        elif at - start == 6 and digit >= 5:
            micros += 1
        at += 1
    if at == start:
        return -1, at
    for _ in range(6 - (at - start)):
        micros *= 10
    return micros, at


@compiled
def _offset(text, at, stop):
    """Minutes east of UTC of `Z` or `+hh:mm`, which ends the text; 1440 if it does not."""
    if stop - at == 1 and byte(text, at) == ord("Z"):
        return 0
    if stop - at != 6 or byte(text, at + 3) != ord(":") or (byte(text, at) != ord("+") and byte(text, at) != ord("-")):
        return 1440
    hours, minutes = _digits(text, at + 1, 2), _digits(text, at + 4, 2)
    if not (0 <= hours <= 23 and 0 <= minutes <= 59):
        return 1440
    east = hours * 60 + minutes
    return east if byte(text, at) == ord("+") else -east


@compiled
def _digits(text, at, size):
    """The number of so many digits, or one below 0."""
    value = 0
    for place in range(at, at + size):
        if not _ZERO <= byte(text, place) <= _NINE:
            return -1
        value = value * 10 + byte(text, place) - _ZERO
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
