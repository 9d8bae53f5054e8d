"""What people do with webhooks; the command line and the HTTP API call this."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiokafka import AIOKafkaProducer
from msgspec import structs

from agents.batching import partition_of
from agents.kafka import all_records, newest_values, partition_counts
from agents.settings import Settings
from agents.webhooks.deliveries import given_up, key_of, tried
from agents.webhooks.messages import body_of, trial_message
from agents.webhooks.sender import Outcome, Sender, new_secret
from agents.webhooks.store import Store
from agents.webhooks.targets import CheckedResolver, TargetRefused, check_url
from schemas.alerting import AlertKind, Delivery, Webhook
from schemas.catalog import Catalog
from schemas.topics import ALERTS, WEBHOOK_DELIVERIES
from schemas.wire import Alert

#: Webhooks of one account.
WEBHOOKS_MAX = 20

_decode_alert = msgspec.json.Decoder(Alert).decode
_decode_delivery = msgspec.json.Decoder(Delivery).decode


class WebhookRefused(ValueError):
    """A webhook that cannot be added; the text says why."""


class Webhooks:
    """Over a store that is open. All methods raise `KafkaError` when Kafka is away."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.store = store
        self._settings = settings
        self._sender = Sender(settings)

    async def close(self) -> None:
        """Close all connections to receivers."""
        await self._sender.close()

    async def add(self, account: str, url: str, kinds: tuple[AlertKind, ...]) -> Webhook:
        """A new subscription, with its secret; raises `WebhookRefused`."""
        await self.store.refresh()
        if len(self.store.of(account)) >= WEBHOOKS_MAX:
            raise WebhookRefused(f"an account has at most {WEBHOOKS_MAX} webhooks")
        private = self._settings.webhook_private_targets
        try:
            check_url(url, private=private)
            await CheckedResolver(private=private).resolve(urlsplit(url).hostname or "")
        except TargetRefused as refused:
            raise WebhookRefused(str(refused)) from None
        except OSError:
            pass  # A name that does not resolve now may do so later; it is checked again at each attempt.
        webhook = Webhook(f"wh_{token_hex(8)}", account, url, new_secret(), kinds, datetime.now(UTC))
        await self.store.put(webhook)
        return webhook

    async def set_status(self, webhook: Webhook, status: Any, reason: str = "") -> Webhook:
        """Disable or enable it; what was not delivered meanwhile stays so until it is sent again by hand."""
        changed = structs.replace(webhook, status=status, reason=reason, changed_at=datetime.now(UTC))
        await self.store.put(changed)
        return changed

    async def test(self, webhook: Webhook) -> tuple[str, Outcome]:
        """Send a test message now, once; its id, and what came of it."""
        now = datetime.now(UTC)
        message, body = trial_message(webhook.account, webhook.id, now)
        return message, await self._sender.attempt(webhook, message, body, now)

    async def deliveries(self, webhook: Webhook) -> list[Delivery]:
        """All that is known of its deliveries, the newest first."""
        values = await newest_values(self._settings, self._topic, await self._partition(webhook.account))
        mine = f"{webhook.id}/".encode()
        found = [_decode_delivery(value) for key, value in values.items() if key.startswith(mine)]
        return sorted(found, key=lambda one: (one.created_at, one.alert), reverse=True)

    async def resend(self, webhook: Webhook, alert: str) -> Delivery | None:
        """Send an alert again now, once, whatever came of it before; None if the account has no such alert.

        While its delivery is pending the dispatcher goes on trying: receivers tell repetitions by `webhook-id`.
        """
        now = datetime.now(UTC)
        known = next((one for one in await self.deliveries(webhook) if one.alert == alert), None)
        if known is None:
            body = await self._body_of(webhook.account, alert)
            if body is None:
                return None
            known = given_up(Delivery(webhook.id, alert, webhook.account, body, now), "")
        outcome = await self._sender.attempt(webhook, alert, known.body, now)
        after = tried(known, outcome, now, now - known.created_at)
        if after.state == "failed" and known.state == "pending":
            after = structs.replace(after, state="pending", next_at=known.next_at)
        await self._write(after)
        return after

    @property
    def _topic(self) -> str:
        return self._settings.topic_prefix + WEBHOOK_DELIVERIES.name

    async def _partition(self, account: str) -> int:
        """Where an account's alerts are, and so its deliveries."""
        counts = await partition_counts(self._settings, [ALERTS])
        return partition_of(account.encode(), counts[ALERTS])

    async def _body_of(self, account: str, alert: str) -> str | None:
        topic = self._settings.topic_prefix + ALERTS.name
        async for records in all_records(self._settings, topic, await self._partition(account)):
            for record in records:
                found = _decode_alert(record.value)
                if (found.id, found.account) == (alert, account):
                    return body_of(found, record.value)
        return None

    async def _write(self, delivery: Delivery) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._settings.kafka, acks="all") as producer:
            value, partition = msgspec.json.encode(delivery), await self._partition(delivery.account)
            await producer.send_and_wait(self._topic, value, key_of(delivery), partition)


def shown(webhook: Webhook) -> dict[str, Any]:
    """A webhook as people see it: without its secret."""
    document: dict[str, Any] = msgspec.to_builtins(webhook)
    del document["secret"]
    return document


@asynccontextmanager
async def opened(settings: Settings, catalog: Catalog) -> AsyncIterator[Webhooks]:
    """For a command: store and sender, closed afterwards."""
    async with Store(settings, catalog) as store:
        webhooks = Webhooks(settings, store)
        try:
            yield webhooks
        finally:
            with suppress(OSError):
                await webhooks.close()
