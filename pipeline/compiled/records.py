"""Records as they lie in a batch of Kafka's log, format 2: where each has its key and its value.

https://kafka.apache.org/documentation/#record: a length, attributes, timestamp and offset as differences from the batch's, key,
value, headers. Lengths and differences are zigzag varints; a length of -1 says that there is none.
"""

from __future__ import annotations

from pipeline.compiled import compiled
from pipeline.compiled.bytes import byte

#: Columns of a row: the record's place in its partition, milliseconds since the epoch, and where key and value lie; a missing one
#: lies from `ABSENT` to `ABSENT`.
OFFSET, TIMESTAMP, KEY, KEY_END, VALUE, VALUE_END, WIDTH = range(7)
ABSENT = -1


@compiled
def locate(values, base_offset, base_timestamp, rows):
    """Fill all rows; whether the records are sound and there are so many of them."""
    text, at, end = values.ctypes.data, 0, len(values)
    for record in range(len(rows)):
        length, at = _varint(text, at, end)
        stop = at + length
        if length < 1 or stop > end:
            return False
        timestamp, at = _varint(text, at + 1, stop)  # behind the attributes, which mean nothing yet
        offset, at = _varint(text, at, stop)
        rows[record, OFFSET], rows[record, TIMESTAMP] = base_offset + offset, base_timestamp + timestamp
        rows[record, KEY], rows[record, KEY_END], at = _bytes(text, at, stop)
        rows[record, VALUE], rows[record, VALUE_END], at = _bytes(text, at, stop)
        if at > stop:
            return False
        at = stop  # behind the headers
    return at == end


@compiled
def _bytes(text, at, end):
    """From and to of the bytes at this place, and the place behind them."""
    length, at = _varint(text, at, end)
    return (at, at + length, at + length) if length >= 0 else (ABSENT, ABSENT, at)


@compiled
def _varint(text, at, end):
    """The number at this place, and the place behind it; behind the end if it does not end before."""
    value, shift = 0, 0
    while at < end and shift < 64:
        one = byte(text, at)
        value |= (one & 127) << shift
        at += 1
        if one < 128:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
    return 0, end + 1
