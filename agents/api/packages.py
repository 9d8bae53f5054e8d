"""The packages, out of their compacted topic."""

from __future__ import annotations

from agents.parsers import accepted, package_parser
from pipeline.packages import is_overruled
from schemas.catalog import Catalog
from schemas.log import PackageChanged
from schemas.wire import Package


class Packages:
    """Package id -> package, and the same by account. What the inlet refuses is not here either."""

    def __init__(self, catalog: Catalog) -> None:
        self._parse = package_parser(catalog)
        self._packages: dict[str, Package] = {}
        self._of_account: dict[str, dict[str, Package]] = {}

    def get(self, package: str) -> Package | None:
        """The package of this id."""
        return self._packages.get(package)

    def conflict(self, document: Package) -> str | None:
        """Why the document of a package cannot be written, or None: it is another account's, or an order makes it."""
        known = self._packages.get(document.package)
        if known is not None and known.account != document.account:
            return "the id of this package is taken"
        if document.order is not None or (known is not None and known.order is not None):
            return "an order makes this package: amend it by a command"
        return None

    def of(self, account: str) -> list[Package]:
        """The packages of an account."""
        return list(self._of_account.get(account, {}).values())

    def accounts(self) -> list[str]:
        """The accounts that have packages."""
        return list(self._of_account)

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """One record of the topic; a tombstone removes its key."""
        if value is None:
            self._remove((key or b"").decode(errors="replace"))
            return
        event = accepted(self._parse, value)
        if isinstance(event, PackageChanged):
            package = event.package
            if is_overruled(self._packages.get(package.package), package):
                return
            self._remove(package.package)
            self._packages[package.package] = package
            self._of_account.setdefault(package.account, {})[package.package] = package

    def _remove(self, name: str) -> None:
        known = self._packages.pop(name, None)
        if known is not None:
            others = self._of_account[known.account]
            del others[name]
            if not others:
                del self._of_account[known.account]
