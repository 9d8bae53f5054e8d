"""The servers of `drawdown up`: start, stop, kill and restart them on the same ports and data."""

from __future__ import annotations

import fcntl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from http import HTTPStatus
from pathlib import Path
from typing import IO, Literal

from agents.errors import CommandError, WrongUse
from agents.local import kafka
from agents.local.processes import Child, free_port, require_free

Part = Literal["kafka", "clickhouse"]
PARTS: tuple[Part, ...] = ("kafka", "clickhouse")
#: Servers first, then what works with them.
ALL_PARTS = (*PARTS, "worker", "api")

_KAFKA_PORT, _CONTROLLER_PORT, _CLICKHOUSE_PORT, _CLICKHOUSE_TCP_PORT = 9092, 9093, 8123, 9000
_CLICKHOUSE_MODULE = "agents.local.clickhouse_server"
_CLICKHOUSE_SECONDS = 60.0


class ListenerUnavailable(CommandError):
    """The engine of the chdb wheel does not open its listener: that is a private entry point of the wheel."""


class Services:
    """Local servers with their state in one directory, which only one process at a time may use."""

    def __init__(self, directory: Path, only: Collection[str] = PARTS, *, auto_ports: bool = False) -> None:
        self.directory = directory.resolve()
        self.children: dict[str, Child] = {}
        self._only = only
        self._auto = auto_ports
        self._lock: IO[str] | None = None
        self._ports: dict[str, int] = {}

    @property
    def kafka(self) -> str:
        """`host:port` of the broker."""
        return f"127.0.0.1:{self._ports['kafka']}"

    @property
    def clickhouse(self) -> str:
        """The HTTP address."""
        return f"http://127.0.0.1:{self._ports['clickhouse']}"

    @property
    def env(self) -> dict[str, str]:
        """What another process needs to join."""
        env = {}
        if "kafka" in self._only:
            env["DRAWDOWN_KAFKA"] = self.kafka
        if "clickhouse" in self._only:
            env["DRAWDOWN_CLICKHOUSE"] = self.clickhouse
        return env

    def __enter__(self) -> Services:
        self._acquire()
        try:
            for part, default in (
                ("kafka", _KAFKA_PORT), ("controller", _CONTROLLER_PORT),
                ("clickhouse", _CLICKHOUSE_PORT), ("clickhouse-tcp", _CLICKHOUSE_TCP_PORT),
            ):  # fmt: skip
                self._ports[part] = free_port() if self._auto else default
            # Checked before anything starts, so that nothing has to be taken back.
            for part in self._only:
                require_free(self._ports[part], part)
            for part in self._only:
                self.start(part)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for child in reversed(self.children.values()):
            child.stop()
        if self._lock is not None:
            self._lock.close()

    def start(self, part: str) -> None:
        """Start a part and wait until it answers."""
        starters: dict[str, Callable[[], Child]] = {"kafka": self._start_kafka, "clickhouse": self._start_clickhouse}
        self.children[part] = starters[part]()

    def stop(self, part: str) -> None:
        """Stop a part in good order."""
        self.children[part].stop()

    def kill(self, part: str) -> None:
        """Kill -9 a part."""
        self.children[part].kill()

    def _acquire(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = (self.directory / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise WrongUse(f"{self.directory} is in use by another `drawdown up`; stop it, or use --dir") from None

    def _start_kafka(self) -> Child:
        log = self.directory / "logs" / "kafka.log"
        return kafka.start(self.directory / "kafka", self._ports["kafka"], self._ports["controller"], log)

    def _start_clickhouse(self) -> Child:
        ports = ["--http-port", str(self._ports["clickhouse"]), "--tcp-port", str(self._ports["clickhouse-tcp"])]
        command = [sys.executable, "-m", _CLICKHOUSE_MODULE, "--dir", str(self.directory / "clickhouse")]
        child = Child("ClickHouse", [*command, *ports], self.directory / "logs" / "clickhouse.log")
        try:
            child.wait_until(lambda: answers(f"{self.clickhouse}/ping"), _CLICKHOUSE_SECONDS)
        except CommandError as error:
            raise ListenerUnavailable(str(error)) from None
        return child


def answers(url: str, seconds: float = 1.0) -> bool:
    """Whether an HTTP address answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as response:
            return bool(response.status == HTTPStatus.OK)
    except (OSError, urllib.error.URLError):
        return False
