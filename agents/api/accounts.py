"""What is known of accounts: their workspaces, packages, time zone and today."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from typing import Annotated

from aiokafka.errors import KafkaError
from fastapi import Depends, Path, Request

from agents.api.auth import Reader
from agents.api.feed import Feed
from agents.api.keys import ALL, Key
from agents.api.problems import no_such, unavailable
from agents.registry import Registry
from pipeline.days import day_of, to_micros
from pipeline.routing import Router
from schemas.wire import Package, WorkspaceBinding

_ANSWER_SECONDS = 5.0


class Account:
    """One account now. Time zone, currency and site are those of its workspaces, as in the ledger."""

    def __init__(self, account: str, workspaces: list[WorkspaceBinding], packages: list[Package]) -> None:
        self.account = account
        self.workspaces = workspaces
        self.packages = packages
        told = workspaces[-1] if workspaces else WorkspaceBinding("-", account)
        self.time_zone, self.currency, self.site = told.time_zone, told.currency, told.site
        self._names = {one.workspace: one.name for one in workspaces}

    @property
    def today(self) -> date:
        """The account's day."""
        return day_of(to_micros(datetime.now(UTC)), self.time_zone)

    def name_of(self, workspace: str) -> str:
        """A workspace's name for people."""
        return self._names.get(workspace, "")


class Accounts:
    """All accounts, out of the registry and the feed."""

    def __init__(self, registry: Registry, router: Router, feed: Feed) -> None:
        self._registry = registry
        self._router = router
        self._feed = feed
        self._changes = -1
        self._workspaces: dict[str, list[WorkspaceBinding]] = {}

    def names(self, key: Key) -> list[str]:
        """The accounts that the key may read and that there are, sorted."""
        known = {*self._bindings(), *self._feed.packages.accounts(), *self._feed.live.accounts()}
        return sorted(known if ALL in key.accounts else known & set(key.accounts))

    def account(self, name: str) -> Account:
        """An account, whether it has anything or not."""
        return Account(name, self._bindings().get(name, []), self._feed.packages.of(name))

    def binding(self, workspace: str) -> WorkspaceBinding | None:
        """The binding of a workspace."""
        return self._router.bindings.get(workspace)

    async def find(self, key: Key, name: str) -> Account:
        """An account that the key may read; else 404. One that is unknown is looked for once more, up to now."""
        if not key.may(name):
            raise no_such("account")
        if not self._exists(name):
            await self.refresh()
            if not self._exists(name):
                raise no_such("account")
        return self.account(name)

    async def find_workspace(self, key: Key, workspace: str) -> WorkspaceBinding:
        """A workspace that the key may read; else 404."""
        if self.binding(workspace) is None:
            await self.refresh()
        binding = self.binding(workspace)
        if binding is None or not key.may(binding.account):
            raise no_such("workspace")
        return binding

    async def refresh(self) -> None:
        """Read the registry up to now; 503 when Kafka does not answer."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._registry.refresh()
        except (TimeoutError, KafkaError):
            raise unavailable("Kafka") from None

    def _exists(self, name: str) -> bool:
        feed = self._feed
        return bool(name in self._bindings() or feed.packages.of(name) or feed.live.figures(name))

    def _bindings(self) -> dict[str, list[WorkspaceBinding]]:
        """Account -> its workspaces; made anew when the registry has changed."""
        if self._changes != self._registry.changes:
            self._changes, self._workspaces = self._registry.changes, {}
            for binding in self._router.bindings.values():
                self._workspaces.setdefault(binding.account, []).append(binding)
        return self._workspaces


async def _account(
    request: Request, key: Reader, account: Annotated[str, Path(min_length=1, max_length=256)]
) -> Account:
    accounts: Accounts = request.app.state.api.accounts
    return await accounts.find(key, account)


#: The account of the path, if the key may read it.
OwnAccount = Annotated[Account, Depends(_account)]
