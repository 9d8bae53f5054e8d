"""Routing: every event ends in a batch or as a refusal, whatever the bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from agents.parsers import DOCUMENT_BYTES_MAX, package_parser
from agents.registry import Registry
from agents.route import DocumentInlet
from agents.settings import Settings
from driver import LIMITS, Core
from pipeline.batches import ROWS_MAX
from pipeline.records import Record, Records
from pipeline.routing import Router
from schemas.catalog import load_catalog
from schemas.topics import MESSAGE_BYTES_MAX
from schemas.wire import Retained, WorkspaceBinding
from world import binding, event, package

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GOOD = event("A", "logs", 1, "1", NOW)
RAW = json.dumps(GOOD, separators=(",", ":")).encode()


def outcome(value: bytes, key: bytes | None = b"A") -> dict[str, int]:
    """How the events of one record end."""
    core = Core(NOW)
    core.bind([binding("A", "acct", "America/New_York")])
    core.send([(0, 0, key, value)])
    core.fold()
    core.checkpoint()
    return dict(core.view.outcomes)


DEEP = 5000
POISON = {
    "deep array": b"[" * 200_000,
    "deep closed array": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 50_000,
    "deep attribute": RAW.replace(b'"quantity":1', b'"quantity":1,"x":' + b"[" * DEEP + b"]" * DEEP),
    "deep enough for one decoder": RAW.replace(b'"quantity":1', b'"quantity":1,"x":' + b"[" * 1000 + b"]" * 1000),
    "deep element": b"[" + RAW + b"," + b"[" * DEEP + b"]" * DEEP + b"]",
    "before the first day": RAW.replace(b"2026-11-24T12:00:00+00:00", b"0001-01-01T00:00:00+14:00"),
    "after the last day": RAW.replace(b"2026-11-24T12:00:00+00:00", b"9999-12-31T23:59:59-12:00"),
    "lone surrogate": RAW.replace(b'"id":"1"', b'"id":"\\ud800"'),
    "no UTF-8": RAW.replace(b'"id":"1"', b'"id":"\xff"'),
    "very long number": RAW.replace(b'"quantity":1', b'"quantity":' + b"9" * 5000),
    "leap second": RAW.replace(b"12:00:00", b"11:59:60"),
    "empty": b"",
    "null": b"null",
    "byte order mark": b"\xef\xbb\xbf" + RAW,
    "two documents": RAW + RAW,
}


@pytest.mark.parametrize("name", POISON)
def test_a_poison_pill_is_a_dead_letter(name: str) -> None:
    """Input that breaks a decoder or the calendar must not stop the worker, or it would stop it again for ever."""
    found = outcome(POISON[name])
    assert "counted" not in found
    assert sum(found.values()) == 1


@given(st.binary(max_size=200))
def test_any_bytes(value: bytes) -> None:
    """No bytes raise."""
    outcome(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), st.lists, max_leaves=4
)


@given(st.sampled_from([*GOOD, "data.quantity", "data.retention_days"]), json_values)
def test_any_attribute(name: str, value: Any) -> None:
    """No attribute of any type raises; the event is counted or refused, exactly once."""
    one = json.loads(RAW)
    target = one["data"] if name.startswith("data.") else one
    target[name.rpartition(".")[2]] = value
    assert sum(outcome(json.dumps(one).encode()).values()) == 1


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"specversion": "0.3", "type": "usage.tea"}, "not_a_cloudevent"),
        ({"time": 5, "type": "usage.tea"}, "invalid_field"),
        ({"type": "usage.tea", "data": {"quantity": -1}}, "unknown_meter"),
        ({"type": "logs"}, "unknown_meter"),
        ({"data": {"quantity": -1}, "subject": "B"}, "negative_quantity"),
        ({"data": {"quantity": 10**15 + 1}, "subject": "B"}, "quantity_too_large"),
        ({"data": {"quantity": 10**15}}, "counted"),
        ({"subject": "B"}, "wrong_key"),
        ({"data": {"quantity": 1, "retention_days": 0}, "time": "0001-01-01T00:00:00Z"}, "unknown_retention"),
        ({"time": (NOW + timedelta(minutes=10)).isoformat()}, "counted"),
        ({"time": (NOW + timedelta(minutes=10, microseconds=1)).isoformat()}, "from_the_future"),
        ({"time": "2026-10-20T04:00:00Z"}, "counted"),  # the first instant of the oldest day in New York
        ({"time": "2026-10-20T03:59:59.999999Z"}, "too_late"),
    ],
)
def test_precedence_and_edges(more: dict[str, Any], code: str) -> None:
    """The first wrong thing names the code; limits are inclusive."""
    assert outcome(json.dumps(GOOD | more).encode()) == {code: 1}


def test_an_array_is_as_good_as_its_events() -> None:
    """One bad event is one dead letter, the others count; an empty array is no event."""
    assert outcome(json.dumps([GOOD, {"bad": 1}, GOOD | {"id": "2"}, GOOD]).encode()) == {
        "counted": 2, "duplicate": 1, "not_a_cloudevent": 1,
    }  # fmt: skip
    assert outcome(b"[]") == {}
    assert outcome(json.dumps([GOOD] * 10_001).encode()) == {"record_too_large": 1}
    assert outcome(b" " * (4 << 20) + RAW) == {"record_too_large": 1}


def test_neighbours_change_nothing() -> None:
    """Whatever stands beside a record in a chunk, it ends as it does alone: halves of events never become one."""
    half = len(RAW) // 2
    odd = [
        *POISON.values(),
        RAW[:half],
        RAW[half:],
        RAW + b"\n" + RAW,
        b"\n",
        b"[" + RAW,
        RAW + b"]",
        b"[" + RAW + b"]",
        b"[]",
        b",",
    ]
    good = [json.dumps(GOOD | {"id": f"n{n}"}).encode() for n in range(2_100)]
    values = [value for pair in zip(odd, good, strict=False) for value in pair] + good[len(odd) :]
    records = [Record(offset, b"A", value) for offset, value in enumerate(values)]
    core = Core(NOW)
    core.bind([binding("A", "acct", "America/New_York")])
    whole = [core.router.route(Records.of(records), core.now)]
    alone = [core.router.route(Records.of([record]), core.now) for record in records]
    refused = [
        sorted((r for one in routed for r in one.refusals), key=lambda r: (r.offset, r.index or 0))
        for routed in (whole, alone)
    ]
    assert refused[0] == refused[1]
    rows = [{(r.offsets[i], r.indexes[i], r.ids.array(i, i + 1), r.quantities[i], r.micros[i]) for one in routed for r in one.rows
             for i in range(len(r.ids))} for routed in (whole, alone)]  # fmt: skip
    assert rows[0] == rows[1]
    assert len(rows[0]) == len(good) + 1


def test_an_array_of_a_million_is_one_dead_letter() -> None:
    """Refused as a whole; the records beside it count."""
    million = b"[" + b",".join([b"{}"] * 1_000_000) + b"]"
    assert len(million) < 4 << 20
    assert outcome(million) == {"record_too_large": 1}
    assert outcome(b" " * (50 << 20)) == {"record_too_large": 1}


def test_a_record_without_a_key() -> None:
    """A key is only a hint of the partition: an event without one counts; of an unbound workspace it does not."""
    assert outcome(RAW, None) == {"counted": 1}
    assert outcome(json.dumps(GOOD | {"subject": "B"}).encode(), None) == {"unknown_workspace": 1}


def test_the_registry_binds_only_what_the_inlet_takes() -> None:
    """A document that is a dead letter leaves the binding of before, so the next event finds a day; a good one holds."""
    core = Core(NOW)
    core.bind([binding("A", "acct")])
    registry = Registry(Settings(), core.router)
    for bad in ({"time_zone": "Mars/Phobos"}, {"retention_days": {"logs": 5}}, {"account": ""}, {"time_zone": "Asia"}):
        registry.change(Record(0, b"A", json.dumps(binding("A", "other") | bad).encode()))
        core.send([(0, 0, b"A", RAW)])
        assert core.router.bindings["A"].account == "acct"
    registry.change(Record(0, b"A", json.dumps(binding("A", "other")).encode()))
    assert core.router.bindings["A"].account == "other"


def test_a_batch_fits_into_a_record() -> None:
    """Many events of one account, each in a series of its own, with the longest names that JSON makes longer still."""
    core, days, meters = Core(NOW), 30, ("logs", "traces")
    long = [f"{number:06}" + "\x01" * 250 for number in range(ROWS_MAX + 1)]
    names = long[: 1 + ROWS_MAX // (days * len(meters))]
    core.bind(binding(name, "acct") for name in names)
    values = [
        json.dumps(event(name, meter, 1, one, NOW - timedelta(days=day)) | {"source": "\x01" * 256}).encode()
        for one, (name, meter, day) in zip(long, product(names, meters, range(days)), strict=False)
    ]
    assert len(values) == ROWS_MAX + 1
    core.send([(0, offset, None, value) for offset, value in enumerate(values)])
    assert len(core.log) == len(names) + 2
    assert MESSAGE_BYTES_MAX / 2 < max(map(len, core.log)) < MESSAGE_BYTES_MAX
    core.fold()
    core.checkpoint()
    assert core.view.outcomes == {"counted": ROWS_MAX + 1}
    assert max(map(len, core.entries.values())) < MESSAGE_BYTES_MAX


async def test_whatever_fits_into_a_record_fits_as_a_dead_letter() -> None:
    """Also a key that JSON makes six times as long, a document that base64 makes too long, and a message that quotes it: or its partition would stop for ever."""
    inlet = DocumentInlet(Settings(), "packages", 0, package_parser(load_catalog()))
    key = b"\x01" * 2_500_000
    named = json.dumps(package("p", "acct", ["A"], {"\x01" * (DOCUMENT_BYTES_MAX // 7): 5}, NOW)).encode()
    values = [b"{", b"{" * 12_600_000, b"{" * DOCUMENT_BYTES_MAX, named]
    await inlet.take(Records.of([Record(n, None if n > 1 else key, value) for n, value in enumerate(values)]))
    commit = await inlet.collect()
    assert commit is not None
    letters = [json.loads(value or b"") for _, _, _, value in commit.sends]
    assert [letter["reason"] for letter in letters] == ["not_json", "record_too_large", "not_json", "invalid_field"]
    assert [bool(letter["value"]) for letter in letters] == [True, False, True, True]
    assert max(len(k) + len(value or b"") for _, _, k, value in commit.sends) < MESSAGE_BYTES_MAX


def test_only_what_says_the_series_of_an_event_makes_routing_look_again() -> None:
    """A binding of a workspace that was unknown, or another name or plan, changes no series: all others would be looked up anew."""
    router = Router(load_catalog(), LIMITS)
    first = WorkspaceBinding("A", "acct")
    router.bind(first)
    table = router._table
    router.bind(WorkspaceBinding("B", "acct"))
    router.bind(structs.replace(first, name="Shop", plan="free", currency="USD", site="us"))
    assert router._table is table
    until = datetime(2026, 11, 24, tzinfo=UTC)
    for change in (
        {"account": "other"}, {"time_zone": "Asia/Tokyo"}, {"retention_days": {"logs": 30}},
        {"retention_before": {"logs": (Retained(until, 7),)}},
    ):  # fmt: skip
        router.bind(structs.replace(first, **change))
        assert router._table is not table, change
        router.bind(first)
        table = router._table
    router.unbind("A")
    assert router._table is not table
