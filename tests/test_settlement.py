"""Settlement and corrections in the core: statements, their revisions, and totals that operators changed."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from driver import CATALOG, Core, essence
from oracle import answer, statements
from pipeline.account import Account
from pipeline.days import to_micros
from pipeline.rating import payable, rated_line, units_of
from pipeline.settlement import Calendar, records_of
from schemas.topics import LINES_MAX, MESSAGE_BYTES_MAX
from schemas.wire import (
    NAME_CHARS_MAX,
    QUANTITY_MAX,
    Statement,
    StatementLine,
    UsageTotal,
    UsageTotals,
    WorkspaceBinding,
    encode,
)
from world import World, binding, event, make_world, package

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
YESTERDAY = NOW - timedelta(days=1)
#: The list prices of China's sites (facts sheet, 3.3) of the worlds' meters.
PRICES = {
    ("logs", 14): "1.5", ("logs", 30): "2", ("logs", 60): "2.5", ("traces", 7): "3", ("traces", 14): "6",
    ("triggers", 0): "1", ("hosts", 0): "3", ("time_series", 7): "0.7", ("time_series", 14): "0.8",
}  # fmt: skip


def use(core: Core, workspace: str, quantity: int, identity: str, time: datetime, meter: str = "logs") -> None:
    """One usage event, folded and made durable."""
    value = json.dumps(event(workspace, meter, quantity, identity, time)).encode()
    core.send([(0, len(core.log), workspace.encode(), value)])
    step(core)


def step(core: Core) -> None:
    """Fold what is in the log, and make it durable."""
    core.fold()
    if core.ledger.dirty:
        core.checkpoint()


def settle(core: Core) -> int:
    """Write, fold and make durable what is due; how many days."""
    written = core.settle()
    step(core)
    return written


def shared() -> Core:
    """A and B share 50 million logs a day; B has used 80 million yesterday."""
    core = Core(NOW)
    core.bind([binding("A", "acct"), binding("B", "acct")])
    core.buy([package("p", "acct", ["A", "B"], {"logs": 50_000_000}, NOW)])
    use(core, "B", 80_000_000, "1", YESTERDAY)
    return core


def correction(quantity: int, identity: str = "c-1", **more: Any) -> dict[str, Any]:
    """A correction of B's logs of yesterday."""
    return {
        "account": "acct", "id": identity, "day": str(YESTERDAY.date()), "workspace": "B", "meter": "logs",
        "retention_days": 14, "quantity": quantity, "reason": "collector counted twice", "operator": "kim", "at": NOW,
    } | more  # fmt: skip


def test_a_day_is_settled_once_when_it_is_over_and_the_grace_has_passed() -> None:
    """The statement has the overage at its price; the overage is said once more, as settled; today stays open."""
    core = shared()
    use(core, "A", 5, "today", NOW)
    assert settle(core) == 1
    (one,) = core.statements["acct", YESTERDAY.date()]
    assert one.amount == Decimal("45.00")
    assert [(line.workspace, line.quantity, line.units, line.price, line.amount) for line in one.lines] == [
        ("B", 30_000_000, Decimal(30), Decimal("1.5"), Decimal(45))
    ]
    assert core.settled == {("acct", YESTERDAY.date(), "B", "logs", "package", None)}
    assert settle(core) == 0
    assert list(core.statements) == [("acct", YESTERDAY.date())]


@pytest.mark.parametrize(("minutes", "days"), [(-1, 0), (0, 1)])
def test_the_grace_ends_on_the_accounts_own_clock(minutes: int, days: int) -> None:
    """Shanghai's midnight is at 16:00 UTC: with an hour of grace the day is due at 17:00 UTC."""
    core = Core(datetime(2026, 11, 24, 17, tzinfo=UTC) + timedelta(minutes=minutes))
    core.bind([binding("A", "acct", "Asia/Shanghai")])
    use(core, "A", 1, "1", datetime(2026, 11, 24, 15, 59, tzinfo=UTC))
    assert settle(core) == days


@pytest.mark.parametrize(("zone", "hour"), [("Asia/Shanghai", 17), ("America/New_York", 6)])
@pytest.mark.parametrize("crash", [False, True])
def test_a_day_of_before_the_first_binding_ends_by_its_clock(zone: str, hour: int, crash: bool) -> None:
    """The day was folded in UTC. When the zone is known, it is due an hour after that zone's midnight, and not before."""
    core = Core(datetime(2026, 11, 24, 15, tzinfo=UTC))
    core.router.bind(WorkspaceBinding("A", "acct", zone))
    use(core, "A", 1, "1", datetime(2026, 11, 24, 14, 59, tzinfo=UTC))
    assert settle(core) == 0
    core.bind([binding("A", "acct", zone)])
    step(core)
    if crash:
        core.crash()
    due = to_micros(datetime(2026, 11, 24 + (hour < 15), hour, tzinfo=UTC))
    for core.now, days in ((due - 1, 0), (due, 1), (due + 1, 0)):
        assert settle(core) == days


def test_a_late_event_revises_the_statement() -> None:
    """A's late 40 million displace B: revision 2 replaces 1 and is dearer by exactly 40 million logs."""
    core = shared()
    settle(core)
    use(core, "A", 40_000_000, "late", YESTERDAY)
    assert settle(core) == 1
    first, second = core.statements["acct", YESTERDAY.date()]
    assert (second.revision, second.replaces) == (2, 1)
    assert second.amount - first.amount == Decimal(40) * Decimal("1.5")
    assert core.view.overage["acct", YESTERDAY.date(), "B", "logs", "package", None] == 70_000_000
    assert ("acct", YESTERDAY.date(), "B", "logs", "package", None) in core.settled


def test_what_changes_no_line_makes_no_revision() -> None:
    """A duplicate asks for no settlement; usage that a quota covers gives no new statement."""
    core = Core(NOW)
    core.bind([binding("A", "acct")])
    core.buy([package("p", "acct", ["A"], {"logs": 100}, NOW)])
    use(core, "A", 1, "1", YESTERDAY)
    settle(core)
    use(core, "A", 1, "1", YESTERDAY)
    assert settle(core) == 0
    use(core, "A", 1, "2", YESTERDAY)
    assert settle(core) == 1
    assert len(core.statements["acct", YESTERDAY.date()]) == 1


def test_a_settlement_that_was_written_twice_counts_once() -> None:
    """A new owner may write it again before it has read the first."""
    core = shared()
    core.settle()
    core.crash()
    core.settle()
    step(core)
    assert len(core.statements["acct", YESTERDAY.date()]) == 1


def test_a_usage_without_a_price_is_stated_and_not_free() -> None:
    """The line has no amount; the sum is that of the others."""
    account = Account("acct")
    line = rated_line(CATALOG, account, date(1969, 1, 1), "logs", ("A", 14), 10**6)
    assert (line.units, line.price, line.amount) == (Decimal(1), None, None)
    priced = rated_line(CATALOG, account, NOW.date(), "logs", ("A", 14), 10**6)
    assert payable([line, priced]) == Decimal("1.50")


@given(st.integers(0, QUANTITY_MAX * 10**3), st.sampled_from([1, 10, 1000, 10_000, 10**6, 10**9]))
def test_units_are_truncated_to_two_decimals(quantity: int, unit_size: int) -> None:
    """Units <= quantity / size < units + 0.01, with two decimals."""
    units = units_of(quantity, unit_size)
    assert units.as_tuple().exponent == -2
    assert units * unit_size <= quantity < (units + Decimal("0.01")) * unit_size


def test_a_payable_amount_is_rounded_half_up() -> None:
    """10,000 logs of 7 days are 0.012, of 14 days 0.015, which is payable as 0.02; the lines stay exact."""
    account = Account("acct")
    seven, fourteen = (rated_line(CATALOG, account, NOW.date(), "logs", ("A", days), 10_000) for days in (7, 14))
    assert (seven.amount, fourteen.amount) == (Decimal("0.012"), Decimal("0.015"))
    assert [payable(lines) for lines in ([seven], [fourteen], [seven, seven], [])] == [
        Decimal("0.01"), Decimal("0.02"), Decimal("0.02"), Decimal("0.00"),
    ]  # fmt: skip


def test_a_correction_lowers_an_overage_and_revises_the_statement() -> None:
    """-10 million: the overage falls in a newer version, and the next revision says why by its amount."""
    core = shared()
    settle(core)
    core.correct([correction(-10_000_000)])
    step(core)
    assert core.view.overage["acct", YESTERDAY.date(), "B", "logs", "package", None] == 20_000_000
    settle(core)
    assert [s.amount for s in core.statements["acct", YESTERDAY.date()]] == [Decimal("45.00"), Decimal("30.00")]


def test_a_correction_counts_once_and_survives_a_crash() -> None:
    """The same id again, also after a restart, changes nothing; with other content it is a dead letter."""
    core = shared()
    core.correct([correction(-10_000_000), correction(-10_000_000, at=NOW + timedelta(minutes=1))])
    step(core)
    core.crash()
    core.correct([correction(-10_000_000)])
    step(core)
    assert core.view.totals["acct", YESTERDAY.date(), "B", "logs", 14] == 70_000_000
    use(core, "B", 1, "more", YESTERDAY)
    assert core.view.totals["acct", YESTERDAY.date(), "B", "logs", 14] == 70_000_001
    core.correct([correction(-20_000_000)])
    step(core)
    assert core.view.totals["acct", YESTERDAY.date(), "B", "logs", 14] == 70_000_001
    assert core.view.outcomes["conflicting_duplicate"] == 1


@pytest.mark.parametrize(
    ("reason", "more"),
    [
        ("unknown_meter", {"meter": "tea"}),
        ("unknown_retention", {"retention_days": 5}),
        ("unknown_workspace", {"workspace": "nobody"}),
        ("too_late", {"day": "2026-01-01"}),
    ],
)
def test_a_wrong_correction_is_a_dead_letter(reason: str, more: dict[str, Any]) -> None:
    """It changes nothing, and the ledger goes on."""
    core = shared()
    before = core.ledger.digest()
    core.correct([correction(1, **more)])
    step(core)
    assert core.view.outcomes[reason] == 1
    assert core.ledger.digest() == before


@given(st.permutations([5, -7, 3, -40, 12]), st.integers(0, 20))
def test_the_order_of_corrections_does_not_matter(quantities: list[int], cut: int) -> None:
    """Usage and corrections in any order: the total is max(0, counted + corrections), also where it was below 0 meanwhile."""
    core = Core(NOW)
    core.bind([binding("B", "acct")])
    step(core)
    for number, quantity in enumerate(quantities):
        if number == cut % len(quantities):
            use(core, "B", cut, "1", YESTERDAY)
        core.correct([correction(quantity, f"c{quantity}")])
        step(core)
    assert core.view.totals["acct", YESTERDAY.date(), "B", "logs", 14] == max(0, cut - 27)


def corrections_of(world: World, rng: random.Random) -> list[dict[str, Any]]:
    """Some corrections of series that the world may have."""
    found = []
    for number in range(6):
        bound = rng.choice(world.bindings)
        day = (NOW - timedelta(days=rng.choice((0, 1, 2, 9)))).date()
        found.append(
            correction(
                rng.randrange(-60, 60) or 1,
                f"c{number}",
                account=bound["account"],
                day=str(day),
                workspace=bound["workspace"],
            )
        )
    return found


@pytest.mark.parametrize("seed", range(25))
def test_statements_and_corrections_equal_the_batch_answer(seed: int) -> None:
    """With settlements and corrections amid the usage, crashes between any two steps: totals and charges are the oracle's."""
    rng, world = random.Random(seed), make_world(seed, NOW)
    corrections = corrections_of(world, rng)
    core = Core(NOW)
    core.bind(world.bindings)
    core.buy(world.packages)
    records, waiting = list(world.records), rng.sample(corrections, len(corrections))
    while records or waiting:
        size = rng.randrange(1, 60)
        core.send(records[:size])
        records = records[size:]
        core.correct([waiting.pop()] if waiting and rng.random() < 0.5 else [])
        core.settle()
        core.fold(rng.randrange(len(core.log) + 1))
        if rng.random() < 0.6 and core.ledger.dirty:
            core.checkpoint()
        if rng.random() < 0.3:
            core.crash()
    step(core)
    settle(core)
    meters = dict(CATALOG.meters)
    expected = answer(world.records, world.bindings, world.packages, meters, NOW, corrections=corrections)
    assert essence(expected) == essence(core.view), f"seed {seed}"
    over = {name: one[-1].amount for name, one in core.statements.items()}
    amounts = statements(expected, meters, PRICES)
    today = {binding["account"]: day_of(binding["time_zone"]) for binding in world.bindings}
    assert over == {(a, d): amount for (a, d), amount in amounts.items() if d < today[a]}, f"seed {seed}"


def day_of(zone: str) -> date:
    """The newest day that is not settled yet."""
    return (NOW - timedelta(hours=1)).astimezone(ZoneInfo(zone)).date()


@pytest.mark.parametrize("seed", range(5))
def test_a_replay_of_the_log_gives_the_same_statements(seed: int) -> None:
    """The fold alone decides: another batching, with or without crashes, gives the same revisions, byte for byte."""
    rng, world = random.Random(seed), make_world(seed, NOW)
    first = Core(NOW)
    first.bind(world.bindings)
    first.buy(world.packages)
    for start in range(0, len(world.records), 40):
        first.send(world.records[start : start + 40])
        step(first)
        settle(first)
    again = Core(NOW)
    again.log = first.log
    for cut in sorted(rng.choices(range(len(first.log)), k=10)):
        again.fold(cut)
        if again.ledger.dirty and rng.random() < 0.7:
            again.checkpoint()
        if rng.random() < 0.5:
            again.crash()
    step(again)
    assert again.statements == first.statements, f"seed {seed}"


def test_a_day_that_left_the_state_is_not_settled() -> None:
    """Its event may come after the horizon: nothing is stated, and nothing waits for ever."""
    calendar, account = Calendar(), Account("acct")
    account.touch(CATALOG, YESTERDAY.date(), "logs")
    calendar.watch(account, account.dirty_days)
    account.forget_day(YESTERDAY.date())
    assert not list(calendar.due({"acct": account}, 2**54, 0))


def test_many_days_that_are_due_come_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an outage: what all of them say were one huge commit."""
    monkeypatch.setattr("pipeline.settlement._SERIES_AT_ONCE", 3)
    core = Core(NOW)
    core.bind([binding("A", "acct")])
    for days in range(1, 8):
        for meter in ("logs", "hosts")[: 1 + days % 2]:
            use(core, "A", 1, f"{days}{meter}", NOW - timedelta(days=days), meter)
    assert [core.settle(), core.settle()] == [2, 0], "what was handed out is to be folded first"
    step(core)
    assert [settle(core) for _ in range(4)] == [2, 2, 1, 0]
    assert len(core.statements) == 7


#: The largest JSON that a name can be: each character escaped.
LONGEST = "\x01" * NAME_CHARS_MAX
LINE = StatementLine(
    LONGEST, "x" * 64, "package", 60, 2**64, Decimal(2**64) / 100, Decimal("1e10"), Decimal(2**64) * 10**8
)
TOTAL = UsageTotal(LONGEST, "x" * 64, 60, 2**64, 2**64)


def stating(lines: int) -> Statement:
    """A statement of that many of the largest lines."""
    return Statement(LONGEST, NOW.date(), 1, None, "CNY", Decimal(5), (LINE,) * lines, 7, NOW)


@pytest.mark.parametrize(
    "value",
    [stating(LINES_MAX), UsageTotals(LONGEST, NOW.date(), 1, NOW, 2**64, 0, 0, (TOTAL,) * LINES_MAX)],
    ids=["statement", "totals"],
)
def test_a_record_of_the_longest_names_is_no_larger_than_kafka_takes(value: Statement | UsageTotals) -> None:
    """One that were would stop its partition at every start."""
    assert len(encode(value)) < MESSAGE_BYTES_MAX * 0.9


@pytest.mark.parametrize(("lines", "sizes"), [(0, [0]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])])
def test_a_statement_of_many_lines_comes_in_parts(
    lines: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has what is the whole's, and some of the lines; only the first has the key of a statement in one part."""
    monkeypatch.setattr("pipeline.settlement.LINES_MAX", 3)
    whole = stating(lines)
    whole = structs.replace(whole, lines=tuple(structs.replace(LINE, quantity=n) for n in range(lines)))
    found = [(key, value) for _, key, value in records_of(whole) if isinstance(value, Statement)]
    assert [len(part.lines) for _, part in found] == sizes
    assert [key.removeprefix(f"{LONGEST}/2026-11-24") for key, _ in found] == ["", "/1", "/2"][: len(sizes)]
    assert sum((part.lines for _, part in found), ()) == whole.lines
    for number, (_, part) in enumerate(found):
        assert structs.replace(part, lines=whole.lines) == structs.replace(whole, part=number, last_part=len(sizes) - 1)
