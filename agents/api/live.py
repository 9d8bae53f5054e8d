"""What is true now: the newest figures of every account out of the topics, and who wants to hear of changes.

All figures are running totals with a version, so the newest one of each identity is the whole truth. `Live` holds these, the
newest records of the topics in order (the tail, for streams that come back) and the open streams. It does no I/O.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec
import orjson
from msgspec import Struct

from agents.metrics import STREAM_CLIENTS, STREAMS_DROPPED

Kind = Literal["quota", "overage", "alert"]

#: Bytes of records kept for streams that come back; a stream that missed more than that starts with a snapshot.
_TAIL_BYTES = 64 * 1024 * 1024
#: What waits for a client that does not read; beyond it the client is disconnected.
_QUEUE_BYTES = 4 * 1024 * 1024
_ALERTS_PER_ACCOUNT = 1_000
#: Python's own share of a record in the tail.
_RECORD_OVERHEAD = 200
#: First part of a resume token.
_FORMAT = "1"


class _Quota(Struct, frozen=True, gc=False):
    account: str
    day: str
    meter: str
    package: str
    version: int
    at: str

    @property
    def identity(self) -> tuple[Any, ...]:
        return (self.day, self.meter, self.package)


class _Overage(Struct, frozen=True, gc=False):
    account: str
    day: str
    workspace: str
    meter: str
    basis: str
    retention_days: int | None
    version: int
    at: str

    @property
    def identity(self) -> tuple[Any, ...]:
        return (self.day, self.workspace, self.meter, self.basis, self.retention_days)


class _Alert(Struct, frozen=True, gc=False):
    account: str
    day: str
    id: str
    at: str
    version: int = 0

    @property
    def identity(self) -> tuple[Any, ...]:
        return (self.id,)


_DECODERS: dict[Kind, msgspec.json.Decoder[Any]] = {
    "quota": msgspec.json.Decoder(_Quota),
    "overage": msgspec.json.Decoder(_Overage),
    "alert": msgspec.json.Decoder(_Alert),
}


@dataclass(slots=True)
class Figures:
    """The newest figures of one account: identity -> (version, the topic's JSON). An identity begins with the day, but an alert's."""

    quota: dict[tuple[Any, ...], tuple[int, bytes]] = field(default_factory=dict)
    overage: dict[tuple[Any, ...], tuple[int, bytes]] = field(default_factory=dict)
    alert: dict[tuple[Any, ...], tuple[int, bytes]] = field(default_factory=dict)
    newest_at: str | None = None

    def of(self, kind: Kind) -> dict[tuple[Any, ...], tuple[int, bytes]]:
        """The figures of a kind."""
        return {"quota": self.quota, "overage": self.overage, "alert": self.alert}[kind]


class _Record(NamedTuple):
    """A record of the tail: which source partition (its place in the token), offset, account, and its event as it is sent."""

    source: int
    offset: int
    account: str
    frame: bytes


class Subscriber:
    """An open stream: what waits to be sent, `first` whatever its size. `closed` is set when it must end."""

    def __init__(self, account: str, first: bytes) -> None:
        self.account = account
        self.closed = False
        self.changed = asyncio.Event()
        self.changed.set()
        self._waiting = deque([first])
        self._size = 0

    def put(self, chunk: bytes) -> None:
        """Hand over a chunk; a client that reads too slowly is closed instead."""
        self._size += len(chunk)
        if self._size > _QUEUE_BYTES:
            STREAMS_DROPPED.inc()
            self.close()
        else:
            self._waiting.append(chunk)
            self.changed.set()

    def close(self) -> None:
        """End the stream at once; what waits is dropped."""
        self.closed = True
        self._waiting.clear()
        self.changed.set()

    def take(self) -> bytes:
        """Everything that waits."""
        chunk = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self.changed.clear()
        return chunk


class Live:
    """The newest figures, the tail and the streams. `positions` has the next offset of each source partition.

    Figures of days before `first_day` are passed on to the streams, and not kept.
    """

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.first_day = ""
        self._figures: dict[str, Figures] = {}
        self._floors: list[int] = []
        self._tail: deque[_Record] = deque()
        self._tail_of: dict[str, deque[_Record]] = {}
        self._tail_bytes = 0
        self._fresh: dict[str, list[bytes]] = {}
        self._subscribers: dict[str, set[Subscriber]] = {}

    def begin(self, positions: list[int]) -> None:
        """Where the source partitions start."""
        self.positions, self._floors = positions, list(positions)

    def figures(self, account: str) -> Figures | None:
        """The newest figures of an account since `first_day`, and its newest alerts."""
        return self._figures.get(account)

    def accounts(self) -> list[str]:
        """The accounts that have figures."""
        return list(self._figures)

    def take(self, kind: Kind, source: int, offset: int, value: bytes) -> None:
        """One record. `flush` hands it to the streams."""
        told = _DECODERS[kind].decode(value)
        account = told.account
        record = _Record(source, offset, account, b"event: %b\ndata: %b\n\n" % (kind.encode(), value))
        self._remember(record)
        if account in self._subscribers:
            self._fresh.setdefault(account, []).append(record.frame)
        if kind != "alert" and told.day < self.first_day:
            return
        figures = self._figures.get(account)
        if figures is None:
            figures = self._figures[account] = Figures()
        known = figures.of(kind)
        if told.version >= known.get(told.identity, (-1,))[0]:
            known[told.identity] = (told.version, value)
        if len(figures.alert) > _ALERTS_PER_ACCOUNT:
            del figures.alert[next(iter(figures.alert))]
        figures.newest_at = max(figures.newest_at or "", told.at)

    def flush(self) -> None:
        """Hand what was taken to the streams of its accounts; the last event carries the token."""
        if not self._fresh:
            return
        token = b"id: %b\n" % self.token.encode()
        for account, frames in self._fresh.items():
            chunk = b"".join((*frames[:-1], token, frames[-1]))
            for subscriber in tuple(self._subscribers.get(account, ())):
                subscriber.put(chunk)
        self._fresh = {}

    def forget_before(self, day: str) -> None:
        """Figures of earlier days are history: ClickHouse has them."""
        self.first_day = day
        for figures in self._figures.values():
            for known in (figures.quota, figures.overage):
                for identity in [identity for identity in known if identity[0] < day]:
                    del known[identity]

    def subscribe(self, account: str, token: str | None) -> Subscriber:
        """A stream that misses nothing: it begins with what came after the token or, when that cannot be told, a snapshot."""
        first = self._since(account, token)
        subscriber = Subscriber(account, self._snapshot(account) if first is None else first)
        self._subscribers.setdefault(account, set()).add(subscriber)
        STREAM_CLIENTS.inc()
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """The stream has ended."""
        others = self._subscribers[subscriber.account]
        others.discard(subscriber)
        if not others:
            del self._subscribers[subscriber.account]
            self._fresh.pop(subscriber.account, None)
        STREAM_CLIENTS.dec()

    def close(self) -> None:
        """End every stream."""
        for subscribers in self._subscribers.values():
            for subscriber in subscribers:
                subscriber.close()

    @property
    def token(self) -> str:
        """Up to where a stream has been told everything."""
        return ".".join((_FORMAT, *(f"{position:x}" for position in self.positions)))

    def _since(self, account: str, token: str | None) -> bytes | None:
        """The events after the token, or None when the tail does not reach back that far."""
        offsets = _offsets_of(token, len(self.positions))
        if offsets is None or not all(
            floor <= offset <= position
            for floor, offset, position in zip(self._floors, offsets, self.positions, strict=True)
        ):
            return None
        frames = [r.frame for r in self._tail_of.get(account, ()) if r.offset >= offsets[r.source]]
        return b"".join((*frames[:-1], b"id: %b\n" % self.token.encode(), frames[-1])) if frames else b""

    def _snapshot(self, account: str) -> bytes:
        figures = self._figures.get(account, Figures())
        lists = (
            b'"%b":[%b]' % (name, b",".join(value for _, value in known.values()))
            for name, known in ((b"quotas", figures.quota), (b"overage", figures.overage), (b"alerts", figures.alert))
        )
        data = b'{"account":%b,%b}' % (orjson.dumps(account), b",".join(lists))
        return b"id: %b\nevent: snapshot\ndata: %b\n\n" % (self.token.encode(), data)

    def _remember(self, record: _Record) -> None:
        self._tail.append(record)
        self._tail_of.setdefault(record.account, deque()).append(record)
        self._tail_bytes += len(record.frame) + _RECORD_OVERHEAD
        while self._tail_bytes > _TAIL_BYTES:
            oldest = self._tail.popleft()
            of_account = self._tail_of[oldest.account]
            of_account.popleft()
            if not of_account:
                del self._tail_of[oldest.account]
            self._tail_bytes -= len(oldest.frame) + _RECORD_OVERHEAD
            self._floors[oldest.source] = oldest.offset + 1


def _offsets_of(token: str | None, count: int) -> list[int] | None:
    """The offsets of a token; None if it is none of ours, or of another number of partitions."""
    version, _, rest = (token or "").partition(".")
    try:
        offsets = [int(part, 16) for part in rest.split(".")] if rest else []
    except ValueError:
        return None
    return offsets if version == _FORMAT and len(offsets) == count else None
