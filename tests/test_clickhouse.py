"""The tables on the real engine: whatever is sent again, cut otherwise or reordered, every view says the same."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from msgspec import Struct, structs

from agents import migrate as migrations
from agents import sink
from agents.clickhouse import INSERT_SETTINGS, connect
from agents.errors import CommandError
from agents.local.services import Services
from agents.migrate import migrate, pending
from agents.settings import Settings
from driver import packed
from schemas.log import AccountEvent, Correction, RoutedUsage, encode_account_event
from schemas.wire import (
    Alert,
    DeadLetter,
    OverageEvent,
    QuotaStatus,
    Statement,
    StatementLine,
    UsageTotal,
    UsageTotals,
    WorkspaceShare,
    encode,
)  # fmt: skip

AT, DAY = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC), date(2026, 11, 24)
TABLES = (
    "usage_events FINAL", "usage_totals", "usage_outcomes", "quota_history FINAL", "allocations", "overage_events FINAL",
    "overage", "rated_overage", "alerts FINAL", "statements FINAL", "statements_newest",
    "dead_letters FINAL", "corrections FINAL",
)  # fmt: skip
_numbers = itertools.count()


@pytest.fixture
def settings(services: Services) -> Settings:
    """A database of this test's own, not migrated."""
    return Settings(clickhouse=services.clickhouse, clickhouse_database=f"tables{next(_numbers)}")


class Tables:
    """A migrated database."""

    def __init__(self, settings: Settings) -> None:
        migrate(settings)
        self.client = connect(settings)

    def insert(self, table: str, values: Iterable[bytes]) -> None:
        """As the sink does."""
        self.client.raw_insert(table, insert_block=b"\n".join(values), fmt="JSONEachRow", settings=INSERT_SETTINGS)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return [tuple(row) for row in self.client.query(sql).result_rows]

    def everything(self) -> dict[str, list[str]]:
        """The rows of every table and view of the contract, as sorted text."""
        return {table: sorted(map(repr, self.rows(f"SELECT * FROM {table}"))) for table in TABLES}


@pytest.fixture
def tables(settings: Settings) -> Iterator[Tables]:
    """A migrated database of this test's own."""
    one = Tables(settings)
    yield one
    one.client.close()


def overage(meter: str, quantity: int, **other: Any) -> OverageEvent:
    """A package overage of workspace w at version 1."""
    plain = OverageEvent(
        id="", account="a", day=DAY, workspace="w", meter=meter, basis="package", retention_days=None, quantity=quantity,
        version=1, settled=False, at=AT, currency="CNY", site="cn",
    )  # fmt: skip
    event = structs.replace(plain, **other)
    name = f"{event.account}/{event.day}/{event.workspace}/{meter}/{event.basis}/{event.retention_days}/{event.version}"
    return structs.replace(event, id=name)


def versions(version: int) -> list[tuple[str, bytes]]:
    """What one version of an account says to every landing table."""
    shares = tuple(WorkspaceShare(w, 10 * version, 7 * version) for w in ("w", "v"))
    line = StatementLine("w", "logs", "package", None, 5, Decimal("0.01"), Decimal("1.5"), Decimal("0.015"))
    values: list[tuple[str, Struct]] = [
        ("overage_landing", overage("logs", 10**6 * version, version=version)),
        ("overage_landing", overage("logs", 10**6 * version, version=version, basis="payg", retention_days=30)),
        ("overage_landing", overage("triggers", version, version=version, basis="payg", retention_days=0)),
        ("quota_landing", QuotaStatus(
            "a", DAY, "logs", "p", 100, 14 * version, 100 - 14 * version, Decimal(version) / 10, shares, 3,
            AT if version % 2 else None, version, AT)),
        ("totals_landing", UsageTotals(
            "a", DAY, version, AT, version, 0, 0, tuple(UsageTotal(w, "logs", 30, version, 2 * version) for w in "wv"))),
        ("alerts", Alert(f"x{version}", "a", DAY, "threshold", "logs", "p", Decimal("0.9"), 90, 100, version, AT)),
        ("statements", Statement(
            "a", DAY, version, version - 1 or None, "CNY", Decimal("1.23"), (line,), version, AT)),
        ("dead_letters_landing", DeadLetter(
            "usage", 0, version, None if version % 2 else 3, None, "not_json", "é\n", "eA==", AT)),
    ]  # fmt: skip
    corrections = [correction(version), correction(version - version % 2, quantity=version)]
    return [
        *((table, encode(value)) for table, value in values),
        ("usage_landing", placed(usage(version), version)),
        *(("corrections", placed(one, 2 * version + i)) for i, one in enumerate(corrections)),
    ]


#: A batch as it was before its columns became binary.
LISTS = b"""{"kind": "usage", "account": "a", "partition": 0, "series": [["w", "2026-11-24", "logs", 30]], "at": [0],
"quantities": [1], "micros": [1795514400000001], "offsets": [1], "indexes": [0], "sources": ["s"], "ids": ["i1"]}"""


def usage(version: int) -> RoutedUsage:
    """A batch of two events."""
    columns = packed(
        at=[0, 1], quantities=[version, 10**15], micros=[1_795_514_400_000_000 + version] * 2,
        offsets=[version, version], indexes=[0, -1], identities=[(0, 0), (0, 0)],
    )  # fmt: skip
    return RoutedUsage(
        "a", 0, [("w", DAY, "logs", 30), ("v", DAY, "hosts", 0)],
        **columns, sources=["s", "s"], ids=[f"i{version}", f"j{version}"],
    )  # fmt: skip


def correction(number: int, quantity: int = -(10**15)) -> Correction:
    """A correction with an id of its own."""
    return Correction("a", f"c{number}", DAY, "w", "logs", 30, quantity, "é", "o", AT)


def placed(event: AccountEvent, offset: int) -> bytes:
    """As the sink sends it."""
    return sink._placed(encode_account_event(event), offset)


def test_replay_rebatching_and_reordering_change_nothing(tables: Tables, settings: Settings) -> None:
    """Once in order, against random cuts, orders and repetitions of the very same values."""
    values = [pair for version in range(1, 7) for pair in versions(version)]
    for table, value in values:
        tables.insert(table, [value])
    wanted = tables.everything()
    assert all(wanted.values())
    for seed in range(3):
        rng = random.Random(seed)
        other = Tables(settings.model_copy(update={"clickhouse_database": f"{settings.clickhouse_database}_{seed}"}))
        played = values + rng.choices(values, k=len(values))
        rng.shuffle(played)
        while played:
            cut = [played.pop() for _ in range(min(len(played), rng.randint(1, 20)))]
            for table in {table for table, _ in cut}:
                other.insert(table, [value for name, value in cut if name == table])
        assert other.everything() == wanted
        other.client.close()


def test_usage_events_know_their_place_in_the_log(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of before the migration stay, with place 0; what comes again at another place is a row of its own."""
    scripts = migrations._scripts()
    with monkeypatch.context() as before:
        before.setattr(migrations, "_scripts", lambda: scripts[:4])
        old = Tables(settings)
        old.insert("usage_landing", [LISTS])
    for _, text in scripts[4:]:
        migrations._apply(old.client, text)
        migrations._apply(old.client, text)  # a migration that was cut off comes again
    old.insert("usage_landing", [placed(usage(1), 5), placed(usage(2), 6), placed(usage(2), 6)])
    rows = old.rows("SELECT id, log_offset FROM usage_events FINAL WHERE workspace = 'w' ORDER BY log_offset")
    assert rows == [("i1", 0), ("i1", 5), ("i2", 6)]
    old.client.close()


def test_the_newest_version_wins_even_if_it_is_the_smaller_one(tables: Tables) -> None:
    """A package that was upgraded lowers an overage: the order of arrival does not matter."""
    tables.insert("overage_landing", [encode(overage("logs", 5, version=9))])
    tables.insert("overage_landing", [encode(overage("logs", 50, version=8))])
    assert tables.rows("SELECT quantity, version, retention_days FROM overage") == [(5, 9, None)]
    assert tables.rows("SELECT count() FROM overage_events FINAL") == [(2,)]


def test_a_statement_in_parts_is_one_when_all_of_it_is_there(tables: Tables) -> None:
    """Until then the revision before it holds; its lines come in their order, whatever order the parts come in."""
    lines = tuple(StatementLine(f"w{n}", "logs", "package", None, n, Decimal(n), None, None) for n in range(4))
    first = Statement("a", DAY, 1, None, "CNY", Decimal(3), lines[:1], 1, AT)
    parts = [
        structs.replace(first, revision=2, replaces=1, lines=(line,), version=2, part=n, last_part=3)
        for n, line in enumerate(lines)
    ]
    newest = "SELECT revision, replaces, arrayMap(l -> l.workspace, lines) FROM statements_newest"
    tables.insert("statements", map(encode, [first, parts[3], parts[1], parts[0], parts[1]]))
    assert tables.rows(newest) == [(1, None, ["w0"])]
    tables.insert("statements", [encode(parts[2])])
    assert tables.rows(newest) == [(2, 1, ["w0", "w1", "w2", "w3"])]
    assert tables.rows("SELECT revision, length(lines) FROM statements_whole ORDER BY revision") == [(1, 1), (2, 4)]


@pytest.mark.parametrize(("logs", "total"), [(40_000_000, "132"), (10_000_000, "87")])
def test_worked_examples_4_1_and_4_2(tables: Tables, logs: int, total: str) -> None:
    """Package overage pays the price of its meter's default retention."""
    over = {"hosts": 5, "logs": logs, "traces": 5_000_000, "page_views": 400_000, "triggers": 20_000}
    tables.insert("overage_landing", [encode(overage(meter, quantity)) for meter, quantity in over.items()])
    assert tables.rows("SELECT sum(amount) FROM rated_overage") == [(Decimal(total),)]


def test_worked_example_4_3(tables: Tables) -> None:
    tables.insert("overage_landing", [encode(overage("logs", 50_000_000)), encode(overage("logs", 0, workspace="a"))])
    rated = tables.rows("SELECT workspace, units, price, amount, currency FROM rated_overage ORDER BY workspace")
    assert rated == [("a", 0, Decimal("1.5"), 0, "CNY"), ("w", 50, Decimal("1.5"), 75, "CNY")]


def test_pay_as_you_go_has_its_own_price_and_none_is_never_guessed(tables: Tables) -> None:
    """Truncated units (d-10), the price of the day, and NULL where the list has no price."""
    payg = [
        overage("logs", 1_234_567, basis="payg", retention_days=14),
        overage("logs", 1_234_567, basis="payg", retention_days=30),
        overage("time_series", 1_000, basis="payg", retention_days=3, day=date(2023, 4, 19)),
        overage("time_series", 1_000, basis="payg", retention_days=3, day=date(2023, 4, 20)),
        overage("hosts", 1, basis="payg", retention_days=0, site="intl", currency="USD"),
    ]
    tables.insert("overage_landing", map(encode, payg))
    rated = tables.rows("SELECT units, price, amount FROM rated_overage ORDER BY meter, day, retention_days")
    figures = [(None if p is None else (u, p, a)) for u, p, a in rated]
    wanted: list[tuple[str, str, str] | None] = [
        None, ("1.23", "1.5", "1.845"), ("1.23", "2", "2.46"), ("1", "3", "3"), ("1", "0.6", "0.6"),
    ]  # fmt: skip
    assert figures == [row and tuple(map(Decimal, row)) for row in wanted]


def test_the_free_plan_has_no_price(tables: Tables) -> None:
    """Its overage is there, without an amount; the newest version says which plan the workspace has on the day."""
    tables.insert("overage_landing", [encode(overage("logs", 10**6, workspace=w, plan="free")) for w in "ab"])
    tables.insert("overage_landing", [encode(overage("logs", 10**6, workspace="b", version=2))])
    rated = tables.rows("SELECT workspace, plan, quantity, units, amount FROM rated_overage ORDER BY workspace")
    assert rated == [("a", "free", 10**6, None, None), ("b", "commercial", 10**6, 1, Decimal("1.5"))]


def test_large_figures_are_exact(tables: Tables) -> None:
    """The largest number of the wire format keeps its last digit, and is rated without overflow."""
    largest = 2**64 - 1
    tables.insert("overage_landing", [encode(overage("hosts", largest))])
    assert tables.rows("SELECT quantity, units, amount FROM rated_overage") == [(largest, largest, largest * 3)]


def test_migrate_is_idempotent_and_may_run_twice_at_once(settings: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: migrate(settings), range(2)))
    assert pending(settings) == []
    before = Tables(settings).everything()
    assert migrate(settings) == []
    assert Tables(settings).everything() == before


def test_a_file_that_was_changed_after_it_was_applied_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = migrate(settings)
    scripts = [(name, text + "-- more\n") for name, text in migrations._scripts()]
    monkeypatch.setattr(migrations, "_scripts", lambda: scripts)
    with pytest.raises(CommandError, match=done[0]):
        migrate(settings)
    with pytest.raises(CommandError, match=done[0]):
        pending(settings)


def test_migrate_says_when_clickhouse_is_away() -> None:
    with pytest.raises(CommandError, match="does not answer"):
        migrate(Settings(clickhouse="http://127.0.0.1:1"))
