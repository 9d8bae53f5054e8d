"""200 dashboards on one API process: `python benchmarks/streams.py`. Prints what the process takes, and how late its events are.

Kafka, ClickHouse, a worker, the API, the load and the clients share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import orjson
from aiokafka import AIOKafkaProducer

from agents.local.services import ALL_PARTS
from agents.local.up import Up
from agents.settings import Settings, load_settings

_ACCOUNTS, _METERS = 10, ("logs", "traces", "page_views")
_TICK_SECONDS = 0.05
_CLOCK_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICK


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def set_up(settings: Settings) -> None:
    """Ten accounts of two workspaces each, with a package."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        for a in range(_ACCOUNTS):
            names = [f"w{a}-{n}" for n in range(2)]
            for name in names:
                document = {"workspace": name, "account": f"acct-{a}"}
                await producer.send_and_wait("drawdown.workspaces", orjson.dumps(document), name.encode())
            package = {
                "package": f"p{a}", "account": f"acct-{a}", "kind": "plan", "workspaces": names,
                "quotas": dict.fromkeys(_METERS, 10**9), "effective": "2026-01-01", "expires": "2036-01-01",
                "ordered_at": "2026-01-01T00:00:00Z",
            }  # fmt: skip
            await producer.send_and_wait("drawdown.packages", orjson.dumps(package), f"p{a}".encode())
    await asyncio.sleep(3)


async def load(kafka: str, rate: int, seconds: int) -> float:
    """Usage at a steady rate; the rate that was reached."""
    async with AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=5, compression_type="lz4") as producer:
        sent, began = 0, time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            at = datetime.now(UTC).isoformat()
            for n in range(sent, int(elapsed * rate)):
                name = f"w{n % _ACCOUNTS}-{n // _ACCOUNTS % 2}"
                event = {"specversion": "1.0", "id": str(n), "source": "streams", "time": at, "subject": name,
                         "type": f"usage.{_METERS[n // 20 % 3]}", "data": {"quantity": 1}}  # fmt: skip
                await producer.send("drawdown.usage", orjson.dumps(event), name.encode())
                sent += 1
            await asyncio.sleep(_TICK_SECONDS)
        return sent / (time.monotonic() - began)


async def watch(address: str, key: str, number: int, delays: list[float]) -> None:
    """One dashboard; `delays` has the seconds from a figure's `at` until it is here."""
    url = urlsplit(address)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    request = (
        f"GET /v1/accounts/acct-{number % _ACCOUNTS}/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
    )
    writer.write(request.encode())
    quota = False
    while line := await reader.readline():
        if line.startswith(b"data: ") and quota:
            delays.append(time.time() - datetime.fromisoformat(orjson.loads(line[6:])["at"]).timestamp())
        quota = line == b"event: quota\n" or (quota and line.startswith(b"id: "))


def clients(address: str, key: str, count: int, seconds: float, told: Connection) -> None:
    """A process of dashboards."""

    async def run() -> list[float]:
        delays: list[float] = []
        tasks = [asyncio.create_task(watch(address, key, number, delays)) for number in range(count)]
        await asyncio.sleep(seconds)
        open_still = sum(not task.done() for task in tasks)
        told.send(open_still)
        return delays

    told.send(asyncio.run(run()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    for name, default in (("clients", 200), ("rate", 2000), ("seconds", 30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Up(load_settings(), Path(folder), ALL_PARTS, auto_ports=True) as up:
        pid, address, key = up.pids["api"], up.api or "", up.api_key or ""
        asyncio.run(set_up(up.settings))
        idle = memory_mib(pid)
        here, there = multiprocessing.Pipe()
        arguments = (address, key, wanted.clients, wanted.seconds + 5, there)
        watching = multiprocessing.get_context("fork").Process(target=clients, args=arguments)
        watching.start()
        time.sleep(2)
        before, began = cpu_seconds(pid), time.monotonic()
        reached = asyncio.run(load(up.settings.kafka, wanted.rate, wanted.seconds))
        cpu = (cpu_seconds(pid) - before) / (time.monotonic() - began)
        memory, still, delays = memory_mib(pid), here.recv(), here.recv()
        watching.join()
    cuts = statistics.quantiles(delays, n=100)
    sys.stdout.write(
        f"{still} of {wanted.clients} streams open at the end; {reached:,.0f} usage events/s;"
        f" {len(delays) / wanted.seconds:.0f} quota events/s sent\n"
        f"API: {cpu:.0%} of a core, {memory:.0f} MiB ({idle:.0f} MiB before the first client)\n"
        f"published -> at the client: p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms\n"
    )


if __name__ == "__main__":
    main()
