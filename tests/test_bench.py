"""The parts of the benchmark that could measure something else than they say. Timing itself is no test."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agents.bench.latency import latencies_of
from agents.bench.load import Fleet
from agents.bench.state import recall, remember
from driver import Core


@pytest.mark.parametrize("array", [1, 20])
def test_every_event_of_the_load_counts_in_its_accounts_package(array: int) -> None:
    """No load of refusals or duplicates, which would be cheaper than the real thing."""
    fleet, core = Fleet(workspaces=10, accounts=2), Core(datetime.now(UTC))
    core.bind(json.loads(value) for _, value in fleet.bindings() if value)
    core.buy(json.loads(value) for _, value in fleet.packages(quota=10**9) if value)
    core.send((0, n, key, value or b"") for n, (key, value) in enumerate(fleet.usage(1_000, array)))
    core.fold()
    core.checkpoint()
    assert core.view.outcomes == {"counted": 1_000}
    assert len({workspace for _, _, workspace, *_ in core.view.totals}) == 10
    assert sum(core.view.covered.values()) == sum(core.view.totals.values()) == sum(n % 100 for n in range(1_000))


def test_latency_runs_from_when_an_event_was_due() -> None:
    """Two workspaces at 10 events a second from second 100 on: event n belongs to workspace n mod 2 and is due at 100 + n / 10."""
    seen = [(0, 0, 2, 100.5), (1, 0, 1, 100.5), (1, 1, 2, 101.0)]
    assert latencies_of(seen, 100.0, workspaces=2, rate=10) == pytest.approx([0.5, 0.3, 0.4, 0.7])


def test_memory_and_its_recovery(tmp_path: Path) -> None:
    """What is restored is what was remembered: the merged pieces hold every identity."""
    kept = remember(200_000, tmp_path)
    assert kept["bytes_live"] < 40
    assert kept["changelog_bytes"] == 22
    assert recall(tmp_path)["identities"] == 200_000
