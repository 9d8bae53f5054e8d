"""`drawdown verify`: recomputes an account's day from the raw events in ClickHouse, and compares it with the streamed ledger.

It may run while events flow. First everything that was there at the start goes its whole way; from then on the ledger says, for a
known place in the log, what the events up to there must give. A row that changes meanwhile is compared at its own version.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import chain
from typing import Any
from zoneinfo import ZoneInfo

from aiokafka import TopicPartition
from clickhouse_connect.driver.client import Client

from agents.batching import partition_of
from agents.documents import AccountDocuments, documents_of
from agents.errors import WrongUse
from agents.evidence import corrections, gains, has_events, ledger_rows, plans
from agents.kafka import partition_counts
from agents.progress import wait_until_processed
from agents.settings import Settings
from pipeline.audit import STATEMENT, Corrected, Difference, Evidence, Figures, Key, Planned, differences, recompute
from schemas import topics
from schemas.catalog import Catalog, load_catalog

#: A package or a binding that changes during the comparison explains a difference; the next attempt sees it.
_ATTEMPTS = 4
_PAUSE_SECONDS = 1.5

_INPUTS = (topics.USAGE, topics.WORKSPACES, topics.PACKAGES)
_OUTPUTS = (topics.USAGE_TOTALS, topics.QUOTA_STATUS, topics.OVERAGE, topics.STATEMENTS)


@dataclass(frozen=True, slots=True)
class Verified:
    """The comparison up to `version`: differences that stayed in every attempt, figures, and all corrections of the day."""

    account: str
    day: date
    version: int
    currency: str
    figures: Figures
    corrections: list[dict[str, Any]]
    differences: list[Difference]


def verify(settings: Settings, client: Client, account: str, day: date | None, wait_seconds: float) -> Verified:
    """Compare a day, None: today in the account's time zone.

    Raises `WrongUse` (an unknown account), and `Behind` when a worker does not catch up in time.
    """
    if not settings.usage_events:
        raise WrongUse("the raw events are not kept (DRAWDOWN_USAGE_EVENTS is off), so there is nothing to verify from")
    audit = _Audit(settings, client, load_catalog(settings.catalog), account, asyncio.run(_partitions(settings)))
    found = audit.attempt(day, wait_seconds)
    lasting: dict[tuple[str, Key], Difference] = {(d.what, d.key): d for d in found.differences}
    for _ in range(_ATTEMPTS - 1):
        if not lasting:
            break
        time.sleep(_PAUSE_SECONDS)
        found = audit.attempt(day, wait_seconds)
        lasting = {(d.what, d.key): d for d in found.differences if (d.what, d.key) in lasting}
    return Verified(
        found.account, found.day, found.version, found.currency, found.figures, found.corrections, [*lasting.values()]
    )


@dataclass(frozen=True, slots=True)
class _Audit:
    """What all attempts share."""

    settings: Settings
    client: Client
    catalog: Catalog
    account: str
    partitions: dict[topics.Topic, list[TopicPartition]]

    def attempt(self, day: date | None, wait_seconds: float) -> Verified:
        """One comparison."""
        settings, client, account = self.settings, self.client, self.account
        deadline = time.monotonic() + wait_seconds
        upto = asyncio.run(self._processed(deadline))
        documents = asyncio.run(documents_of(settings, self.catalog, account))
        when = day or datetime.now(UTC).astimezone(ZoneInfo(documents.time_zone)).date()
        rows = ledger_rows(client, account, when)
        if not (rows or documents.bindings or documents.packages or has_events(client, account)):
            raise WrongUse(f"account {account!r} is unknown: it has no workspace and no package")
        # The rows may be newer than the raw events and dead letters that ClickHouse has so far.
        asyncio.run(self._arrived(deadline))
        noted = corrections(settings, client, account, when)
        evidence = Evidence(
            day=when,
            gains=gains(
                settings, client, account, when, sorted({upto, *(r.version for r in rows if r.version > upto)})
            ),
            corrections=[_corrected(row) for row in noted if not row["refused"]],
            packages=[*documents.packages.values()],
            plans=_plans(documents, plans(client, account)),
            site=documents.site,
            currency=documents.currency,
            revision=next((row.key[0] for row in rows if row.what == STATEMENT), None),
        )
        self._require_meters(evidence)

        @lru_cache(maxsize=1)  # a large account's are large
        def figures_at(cut: int) -> Figures:
            return recompute(self.catalog, evidence, cut)

        figures = figures_at(upto)
        shown = [row for row in noted if row["log_offset"] <= upto]
        found = [*differences(rows, figures_at, upto)]
        return Verified(account, when, upto, documents.currency, figures, shown, found)

    async def _processed(self, deadline: float) -> int:
        """Wait until all that was sent so far is in the ledger, and what the ledger said of it is in ClickHouse.

        The place in the log of the last record that this holds for.
        """
        group, log = self.settings.group, self._log()
        await wait_until_processed(self.settings, group, self._all(*_INPUTS), deadline)
        behind = await wait_until_processed(self.settings, group, [log], deadline)
        await wait_until_processed(self.settings, f"{group}-sink", self._all(*_OUTPUTS), deadline)
        return max(0, behind[log] - 1)

    async def _arrived(self, deadline: float) -> None:
        """Wait until the account's events, and what became of refused ones, are in ClickHouse."""
        needed = [self._log(), *self._all(topics.DEAD_LETTERS)]
        await wait_until_processed(self.settings, f"{self.settings.group}-sink", needed, deadline)

    def _all(self, *some: topics.Topic) -> list[TopicPartition]:
        return [*chain.from_iterable(self.partitions[topic] for topic in some)]

    def _log(self) -> TopicPartition:
        """Where everything that changes the account is, in one order."""
        all_of_them = self._all(topics.ACCOUNT_EVENTS)
        return all_of_them[partition_of(self.account.encode(), len(all_of_them))]

    def _require_meters(self, evidence: Evidence) -> None:
        """A ledger that was counted with another catalog cannot be recomputed."""
        used = {(g.meter, g.retention_days) for g in evidence.gains}
        used |= {(c.meter, c.retention_days) for c in evidence.corrections}
        for meter, retention in sorted(used):
            if meter not in self.catalog.meters or retention not in self.catalog.meters[meter].factors:
                raise WrongUse(f"{meter} with {retention} days is not in the catalog (DRAWDOWN_CATALOG)")


def _plans(documents: AccountDocuments, logged: list[Planned]) -> list[Planned]:
    """The log's word; for a workspace that was bound before the table had rows, the binding as it is now."""
    known = {one.workspace for one in logged}
    bound = [Planned(0, b.workspace, b.plan, date.min) for b in documents.bindings.values() if b.workspace not in known]
    return bound + logged


def _corrected(row: dict[str, Any]) -> Corrected:
    return Corrected(row["log_offset"], row["workspace"], row["meter"], row["retention_days"], row["quantity"])


async def _partitions(settings: Settings) -> dict[topics.Topic, list[TopicPartition]]:
    counts = await partition_counts(settings, [*_INPUTS, topics.ACCOUNT_EVENTS, *_OUTPUTS, topics.DEAD_LETTERS])
    if missing := [topic.name for topic, count in counts.items() if not count]:
        raise WrongUse(f"topics are missing ({', '.join(missing)}); run `drawdown topics`")
    return {
        topic: [TopicPartition(settings.topic_prefix + topic.name, number) for number in range(count)]
        for topic, count in counts.items()
    }
