"""Runs the measurements that were asked for, and prints them with the setting."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agents.bench.scenarios import SCENARIOS, Bench, Measured, fleet_of
from agents.clickhouse import connect
from agents.errors import WrongUse
from agents.local.kafka import jars
from agents.local.services import Services
from agents.settings import Settings, load_settings
from agents.tables import plain

_LIBRARIES = ("faust-streaming", "aiokafka", "msgspec", "numba", "numpy")


def run_bench(console: Console, events: int, workspaces: int, only: Sequence[str], *, as_json: bool) -> int:
    """Measure what `only` names, or everything, one after the other; each table is printed when it is there."""
    if unknown := [name for name in only if name not in SCENARIOS]:
        raise WrongUse(f"--only knows {', '.join(SCENARIOS)}; not {', '.join(unknown)}")
    progress = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="drawdown-bench-") as directory,
        Services(Path(directory), auto_ports=True) as services,
    ):
        settings = load_settings(kafka=services.kafka, clickhouse=services.clickhouse)
        bench = Bench(services, Path(directory), events, fleet_of(workspaces))
        document: dict[str, Any] = {"setting": _setting(settings)}
        if not as_json:
            console.print(", ".join(f"{name} {value}" for name, value in document["setting"].items()))
        for name in only or SCENARIOS:
            with progress.status(f"measuring: {name}"):
                measured = SCENARIOS[name](bench)
            document[name] = {"title": measured.title, "rows": measured.rows}
            if not as_json:
                console.print(f"\n[bold]{name}[/]: {measured.title}", _table(measured))
    if as_json:
        console.print_json(json.dumps(document))
    return 0


def _setting(settings: Settings) -> dict[str, Any]:
    with connect(settings, database=False) as client:
        clickhouse = client.server_version
    libraries = {name: version(name) for name in _LIBRARIES}
    return {
        "machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "Python": platform.python_version(), **libraries,
        "Kafka": jars().name.removeprefix("kafka-"), "ClickHouse": clickhouse, "partitions": settings.partitions,
        "checkpoint": f"{settings.checkpoint} s", "route interval": f"{settings.route_interval} s",
        "raw events in ClickHouse": settings.usage_events,
    }  # fmt: skip


def _table(measured: Measured) -> Table:
    table = plain()
    for name, value in measured.rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in measured.rows:
        table.add_row(*(_text(value) for value in row.values()))
    return table


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
