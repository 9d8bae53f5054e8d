"""`drawdown up` and its commands as a user meets them: real processes, and every foreseeable mistake."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from agents.kafka import committed_offsets
from agents.local import kafka
from agents.local.services import Services
from agents.local.up import Up
from agents.settings import Settings, load_settings
from world import binding, event

DRAWDOWN = [sys.executable, "-m", "agents.cli"]


def drawdown(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself within seconds."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DRAWDOWN_") or k == "DRAWDOWN_CACHE"}
    return subprocess.run(
        [*DRAWDOWN, *arguments], env=clean | env, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip


def gone(pid: int, seconds: float = 10) -> bool:
    """Whether a process ends in time (a zombie has ended)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(params=["nobody", "silent"])
def nobody(request: pytest.FixtureRequest) -> Iterator[str]:
    """A loopback address at which nothing listens, or somebody who accepts and never answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        if request.param == "silent":
            probe.listen()
        yield f"127.0.0.1:{probe.getsockname()[1]}"


def test_up_is_alone_in_its_directory_and_takes_its_children_along(tmp_path: Path) -> None:
    """A ready file with every address; a second `up` is refused; after kill -9 no server is left behind."""
    ready = tmp_path / "ready.json"
    arguments = [
        "up",
        "--dir",
        str(tmp_path / "d"),
        "--only",
        "kafka,clickhouse,api",
        "--ports",
        "auto",
        "--ready-file",
        str(ready),
    ]
    first = subprocess.Popen([*DRAWDOWN, *arguments], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        told = json.loads(ready.read_text())
        assert told["env"]["DRAWDOWN_KAFKA"] == told["kafka"]
        assert told["env"]["DRAWDOWN_CLICKHOUSE"] == told["clickhouse"]
        assert drawdown("topics", "--check", **told["env"]).returncode == 0
        assert drawdown("migrate", "--check", **told["env"]).returncode == 0
        headers = {"Authorization": f"Bearer {told['api_key']}"}
        assert httpx.get(f"{told['api']}/v1/accounts", headers=headers, timeout=60).json() == {"accounts": []}
        assert told["env"]["DRAWDOWN_API_KEYS_FILE"] == str(tmp_path / "d" / "api-keys.toml")
        assert set(told["pids"]) == {"kafka", "clickhouse", "api"}
        second = drawdown(*arguments)
        assert (second.returncode, second.stderr.count("\n")) == (2, 1)
        assert "in use by another" in second.stderr
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert all(gone(pid) for pid in told["pids"].values())


def test_a_port_in_use(tmp_path: Path) -> None:
    """The default port taken: one line that names it, and exit code 2."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 9092))
            taken.listen()
        except OSError:
            pass  # somebody else takes it: as good
        result = drawdown("up", "--dir", str(tmp_path), "--only", "kafka")
    assert result.returncode == 2
    assert result.stderr.startswith("drawdown: port 9092 for kafka is in use")


def test_no_java(tmp_path: Path) -> None:
    """Without Java: one line that names the way around, and exit code 2."""
    result = drawdown("up", "--dir", str(tmp_path), "--only", "kafka", "--ports", "auto", PATH="/nowhere")
    assert result.returncode == 2
    assert "Java 17" in result.stderr
    assert "DRAWDOWN_KAFKA=host:port" in result.stderr


@pytest.mark.parametrize("command", ["topics", "worker", "up"])
def test_a_kafka_that_does_not_answer(command: str, nobody: str, tmp_path: Path) -> None:
    """Within seconds, one line, exit code 3."""
    more = ["--dir", str(tmp_path)] if command == "up" else []
    result = drawdown(command, *more, DRAWDOWN_KAFKA=nobody)
    assert (result.returncode, result.stderr.strip().count("\n")) == (3, 0), result.stderr
    assert f"Kafka at {nobody} does not answer" in result.stderr


@pytest.mark.parametrize("command", [["migrate"], ["quota", "acct"]])
def test_a_clickhouse_that_does_not_answer(command: list[str], nobody: str) -> None:
    """Within seconds, one line, exit code 3."""
    result = drawdown(*command, DRAWDOWN_CLICKHOUSE=f"http://{nobody}")
    assert (result.returncode, result.stderr.strip().count("\n")) == (3, 0), result.stderr
    assert "ClickHouse at" in result.stderr


def test_an_api_without_keys(tmp_path: Path) -> None:
    """Before anything else: one line that says what to do, and exit code 2."""
    for env in ({}, {"DRAWDOWN_API_KEYS_FILE": str(tmp_path / "none")}):
        result = drawdown("api", **env)
        assert (result.returncode, result.stderr.strip().count("\n")) == (2, 0), result.stderr
        assert "api-key create" in result.stderr


def test_all_wrong_settings_at_once() -> None:
    """Every error in one go, exit code 2, and no secret in the output of a good configuration."""
    result = drawdown("check-config", DRAWDOWN_PARTITIONS="0", DRAWDOWN_LOG_LEVEL="loud", DRAWDOWN_CHECKPOINT="x")
    assert result.returncode == 2
    assert all(name in result.stderr for name in ("DRAWDOWN_PARTITIONS", "DRAWDOWN_LOG_LEVEL", "DRAWDOWN_CHECKPOINT"))
    misspelt = drawdown("check-config", DRAWDOWN_CHEKPOINT="1")
    assert (misspelt.returncode, misspelt.stderr) == (
        2,
        "drawdown: DRAWDOWN_CHEKPOINT: no such setting; DRAWDOWN_CHECKPOINT?\n",
    )
    for missing in (drawdown("worker", "--config", "none.toml"), drawdown("worker", DRAWDOWN_SECRETS_DIR="/none")):
        assert (missing.returncode, missing.stderr.count("\n")) == (2, 1), missing.stderr
    good = drawdown("check-config", "--json", DRAWDOWN_CLICKHOUSE_PASSWORD="s3cret")
    assert good.returncode == 0
    assert "s3cret" not in good.stdout


def test_a_node_that_is_alone_ends_its_transactions_before_it_stops() -> None:
    """Fenced first, as in an orderly shutdown, Kafka 4.3.1 calls transactions complete without a mark: chaos, seed 16, said a dead letter twice."""
    compose = (Path(__file__).parents[1] / "docker-compose.yml").read_text()
    assert "controlled.shutdown.enable=false\n" in kafka._PROPERTIES
    assert 'KAFKA_CONTROLLED_SHUTDOWN_ENABLE: "false"\n' in compose


def test_data_survives_a_restart(tmp_path: Path) -> None:
    """Topics and tables are there after the servers were killed and started again."""
    with Services(tmp_path, auto_ports=True) as services:
        env = services.env
        assert drawdown("topics", **env).returncode == 0
        assert drawdown("migrate", **env).returncode == 0
        for part in ("kafka", "clickhouse"):
            services.kill(part)
            services.start(part)
        deadline = time.monotonic() + 60
        while drawdown("topics", "--check", **env).returncode:  # the port is open before the broker knows itself
            assert time.monotonic() < deadline
        assert drawdown("migrate", "--check", **env).returncode == 0


def test_without_the_listener_the_engine_runs_inside_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fall-back of `up`: clickhouse-connect's embedded backend; the totals are in its directory afterwards."""
    monkeypatch.setattr("agents.local.services._CLICKHOUSE_MODULE", "agents.local.no_such_module")
    for name in [name for name in os.environ if name.startswith("DRAWDOWN_") and name != "DRAWDOWN_CACHE"]:
        monkeypatch.delenv(name)
    now = datetime.now(UTC)
    with Up(load_settings(), tmp_path, ("kafka", "clickhouse", "worker"), auto_ports=True) as running:
        env = running.env
        assert env["DRAWDOWN_CLICKHOUSE"].startswith("chdb://")
        asyncio.run(_send_and_wait_for_the_sink(running.settings, now))
    count = "from agents.clickhouse import connect; from agents.settings import Settings, load_settings as s;"
    count += "print(connect(s()).query('SELECT sum(quantity) FROM usage_totals').result_rows[0][0])"
    result = subprocess.run(
        [sys.executable, "-c", count], env=os.environ | env, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "42"


async def _send_and_wait_for_the_sink(settings: Settings, now: datetime) -> None:
    """The sink commits the offset of the totals after it has inserted them."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        for topic, value in (("workspaces", binding("A", "acct")), ("usage", event("A", "logs", 42, "1", now))):
            await producer.send_and_wait(f"drawdown.{topic}", json.dumps(value).encode(), b"A")
    totals, done = f"{settings.topic_prefix}usage-totals", False
    async with asyncio.timeout(60):
        while not done:
            offsets = await committed_offsets(
                settings, f"{settings.group}-sink", [(totals, partition) for partition in range(settings.partitions)]
            )
            done = any(offsets.values())
            await asyncio.sleep(0.1)
