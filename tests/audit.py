"""What must hold when everything has drained: tables, changelog and oracle agree, and no output contradicts its predecessor."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from agents.kafka import all_records, committed_offsets, newest_values
from agents.settings import Settings
from conftest import Meter
from driver import CATALOG
from oracle import Answer, statements
from pipeline.ledger import Ledger
from schemas.billing import Transaction, WalletStatus
from schemas.log import decode_account_event
from schemas.topics import (
    ACCOUNT_EVENTS,
    ALERTS,
    DEAD_LETTERS,
    LEDGER,
    OVERAGE,
    QUOTA_STATUS,
    STATEMENTS,
    USAGE_TOTALS,
    WALLET_TRANSACTIONS,
    WALLETS,
    Topic,
)
from schemas.wire import Alert, DeadLetter, OverageEvent, QuotaStatus, Statement, UsageTotals
from test_end_to_end import ledger_of
from test_settlement import PRICES

T = TypeVar("T", bound=msgspec.Struct)


def unequal(what: str, expected: dict[Any, Any], found: dict[Any, Any]) -> list[str]:
    """The entries that differ, as text."""
    keys = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    return [f"{what} {key}: expected {expected.get(key)}, found {found.get(key)}" for key in sorted(keys, key=str)]


def positive(entries: dict[Any, Any]) -> dict[Any, Any]:
    """An amount of 0 may be said or not."""
    return {key: amount for key, amount in entries.items() if amount}


def settled_amounts(expected: Answer, zones: dict[str, str]) -> dict[tuple[str, date], Any]:
    """The payable amount of every day that is over in its account's zone."""
    today = {account: datetime.now(UTC).astimezone(ZoneInfo(zone)).date() for account, zone in zones.items()}
    amounts = statements(expected, dict(CATALOG.meters), PRICES)
    return {(account, day): amount for (account, day), amount in amounts.items() if day < today[account]}


def table_differences(meter: Meter, expected: Answer, zones: dict[str, str]) -> list[str]:
    """Where ClickHouse does not say what the oracle says."""
    found = ledger_of(meter)
    stated = {(a, d): amount for a, d, amount in meter.rows("SELECT account, day, amount FROM statements_newest")}
    unsettled = [
        (key, "not settled")
        for key in meter.rows("SELECT DISTINCT account, day FROM overage WHERE quantity AND NOT settled")
        if key in stated
    ]
    return [
        *unequal("outcome", positive(expected.outcomes), positive(found.outcomes)),
        *unequal("total", expected.totals, found.totals),
        *unequal("covered", positive(expected.covered), positive(found.covered)),
        *unequal("overage", positive(expected.overage), positive(found.overage)),
        *unequal("statement", settled_amounts(expected, zones), stated),
        *unequal("overage of a settled day", {}, dict(unsettled)),
    ]


async def state_differences(settings: Settings, expected: Answer) -> list[str]:
    """Where the state that the next owner would restore is not what the oracle says, or does not fit the log."""
    totals: dict[Any, int] = {}
    differences: list[str] = []
    log = settings.topic_prefix + ACCOUNT_EVENTS.name
    offsets = await committed_offsets(settings, settings.group, [(log, p) for p in range(settings.partitions)])
    for partition in range(settings.partitions):
        ledger = Ledger(CATALOG, settings.horizon_days)
        ledger.restore(await newest_values(settings, settings.topic_prefix + LEDGER.name, partition))
        last = max([r.offset async for records in all_records(settings, log, partition) for r in records], default=-1)
        places = {last + 1, ledger.next_offset, offsets.get((log, partition), 0)}
        if len(places) > 1:
            differences.append(f"log {partition}: end, state and committed offset are {places}")
        for name, account in ledger.accounts.items():
            for day, kept in account.days.items():
                totals |= {(name, day, *series.key): series.total for series in kept.order}
    return differences + unequal("state", expected.totals, totals)


async def output_faults(
    settings: Settings, expected: Answer, packages: list[dict[str, Any]], zones: dict[str, str]
) -> list[str]:
    """Every output topic from its first record on, as a reader of committed records sees it."""
    faults: list[str] = []
    for topic, kind, name in (
        (OVERAGE, OverageEvent, lambda o: (o.account, o.day, o.workspace, o.meter, o.basis, o.retention_days)),
        (QUOTA_STATUS, QuotaStatus, lambda q: (q.account, q.day, q.meter, q.package)),
        (USAGE_TOTALS, UsageTotals, lambda t: (t.account, t.day)),
    ):
        newest: dict[Any, Any] = {}
        async for one in outputs(settings, topic, kind):
            before = newest.get(name(one))
            if before is not None and (
                one.version < before.version or (one.version == before.version and one != before)
            ):
                faults.append(f"{topic.name}: {one} after {before}")
            newest[name(one)] = one
    faults += await refold_faults(settings)
    faults += alert_faults([alert async for alert in outputs(settings, ALERTS, Alert)], expected, packages, zones)
    letters = [
        (d.topic, d.partition, d.offset, d.index, d.reason) async for d in outputs(settings, DEAD_LETTERS, DeadLetter)
    ]
    faults += [f"dead letter {letter} {count} times" for letter, count in Counter(letters).items() if count > 1]
    faults += statement_faults([s async for s in outputs(settings, STATEMENTS, Statement)], expected, zones)
    moved = [t async for t in outputs(settings, WALLET_TRANSACTIONS, Transaction)]
    return faults + money_faults(moved, [w async for w in outputs(settings, WALLETS, WalletStatus)], expected, zones)


async def refold_faults(settings: Settings) -> list[str]:
    """The log folded once more, without a cut, fires the very same alerts. Forecasts look at the clock, so not they."""
    found = [alert async for alert in outputs(settings, ALERTS, Alert)]
    expected: dict[str, str] = {}
    for partition in range(settings.partitions):
        ledger = Ledger(CATALOG, settings.horizon_days)
        async for records in all_records(settings, settings.topic_prefix + ACCOUNT_EVENTS.name, partition):
            ledger.fold_all((record.offset, decode_account_event(record.value)) for record in records)
        outs = ledger.checkpoint(time.time_ns() // 1000).outputs
        expected |= {alert.id: _text(alert) for _, _, alert in outs if isinstance(alert, Alert)}
    return unequal("alert", expected, {a.id: _text(a) for a in found if a.kind != "forecast"})


def _text(alert: Alert) -> str:
    return f"{alert.account} {alert.day} {alert.meter} {alert.package} {alert.threshold} {alert.firing}"


def alert_faults(
    found: list[Alert], expected: Answer, packages: list[dict[str, Any]], zones: dict[str, str]
) -> list[str]:
    """No alert twice, no firing left out, and today none is missing for a threshold that is reached in the end."""
    faults = [f"alert {one} {count} times" for one, count in Counter(a.id for a in found).items() if count > 1]
    firings: dict[Any, list[int]] = defaultdict(list)
    for one in found:
        name = one.account, one.day, one.kind, one.meter, one.package, one.threshold
        firings[name].append(one.firing)
    for name, numbers in firings.items():
        if numbers != list(range(1, len(numbers) + 1)):
            faults.append(f"alert {name}: firings {numbers}")
    used: dict[Any, int] = defaultdict(int)
    for (account, day, meter, package, _), covered in expected.covered.items():
        used[account, day, meter, package] += covered
    quotas = {(p["package"], meter): quota for p in packages for meter, quota in p["quotas"].items()}
    for (account, day, meter, package), amount in used.items():
        over = day < datetime.now(UTC).astimezone(ZoneInfo(zones[account])).date()
        for threshold in (Decimal("0.8"), Decimal("0.9"), Decimal(1)):
            name = account, day, "threshold", meter, package, threshold
            if not over and 0 < threshold * quotas[package, meter] <= amount and name not in firings:
                faults.append(f"no alert {name}")
    return faults


def statement_faults(found: Iterable[Statement], expected: Answer, zones: dict[str, str]) -> list[str]:
    """Revisions of a day are 1, 2, ... each once and in order, each replaces its predecessor; the last one is the oracle's."""
    faults: list[str] = []
    chains: dict[tuple[str, date], list[Statement]] = defaultdict(list)
    for one in (one for one in found if not one.part):
        chain = chains[one.account, one.day]
        chain.append(one)
        if one.revision != len(chain) or one.replaces != (one.revision - 1 or None):
            faults.append(f"statement {one.account} {one.day}: revision {one.revision} at place {len(chain)}")
        if len(chain) > 1 and chain[-2].version >= one.version:
            faults.append(f"statement {one.account} {one.day}: version {one.version} after {chain[-2].version}")
    last = {name: chain[-1].amount for name, chain in chains.items()}
    return faults + unequal("last statement", settled_amounts(expected, zones), last)


def money_faults(
    moved: list[Transaction], wallets: list[WalletStatus], expected: Answer, zones: dict[str, str]
) -> list[str]:
    """Every transaction once and in balance; each account has paid what its days cost, and its wallet says so."""
    faults = [f"transaction {one} {count} times" for one, count in Counter(t.id for t in moved).items() if count > 1]
    faults += [f"out of balance: {t}" for t in moved if sum(p.amount for p in t.postings)]
    costs: dict[str, Decimal] = defaultdict(Decimal)
    for (account, _), amount in settled_amounts(expected, zones).items():
        costs[account] += amount
    paid: dict[str, Decimal] = defaultdict(Decimal)
    for one in moved:
        paid[one.account] += sum(p.amount for p in one.postings if p.account == "usage")
    newest: dict[str, WalletStatus] = {}
    for wallet in wallets:
        if wallet.account in newest and wallet.version <= newest[wallet.account].version:
            faults.append(f"{wallet} after {newest[wallet.account]}")
        newest[wallet.account] = wallet
    balances = {account: -sum(wallet.balances.values()) for account, wallet in newest.items()}
    return (
        faults + unequal("paid", positive(costs), positive(paid)) + unequal("owed", positive(costs), positive(balances))
    )


async def outputs(settings: Settings, topic: Topic, kind: type[T]) -> AsyncIterator[T]:
    """The values of a topic, partition by partition."""
    decoder = msgspec.json.Decoder(kind)
    for partition in range(settings.partitions if topic.partitioned else 1):
        async for records in all_records(settings, settings.topic_prefix + topic.name, partition):
            for record in records:
                if record.value is not None:
                    yield decoder.decode(record.value)


def faults_in_kafka(meter: Meter, expected: Answer, packages: list[dict[str, Any]], zones: dict[str, str]) -> list[str]:
    """Everything that can be seen in Kafka."""

    async def everything() -> list[str]:
        return [
            *await state_differences(meter.settings, expected),
            *await output_faults(meter.settings, expected, packages, zones),
        ]

    return asyncio.run(everything())
