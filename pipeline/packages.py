"""Packages of an account: what a new or changed one touches."""

from __future__ import annotations

import msgspec

from pipeline.account import Account
from pipeline.days import day_of
from schemas.catalog import Catalog
from schemas.topics import MESSAGE_BYTES_MAX
from schemas.wire import NAME_CHARS_MAX, Package, WorkspaceShare

#: JSON of a share with the longest name, and what all shares of a quota status may have; more than a workspace demands in a day.
_SHARE_BYTES_MAX, _SHARES_BYTES_MAX, _DEMAND_MAX = 6 * NAME_CHARS_MAX + 128, MESSAGE_BYTES_MAX - 16 * 1024, 2**64


def has_status(package: Package) -> bool:
    """Whether its quota status, with a share of each workspace, is no larger than a record may be."""
    if len(package.workspaces) * _SHARE_BYTES_MAX < _SHARES_BYTES_MAX:
        return True
    shares = [WorkspaceShare(name, _DEMAND_MAX, _DEMAND_MAX) for name in package.workspaces]
    return len(msgspec.json.encode(shares)) < _SHARES_BYTES_MAX


def put_package(catalog: Catalog, account: Account, package: Package) -> None:
    """A package changes the waterfall of every day of the state that it covers, or did before the change."""
    both = package, account.packages.get(package.package, package)
    for day in account.days:
        for meter in {meter for one in both if one.effective <= day <= one.expires for meter in one.quotas}:
            account.touch(catalog, day, meter).stale = True
    account.put_package(package)
    account.changed.append(("package", package.package))


def open_today(catalog: Catalog, account: Account, at_micros: int) -> None:
    """An unused package shows its whole quota on the day it is bought."""
    today = day_of(at_micros, account.time_zone)
    for package in account.packages.values():
        if package.status == "active" and package.effective <= today <= package.expires:
            for meter in package.quotas:
                account.touch(catalog, today, meter)


def is_overruled(known: Package | None, package: Package) -> bool:
    """Whether a document changes nothing because an order made the package that is `known` by its name."""
    return known is not None and known.order is not None and package.order is None


def is_echo(account: Account, package: Package) -> bool | None:
    """Whether a document of the topic `packages` repeats what an order made; None when it may not be there at all.

    What orders make is written to the topic for others to read, and comes back by the inlet. The log's own word holds: the
    document may be older than the account is by now.
    """
    known = account.packages.get(package.package)
    if is_overruled(known, package):
        return None
    if package.order is None:
        return False
    return True if known is not None and known.order is not None else None
