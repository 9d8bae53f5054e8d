"""What the routes work with, and the background work that keeps it true."""

from __future__ import annotations

import asyncio

from fastapi import Request

from agents.api.accounts import Accounts
from agents.api.auth import Gate, RateLimit
from agents.api.billing import BillingCenter
from agents.api.feed import Feed
from agents.api.history import History
from agents.api.ingest import Ingest, Writer
from agents.api.keys import KeyRing, keys_file_of
from agents.api.packages import Packages
from agents.api.watch import Watch
from agents.registry import Registry
from agents.route import limits_of
from agents.settings import Settings
from agents.webhooks.dispatcher import Dispatcher
from agents.webhooks.manage import Webhooks
from agents.webhooks.store import Store
from pipeline.routing import Router
from schemas.catalog import load_catalog


class Api:
    """One API process. It keeps nothing that another replica would need."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.catalog = load_catalog(settings.catalog)
        self.gate = Gate(KeyRing(keys_file_of(settings)), RateLimit(settings.api_rate, settings.api_burst))
        self.router = Router(self.catalog, limits_of(settings))
        self.registry = Registry(settings, self.router)
        self.feed = Feed(settings, Packages(self.catalog))
        self.watch = Watch(settings, self.feed)
        self.accounts = Accounts(self.registry, self.router, self.feed)
        self.history = History(settings)
        self.writer = Writer(settings)
        self.billing = BillingCenter(self.catalog, self.writer, self.feed)
        self.ingest = Ingest(self.router, self.accounts, self.writer)
        self.webhooks = Webhooks(settings, Store(settings, self.catalog))
        self.registry_read = asyncio.Event()
        self.webhooks_read = asyncio.Event()

    @property
    def complete(self) -> bool:
        """Whether everything that was in the topics at the start is in the views."""
        return all(event.is_set() for event in (self.registry_read, self.webhooks_read, self.feed.caught_up))

    async def follow_registry(self) -> None:
        """Keep the registry up to date, for ever."""
        await self.registry.start()
        self.registry_read.set()
        try:
            await self.registry.follow()
        finally:
            await self.registry.stop()

    async def follow_topics(self) -> None:
        """Keep the live views up to date, for ever."""
        await self.feed.run()

    async def watch_topics(self) -> None:
        """Judge the live views, for ever, from when they are complete."""
        await self.feed.caught_up.wait()
        await self.watch.run()

    async def keep_webhooks(self) -> None:
        """Keep the subscriptions at hand and, unless another process does, tell webhooks of alerts; for ever."""
        async with self.webhooks.store:
            self.webhooks_read.set()
            if self.settings.webhooks:
                await Dispatcher(self.settings).run()
            await asyncio.Event().wait()

    async def close(self) -> None:
        """Close the clients."""
        await self.writer.close()
        await self.webhooks.close()
        await self.history.close()


def api_of(request: Request) -> Api:
    """The services behind a request."""
    api: Api = request.app.state.api
    return api
