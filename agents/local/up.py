"""`drawdown up`: servers, topics, tables and a worker on this machine, until a signal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from types import FrameType

from rich.console import Console

from agents.errors import WrongUse
from agents.local.processes import Child
from agents.local.services import PARTS, ListenerUnavailable, Services
from agents.migrate import migrate
from agents.probe import require_clickhouse, require_kafka
from agents.settings import Settings
from agents.topics import ensure_topics

_BACKOFF_SECONDS = (1, 2, 5, 10)
_DRAWDOWN = (sys.executable, "-m", "agents.cli")
_STEADY_SECONDS = 60.0


class Up:
    """A context: everything answers inside it, and is stopped behind it.

    A server whose address is in the environment (`DRAWDOWN_KAFKA`, `DRAWDOWN_CLICKHOUSE`) is used and not started.
    """

    def __init__(self, settings: Settings, directory: Path, only: Collection[str], *, auto_ports: bool) -> None:
        unknown = set(only) - {*PARTS, "worker"}
        if unknown:
            raise WrongUse(f"--only knows {', '.join((*PARTS, 'worker'))}; not {', '.join(sorted(unknown))}")
        self._given = {part: os.environ.get(f"DRAWDOWN_{part.upper()}") for part in PARTS}
        self._own = [part for part in PARTS if part in only and not self._given[part]]
        self._wants_worker = "worker" in only
        self.services = Services(directory, self._own, auto_ports=auto_ports)
        self._auto_ports = auto_ports
        self._console = Console(stderr=True)
        self.settings = settings
        self._worker: Child | None = None
        self._stopping = False

    @property
    def env(self) -> dict[str, str]:
        """What another `drawdown worker` needs to join."""
        given = {f"DRAWDOWN_{part.upper()}": address for part, address in self._given.items() if address}
        names = {
            "DRAWDOWN_TOPIC_PREFIX": self.settings.topic_prefix,
            "DRAWDOWN_CLICKHOUSE_DATABASE": self.settings.clickhouse_database,
            "DRAWDOWN_GROUP": self.settings.group,
        }
        return given | self.services.env | names

    @property
    def pids(self) -> dict[str, int]:
        """The processes that were started here."""
        own = {name: child.pid for name, child in self.services.children.items()}
        return own | ({"worker": self._worker.pid} if self._worker else {})

    def __enter__(self) -> Up:
        if self._given["kafka"]:
            require_kafka(self.settings)
        if self._given["clickhouse"] and not self._embedded:
            require_clickhouse(self.settings)
        try:
            self.services.__enter__()
        except ListenerUnavailable as error:
            self._fall_back(error)
        try:
            addresses = {name.removeprefix("DRAWDOWN_").lower(): value for name, value in self.services.env.items()}
            self.settings = self.settings.model_copy(update=addresses)
            if "kafka" in self._own or self._given["kafka"]:
                asyncio.run(ensure_topics(self.settings))
            if self._embedded:
                # The directory belongs to one process at a time, and that is the worker.
                subprocess.run([*_DRAWDOWN, "migrate"], env={**os.environ, **self.env}, check=True)
            elif "clickhouse" in self._own or self._given["clickhouse"]:
                migrate(self.settings)
            if self._wants_worker:
                self._worker = self._start_worker()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        if self._worker is not None:
            self._worker.stop()
        self.services.__exit__()

    @property
    def _embedded(self) -> bool:
        """Whether ClickHouse runs inside the worker: clickhouse-connect's own backend, `chdb:///directory`."""
        return (self._given["clickhouse"] or "").startswith("chdb:")

    def _fall_back(self, error: ListenerUnavailable) -> None:
        directory = self.services.directory
        address = f"chdb://{directory / 'clickhouse'}"
        self._console.print(
            f"[yellow]ClickHouse cannot listen here ({error});[/] it runs inside the worker instead ({address}):"
            " nobody else can query it meanwhile"
        )
        self._given["clickhouse"], self._own = address, ["kafka"]
        self.settings = self.settings.model_copy(update={"clickhouse": address})
        self.services = Services(directory, self._own, auto_ports=self._auto_ports)
        self.services.__enter__()

    def _start_worker(self) -> Child:
        return Child("worker", [*_DRAWDOWN, "worker"], self.services.directory / "logs" / "worker.log", self.env)

    def write_ready(self, file: Path) -> None:
        """One JSON object with every address; it appears whole or not at all."""
        ready = {
            "kafka": self.settings.kafka, "clickhouse": self.settings.clickhouse, "api": None, "api_key": None,
            "env": self.env, "pids": self.pids,
        }  # fmt: skip
        temporary = file.with_name(file.name + ".part")
        temporary.write_text(json.dumps(ready))
        temporary.rename(file)

    def catch_signals(self) -> None:
        """From now on SIGINT and SIGTERM end `watch`, now or once it begins, and nothing else."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    def watch(self, console: Console) -> int:
        """Until SIGINT or SIGTERM; a worker that ends is started again, a server that ends is an error."""
        self.catch_signals()
        failures, started = 0, time.monotonic()
        while not self._stopping:
            time.sleep(0.1)
            for name, child in self.services.children.items():
                if child.returncode is not None and not self._stopping:
                    console.print(f"[red]{name} ended with code {child.returncode}[/]: {child.tail()}")
                    return 1
            if self._worker is not None and self._worker.returncode is not None and not self._stopping:
                failures = 0 if time.monotonic() - started > _STEADY_SECONDS else failures
                pause = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
                console.print(f"[yellow]the worker ended with code {self._worker.returncode}[/]; again in {pause} s")
                time.sleep(pause)
                self._worker, failures, started = self._start_worker(), failures + 1, time.monotonic()
        return 0
