"""A served meter: a worker and one API process with keys of accounts X and Y, and what reads its streams."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from agents.api.keys import create_key
from agents.local.processes import free_port
from world import binding, event, package

if TYPE_CHECKING:
    from conftest import Meter

X, Y = "acct/x ü", "acct-y"


@dataclass
class Event:
    """A server-sent event."""

    name: str
    data: Any
    id: str | None


def parse(text: str) -> list[Event]:
    """The whole events of a piece of a stream; one that is cut off is left out."""
    found = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if "event" in fields:
            found.append(Event(fields["event"], json.loads(fields["data"]), fields.get("id")))
    return found


def now() -> datetime:
    """Now, but never so near to midnight that the day ends during a test."""
    at = datetime.now(UTC)
    return at - timedelta(minutes=1) if at.hour or at.minute > 2 else at


class Served:
    """`drawdown api` on the meter's topics and tables. `keys`: name -> text."""

    def __init__(self, meter: Meter, directory: Path) -> None:
        self.meter = meter
        self.keys_file = directory / "keys.toml"
        self.log = directory / "api.log"
        self.keys = {
            name: create_key(self.keys_file, accounts, scopes, name)[1]
            for name, accounts, scopes in (
                ("all", ["*"], ["ingest", "read", "admin"]), ("x", [X], ["ingest", "read", "admin"]),
                ("y", [Y], ["ingest", "read", "admin"]), ("reader", [X], ["read"]), ("ingester", [X], ["ingest"]),
            )
        }  # fmt: skip
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.port = self.start()

    @property
    def url(self) -> str:
        """The address of the first process."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, port: int | None = None, **env: str) -> int:
        """One API process that is ready; its port."""
        port = port or free_port()
        settings = {
            "DRAWDOWN_API_PORT": str(port), "DRAWDOWN_API_KEYS_FILE": str(self.keys_file),
            "DRAWDOWN_API_RATE": "100000", "DRAWDOWN_API_BURST": "100000",
        }  # fmt: skip
        command = [sys.executable, "-m", "agents.cli", "api"]
        with self.log.open("ab") as output:
            process = subprocess.Popen(command, env=self.meter.env | settings | env, stdout=output, stderr=output)
        self.processes[port] = process
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").is_success:
                    return port
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the API is not ready: {self.log.read_text()[-2000:]}")

    def stop(self, port: int) -> int:
        """SIGTERM; the exit code."""
        process = self.processes.pop(port)
        process.send_signal(signal.SIGTERM)
        return process.wait(20)

    def close(self) -> None:
        """End all processes."""
        for port in list(self.processes):
            self.stop(port)

    def client(self, key: str = "all", port: int | None = None) -> httpx.Client:
        """A client with a key."""
        headers = {"Authorization": f"Bearer {self.keys[key]}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{port or self.port}", headers=headers, timeout=20)

    @contextmanager
    def stream(self, account: str, last: str | None = None, port: int | None = None) -> Iterator[Iterator[Event]]:
        """The events of an account as they come."""
        headers = {"Last-Event-ID": last} if last else {}
        with self.client(port=port) as client, client.stream("GET", path(account, "stream"), headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield _events(answer)

    def settle(self, events: int) -> None:
        """Wait until so many events have ended in ClickHouse."""
        self.meter.wait(lambda: self.meter.ended() == events, f"{events} events ended")


def _events(answer: httpx.Response) -> Iterator[Event]:
    waiting = ""
    for piece in answer.iter_text():
        waiting += piece
        whole, mark, waiting = waiting.rpartition("\n\n")
        yield from parse(whole + mark)


def path(account: str, rest: str) -> str:
    """A path under an account, whose name may be anything."""
    return f"/v1/accounts/{httpx.URL('http://a').copy_with(path='/' + account).raw_path.decode()[1:].replace('/', '%2F')}/{rest}"


def serve(meter: Meter, directory: Path) -> Served:
    """X: two workspaces share 150 logs a day, both use 100. Y has one workspace that pays as it goes."""
    meter.env["DRAWDOWN_WEBHOOK_PRIVATE_TARGETS"] = "true"
    meter.start_worker()
    at = now()
    bindings = [binding("xa", X, name="A"), binding("xb", X, name="B"), binding("ya", Y), binding("yf", Y, plan="free")]
    meter.documents(bindings, [package("px", X, ["xa", "xb"], {"logs": 150, "traces": 10}, at)])
    served = Served(meter, directory)
    try:
        with served.client() as client:
            usage = [event(w, "logs", 10, f"{w}{i}", at) for w in ("xb", "xa", "ya") for i in range(10)]
            usage.append(event("yf", "logs", 1_000_000, "yf", at))
            assert client.post("/v1/events", json=usage).status_code == 202
            served.settle(31)
            meter.wait(lambda: _is_drawn(served, client), "the package is drawn")
    except BaseException:
        served.close()
        raise
    return served


def _is_drawn(served: Served, client: httpx.Client) -> bool:
    """Whether all figures are there, live and in every table: usage may be folded before the package, and topics and tables are filled one by one."""

    def live(workspace: str) -> list[Any]:
        meters = client.get(f"/v1/workspaces/{workspace}/quotas").json()["meters"]
        return [(m["overage"], [p["quantity"] for p in m["payg"]]) for m in meters if m["meter"] == "logs"]

    (logs,) = [quota for quota in client.get(path(X, "quotas")).json()["quotas"] if quota["meter"] == "logs"]
    over_now = [live(workspace) for workspace in ("xb", "ya", "yf")]
    over = "SELECT workspace, basis, quantity FROM overage FINAL WHERE account = {x:String} AND quantity > 0"
    history = "SELECT max(used) FROM quota_history WHERE account = {x:String} AND meter = 'logs'"
    rows = [served.meter.client.query(sql, {"x": X}).result_rows for sql in (over, history)]
    expected = [[(50, [])], [(0, [100])], [(0, [1_000_000])]]
    return (logs["used"], over_now, rows) == (150, expected, [[("xb", "package", 50)], [(150,)]])
