"""The dispatcher: tells webhooks of alerts, at least once each.

Any number of processes may run one: they share the partitions of `alerts` as one consumer group. An alert becomes one delivery for each
webhook, which is written to the alert's own partition of `webhook-deliveries` before the alert's offset is committed, and again
after every attempt. The next owner of a partition reads it and goes on. What if the process dies after each step:

    alert read           it comes again
    deliveries written   it comes again, and its deliveries are known already
    offset committed     the deliveries are pending
    attempt made         it is made again: the receiver tells the repetition by `webhook-id`
    attempt written      it is over, or the next one is due in time
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from msgspec import structs

from agents.kafka import METADATA_MAX_AGE_MS, REBALANCE_SECONDS, newest_values
from agents.metrics import WEBHOOKS_DISABLED
from agents.settings import Settings
from agents.webhooks.deliveries import given_up, key_of, tried, verdict
from agents.webhooks.messages import body_of
from agents.webhooks.sender import Sender
from agents.webhooks.store import Store
from schemas.alerting import Delivery, Webhook
from schemas.catalog import load_catalog
from schemas.topics import ALERTS, WEBHOOK_DELIVERIES
from schemas.wire import Alert

log = structlog.get_logger()

#: Attempts under way, of one webhook and in all.
_PER_WEBHOOK, _AT_ONCE = 2, 50
_POLL_MS = 200
_RECORDS_MAX = 500
_AGAIN_SECONDS = 5.0
#: Nobody is woken for a day that ended long before its alert: that is an import of the past.
_LATE = timedelta(days=2)

_decode_alert = msgspec.json.Decoder(Alert).decode
_decode_delivery = msgspec.json.Decoder(Delivery).decode


class Owned:
    """The deliveries of one partition: those that are pending, the keys of those that are over, and signs of life."""

    def __init__(self, records: dict[bytes, bytes]) -> None:
        self.pending: dict[bytes, Delivery] = {}
        self.over: set[bytes] = set()
        self.last_success: dict[str, datetime] = {}
        for value in records.values():
            self.take(_decode_delivery(value))

    def take(self, delivery: Delivery) -> None:
        """The newest state of a delivery."""
        key = key_of(delivery)
        if delivery.state == "pending":
            self.pending[key] = delivery
            return
        self.pending.pop(key, None)
        self.over.add(key)
        if delivery.state == "delivered" and delivery.last_at is not None:
            known = self.last_success.get(delivery.webhook, delivery.last_at)
            self.last_success[delivery.webhook] = max(known, delivery.last_at)

    def knows(self, delivery: Delivery) -> bool:
        """Whether it was begun before."""
        key = key_of(delivery)
        return key in self.pending or key in self.over


class Dispatcher(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs until it is cancelled. `clock` tells the time, for tests that cannot wait for a day."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings = settings
        self._clock = clock
        self._patience = timedelta(seconds=settings.webhook_retry_seconds)
        self._alerts = settings.topic_prefix + ALERTS.name
        self._deliveries = settings.topic_prefix + WEBHOOK_DELIVERIES.name
        self._owned: dict[int, Owned] = {}
        self._flying: dict[bytes, asyncio.Task[None]] = {}
        #: The deliveries of the partitions that are assigned now are read, or could not be.
        self._read = asyncio.Event()
        self._failure: KafkaError | None = None
        self._store: Store
        self._sender: Sender
        self._producer: AIOKafkaProducer
        self._consumer: AIOKafkaConsumer

    async def run(self) -> None:
        """For ever; while Kafka is away it tries again."""
        while True:
            try:
                await self._session()
            except KafkaError as error:
                log.warning("webhooks wait for Kafka", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _session(self) -> None:
        settings, self._failure = self._settings, None
        self._sender = Sender(settings)
        self._producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", enable_idempotence=True)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka, group_id=f"{settings.group}-webhooks", isolation_level="read_committed",
            enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=_POLL_MS,
            session_timeout_ms=int(settings.session_timeout * 1000),
            heartbeat_interval_ms=int(settings.session_timeout * 1000 / 4), rebalance_timeout_ms=int(REBALANCE_SECONDS * 1000),
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )  # fmt: skip
        try:
            await self._producer.start()
            async with Store(settings, load_catalog(settings.catalog)) as self._store:
                consumer.subscribe([self._alerts], listener=self)
                self._consumer = consumer
                await consumer.start()
                while True:
                    await self._round(consumer)
        finally:
            await self.on_partitions_revoked(set())
            await consumer.stop()
            await self._producer.stop()
            await self._sender.close()

    async def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002  # all of them are
        """Let go of everything; an attempt that is cut off is made again by the next owner."""
        self._read.clear()
        self._owned = {}
        flying, self._flying = list(self._flying.values()), {}
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Read what is pending. The client would keep a failure to itself."""
        # Reading may take longer than a session, and the client says that we live only after it.
        self._consumer._coordinator._start_heartbeat_task()  # noqa: SLF001  # see above
        partitions = sorted(tp.partition for tp in assigned)
        try:
            found = await asyncio.gather(*(newest_values(self._settings, self._deliveries, p) for p in partitions))
        except KafkaError as error:
            self._failure = error
            found = []
        self._owned = {partition: Owned(records) for partition, records in zip(partitions, found, strict=False)}
        self._read.set()
        pending = sum(len(owned.pending) for owned in self._owned.values())
        log.info("webhooks assigned", partitions=len(partitions), pending=pending)

    async def _round(self, consumer: AIOKafkaConsumer) -> None:
        """Take new alerts, and start the attempts that are due."""
        batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_MAX)
        if batches:
            await self._read.wait()  # the client may fetch before it has told us of the partitions
            await self._take(consumer, batches)
        if self._failure is not None:
            raise self._failure
        for task in [task for task in self._flying.values() if task.done()]:
            task.result()
        self._flying = {key: task for key, task in self._flying.items() if not task.done()}
        await self._start_due()

    async def _take(self, consumer: AIOKafkaConsumer, batches: dict[TopicPartition, list[Any]]) -> None:
        """Begin the deliveries of new alerts, then commit. What is not committed comes again, here or elsewhere."""
        owned = self._owned
        await self._store.refresh()
        for tp, records in batches.items():
            for record in records if tp.partition in owned else ():
                try:
                    await self._begin(tp.partition, owned[tp.partition], record.value)
                except msgspec.DecodeError as error:
                    where = f"{tp.topic}[{tp.partition}]@{record.offset}"
                    log.error("an unreadable alert is passed over", where=where, error=str(error))
        # What was begun during a rebalance is not in the view that was read for it.
        if owned is self._owned and self._failure is None:
            ends = {tp: records[-1].offset + 1 for tp, records in batches.items() if tp.partition in owned}
            with suppress(CommitFailedError, IllegalStateError):
                await consumer.commit(ends)

    async def _begin(self, partition: int, owned: Owned, value: bytes) -> None:
        """The deliveries of an alert, one for each webhook that wants it and was there when it fired."""
        alert = _decode_alert(value)
        if alert.at.date() - alert.day > _LATE:
            return
        receivers = self._store.rules(alert.account).receivers
        for webhook in self._store.of(alert.account):
            wanted = alert.kind in webhook.kinds and (receivers is None or webhook.id in receivers)
            if wanted and webhook.status == "active" and webhook.created_at <= alert.at:
                now = self._clock()
                delivery = Delivery(webhook.id, alert.id, alert.account, body_of(alert, value), now, next_at=now)
                if not owned.knows(delivery):
                    await self._write(partition, owned, delivery)

    async def _start_due(self) -> None:
        now, flying = self._clock(), Counter(key.partition(b"/")[0] for key in self._flying)
        due = [
            (partition, owned, delivery)
            for partition, owned in self._owned.items()
            for key, delivery in owned.pending.items()
            if key not in self._flying and (delivery.next_at is None or delivery.next_at <= now)
        ]
        if due:
            await self._store.refresh()
        for partition, owned, delivery in due:
            if self._owned.get(partition) is not owned:
                continue  # it left while the store was read
            name = delivery.webhook.encode()
            if len(self._flying) < _AT_ONCE and flying[name] < _PER_WEBHOOK:
                flying[name] += 1
                self._flying[key_of(delivery)] = asyncio.create_task(self._attempt(partition, owned, delivery))

    async def _attempt(self, partition: int, owned: Owned, delivery: Delivery) -> None:
        webhook = self._store.get(delivery.webhook)
        if webhook is None or webhook.status == "disabled":
            reason = "the webhook was removed" if webhook is None else "the webhook is disabled"
            await self._write(partition, owned, given_up(delivery, reason))
            return
        at = self._clock()
        outcome = await self._sender.attempt(webhook, delivery.alert, delivery.body)
        after = tried(delivery, outcome, at, self._patience)
        await self._write(partition, owned, after)
        log.info(
            "webhook tried", webhook=webhook.id, alert=delivery.alert, state=after.state, attempt=after.attempts,
            status=outcome.status, error=outcome.error,
        )  # fmt: skip
        if after.state == "failed":
            await self._judge(webhook, after, owned.last_success.get(webhook.id))

    async def _judge(self, webhook: Webhook, failed: Delivery, last_success: datetime | None) -> None:
        """Disable a webhook that is dead, as it is in the topic now."""
        await self._store.refresh()
        now = self._store.get(webhook.id)
        reason = verdict(now, failed, last_success) if now is not None else None
        if now is not None and reason is not None:
            changed = structs.replace(now, status="disabled", reason=reason, changed_at=self._clock())
            await self._store.put(changed)
            WEBHOOKS_DISABLED.inc()
            log.warning("a webhook is disabled", webhook=webhook.id, account=webhook.account, reason=reason)

    async def _write(self, partition: int, owned: Owned, delivery: Delivery) -> None:
        """Durable first, then known."""
        value = msgspec.json.encode(delivery)
        await self._producer.send_and_wait(self._deliveries, value, key_of(delivery), partition)
        owned.take(delivery)
