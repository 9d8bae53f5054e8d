"""Real servers, started once a run and only if a test needs them; every test has topics, tables and workers of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.client import Client
from playwright.sync_api import Browser, sync_playwright

from agents.clickhouse import connect
from agents.local.services import Services
from agents.migrate import migrate
from agents.settings import Settings, load_settings
from agents.topics import ensure_topics
from served import Served, serve

# The first call of a compiled loop compiles it, and servers share the cores: how long an example takes says nothing.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

#: Tests of a module with one of these speak of today from its beginning to its end, which takes no longer than that.
TODAY, MODULE_SECONDS = {"served", "site", "shop", "watched"}, 300

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Function) -> Generator[None, object, object]:
    """A module that would see midnight begins after it; no test's time runs here."""
    left = 86_400 - time.time() % 86_400
    if left < MODULE_SECONDS and not TODAY.isdisjoint(item.fixturenames):
        module = item.getparent(pytest.Module)
        if item is next(one for one in item.session.items if one.getparent(pytest.Module) is module):
            time.sleep(left + 1)
    return (yield)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Kafka and ClickHouse on free ports, or those of DRAWDOWN_KAFKA and DRAWDOWN_CLICKHOUSE."""
    with Services(tmp_path_factory.mktemp("services"), auto_ports=True) as running:
        yield running


class Meter:
    """A meter of its own on the shared servers: prefix, database and group are this test's."""

    def __init__(self, services: Services, logs: Path) -> None:
        name = f"t{uuid4().hex[:12]}"
        self.services = services
        self.settings: Settings = load_settings(
            kafka=services.kafka, clickhouse=services.clickhouse, topic_prefix=f"{name}.", clickhouse_database=name,
            group=name, session_timeout=6.0,
        )  # fmt: skip
        self.env = {
            **os.environ, "DRAWDOWN_KAFKA": services.kafka, "DRAWDOWN_CLICKHOUSE": services.clickhouse,
            "DRAWDOWN_TOPIC_PREFIX": f"{name}.", "DRAWDOWN_CLICKHOUSE_DATABASE": name, "DRAWDOWN_GROUP": name,
            "DRAWDOWN_SESSION_TIMEOUT": "6",
        }  # fmt: skip
        self.log = logs / "worker.log"
        self.workers: list[subprocess.Popen[bytes]] = []
        asyncio.run(ensure_topics(self.settings))
        migrate(self.settings)
        self.client: Client = connect(self.settings)

    def start_worker(self, **env: str) -> subprocess.Popen[bytes]:
        """A worker process."""
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "agents.cli", "worker"]
            worker = subprocess.Popen(command, env=self.env | env, stdout=output, stderr=output)
        self.workers.append(worker)
        return worker

    def send(self, topic: str, values: list[tuple[bytes | None, bytes]]) -> None:
        """Produce records and wait until Kafka has them."""
        asyncio.run(self._send(self.settings.topic_prefix + topic, values))

    async def _send(self, topic: str, values: list[tuple[bytes | None, bytes]]) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self.settings.kafka, max_request_size=16 << 20, enable_idempotence=True
        )
        await producer.start()
        try:
            await asyncio.gather(*[await producer.send(topic, value, key) for key, value in values])
        finally:
            await producer.stop()

    def documents(self, bindings: list[dict[str, Any]], packages: list[dict[str, Any]]) -> None:
        """Bind workspaces and sell packages."""
        self.send("workspaces", [(b["workspace"].encode(), json.dumps(b).encode()) for b in bindings])
        self.send("packages", [(p["package"].encode(), json.dumps(p).encode()) for p in packages])

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return [tuple(row) for row in self.client.query(sql).result_rows]

    def ended(self) -> int:
        """Events that ended as counted, duplicate or dead letter."""
        (counted, duplicates), = self.rows("SELECT sum(counted), sum(duplicates) FROM usage_outcomes")  # fmt: skip
        return int(counted + duplicates + self.rows("SELECT count() FROM dead_letters FINAL")[0][0])

    def wait(self, reached: Callable[[], bool], what: str, seconds: float = 90) -> None:
        """Wait until ClickHouse says so."""
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                pytest.fail(f"not reached in {seconds} s: {what}; worker: {self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.client.close()


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """It hangs meanwhile: it neither answers nor ends."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.fixture
def meter(services: Services, tmp_path: Path) -> Iterator[Meter]:
    """A meter of this test's own; no worker runs yet."""
    one = Meter(services, tmp_path)
    yield one
    one.close()


@pytest.fixture(scope="module")
def served(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A meter with a worker and an API that the tests of a module share: each adds what it needs under names of its own.

    Not for longer: other modules kill the servers that all share, and nobody starts this worker again.
    """
    directory = tmp_path_factory.mktemp("served")
    with closing(Meter(services, directory)) as one, closing(serve(one, directory)) as api:
        yield api


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system; `make test` installs it on Debian as root.

    From its start on `asyncio.run` is refused in this thread, where Playwright's own loop runs.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} is installed")
    # A sandbox needs a user that is not root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=arguments)
        yield running
        running.close()
