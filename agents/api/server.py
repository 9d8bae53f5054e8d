"""`drawdown api`: the app on uvicorn, with the background work beside it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import uvicorn
import uvloop

from agents.api.app import create_app
from agents.api.observe import ToStructlog
from agents.api.services import Api
from agents.errors import EXIT_DONE, EXIT_FAILED, WrongUse
from agents.settings import Settings

log = structlog.get_logger()

#: A peer that acknowledges nothing for so long is cut off, also when it keeps its window shut.
_PEER_MS = 30_000
_GRACE_SECONDS = 10


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT (exit code 0), or until something fails that a restart has to mend (1)."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Server(Api(settings)).work())


class _Server(uvicorn.Server):
    """Uvicorn with the end that we want: streams are closed first, and the exit code is ours."""

    def __init__(self, api: Api) -> None:
        logger = logging.getLogger("uvicorn")
        logger.handlers, logger.propagate = [ToStructlog()], False
        logger.setLevel(logging.WARNING)
        config = uvicorn.Config(
            create_app(api), log_config=None, access_log=False, server_header=False, lifespan="off",
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )  # fmt: skip
        super().__init__(config)
        self._api = api
        self._code = EXIT_DONE

    async def work(self) -> int:
        """Serve until the end."""
        api, settings = self._api, self._api.settings
        listening = _listen(settings.api_host, settings.api_port)
        work = (api.follow_registry(), api.follow_topics(), api.watch_topics(), api.keep_webhooks())
        tasks = [asyncio.create_task(self._guard(one)) for one in work]
        log.info("API listens", address=f"http://{settings.api_host}:{listening.getsockname()[1]}")
        try:
            await self.serve(sockets=[listening])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await api.close()
        return self._code

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn would raise the signal again at the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self._api.feed.live.close()
        self.should_exit = True

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # whatever it is, the process ends and is started again
            log.error("API stops", error=f"{type(error).__name__}: {error}", exc_info=error)
            self._code = EXIT_FAILED
            self._stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _PEER_MS)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise WrongUse(
            f"cannot listen on {host}:{port} (DRAWDOWN_API_HOST, DRAWDOWN_API_PORT): {error.strerror}"
        ) from None
    return listening
