"""Memory and recovery, each in a fresh process: `python -m agents.bench.state remember|recall|fill|open ...` prints JSON.

remember COUNT DIR    identities through the duplicate memory; the pieces that its changelog would hold go to DIR
recall DIR            a ledger restored from those pieces
fill ENTRIES          a ledger's changelog of so many entries, written to Kafka as a worker would
open                  what a worker does with it when it gets the partition
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer

import agents.transport  # noqa: F401  # a worker's records are lean
from agents.bench.load import put
from agents.drawdown import DrawdownStage
from agents.garbage import tune_memory
from agents.settings import load_settings
from pipeline.columns import COLUMNS, IDENTITY
from pipeline.days import to_micros
from pipeline.duplicates import COUNTED, DAY_BASE, ENTRY, DuplicateMemory
from pipeline.entries import ids_entry, parts_of
from pipeline.ledger import Ledger
from pipeline.pieces import Pieces
from schemas.catalog import load_catalog
from schemas.log import AccountEvent, Bound, PackageChanged, Usage
from schemas.topics import LEDGER
from schemas.wire import Package, WorkspaceBinding

#: Identities admitted at once, and between two checkpoints: about what a busy worker has.
_RUN, _CHECKPOINT = 25_000, 75_000
_DAYS, _WORKSPACES, _REAL_ACCOUNTS = 3, 2, 5_000
#: In the names of all accounts, workspaces and packages; a copy has another one there.
_MARK = b"-x-"
#: Entries of an account: itself, how far it has seen the usage topic, its workspaces and their package, and for each day its
#: counters and a block of series.
_ENTRIES = 2 + _WORKSPACES + 1 + 2 * _DAYS


def remember(count: int, directory: Path) -> dict[str, float]:
    """Bytes an identity by the memory's own account and by the process's; microseconds an identity."""
    memory, random, today = DuplicateMemory(), np.random.default_rng(1), datetime.now(UTC).toordinal()
    pieces, where, took = Pieces(memory), dict[str, tuple[int, int]](), 0.0
    days, before = np.full(_RUN, today - DAY_BASE, np.uint16), _resident()
    with (directory / "pieces").open("wb") as file:
        for first in range(0, count, _RUN):
            identities = np.frombuffer(random.bytes(_RUN * IDENTITY.itemsize), IDENTITY)
            contents = random.integers(0, 2**32, _RUN, np.uint32)
            started = monotonic()
            outcomes = memory.admit(identities, contents, days)
            took += monotonic() - started
            assert (outcomes == COUNTED).all()  # noqa: S101  # the random identities are distinct
            if (first + _RUN) % _CHECKPOINT and first + _RUN < count:
                continue
            for key, value in pieces.append(first):
                if value is None:
                    del where[key.decode()]
                else:
                    where[key.decode()] = file.tell(), len(value)
                    file.write(value)
        written = file.tell()
    (directory / "where.json").write_text(json.dumps(where))
    return {
        "bytes_live": memory.memory_bytes / len(memory), "bytes_resident": (_resident() - before) / len(memory),
        "bytes_peak": (_peak() - before) / len(memory), "micros": took * 1e6 / len(memory),
        "changelog_bytes": sum(length for _, length in where.values()) / len(memory),
        "changelog_bytes_written": written / len(memory),
    }  # fmt: skip


def recall(directory: Path) -> dict[str, float]:
    """Seconds in which the memory is restored from the pieces, and megabytes that the process had at its peak."""
    text = (directory / "pieces").read_bytes()
    where: dict[str, tuple[int, int]] = json.loads((directory / "where.json").read_text())
    entries = {key.encode(): text[start : start + length] for key, (start, length) in where.items()}
    del text
    memory, started = DuplicateMemory(), monotonic()
    pieces = Pieces(memory)
    for (_, day, *_), key in sorted((parts_of(key), key) for key in entries):
        pieces.load(day, key, entries[key])
    seconds = monotonic() - started
    return {"seconds": seconds, "pieces": len(where), "identities": len(memory), "peak_mb": _peak() / 1e6}


async def fill(entries: int) -> dict[str, Any]:
    """What a ledger writes for some accounts, and then the same for as many more of other names and other identities as it takes."""
    settings = load_settings()
    ledger = Ledger(load_catalog(settings.catalog), settings.horizon_days)
    for offset, event in enumerate(_account_events(range(min(_REAL_ACCOUNTS, entries // _ENTRIES)))):
        ledger.fold(offset, event)
    real = [(key, value) for key, value in ledger.checkpoint(time_ns() // 1000).entries if value is not None]
    copies = -(-entries // len(real))
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, max_batch_size=1 << 20) as producer:
        for copy in range(copies):
            renamed = (_renamed(key, value, b"-%d-" % copy) for key, value in real)
            await put(producer, settings.topic_prefix + LEDGER.name, renamed, partition=0)
    # All copies share the position.
    return {"entries": (len(real) - 1) * copies + 1, "accounts": len(ledger.accounts) * copies}


def _renamed(key: bytes, value: bytes, mark: bytes) -> tuple[bytes, bytes]:
    kind, *names = json.loads(key)
    if kind != "ids":
        return key.replace(_MARK, mark), value.replace(_MARK, mark)
    piece = np.frombuffer(value, ENTRY).copy()
    piece["low"] = np.frombuffer(os.urandom(8 * len(piece)), np.uint64)
    day, offset, number = names
    return ids_entry(day, offset + int(mark.strip(b"-")), number, piece.tobytes())


def _account_events(accounts: range) -> Iterator[AccountEvent]:
    """Two workspaces each with a package that both share, and some usage of either on each of the last days."""
    now, mark = datetime.now(UTC), _MARK.decode()
    days = [now.date() - timedelta(days=d) for d in range(_DAYS)]
    for a in accounts:
        account, workspaces = f"acct{mark}{a}", tuple(f"ws{mark}{a}-{w}" for w in range(_WORKSPACES))
        for workspace in workspaces:
            yield Bound(account, WorkspaceBinding(workspace, account))
        yield PackageChanged(
            account,
            Package(
                f"plan{mark}{a}", account, "plan", workspaces, {"logs": 1_000}, days[-1], days[0] + timedelta(300), now
            ),
        )
        series = [(workspace, day, "logs", 14) for day in days for workspace in workspaces]
        n = len(series)
        numbers = {"at": range(n), "quantities": [a % 100] * n, "micros": [to_micros(now)] * n, "offsets": [a] * n,
                   "indexes": range(n)}  # fmt: skip
        columns = {name: np.array(values, COLUMNS[name]).tobytes() for name, values in numbers.items()}
        yield Usage(account, a % 4, series, identities=os.urandom(IDENTITY.itemsize * n), **columns)


async def open_stage() -> dict[str, Any]:
    """Seconds from the assignment of the partition to a ledger that can go on, and what that ledger is."""
    settings = load_settings()
    tune_memory()
    stage, before, started = DrawdownStage(settings, 0, load_catalog(settings.catalog)), _resident(), monotonic()
    await stage.open(0)
    seconds = monotonic() - started
    return {"seconds": seconds, "resident_mb": (_resident() - before) / 1e6, "accounts": len(stage.ledger.accounts)}


def _resident() -> int:
    """Bytes of memory that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _main(task: str, *arguments: str) -> dict[str, Any]:
    match task:
        case "remember":
            return remember(int(arguments[0]), Path(arguments[1]))
        case "recall":
            return recall(Path(arguments[0]))
        case "fill":
            return asyncio.run(fill(int(arguments[0])))
        case _:
            return asyncio.run(open_stage())


if __name__ == "__main__":
    result = _main(*sys.argv[1:])
    sys.stdout.write(f"\n{json.dumps(result)}\n")
