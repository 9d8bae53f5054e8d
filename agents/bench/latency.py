"""Latency: how long after an event was due do readers of `quota-status` see a status that includes it.

The producer is a process of its own that sends event n when it is due, n / rate after it began. All events have quantity 1, and a
workspace's events are in one partition in order; so a status that says a demand of d includes the workspace's first d events. All
processes read the same monotonic clock of this machine. An event that its producer sends late counts from when it was due.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from agents.bench.load import Fleet
from agents.bench.stand import Stand
from agents.errors import CommandError
from schemas.topics import QUOTA_STATUS
from schemas.wire import WorkspaceShare

_QUOTA = 10**12
_PATIENCE_SECONDS = 60
_PERCENTILES = (50, 99, 99.9, 100)


#: A workspace, its first event that is new in a status, the one behind the last of them, and when the status was read.
_Seen = tuple[int, int, int, float]


class _Status(Struct, frozen=True):
    """What is read of a quota status."""

    workspaces: tuple[WorkspaceShare, ...]


async def measure_latency(stand: Stand, fleet: Fleet, rate: int, seconds: int) -> dict[str, Any]:
    """p50, p99, p99.9 and the largest of all events' latencies, in seconds."""
    await stand.prepare(fleet, _QUOTA)
    command = ["-m", "agents.bench.load", str(fleet.workspaces), str(rate), str(seconds)]
    async with stand.reading(QUOTA_STATUS.name) as consumer:
        producer = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, **stand.env}
        )
        try:
            async with asyncio.timeout(seconds + _PATIENCE_SECONDS):
                seen = await _follow(stand, consumer, rate * seconds)
                output, _ = await producer.communicate()
        except TimeoutError:
            raise CommandError(f"not all events were in a quota status {_PATIENCE_SECONDS} s after the last") from None
        finally:
            if producer.returncode is None:
                producer.kill()
    latencies = latencies_of(seen, json.loads(output), fleet.workspaces, rate)
    found = np.percentile(latencies, _PERCENTILES)
    names = (*(f"p{p}, s" for p in _PERCENTILES[:-1]), "max, s")
    return {"events": len(latencies), **dict(zip(names, map(float, found), strict=True))}


def latencies_of(seen: Sequence[_Seen], begin: float, workspaces: int, rate: int) -> npt.NDArray[np.float64]:
    """Seconds of each event: a workspace's k-th event is number k * `workspaces` + its own, and was due that many / `rate` on."""
    return np.concatenate(
        [at - begin - (np.arange(first, last) * workspaces + w) / rate for w, first, last, at in seen]
    )


async def _follow(stand: Stand, consumer: Any, events: int) -> list[_Seen]:
    decode, demands, total = msgspec.json.Decoder(_Status).decode, dict[str, int](), 0
    seen: list[_Seen] = []
    clock = asyncio.get_running_loop().time
    while total < events:
        batches = await consumer.getmany(timeout_ms=1000)
        now = clock()
        for record in (record for records in batches.values() for record in records):
            for share in decode(record.value).workspaces:
                before = demands.get(share.workspace, 0)
                if share.demand > before:
                    seen.append((int(share.workspace.removeprefix("ws-")), before, share.demand, now))
                    demands[share.workspace] = share.demand
                    total += share.demand - before
        stand.require_alive()
    return seen
