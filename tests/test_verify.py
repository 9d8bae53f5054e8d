"""`drawdown verify` and `drawdown adjust` on real servers: a meter at work, tampered tables, corrections, wrong use."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from struct import pack
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agents import verify as verifying
from agents.adjust import Wish, adjust
from agents.clickhouse import INSERT_SETTINGS
from agents.errors import WrongUse
from agents.evidence import gains
from agents.migrate import migrate
from agents.verify import Verified, verify
from conftest import Meter
from driver import CATALOG
from oracle import answer
from pipeline.audit import EVENTS, Gain
from schemas.log import RoutedUsage, encode_account_event
from schemas.reasons import PAST_THE_LEDGER
from schemas.topics import LINES_MAX
from world import binding, event, make_world, package

WAIT = 120
M = 1_000_000


def command(meter: Meter, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A `drawdown` command to its end; it never ends in a traceback."""
    line = [sys.executable, "-m", "agents.cli", *arguments]
    done = subprocess.run(line, env=meter.env | env, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


def encoded(*events: dict[str, Any]) -> list[tuple[bytes | None, bytes]]:
    return [(one["subject"].encode(), json.dumps(one).encode()) for one in events]


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first comparison decides: nothing is left to a second look."""
    monkeypatch.setattr(verifying, "_ATTEMPTS", 1)


def named(meter: Meter, account: str, day: date) -> set[tuple[Any, ...]]:
    """What differs."""
    return {(d.what, *d.key) for d in verify(meter.settings, meter.client, account, day, WAIT).differences}


@pytest.mark.usefixtures("once")
def test_a_meter_at_work_and_random_worlds(meter: Meter) -> None:
    """While events flow no difference is reported; in the end the busiest day of every account is as the oracle says."""
    seed, now = 23, datetime.now(UTC)
    world = make_world(seed, now, events=2000)
    more = itertools.count()
    enough = threading.Event()
    meter.start_worker()
    meter.documents(world.bindings, world.packages)

    def play() -> None:
        """The world, and then the same events of one workspace under new ids until it is enough."""
        sent = 0
        while not enough.is_set() or sent < len(world.records):
            if sent == len(world.records):
                for key, value in encoded(*(event("ws-00", "logs", 7, f"more{next(more)}", now) for _ in range(50))):
                    world.records.append((0, len(world.records), key, value))
            meter.send("usage", [(key, value) for _, _, key, value in world.records[sent : sent + 50]])
            sent = min(sent + 50, len(world.records))

    playing = threading.Thread(target=play)
    playing.start()
    meter.wait(lambda: meter.ended() > 0, "the worker is at work")
    seen = [0]
    ended = f"SELECT sum(counted + duplicates + conflicts) FROM usage_outcomes WHERE account = 'acct-0' AND day = '{now.date()}'"
    try:
        for _ in range(5):
            meter.wait(lambda: meter.rows(ended)[0][0] > seen[-1], "events flow")
            found = verify(meter.settings, meter.client, "acct-0", now.date(), WAIT)
            assert not found.differences, f"seed {seed}"
            seen.append(found.figures[EVENTS, ()][0])
    finally:
        enough.set()
        playing.join()
    assert seen == sorted(set(seen)), "events flowed meanwhile"
    expected = answer(world.records, world.bindings, world.packages, dict(CATALOG.meters), now)
    meter.wait(lambda: meter.ended() == sum(expected.outcomes.values()), "all events ended")
    busiest = meter.rows("SELECT account, day FROM usage_outcomes ORDER BY counted DESC LIMIT 1 BY account")
    for account, when in busiest:
        one: Verified = verify(meter.settings, meter.client, account, when, WAIT)
        assert not one.differences, f"seed {seed}: {account} {when}"
        wanted = {(w, m, r): t for (a, d, w, m, r), t in expected.totals.items() if (a, d) == (account, when)}
        totals = {key: values[0] for (what, key), values in one.figures.items() if what == "total"}
        assert totals == wanted, f"seed {seed}: {account} {when}"


def tamper(meter: Meter, table: str, change: str, where: str) -> None:
    """The newest row says something else."""
    meter.client.command(f"INSERT INTO {table} SELECT * REPLACE ({change}) FROM {table} FINAL WHERE {where}")


#: Kind of figure, table, change, change back, which row; and what must be named.
TAMPERED: list[tuple[str, str, str, str, set[tuple[Any, ...]]]] = [
    ("usage_totals_newest", "quantity + 1 AS quantity", "quantity - 1 AS quantity", "workspace = 'A'",
     {("total", "A", "logs", 14)}),
    ("quota_newest", "arrayMap(w -> (w.1, w.2, w.3 + 1), workspaces) AS workspaces",
     "arrayMap(w -> (w.1, w.2, w.3 - 1), workspaces) AS workspaces", "true",
     {("allocation", "logs", "p", "A"), ("allocation", "logs", "p", "B")}),
    ("overage_newest", "quantity + 1 AS quantity", "quantity - 1 AS quantity", "workspace = 'C'",
     {("overage", "C", "logs", "payg", 14)}),
    ("usage_outcomes_newest", "duplicates + 1 AS duplicates", "duplicates - 1 AS duplicates", "true", {("events",)}),
    ("rates_loaded", "price + 1 AS price", "price - 1 AS price", "meter = 'logs'",
     {("charge", "B", "logs", "package", None), ("charge", "C", "logs", "payg", 14)}),
]  # fmt: skip


def test_tampering_is_found_and_named(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    """One figure of each kind is changed in ClickHouse, and in the end a raw event is deleted."""
    now = datetime.now(UTC) - timedelta(minutes=1)
    day, before = now.date(), (now - timedelta(days=1)).date()
    meter.start_worker()
    meter.documents(
        [binding(w, "acct", retention_days={"logs": 14}) for w in "ABC"],
        [package("p", "acct", ["A", "B"], {"logs": 150 * M}, now)],
    )
    events = [event(w, "logs", 10 * M, f"{w}{i}", now) for w in "ABC" for i in range(10)]
    copies = [
        events[0],
        events[1] | {"time": (now - timedelta(days=1)).isoformat()},
        events[2] | {"data": {"quantity": 1}},
    ]
    meter.send("usage", encoded(*events, *copies, events[0]))
    clean = command(meter, "verify", "acct", "--day", str(day))
    assert (clean.returncode, clean.stderr) == (0, "")
    line = f"acct, {day}: 30 events counted, 2 duplicates, 1 conflicts, 3 totals, logs: 150,000,000 covered, 50,000,000 overage"
    assert clean.stdout == f"{line}, 100,000,000 pay-as-you-go, charge 225.00 CNY\n"
    another_day = verify(meter.settings, meter.client, "acct", before, WAIT)
    assert not another_day.differences
    assert another_day.figures[EVENTS, ()] == (1, 0, 0, 1), "a copy that claims another day is a conflict of that day"
    monkeypatch.setattr(verifying, "_ATTEMPTS", 1)
    for table, change, back, where, wanted in TAMPERED:
        tamper(meter, table, change, where)
        assert named(meter, "acct", day) == wanted, table
        tamper(meter, table, back, where)
    migrate(meter.settings)
    assert named(meter, "acct", day) == set()
    meter.client.command("ALTER TABLE usage_events DELETE WHERE id = 'B7' SETTINGS mutations_sync = 2")
    found = command(meter, "verify", "acct", "--day", str(day), "--json")
    assert found.returncode == 1
    assert {d["what"] for d in json.loads(found.stdout)["differences"]} == {
        "events", "total", "allocation", "overage", "charge",
    }  # fmt: skip
    shown = command(meter, "verify", "acct", "--day", str(day), COLUMNS="200")
    assert shown.returncode == 1
    assert "B logs 14" in shown.stdout
    assert "quantity 100,000,000, converted 100,000,000" in shown.stdout
    assert "quantity 90,000,000, converted 90,000,000" in shown.stdout


@pytest.mark.usefixtures("once")
def test_a_statement_of_more_lines_than_a_record_has(meter: Meter) -> None:
    """It comes in parts, and is one statement for ClickHouse's readers and the audit. A worker that is killed restores all of it."""
    then = datetime.now(UTC) - timedelta(days=1)
    names = [f"ws-{n}" for n in range(LINES_MAX + 1)]
    worker = meter.start_worker(DRAWDOWN_SETTLEMENT_GRACE="0.001")
    meter.documents([binding(name, "acct") for name in names], [])
    meter.send("usage", encoded(*(event(name, "logs", M, name, then) for name in names)))
    whole = "SELECT revision, amount, length(lines) FROM statements_newest"

    def stated(amount: str) -> Callable[[], bool]:
        # What routing sends in several batches may be stated in several revisions.
        return lambda: [row[1:] for row in meter.rows(whole)] == [(Decimal(amount), len(names))]

    meter.wait(stated("7501.50"), "the day is settled")
    worker.kill()
    meter.start_worker(DRAWDOWN_SETTLEMENT_GRACE="0.001")
    meter.send("usage", encoded(event("ws-0", "logs", M, "late", then)))
    meter.wait(stated("7503.00"), "it is revised")
    parts = "SELECT part, last_part, length(lines) FROM statements FINAL ORDER BY revision DESC, part LIMIT 2"
    assert meter.rows(parts) == [(0, 1, LINES_MAX), (1, 1, 1)]
    assert not named(meter, "acct", then.date())


def test_corrections(meter: Meter) -> None:
    """Sent once or twice, up or down, refused, late: totals, overage and statement follow; verify shows who and why."""
    zone = "Pacific/Kiritimati"
    now = datetime.now(UTC) - timedelta(minutes=1)
    yesterday = str(now.astimezone(ZoneInfo(zone)).date() - timedelta(days=1))
    then = now - timedelta(days=1)
    meter.start_worker(DRAWDOWN_SETTLEMENT_GRACE="1")
    meter.documents([binding(w, "acct", zone, retention_days={"logs": 14}) for w in "AB"], [])
    unused = verify(meter.settings, meter.client, "acct", None, WAIT)  # waits until the time zone is in the ledger
    assert (unused.differences, unused.figures[EVENTS, ()]) == ([], (0, 0, 0, 0))
    meter.documents([], [package("p", "acct", ["A", "B"], {"logs": 150 * M}, now)])
    meter.send("usage", encoded(*(event(w, "logs", 100 * M, w, then) for w in "AB")))
    newest = "SELECT amount FROM statements_newest"
    meter.wait(lambda: meter.rows(newest) == [(Decimal(75),)], "the day is settled")

    def adjust(*more: str) -> subprocess.CompletedProcess[str]:
        return command(meter, "adjust", "acct", "--meter", "logs", "--day", yesterday, *more)

    credit = ["--workspace", "B", "--quantity=-20000000", "--reason", "a loop", "--operator", "Zoë", "--id", "c1"]
    first = adjust(*credit, "--json")
    assert (first.returncode, first.stderr) == (0, "")
    sent = json.loads(first.stdout)
    assert (sent["id"], sent["retention_days"], sent["quantity"]) == ("c1", 14, -20 * M)
    assert adjust(*credit).returncode == 0
    assert adjust(*credit[:1], "B", "--quantity=+5", *credit[3:]).returncode == 0  # the same id for something else
    command(
        meter, "adjust", "acct", "--meter", "hosts", "--day", yesterday, "--workspace", "A", "--quantity=+3",
        "--reason", "no agent", "--operator", "Zoë", "--id", "c2",
    )  # fmt: skip
    meter.wait(lambda: meter.rows("SELECT count() FROM dead_letters FINAL") == [(1,)], "the other c1 is refused")
    meter.wait(lambda: meter.rows(newest) == [(Decimal(54),)], "the statement is revised")
    overage = "SELECT quantity FROM overage WHERE workspace = 'B' AND basis = 'package'"
    meter.wait(lambda: meter.rows(overage) == [(30 * M,)], "the overage is revised")
    found = command(meter, "verify", "acct", "--day", yesterday)
    assert found.returncode == 0, found.stdout
    summary, *lines = found.stdout.splitlines()
    assert summary.endswith("hosts: 3 pay-as-you-go; logs: 150,000,000 covered, 30,000,000 overage, charge 54.00 CNY")
    assert sorted(lines) == [
        "correction c1: -20,000,000 logs (14 days) of B by Zoë: a loop",
        "correction c1: REFUSED (conflicting_duplicate) +5 logs (14 days) of B by Zoë: a loop",
        "correction c2: +3 hosts (0 days) of A by Zoë: no agent",
    ]
    tamper(meter, "statements", "amount + 1 AS amount", "revision = (SELECT max(revision) FROM statements)")
    spoiled = json.loads(command(meter, "verify", "acct", "--day", yesterday, "--json").stdout)
    assert [d["what"] for d in spoiled["differences"]] == ["statement"]
    today = json.loads(command(meter, "verify", "acct", "--json").stdout)
    assert date.fromisoformat(today["day"]) > date.fromisoformat(yesterday)
    assert (today["counted"], today["differences"], today["corrections"]) == (0, [], [])
    assert_wrong_use(meter, yesterday)


def test_a_correction_is_of_the_retention_that_held_that_day(meter: Meter) -> None:
    """Another one has a price of its own, and a credit on a series without usage would be lost."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    changes = [{"until": (today - timedelta(hours=h)).isoformat(), "days": days} for h, days in ((36, 7), (24, 14))]
    changed = binding("A", "acct", retention_days={"logs": 30}, retention_before={"logs": changes})
    meter.documents([changed], [])

    def corrected(days_ago: int, retention_days: int | None = None) -> int:
        day = today.date() - timedelta(days=days_ago)
        wish = Wish("acct", "A", "logs", day, -5, "r", "o", retention_days, None)
        return adjust(meter.settings, wish).retention_days

    assert [corrected(days_ago) for days_ago in (0, 1, 3)] == [30, 30, 7]
    with pytest.raises(WrongUse, match="--retention-days: the default of A changed on"):
        corrected(2)
    assert corrected(2, 14) == 14


def assert_wrong_use(meter: Meter, yesterday: str) -> None:
    """Everything that is wrong is said at once, with exit code 2; a server that is away is 3."""
    unknown = command(meter, "verify", "nobody")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    bad = command(
        meter, "adjust", "acct", "--workspace", "Z", "--meter", "tea", "--day", "2999-01-01", "--quantity=0", "--reason",
        " ", "--operator", "",
    )  # fmt: skip
    assert bad.returncode == 2
    for option in ("--workspace", "--meter", "--day", "--quantity", "--reason", "--operator"):
        assert f"{option}: " in bad.stderr
    line = ["adjust", "acct", "--workspace", "A", "--meter", "logs", "--reason", "r", "--operator", "o"]
    late = command(meter, *line, "--day", "2020-01-01", "--quantity=1000000000000001", "--retention-days", "5")
    assert late.returncode == 2
    for words in ("past the horizon", "--quantity: ", "--retention-days: "):
        assert words in late.stderr
    for variable, value in (("KAFKA", "127.0.0.1:9"), ("CLICKHOUSE", "http://127.0.0.1:9")):
        away = command(meter, "verify", "acct", "--day", yesterday, **{f"DRAWDOWN_{variable}": value})
        assert away.returncode == 3


def test_which_raw_events_count(meter: Meter) -> None:
    """Replays of routing, duplicates, conflicts across days, late ones; by the cut of the log that includes them."""
    day, other = date(2026, 11, 24), date(2026, 11, 23)
    series = [("w", day, "logs", 30), ("w", other, "logs", 30)]

    def batch(log_offset: int, offset: int, *rows: tuple[int, int, str]) -> bytes:
        """Rows of (place in series, quantity, id), at the usage topic's places from `offset` on."""
        places, quantities, ids = map(list, zip(*rows, strict=True))
        n = len(rows)
        columns = [
            pack(f"<{n}{kind}", *numbers) for kind, numbers in (
                ("H", places), ("Q", quantities), ("q", [0] * n), ("Q", range(offset, offset + n)), ("i", [-1] * n),
            )
        ]  # fmt: skip
        usage = RoutedUsage("hand", 0, series, *columns, bytes(16 * n), ["s"] * n, ids)
        return b'{"log_offset":%d,' % log_offset + encode_account_event(usage)[1:]

    batches = [
        batch(3, 0, (0, 5, "a"), (1, 7, "b")),
        batch(5, 0, (0, 5, "a"), (1, 7, "b")),  # routed again
        batch(7, 2, (0, 5, "a"), (0, 6, "a"), (0, 8, "b"), (0, 9, "late"), (0, 8, "c")),
        batch(9, 0, (0, 2, "d")),  # a new usage topic begins at 0
        batch(11, 7, (0, 1, "e")),
    ]
    # The ledger refused the one at 5. Routing met the one at 6 again when it was late: it was counted long before.
    letters = [
        {
            "topic": meter.settings.topic_prefix + "usage", "partition": 0, "offset": offset, "index": None, "key": "w",
            "reason": "too_late", "message": message, "value": "", "at": "2026-11-24T10:00:00Z",
        }
        for offset, message in ((5, f"2026-11-24 {PAST_THE_LEDGER}"), (6, "$.time: 2026-11-24 is past the horizon of 35 days"))
    ]  # fmt: skip
    for table, values in (
        ("usage_landing", batches[::-1]),
        ("dead_letters_landing", [json.dumps(letter).encode() for letter in letters]),
    ):
        meter.client.raw_insert(table, insert_block=b"\n".join(values), fmt="JSONEachRow", settings=INSERT_SETTINGS)
    assert gains(meter.settings, meter.client, "hand", day, [4, 8, 9]) == [
        Gain(4, "w", "logs", 30, 1, 0, 0, 5, 5),
        Gain(8, "w", "logs", 30, 1, 1, 2, 8, 8),
        Gain(9, "w", "logs", 30, 1, 0, 0, 2, 2),
    ]
