"""What goes wrong in a chaos run: a schedule that a seed gives whole before the run, and the workers and servers it is done to."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from conftest import Meter

WORKERS = 3
#: The place of a worker that joins and leaves.
GUEST = WORKERS
#: A worker that is stopped for longer than this loses its partitions: what wakes up is a zombie.
SESSION_SECONDS = 6.0
#: Every kind is in the deck at least once, and the deck is dealt again and again.
DECK = (
    *("kill",) * 4, *("terminate",) * 3, *("stop",) * 2, *("zombie",) * 2, *("join",) * 2, *("leave",) * 2, *("wipe",) * 2,
    *("kafka",) * 2, *("clickhouse",) * 2, "hang", "hang kafka",
)  # fmt: skip
#: How long what was ended stays away, what was stopped stays so, in seconds.
LENGTHS = {
    "kill": (0, 2), "terminate": (0, 2), "stop": (0.5, 4), "zombie": (SESSION_SECONDS + 2, 18), "join": (0, 0),
    "leave": (0, 0), "wipe": (0, 1), "kafka": (0, 3), "clickhouse": (0, 4), "hang": (2, 12), "hang kafka": (1, 8),
}  # fmt: skip

#: A server ends with the thread that has started it, so these live as long as the process.
_SERVER_THREADS = ThreadPoolExecutor(4)


@dataclass(frozen=True)
class Action:
    """One thing that goes wrong, `at` seconds after the load began."""

    at: float
    what: str
    worker: int
    hard: bool
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:6.2f} {self.what} worker={self.worker} hard={self.hard} seconds={self.seconds:.2f}"


def schedule(seed: int, seconds: float) -> list[Action]:
    """The whole schedule of a run: nothing in it depends on what happens."""
    rng = random.Random(f"chaos {seed}")
    actions: list[Action] = []
    deck: list[str] = []
    at = rng.uniform(0.5, 2)
    while at < seconds:
        deck = deck or rng.sample(DECK, len(DECK))
        what = deck.pop()
        worker = GUEST if what in ("join", "leave") else rng.randrange(WORKERS)
        actions.append(Action(at, what, worker, rng.random() < 0.5, rng.uniform(*LENGTHS[what])))
        at += rng.uniform(0.4, 3.2)
    return actions


class Place:
    """Where one worker runs, and runs again when it has ended; with a directory of its own for everything it could write."""

    def __init__(self, meter: Meter, number: int, directory: Path, env: dict[str, str]) -> None:
        self.directory = directory
        self.log = directory.with_suffix(".log")
        self.wanted = number != GUEST
        self.down_until = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self._meter = meter
        own = {"HOME": str(directory), "TMPDIR": str(directory), "XDG_CACHE_HOME": str(directory)}
        self._env = meter.env | env | own | {"PYTHONDONTWRITEBYTECODE": "1"}

    def tend(self) -> None:
        """Start it if it should run and does not; what ended by itself comes back after a moment."""
        if self.process is not None and self.process.poll() is not None:
            self.process = None
            self.down_until = max(self.down_until, time.monotonic() + 1)
        if self.process is None and self.wanted and time.monotonic() >= self.down_until:
            self.directory.mkdir(exist_ok=True)
            with self.log.open("ab") as output:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "agents.cli", "worker"],
                    env=self._env, cwd=self.directory, stdout=output, stderr=output,
                )  # fmt: skip
            self._meter.workers.append(self.process)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is a process."""
        if self.process is not None:
            self.process.send_signal(number)

    def end(self, action: Action) -> None:
        """End the process; it comes back when the time is over."""
        hard = action.what == "kill" or (action.what == "wipe" and action.hard)
        self.down_until = time.monotonic() + action.seconds
        self.signal(signal.SIGKILL if hard else signal.SIGTERM)
        if hard and self.process is not None:
            self.process.wait()

    def wipe(self) -> list[str]:
        """Delete everything that it could have written; what there was."""
        found = self.written()
        shutil.rmtree(self.directory, ignore_errors=True)
        return found

    def written(self) -> list[str]:
        """The files in its directory."""
        return [str(file.relative_to(self.directory)) for file in self.directory.rglob("*") if not file.is_dir()]


class Chaos:
    """The workers, and a schedule that is done to them and to the servers."""

    def __init__(self, meter: Meter, directory: Path, actions: list[Action], env: dict[str, str]) -> None:
        self.actions = actions
        self.written: list[str] = []
        self._services = meter.services
        self._places = [Place(meter, n, directory / f"worker-{n}", env) for n in range(WORKERS + 1)]
        self._later: list[tuple[float, Place]] = []
        self._servers: list[Future[None]] = []
        self._busy = {part: threading.Lock() for part in ("kafka", "clickhouse")}

    def run(self) -> None:
        """All of the schedule. Afterwards nothing is stopped or hangs any more, and every server is back."""
        began, waiting = time.monotonic(), deque(self.actions)
        while waiting or self._later:
            now = time.monotonic()
            while waiting and began + waiting[0].at <= now:
                self._act(waiting.popleft())
            for due, place in [one for one in self._later if one[0] <= now]:
                place.signal(signal.SIGCONT)
                self._later.remove((due, place))
            self.tend()
            time.sleep(0.05)
        for server in self._servers:
            server.result()

    def tend(self) -> None:
        """Keep the wanted workers running."""
        for place in self._places:
            place.tend()

    def _act(self, action: Action) -> None:
        place = self._places[action.worker]
        match action.what:
            case "kill" | "terminate":
                place.end(action)
            case "stop" | "zombie":
                place.signal(signal.SIGSTOP)
                self._later.append((time.monotonic() + action.seconds, place))
            case "join":
                place.wanted = True
            case "leave":
                place.wanted = False
                place.signal(signal.SIGTERM)
            case "wipe":
                if action.hard:
                    place.end(action)
                self.written += place.wipe()
            case _:
                self._servers.append(_SERVER_THREADS.submit(self._server, action))

    def _server(self, action: Action) -> None:
        """A server ends and comes back, or hangs for a while; one thing at a time to each."""
        part = "kafka" if "kafka" in action.what else "clickhouse"
        with self._busy[part]:
            if action.what.startswith("hang"):
                os.kill(self._services.children[part].pid, signal.SIGSTOP)
                time.sleep(action.seconds)
                os.kill(self._services.children[part].pid, signal.SIGCONT)
            else:
                (self._services.kill if action.hard else self._services.stop)(part)
                time.sleep(action.seconds)
                self._services.start(part)

    def files(self) -> list[str]:
        """Every file that a worker wrote."""
        return self.written + [name for place in self._places for name in place.written()]

    def logs(self) -> str:
        """What the workers said, by place."""
        return "\n".join(place.log.read_text(errors="replace") for place in self._places if place.log.exists())

    def tails(self, characters: int = 3000) -> str:
        """The ends of the workers' logs."""
        logs = [place.log for place in self._places if place.log.exists()]
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-characters:]}" for log in logs)
