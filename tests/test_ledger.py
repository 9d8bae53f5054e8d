"""The laws of the ledger, on seeded random worlds against the independent oracle."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from agents.parsers import DOCUMENT_BYTES_MAX, accepted, package_parser
from driver import CATALOG, Core, essence, packed, run
from oracle import answer
from pipeline.account import Account, Drawn
from pipeline.entries import parts_of
from pipeline.law import LawBroken
from pipeline.ledger import Ledger
from schemas.billing import Funded
from schemas.catalog import Catalog
from schemas.log import Usage, encode_account_event
from schemas.topics import MESSAGE_BYTES_MAX
from schemas.wire import OverageEvent, QuotaStatus, WorkspaceBinding, encode
from world import binding, event, make_world, package

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY_MICROS = 86_400_000_000


@pytest.mark.parametrize("seed", range(25))
def test_the_stream_equals_the_batch_answer(seed: int) -> None:
    """Random batching, checkpoints and crashes in between: totals, allocations, overage and outcomes equal the oracle's."""
    world = make_world(seed, NOW)
    expected = answer(world.records, world.bindings, world.packages, dict(CATALOG.meters), NOW)
    core = run(world, NOW, random.Random(seed))
    assert essence(expected) == essence(core.view), f"seed {seed}"
    assert sum(expected.outcomes.values()) == sum(core.view.outcomes.values()), f"seed {seed}: law 7"


@pytest.mark.parametrize("seed", range(25))
def test_crashes_change_nothing(seed: int) -> None:
    """After crashes between any two steps the ledger's totals and outputs are those of a run without."""
    world = make_world(seed, NOW)
    plain, crashed = run(world, NOW), run(world, NOW, random.Random(seed), crashes=True)
    assert plain.ledger.digest() == crashed.ledger.digest(), f"seed {seed}"
    assert essence(plain.view)[:3] == essence(crashed.view)[:3], f"seed {seed}"


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_arrival_does_not_matter(seed: int) -> None:
    """Law 6: the same valid events in another order, with duplicates, give the same ledger, byte for byte."""
    world = make_world(seed, NOW)
    clean = {}
    for _, _, key, value in world.records:
        try:
            document = json.loads(value)
        except ValueError:
            continue
        if isinstance(document, dict) and "id" in document:
            clean.setdefault(document["id"], (key, value))
    values = list(clean.values())
    digests = set()
    for shuffle in range(3):
        rng = random.Random(shuffle)
        again = rng.sample(values, len(values)) + rng.choices(values, k=50)
        world.records = [(0, offset, key, value) for offset, (key, value) in enumerate(again)]
        digests.add(run(world, NOW, rng).ledger.digest())
    assert len(digests) == 1, f"seed {seed}"


@pytest.mark.parametrize("first", ["A", "B"])
def test_the_purchase_page_in_both_orders(first: str) -> None:
    """Example 4.3: A covered 100M, B covered 50M, B overage 50M, whoever comes first."""
    core = Core(NOW)
    core.bind([binding("A", "acct"), binding("B", "acct")])
    core.buy([package("p", "acct", ["A", "B"], {"logs": 150_000_000}, NOW)])
    for offset, workspace in enumerate([first, "B" if first == "A" else "A"]):
        value = json.dumps(event(workspace, "logs", 100_000_000, workspace, NOW)).encode()
        core.send([(0, offset, workspace.encode(), value)])
        core.fold()
        core.checkpoint()
    day = NOW.date()
    assert core.view.covered == {
        ("acct", day, "logs", "p", "A"): 100_000_000,
        ("acct", day, "logs", "p", "B"): 50_000_000,
    }
    assert {k: v for k, v in core.view.overage.items() if v} == {
        ("acct", day, "B", "logs", "package", None): 50_000_000
    }


def test_a_package_bought_at_noon_turns_payg_into_allocation() -> None:
    """The pay-as-you-go total becomes 0 in a newer version, also when the worker restarted before the purchase."""
    core = Core(NOW)
    core.bind([binding("A", "acct")])
    core.send([(0, 0, b"A", json.dumps(event("A", "logs", 70, "1", NOW)).encode())])
    core.fold()
    core.checkpoint()
    core.crash()
    core.buy([package("p", "acct", ["A"], {"logs": 50}, NOW)])
    core.fold()
    core.checkpoint()
    day = NOW.date()
    assert core.view.overage == {
        ("acct", day, "A", "logs", "payg", 14): 0,
        ("acct", day, "A", "logs", "package", None): 20,
    }
    assert core.view.covered == {("acct", day, "logs", "p", "A"): 50}


def test_an_unused_package_shows_its_whole_quota() -> None:
    """A purchase alone gives a quota status with nothing used."""
    core = Core(NOW)
    core.bind([binding("A", "acct")])
    core.buy([package("p", "acct", ["A"], {"logs": 50}, NOW)])
    core.fold()
    core.checkpoint()
    assert core.view.covered == {("acct", NOW.date(), "logs", "p", "A"): 0}


def use(core: Core, offset: int, quantity: int, at: datetime, identity: str = "") -> None:
    """One event of A, counted."""
    value = event("A", "logs", quantity, identity or str(offset), at)
    core.send([(0, offset, b"A", json.dumps(value).encode())])
    core.fold()
    core.checkpoint()


def test_expired_days_leave_the_state() -> None:
    """Days past the horizon are deleted from the state once they are stated, and an event for them is a dead letter."""
    core = Core(NOW)
    core.bind([binding("A", "acct")])
    use(core, 1, 7_000_000, NOW - timedelta(days=30))
    before, old = set(core.entries), core.log[-1]
    core.now += 20 * DAY_MICROS  # all workers were away meanwhile: the day was never due before
    use(core, 2, 1, NOW + timedelta(days=20))
    core.log.append(old)
    core.fold()
    core.checkpoint()
    assert core.view.outcomes["too_late"] == 1
    assert core.settle() == 1
    core.fold()
    core.checkpoint()
    ((statement,),) = core.statements.values()
    assert statement.amount == Decimal("10.5")
    core.now += DAY_MICROS
    use(core, 3, 1, NOW + timedelta(days=21))
    assert set(core.ledger.accounts["acct"].days) == {(NOW + timedelta(days=days)).date() for days in (20, 21)}
    assert before - set(core.entries)


@pytest.mark.parametrize("crash", [False, True])
def test_a_clock_that_is_ahead_once_makes_nothing_forgotten(crash: bool) -> None:
    """Days leave the state when usage, too, is past their horizon: old days still count, and know what they have counted."""
    core = Core(NOW)
    core.bind([binding("A", "acct")])
    use(core, 1, 5, NOW)
    core.settle()
    core.now += 4_000 * DAY_MICROS
    core.settle()
    core.bind([binding("A", "acct")])
    core.fold()
    core.checkpoint()
    core.now -= 4_000 * DAY_MICROS
    if crash:
        core.crash()
    use(core, 2, 7, NOW)
    use(core, 3, 5, NOW, identity="1")
    assert core.view.outcomes == {"counted": 2, "duplicate": 1}
    assert list(core.view.totals.values()) == [12]


def test_usage_before_its_first_binding_is_priced_as_bound() -> None:
    """The router knows a binding before the log has it; a checkpoint between the two says another currency, and the next one mends it."""
    core = Core(NOW)
    bound = binding("A", "acct", site="us", currency="USD")
    core.router.bind(msgspec.convert(bound, WorkspaceBinding))
    core.send([(0, 0, b"A", json.dumps(event("A", "logs", 5_000_000, "1", NOW)).encode())])
    core.fold()
    core.checkpoint()
    core.crash()
    core.bind([bound])
    core.fold()
    core.checkpoint()
    assert [(o.site, o.currency, o.quantity) for o in core.all(OverageEvent)][-1] == ("us", "USD", 5_000_000)


def test_a_broken_law_stops() -> None:
    """A total that falls by usage is a breach, not a log line."""
    ledger = Ledger(CATALOG, 35)
    day = NOW.date()
    one = packed(at=[0], quantities=[5], micros=[1], offsets=[0], indexes=[-1], identities=[(0, 0)])
    good = Usage("a", 0, [("w", day, "logs", 14)], **one)
    ledger.fold(0, good)
    ledger.accounts["a"].days[day].published["logs"].overage["w", 14] = 99  # type: ignore[index]
    with pytest.raises(LawBroken, match="law 5"):
        ledger.checkpoint(0)


def test_a_replay_of_routing_changes_not_even_a_counter() -> None:
    """The same routed batches once more, also after a restart: nothing is counted, a duplicate or a dead letter again."""
    core = Core(NOW)
    core.bind([binding("A", "acct")])
    values = [event("A", "logs", 5, "1", NOW), event("A", "logs", 5, "1", NOW), event("A", "logs", 6, "1", NOW)]
    records = [(0, offset, b"A", json.dumps(value).encode()) for offset, value in enumerate(values)]
    core.send(records)
    core.fold()
    core.checkpoint()
    before = dict(core.view.outcomes)
    assert before == {"counted": 1, "duplicate": 1, "conflicting_duplicate": 1}
    core.crash()
    core.send(records)
    core.fold()
    core.checkpoint()
    assert dict(core.view.outcomes) == before
    core.send([(0, 0, b"A", json.dumps(event("A", "logs", 7, "new", NOW)).encode())])
    core.fold()
    core.checkpoint()
    assert core.view.outcomes["counted"] == 2, "a usage topic that was made anew starts at 0 again, and loses nothing"


def test_each_binding_and_package_has_an_entry_of_its_own() -> None:
    """A change rewrites that entry only, so that an account of any size costs what changes, and no entry outgrows a record."""
    core = Core(NOW)
    core.bind(binding(f"w{n}", "acct") for n in range(100))
    core.buy(package(f"p{n}", "acct", [f"w{n}"], {"logs": 5}, NOW) for n in range(100))
    core.fold()
    core.checkpoint()
    core.bind([binding("w7", "acct", name="Shop")])
    core.fold()
    found = [parts_of(key) for key, _ in core.ledger.checkpoint(core.now).entries]
    own = [parts for parts in found if parts[0] in {"account", "binding", "package"}]
    assert own == [["account", "acct"], ["binding", "acct", "w7"]]


@pytest.mark.parametrize("crash", [False, True])
def test_an_account_whose_entry_is_of_before_is_restored_whole(crash: bool) -> None:
    """It had its bindings, packages and earlier plans in it, and its wallet's had the commands; after a checkpoint they have their own."""
    core = Core(NOW)
    core.bind([binding("A", "acct", "Asia/Shanghai"), binding("B", "acct", "Asia/Shanghai")])
    core.buy([package("p", "acct", ["A", "B"], {"logs": 50}, NOW)])
    core.fold()
    core.now += DAY_MICROS
    core.bind([binding("A", "acct", "Asia/Tokyo", plan="free")])
    core.command(
        Funded("acct", "f-1", "cash", Decimal(5), "kim", NOW), Funded("acct", "f-2", "cash", Decimal(2), "kim", NOW)
    )
    core.fold()
    core.checkpoint()
    known = core.ledger.accounts["acct"]
    b, a = known.bindings["B"], known.bindings["A"]
    kinds = {"account", "binding", "package", "wallet", "command"}
    new = {key: value for key, value in core.entries.items() if parts_of(key)[0] in kinds}
    assert {parts_of(key)[0] for key in new} == kinds
    wallet = msgspec.json.decode(new[b'["wallet","acct"]']) | {"commands": known.commands}
    for key in new:
        del core.entries[key]
    old = {"bindings": [b, a], "packages": [*known.packages.values()], "past_plans": known.past_plans}
    core.entries[b'["account","acct"]'] = msgspec.json.encode(old)
    core.entries[b'["wallet","acct"]'] = msgspec.json.encode(wallet)
    core.crash()
    if crash:
        use(core, 1, 5, NOW)
        assert new.items() <= core.entries.items()
        core.crash()
    restored = core.ledger.accounts["acct"]
    for name in ("bindings", "packages", "past_plans", "time_zone", "prices", "rules", "commands", "wallet"):
        assert getattr(restored, name) == getattr(known, name), name


@pytest.mark.parametrize(("name", "most"), [("ws-{:06}", 180_000), ("\x01" * 250 + "{:06}", 5_200)])
def test_a_package_whose_quota_status_were_no_record_is_refused(name: str, most: int) -> None:
    """Its status would stop the partition at every start. What fits does, however many they are."""
    parse = package_parser(CATALOG)
    document = package("p", "acct", [name.format(n) for n in range(most)], {"logs": 10**18}, NOW)
    core = Core(NOW)
    core.log.append(encode_account_event(parse(json.dumps(document).encode())))
    core.fold()
    sizes = [len(encode(o)) for _, _, o in core.ledger.checkpoint(core.now).outputs if isinstance(o, QuotaStatus)]
    assert sizes
    assert max(sizes) < MESSAGE_BYTES_MAX
    document["workspaces"] = [name.format(n) for n in range(3 * most)]
    value = json.dumps(document).encode()
    assert accepted(parse, value) is None
    if len(value) <= DOCUMENT_BYTES_MAX:
        with pytest.raises(ValueError, match="quota status"):
            parse(value)


def test_what_changes_no_figure_draws_none_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bindings amid usage, their plans too, and a package of other days: else each costs a walk through all of its account."""
    core = Core(NOW)
    core.bind([binding("A", "acct")])
    core.buy([package("q", "acct", ["A"], {"logs": 5}, NOW)])
    use(core, 1, 5, NOW)
    drawn: list[str] = []
    draw = Account.draw

    def watched(account: Account, catalog: Catalog, day: date, meter: str) -> Drawn:
        drawn.append(meter)
        return draw(account, catalog, day, meter)

    monkeypatch.setattr(Account, "draw", watched)
    for n in range(50):
        core.bind([binding(f"w{n}", "acct", retention_days={"logs": 30}, plan="free"), binding(f"w{n}", "acct")])
        core.bind([binding("A", "acct", plan=("free", "commercial")[n % 2])])
        core.send([(0, 2 + n, b"A", json.dumps(event("A", "logs", 7, f"n{n}", NOW)).encode())])
    core.fold()
    assert drawn == []
    core.buy([package("p", "acct", ["A"], {"logs": 5}, NOW, effective="2026-11-26")])
    core.fold()
    assert drawn == ["logs"], "alerts are decided before it, and nothing was to be decided after it"


def test_a_change_of_the_plan_touches_no_day_before_it() -> None:
    """Nor is a statement made anew for nothing."""
    core = Core(NOW)
    core.bind([binding("A", "acct")])
    for days in range(1, 5):
        use(core, days, 5, NOW - timedelta(days=days))
    use(core, 5, 5, NOW)
    assert core.settle() == 4
    core.fold()
    core.checkpoint()
    core.bind([binding("A", "acct", plan="free")])
    core.fold()
    assert core.ledger.accounts["acct"].dirty_days == {NOW.date()}
    core.checkpoint()
    assert core.settle() == 0
