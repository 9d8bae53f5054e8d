"""Billing: orders, amendments and money that comes in as account events, and what a statement takes from the wallet.

A command is one account event and ends in one `Outcome`: accepted whole, or refused with every fault and nothing changed. Its
`id` makes a repeated one the same one. Money moves in transactions that sum to zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b

from msgspec import structs

from pipeline.account import Account
from pipeline.days import day_of, to_micros
from pipeline.law import ensure
from pipeline.orders import Quote, amended, quote
from pipeline.rating import payable
from pipeline.wallet import ARREARS, BUFFER_DAYS, CASH, POCKETS, Terms
from schemas.billing import (
    Amendment,
    ArrearsDue,
    Fault,
    Funded,
    Order,
    Outcome,
    PocketTerms,
    Posting,
    Transaction,
    WalletStatus,
)
from schemas.catalog import Catalog
from schemas.wire import Package, Statement

Command = Funded | Order | Amendment

_ZERO, _HUNDRED, _CENT = Decimal(0), Decimal(100), Decimal("0.01")
_AMOUNT_MAX = Decimal(10) ** 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: What is said of a refused command, so that it fits into a record.
_FAULTS_MAX = 1_000


@dataclass(slots=True)
class Executed:
    """What a command did: its outcome, the packages that it made or changed, and the money that it moved."""

    outcome: Outcome
    packages: list[Package] = field(default_factory=list)
    money: list[Transaction | WalletStatus] = field(default_factory=list)


def execute(catalog: Catalog, account: Account, command: Command) -> Executed:
    """Carry the command out, or say everything that is wrong with it. Packages are for the caller to put."""
    digest = _digest(command)
    known = account.commands.get(command.id)
    if known == digest:
        return Executed(_outcome(account, command, (), [p for p in account.packages_by_name if p.order == command.id]))
    faults: list[Fault] = []
    postings: dict[str, Decimal] = {}
    packages: list[Package] = []
    if known is not None:
        faults.append(Fault("conflicting_id", f"$.id: {command.id!r} was another command"))
    today = day_of(to_micros(command.at), account.time_zone)
    match command:
        case Funded():
            faults += _funding_faults(account, command, today)
            postings = {} if faults else account.wallet.fund(command.pocket, command.amount)
        case Order():
            judged = judge(catalog, account, command)
            faults += judged.faults
            packages = judged.packages
            if not faults:
                postings = {"packages": command.price} | {pocket: -paid for pocket, paid in command.payment.items()}
        case Amendment():
            changed = amended(account, command)
            faults += changed.faults
            packages = changed.packages
    if faults:
        return Executed(_outcome(account, command, tuple(faults[:_FAULTS_MAX]), []))
    account.commands[command.id] = digest
    account.changed.append(("command", command.id))
    account.wallet_dirty = True
    if isinstance(command, Funded) and command.pocket != "cash":
        account.wallet.terms[command.pocket] = Terms(command.expires, command.threshold)
    account.wallet.apply(postings, today)
    money = list(_moved(account, command.id, postings, command.at))
    return Executed(_outcome(account, command, (), packages), packages, money)


def judge(catalog: Catalog, account: Account, order: Order) -> Quote:
    """What the order would do now, with everything that is wrong with it and with its payment."""
    quoted = quote(catalog, account, order)
    today = day_of(to_micros(order.at), account.time_zone)
    quoted.faults += [*_payment_faults(account, order, quoted.price, today, priced=not quoted.faults)]
    return quoted


def _digest(command: Command) -> str:
    return blake2b(repr(structs.replace(command, at=_EPOCH)).encode(), digest_size=16).hexdigest()


def _outcome(account: Account, command: Command, faults: tuple[Fault, ...], packages: Iterable[Package]) -> Outcome:
    return Outcome(
        account=account.account, id=command.id, accepted=not faults, faults=faults, packages=tuple(packages),
        version=account.version, at=command.at,
    )  # fmt: skip


def _is_amount(amount: Decimal) -> bool:
    """Above zero, at most two decimals, within what a wallet holds."""
    return amount.is_finite() and _ZERO < amount <= _AMOUNT_MAX and amount == amount.quantize(_CENT)


def _funding_faults(account: Account, command: Funded, today: date) -> Iterator[Fault]:
    kind, _, name = command.pocket.partition(":")
    if kind not in POCKETS or (command.pocket != CASH if kind == CASH else not name):
        yield Fault(
            "unknown_pocket", f"$.pocket: {command.pocket!r} is none of cash, card:ID, voucher:ID, threshold:ID"
        )
    elif kind != "cash" and command.pocket in account.wallet.balances:
        yield Fault("pocket_taken", f"$.pocket: there is a {command.pocket!r} already")
    if not _is_amount(command.amount):
        yield Fault("invalid_amount", f"$.amount: {command.amount} is no amount of money above 0")
    elif kind == "card" and command.amount % _HUNDRED:
        yield Fault("not_in_hundreds", f"$.amount: prepaid cards are bought in hundreds, not {command.amount}")
    # What is no number cannot be compared: that raises, and would stop the fold.
    if not command.threshold.is_finite() or (kind == "threshold") != (command.threshold > 0):
        yield Fault("invalid_threshold", "$.threshold: a threshold voucher has one above 0, and nothing else has")
    if command.expires is not None and (kind == "cash" or command.expires < today):
        yield Fault("invalid_expiry", f"$.expires: {command.expires} is over, or cash that ends")


def _payment_faults(account: Account, order: Order, price: Decimal, today: date, *, priced: bool) -> Iterator[Fault]:
    """`priced`: the order could be quoted, so that its price can be judged."""
    # What is no number, or too large for one, raises where it is compared or added up: that would stop the fold.
    amounts = (order.price, *order.payment.values())
    if wrong := [str(amount) for amount in amounts if not amount.is_finite() or abs(amount) > _AMOUNT_MAX]:
        yield Fault("invalid_amount", f"$: {', '.join(wrong)} is no amount of money")
        return
    if priced and order.price != price:
        yield Fault("wrong_price", f"$.price: {price} is the price, not {order.price}")
    if sum(order.payment.values(), _ZERO) != order.price:
        yield Fault("payment_differs", f"$.payment: it does not add up to {order.price}")
    for pocket, amount in order.payment.items():
        if pocket == ARREARS or pocket not in account.wallet.balances:
            yield Fault("unknown_pocket", f"$.payment: the wallet has no {pocket!r}")
        elif not _is_amount(amount):
            yield Fault("invalid_amount", f"$.payment.{pocket}: {amount} is no amount of money above 0")
        elif amount > account.wallet.usable(pocket, today):
            yield Fault("balance_too_small", f"$.payment.{pocket}: {account.wallet.usable(pocket, today)} is usable")
        elif order.price < account.wallet.terms.get(pocket, Terms()).threshold:
            yield Fault(
                "below_threshold", f"$.payment.{pocket}: usable from {account.wallet.terms[pocket].threshold} on"
            )


def _moved(
    account: Account, reference: str, postings: Mapping[str, Decimal], at: datetime
) -> Iterator[Transaction | WalletStatus]:
    """What is said of postings that were applied."""
    if not postings:
        return
    account.wallet_dirty = True
    yield Transaction(
        id=f"{account.account}/{account.version}", account=account.account, reference=reference,
        currency=account.currency, postings=tuple(Posting(name, amount) for name, amount in sorted(postings.items())),
        version=account.version, at=at,
    )  # fmt: skip
    yield status_of(account, at)


def status_of(account: Account, at: datetime) -> WalletStatus:
    """What is in the wallet now."""
    wallet = account.wallet
    return WalletStatus(
        account=account.account, currency=account.currency, balances=dict(sorted(wallet.balances.items())),
        owes_since=wallet.owes_since, locked=wallet.locked, version=account.version, at=at,
        terms={pocket: PocketTerms(t.expires, t.threshold) for pocket, t in sorted(wallet.terms.items())},
    )  # fmt: skip


def deduct(catalog: Catalog, account: Account, statement: Statement) -> Iterator[Transaction | WalletStatus]:
    """Move the difference between the statement and what the day was charged so far.

    SMS and synthetic tests are kept apart: no voucher pays for them.
    """
    day, wallet = account.days[statement.day], account.wallet
    today = day_of(to_micros(statement.at), account.time_zone)
    apart = payable(line for line in statement.lines if not catalog.meters[line.meter].vouchers)
    total: dict[str, Decimal] = {}
    since, locked = wallet.owes_since, wallet.locked
    for paid, amount, vouchers in ((day.paid, statement.amount - apart, True), (day.paid_apart, apart, False)):
        difference = amount - sum(paid.values(), _ZERO)
        if difference > 0:
            postings = wallet.charge(difference, today, vouchers=vouchers)
            taken = {pocket: -moved for pocket, moved in postings.items() if pocket != "usage"}
        else:
            postings, returned = wallet.refund(-difference, paid)
            taken = {pocket: -back for pocket, back in returned.items()}
        wallet.apply(postings, today)
        _add(paid, taken)
        _add(total, postings)
        ensure(sum(paid.values(), _ZERO) == amount, "a day has paid what its statement says", statement.day, paid)
    if since is not None and wallet.owes_since is not None:
        # What one part gives back may clear the debt until the other one takes it: it is the same debt.
        wallet.owes_since, wallet.locked = since, locked
    yield from _moved(account, f"{statement.day}/{statement.revision}", total, statement.at)


def _add(totals: dict[str, Decimal], more: Mapping[str, Decimal]) -> None:
    """Add up by name; what is zero leaves."""
    for name, amount in more.items():
        totals[name] = totals.get(name, _ZERO) + amount
        if not totals[name]:
            del totals[name]


def lock(account: Account, event: ArrearsDue) -> Iterator[WalletStatus]:
    """The buffer is over: lock the account if it has owed ever since."""
    wallet = account.wallet
    if wallet.owes_since == event.since and not wallet.locked:
        wallet.locked = account.wallet_dirty = True
        yield status_of(account, event.at)


def lock_day(since: date) -> date:
    """The first day on which an account that owes since then is locked."""
    return since + timedelta(days=BUFFER_DAYS)
