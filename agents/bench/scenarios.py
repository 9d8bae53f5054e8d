"""The measurements: each is a function of the bench that returns a table. `agents.bench` says what each is."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from agents.bench.latency import measure_latency
from agents.bench.load import Fleet
from agents.bench.stand import Metered, Stand
from agents.errors import CommandError
from agents.local.services import Services

_STOCK_EVENTS = 100_000
#: Single runs vary by a fifth, so each loop runs so often, in turns, and its median counts.
_ROUNDS = 3
_ARRAY = 100
_WORKSPACES_PER_ACCOUNT = 10
_SIZES = (10, 1_000, 100_000)
_HOT_WORKSPACES, _SMALL_ACCOUNTS = 10_000, 1_000
_IDENTITIES_PER_EVENT, _ENTRIES_PER_EVENT = 10, 1


@dataclass(frozen=True, slots=True)
class Measured:
    """A table; the columns of its rows are the same in all."""

    title: str
    rows: list[dict[str, Any]]


@dataclass(slots=True)
class Bench:
    """What all measurements share: servers, the size of the load, and what one learns from another."""

    services: Services
    directory: Path
    events: int
    fleet: Fleet
    latency_seconds: int = 25
    #: Events per second of one worker, single-event messages; 0: not measured yet.
    rate: float = 0.0
    _stands: int = field(default=0)

    def stand(self) -> Stand:
        """A new stand."""
        self._stands += 1
        return Stand(self.services, self.directory, f"bench{self._stands}")


def fleet_of(workspaces: int) -> Fleet:
    """Ten workspaces an account."""
    return Fleet(workspaces, max(1, workspaces // _WORKSPACES_PER_ACCOUNT))


def singles(bench: Bench) -> Measured:
    """Single-event messages."""
    rows = _three_loops(bench, bench.events, 1)
    bench.rate = rows[-1]["events/s"]
    return Measured(f"{bench.events:,} single-event messages, {bench.fleet}", rows)


def arrays(bench: Bench) -> Measured:
    """Arrays of 100 events."""
    events = bench.events * 2
    return Measured(f"{events:,} events in arrays of {_ARRAY}, {bench.fleet}", _three_loops(bench, events, _ARRAY))


def _three_loops(bench: Bench, events: int, array: int) -> list[dict[str, Any]]:
    """Medians of all three, in turns over the same topics, the worker first; each round's share of bare says how they vary."""
    rounds: list[tuple[dict[str, Any], float, float]] = []
    for _ in range(_ROUNDS):
        with bench.stand() as stand:
            worker = stand.meter(bench.fleet, bench.fleet.usage(events, array), events)
            stand.stop()
            bare = stand.python("agents.bench.loops", "bare", events, array)
            stock = stand.python("agents.bench.loops", "stock", min(events, _STOCK_EVENTS * array), array)
        rounds.append((_row(worker), bare, stock))
    bare, stock = median(bare for _, bare, _ in rounds), median(stock for _, _, stock in rounds)
    worker_row = {name: median(row[name] for row, _, _ in rounds) for name in rounds[0][0]}
    shares = " ".join(f"{100 * row['events/s'] / bare:.0f}" for row, bare, _ in rounds)
    none: dict[str, Any] = dict.fromkeys(worker_row)
    rows = [
        {"loop": "bare", **none, "events/s": round(bare)},
        {"loop": "stock", **none, "events/s": round(stock)},
        {"loop": "drawdown", **worker_row},
    ]
    for row in rows:
        row |= {"x stock": row["events/s"] / stock, "% of bare": 100 * row["events/s"] / bare, "% by round": None}
    rows[-1]["% by round"] = shares
    return rows


def workers(bench: Bench) -> Measured:
    """One worker and two, each with half of the partitions."""
    rows: list[dict[str, Any]] = []
    for count in (1, 2):
        with bench.stand() as stand:
            metered = stand.meter(bench.fleet, bench.fleet.usage(bench.events), bench.events, workers=count)
        rows.append({"workers": count, **_row(metered)})
    for row in rows:
        row["x one"] = row["events/s"] / rows[0]["events/s"]
    return Measured(f"{bench.events:,} single-event messages, {bench.fleet}", rows)


def workspaces(bench: Bench) -> Measured:
    """Few, some and many workspaces, ten in an account."""
    return _by_fleet(bench, [fleet_of(size) for size in _SIZES])


def hot(bench: Bench) -> Measured:
    """One account that has all workspaces against many that have some."""
    return _by_fleet(bench, [Fleet(_HOT_WORKSPACES, _SMALL_ACCOUNTS), Fleet(_HOT_WORKSPACES, 1)])


def _by_fleet(bench: Bench, fleets: list[Fleet]) -> Measured:
    rows: list[dict[str, Any]] = []
    for fleet in fleets:
        with bench.stand() as stand:
            rows.append({"fleet": str(fleet), **_row(stand.meter(fleet, fleet.usage(bench.events), bench.events))})
    for row in rows:
        row["cost/event, x first"] = rows[0]["events/s"] / row["events/s"]
    return Measured(f"{bench.events:,} single-event messages", rows)


def _row(metered: Metered) -> dict[str, Any]:
    return {
        "events/s": round(metered.rate), "to ClickHouse": round(metered.clickhouse_rate),
        "CPU µs/event": metered.cpu_micros,
    }  # fmt: skip


def latency(bench: Bench) -> Measured:
    """At half of what one worker takes; measured first if `singles` was not."""
    if not bench.rate:
        with bench.stand() as stand:
            bench.rate = stand.meter(bench.fleet, bench.fleet.usage(bench.events), bench.events).rate
    rate = int(bench.rate / 2)
    with bench.stand() as stand:
        found = asyncio.run(measure_latency(stand, bench.fleet, rate, bench.latency_seconds))
    title = f"{rate:,} events/s for {bench.latency_seconds} s, {bench.fleet}; from an event's due time to the quota status that includes it"
    return Measured(title, [found])


def memory(bench: Bench) -> Measured:
    """Identities through the duplicate memory in a fresh process, and back from their pieces in another."""
    count = bench.events * _IDENTITIES_PER_EVENT
    with tempfile.TemporaryDirectory(dir=bench.directory) as directory, bench.stand() as stand:
        kept = stand.python("agents.bench.state", "remember", count, directory)
        restored = stand.python("agents.bench.state", "recall", directory)
    row = {
        "bytes/id, own account": kept["bytes_live"], "RSS": kept["bytes_resident"], "peak RSS": kept["bytes_peak"],
        "µs/id": kept["micros"], "changelog, live": kept["changelog_bytes"],
        "changelog, written": kept["changelog_bytes_written"], "recovery, s": restored["seconds"],
        "pieces": restored["pieces"],
    }  # fmt: skip
    return Measured(f"{count:,} identities of one day", [row])


def recovery(bench: Bench) -> Measured:
    """A partition's state out of Kafka, as a worker gets it when the partition is assigned."""
    with bench.stand() as stand:
        written = stand.python("agents.bench.state", "fill", bench.events * _ENTRIES_PER_EVENT)
        opened = stand.python("agents.bench.state", "open")
    if written["accounts"] != opened["accounts"]:
        raise CommandError("the restored ledger is not the one that was written")
    row = {"entries": written["entries"], "seconds": opened["seconds"], "RSS of the state, MB": opened["resident_mb"]}
    return Measured(f"the state of {written['accounts']:,} accounts in one partition", [row])


SCENARIOS: dict[str, Callable[[Bench], Measured]] = {
    one.__name__: one for one in (singles, arrays, workers, workspaces, hot, latency, memory, recovery)
}
