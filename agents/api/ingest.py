"""Usage by HTTP: judged by routing's own code, then written to the usage topic, one record a workspace.

An event that is refused here is not written; the producer is told which one, and why, by the codes of the dead letters. All other
rules (duplicates, the day, the horizon) are the ledger's, which sees these records like any others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from agents.api.accounts import Accounts
from agents.api.keys import Key
from agents.api.problems import unavailable
from agents.settings import Settings
from pipeline.admission import Refusal, split_array
from pipeline.records import Record, Records
from pipeline.routing import SINGLE, Routed, Router
from schemas.reasons import Reason
from schemas.topics import MESSAGE_BYTES_MAX, Topic

_ACKNOWLEDGE_SECONDS = 20.0
_LINGER_MS = 5
_ATTRIBUTE = "ce-"


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that is not accepted: its place in the array, or None for the only one or the whole body."""

    index: int | None
    code: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Judged:
    """`accepted`: workspace -> the bytes of its events."""

    accepted: Mapping[str, list[bytes]]
    refused: list[Refused]

    @property
    def count(self) -> int:
        """Events that are accepted."""
        return sum(map(len, self.accepted.values()))


def from_headers(headers: Mapping[str, str], body: bytes) -> bytes:
    """A CloudEvent in binary mode (attributes in `ce-` headers, the body its data) as the JSON of structured mode."""
    event: dict[str, Any] = {
        name.removeprefix(_ATTRIBUTE): unquote(value) for name, value in headers.items() if name.startswith(_ATTRIBUTE)
    }
    return orjson.dumps(event | {"data": orjson.Fragment(body or b"null")})


class Ingest:
    """Judges and writes."""

    def __init__(self, router: Router, accounts: Accounts, writer: Writer) -> None:
        self._router = router
        self._accounts = accounts
        self._writer = writer

    async def judge(self, key: Key, value: bytes) -> Judged:
        """Which events of a body (one, or an array) are accepted. A workspace of another account is as good as unknown."""
        routed = self._route(value)
        if any(refusal.reason is Reason.UNKNOWN_WORKSPACE for refusal in routed.refusals):
            await self._accounts.refresh()
            routed = self._route(value)
        refused = [_refused(refusal) for refusal in routed.refusals]
        elements = split_array(value) or []
        accepted: dict[str, list[bytes]] = {}
        for rows in routed.rows:
            for number, index in zip(rows.series.tolist(), rows.indexes.tolist(), strict=True):
                workspace = rows.table.names[number][0]
                if not key.may(rows.table.account(number)):
                    message = f"$.subject: {workspace!r} is not bound to an account"
                    refused.append(Refused(_index(index), Reason.UNKNOWN_WORKSPACE, message))
                    continue
                accepted.setdefault(workspace, []).append(value if index == SINGLE else elements[index])
        return Judged(accepted, sorted(refused, key=lambda one: one.index or 0))

    async def write(self, judged: Judged, topic: Topic) -> None:
        """Return once Kafka has acknowledged all that was accepted; else 503, and the producer sends all of it again."""
        records = [
            (workspace.encode(), events[0] if len(events) == 1 else b"[%b]" % b",".join(events))
            for workspace, events in judged.accepted.items()
        ]
        await self._writer.write(topic, records)

    def _route(self, value: bytes) -> Routed:
        return self._router.route(Records.of([Record(0, None, value)]), time.time_ns() // 1000)


def _refused(refusal: Refusal) -> Refused:
    return Refused(refusal.index, refusal.reason, refusal.message)


def _index(index: int) -> int | None:
    return None if index == SINGLE else index


class Writer:
    """A producer that is started with the first record. Events that come twice are the ledger's daily bread: no transaction."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def write(self, topic: Topic, records: list[tuple[bytes, bytes]]) -> list[Any]:
        """Write (key, value) records and wait for every acknowledgement; 503 when Kafka does not give one in time."""
        name = self._settings.topic_prefix + topic.name
        try:
            async with asyncio.timeout(_ACKNOWLEDGE_SECONDS):
                producer = await self._started()
                sent = [await producer.send(name, value, key) for key, value in records]
                return list(await asyncio.gather(*sent))
        except (TimeoutError, KafkaError):
            raise unavailable("Kafka") from None

    async def close(self) -> None:
        """Send what is left and close."""
        if self._producer is not None:
            await self._producer.stop()

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._settings.kafka, acks="all", compression_type="lz4", linger_ms=_LINGER_MS,
                    max_request_size=MESSAGE_BYTES_MAX,
                )  # fmt: skip
                await producer.start()
                self._producer = producer
        return self._producer
