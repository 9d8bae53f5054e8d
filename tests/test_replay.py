"""`drawdown replay` on a real Kafka: the same answer whatever the batching, order and duplicates."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conftest import Meter
from driver import CATALOG
from oracle import answer
from world import World, make_world


def replay(meter: Meter, directory: Path, *more: str) -> dict[str, Any]:
    """What the command prints."""
    command = [sys.executable, "-m", "agents.cli", "replay", "--from-topic", "usage", "--to", str(directory), "--json"]
    result = subprocess.run([*command, *more], env=meter.env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def files(directory: Path) -> dict[str, bytes]:
    """The bytes of every file."""
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def good_events(world: World) -> list[tuple[bytes | None, bytes]]:
    """One event of each identity: with conflicts the order decides which one counts."""
    found: dict[str, tuple[bytes | None, bytes]] = {}
    for _, _, key, value in world.records:
        try:
            document = json.loads(value)
        except ValueError:
            continue
        if isinstance(document, dict) and "id" in document:
            found.setdefault(document["id"], (key, value))
    return list(found.values())


def test_batching_order_and_duplicates_change_nothing(meter: Meter, tmp_path: Path) -> None:
    """The topic as it is in three batchings; then the same events once more, shuffled and with duplicates, behind it."""
    seed, now = 11, datetime.now(UTC)
    world = make_world(seed, now)
    values = good_events(world)
    meter.documents(world.bindings, world.packages)
    meter.send("usage", values)
    first = replay(meter, tmp_path / "whole")
    for batch in ("1", "7", "100"):
        again = replay(meter, tmp_path / batch, "--batch", batch)
        assert (again["digest"], again["outcomes"]) == (first["digest"], first["outcomes"])
        assert files(tmp_path / batch) == files(tmp_path / "whole")
    records = [(0, offset, key, value) for offset, (key, value) in enumerate(values)]
    expected = answer(records, world.bindings, world.packages, dict(CATALOG.meters), now)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "totals.jsonl").read_text().splitlines()]
    names = ("account", "day", "workspace", "meter", "retention_days")
    assert {tuple(row[n] for n in names): row["quantity"] for row in rows} == {
        (a, str(d), w, m, r): total for (a, d, w, m, r), total in expected.totals.items()
    }
    assert sum(first["outcomes"].values()) == sum(expected.outcomes.values())
    rng = random.Random(seed)
    meter.send("usage", rng.sample(values, len(values)) + rng.choices(values, k=50))
    shuffled = replay(meter, tmp_path / "shuffled")
    assert shuffled["digest"] == first["digest"]
    assert shuffled["outcomes"]["counted"] == first["outcomes"]["counted"]
    assert files(tmp_path / "shuffled") == files(tmp_path / "whole")


def test_a_topic_that_cannot_be_replayed_is_wrong_use(meter: Meter, tmp_path: Path) -> None:
    """One line and exit code 2."""
    command = [sys.executable, "-m", "agents.cli", "replay", "--from-topic", "overage", "--to", str(tmp_path)]
    result = subprocess.run(command, env=meter.env, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "usage" in result.stderr
    assert "Traceback" not in result.stderr
