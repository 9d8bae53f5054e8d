"""`drawdown up`: servers, topics, tables, a worker and the API on this machine, until a signal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console

from agents.api.keys import ALL, SCOPES, KeyRing, create_key
from agents.errors import WrongUse
from agents.local.processes import Child, Kept, free_port, require_free
from agents.local.services import ALL_PARTS, PARTS, ListenerUnavailable, Services, answers
from agents.migrate import migrate
from agents.probe import require_clickhouse, require_kafka
from agents.settings import Settings
from agents.topics import ensure_topics

_DRAWDOWN = (sys.executable, "-m", "agents.cli")
_API_SECONDS = 60.0


class Up:
    """A context: everything answers inside it, and is stopped behind it.

    A server whose address is in the environment (`DRAWDOWN_KAFKA`, `DRAWDOWN_CLICKHOUSE`) is used and not started.
    """

    def __init__(self, settings: Settings, directory: Path, only: Collection[str], *, auto_ports: bool) -> None:
        unknown = set(only) - set(ALL_PARTS)
        if unknown:
            raise WrongUse(f"--only knows {', '.join(ALL_PARTS)}; not {', '.join(sorted(unknown))}")
        self._given = {part: os.environ.get(f"DRAWDOWN_{part.upper()}") for part in PARTS}
        self._own = [part for part in PARTS if part in only and not self._given[part]]
        self._wanted = [part for part in ALL_PARTS if part in only and part not in PARTS]
        self._kept: dict[str, Kept] = {}
        self.api_key: str | None = None
        self.services = Services(directory, self._own, auto_ports=auto_ports)
        self._auto_ports = auto_ports
        self._console = Console(stderr=True)
        self.settings = settings
        self._stopping = False

    @property
    def env(self) -> dict[str, str]:
        """What another `drawdown worker` or `drawdown api` needs to join."""
        given = {f"DRAWDOWN_{part.upper()}": address for part, address in self._given.items() if address}
        names = {
            "DRAWDOWN_TOPIC_PREFIX": self.settings.topic_prefix,
            "DRAWDOWN_CLICKHOUSE_DATABASE": self.settings.clickhouse_database,
            "DRAWDOWN_GROUP": self.settings.group,
        }
        keys = self.settings.api_keys_file
        return given | self.services.env | names | ({"DRAWDOWN_API_KEYS_FILE": str(keys)} if keys else {})

    @property
    def api(self) -> str | None:
        """The API's address, when it was started here."""
        return f"http://127.0.0.1:{self.settings.api_port}" if "api" in self._wanted else None

    @property
    def dashboard(self) -> str | None:
        """The address to open: the key is in the fragment, which no browser sends."""
        return f"{self.api}/#key={self.api_key}" if self.api else None

    @property
    def pids(self) -> dict[str, int]:
        """The processes that were started here."""
        own = {name: child.pid for name, child in self.services.children.items()}
        return own | {name: kept.child.pid for name, kept in self._kept.items()}

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
            if "api" in self._wanted:
                self._prepare_api()
            self._kept = {name: Kept(name, partial(self._start, name)) for name in self._wanted}
            if "api" in self._kept:
                self._kept["api"].child.wait_until(lambda: answers(f"{self.api}/readyz"), _API_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for kept in reversed(self._kept.values()):
            kept.child.stop()
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

    def _prepare_api(self) -> None:
        """A port, and a key for everything that stays the same as long as the state does."""
        port = free_port() if self._auto_ports else self.settings.api_port
        require_free(port, "api")
        directory = self.services.directory
        keys, secret = self.settings.api_keys_file or directory / "api-keys.toml", directory / "api-key"
        self.settings = self.settings.model_copy(update={"api_port": port, "api_keys_file": keys.resolve()})
        with suppress(FileNotFoundError, WrongUse):
            text = secret.read_text()
            if KeyRing(keys).find(text):
                self.api_key = text
                return
        _, self.api_key = create_key(keys, [ALL], SCOPES, "development")
        secret.touch(mode=0o600)
        secret.write_text(self.api_key)

    def _start(self, name: str) -> Child:
        env = self.env | ({"DRAWDOWN_API_PORT": str(self.settings.api_port)} if name == "api" else {})
        return Child(name, [*_DRAWDOWN, name], self.services.directory / "logs" / f"{name}.log", env)

    def write_ready(self, file: Path) -> None:
        """One JSON object with every address; it appears whole or not at all."""
        ready = {
            "kafka": self.settings.kafka, "clickhouse": self.settings.clickhouse, "api": self.api, "api_key": self.api_key,
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
        """Until SIGINT or SIGTERM; what we start is started again when it ends, a server that ends is an error."""
        self.catch_signals()
        while not self._stopping:
            time.sleep(0.1)
            for name, child in self.services.children.items():
                if child.returncode is not None and not self._stopping:
                    console.print(f"[red]{name} ended with code {child.returncode}[/]: {child.tail()}")
                    return 1
            for kept in self._kept.values():
                if not self._stopping and (said := kept.look()):
                    console.print(f"[yellow]{said}[/]")
        return 0
