"""The billing center behind the routes: quotes out of this API's views, and commands that the ledger answers.

The ledger decides alone. A command goes into the account's log as it is, and its outcome is the answer; a quote is the same
function over what this process has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from msgspec import structs

from agents.api.accounts import Account
from agents.api.feed import Feed
from agents.api.ingest import Writer
from agents.api.problems import FieldError, Problem
from agents.commands import account_of, decided, encoded, names_made
from agents.documents import AccountDocuments
from pipeline.account import Account as LedgerAccount
from pipeline.billing import Command, judge
from pipeline.orders import Quote, amended, quote
from pipeline.wallet import Terms, Wallet
from schemas.billing import Amendment, Fault, Order, Outcome
from schemas.catalog import Catalog
from schemas.topics import ACCOUNT_EVENTS

_ANSWER_SECONDS, _SEEN_SECONDS = 15.0, 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command; not `new` when it was carried out before, by an earlier request."""

    outcome: Outcome
    new: bool


class BillingCenter:
    """Quotes and commands of one API process."""

    def __init__(self, catalog: Catalog, writer: Writer, feed: Feed) -> None:
        self._catalog = catalog
        self._writer = writer
        self._feed = feed

    def quote(self, known: Account, order: Order) -> Quote:
        """The price of the order, the packages that it makes, and its faults; those of the payment only if it names one."""
        account = self._account(known)
        quoted = quote(self._catalog, account, order)
        if order.payment:
            price = quoted.price
            quoted = judge(self._catalog, account, structs.replace(order, price=price))
        return quoted

    async def order(self, known: Callable[[], Account], order: Order) -> Answer:
        """Place it; a refusal is a `Problem` with every fault. `known` is the account as this process sees it now."""
        return await self._run(order, lambda: judge(self._catalog, self._account(known()), order).faults)

    async def amend(self, known: Callable[[], Account], amendment: Amendment) -> Answer:
        """Change who shares a package, or end it."""
        return await self._run(amendment, lambda: amended(self._account(known()), amendment).faults)

    async def fund(self, command: Command) -> Answer:
        """Money comes in."""
        return await self._run(command, list)

    async def _run(self, command: Command, expected: Callable[[], Iterable[Fault]]) -> Answer:
        self._require_own_names(command)
        outcome = await decided(lambda: self._submit(command), expected)
        if not outcome.accepted:
            raise refused(outcome.faults)
        first = self._feed.books.first_accepted(command.account, command.id)
        return Answer(outcome, new=first in (None, outcome.version))

    def _require_own_names(self, command: Command) -> None:
        """409 when another account has a package of a name that the command would make; the ledger sees one account alone."""
        for name in names_made(command):
            found = self._feed.packages.get(name)
            if found is not None and found.account != command.account:
                raise Problem(HTTPStatus.CONFLICT, f"the id of package {name!r} is taken")

    async def _submit(self, command: Command) -> Outcome:
        """Write the command, and return once its outcome, and what it made, are in this process's views."""
        books, account = self._feed.books, command.account
        (written,) = await self._writer.write(ACCOUNT_EVENTS, [(account.encode(), encoded(command))])
        version = written.offset  # the version of an account is a place in its log
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._feed.until(lambda: books.outcome(account, version) is not None)
        except TimeoutError:
            text = f"the ledger has not answered yet; to ask again with the id {command.id!r} is safe"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, text, headers={"Retry-After": "1"}) from None
        found = books.outcome(account, version)
        assert found is not None  # noqa: S101  # that was waited for
        with suppress(TimeoutError):
            async with asyncio.timeout(_SEEN_SECONDS):
                await self._feed.until(lambda: self._shows(command, found))
        return found

    def _shows(self, command: Command, outcome: Outcome) -> bool:
        """Other topics of the same transaction may be read a moment later. An amendment moves no money."""
        books, packages = self._feed.books, self._feed.packages
        if any(packages.get(package.package) != package for package in outcome.packages):
            return False
        if not outcome.accepted or isinstance(command, Amendment):
            return True
        first, wallet = books.first_accepted(command.account, command.id), books.wallet(command.account)
        return wallet is not None and wallet.version >= (outcome.version if first is None else first)

    def _account(self, known: Account) -> LedgerAccount:
        """The account as this process sees it, in the ledger's form."""
        bindings = {binding.workspace: binding for binding in known.workspaces}
        packages = {package.package: package for package in known.packages}
        account = account_of(AccountDocuments(known.account, bindings, packages))
        seen = self._feed.books.wallet(known.account)
        if seen is not None:
            terms = {pocket: Terms(t.expires, t.threshold) for pocket, t in seen.terms.items()}
            account.wallet = Wallet(dict(seen.balances), terms, seen.owes_since, seen.locked)
        return account


def refused(faults: Iterable[Fault]) -> Problem:
    """409 for an id that was another command, else 422; with every fault."""
    found = [*faults]
    conflict = any(fault.code == "conflicting_id" for fault in found)
    status = HTTPStatus.CONFLICT if conflict else HTTPStatus.UNPROCESSABLE_ENTITY
    detail = "the id was another command" if conflict else "refused; nothing has changed"
    return Problem(status, detail, [field_error(fault) for fault in found])


def field_error(fault: Fault) -> FieldError:
    """The fault with its place apart."""
    at, mark, text = fault.message.partition(": ")
    if not mark or not at.startswith("$"):
        at, text = "$", fault.message
    return FieldError(at=at, message=text, code=fault.code)
