"""The subscriptions and the rules, out of their compacted topics; every process that needs them keeps all of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from agents.parsers import rules_parser
from agents.settings import Settings
from pipeline.admission import UNDECODABLE
from schemas.alerting import AlertRules, Webhook
from schemas.catalog import Catalog
from schemas.log import AlertRulesChanged
from schemas.topics import ALERT_RULES, WEBHOOKS, Topic

log = structlog.get_logger()
_decoder = msgspec.json.Decoder(Webhook)


class Store:
    """A context. `refresh` brings it up to what the topics hold at that moment; a change of ours is in it when `put` returns."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._settings = settings
        self._parse_rules = rules_parser(catalog)
        self._tps = {topic: TopicPartition(settings.topic_prefix + topic.name, 0) for topic in (WEBHOOKS, ALERT_RULES)}
        self._webhooks: dict[str, Webhook] = {}
        self._rules: dict[str, AlertRules] = {}
        self._lock = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Store:
        servers = self._settings.kafka
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100
        )
        self._producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
        for client in (self._consumer, self._producer):
            self._stack.push_async_callback(client.stop)
            await client.start()
        self._consumer.assign(list(self._tps.values()))
        await self._consumer.seek_to_beginning()
        await self.refresh()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._stack.aclose()

    async def refresh(self) -> None:
        """Return once everything that is in the topics now is here; raises `KafkaError`."""
        async with self._lock:
            ends = await self._consumer.end_offsets(list(self._tps.values()))
            while any([await self._consumer.position(tp) < end for tp, end in ends.items()]):
                for tp, records in (await self._consumer.getmany(timeout_ms=200)).items():
                    for record in records:
                        self._take(tp.topic, record)

    def get(self, webhook: str) -> Webhook | None:
        """The subscription of this id."""
        return self._webhooks.get(webhook)

    def of(self, account: str) -> list[Webhook]:
        """The subscriptions of an account, oldest first."""
        return sorted((w for w in self._webhooks.values() if w.account == account), key=lambda w: (w.created_at, w.id))

    def accounts(self) -> set[str]:
        """The accounts that have subscriptions."""
        return {webhook.account for webhook in self._webhooks.values()}

    def rules(self, account: str) -> AlertRules:
        """The rules of an account, or the defaults."""
        return self._rules.get(account) or AlertRules(account)

    async def put(self, webhook: Webhook) -> None:
        """Add or change a subscription."""
        await self._write(WEBHOOKS, webhook.id, msgspec.json.encode(webhook))

    async def remove(self, webhook: str) -> None:
        """Forget a subscription."""
        await self._write(WEBHOOKS, webhook, None)

    async def put_rules(self, account: str, rules: bytes | None) -> None:
        """Set the rules of an account, a document that its parser has accepted; None: the defaults."""
        await self._write(ALERT_RULES, account, rules)

    async def _write(self, topic: Topic, key: str, value: bytes | None) -> None:
        tp = self._tps[topic]
        await self._producer.send_and_wait(tp.topic, value, key.encode(), tp.partition)
        await self.refresh()

    def _take(self, topic: str, record: ConsumerRecord[bytes, bytes]) -> None:
        key = (record.key or b"").decode(errors="replace")
        webhooks = topic == self._tps[WEBHOOKS].topic
        if record.value is None:
            (self._webhooks if webhooks else self._rules).pop(key, None)
            return
        try:
            if webhooks:
                self._webhooks[key] = _decoder.decode(record.value)
            elif isinstance(event := self._parse_rules(record.value), AlertRulesChanged) and event.rules:
                self._rules[event.account] = event.rules
        except (*UNDECODABLE, ValueError):
            # The value stays out of the log: it may hold a secret. Of rules the inlet makes a dead letter.
            log.warning("an unreadable record is passed over", topic=topic, offset=record.offset)
