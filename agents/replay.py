"""`drawdown replay`: folds the usage topic from its first record, in memory, and says what comes out.

The answer is a function of the events alone. No clock takes part (the newest record's timestamp stands for it), and neither
batching, order nor duplicates change it (semantics.md, section 3, law 6). Nothing is written to Kafka or ClickHouse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from msgspec import structs

from agents.kafka import all_records, newest_values
from agents.parsers import accepted, binding_parser, package_parser
from agents.route import limits_of
from agents.settings import Settings
from agents.topics import describe_topics
from pipeline.batches import batches
from pipeline.checkpoint import Checkpoint
from pipeline.days import MICROS_PER_SECOND
from pipeline.duplicates import DUPLICATE
from pipeline.ledger import Ledger
from pipeline.records import Records
from pipeline.routing import Router
from schemas.catalog import load_catalog
from schemas.log import AccountEvent, Bound, PackageChanged
from schemas.topics import PACKAGES, USAGE, WORKSPACES, Topic
from schemas.wire import OverageEvent, QuotaStatus, UsageTotals

_MICROS_PER_MILLI = MICROS_PER_SECOND // 1000


@dataclass(frozen=True, slots=True)
class Replayed:
    """The ledger's digest, how the events ended, and the rows of each file."""

    digest: str
    outcomes: Counter[str]
    rows: dict[str, list[dict[str, Any]]]


async def replay(settings: Settings, batch: int) -> Replayed:
    """Route and fold in batches of `batch` records; raises `KafkaError`. Bindings and packages are those of now."""
    catalog = load_catalog(settings.catalog)
    router, ledger = Router(catalog, limits_of(settings)), Ledger(catalog, settings.horizon_days)
    offsets, outcomes = count(), Counter[str]()
    for event in await _documents(settings, WORKSPACES, binding_parser(catalog)):
        if isinstance(event, Bound):
            router.bind(event.binding)
        ledger.fold(next(offsets), event)
    for event in await _documents(settings, PACKAGES, package_parser(catalog)):
        if isinstance(event, PackageChanged):
            # Orders live in the accounts' logs; here what they made is all there is.
            event = structs.replace(event, package=structs.replace(event.package, order=None))  # noqa: PLW2901
        ledger.fold(next(offsets), event)
    topic = settings.topic_prefix + USAGE.name
    partitions = range(next(s.partitions for s in await describe_topics(settings) if s.name == topic))
    now = 0
    for partition in partitions:
        async for records in all_records(settings, topic, partition):
            now = max(now, *(record.timestamp * _MICROS_PER_MILLI for record in records))
    for partition in partitions:
        async for records in all_records(settings, topic, partition):
            for first in range(0, len(records), batch):
                routed = router.route(Records.of(records[first : first + batch]), now)
                outcomes.update(refusal.reason.value for refusal in routed.refusals)
                ledger.fold_all((next(offsets), usage) for usage in batches(partition, routed.rows))
    checkpoint = ledger.checkpoint(now)
    outcomes.update(refused.reason.value for refused in checkpoint.refused)
    for (_, outcome), events in checkpoint.outcomes.items():
        outcomes["duplicate" if outcome == DUPLICATE else "counted"] += events
    return Replayed(ledger.digest(), outcomes, _rows(checkpoint))


async def _documents(settings: Settings, topic: Topic, parse: Callable[[bytes], AccountEvent]) -> list[AccountEvent]:
    """The newest documents in the order of their keys; what the worker refuses is left out here too."""
    newest = sorted((await newest_values(settings, settings.topic_prefix + topic.name, 0)).items())
    return [event for _, value in newest if (event := accepted(parse, value)) is not None]


def _rows(checkpoint: Checkpoint) -> dict[str, list[dict[str, Any]]]:
    """The outputs without what depends on the cut: no version, no instant, nothing that is 0."""
    rows: dict[str, list[dict[str, Any]]] = {"totals": [], "allocations": [], "overage": []}
    for _, _, output in checkpoint.outputs:
        match output:
            case UsageTotals():
                for t in output.totals:
                    rows["totals"].append({
                        "account": output.account, "day": output.day, "workspace": t.workspace, "meter": t.meter,
                        "retention_days": t.retention_days, "quantity": t.quantity, "converted": t.converted,
                    })  # fmt: skip
            case QuotaStatus():
                for s in output.workspaces:
                    if s.covered:
                        rows["allocations"].append({
                            "account": output.account, "day": output.day, "meter": output.meter,
                            "package": output.package, "workspace": s.workspace, "covered": s.covered,
                        })  # fmt: skip
            case OverageEvent():
                rows["overage"].append({
                    "account": output.account, "day": output.day, "workspace": output.workspace, "meter": output.meter,
                    "basis": output.basis, "retention_days": output.retention_days, "quantity": output.quantity,
                })  # fmt: skip
    return rows


def write_files(replayed: Replayed, directory: Path) -> Iterator[Path]:
    """One JSON lines file for each kind of rows, sorted: equal ledgers give equal bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, rows in replayed.rows.items():
        file = directory / f"{name}.jsonl"
        file.write_bytes(b"".join(sorted(orjson.dumps(row) + b"\n" for row in rows)))
        yield file
