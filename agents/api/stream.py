"""`GET /v1/accounts/{account}/stream`: server-sent events, from the token on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from agents.api.live import Live
from agents.metrics import STREAMS_DROPPED

HEARTBEAT_SECONDS = 2.0
_RETRY = b"retry: 1000\n\n"
#: A client that has not read what was sent for so long is gone.
_SEND_SECONDS = 15.0

#: The heartbeat's figures, or None when the stream must end.
Pulse = Callable[[], dict[str, object] | None]


class EventStream(StreamingResponse):
    """A response of server-sent events that does not wait for ever for its client."""

    media_type = "text/event-stream"

    def __init__(self, live: Live, account: str, token: str | None, pulse: Pulse) -> None:
        # Proxies must neither keep nor hold back what is sent.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_events(live, account, token, pulse), headers=headers)

    async def stream_response(self, send: Send) -> None:
        """As Starlette does, but a send has its time."""

        async def bounded(message: Message) -> None:
            async with asyncio.timeout(_SEND_SECONDS):
                await send(message)

        try:
            await super().stream_response(bounded)
        except TimeoutError:
            STREAMS_DROPPED.inc()


async def _events(live: Live, account: str, token: str | None, pulse: Pulse) -> AsyncIterator[bytes]:
    subscriber, clock = live.subscribe(account, token), asyncio.get_running_loop().time
    try:
        yield _RETRY + subscriber.take()
        beat = clock()
        while not subscriber.closed:
            # What waits goes before the heartbeat, whose token says that it was sent.
            chunk = subscriber.take()
            if clock() >= beat:
                told = pulse()
                if told is None:
                    return
                chunk += b"id: %b\nevent: heartbeat\ndata: %b\n\n" % (live.token.encode(), orjson.dumps(told))
                beat = clock() + HEARTBEAT_SECONDS
            if chunk:
                yield chunk
            with suppress(TimeoutError):
                async with asyncio.timeout_at(beat):
                    await subscriber.changed.wait()
    finally:
        live.unsubscribe(subscriber)


def pulse_figures(newest_at: str | None, *, live: bool, per_second: float, lag: int | None) -> dict[str, object]:
    """What a heartbeat says."""
    now = datetime.now(UTC)
    age = None if newest_at is None else max((now - datetime.fromisoformat(newest_at)).total_seconds(), 0.0)
    return {
        "time": now.isoformat().replace("+00:00", "Z"), "live": live, "newest_at": newest_at,
        "age_seconds": None if age is None else round(age, 3), "events_per_second": round(per_second, 1), "lag_records": lag,
    }  # fmt: skip
