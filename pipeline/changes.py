"""What the events of an account's log do that are no usage: documents, settlements, corrections, commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

from pipeline.account import Account
from pipeline.alerts import decide_all, has_amounts, reconsider, warn_of_debt, warn_of_lock
from pipeline.billing import Command, deduct, execute, lock
from pipeline.checkpoint import Refused
from pipeline.corrections import correct
from pipeline.days import day_of, to_micros
from pipeline.law import ensure
from pipeline.outputs import Output
from pipeline.packages import is_echo, put_package
from pipeline.routing import SINGLE
from pipeline.settlement import Calendar, records_of, state_day
from schemas.billing import Amendment, ArrearsDue, Funded, Order, Transaction, WalletStatus
from schemas.catalog import Catalog
from schemas.log import AccountEvent, AlertRulesChanged, Bound, Correction, DaySettled, PackageChanged
from schemas.reasons import Reason
from schemas.topics import ORDERS, PACKAGES, WALLET_TRANSACTIONS, WALLETS
from schemas.wire import Package


@dataclass(slots=True)
class Said:
    """What the events since the last checkpoint said by themselves, refused, and whose packages they changed."""

    outputs: list[Output] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    packages_of: set[str] = field(default_factory=set)


class Changes:
    """Applies them, one after the other, and keeps what they said until the next checkpoint."""

    def __init__(self, catalog: Catalog) -> None:
        self.calendar = Calendar()
        self._catalog = catalog
        self._said = Said()

    def collect(self) -> Said:
        """What was said since the last call."""
        said, self._said = self._said, Said()
        return said

    def apply(self, account: Account, event: AccountEvent, offset: int, floor: date) -> None:
        """Change the account by the event at `offset`; `floor` is the oldest day kept."""
        decides = _may_lower(account, event)
        if decides:
            decide_all(self._catalog, account)
        owed_since = account.wallet.owes_since
        match event:
            case Bound():
                self._bind(account, event)
            case PackageChanged():
                self._package(account, event.package, offset)
            case DaySettled():
                self._settle(account, event)
            case Funded() | Order() | Amendment():
                self._execute(account, event)
            case ArrearsDue():
                self._lock(account, event)
            case Correction():
                self._correct(account, event, offset, floor)
            case AlertRulesChanged():
                account.rules = event.rules
                account.changed.append(("account",))
                reconsider(self._catalog, account)
            case _:
                ensure(False, "every account event is of a known kind", offset)
        warn_of_debt(account, owed_since)
        if decides:
            decide_all(self._catalog, account)

    def _bind(self, account: Account, event: Bound) -> None:
        binding, zone, since = event.binding, account.time_zone, _since(event)
        workspace = None if account.reprices_all(binding) else binding.workspace
        for when in account.days_repriced(binding, since):
            self._reprice(account, when, workspace)
        account.bind(binding, since)
        if account.time_zone != zone:
            self.calendar.moved(account)

    def _reprice(self, account: Account, when: date, workspace: str | None) -> None:
        """What the workspace, or all of them, used that day is about to cost something else."""
        day = account.days[when]
        for meter in list(day.by_meter):
            tiers = self._catalog.meters[meter].factors
            if workspace is None or any((workspace, meter, tier) in day.series for tier in tiers):
                account.touch(self._catalog, when, meter).stale = True

    def _settle(self, account: Account, event: DaySettled) -> None:
        statement = state_day(self._catalog, account, event)
        if statement is not None:
            self._said.outputs += records_of(statement)
            self._money(account, deduct(self._catalog, account, statement))
        self.calendar.folded(event)

    def _lock(self, account: Account, event: ArrearsDue) -> None:
        locked = list(lock(account, event))
        if locked:
            warn_of_lock(account, day_of(to_micros(event.at), account.time_zone))
        self._money(account, locked)
        self.calendar.folded(event)

    def _correct(self, account: Account, event: Correction, offset: int, floor: date) -> None:
        refusal = correct(self._catalog, account, event, floor)
        if refusal is not None:
            self._refuse(offset, *refusal)

    def _refuse(self, offset: int, reason: Reason, message: str) -> None:
        self._said.refused.append(Refused(None, offset, SINGLE, reason, message))

    def _package(self, account: Account, package: Package, offset: int) -> None:
        echo = is_echo(account, package)
        if echo is None:
            message = f"$.package: {package.package!r} belongs to an order: amend it by a command"
            self._refuse(offset, Reason.INVALID_FIELD, message)
        elif not echo:
            self._put(account, package)

    def _put(self, account: Account, package: Package) -> None:
        put_package(self._catalog, account, package)
        self._said.packages_of.add(account.account)

    def _execute(self, account: Account, command: Command) -> None:
        executed = execute(self._catalog, account, command)
        for package in executed.packages:
            self._put(account, package)
        self._said.outputs += ((PACKAGES, package.package, package) for package in executed.packages)
        self._said.outputs.append((ORDERS, account.account, executed.outcome))
        self._money(account, executed.money)

    def _money(self, account: Account, moved: Iterable[Transaction | WalletStatus]) -> None:
        topics = {WalletStatus: WALLETS, Transaction: WALLET_TRANSACTIONS}
        self._said.outputs += ((topics[type(one)], account.account, one) for one in moved)


def _since(event: Bound) -> date | None:
    """The first day, the account's, on which a change of the plan holds."""
    return None if event.at is None else day_of(to_micros(event.at), event.binding.time_zone)


def _may_lower(account: Account, event: AccountEvent) -> bool:
    """Whether it may lower a figure that alerts look at: money lowers none, and a binding only what use costs."""
    if isinstance(event, Bound):
        return has_amounts(account) and bool(account.days_repriced(event.binding, _since(event)))
    return not isinstance(event, Funded)
