"""Orders, the wallet and what statements take from it, in the core: whole or not at all, and to the last cent."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from driver import CATALOG, Core
from oracle import answer, statements
from pipeline.orders import quote
from pipeline.wallet import ARREARS, Terms, Wallet
from schemas.billing import Amendment, Funded, Order, Outcome, PocketTerms, Transaction, WalletStatus
from schemas.catalog import Catalog, load_catalog
from schemas.topics import MESSAGE_BYTES_MAX
from schemas.wire import OverageEvent, Package, encode
from test_settlement import correction, settle, step, use
from world import binding, event, package

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TODAY = NOW.date()
YESTERDAY = NOW - timedelta(days=1)
D = Decimal


def money(amount: str, pocket: str = "cash", **more: Any) -> Funded:
    """Money that comes in."""
    identity = more.pop("id", f"{pocket}-{amount}")
    return Funded(more.pop("account", "acct"), identity, pocket, D(amount), "kim", more.pop("at", NOW), **more)


def order(**more: Any) -> Order:
    """A Startup plan for A and B, paid in cash."""
    fields = {"price": D(42000), "plan": "startup", "workspaces": ("A", "B"), "effective": TODAY, "id": "o-1"} | more
    fields.setdefault("payment", {"cash": fields["price"]})
    return Order(account="acct", operator="kim", at=NOW, **fields)


def shop(*funds: Funded, now: datetime = NOW, catalog: Catalog = CATALOG) -> Core:
    """An account with workspaces A, B (Commercial) and F (Free), and money."""
    core = Core(now, catalog)
    core.bind([binding("A", "acct"), binding("B", "acct"), binding("F", "acct", plan="free")])
    core.command(*(funds or (money("100000"),)))
    step(core)
    return core


def balances(core: Core) -> dict[str, Decimal]:
    """What is in the wallet, as it was said last."""
    return {name: amount for name, amount in core.all(WalletStatus)[-1].balances.items() if amount}


def last(core: Core) -> Outcome:
    """The newest outcome."""
    return core.all(Outcome)[-1]


def codes(core: Core) -> list[str]:
    """The faults of the newest outcome."""
    return sorted(fault.code for fault in last(core).faults)


def test_an_order_is_package_and_money_at_once() -> None:
    """Accepted: the plan covers both workspaces from today on for 372 days, and its price has left the pockets."""
    core = shop(money("40000"), money("1000", "card:c1"), money("1000", "voucher:v1"))
    core.command(order(payment={"cash": D(40000), "card:c1": D(1000), "voucher:v1": D(1000)}))
    step(core)
    (made,) = core.all(Package)
    assert (made.package, made.workspaces, made.effective, made.order) == ("o-1", ("A", "B"), TODAY, "o-1")
    assert (made.expires - made.effective).days == 371
    assert made.quotas == CATALOG.plans["startup"].quotas
    assert last(core).accepted
    assert last(core).packages == (made,)
    assert balances(core) == {}
    assert core.view.covered["acct", TODAY, "logs", "o-1", "A"] == 0


def test_a_refused_order_names_every_fault_and_changes_nothing() -> None:
    """Not Commercial, not bound, twice, wrong price, wrong sum, too little, unknown pocket: all at once."""
    core = shop(money("10"))
    before = core.ledger.digest(), core.all(Transaction)
    core.command(
        order(
            workspaces=("A", "A", "F", "X"),
            price=D(1),
            payment={"cash": D(20), "card:none": D(1)},
            traffic={"tea": 1, "sms": 0},
        )
    )
    step(core)
    assert not last(core).accepted
    assert codes(core) == sorted([
        "duplicate_workspace", "not_commercial", "not_bound", "unknown_traffic", "invalid_multiples", "payment_differs",
        "balance_too_small", "unknown_pocket",
    ])  # fmt: skip
    assert (core.ledger.digest(), core.all(Transaction)) == before


@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("wrong_price", {"price": D(41999)}),
        ("unknown_plan", {"plan": "gold"}),
        ("no_workspaces", {"workspaces": ()}),
        ("effective_in_the_past", {"effective": TODAY - timedelta(days=1)}),
        ("nothing_ordered", {"plan": None}),
        ("unknown_package", {"package": "none", "workspaces": ()}),
        ("invalid_amount", {"payment": {"cash": D("42000.001"), "arrears": D("-0.001")}}),
        ("balance_too_small", {"plan": "enterprise", "price": D(510000)}),
        ("effective_too_far", {"effective": date.max}),
        ("invalid_amount", {"price": D("NaN"), "payment": {"cash": D(1)}}),
        ("invalid_amount", {"payment": {"cash": D("sNaN")}}),
        ("invalid_amount", {"price": D("Infinity")}),
        ("invalid_amount", {"payment": {"cash": D("9e999999"), "card:x": D("9e999999")}}),
    ],
)
def test_each_fault_has_its_code(code: str, more: dict[str, Any]) -> None:
    """One order a fault."""
    core = shop()
    core.command(order(**more))
    step(core)
    assert code in codes(core)
    assert not core.all(Package)


def test_the_same_order_twice_is_one_order() -> None:
    """Also after a restart; another order under its id is refused; a refused one may be tried again."""
    core = shop(money("10"))
    core.command(order())
    step(core)
    assert codes(core) == ["balance_too_small"]
    core.command(money("84000", id="more"), order(), order())
    step(core)
    core.crash()
    core.command(order())
    step(core)
    assert [outcome.accepted for outcome in core.all(Outcome)[-3:]] == [True, True, True]
    assert balances(core) == {"cash": D(42010)}
    assert len([p for p in core.all(Package) if p.package == "o-1"]) == 1
    core.command(order(workspaces=("B",)))
    step(core)
    assert codes(core) == ["conflicting_id"]


@pytest.mark.parametrize("seed", range(10))
def test_a_crash_leaves_an_order_whole_or_absent(seed: int) -> None:
    """Whatever is folded, made durable or lost in between: in the end one package, one payment."""
    rng = random.Random(seed)
    core = shop()
    core.command(order(), money("5", id="late"), order())
    for _ in range(8):
        core.fold(rng.randrange(len(core.log) + 1))
        if rng.random() < 0.5 and core.ledger.dirty:
            core.checkpoint()
        if rng.random() < 0.5:
            core.crash()
        durable = core.ledger.accounts.get("acct")
        if durable is not None:
            paid = durable.wallet.balance("cash") < 100_000 - 5
            assert paid == ("o-1" in durable.packages), f"seed {seed}"
    step(core)
    assert core.ledger.accounts["acct"].wallet.balances == {"cash": D(58005)}
    assert len(core.all(Package)) == 1


def test_what_an_order_makes_can_be_read_again() -> None:
    """A package's name has at most 256 characters: the longest id that leaves room for its traffic, and one more. And quotas."""
    core = shop(money("900000"))
    dear = {"traffic": {"logs": 1}, "price": D(42000) + D("1.5") * 372}
    core.command(order(id="o" * 252, **dear))
    step(core)
    assert codes(core) == ["invalid_id"]
    core.command(order(id="o" * 251, **dear), order(id="p" * 256), order(id="p" * 252, **dear))
    step(core)
    assert [outcome.accepted for outcome in core.all(Outcome)[-3:]] == [True, True, False]
    before = core.ledger.digest()
    core.crash()
    core.fold()
    assert core.ledger.digest() == before
    huge = dataclasses.replace(CATALOG.traffic["logs"], quota=10**13)
    core = shop(catalog=dataclasses.replace(CATALOG, traffic=CATALOG.traffic | {"logs": huge}))
    core.command(order(traffic={"logs": 10**6}))
    step(core)
    assert "invalid_package" in codes(core)


def test_no_order_takes_the_name_of_another_package() -> None:
    """Neither that of a document, nor one that another order made: it would replace that package silently."""
    core = shop(money("900000"))
    core.buy([package("pkg-1", "acct", ["A"], {"logs": 5}, NOW), package("y.logs", "acct", ["A"], {"logs": 5}, NOW)])
    dear = {"traffic": {"logs": 1}, "price": D(42000) + D("1.5") * 372}
    core.command(order(id="x", **dear))
    step(core)
    assert last(core).accepted, last(core).faults
    before = core.ledger.digest()
    share = Amendment("acct", "pkg-1", "x", ("B",), TODAY, "kim", NOW)
    for command in (
        order(id="pkg-1"),
        order(id="x.logs"),
        order(id="y", **dear),
        order(id="pkg-1", plan="development", package="x", workspaces=(), price=D(238000)),
        share,
        structs.replace(share, id="x.logs"),
    ):
        core.command(command)
        step(core)
        assert codes(core) == ["id_taken"], command
        assert core.ledger.digest() == before


def test_traffic_is_valid_as_long_as_its_plan_and_cheaper_by_size() -> None:
    """30 x 1,000,000 logs cost 36 a day (4.2 of the facts sheet); 29 are not discounted."""
    core = shop(money("900000"))
    core.command(order(traffic={"logs": 30}, price=D(42000) + 36 * 372))
    step(core)
    plan, traffic = core.all(Package)
    assert (traffic.package, traffic.kind, traffic.belongs_to) == ("o-1.logs", "traffic", "o-1")
    assert (traffic.quotas, traffic.expires, traffic.workspaces) == (
        {"logs": 30_000_000},
        plan.expires,
        plan.workspaces,
    )
    later = TODAY + timedelta(days=2)
    core.command(
        order(
            id="o-2",
            plan=None,
            package="o-1",
            workspaces=(),
            traffic={"logs": 29},
            effective=later,
            price=D("43.5") * 370,
        )
    )
    step(core)
    assert last(core).accepted, last(core).faults
    assert core.all(Package)[-1].effective == later


def test_an_upgrade_follows_the_old_plan_and_keeps_the_term() -> None:
    """Yesterday keeps the Startup quota; from today on Development covers; half a term is half the difference."""
    core = shop(money("400000"))
    core.command(order())
    step(core)
    middle = TODAY + timedelta(days=186)
    core.command(order(id="up", plan="development", package="o-1", workspaces=(), effective=middle, price=D(119000)))
    step(core)
    assert last(core).accepted, last(core).faults
    old, new = core.all(Package)[-2:]
    assert (old.package, old.expires) == ("o-1", middle - timedelta(days=1))
    assert (new.package, new.effective, new.plan, new.workspaces) == ("up", middle, "development", ("A", "B"))
    assert new.expires == TODAY + timedelta(days=371)
    core.command(order(id="down", plan="startup", package="up", workspaces=(), effective=middle, price=D(0)))
    step(core)
    assert "not_an_upgrade" in codes(core)


def test_workspaces_are_reordered_and_packages_end() -> None:
    """Another order changes who is covered today, in newer versions; an ended plan takes its traffic along."""
    core = shop(money("900000"))
    core.command(order(traffic={"logs": 1}, price=D(42000) + D("1.5") * 372))
    for workspace in "AB":
        use(core, workspace, 41_000_000, workspace, NOW)
    day = ("acct", TODAY)
    assert core.view.overage[*day, "B", "logs", "package", None] == 41_000_000
    core.command(Amendment("acct", "a-1", "o-1", ("B", "A"), TODAY, "kim", NOW))
    step(core)
    assert last(core).accepted, last(core).faults
    assert core.view.overage[*day, "A", "logs", "package", None] == 40_000_000
    assert core.view.overage[*day, "B", "logs", "package", None] == 1_000_000
    core.command(Amendment("acct", "a-2", "a-1", (), TODAY, "kim", NOW))
    step(core)
    assert last(core).accepted, last(core).faults
    assert core.view.overage[*day, "A", "logs", "payg", 14] == 41_000_000
    assert {p.package for p in core.ledger.accounts["acct"].packages.values() if p.status == "active"} == set()


def test_traffic_that_ended_before_its_plan_stays_ended() -> None:
    """Its days without it were billed: the end of the plan gave it them back, and the money too."""
    core = shop(money("900000"))
    core.command(order(traffic={"logs": 1}, price=D(42000) + D("1.5") * 372))
    step(core)
    for name, ended, days in (("a-1", "o-1.logs", 5), ("a-2", "o-1", 10)):
        core.command(Amendment("acct", name, ended, (), TODAY + timedelta(days=days), "kim", NOW))
        step(core)
        assert last(core).accepted, last(core).faults
    packages = core.ledger.accounts["acct"].packages
    assert [packages[name].expires - TODAY for name in ("o-1.logs", "o-1")] == [timedelta(days=4), timedelta(days=9)]


def test_what_is_ordered_before_a_plan_begins_is_paid_for_its_term_only() -> None:
    """An upgrade costs the difference of the plans, and traffic the days of its plan, however early they are ordered."""
    core = shop(money("900000"))
    first = TODAY + timedelta(days=90)
    core.command(order(effective=first))
    early = {"plan": None, "package": "o-1", "workspaces": (), "effective": TODAY}
    core.command(order(id="more", **early | {"traffic": {"logs": 1}}, price=D("1.5") * 372))
    step(core)
    assert last(core).accepted, last(core).faults
    core.command(order(id="up", **early | {"plan": "development"}, price=D(238000)))
    step(core)
    assert last(core).accepted, last(core).faults
    packages = core.ledger.accounts["acct"].packages
    assert [packages[name].effective for name in ("more.logs", "up")] == [first, first]


def test_what_an_order_made_cannot_be_changed_by_a_document() -> None:
    """The echo of an order changes nothing; a document of an operator for the same package is a dead letter."""
    core = shop()
    core.command(order())
    step(core)
    (made,) = core.all(Package)
    before = core.ledger.digest()
    plain = json.loads(json.dumps(package("o-1", "acct", ["B"], {"logs": 1}, NOW)))
    echo = plain | {"workspaces": ["A", "B"], "order": "o-1"}
    core.buy([echo, plain, plain | {"package": "new", "order": "o-9"}])
    step(core)
    assert core.ledger.digest() == before
    assert core.view.outcomes["invalid_field"] == 2
    assert core.ledger.accounts["acct"].packages["o-1"] == made


def test_a_late_event_moves_exactly_the_difference() -> None:
    """Revision 2 takes from the wallet what it is dearer by; a correction gives back what it is cheaper by."""
    core = shop(money("1000"))
    use(core, "B", 30_000_000, "1", YESTERDAY)
    settle(core)
    assert balances(core) == {"cash": D(955)}
    use(core, "A", 1_000_000, "late", YESTERDAY)
    settle(core)
    assert balances(core) == {"cash": D("953.5")}
    core.correct([correction(-10_000_000)])
    step(core)
    settle(core)
    assert balances(core) == {"cash": D("968.5")}
    references = [t.reference.split("/")[1:] for t in core.all(Transaction) if "/" in t.reference]
    assert references == [["1"], ["2"], ["3"]]
    assert [s.amount for s in core.statements["acct", YESTERDAY.date()]] == [D(45), D("46.5"), D("31.5")]


def test_the_free_plan_is_never_priced() -> None:
    """On no statement, so nothing is taken from the wallet; its overage is said, as Free."""
    core = shop()
    use(core, "F", 30_000_000, "1", YESTERDAY)
    settle(core)
    (statement,) = core.statements["acct", YESTERDAY.date()]
    assert (statement.amount, statement.lines, balances(core)) == (0, (), {"cash": D(100000)})
    assert {(o.plan, o.quantity, o.settled) for o in core.all(OverageEvent)} == {
        ("free", 30_000_000, False),
        ("free", 30_000_000, True),
    }


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("crash", [False, True])
def test_an_upgrade_holds_from_its_day_on(settled: bool, crash: bool) -> None:
    """The whole day of the upgrade is Commercial, as a package of noon covers its whole day; the days before stay free."""
    core = shop()
    for days in (0, 1, 2):
        use(core, "F", (days + 1) * 10_000_000, f"e{days}", NOW - timedelta(days=days))
    if settled:
        settle(core)
    core.now -= 86_400_000_000
    core.bind([binding("F", "acct")])
    core.now += 2 * 86_400_000_000
    step(core)
    if crash:
        core.crash()
    settle(core)
    newest = {day: core.statements["acct", day][-1].amount for _, day in core.statements}
    assert newest == {TODAY: D(15), YESTERDAY.date(): D(30), (NOW - timedelta(days=2)).date(): D(0)}
    assert balances(core) == {"cash": D(100000 - 45)}
    plans = {over.day: over.plan for over in core.all(OverageEvent)}
    assert plans == {TODAY: "commercial", YESTERDAY.date(): "commercial", (NOW - timedelta(days=2)).date(): "free"}


def test_deduction_follows_the_documented_order() -> None:
    """Ordinary voucher, threshold voucher, prepaid card, cash, then arrears; the one that ends earlier first."""
    core = shop(
        money("3", "voucher:late", expires=TODAY + timedelta(days=9)), money("2", "voucher:soon", expires=TODAY),
        money("4", "threshold:ok", threshold=D(40)), money("4", "threshold:high", threshold=D(46)), money("100", "card:c"), money("7"),
    )  # fmt: skip
    use(core, "B", 30_000_000, "1", YESTERDAY)
    settle(core)
    assert balances(core) == {"threshold:high": D(4), "card:c": D(64), "cash": D(7)}
    assert core.all(WalletStatus)[-1].terms["threshold:ok"] == PocketTerms(None, D(40))
    core = shop(money("1", "voucher:v"), money("100", "card:c"), money("7"))
    use(core, "B", 100_000_000, "1", YESTERDAY)
    settle(core)
    assert balances(core) == {"arrears": D(-42)}


def test_a_refund_goes_the_way_of_the_charge_backwards() -> None:
    """Also among cards: the one that ends earlier paid first, gets back last, and may have ended since."""
    wallet = Wallet(terms={"card:old": Terms(TODAY), "card:new": Terms(TODAY + timedelta(days=30))})
    paid = {"card:old": D(100), "card:new": D(50)}
    _, returned = wallet.refund(D("50.01"), paid)
    assert returned == {"card:new": D(50), "card:old": D("0.01")}


def test_sms_and_synthetic_tests_are_never_paid_by_voucher() -> None:
    """Their part goes to card and cash, though the voucher has plenty."""
    core = shop(money("1000", "voucher:v"), money("7"))
    use(core, "A", 100, "1", YESTERDAY, "sms")
    use(core, "A", 2_000_000, "2", YESTERDAY)
    settle(core)
    assert balances(core) == {"voucher:v": D(997), "arrears": D(-3)}


def test_arrears_lock_the_account_after_the_buffer() -> None:
    """14 days after the debt began, once; money that clears it unlocks, and a debt in between starts anew."""
    core = shop(money("1"))
    use(core, "B", 30_000_000, "1", YESTERDAY)
    settle(core)
    assert core.all(WalletStatus)[-1].owes_since == TODAY
    for days, locked in ((13, False), (14, True), (15, True)):
        core.now = int((NOW + timedelta(days=days)).timestamp()) * 10**6
        settle(core)
        assert core.all(WalletStatus)[-1].locked == locked, days
    core.crash()
    core.fold()
    assert core.ledger.accounts["acct"].wallet.locked
    core.command(money("44", at=NOW + timedelta(days=15)))
    step(core)
    status = core.all(WalletStatus)[-1]
    assert (status.locked, status.owes_since, balances(core)) == (False, None, {})
    assert debts(core) == [("arrears", TODAY, 1, 44), ("locked", TODAY + timedelta(days=14), 1, 44)]


def test_a_debt_that_moves_between_the_parts_of_a_day_is_the_same_debt() -> None:
    """As much SMS comes late as logs are taken back: nothing moves, so the account owes since then, stays locked, and no alert is said."""
    core = shop(money("1"))
    use(core, "B", 30_000_000, "1", YESTERDAY)
    settle(core)
    core.now = int((NOW + timedelta(days=14)).timestamp()) * 10**6
    settle(core)
    wallet = core.ledger.accounts["acct"].wallet
    assert (wallet.owes_since, wallet.locked) == (TODAY, True)
    core.correct([correction(-30_000_000)])
    use(core, "A", 450, "sms", YESTERDAY, "sms")
    settle(core)
    assert [s.amount for s in core.statements["acct", YESTERDAY.date()]] == [D(45), D(45)]
    for _ in range(2):
        wallet = core.ledger.accounts["acct"].wallet
        assert (wallet.owes_since, wallet.locked, wallet.balance(ARREARS)) == (TODAY, True, D(-44))
        core.crash()
    assert [kind for kind, *_ in debts(core)] == ["arrears", "locked"]


def debts(core: Core) -> list[tuple[Any, ...]]:
    """The alerts of debts, in order."""
    assert len({alert.id for alert in core.alerts}) == len(core.alerts)
    return [(a.kind, a.day, a.firing, a.amount) for a in core.alerts if a.kind in ("arrears", "locked")]


@pytest.mark.parametrize("seed", range(10))
def test_each_debt_is_told_once_through_crashes(seed: int) -> None:
    """In debt, paid, in debt again on the same day; more debt is no other debt; 14 days later the account is locked, once."""
    rng = random.Random(seed)
    core = shop(money("1"))

    def make_durable() -> None:
        for _ in range(4):
            core.fold(rng.randrange(len(core.log) + 1))
            if rng.random() < 0.5 and core.ledger.dirty:
                core.checkpoint()
            if rng.random() < 0.5:
                core.crash()
        step(core)

    for number in range(3):
        use(core, "B", 30_000_000, f"late-{number}", YESTERDAY)
        core.settle()
        make_durable()
        if number == 0:
            core.command(money("44", id="clears"))
            make_durable()
    for days in (13, 14, 15):
        core.now = int((NOW + timedelta(days=days)).timestamp()) * 10**6
        core.settle()
        make_durable()
    assert debts(core) == [
        ("arrears", TODAY, 1, 44), ("arrears", TODAY, 2, 45), ("locked", TODAY + timedelta(days=14), 1, 90),
    ], f"seed {seed}"  # fmt: skip
    assert [a.currency for a in core.alerts if a.kind == "locked"] == ["CNY"]


@pytest.mark.parametrize(
    ("code", "fund"),
    [
        ("not_in_hundreds", money("150", "card:c")),
        ("invalid_amount", money("0.001")),
        ("invalid_amount", money("-5")),
        ("unknown_pocket", money("5", "gold")),
        ("unknown_pocket", money("5", "cash:mine")),
        ("unknown_pocket", money("5", "cash:")),
        ("unknown_pocket", money("5", "voucher:")),
        ("invalid_threshold", money("5", "threshold:t")),
        ("invalid_threshold", money("5", "threshold:t", threshold=D("NaN"))),
        ("invalid_threshold", money("5", threshold=D("Infinity"))),
        ("invalid_amount", money("NaN")),
        ("invalid_expiry", money("5", "voucher:v", expires=TODAY - timedelta(days=1))),
    ],
)
def test_money_that_cannot_be_is_refused(code: str, fund: Funded) -> None:
    """Nothing is booked."""
    core = shop(fund)
    assert codes(core) == [code]
    assert not core.all(Transaction)


actions = st.lists(
    st.tuples(
        st.sampled_from(["fund", "charge", "apart", "refund"]),
        st.integers(1, 5000),
        st.sampled_from(["cash", "card:a", "card:b", "voucher:a", "voucher:b", "threshold:a"]),
    ),
    max_size=30,
)


@given(actions)
def test_money_is_neither_made_nor_lost(steps: list[tuple[str, int, str]]) -> None:
    """Whatever comes in, is charged and given back: balances + what usage took = what came in, to the cent."""
    wallet, came_in, used = Wallet(terms={"threshold:a": Terms(None, D(20))}), D(0), D(0)
    paid: Counter[str] = Counter()
    for action, cents, pocket in steps:
        amount = D(cents) / 100
        taken: dict[str, Decimal] = {}
        if action == "fund":
            postings, came_in = wallet.fund(pocket, amount), came_in + amount
        elif action == "refund":
            amount = min(amount, sum(paid.values(), D(0)))
            postings, back = wallet.refund(amount, dict(paid))
            taken, used = {name: -x for name, x in back.items()}, used - amount
        else:
            postings, used = wallet.charge(amount, TODAY, vouchers=action == "charge"), used + amount
            taken = {name: -x for name, x in postings.items() if name != "usage"}
            if action == "apart":
                assert not any(name.startswith(("voucher", "threshold")) for name in taken)
        wallet.apply(postings, TODAY)
        for name, part in taken.items():
            paid[name] += part  # type: ignore[assignment]
        assert sum(wallet.balances.values(), D(0)) + used == came_in
        assert wallet.balance(ARREARS) == 0 or all(
            wallet.balance(name) == 0 for name in wallet.balances if name.startswith(("card", "cash"))
        )
    assert (wallet.owes_since is None) == (wallet.balance(ARREARS) == 0)


EXAMPLES = {
    "4.1": ("132.00", [("hosts", 25, None), ("logs", 40_000_000, 30), ("traces", 5_000_000, 14), ("page_views", 400_000, 14), ("triggers", 210_000, None)]),
    "4.2": ("87.00", [("hosts", 25, None), ("logs", 40_000_000, 30), ("traces", 5_000_000, 14), ("page_views", 400_000, 14), ("triggers", 210_000, None)]),
    "4.4": ("39.80", [("hosts", 10, None), ("logs", 2_000_000, 7), ("traces", 2_000_000, 3), ("page_views", 20_000, 3), ("triggers", 20_000, None)]),
    "4.6": ("13.40", [("time_series", 6000, 3), ("logs", 2_000_000, 7), ("traces", 2_000_000, 3), ("page_views", 20_000, 3), ("triggers", 20_000, None)]),
}  # fmt: skip


def spend(core: Core, day: datetime, used: list[tuple[str, str, int, int | None]]) -> Decimal:
    """Usage as (workspace, meter, quantity, retention), and the next midnight: what the day took out of the wallet."""
    before = balances(core)["cash"]
    for workspace, meter, quantity, retention in used:
        value = json.dumps(event(workspace, meter, quantity, f"{workspace}-{meter}", day, retention)).encode()
        core.send([(0, len(core.log), workspace.encode(), value)])
    step(core)
    core.now += 86_400_000_000
    settle(core)
    return before - balances(core)["cash"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_examples_from_order_to_statement(name: str) -> None:
    """The order, a day's usage, the next midnight: the statement has the printed figure, and the wallet paid it."""
    total, used = EXAMPLES[name]
    core = shop(money("900000"))
    if name in ("4.1", "4.2"):
        traffic = {"logs": 30} if name == "4.2" else {}
        core.command(order(traffic=traffic, price=D(42000) + (36 * 372 if traffic else 0)))
        step(core)
        assert last(core).accepted, last(core).faults
    paid = spend(core, NOW, [("A", *one) for one in used])
    (statement,) = core.statements["acct", TODAY]
    assert statement.amount == paid == D(total)


@pytest.mark.parametrize("first", ["A", "B"])
def test_worked_example_4_3_from_order_to_statement(first: str) -> None:
    """Startup and 110 million logs of traffic: of 150 million A has 100, so B has 50; B's other 50 cost 75, whoever comes first."""
    core = shop(money("900000"))
    core.command(order(traffic={"logs": 110}, price=D(42000) + D("1.5") * 110 * D("0.8") * 372))
    step(core)
    assert last(core).accepted, last(core).faults
    paid = spend(core, NOW, [(w, "logs", 100_000_000, None) for w in sorted("AB", key=lambda w: w != first)])
    (statement,) = core.statements["acct", TODAY]
    assert statement.amount == paid == D(75)
    assert [(line.workspace, line.basis, line.quantity) for line in statement.lines] == [("B", "package", 50_000_000)]
    covered = Counter[str]()
    for (*_, workspace), quantity in core.view.covered.items():
        covered[workspace] += quantity
    assert covered == {"A": 100_000_000, "B": 50_000_000}


def test_worked_example_4_5_from_usage_to_statement() -> None:
    """By the prices of before 2023-04-20, when 1,000 series cost 3: 1.5 + 2.4 + 4 + 1.4 + 2."""
    day = datetime(2023, 4, 10, 12, tzinfo=UTC)
    core = shop(money("100", at=day), now=day)
    paid = spend(core, day, [
        ("A", "time_series", 500, 3), ("A", "logs", 2_000_000, 7), ("A", "traces", 2_000_000, 3),
        ("A", "page_views", 20_000, 3), ("A", "triggers", 20_000, None),
    ])  # fmt: skip
    (statement,) = core.statements["acct", day.date()]
    assert statement.amount == paid == D("11.30")
    amounts = {line.meter: line.amount for line in statement.lines}
    assert amounts == {
        "time_series": D("1.5"),
        "logs": D("2.4"),
        "traces": D(4),
        "page_views": D("1.4"),
        "triggers": D(2),
    }


#: 4.8: what each item costs there, as (meter, quantity, retention) of the price list, and its printed amount.
SAMPLE = [
    ("session_replays", 322_720, None, "806.8"), ("extension_apps", 1, None, "1500.0"), ("triggers", 734_000, None, "73.4"),
    ("page_views", 88_100, 7, "8.81"), ("profiles", 737_386_000, 3, "14747.72"), ("network_hosts", 17, None, "34.0"),
    ("time_series", 17_810, 30, "17.81"), ("traces", 50_000, 3, "0.1"), ("logs", 2_860_000, 3, "2.86"),
    ("sms", 187, None, "18.7"), ("synthetic_tests", 16_800, None, "1.68"),
]  # fmt: skip
#: What the API's sample bills and the price list does not name is an operator's own meter.
EXTENSIONS = """
[meters.extension_apps]
name = "Extension apps"
unit = "app"
unit_size = 1
aggregation = "max"
factors = { 0 = 1 }
default_retention = 0
[[prices]]
meter = "extension_apps"
site = "cn"
currency = "CNY"
price = { 0 = "1500" }
"""


def test_worked_example_4_8_from_usage_to_statement(tmp_path: Path) -> None:
    """Every line has the sample's amount; they add up to the printed total, which the wallet paid."""
    own = tmp_path / "own.toml"
    own.write_text(EXTENSIONS)
    core = shop(money("20000"), catalog=load_catalog(own))
    paid = spend(core, NOW, [("A", meter, quantity, retention) for meter, quantity, retention, _ in SAMPLE])
    (statement,) = core.statements["acct", TODAY]
    assert {line.meter: line.amount for line in statement.lines} == {meter: D(amount) for meter, *_, amount in SAMPLE}
    assert statement.amount == paid == D("17211.88")


def oracle_of_wallet(funds: list[tuple[str, Decimal]], amounts: list[Decimal]) -> dict[str, Decimal]:
    """Ordinary vouchers, cards, cash, then arrears: written once more, one charge after the other."""
    rank = {"voucher": 0, "card": 1, "cash": 2}
    pockets = dict(sorted(funds, key=lambda fund: (rank[fund[0].partition(":")[0]], fund[0])))
    for amount in amounts:
        left = amount
        for pocket, balance in pockets.items():
            if pocket != "arrears":
                pockets[pocket] = balance - min(left, balance)
                left -= min(left, balance)
        pockets["arrears"] = pockets.get("arrears", D(0)) - left
    return {pocket: amount for pocket, amount in pockets.items() if amount}


def test_a_thousand_accounts_equal_the_oracle() -> None:
    """Random quotas, usage on several days and wallets: statements and balances are those of the oracle."""
    seed = 20261124
    rng, core = random.Random(seed), Core(NOW)
    bindings, packages, funds, records = [], [], {}, []
    prices = {
        ("logs", 14): "1.5",
        ("logs", 30): "2",
        ("logs", 60): "2.5",
        ("traces", 7): "3",
        ("traces", 14): "6",
        ("hosts", 0): "3",
    }
    for number in range(1000):
        account, names = f"acct-{number}", [f"w{number}-{i}" for i in range(rng.randrange(1, 4))]
        bindings += [binding(name, account) for name in names]
        if rng.random() < 0.7:
            quotas = {meter: rng.randrange(10**7) for meter in ("logs", "traces", "hosts") if rng.random() < 0.7}
            packages.append(
                package(
                    f"p-{number}",
                    account,
                    rng.sample(names, rng.randrange(1, len(names) + 1)),
                    quotas or {"logs": 1},
                    NOW,
                )
            )
        choices = (
            ("cash", D(rng.randrange(1, 10000)) / 100),
            ("card:c", D(100)),
            ("voucher:v", D(rng.randrange(1, 3000)) / 100),
        )
        funds[account] = [fund for fund in choices if rng.random() < 0.6]
        for _ in range(rng.randrange(1, 8)):
            workspace, (meter, retention) = rng.choice(names), rng.choice(list(prices))
            time = YESTERDAY - timedelta(days=rng.randrange(3))
            one = event(workspace, meter, rng.randrange(3 * 10**6), f"e{len(records)}", time, retention)
            records.append((0, len(records), workspace.encode(), json.dumps(one).encode()))
    core.bind(bindings)
    core.buy(packages)
    for account, own in funds.items():
        core.command(*(money(str(amount), pocket, account=account) for pocket, amount in own))
    core.send(records)
    step(core)
    settle(core)
    meters = dict(CATALOG.meters)
    amounts = statements(answer(records, bindings, packages, meters, NOW), meters, prices)
    assert {name: one[-1].amount for name, one in core.statements.items()} == amounts, f"seed {seed}"
    statuses = {status.account: status.balances for status in core.all(WalletStatus)}
    days: dict[str, list[tuple[date, Decimal]]] = {}
    for (account, day), amount in sorted(amounts.items()):
        days.setdefault(account, []).append((day, amount))
    for account, own in funds.items():
        expected = oracle_of_wallet(own, [amount for _, amount in days.get(account, [])])
        found = {pocket: amount for pocket, amount in statuses.get(account, {}).items() if amount}
        assert found == expected, f"seed {seed}, {account}"


def test_arrears_wait_for_all_days_that_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage days come one after the other, and one of them may give back what is owed: nobody is locked before."""
    monkeypatch.setattr("pipeline.settlement._SERIES_AT_ONCE", 1)
    core = Core(NOW)
    core.bind([binding("B", "acct"), binding("Z", "other")])
    use(core, "B", 10_000_000, "debt", YESTERDAY)
    settle(core)
    assert core.ledger.accounts["acct"].wallet.owes_since
    for days in (2, 3):
        use(core, "Z", 1, f"other{days}", NOW - timedelta(days=days))
    core.correct([correction(-10_000_000)])
    core.now += 15 * 86_400_000_000
    step(core)
    while settle(core):
        pass
    assert not core.ledger.accounts["acct"].wallet.owes_since
    assert {alert.kind for alert in core.alerts} == {"arrears"}


def test_a_command_whose_outcome_were_no_record_is_refused() -> None:
    """It would stop its partition at every start; what is said of it is no larger than a record, either."""
    core = shop()
    many = tuple(f"{n:0100}" for n in range(120_000))
    account = core.ledger.accounts["acct"]
    assert "too_many_workspaces" in {fault.code for fault in quote(CATALOG, account, order(workspaces=many)).faults}
    core.command(order(workspaces=many))
    step(core)
    assert (last(core).accepted, len(last(core).faults)) == (False, 1_000)
    assert len(encode(last(core))) < MESSAGE_BYTES_MAX
    core.command(order())
    step(core)
    plan = core.ledger.accounts["acct"].packages["o-1"]
    for n in range(150):
        traffic = structs.replace(plan, package=f"t-{n}", kind="traffic", workspaces=many[:1_000], belongs_to="o-1")
        core.ledger.accounts["acct"].put_package(traffic)
    core.command(Amendment("acct", "a-1", "o-1", ("B",), TODAY, "kim", NOW))
    step(core)
    assert [fault.code for fault in last(core).faults] == ["too_many_packages"]
