"""`drawdown bench`: three loops over the same topic in one run, on this machine.

    bare     aiokafka's `getmany`, decode and add: the ceiling of the client
    stock    a Faust agent, `async for event`, decode and add
    drawdown the whole worker: routing, duplicate memory, waterfall, transactions and the ClickHouse sink

Each loop is a process of its own, alone on the topic while it runs (Kafka and ClickHouse share the machine with it).
"""

from __future__ import annotations

import asyncio
import json
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from agents.local.processes import Child
from agents.local.services import Services
from agents.migrate import migrate
from agents.settings import Settings, load_settings
from agents.topics import ensure_topics
from schemas.topics import PACKAGES, USAGE, USAGE_TOTALS, WORKSPACES
from schemas.wire import UsageEvent, UsageTotals

_STOCK_EVENTS = 200_000
_ACCOUNTS = 100
_LOOP_SECONDS = 900


def run_bench(console: Console, events: int, workspaces: int) -> int:
    """Fill the topic, run the loops, print events per second."""
    with (
        tempfile.TemporaryDirectory(prefix="drawdown-bench-") as directory,
        Services(Path(directory), auto_ports=True) as services,
    ):
        settings = load_settings(kafka=services.kafka, clickhouse=services.clickhouse)
        asyncio.run(ensure_topics(settings))
        migrate(settings)
        asyncio.run(_fill(settings, events, workspaces, console))
        rates = {
            name: _loop(name, services, n) for name, n in (("bare", events), ("stock", min(events, _STOCK_EVENTS)))
        }
        child = Child(
            "worker", [sys.executable, "-m", "agents.cli", "worker"], Path(directory, "worker.log"), services.env
        )
        try:
            rates["drawdown"] = asyncio.run(_watch(settings, events, child))
        finally:
            child.stop()
    title = f"{events:,} single-event messages, {workspaces:,} workspaces, {settings.partitions} partitions, one process each"
    table = Table(
        "loop", "events/s", "x stock", "of bare", title=title, title_justify="left", box=None, header_style="bold"
    )
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,}", f"{rate / rates['stock']:.1f}", f"{rate / rates['bare']:.0%}")
    console.print(table)
    console.print(f"[dim]Python {platform.python_version()}, {platform.machine()}, {platform.system()}[/]")
    return 0


async def _fill(settings: Settings, events: int, workspaces: int, console: Console) -> None:
    """Bind the workspaces to accounts with a package each, then send the events."""
    now = datetime.now(UTC)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka, compression_type="lz4", linger_ms=20, max_batch_size=512 * 1024
    )  # fmt: skip
    await producer.start()
    members: dict[str, list[str]] = {}
    for w in range(workspaces):
        members.setdefault(f"acct-{w % _ACCOUNTS}", []).append(f"ws-{w}")
    for account, own in members.items():
        for workspace in own:
            await _put(producer, settings, WORKSPACES.name, workspace, {"workspace": workspace, "account": account})
        package = {
            "package": f"{account}-plan", "account": account, "kind": "plan", "workspaces": own,
            "quotas": {"logs": events * 50 // len(members)}, "effective": str((now - timedelta(days=1)).date()),
            "expires": str((now + timedelta(days=300)).date()), "ordered_at": now.isoformat(),
        }  # fmt: skip
        await _put(producer, settings, PACKAGES.name, f"{account}-plan", package)
    topic, time = settings.topic_prefix + USAGE.name, now.isoformat(timespec="milliseconds")
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("filling the usage topic", total=events)
        for n in range(events):
            workspace = f"ws-{n * 7919 % workspaces}"
            value = (
                f'{{"specversion":"1.0","id":"01JD3{n:012}","source":"collector/eu-1/{n % 8}","type":"usage.logs",'
                f'"subject":"{workspace}","time":"{time}","data":{{"quantity":{n % 100}}}}}'
            )
            await producer.send(topic, value.encode(), workspace.encode())
            if n % 10_000 == 0:
                progress.update(task, completed=n)
        await producer.stop()


async def _put(producer: AIOKafkaProducer, settings: Settings, topic: str, key: str, document: dict[str, Any]) -> None:
    await producer.send(settings.topic_prefix + topic, orjson.dumps(document), key.encode())


def _loop(name: str, services: Services, events: int) -> int:
    """Run a loop of this module in a process of its own; its events per second."""
    command = [sys.executable, "-m", "agents.bench", name, services.kafka, str(events)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_LOOP_SECONDS)  # noqa: S603
    return int(json.loads(result.stdout.splitlines()[-1]))


async def _watch(settings: Settings, events: int, worker: Child) -> int:
    """Events per second between the first and the last outputs of the worker."""
    topic = settings.topic_prefix + USAGE_TOTALS.name
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=settings.kafka, isolation_level="read_committed", auto_offset_reset="earliest"
    )  # fmt: skip
    await consumer.start()
    counted: Counter[tuple[str, str]] = Counter()
    decoder, started, before = msgspec.json.Decoder(UsageTotals), 0.0, 0
    try:
        while (total := counted.total()) < events:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    output = decoder.decode(record.value)
                    counted[output.account, str(output.day)] = output.counted
            if not started and counted.total():
                started, before = monotonic(), counted.total()
            if worker.returncode is not None:
                raise RuntimeError(f"the worker ended: {worker.tail()}")
    finally:
        await consumer.stop()
    return int((total - before) / (monotonic() - started))


async def _bare(kafka: str, events: int) -> int:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, auto_offset_reset="earliest", max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    topic = load_settings().topic_prefix + USAGE.name
    consumer.assign(
        [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or await _partitions(consumer, topic)]
    )
    decode, totals, seen, started = msgspec.json.Decoder(UsageEvent).decode, Counter[str](), 0, 0.0
    while seen < events:
        for records in (await consumer.getmany(timeout_ms=1000, max_records=10_000)).values():
            started = started or monotonic()
            for record in records:
                event = decode(record.value)
                totals[event.subject] += event.data.quantity
            seen += len(records)
    rate = int(seen / (monotonic() - started))
    await consumer.stop()
    return rate


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer._client._wait_on_metadata(topic)  # noqa: SLF001  # the public call does not ask for an unknown topic
    return set(consumer.partitions_for_topic(topic) or ())


async def _stock(kafka: str, events: int) -> int:
    import faust  # noqa: PLC0415  # only this loop needs it

    app = faust.App(
        "bench-stock", broker=f"kafka://{kafka}", topic_allow_declare=False, topic_disable_leader=True, web_enabled=False,
        consumer_auto_offset_reset="earliest", value_serializer="raw",
    )  # fmt: skip
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    decode, totals = msgspec.json.Decoder(UsageEvent).decode, Counter[str]()

    async def add(stream: Any) -> None:
        seen, started = 0, 0.0
        async for value in stream:
            started = started or monotonic()
            event = decode(value)
            totals[event.subject] += event.data.quantity
            seen += 1
            if seen == events and not done.done():
                done.set_result(int(seen / (monotonic() - started)))

    app.agent(app.topic(load_settings().topic_prefix + USAGE.name, value_serializer="raw", key_serializer="raw"))(add)
    await app.start()
    rate = await done
    await app.stop()
    return rate


if __name__ == "__main__":
    loops = {"bare": _bare, "stock": _stock}
    sys.stdout.write(f"\n{asyncio.run(loops[sys.argv[1]](sys.argv[2], int(sys.argv[3])))}\n")
