"""What the purchase commands share: an account's documents, a quote, and a yes before money moves."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

import typer
from msgspec import structs, to_builtins
from rich.table import Table

from agents.adjust import login_name
from agents.cli_common import console, print_json
from agents.commands import Refused, account_of, names_made, run
from agents.documents import documents_of
from agents.errors import WrongUse
from agents.probe import require_kafka
from agents.settings import Settings
from agents.tables import plain
from pipeline.account import Account
from pipeline.billing import Command
from pipeline.days import day_of, to_micros
from pipeline.orders import quote
from schemas.billing import Fault, Order
from schemas.catalog import Catalog, load_catalog
from schemas.wire import Package


@dataclass(frozen=True, slots=True)
class Known:
    """What a purchase starts from. `taken`: names of other accounts' packages."""

    catalog: Catalog
    account: Account
    taken: frozenset[str]
    now: datetime

    @property
    def today(self) -> date:
        """The account's day."""
        return day_of(to_micros(self.now), self.account.time_zone)

    def require_own_names(self, command: Command) -> None:
        """Raises `WrongUse` when another account has a package of a name that the command would make."""
        if taken := self.taken.intersection(names_made(command)):
            raise WrongUse(f"another account has a package {min(taken)!r}; choose another --id")


def account_now(settings: Settings, name: str) -> Known:
    """The account as its documents show it, and this moment. Raises `WrongUse` for one that nobody knows."""
    require_kafka(settings)
    catalog = load_catalog(settings.catalog)
    documents = asyncio.run(documents_of(settings, catalog, name))
    if not documents.bindings:
        raise WrongUse(f"no workspace is bound to account {name!r}; `drawdown workspace bind` does it")
    return Known(catalog, account_of(documents), documents.taken, datetime.now(UTC))


def amount_of(text: str) -> Decimal:
    """An amount of money as it was typed; raises `WrongUse`."""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise WrongUse(f"{text!r} is no amount of money, like 42000 or 0.50") from None


def pairs_of(options: Iterable[str], option: str) -> dict[str, str]:
    """`name=value` options; raises `WrongUse`."""
    pairs = dict(text.split("=", 1) for text in options if "=" in text)
    if wrong := [text for text in options if "=" not in text]:
        raise WrongUse(f"{option} takes NAME=VALUE, not {', '.join(wrong)}")
    return pairs


def counts_of(options: Iterable[str], option: str) -> dict[str, int]:
    """`name=count` options; raises `WrongUse`."""
    try:
        return {name: int(count) for name, count in pairs_of(options, option).items()}
    except ValueError:
        raise WrongUse(f"{option} takes NAME=COUNT with a whole number") from None


def operator() -> str:
    """Who does it, for the log."""
    return login_name() or "unknown"


def buy(settings: Settings, order: Order, pay: list[str], *, yes: bool, as_json: bool) -> None:
    """Quote the order, ask, send it, and show what it made. Raises `Refused` with every fault, or `WrongUse`."""
    known = account_now(settings, order.account)
    known.require_own_names(order)
    quoted = quote(known.catalog, known.account, order)
    if quoted.faults:
        raise Refused("\n".join(f"{fault.code}: {fault.message}" for fault in quoted.faults))
    payment = {pocket: amount_of(amount) for pocket, amount in pairs_of(pay, "--pay").items()} or {"cash": quoted.price}
    if not as_json:
        console.print(
            packages_table(quoted.packages), f"price [bold]{quoted.price:,} {known.account.currency}[/]", sep="\n"
        )
    confirm(f"Pay {', '.join(f'{amount:,} from {pocket}' for pocket, amount in payment.items())}?", yes=yes)
    conclude(settings, structs.replace(order, price=quoted.price, payment=payment), as_json=as_json)


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; elsewhere `--yes` has to be said."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongUse("this changes something; say --yes")
    typer.confirm(question, abort=True)


def conclude(settings: Settings, command: Command, expected: Iterable[Fault] = (), *, as_json: bool) -> None:
    """Send the command and show its outcome; `expected` are its faults by the documents."""
    outcome = run(settings, command, expected)
    if as_json:
        print_json(to_builtins(outcome))
    else:
        console.print(f"[green]accepted[/] {outcome.id}")


def packages_table(packages: Iterable[Package], **more: Callable[[Package], str]) -> Table:
    """A row a package: what it covers, for whom, and how long; `more` columns by their names."""
    names = ("package", "kind", "workspaces, in order", "quotas a day", "from", "to", "status")
    table = plain(*names, *(n.replace("_", " ") for n in more))
    for column in (table.columns[names.index("quotas a day")], *table.columns[len(names) :]):
        column.no_wrap = True  # their lines belong together
    for p in packages:
        quotas = "\n".join(f"{meter} {quota:,}" for meter, quota in p.quotas.items())
        term = (str(p.effective), str(p.expires), p.status)
        table.add_row(
            p.package, p.plan or p.kind, " > ".join(p.workspaces), quotas, *term, *(of(p) for of in more.values())
        )
    return table
