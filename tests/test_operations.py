"""What an operator sees of a live worker: metrics, probes and logs, while it is well, stuck, cut off and broken."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from faust.types import TP
from prometheus_client.parser import text_string_to_metric_families

from agents import sink
from agents.health import Health
from agents.local.processes import free_port
from agents.local.services import Services
from agents.partition import Partition
from agents.settings import Settings
from agents.transactions import Transactor, Writes
from conftest import Meter, stopped
from pipeline.records import Record, Records
from schemas.topics import ACCOUNT_EVENTS, ALERT_RULES, PACKAGES, USAGE, WORKSPACES
from test_transactions import Scripted, commit_of
from world import binding, event, package

#: Seconds. The default is 20; the rules are the same.
STUCK_AFTER = 4
#: Seconds until something that comes must have come, on a busy machine too.
PATIENCE = 90

#: A worker that can be made to hang: SIGUSR1 stops and resumes its fetches, SIGUSR2 blocks its event loop for some seconds, and an
#: event of 666 breaks a law.
WORKER = """
import asyncio, signal, time
from agents import cli, lag, transport
from pipeline.law import ensure
from pipeline.ledger import Ledger

hanging, fetch, add = False, transport.ChunkThread.getmany, Ledger._add

async def getmany(self, *args):
    while hanging:
        await asyncio.sleep(0.05)
    return await fetch(self, *args)

def toggle(*_):
    global hanging
    hanging = not hanging

def checked(self, account, gain):
    ensure(gain.total != 666, "law of the test: no 666", gain.total)
    add(self, account, gain)

lag._OPEN_SECONDS = 1
transport.ChunkThread.getmany, Ledger._add = getmany, checked
signal.signal(signal.SIGUSR1, toggle)
signal.signal(signal.SIGUSR2, lambda *_: time.sleep(10))
cli.main()
"""

#: contract.md, section 5.
CONTRACT = {
    "drawdown_events_total": {"meter", "outcome"},
    "drawdown_event_delay_seconds": set(),
    "drawdown_checkpoint_seconds": {"topic"},
    "drawdown_consumer_lag": {"topic", "partition"},
    "drawdown_seconds_since_progress": set(),
    "drawdown_package_utilization": {"account", "package", "meter"},
    "drawdown_overage_events_total": set(),
    "drawdown_clickhouse_insert_seconds": {"table"},
    "drawdown_clickhouse_insert_failures_total": set(),
    "drawdown_invariant_violations_total": set(),
}


class Watched:
    """A worker with probes, and its meter."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.port = free_port()
        self.at = datetime.now(UTC) - timedelta(seconds=1)
        self.start()

    def start(self) -> None:
        """Start it; again, if it has ended."""
        env = {
            "DRAWDOWN_METRICS_PORT": str(self.port), "DRAWDOWN_STUCK_AFTER": str(STUCK_AFTER),
            "DRAWDOWN_LOG_FORMAT": "json", "PYTHONPATH": str(Path(__file__).parents[1]),
        }  # fmt: skip
        with self.meter.log.open("ab") as output:
            command = [sys.executable, "-c", WORKER, "worker"]
            self.process = subprocess.Popen(command, env=self.meter.env | env, stdout=output, stderr=output)
        self.meter.workers.append(self.process)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def reasons(self) -> list[dict[str, Any]] | None:
        """Why it is not ready; None while nobody listens."""
        status, body = self.get("/readyz")
        if not status:
            return None
        told = json.loads(body)
        assert told["ready"] == (status == 200) == (not told["reasons"])
        return list(told["reasons"])

    def until(self, reached: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        """What `reached` gives once it is true; a worker that ends is started again, as in production."""
        deadline = time.monotonic() + seconds
        while not (found := reached()):
            if self.process.poll() is not None:
                self.start()
            if time.monotonic() > deadline:
                pytest.fail(f"{what}: {self.get('/readyz')}; {self.meter.log.read_text()[-3000:]}")
            time.sleep(0.05)
        return found

    def green(self) -> None:
        """Wait until it is ready."""
        self.until(lambda: self.reasons() == [], "ready")

    def red(self, code: str) -> dict[str, Any]:
        """Wait until it is not ready for this reason."""
        reason: dict[str, Any] = self.until(
            lambda: next((r for r in self.reasons() or () if r["code"] == code), None), f"not ready: {code}"
        )
        return reason

    def metrics(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Name -> samples."""
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        body = self.until(lambda: self.get("/metrics")[1], "metrics")
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(v for found, v in self.metrics().get(name, []) if labels.items() <= found.items())

    def lagging(self) -> set[tuple[str, str]]:
        """Topics and partitions whose lag is shown."""
        return {(s["topic"], s["partition"]) for s, _ in self.metrics().get("drawdown_consumer_lag", ())}

    def every(self) -> None:
        """Wait until this worker shows the lag of all partitions of its ledgers and its sink."""
        read, settings = {USAGE, WORKSPACES, PACKAGES, ALERT_RULES, ACCOUNT_EVENTS, *sink._TABLES}, self.meter.settings
        numbers = {t: range(settings.partitions if t.partitioned else 1) for t in read}
        wanted = {(f"{settings.topic_prefix}{t.name}", str(n)) for t in read for n in numbers[t]}
        self.until(lambda: self.lagging() == wanted, "the lag of all is shown")

    def use(self, number: int, quantity: int = 1) -> None:
        """One event of workspace A."""
        value = event("A", "logs", quantity, str(number), self.at)
        self.meter.send("usage", [(b"A", json.dumps(value).encode())])


@pytest.fixture(scope="module")
def watched(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One worker for the tests of this module, which leave it ready."""
    meter = Meter(services, tmp_path_factory.mktemp("watched"))
    one = Watched(meter)
    one.green()
    meter.documents([binding("A", "acct"), binding("B", "acct")], [package("p", "acct", ["A"], {"logs": 1000}, one.at)])
    one.until(lambda: meter.rows("SELECT count() FROM quota_history")[0][0], "the package is known")
    yield one
    meter.close()


def test_every_metric_of_the_contract_is_there_and_filled(watched: Watched) -> None:
    """Usage, a duplicate, a dead letter and an overage, and each metric says what happened."""
    meter, before = watched.meter, watched.metrics()
    for _ in range(2):
        watched.use(1, 900)
    watched.use(2, 200)
    watched.use(3, -5)
    watched.until(lambda: meter.ended() >= 4, "four events ended")
    watched.every()
    watched.until(lambda: watched.value("drawdown_consumer_lag") == 0, "no lag")
    found = watched.metrics()
    for name, labels in CONTRACT.items():
        samples = found.get(name) or found[f"{name}_count"]
        assert {*samples[0][0]} == labels, name

    def grown(name: str, **labels: str) -> float:
        old = sum(v for sample, v in before.get(name, []) if labels.items() <= sample.items())
        return watched.value(name, **labels) - old

    # They are counted when the transaction is durable, on a way of its own; the delay comes last.
    watched.until(lambda: grown("drawdown_event_delay_seconds_count") >= 1, "it is counted")
    for outcome, events in (("counted", 2), ("duplicate", 1), ("dead_letter", 1)):
        watched.until(
            lambda outcome=outcome: grown("drawdown_events_total", meter="logs", outcome=outcome),
            f"{outcome} is counted",
        )
        assert grown("drawdown_events_total", meter="logs", outcome=outcome) == events
    assert watched.value("drawdown_package_utilization", account="acct", package="p", meter="logs") == 1
    assert grown("drawdown_overage_events_total") >= 1
    for name in ("drawdown_checkpoint_seconds", "drawdown_clickhouse_insert_seconds"):
        assert grown(f"{name}_count") >= 1
        assert grown(f"{name}_sum") > 0
    assert watched.value("drawdown_seconds_since_progress") < PATIENCE
    assert watched.value("drawdown_invariant_violations_total") == 0
    prefix, partitions = meter.settings.topic_prefix, meter.settings.partitions
    for topic in ("usage", "account-events", "quota-status", "overage"):
        lag = {s["partition"] for s, _ in found["drawdown_consumer_lag"] if s["topic"] == prefix + topic}
        assert lag == {str(number) for number in range(partitions)}, topic


def test_idle_is_ready(watched: Watched) -> None:
    """Nothing to do for longer than the limit is no reason."""
    watched.green()
    deadline = time.monotonic() + STUCK_AFTER + 1.5
    while time.monotonic() < deadline:
        assert watched.reasons() == []
        time.sleep(0.1)


def test_a_fetch_that_hangs_is_red_and_then_green_again(watched: Watched) -> None:
    """Another producer adds lag meanwhile; the body says where."""
    watched.green()
    watched.process.send_signal(signal.SIGUSR1)
    try:
        # The fetch under way gets through; so the first event may hang before the second hop only.
        watched.use(10)
        watched.use(11)
        reason = watched.red("nothing_fetched_despite_lag")
        assert reason["topic"] in {
            f"{watched.meter.settings.topic_prefix}{name}" for name in ("usage", "account-events")
        }
        assert reason["reader"] == "ledger"
        assert 0 < reason["lag"] <= watched.value("drawdown_consumer_lag")
        assert watched.get("/healthz")[0] == 200
    finally:
        watched.process.send_signal(signal.SIGUSR1)
    watched.green()
    watched.until(lambda: watched.value("drawdown_consumer_lag") == 0, "no lag")


async def test_a_transaction_that_a_producer_leaves_open_is_red_and_then_green_again(watched: Watched) -> None:
    """Nothing behind its first record can be read until it ends, and the reader seems to be at the end."""
    watched.green()
    topic = f"{watched.meter.settings.topic_prefix}usage"
    async with AIOKafkaProducer(bootstrap_servers=watched.meter.settings.kafka, transactional_id=topic) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, json.dumps(event("A", "logs", 1, "open", watched.at)).encode(), b"A")
        assert watched.red("transaction_left_open")["topic"] == topic
        await producer.abort_transaction()
    watched.green()


def test_an_event_loop_that_hangs_is_red_and_then_green_again(watched: Watched) -> None:
    """The probes answer all the same."""
    watched.green()
    watched.process.send_signal(signal.SIGUSR2)
    assert watched.red("event_loop_hangs")["seconds"] >= STUCK_AFTER
    watched.green()


def test_a_clickhouse_that_hangs_is_red_and_then_green_again(watched: Watched) -> None:
    """The insert waits for an answer; the body names the table."""
    watched.green()
    with stopped(watched.meter.services.children["clickhouse"].pid):
        watched.use(20)
        assert watched.red("clickhouse_insert_fails")["table"]
    watched.green()


def test_a_kafka_that_hangs_is_red_and_then_green_again(watched: Watched) -> None:
    """Nothing can be fetched or written; a worker that gave up is started again."""
    watched.green()
    with stopped(watched.meter.services.children["kafka"].pid):
        watched.red("kafka_does_not_answer")
    watched.green()
    watched.use(30)
    watched.until(lambda: watched.meter.rows("SELECT 1 FROM usage_events WHERE id = '30'"), "the event arrived")


def test_a_partition_that_leaves_takes_its_series_along(watched: Watched) -> None:
    """A second worker takes half of the partitions: neither lag nor utilization of those are shown any more by the first."""
    watched.green()
    watched.every()
    second = watched.meter.start_worker()
    # Of each topic with several partitions both get some; a worker that only joins anew shows none of its topics, or all.
    usage = {(f"{watched.meter.settings.topic_prefix}usage", str(n)) for n in range(watched.meter.settings.partitions)}
    watched.until(lambda: 0 < len(usage & watched.lagging()) < len(usage), "some of them left")
    second.terminate()
    assert second.wait(PATIENCE) == 0
    watched.every()
    watched.green()


def lines(log: Path) -> list[dict[str, Any]]:
    """Every line of a log, and each is one JSON object."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_broken_law_is_red_and_pages_once_with_its_place(meter: Meter) -> None:
    """It acknowledges nothing, says which law, account, partition and offset, stays for Prometheus to see, and ends with 1."""
    meter.documents([binding("A", "acct"), binding("B", "acct")], [])
    watched = Watched(meter)
    watched.green()
    watched.use(1)
    watched.until(lambda: meter.ended() == 1, "the first event counts")
    watched.use(2, 666)
    reason = watched.red("law_broken")
    assert (reason["account"], reason["topic"]) == ("acct", f"{meter.settings.topic_prefix}account-events")
    assert "law of the test" in reason["law"]
    watched.until(lambda: watched.value("drawdown_invariant_violations_total") == 1, "counted")
    assert meter.ended() == 1
    watched.process.terminate()
    assert watched.process.wait(PATIENCE) == 1
    pages = [line for line in lines(meter.log) if line["level"] in ("error", "critical")]
    assert len(pages) == 1, pages
    (page,) = pages
    assert {name: page[name] for name in ("account", "topic", "partition", "offset", "law")} == {
        name: reason[name] for name in ("account", "topic", "partition", "offset", "law")
    }
    assert page["event"] == "a law of the ledger is broken: nothing more is acknowledged"


def test_outages_and_a_fenced_producer_page_nobody(meter: Meter) -> None:
    """One clear line each, with its fields; and a secret is in none of them."""
    meter.documents([binding("A", "acct")], [])
    watched = Watched(meter)
    watched.green()
    topic = f"{meter.settings.topic_prefix}usage"
    for number in range(meter.settings.partitions):
        asyncio.run(fence(meter.settings, TopicPartition(topic, number)))
    watched.use(1)
    assert watched.process.wait(PATIENCE) == 1
    told = lines(meter.log)
    assert [line for line in told if line["level"] in ("error", "critical")] == []
    slow = "the Faust app did not stop in time"
    (line,) = [line for line in told if line["level"] == "warning" and line["event"] != slow]
    assert line["event"] == "another worker owns the partition now: this worker ends"
    assert line["topic"] == topic
    assert line["partition"] in range(meter.settings.partitions)


async def fence(settings: Settings, source: TopicPartition) -> None:
    """Be the newer owner for a moment."""
    transactor = Transactor(settings, source, Writes(()))
    await transactor.start()
    await transactor.stop()


async def test_records_in_hand_and_a_transaction_that_hang_are_red_and_then_green_again(meter: Meter) -> None:
    """Fetched and never processed, though the partition commits at intervals; and a commit while Kafka does not answer."""
    tp = TP(f"{meter.settings.topic_prefix}account-events", 0)
    stage, health, failures = Scripted([]), Health(0.5), []
    health.started()
    partition = Partition(meter.settings, tp, 1, stage, failures.append, health)
    await partition.fence()
    await partition.open(0)

    async def until(*codes: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while {reason["code"] for reason in health.reasons()} != {*codes}:  # noqa: ASYNC110  # it is asked, it does not tell
                await asyncio.sleep(0.05)

    partition.fetched(1)
    await until("fetched_but_not_made_durable")
    assert health.reasons()[0]["partition"] == 0
    stage.next_offset = 1
    await partition.take(1, Records.of([Record(0, None, b"")]))
    await until()
    with stopped(meter.services.children["kafka"].pid):
        partition.fetched(2)
        stage.commits.append(commit_of(meter.settings, b"1", 2))
        stage.next_offset = 2
        await partition.take(1, Records.of([Record(1, None, b"")]))
        await until("fetched_but_not_made_durable", "transaction_hangs")
    await until()
    await partition.close()
    assert failures == []
