"""The whole way of an event on a real Kafka and the real ClickHouse engine, with real kills."""

from __future__ import annotations

import base64
import json
import random
import signal
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from conftest import Meter
from driver import CATALOG, essence
from oracle import Answer, answer, charge
from schemas.log import Correction, encode_account_event
from world import World, binding, event, make_world, package


def today_noon() -> datetime:
    """A time that is never in the future and whose day does not end during the test."""
    now = datetime.now(UTC)
    return now - timedelta(minutes=1) if now.hour or now.minute > 2 else now


def as_values(world: World) -> list[tuple[bytes | None, bytes]]:
    return [(key, value) for _, _, key, value in world.records]


def ledger_of(meter: Meter) -> Answer:
    """What ClickHouse says."""
    found = Answer()
    for *key, quantity in meter.rows(
        "SELECT account, day, workspace, meter, retention_days, quantity FROM usage_totals"
    ):
        found.totals[tuple(key)] = quantity  # type: ignore[index]
    for *key, covered in meter.rows(
        "SELECT account, day, meter, package, workspace, covered FROM allocations WHERE covered"
    ):
        found.covered[tuple(key)] = covered  # type: ignore[index]
    columns = "account, day, workspace, meter, basis, retention_days, quantity"
    for *key, quantity in meter.rows(f"SELECT {columns} FROM overage WHERE quantity"):
        found.overage[tuple(key)] = quantity  # type: ignore[index]
    counted, duplicates = meter.rows("SELECT sum(counted), sum(duplicates) FROM usage_outcomes")[0]
    found.outcomes.update({"counted": counted, "duplicate": duplicates})
    found.outcomes.update(dict(meter.rows("SELECT reason, count() FROM dead_letters FINAL GROUP BY reason")))
    return found


def assert_equals_oracle(meter: Meter, world: World, now: datetime, seed: int) -> None:
    """Totals, allocations, overage and outcomes, to the last event; the sink fills one table after the other."""
    expected = essence(answer(world.records, world.bindings, world.packages, dict(CATALOG.meters), now))
    deadline = time.monotonic() + 90
    while (found := essence(ledger_of(meter))) != expected and time.monotonic() < deadline:
        time.sleep(0.2)
    assert expected == found, f"seed {seed}"


@pytest.mark.parametrize("order", ["AB", "BA"])
def test_the_purchase_page(meter: Meter, order: str) -> None:
    """150M shared by A and B who use 100M each, in both orders, each event twice: 100M, 50M and 50M over for 75.00."""
    now = today_noon()
    meter.start_worker()
    meter.documents(
        [binding("A", "acct"), binding("B", "acct")], [package("p", "acct", ["A", "B"], {"logs": 150_000_000}, now)]
    )
    for workspace in order:
        values = [json.dumps(event(workspace, "logs", 1_000_000, f"{workspace}{i}", now)).encode() for i in range(100)]
        meter.send("usage", [(workspace.encode(), value) for value in values for _ in range(2)])
    meter.wait(lambda: meter.ended() == 400, "400 events ended")
    covered = f"SELECT workspace, covered FROM allocations WHERE day = '{now.date()}' ORDER BY workspace"
    rated = "SELECT workspace, quantity, units, amount, currency FROM rated_overage WHERE quantity"
    # Each topic has a table, and the sink fills one after the other.
    meter.wait(lambda: meter.rows(covered) == [("A", 100_000_000), ("B", 50_000_000)], "A and B are covered")
    meter.wait(lambda: meter.rows(rated) == [("B", 50_000_000, Decimal("50.00"), Decimal("75.00"), "CNY")], "75.00")


STARTUP = {"hosts": 20, "logs": 40_000_000, "traces": 5_000_000, "page_views": 400_000, "triggers": 190_000}
USED = [
    ("hosts", 25, None),
    ("logs", 40_000_000, 30),
    ("traces", 5_000_000, 14),
    ("page_views", 400_000, 14),
    ("triggers", 210_000, None),
]


@pytest.mark.parametrize(("traffic", "total"), [(0, "132"), (30_000_000, "87")])
def test_worked_examples_4_1_and_4_2(meter: Meter, traffic: int, total: str) -> None:
    """A Startup package, retention factors, and a traffic package of 30M logs on top: 132 and 87 out of ClickHouse."""
    now = today_noon()
    meter.start_worker()
    packages = [package("plan", "acct", ["A"], STARTUP, now)]
    if traffic:
        packages.append(package("extra", "acct", ["A"], {"logs": traffic}, now, "traffic"))
    meter.documents([binding("A", "acct")], packages)
    values = [json.dumps(event("A", m, q, m, now, r)).encode() for m, q, r in USED]
    meter.send("usage", [(b"A", value) for value in values])
    meter.wait(lambda: meter.ended() == len(USED), "all events ended")
    # The package may reach the ledger after the usage: until then the usage is pay-as-you-go.
    meter.wait(
        lambda: meter.rows("SELECT sum(amount) FROM rated_overage") == [(Decimal(total),)], f"a charge of {total}"
    )


def test_rating_truncates_units_and_uses_the_price_of_the_day(meter: Meter) -> None:
    """d-10: 1,234,567 pay-as-you-go logs are 1.23 units at 1.5, 1.845; 7-day logs have the 7-day price."""
    now = today_noon()
    meter.start_worker()
    meter.documents([binding("A", "acct"), binding("B", "acct", retention_days={"logs": 7})], [])
    for workspace in "AB":
        meter.send(
            "usage", [(workspace.encode(), json.dumps(event(workspace, "logs", 1_234_567, workspace, now)).encode())]
        )
    meter.wait(lambda: meter.ended() == 2, "both events ended")
    expected = {"A": charge(1_234_567, 10**6, "1.5"), "B": charge(1_234_567, 10**6, "1.2")}
    meter.wait(lambda: dict(meter.rows("SELECT workspace, amount FROM rated_overage")) == expected, f"{expected}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_is_ended_loses_and_repeats_nothing(meter: Meter, number: signal.Signals) -> None:
    """Workers ended again and again amid the load: the ledger equals the oracle to the last event."""
    seed, now = 7, datetime.now(UTC)
    world = make_world(seed, now, events=3000)
    rng = random.Random(seed)
    meter.documents(world.bindings, world.packages)
    worker = meter.start_worker()
    values = as_values(world)
    step = len(values) // 4 + 1
    for first in range(0, len(values), step):
        done = meter.ended()
        meter.send("usage", values[first : first + step])
        meter.wait(lambda done=done: meter.ended() > done, "progress")  # type: ignore[misc]
        time.sleep(rng.random())
        worker.send_signal(number)
        assert worker.wait(90) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        worker = meter.start_worker()
    total = sum(answer(world.records, world.bindings, world.packages, dict(CATALOG.meters), now).outcomes.values())
    meter.wait(lambda: meter.ended() == total, f"{total} events ended")
    assert_equals_oracle(meter, world, now, seed)


def test_a_stopped_worker_that_wakes_up_damages_nothing(meter: Meter) -> None:
    """SIGSTOP past the session timeout, another worker takes over, SIGCONT: Kafka refuses the zombie's transactions."""
    seed, now = 11, datetime.now(UTC)
    world = make_world(seed, now, events=1500)
    meter.documents(world.bindings, world.packages)
    zombie = meter.start_worker()
    values = as_values(world)
    meter.send("usage", values[:500])
    meter.wait(lambda: meter.ended() > 0, "progress")
    meter.send("usage", values[500:900])
    zombie.send_signal(signal.SIGSTOP)
    meter.start_worker()
    meter.send("usage", values[900:])
    total = sum(answer(world.records, world.bindings, world.packages, dict(CATALOG.meters), now).outcomes.values())
    meter.wait(lambda: meter.ended() == total, "the new owner did the work")
    zombie.send_signal(signal.SIGCONT)
    late = [(b"ws-00", json.dumps(event("ws-00", "logs", 5, "after", now)).encode())]
    world.records.append((0, len(world.records), *late[0]))
    meter.send("usage", late)
    meter.wait(lambda: meter.ended() == total + 1, "the event after the zombie")
    time.sleep(2)
    assert_equals_oracle(meter, world, now, seed)


def test_clickhouse_away_for_twenty_seconds(meter: Meter) -> None:
    """The meter goes on, the sink waits, and afterwards every table is exact."""
    seed, now = 13, datetime.now(UTC)
    world = make_world(seed, now, events=800)
    meter.documents(world.bindings, world.packages)
    worker = meter.start_worker()
    values = as_values(world)
    meter.send("usage", values[:200])
    meter.wait(lambda: meter.ended() > 0, "progress")
    meter.services.kill("clickhouse")
    meter.send("usage", values[200:])
    time.sleep(20)
    assert worker.poll() is None
    meter.services.start("clickhouse")
    total = sum(answer(world.records, world.bindings, world.packages, dict(CATALOG.meters), now).outcomes.values())
    meter.wait(lambda: meter.ended() == total, "the sink caught up")
    assert_equals_oracle(meter, world, now, seed)


def test_kafka_restarts_under_load(meter: Meter) -> None:
    """The broker restarts while events flow; a worker that gave up is started again; the ledger is exact."""
    seed, now = 17, datetime.now(UTC)
    world = make_world(seed, now, events=800)
    meter.documents(world.bindings, world.packages)
    worker = meter.start_worker()
    values = as_values(world)
    meter.send("usage", values[:400])
    meter.services.stop("kafka")
    time.sleep(2)
    meter.services.start("kafka")
    meter.send("usage", values[400:])
    expected = answer(world.records, world.bindings, world.packages, dict(CATALOG.meters), now)
    total = sum(expected.outcomes.values())

    def done() -> bool:
        nonlocal worker
        if worker.poll() is not None:
            worker = meter.start_worker()
        return meter.ended() == total and essence(ledger_of(meter)) == essence(expected)

    meter.wait(done, "all events ended", 120)
    assert_equals_oracle(meter, world, now, seed)


def test_one_dead_letter_of_every_code(meter: Meter) -> None:
    """The worker goes on; each dead letter says which and why; events in = counted + duplicates + dead letters."""
    now = datetime.now(UTC)
    meter.start_worker(DRAWDOWN_RECORD_BYTES_MAX="100000", DRAWDOWN_RECORD_EVENTS_MAX="50")
    meter.documents([binding("A", "acct")], [])
    good = event("A", "logs", 1, "good", now)

    def spoiled(**more: Any) -> bytes:
        return json.dumps(good | more).encode()

    cases = {
        "not_json": b"{",
        "not_a_cloudevent": spoiled(specversion="0.3"),
        "invalid_field": spoiled(id="x1", data={"quantity": "7"}),
        "unknown_meter": spoiled(id="x2", type="usage.tea"),
        "unknown_workspace": spoiled(id="x3", subject="nobody"),
        "unknown_retention": spoiled(id="x4", data={"quantity": 1, "retention_days": 5}),
        "negative_quantity": spoiled(id="x5", data={"quantity": -1}),
        "quantity_too_large": spoiled(id="x6", data={"quantity": 10**15 + 1}),
        "wrong_key": spoiled(id="x7"),
        "from_the_future": spoiled(id="x8", time=(now + timedelta(hours=1)).isoformat()),
        "too_late": spoiled(id="x9", time=(now - timedelta(days=37)).isoformat()),
        "conflicting_duplicate": spoiled(data={"quantity": 2}),
        "record_too_large": b"[" + b",".join([spoiled()] * 51) + b"]",
    }
    keys = {"unknown_workspace": b"nobody", "wrong_key": b"B"}
    huge = b'{"a": "' + b"x" * 200_000 + b'"}'
    mixed = json.dumps([good | {"id": "in-array"}, {"bad": 1}, good]).encode()
    records = [
        (b"A", spoiled()),
        *((keys.get(code, b"A"), value) for code, value in cases.items()),
        (b"A", huge),
        (b"A", mixed),
    ]
    meter.send("usage", records)
    # good, one of each code, a large record; in the array: one good, one bad, one duplicate
    meter.wait(lambda: meter.ended() == 1 + len(cases) + 1 + 3, "all events ended")
    assert meter.rows("SELECT sum(counted), sum(duplicates), sum(conflicts) FROM usage_outcomes") == [(2, 1, 1)]
    letters = meter.rows("SELECT reason, message, value, `index` FROM dead_letters FINAL ORDER BY offset, `index`")
    assert sorted(cases) == sorted({reason for reason, *_ in letters})
    by_code = {reason: (message, base64.b64decode(value)) for reason, message, value, index in letters if index < 0}
    for code, value in cases.items():
        assert by_code[code][0], f"{code} has a message"
        if code != "record_too_large":
            assert by_code[code][1] == value
    assert by_code["invalid_field"][0].startswith("$.data.quantity: ")
    (in_array,) = [(reason, base64.b64decode(value)) for reason, _, value, index in letters if index >= 0]
    assert in_array == ("not_a_cloudevent", b'{"bad": 1}')


def test_a_bad_package_or_binding_is_a_dead_letter(meter: Meter) -> None:
    """Documents of the operator are checked like events, and the inlet goes on."""
    now = today_noon()
    meter.start_worker()
    meter.documents([binding("A", "acct", "Mars/Olympus"), binding("B", "acct")], [])
    wrong = package("p", "acct", ["B", "B"], {"logs": 1}, now)
    meter.documents([], [wrong, package("q", "acct", ["B"], {"logs": 1}, now)])
    meter.wait(lambda: meter.rows("SELECT count() FROM quota_history")[0][0] > 0, "the good package shows its quota")

    def faults() -> list[str]:
        letters = meter.rows("SELECT message FROM dead_letters FINAL ORDER BY topic")
        return [message.split(":")[0] for (message,) in letters]

    # the bindings and the packages are read side by side: either letter may come after the quota
    meter.wait(lambda: faults() == ["$.workspaces", "$.time_zone"], "both are dead letters")


def test_a_day_is_settled_revised_and_corrected(meter: Meter) -> None:
    """Yesterday is settled by the clock; a late event and a correction give revisions that name the one they replace."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    meter.documents(
        [binding("A", "acct"), binding("B", "acct")], [package("p", "acct", ["A", "B"], {"logs": 5}, yesterday)]
    )
    meter.start_worker(DRAWDOWN_SETTLEMENT_GRACE="0.001")

    def send(workspace: str, quantity: int) -> None:
        meter.send(
            "usage",
            [(workspace.encode(), json.dumps(event(workspace, "logs", quantity, workspace, yesterday)).encode())],
        )

    def revisions(*amounts: str) -> None:
        expected = [(n, n - 1 or None, Decimal(amount)) for n, amount in enumerate(amounts, start=1)]
        sql = "SELECT revision, replaces, amount FROM statements FINAL ORDER BY revision"
        meter.wait(lambda: meter.rows(sql) == expected, f"statements {expected}; {meter.rows(sql)}")

    shown = "SELECT count() > 0 FROM quota_history"
    meter.wait(
        lambda: meter.rows(shown) == [(True,)], "the package is known: one that comes after the statement revises it"
    )
    send("B", 20_000_005)
    revisions("30.00")
    send("A", 1_000_000)
    revisions("30.00", "31.49")
    one = Correction(
        "acct", "c-1", yesterday.date(), "B", "logs", 14, -10_000_000, "counted twice", "kim", datetime.now(UTC)
    )
    meter.send("account-events", [(b"acct", encode_account_event(one))] * 2)
    revisions("30.00", "31.49", "16.49")
    sql = "SELECT DISTINCT settled FROM overage WHERE quantity > 0"
    meter.wait(lambda: meter.rows(sql) == [(True,)], "every overage is settled")
    lines = meter.rows("SELECT l.workspace, l.quantity, l.amount FROM statements_newest ARRAY JOIN lines AS l")
    assert lines == [("A", 999_995, Decimal("1.485")), ("B", 10_000_005, Decimal("15"))]
