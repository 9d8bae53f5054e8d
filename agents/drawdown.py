"""The drawdown agent's stage: folds `account-events` in memory and turns a checkpoint into one transaction."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import msgspec
import structlog
from aiokafka import TopicPartition

from agents.batching import Send
from agents.failures import locate
from agents.garbage import long_lived
from agents.kafka import newest_values, records_at
from agents.metrics import EVENT_DELAY, METERS, OVERAGE_EVENTS, PACKAGE_UTILIZATION
from agents.route import count_dead_letters, dead_letter, meter_named_in
from agents.settings import Settings
from agents.transactions import Commit, Writes
from pipeline.account import Account
from pipeline.admission import UNDECODABLE, Refusal, split_array
from pipeline.checkpoint import Checkpoint, Refused
from pipeline.columns import rows_of
from pipeline.days import MICROS_PER_SECOND, day_of
from pipeline.duplicates import COUNTED
from pipeline.entries import position_of
from pipeline.law import LawBroken, ensure
from pipeline.ledger import Ledger
from pipeline.outputs import Output
from pipeline.records import Records
from pipeline.routing import SINGLE
from schemas.catalog import Catalog
from schemas.log import Usage, decode_account_event, encode_account_event
from schemas.topics import (
    ACCOUNT_EVENTS,
    ALERTS,
    DEAD_LETTERS,
    LEDGER,
    ORDERS,
    OVERAGE,
    PACKAGES,
    QUOTA_STATUS,
    STATEMENTS,
    USAGE,
    USAGE_TOTALS,
    WALLET_TRANSACTIONS,
    WALLETS,
    Topic,
)
from schemas.wire import QuotaStatus, encode

log = structlog.get_logger()

_WRITTEN = (
    *(LEDGER, ACCOUNT_EVENTS, DEAD_LETTERS, OVERAGE, QUOTA_STATUS, USAGE_TOTALS),
    *(ALERTS, STATEMENTS, ORDERS, PACKAGES, WALLETS, WALLET_TRANSACTIONS),
)
#: Folded events after which a checkpoint does not wait for its interval.
_EVENTS_MAX = 250_000
#: Restored accounts whose quotas a checkpoint draws for the metrics.
_SHOWN_AT_A_TIME = 500


class DrawdownStage:
    """One partition of `account-events`: the only writer of the accounts in it."""

    def __init__(self, settings: Settings, partition: int, catalog: Catalog) -> None:
        self.interval = settings.checkpoint
        self._catalog = catalog
        self.ledger = Ledger(catalog, settings.horizon_days)
        self._settings = settings
        self._partition = partition
        self._changelog = settings.topic_prefix + LEDGER.name
        self._account_events = settings.topic_prefix + ACCOUNT_EVENTS.name
        topics = tuple(settings.topic_prefix + topic.name for topic in _WRITTEN)
        self.writes = Writes(topics, TopicPartition(self._changelog, partition), self._visible_position)
        self._grace_micros = int(settings.settlement_grace * MICROS_PER_SECOND)
        self._events = 0
        self._oldest_ms: int | None = None
        #: Kafka lost the group's offset, and it alone (architecture, decision 3): it is put right with the next commit.
        self._behind = False
        self._unshown: Iterator[Account] = iter(())

    @property
    def full(self) -> bool:
        """Whether to make a checkpoint at once."""
        return self._events >= _EVENTS_MAX

    @property
    def next_offset(self) -> int:
        """The ledger knows it: its entries and the offset were committed together."""
        return self.ledger.next_offset

    async def _visible_position(self) -> int:
        """First offset that is not included, by what readers see of the changelog."""
        entries = await newest_values(self._settings, self._changelog, self._partition)
        return position_of(entries)

    async def open(self, next_offset: int) -> None:
        """Restore the ledger."""
        started = time.monotonic()
        entries = await newest_values(self._settings, self._changelog, self._partition)
        with long_lived():
            self.ledger.restore(entries)
        self._unshown = iter(list(self.ledger.accounts.values()))
        log.info(
            "ledger restored", topic=self._account_events, partition=self._partition, entries=len(entries), next_offset=self.ledger.next_offset,
            committed=next_offset, seconds=round(time.monotonic() - started, 3),
        )  # fmt: skip
        ensure(next_offset <= self.ledger.next_offset, "the changelog has what was committed with it", str(next_offset))
        self._behind = next_offset < self.ledger.next_offset

    async def take(self, records: Records) -> None:
        """Fold a chunk; what the ledger has passed changes nothing."""
        events = []
        for record in records:
            try:
                events.append((record.offset, decode_account_event(record.value or b"")))
            except msgspec.DecodeError as error:
                locate(error, offset=record.offset)
                raise
        with self._naming_the_account():
            self.ledger.fold_all(events)
        self._events += sum(rows_of(event) if isinstance(event, Usage) else 1 for _, event in events)
        if self._oldest_ms is None:
            self._oldest_ms = records[0].timestamp if records else None

    async def collect(self) -> Commit | None:
        """State entries, outputs, dead letters, settlements that are due, and the offset, as one commit."""
        now = time.time_ns() // 1000
        self._show_restored(now)
        due = self.ledger.due(now, self._grace_micros)
        if not self.ledger.dirty and not due and not self._behind:
            return None
        self._behind = False
        with self._naming_the_account():
            checkpoint = self.ledger.checkpoint(now)
        sends: list[Send] = [(self._changelog, self._partition, key, value) for key, value in checkpoint.entries]
        # Into this very partition: an account's events are in one order.
        sends += [(self._account_events, self._partition, e.account.encode(), encode_account_event(e)) for e in due]
        sends += (self._output(output) for output in checkpoint.outputs)
        dead: Counter[str] = Counter()
        sends += await self._dead_letters(checkpoint.refused, dead)
        durable = partial(self._published, checkpoint, dead, self._oldest_ms)
        self._events, self._oldest_ms = 0, None
        return Commit(sends, checkpoint.next_offset, durable)

    def _published(self, checkpoint: Checkpoint, dead: Counter[str], oldest_ms: int | None) -> None:
        """Count what the checkpoint says, now that readers see it."""
        count_dead_letters(dead)
        for (meter, outcome), events in checkpoint.outcomes.items():
            METERS.count(meter, "counted" if outcome == COUNTED else "duplicate", events)
        OVERAGE_EVENTS.inc(sum(topic is OVERAGE for topic, _, _ in checkpoint.outputs))
        self._show(checkpoint.outputs)
        if oldest_ms is not None:
            EVENT_DELAY.observe(max(0.0, time.time() - oldest_ms / 1000))

    def _show(self, outputs: Iterable[Output]) -> None:
        for _, _, out in outputs:
            if isinstance(out, QuotaStatus):
                time_zone, quota = self.ledger.accounts[out.account].time_zone, (out.account, out.package, out.meter)
                PACKAGE_UTILIZATION.show(self._partition, time_zone, out.day, quota, out.used, out.quota)

    def _show_restored(self, now_micros: int) -> None:
        """What restored quotas show before anything is used of them again; a few at a time, for nobody waits for it."""
        for account in islice(self._unshown, _SHOWN_AT_A_TIME):
            today = day_of(now_micros, account.time_zone)
            for meter in {meter for package in account.packages.values() for meter in package.quotas}:
                for draw in account.draw(self._catalog, today, meter).drawdown.draws:
                    quota = account.account, draw.package.package, meter
                    PACKAGE_UTILIZATION.show(self._partition, account.time_zone, today, quota, draw.used, draw.quota)

    def close(self) -> None:
        """The partition leaves this worker."""
        PACKAGE_UTILIZATION.forget(self._partition)

    @contextmanager
    def _naming_the_account(self) -> Iterator[None]:
        try:
            yield
        except LawBroken as broken:
            account = self.ledger.working
            if account is not None:
                locate(broken, account=account.account, offset=account.version)
            raise

    def _output(self, output: Output) -> Send:
        topic, key, value = output
        return self._settings.topic_prefix + topic.name, None, key.encode(), encode(value)

    async def _dead_letters(self, refused: list[Refused], meters: Counter[str]) -> list[Send]:
        """The fold knows where a refused event stood; its original bytes are read there. Counts them by meter."""
        letters: list[Send] = []
        places: dict[tuple[Topic, int], list[Refused]] = defaultdict(list)
        for one in refused:
            places[one.topic, self._partition if one.partition is None else one.partition].append(one)
        for (topic, partition), here in places.items():
            name = self._settings.topic_prefix + topic.name
            values = await records_at(self._settings, name, partition, {one.offset for one in here})
            for one in here:
                index = None if one.index == SINGLE else one.index
                original = _element(values.get(one.offset, b""), one.index)
                key = _key_of(original, "subject" if topic is USAGE else "account")
                refusal = Refusal(one.reason, one.message, original, one.offset, index, key)
                letters.append(dead_letter(self._settings, name, partition, refusal))
                if topic is USAGE:
                    meters[meter_named_in(original)] += 1
        return letters


def _element(value: bytes, index: int) -> bytes:
    """The event at its place in a record; nothing if the record is another one by now, in a topic that was made anew."""
    if index == SINGLE:
        return value
    elements = split_array(value) or ()
    return elements[index] if index < len(elements) else b""


def _key_of(event: bytes, field: str) -> bytes | None:
    """The workspace or account of an event, which is the key of its record."""
    try:
        name = msgspec.json.decode(event, type=dict[str, Any]).get(field)
    except UNDECODABLE:
        return None
    return name.encode() if isinstance(name, str) else None
