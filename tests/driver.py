"""Runs the pure core as the agents do: route, encode, decode, fold, checkpoint, restore."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Struct

from oracle import Answer
from pipeline.admission import Limits
from pipeline.batches import batches
from pipeline.columns import COLUMNS
from pipeline.days import to_instant, to_micros
from pipeline.ledger import Ledger
from pipeline.records import Record, Records
from pipeline.routing import Router
from schemas.billing import Outcome, Transaction, WalletStatus
from schemas.catalog import Catalog, load_catalog
from schemas.log import Bound, Correction, PackageChanged, decode_account_event, encode_account_event
from schemas.wire import Alert, OverageEvent, Package, QuotaStatus, Statement, UsageTotals, WorkspaceBinding
from world import World

CATALOG = load_catalog()
T = TypeVar("T")
GRACE = 3_600_000_000
LIMITS = Limits(4 << 20, 10_000, 600_000_000, 35)


def packed(**columns: list[Any]) -> dict[str, bytes]:
    """The event columns of a usage batch."""
    return {name: np.array(values, COLUMNS[name]).tobytes() for name, values in columns.items()}


class Core:
    """Router and ledger of one partition; `view` is what a reader of the outputs sees: the newest of each."""

    def __init__(self, now: datetime, catalog: Catalog = CATALOG) -> None:
        self.now = to_micros(now)
        self.catalog = catalog
        self.router = Router(catalog, LIMITS)
        self.ledger = Ledger(catalog, 35)
        self.log: list[bytes] = []
        self.entries: dict[bytes, bytes] = {}
        self.view = Answer()
        self.statements: dict[tuple[str, date], list[Statement]] = {}
        self.said: list[Any] = []
        self.settled: set[tuple[Any, ...]] = set()
        self.versions: dict[Any, int] = {}
        self.alerts: list[Alert] = []

    def bind(self, bindings: Iterable[dict[str, Any]]) -> None:
        """Register workspaces."""
        for document in bindings:
            binding = msgspec.json.decode(json.dumps(document), type=WorkspaceBinding)
            self.router.bind(binding)
            self.log.append(encode_account_event(Bound(binding.account, binding, to_instant(self.now))))

    def buy(self, packages: Iterable[dict[str, Any]]) -> None:
        """Register packages."""
        for document in packages:
            package = msgspec.json.decode(json.dumps(document), type=Package)
            self.log.append(encode_account_event(PackageChanged(package.account, package)))

    def correct(self, corrections: Iterable[dict[str, Any]]) -> None:
        """Adjust day totals."""
        for document in corrections:
            self.log.append(encode_account_event(msgspec.convert(document, Correction, strict=False)))

    def command(self, *commands: Struct) -> None:
        """Orders, amendments, money."""
        self.log += map(encode_account_event, commands)  # type: ignore[arg-type]

    def all(self, kind: type[T]) -> list[T]:
        """Every output of a kind that was said, in order."""
        return [one for one in self.said if isinstance(one, kind)]

    def settle(self, grace_micros: int = GRACE) -> int:
        """Write the settlements that are due; how many."""
        due = self.ledger.due(self.now, grace_micros)
        self.log += map(encode_account_event, due)
        return len(due)

    def send(self, records: Iterable[tuple[int, int, bytes | None, bytes]]) -> None:
        """Route one chunk of usage records."""
        routed = self.router.route(Records.of(Record(o, k, v) for _, o, k, v in records), self.now)
        for refusal in routed.refusals:
            self.view.outcomes[str(refusal.reason)] += 1
        self.log += map(encode_account_event, batches(0, routed.rows))

    def fold(self, upto: int | None = None) -> None:
        """Fold what is in the log."""
        for offset, value in enumerate(self.log[:upto]):
            self.ledger.fold(offset, decode_account_event(value))

    def checkpoint(self) -> None:
        """Make durable what was folded, and let the reader see the outputs."""
        checkpoint = self.ledger.checkpoint(self.now)
        for key, value in checkpoint.entries:
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value
        for refused in checkpoint.refused:
            self.view.outcomes[str(refused.reason)] += 1
        for (_, outcome), count in checkpoint.outcomes.items():
            self.view.outcomes["duplicate" if outcome else "counted"] += count
        for _, _, output in checkpoint.outputs:
            self._read(output)

    def _read(self, output: Any) -> None:
        if isinstance(output, Outcome | Package | Transaction | WalletStatus):
            self.said.append(output)
            return
        a, d, v = output.account, output.day, output.version
        match output:
            case Alert():
                self.alerts.append(output)
            case UsageTotals():
                for t in output.totals:
                    self._newest(self.view.totals, (a, d, t.workspace, t.meter, t.retention_days), t.quantity, v)
            case QuotaStatus():
                for s in output.workspaces:
                    self._newest(self.view.covered, (a, d, output.meter, output.package, s.workspace), s.covered, v)
            case OverageEvent():
                self.said.append(output)
                key = (a, d, output.workspace, output.meter, output.basis, output.retention_days)
                self._newest(self.view.overage, key, output.quantity, v)
                (self.settled.add if output.settled else self.settled.discard)(key)
            case Statement():
                revisions = self.statements.setdefault((a, d), [])
                revisions.append(output)
                assert output.revision == len(revisions), "revisions are 1, 2, ... each once"
                assert output.replaces == (output.revision - 1 or None)

    def _newest(self, table: dict[Any, int], key: Any, value: int, version: int) -> None:
        name = (id(table), key)
        assert version > self.versions.get(name, -1), "an output is never older than its predecessor"
        table[key], self.versions[name] = value, version

    def crash(self) -> None:
        """The worker dies: what was not committed is gone, and a new one restores the rest and reads the log again."""
        self.ledger = Ledger(self.catalog, 35)
        self.ledger.restore(dict(random.Random(0).sample(list(self.entries.items()), len(self.entries))))


def essence(answer: Answer) -> tuple[Any, ...]:
    """What two answers must agree in; an amount of 0 may be said or not."""
    return (
        answer.totals,
        {k: v for k, v in answer.covered.items() if v},
        {k: v for k, v in answer.overage.items() if v},
        Counter({k: v for k, v in answer.outcomes.items() if v}),
    )


def run(world: World, now: datetime, cuts: random.Random | None = None, crashes: bool = False) -> Core:
    """The whole world through the core; with `cuts` in random chunks and checkpoints, with `crashes` in between."""
    core = Core(now)
    core.bind(world.bindings)
    core.buy(world.packages)
    records = list(world.records)
    while records:
        size = cuts.randrange(1, 60) if cuts else len(records)
        core.send(records[:size])
        records = records[size:]
        if cuts and cuts.random() < 0.5:
            core.fold(cuts.randrange(len(core.log) + 1))
            if cuts.random() < 0.6 and core.ledger.dirty:
                core.checkpoint()
            if crashes and cuts.random() < 0.4:
                core.crash()
    core.fold()
    if core.ledger.dirty:
        core.checkpoint()
    return core
