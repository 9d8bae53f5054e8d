"""Batches of the log: what is read where it lies is what aiokafka's own records say."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from agents.records import Batch, Batches, LeanRecords
from pipeline.records import Record, Records

BYTES = st.none() | st.binary(max_size=300)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2)
ROWS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**41), BYTES, BYTES, HEADERS), min_size=1, max_size=30)
CODECS = st.integers(0, 4)
SOME = [(0, 1, b"k", b"v" * 200, []), (0, 2, None, None, []), (3, 1, b"", b"", [("h", b"x")])]


def batch(rows: list[Any], codec: int = 0, first: int = 0) -> bytearray:
    """A batch of records (gap before it, timestamp, key, value, headers) as a producer makes it and a broker places it."""
    builder, offset = DefaultRecordBatchBuilder(2, codec, 1, 7, 0, 0, 1 << 20), -1
    for gap, timestamp, key, value, headers in rows:
        offset += gap + 1
        assert builder.append(offset, timestamp, key, value, headers) is not None
    made = builder.build()
    struct.pack_into(">q", made, 0, first)  # not covered by the checksum
    return made


def read(batches: Batches) -> list[Record]:
    """All records."""
    found = list[Record]()
    while batches.has_next():
        one = batches.next_batch()
        assert one.validate_crc()
        found += [record for run in one for record in run.records]
    return found


def as_aiokafka_reads(fetched: bytes) -> list[Record]:
    """The same by the client itself."""
    batches, found = MemoryRecords(fetched), list[Record]()
    while batches.has_next():
        found += [Record(r.offset, r.key, r.value, r.timestamp) for r in batches.next_batch()]  # type: ignore[union-attr]
    return found


@given(st.lists(st.tuples(ROWS, CODECS), min_size=1, max_size=3), st.integers(0, 2**40))
def test_any_batches(some: list[tuple[list[Any], int]], first: int) -> None:
    """Of every compression, with gaps, missing keys and values, headers; and a fetch that ends within the next batch."""
    fetched = b"".join(batch(rows, codec, first + 1000 * n) for n, (rows, codec) in enumerate(some))
    expected = as_aiokafka_reads(fetched)
    assert [record.value for record in expected] == [value for rows, _ in some for _, _, _, value, _ in rows]
    assert read(Batches(fetched)) == expected
    assert read(Batches(fetched + batch(some[0][0])[:-1])) == expected
    whole = Batches(fetched).next_batch()
    original = MemoryRecords(fetched).next_batch()
    for name in ("base_offset", "next_offset", "producer_id", "is_transactional", "is_control_batch"):
        assert getattr(whole, name) == getattr(original, name), name


@pytest.mark.parametrize("codec", range(5))
def test_no_changed_byte_goes_unnoticed(codec: int) -> None:
    made = batch(SOME, codec)
    for place in range(17, len(made)):
        changed = bytearray(made)
        changed[place] ^= 1
        assert not Batch(memoryview(changed)).validate_crc(), place


def test_a_batch_that_is_not_what_its_header_says_is_refused() -> None:
    """Also with a sound checksum: too few and too many records, and lengths that lead out of it."""
    for count in (-1, 1, 2, 4, 100, 2**31 - 1):
        made = batch(SOME)
        struct.pack_into(">i", made, 57, count)
        with pytest.raises(CorruptRecordException):
            Batch(memoryview(made)).records()
    made, sound = batch(SOME), 0
    for place in range(61, len(made)):
        for value in (0, 1, 127, 128, 255):
            changed = bytearray(made)
            changed[place] = value
            try:
                records = [*Batch(memoryview(changed)).records()]
            except CorruptRecordException:
                continue
            sound += 1
            assert all(len((r.key or b"") + (r.value or b"")) < len(made) for r in records)
    assert sound  # a changed value is a value
    made[16] = 1
    with pytest.raises(CorruptRecordException):
        Batch(memoryview(made))
    for length in (-12, -1, 0, 10, 48):
        struct.pack_into(">i", made, 8, length)
        with pytest.raises(CorruptRecordException):
            Batches(made).next_batch()


@pytest.mark.parametrize("codec", range(5, 8))
def test_an_unknown_compression_is_named(codec: int) -> None:
    made = batch(SOME)
    made[22] |= codec
    with pytest.raises(UnsupportedCodecError):
        Batch(memoryview(made)).records()


def emptied(made: bytearray) -> bytearray:
    """What the log cleaner leaves of a batch, all of whose records it removed: the header, for its sequence and offsets."""
    header = made[:61]
    struct.pack_into(">i", header, 8, 49)
    struct.pack_into(">i", header, 57, 0)
    return header


@pytest.mark.parametrize("control", [0, 0x20])
def test_a_batch_that_the_log_cleaner_emptied_is_passed(control: int) -> None:
    """A marker of a transaction too, as Kafka's own consumer does since KAFKA-7467: or its partition would stop for ever."""
    between = emptied(batch(SOME[:1], first=1))
    between[22] |= 0x10 | control
    batches = Batches(batch(SOME[:1]) + between + batch(SOME[:1], first=2))
    records = LeanRecords(None, batches, [], 0, None, None, False, READ_COMMITTED)
    assert [record.offset for _ in range(2) for record in records.take(None)] == [0, 2]
    assert not records.take(None)


def test_the_broker_s_time_counts_where_the_topic_says_so() -> None:
    made = batch(SOME)
    made[22] |= 8
    struct.pack_into(">q", made, 35, 99)
    assert [record.timestamp for record in Batch(memoryview(made)).records()] == [99] * 3


@given(st.lists(st.tuples(BYTES, BYTES, st.integers(0, 99)), max_size=20), st.integers(0, 40), st.integers(0, 20))
def test_records_are_a_sequence(some: list[tuple[Any, Any, int]], at: int, cut: int) -> None:
    """Made of objects, cut, joined, and read from an offset on."""
    objects = [Record(2 * offset, *more) for offset, more in enumerate(some)]
    records = Records.of(objects)
    assert [*records] == objects
    assert [records[place] for place in range(len(records))] == objects
    assert [*records.since(at)] == [record for record in objects if record.offset >= at]
    assert [*Records.joined([records[:cut], records[cut:]])] == objects
    twice = Records.joined([Records.of(objects[:cut]), Records.of(objects[cut:]), Records.of(())])
    assert [*twice] == objects
    assert twice.value_bytes == sum(len(value or b"") for _, value, _ in some)
    if objects:
        assert records.next_offset == objects[-1].offset + 1
