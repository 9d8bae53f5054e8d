"""A receiver of webhooks on loopback: keeps what it is sent, and answers as it is told."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from aiohttp import web
from standardwebhooks import Webhook


class Receiver:
    """A context, on a thread of its own. `answer` gives the status, or seconds to wait, for the nth message of an id."""

    def __init__(self, answer: Callable[[str, int], int | float] = lambda _message, _number: 204) -> None:
        self.answer = answer
        self.messages: list[tuple[str, dict[str, str], bytes]] = []
        self.times: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Receiver:
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_error: type[BaseException] | BaseException | TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> str:
        application = web.Application()
        application.router.add_post("/hook", self._take)
        application.router.add_post("/moved", self._moved)
        application.router.add_post("/endless", self._endless)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return "http://{}:{}/hook".format(*self._runner.addresses[0])

    async def _stop(self) -> None:
        await self._runner.cleanup()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _take(self, request: web.Request) -> web.Response:
        message, body = request.headers["webhook-id"], await request.read()
        self.times[message] += 1
        self.messages.append((message, dict(request.headers), body))
        said = self.answer(message, self.times[message])
        if isinstance(said, float):
            await asyncio.sleep(said)
            said = 204
        return web.Response(status=said)

    async def _moved(self, _request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"location": "/hook"})

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"x" * 65536)

    def verified(self, secret: str) -> bool:
        """Whether every message is signed with this secret; the library checks the time too."""
        return all(Webhook(secret).verify(body, headers) for _, headers, body in self.messages)
