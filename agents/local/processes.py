"""Child processes that end with their parent, also after kill -9 of the parent."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agents.errors import CommandError, WrongUse

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.05
_STOP_SECONDS = 10.0
_LOG_TAIL_LINES = 5
_BACKOFF_SECONDS = (1, 2, 5, 10)
_STEADY_SECONDS = 60.0


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def require_free(port: int, what: str) -> None:
    """Raise `WrongUse` if somebody listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise WrongUse(f"port {port} for {what} is in use; stop its owner, or use --ports auto") from None


class Child:
    """One server process; its output goes to `log`."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        parent = os.getpid()
        with log.open("ab") as output:
            # The kernel ends the child when this process ends, however it ends. It must be asked for in the child.
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else {**os.environ, **env},
                start_new_session=True,
                preexec_fn=_end_with_parent(parent) if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait_until(self, answers: Callable[[], bool], seconds: float) -> None:
        """Wait until it answers; raises `CommandError` with the end of its log when it ends or the time is over."""
        deadline = time.monotonic() + seconds
        while not answers():
            if self.returncode is not None:
                raise CommandError(f"{self.name} ended with code {self.returncode}: {self.tail()} (log: {self._log})")
            if time.monotonic() > deadline:
                raise CommandError(f"{self.name} does not answer after {seconds:.0f} s (log: {self._log})")
            time.sleep(_POLL_SECONDS)

    def tail(self) -> str:
        """The last lines of its log."""
        return " | ".join(self._log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it takes too long."""
        if self.returncode is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()


class Kept:
    """A process of ours that is started again, with back-off, whenever it ends."""

    def __init__(self, name: str, start: Callable[[], Child]) -> None:
        self._name, self._start = name, start
        self._failures, self._again_at = 0, 0.0
        self.child, self._started = start(), time.monotonic()

    def look(self) -> str | None:
        """Start it again when it is time; what there is to say, if anything."""
        now = time.monotonic()
        if self.child.returncode is None:
            return None
        if self._again_at:
            if now >= self._again_at:
                self.child, self._started, self._again_at = self._start(), now, 0.0
            return None
        self._failures = 0 if now - self._started > _STEADY_SECONDS else self._failures
        pause = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS) - 1)]
        self._failures, self._again_at = self._failures + 1, now + pause
        return f"the {self._name} ended with code {self.child.returncode}; again in {pause} s"


def _end_with_parent(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the request
            os._exit(1)

    return ask
