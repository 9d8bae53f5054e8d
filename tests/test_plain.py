"""Plain events: what the compiled loops find is what the typed decoder, `hashlib` and dictionaries say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver import Core
from pipeline.admission import decode_event, decode_events
from pipeline.batches import batches
from pipeline.candidates import Plain
from pipeline.compiled import events as plain
from pipeline.compiled.instants import NOT_PLAIN
from pipeline.compiled.strings import closing_quote
from pipeline.days import to_micros
from pipeline.identities import account_prefix, identities_in, identities_of
from pipeline.namings import Namings
from pipeline.records import Record, Records
from pipeline.texts import Listing, Texts, in_order
from schemas.wire import UsageEvent
from world import binding, event

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GOOD = event("A", "logs", 1, "1", NOW)
RAW = json.dumps(GOOD, separators=(",", ":"))
BYTES, EVENTS = 4 << 20, 10_000


def found(joined: bytes, row: Any) -> tuple[Any, ...]:
    """What a row says of an event."""
    texts = [json.loads(joined[row[at] : row[at + 1]]) for at in (plain.ID, plain.SOURCE, plain.SUBJECT, plain.TYPE)]
    retention = None if row[plain.RETENTION] == plain.NONE else int(row[plain.RETENTION])
    return *texts, retention, int(row[plain.QUANTITY]), int(row[plain.MICROS])


def wanted(one: UsageEvent) -> tuple[Any, ...]:
    """What the decoder says of it."""
    data = one.data
    return one.id, one.source, one.subject, one.type, data.retention_days, data.quantity, to_micros(one.time)


def scan(values: list[bytes], most_bytes: int = BYTES, most_events: int = EVENTS) -> tuple[bytes, Any, Any]:
    """The text of some records, a row for each event of the plain ones, and which those are."""
    records = Records.of(Record(offset, None, value) for offset, value in enumerate(values))
    plain = Plain(records, most_bytes, most_events)
    return records.text, plain.events, plain.found


def agree(value: bytes) -> bool:
    """Whether the value is plain; if it is, the decoder must find the same."""
    joined, rows, good = scan([value])
    if good[0]:
        array = value.lstrip().startswith(b"[")
        events = decode_events(value) if array else [e for e in [decode_event(value)] if e]
        assert events is not None
        assert len(rows) == len(events)
        assert [found(joined, row) for row in rows] == [wanted(one) for one in events]
        assert rows[:, plain.INDEX].tolist() == (list(range(len(rows))) if array else [plain.NONE])
        for row, one in zip(rows, events, strict=True):
            assert decode_event(joined[row[plain.START] : row[plain.END]]) == one
    else:
        assert len(rows) == 0
    return bool(good[0])


@pytest.mark.parametrize(
    "value",
    [
        RAW,
        json.dumps(GOOD),
        json.dumps(GOOD, indent=2),
        json.dumps(GOOD | {"time": "2026-11-24T12:00:00Z"}),
        json.dumps(GOOD | {"time": "2024-02-29T23:59:59.999999-11:30"}),
        json.dumps(GOOD | {"time": "1970-01-01T00:00:00.1Z", "datacontenttype": "application/json", "dataschema": ""}),
        json.dumps(GOOD | {"time": "2026-11-24T23:59:59.123456789Z"}),
        json.dumps(GOOD | {"time": "2026-11-24T23:59:59.9999995Z"}),
        json.dumps(GOOD | {"data": {"quantity": 10**15, "retention_days": 30, "unit": "events"}}),
        json.dumps(GOOD | {"data": {"retention_days": None, "quantity": 0}}),
        json.dumps(dict(reversed(GOOD.items()))),
        json.dumps(GOOD | {"id": "x" * 256, "source": "y" * 256, "type": ""}),
        json.dumps([GOOD, GOOD | {"id": "2"}]),
        f" [ {RAW} , {RAW} ] ",
        f"[{RAW}]",
    ],
)
def test_what_producers_write_is_plain(value: str) -> None:
    """The formats of common encoders go the fast way."""
    assert agree(value.encode())


@pytest.mark.parametrize(
    "value",
    [
        "", "[]", "[", "]", "{}", RAW[:-1], RAW + "x", RAW + RAW, f"[{RAW}", f"[{RAW},]", f"[{RAW}{RAW}]", f"[{RAW}]]", f"[,{RAW}]",
        RAW.replace('"id":"1"', '"id":""'),
        RAW.replace('"id":"1"', '"id":"\\u0031"'),
        RAW.replace('"id":"1"', '"id":"ä"'),
        RAW.replace('"id":"1"', '"id":"a\tb"'),
        RAW.replace('"id":"1"', '"id":"1","id":"2"'),
        RAW.replace('"id":"1"', '"id":1'),
        RAW.replace('"id":"1"', '"id":"1","more":{}'),
        RAW.replace('"id":"1"', f'"id":"{"x" * 257}"'),
        RAW.replace('"1.0"', '"1.1"'),
        RAW.replace(":1}", ":-1}"), RAW.replace(":1}", ":01}"), RAW.replace(":1}", ":1.0}"), RAW.replace(":1}", ":1e2}"),
        RAW.replace(":1}", ":123456789012345678}"), RAW.replace(":1}", ":}"), RAW.replace(":1}", ":1,}"),
        RAW.replace(":1}", ":1,\"quantity\":2}"), RAW.replace(":1}", ":true}"), RAW.replace('"quantity":1', ""),
        *(RAW.replace("2026-11-24T12:00:00+00:00", time) for time in (
            "", "2026-11-24", "2026-11-24T12:00:00", "2026-11-24T12:00:00.Z", "2026-11-24T12:00:00.1234567",
            "2026-02-29T12:00:00Z", "2100-02-29T12:00:00Z", "2026-11-31T12:00:00Z", "2026-13-01T12:00:00Z",
            "2026-11-24T24:00:00Z", "2026-11-24T12:60:00Z", "2026-11-24T12:00:60Z", "2026-11-24T12:00:00+24:00",
            "2026-11-24T12:00:00+00:60", "2026-11-24T12:00:00+0000", "2026-11-24t12:00:00z", "1969-12-31T23:59:59Z",
            "2026-11-24T12:00:00ZZ", "1970-01-01T00:00:00+01:00", "2026-1a-24T12:00:00Z",
        )),
    ],
)  # fmt: skip
def test_all_else_is_left_to_the_decoder(value: str) -> None:
    """Valid or not: what is not plain is no row."""
    assert not agree(value.encode())


@pytest.mark.parametrize("size", [1, 7, 8, 9, 16, 30])
def test_a_string_ends_at_its_quote_and_has_only_plain_bytes(size: int) -> None:
    for place in range(size):
        for one in range(256):
            text = bytearray(b"~ " * size)[:size]
            text[place] = one
            clean = 32 <= one < 127 and one != ord("\\")
            array = np.frombuffer(bytes(text) + b'"', np.uint8)
            at = closing_quote(array.ctypes.data, 0, len(array))
            assert at == (NOT_PLAIN if not clean else place if one == ord('"') else size), (place, one)


def test_too_much_is_not_plain() -> None:
    """Limits hold for the fast way too; they are inclusive."""
    raw = RAW.encode()
    assert scan([raw], len(raw), 1)[2].all()
    assert not scan([raw], len(raw) - 1, 1)[2].any()
    two = b"[" + raw + b"," + raw + b"]"
    assert scan([two], most_events=2)[2].all()
    assert not scan([two], most_events=1)[2].any()


@given(st.lists(st.tuples(st.integers(0, len(RAW) - 1), st.binary(max_size=3), st.integers(0, 4)), max_size=4))
def test_any_change_of_bytes(edits: list[tuple[int, bytes, int]]) -> None:
    """However an event is damaged, what still is plain is what the decoder reads."""
    value = bytearray(RAW.encode())
    for at, new, gone in edits:
        value[at : at + gone] = new
    agree(bytes(value))
    agree(b"[" + RAW.encode() + b"," + bytes(value) + b"]")


@given(st.text("0123456789", min_size=1, max_size=15), st.sampled_from(("Z", "+05:30", "-11:00")))
def test_any_decimals(decimals: str, offset: str) -> None:
    """Nanoseconds are plain, and rounded to microseconds as the decoder rounds."""
    assert agree(json.dumps(GOOD | {"time": f"2026-11-24T23:59:59.{decimals}{offset}"}).encode())


instants = st.datetimes(datetime(1960, 1, 1), datetime(2210, 1, 1), timezones=st.timezones()).map(datetime.isoformat)  # noqa: DTZ001
names = st.text(st.characters(min_codepoint=32, max_codepoint=200), max_size=40)


@given(names, names, names, instants, st.integers(-1, 10**18), st.none() | st.integers(-1, 10**9), st.booleans())
def test_any_event(
    id_: str, source: str, type_: str, time: str, quantity: int, retention: int | None, ascii_: bool
) -> None:
    """Any texts, instants and numbers."""
    data = {"quantity": quantity, "retention_days": retention}
    one = GOOD | {"id": id_, "source": source, "type": type_, "time": time, "data": data}
    agree(json.dumps(one, ensure_ascii=ascii_).encode())


@given(st.lists(st.tuples(st.text(max_size=80), st.integers(1, 256), st.integers(1, 256)), min_size=1, max_size=8))
def test_identities(some: list[tuple[str, int, int]]) -> None:
    """BLAKE2b of `hashlib`, over the borders of its blocks, in any account."""
    accounts, sources, ids = zip(*((a, "s" * s, "i" * i) for a, s, i in some), strict=True)
    prefixes = Texts()
    for account in accounts:
        prefixes.add(account_prefix(account))
    listings = [Listing(text, places) for text, places in map(quoted, (sources, ids))]
    text = np.concatenate([one.text for one in listings])
    places = [np.stack([one.bounds[:-1], one.bounds[1:] - 1], axis=1) for one in listings]
    there = identities_in(text, places[0], places[1] + len(listings[0].text), prefixes, np.arange(len(some)))
    assert there.tobytes() == identities_of(accounts, sources, ids).tobytes()


def quoted(texts: Any) -> tuple[Any, Any]:
    """JSON strings in one text, and their places."""
    strings = [json.dumps(text).encode() for text in texts]
    ends = np.cumsum([len(one) for one in strings])
    return np.frombuffer(b"".join(strings), np.uint8), np.stack([ends - [len(one) for one in strings], ends], axis=1)


def test_namings_lead_to_the_newest_number() -> None:
    """Through growth of every part; another key, type or retention is another naming."""
    namings, subjects = Namings(), [f"w{n * n}" for n in range(1000)]
    for number, subject in enumerate(subjects):
        namings.learn((None, subject, "usage.logs", None), -5)
        namings.learn((subject.encode(), subject, "usage.logs", None), number)
        namings.learn((None, subject, "usage.logs", 30), number + 5000)
    values = [
        json.dumps(GOOD | {"subject": s, "data": {"quantity": 1} | more}).encode()
        for s in [*subjects, "w", "w1x"]
        for more in ({}, {"retention_days": 30}, {"retention_days": 31})
    ]
    expected = [n for number in range(1000) for n in (number, number + 5000, -1)] + [-1] * 6
    for key, numbers in ((None, expected), (b"v", [-1] * len(values))):
        records = Records.of(Record(offset, key, value) for offset, value in enumerate(values))
        plain = Plain(records, BYTES, EVENTS)
        assert plain.found.all()
        assert namings.numbers(records, plain.events).tolist() == numbers


def test_listings_in_order() -> None:
    """Strings of several texts, as JSON."""
    one, two = (Listing(*quoted(texts)) for texts in (["a", "", "b" * 300], ["ü", '"']))
    both = in_order([one, two], np.array([4, 0, 3, 2, 1]))
    assert json.loads(both.array(0, 5)) == ['"', "a", "ü", "b" * 300, ""]
    assert json.loads(both.array(2, 3)) == ["ü"]


def test_rows_arrive_in_order_however_they_were_read() -> None:
    """Plain and other events of one chunk: the fold takes what comes again at an earlier place for a replay."""
    values = [
        json.dumps([GOOD | {"id": f"{n}.{i}" if n % 3 else f"ä{n}.{i}"} for i in range(2)], ensure_ascii=False).encode()
        for n in range(50)
    ]
    core = Core(NOW)
    core.bind([binding("A", "acct", "America/New_York")])
    routed = core.router.route(Records.of(Record(offset, b"A", value) for offset, value in enumerate(values)), core.now)
    (batch,) = batches(0, routed.rows)
    assert json.loads(bytes(batch.ids)) == [f"{n}.{i}" if n % 3 else f"ä{n}.{i}" for n in range(50) for i in range(2)]
