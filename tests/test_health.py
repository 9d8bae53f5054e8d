"""Ready or not, and why: the rules alone, without servers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from agents import health as codes
from agents.health import Health
from agents.lag import LagWatch
from agents.local.processes import free_port
from agents.metrics import CONSUMER_LAG, _PackageUtilization
from agents.probes import serving
from agents.settings import load_settings

LIMIT = 20


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    one = Health(LIMIT, clock=clock)
    one.started()
    return one


def reasons(health: Health) -> list[str]:
    return [reason["code"] for reason in health.reasons()]


def test_a_process_that_has_not_started_is_not_ready(clock: Clock) -> None:
    health = Health(LIMIT, clock=clock)
    assert reasons(health) == [codes.STARTING]
    health.started()
    assert reasons(health) == []


def test_what_is_waited_for_too_long_is_a_reason_with_its_place(clock: Clock, health: Health) -> None:
    """Said again it goes on from its first time, with the newest details; ended and begun again it starts afresh."""
    health.begin(codes.INSERT, attempt=1)
    clock.now = LIMIT
    health.begin(codes.INSERT, attempt=7)
    assert reasons(health) == []
    clock.now += 1
    assert health.reasons() == [
        {"code": codes.INSERT, "message": "an insert into ClickHouse fails or hangs", "seconds": 21, "attempt": 7}
    ]
    health.end(codes.INSERT)
    health.begin(codes.INSERT)
    assert reasons(health) == []


def test_a_failure_stays(clock: Clock, health: Health) -> None:
    health.fail(codes.LAW, law="law 1", account="a")
    clock.now = 10_000
    assert health.reasons()[0]["account"] == "a"


async def test_an_event_loop_that_says_nothing(clock: Clock, health: Health) -> None:
    """First not ready, then not even alive: then only a restart helps."""
    beating = asyncio.ensure_future(health.beat())
    await asyncio.sleep(0)
    beating.cancel()
    clock.now = LIMIT + 1
    assert reasons(health) == [codes.EVENT_LOOP]
    assert health.alive
    clock.now = 3 * LIMIT + 1
    assert not health.alive


def watch(health: Health) -> Any:
    """What the watch makes of positions and ends: (reader, topic, partition) -> position, (topic, partition) -> end."""
    watching = LagWatch(load_settings(), health, {})

    def look(positions: Mapping[tuple[str, str, int], int | None], ends: Mapping[tuple[str, int], int]) -> None:
        watching._notice(positions)
        watching._compare(positions, ends)

    return look


def lags() -> dict[tuple[str, ...], float]:
    return {labels: gauge._value.get() for labels, gauge in CONSUMER_LAG._metrics.items()}


def test_lag_alone_is_no_reason_but_lag_without_progress_is(clock: Clock, health: Health) -> None:
    place, end = ("ledger", "usage", 0), {("usage", 0): 1000}
    look = watch(health)
    for position in (0, 100, 200):  # slow, but it moves
        look({place: position}, end)
        clock.now += LIMIT
        assert reasons(health) == []
    look({place: 200}, end)
    clock.now += 1
    (reason,) = health.reasons()
    assert reason["code"] == codes.FETCH
    assert (reason["topic"], reason["partition"], reason["offset"], reason["lag"]) == ("usage", 0, 200, 800)
    assert lags()["usage", "0"] == 800
    look({place: 1000}, end)
    assert reasons(health) == []
    clock.now += 10 * LIMIT
    look({place: 1000}, end)
    assert reasons(health) == []  # idle without lag
    look({}, {})
    assert ("usage", "0") not in lags()  # the partition was revoked


def test_a_reader_that_never_gets_a_position_is_stuck(clock: Clock, health: Health) -> None:
    look = watch(health)
    look({("ledger", "usage", 0): None}, {("usage", 0): 5})
    clock.now = LIMIT + 1
    look({("ledger", "usage", 0): None}, {("usage", 0): 5})
    assert reasons(health) == [codes.FETCH]
    look({}, {})
    assert reasons(health) == []


def test_of_two_readers_of_a_topic_the_one_behind_counts(health: Health) -> None:
    look = watch(health)
    look({("ledger", "log", 0): 9, ("sink", "log", 0): 4}, {("log", 0): 10})
    assert lags()["log", "0"] == 6
    look({}, {})


def shown(utilization: _PackageUtilization) -> dict[tuple[str, ...], float]:
    return {
        (s.labels["account"], s.labels["package"], s.labels["meter"]): s.value
        for family in utilization.collect()
        for s in family.samples
    }


def test_package_utilization_shows_today_the_fullest_and_what_is_here() -> None:
    """A late event of yesterday does not overwrite today; yesterday's is not shown; the cardinality is bounded."""
    utilization, today = _PackageUtilization(), time.strftime("%Y-%m-%d", time.gmtime())
    now = date.fromisoformat(today)
    for number in range(5):
        utilization.show(number % 2, "UTC", now, ("a", f"p{number}", "logs"), number, 10)
    utilization.show(0, "UTC", now - timedelta(days=1), ("a", "p4", "logs"), 10, 10)
    utilization.show(0, "UTC", now - timedelta(days=1), ("a", "old", "logs"), 10, 10)
    utilization.series_max = 3
    assert shown(utilization) == {("a", f"p{n}", "logs"): n / 10 for n in (2, 3, 4)}
    utilization.show(0, "UTC", now, ("a", "p4", "logs"), 0, 0)  # ended
    utilization.forget(1)
    assert shown(utilization) == {("a", f"p{n}", "logs"): n / 10 for n in (0, 2)}


def get(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_probes_answer_whatever_the_event_loop_does(health: Health, clock: Clock) -> None:
    """No loop runs in this test, and they answer."""
    port = free_port()
    with serving(health, "127.0.0.1", port):
        assert get(port, "/readyz") == (200, {"ready": True, "reasons": []})
        health.begin(codes.COMMIT, topic="t", partition=3)
        clock.now = LIMIT + 1
        status, body = get(port, "/readyz")
        assert (status, body["ready"], body["reasons"][0]["partition"]) == (503, False, 3)
        assert get(port, "/healthz") == (200, {"alive": True})
        assert get(port, "/")[0] == 404


SECRETS = """
import logging, sys, structlog
from agents.logs import configure_logs
from agents.settings import load_settings
settings = load_settings(clickhouse="http://u:url-pass@127.0.0.1:9")
configure_logs(settings)
log = structlog.get_logger()
log.info("with env-pass", error="url-pass", nested={"a": ["env-pass"]}, number=1)
logging.getLogger("some.library").error("env-pass %s", "and url-pass")
try:
    raise ValueError("env-pass")
except ValueError as error:
    log.error("raised", exc_info=error)
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_secret_is_in_no_line(form: str, tmp_path: Path) -> None:
    """Neither in ours nor in those of libraries, nor in a traceback; and what is JSON is JSON in every line."""
    env = {"DRAWDOWN_CLICKHOUSE_PASSWORD": "env-pass", "DRAWDOWN_LOG_FORMAT": form, "PATH": "", "HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", SECRETS],
        env=env,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "env-pass" not in result.stderr.replace('raise ValueError("env-pass")', "")
    assert "url-pass" not in result.stderr
    assert result.stderr.count("***") >= 5
    if form == "json":
        ours, library, raised = map(json.loads, result.stderr.splitlines())
        assert (ours["number"], library["logger"], library["level"]) == (1, "some.library", "error")
        assert "ValueError" in raised["exception"]
