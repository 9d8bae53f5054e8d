"""Event produced -> bar moved in the browser, while other accounts send 20,000 events a second.

    python benchmarks/dashboard_latency.py [--rate 20000] [--seconds 60]

Everything runs on this machine: Kafka, ClickHouse, a worker, the API, the load, and headless Chromium. One account of its own gets
an event of quantity 1 five times a second; the page notes, in the frame that draws it, when the bar has moved. Both ends use the same clock.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from playwright.async_api import Page, async_playwright
from rich.console import Console

from agents.local.up import ALL_PARTS, Up
from agents.settings import Settings, load_settings
from schemas.topics import PACKAGES, USAGE, WORKSPACES

_ACCOUNTS, _WORKSPACES = 100, 1_000
_PROBE, _PROBE_SECONDS, _WARM_UP_SECONDS = "probe", 0.2, 5.0
_TICK_SECONDS, _LATE_SECONDS = 0.05, 10.0

#: Notes when each value of "used" was first drawn, once the frame is due in which the bar has it.
_WATCH = """() => {
    window.seen = {};
    const read = () => {
        const used = document.querySelector(".quota-used")?.title.split(" of ")[0].replaceAll(",", "");
        const part = document.querySelector(".share")?.style.getPropertyValue("--part");
        if (used && part && !(used in window.seen)) requestAnimationFrame(() => { window.seen[used] ??= Date.now(); });
    };
    const options = { subtree: true, childList: true, attributes: true };
    new MutationObserver(read).observe(document.getElementById("packages"), options);
}"""


def _event(workspace: str, identity: str, quantity: int) -> bytes:
    return orjson.dumps({
        "specversion": "1.0", "id": identity, "source": "bench", "type": "usage.logs", "subject": workspace,
        "time": datetime.now(UTC).isoformat(), "data": {"quantity": quantity},
    })  # fmt: skip


async def _sell(
    producer: AIOKafkaProducer, settings: Settings, account: str, workspaces: list[str], quota: int
) -> None:
    now = datetime.now(UTC)
    package: dict[str, Any] = {
        "package": account, "account": account, "kind": "plan", "workspaces": workspaces, "quotas": {"logs": quota},
        "effective": str((now - timedelta(days=1)).date()), "expires": str((now + timedelta(days=300)).date()),
        "ordered_at": now.isoformat(),
    }  # fmt: skip
    for workspace in workspaces:
        binding = orjson.dumps({"workspace": workspace, "account": account})
        await producer.send(settings.topic_prefix + WORKSPACES.name, binding, workspace.encode())
    await producer.send(settings.topic_prefix + PACKAGES.name, orjson.dumps(package), account.encode())
    await producer.flush()


def _producer(settings: Settings, linger_ms: int) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=settings.kafka, compression_type="lz4", linger_ms=linger_ms, max_batch_size=256 * 1024
    )


async def load(settings: Settings, rate: int, seconds: float) -> int:
    """Send single-event messages at a steady rate; how many were sent."""
    producer = _producer(settings, 10)
    await producer.start()
    for a in range(_ACCOUNTS):
        await _sell(producer, settings, f"a{a}", [f"w{w}" for w in range(a, _WORKSPACES, _ACCOUNTS)], 10**9)
    topic, sent, started = settings.topic_prefix + USAGE.name, 0, time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        while sent < elapsed * rate:
            workspace = f"w{sent * 7919 % _WORKSPACES}"
            await producer.send(topic, _event(workspace, str(sent), sent % 100), workspace.encode())
            sent += 1
        await asyncio.sleep(_TICK_SECONDS)
    await producer.stop()
    return sent


async def measure(settings: Settings, address: str, seconds: float) -> list[float]:
    """Seconds from each probe's sending to the frame that shows it."""
    producer = _producer(settings, 0)
    await producer.start()
    await _sell(producer, settings, _PROBE, [_PROBE], int(seconds / _PROBE_SECONDS) + 1)
    found = shutil.which("chromium") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"{address}&account={_PROBE}")
        await page.wait_for_selector(".quota")
        await page.evaluate(_WATCH)
        await asyncio.sleep(_WARM_UP_SECONDS)
        sent = await _probe(producer, settings, seconds)
        seen = await _seen(page, len(sent))
        await browser.close()
    await producer.stop()
    # A value that was never drawn was overtaken by a later one: it is as old as the first that was.
    drawn = [min((at for used, at in seen.items() if used >= n), default=float("inf")) for n in range(1, len(sent) + 1)]
    return [at / 1000 - when for at, when in zip(drawn, sent, strict=True)]


async def _probe(producer: AIOKafkaProducer, settings: Settings, seconds: float) -> list[float]:
    sent: list[float] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        sent.append(time.time())
        value = _event(_PROBE, str(len(sent)), 1)
        await producer.send_and_wait(settings.topic_prefix + USAGE.name, value, _PROBE.encode())
        await asyncio.sleep(max(0.0, sent[-1] + _PROBE_SECONDS - time.time()))
    return sent


async def _seen(page: Page, wanted: int) -> dict[int, float]:
    deadline = time.monotonic() + _LATE_SECONDS
    while True:
        seen = {int(used): float(at) for used, at in (await page.evaluate("window.seen")).items() if int(used)}
        if wanted in seen or time.monotonic() > deadline:
            return seen
        await asyncio.sleep(_PROBE_SECONDS)


def main() -> int:
    """Start everything, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--load-only", action="store_true", help="be the process that sends the load")
    options, console = parser.parse_args(), Console()
    if options.load_only:
        sent = asyncio.run(load(load_settings(), options.rate, options.seconds))
        console.print(f"{sent / options.seconds:,.0f} events/s were sent")
        return 0
    with (
        tempfile.TemporaryDirectory(prefix="drawdown-latency-") as directory,
        Up(load_settings(), Path(directory), ALL_PARTS, auto_ports=True) as up,
    ):
        seconds = options.seconds + 4 * _WARM_UP_SECONDS
        command = [sys.executable, __file__, "--load-only", "--rate", str(options.rate), "--seconds", str(seconds)]
        with subprocess.Popen(command, env={**os.environ, **up.env}):  # noqa: S603
            delays = asyncio.run(measure(up.settings, str(up.dashboard), options.seconds))
    cuts = quantiles(delays, n=100)
    console.print(f"{len(delays)} probes: p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, most {max(delays):.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
