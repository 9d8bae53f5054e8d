"""Whether the servers answer, asked before anything starts: a wrong address ends a command within seconds."""

from __future__ import annotations

import asyncio

from aiokafka.errors import KafkaError

from agents.clickhouse import connect
from agents.errors import Unreachable
from agents.kafka import admin
from agents.settings import Settings

_SECONDS = 5.0


async def _kafka_answers(settings: Settings) -> None:
    async with asyncio.timeout(_SECONDS), admin(settings) as client:
        await client.list_topics()


def require_kafka(settings: Settings) -> None:
    """Raise `Unreachable` unless Kafka answers within seconds."""
    try:
        asyncio.run(_kafka_answers(settings))
    except (KafkaError, OSError, TimeoutError, ValueError):
        raise Unreachable(f"Kafka at {settings.kafka} does not answer (DRAWDOWN_KAFKA)") from None


def require_clickhouse(settings: Settings) -> None:
    """Raise `Unreachable` unless ClickHouse answers within seconds."""
    with connect(settings, database=False, answer_seconds=int(_SECONDS)) as client:
        client.command("SELECT 1")
