"""What the topics `workspaces` and `packages` say of one account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from agents.kafka import all_records
from agents.parsers import accepted, binding_parser, package_parser
from agents.settings import Settings
from pipeline.packages import is_overruled
from schemas.catalog import Catalog
from schemas.log import AccountEvent, Bound, PackageChanged
from schemas.topics import PACKAGES, WORKSPACES, Topic
from schemas.wire import Package, WorkspaceBinding


@dataclass(frozen=True, slots=True)
class AccountDocuments:
    """The account's bindings, oldest first, and its packages; the newest of each that was valid.

    `taken`: names of packages of other accounts.
    """

    account: str
    bindings: dict[str, WorkspaceBinding]
    packages: dict[str, Package]
    taken: frozenset[str] = frozenset()

    @property
    def _newest(self) -> WorkspaceBinding:
        """Time zone, currency and site are the account's: the binding of the newest date has them."""
        return next(reversed(self.bindings.values()), WorkspaceBinding("-", self.account))

    @property
    def time_zone(self) -> str:
        """IANA name; UTC without any binding."""
        return self._newest.time_zone

    @property
    def currency(self) -> str:
        """The account's currency."""
        return self._newest.currency

    @property
    def site(self) -> str:
        """The account's site: it chooses the price list."""
        return self._newest.site


async def documents_of(settings: Settings, catalog: Catalog, account: str) -> AccountDocuments:
    """Both topics, read whole; raises `KafkaError`.

    As in the ledger, a package stays when its record is deleted, and one that an order made is not changed by a document.
    """
    bindings: dict[str, WorkspaceBinding] = {}
    packages: dict[str, Package] = {}
    taken: set[str] = set()
    async for event in _valid(settings, WORKSPACES, binding_parser(catalog)):
        if isinstance(event, Bound):
            bindings.pop(event.binding.workspace, None)
            if event.account == account:
                bindings[event.binding.workspace] = event.binding
    async for event in _valid(settings, PACKAGES, package_parser(catalog)):
        if not isinstance(event, PackageChanged):
            continue
        package = event.package
        if package.account != account:
            taken.add(package.package)
            continue
        known = packages.get(package.package)
        if not is_overruled(known, package):
            packages[package.package] = package
    return AccountDocuments(account, bindings, packages, frozenset(taken))


async def _valid(
    settings: Settings, topic: Topic, parse: Callable[[bytes], AccountEvent]
) -> AsyncIterator[AccountEvent]:
    """The documents in their order; what the inlets refuse is left out."""
    async for records in all_records(settings, settings.topic_prefix + topic.name, 0):
        for record in records:
            event = None if record.value is None else accepted(parse, record.value)
            if event is not None:
                yield event
