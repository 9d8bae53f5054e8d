"""State entries: how the ledger is kept in the compacted changelog, as (key, value) pairs.

A checkpoint writes only the entries that changed. Keys are JSON arrays whose first element is the kind:
`["position"]`, `["account", a]`, `["binding", a, workspace]`, `["package", a, package]`, `["wallet", a]`, `["command", a, id]`,
`["passed", a]`, `["correction", a, day, id]`, `["day", a, day]`, `["series", a, day, block]`, `["ids", day, offset, number]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from pipeline.account import BLOCK, Account, Day, Series
from pipeline.alarms import AlarmRow, Alarms
from pipeline.law import ensure
from pipeline.plans import PastPlans
from pipeline.wallet import Terms, Wallet
from schemas.alerting import AlertRules
from schemas.log import Correction
from schemas.wire import Package, WorkspaceBinding

#: A value of None is a tombstone: the entry is gone.
Entry = tuple[bytes, bytes | None]


class Position(Struct, frozen=True):
    """How far the entries go: the first record of `account-events` they do not include, and the oldest day kept."""

    next_offset: int
    floor: date


class AccountState(Struct, frozen=True):
    """As in `Account`. An older changelog has here the bindings, the newest last, the packages and earlier plans, too."""

    newest: str = ""
    rules: AlertRules | None = None
    bindings: list[WorkspaceBinding] = []
    packages: list[Package] = []
    past_plans: dict[str, PastPlans] = {}


class BindingState(Struct, frozen=True):
    """A binding of an account, and its workspace's earlier plans as in `Account`."""

    binding: WorkspaceBinding
    past_plans: PastPlans = []


class DayState(Struct, frozen=True):
    """What is kept of a day beside its series; `burn` as (package, meter, [(minute, used)]). The rest as in `Day`."""

    counted: int
    duplicates: int
    conflicts: int
    burn: list[tuple[str, str, list[tuple[int, int]]]]
    revision: int = 0
    stated: str = ""
    stale: bool = False
    alarms: list[AlarmRow] = []
    paid: dict[str, Decimal] = {}
    paid_apart: dict[str, Decimal] = {}


class WalletState(Struct, frozen=True):
    """The wallet of an account, as in `Wallet`. An older changelog has here all commands that were accepted, too."""

    balances: dict[str, Decimal]
    terms: dict[str, Terms]
    owes_since: date | None
    locked: bool
    fell: tuple[date, int] | None = None
    commands: dict[str, str] = {}


_encode = msgspec.json.encode
_decode_key = msgspec.json.Decoder(list[str | int])
_decode_series = msgspec.json.Decoder(list[Series])
_decode_position = msgspec.json.Decoder(Position)
_decode_passed = msgspec.json.Decoder(dict[int, tuple[int, int]])
_decode_account = msgspec.json.Decoder(AccountState)
_decode_binding = msgspec.json.Decoder(BindingState)
_decode_package = msgspec.json.Decoder(Package)
_decode_command = msgspec.json.Decoder(str)
_decode_correction = msgspec.json.Decoder(Correction)
_decode_wallet = msgspec.json.Decoder(WalletState)
_decode_day = msgspec.json.Decoder(DayState)


def _key(*parts: str | int) -> bytes:
    return _encode(parts)


def position_entry(next_offset: int, floor: date) -> Entry:
    """The entry that says how far all others go."""
    return _key("position"), _encode(Position(next_offset, floor))


def ids_entry(day: int, offset: int, number: int, piece: bytes) -> tuple[bytes, bytes]:
    """An appended piece of the duplicate memory: the `number`th of the checkpoint that ends before `offset`."""
    return _key("ids", day, offset, number), piece


def account_entries(account: Account) -> Iterator[Entry]:
    """The changed entries of the account itself, its bindings, packages and commands."""
    for parts in dict.fromkeys(account.changed):
        state: Struct | str
        match parts:
            case "binding", name:
                state = BindingState(account.bindings[name], account.past_plans.get(name, []))
            case "package", name:
                state = account.packages[name]
            case "command", name:
                state = account.commands[name]
            case _:
                state = AccountState(account.newest, account.rules)
        kind, *names = parts
        yield _key(kind, account.account, *names), _encode(state)
    account.changed.clear()


def day_entries(account: str, when: date, day: Day) -> Iterator[Entry]:
    """The changed entries of a day: its counters, and the blocks of series that changed."""
    name = when.isoformat()
    burn = [(package, meter, samples) for (package, meter), samples in day.burn.items()]
    counters = (day.counted, day.duplicates, day.conflicts)
    stated = (day.revision, day.stated, day.stale)
    state = DayState(*counters, burn, *stated, day.alarms.rows(), day.paid, day.paid_apart)
    yield _key("day", account, name), _encode(state)
    for block in sorted({index // BLOCK for index in day.dirty_series}):
        rows = [
            (s.workspace, s.meter, s.retention_days, s.counted) for s in day.order[block * BLOCK : (block + 1) * BLOCK]
        ]
        yield _key("series", account, name, block), _encode(rows)
    day.dirty_series.clear()


def wallet_entry(account: Account) -> Iterator[Entry]:
    """The wallet's entry if it changed."""
    if account.wallet_dirty:
        account.wallet_dirty = False
        w = account.wallet
        state = WalletState(w.balances, w.terms, w.owes_since, w.locked, w.fell)
        yield _key("wallet", account.account), _encode(state)


def include_wallet(account: Account, value: bytes) -> None:
    """The wallet from its entry."""
    state = _decode_wallet.decode(value)
    account.wallet = Wallet(state.balances, state.terms, state.owes_since, state.locked, state.fell)
    if state.commands:
        account.commands |= state.commands
        account.changed += [("command", name) for name in state.commands]
        account.wallet_dirty = True


def include_command(account: Account, name: str, value: bytes) -> None:
    """The digest of an accepted command from its entry."""
    account.commands[name] = _decode_command.decode(value)


def correction_entries(account: Account) -> Iterator[Entry]:
    """The corrections that are new."""
    for correction in account.new_corrections:
        yield _correction_key(correction), _encode(correction)
    account.new_corrections.clear()


def _correction_key(correction: Correction) -> bytes:
    return _key("correction", correction.account, correction.day.isoformat(), correction.id)


def day_keys(account: Account, when: date) -> Iterator[bytes]:
    """The keys of all entries of a day, to delete them."""
    name = when.isoformat()
    yield _key("day", account.account, name)
    for block in range(-(-len(account.days[when].order) // BLOCK)):
        yield _key("series", account.account, name, block)
    yield from (_correction_key(c) for c in account.corrections.values() if c.day == when)


def parts_of(key: bytes) -> list[Any]:
    """The kind of an entry and what else its key says; pieces of the duplicate memory come in the order of these."""
    return _decode_key.decode(key)


def include_account(account: Account, value: bytes) -> None:
    """The account's own entry."""
    state = _decode_account.decode(value)
    account.newest, account.rules = state.newest, state.rules
    if state.bindings or state.packages:
        _include_older(account, state)


def _include_older(account: Account, state: AccountState) -> None:
    """All of it is in one entry; from the account's next checkpoint on each binding and package has its own."""
    account.past_plans = state.past_plans
    account.changed.append(("account",))
    for binding in state.bindings:
        account.put_binding(binding)
        account.changed.append(("binding", binding.workspace))
    for package in state.packages:
        account.put_package(package)
        account.changed.append(("package", package.package))


def include_binding(account: Account, value: bytes) -> None:
    """A binding from its entry."""
    state = _decode_binding.decode(value)
    account.bindings[state.binding.workspace] = state.binding
    if state.past_plans:
        account.past_plans[state.binding.workspace] = state.past_plans


def include_package(account: Account, value: bytes) -> None:
    """A package from its entry."""
    account.put_package(_decode_package.decode(value))


def include_correction(account: Account, value: bytes) -> None:
    """A correction from its entry."""
    correction = _decode_correction.decode(value)
    account.corrections[correction.id] = correction


def include_day(day: Day, value: bytes) -> None:
    """All of the day but its series from an entry."""
    state = _decode_day.decode(value)
    day.counted, day.duplicates, day.conflicts = state.counted, state.duplicates, state.conflicts
    day.revision, day.stated, day.stale = state.revision, state.stated, state.stale
    day.paid, day.paid_apart = state.paid, state.paid_apart
    if state.burn:
        day.burn = {(package, meter): samples for package, meter, samples in state.burn}
    if state.alarms:
        day.alarms = Alarms.of(state.alarms)


def include_series(day: Day, block: int, value: bytes) -> None:
    """A block of series; blocks come in order."""
    ensure(len(day.order) == block * BLOCK, "series keep their order", block)
    for series in _decode_series.decode(value):
        day.add(series)


def passed_entry(account: Account) -> Entry:
    """How far the account has seen each partition of the usage topic."""
    return _key("passed", account.account), _encode(account.passed)


def decode_passed(value: bytes) -> dict[int, tuple[int, int]]:
    """The positions from their entry."""
    return _decode_passed.decode(value)


def position_of(entries: dict[bytes, bytes]) -> int:
    """The first record of `account-events` that a changelog does not include."""
    value = entries.get(_key("position"))
    return 0 if value is None else decode_position(value).next_offset


def decode_position(value: bytes) -> Position:
    """The position entry."""
    return _decode_position.decode(value)
