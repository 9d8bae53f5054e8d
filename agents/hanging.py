"""Transactions that Kafka has completed without their marks (ARCHITECTURE.md, decision 3).

Their records hang: readers wait before them, and the next commit of the same producer makes them visible, after what they held was done again.
Kafka shows them (`DescribeProducers`, KIP-664): between two transactions of a producer nothing of its own is under way, so what is open hangs, or its
marks are about to come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, LeaderNotAvailableError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, Int16, Int32, Int64, Schema

from agents.kafka import patient
from agents.protocol import TAGS, TEXT, TOPICS, answers, topics_of


class _Answer(Response):
    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        answers(
            ("error_code", Int16),
            ("error_message", TEXT),
            (
                "producers",
                CompactArray(
                    ("producer_id", Int64),
                    ("producer_epoch", Int32),
                    ("last_sequence", Int32),
                    ("last_timestamp", Int64),
                    ("coordinator_epoch", Int32),
                    ("current_start", Int64),
                    TAGS,
                ),
            ),
        ),
        TAGS,
    )


class _Question(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 61
    API_VERSION = 0
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(TOPICS, TAGS)


class _DescribeProducers(Request[_Question]):
    API_KEY = 61

    def __init__(self, partitions: Iterable[TopicPartition]) -> None:
        self._topics = topics_of(partitions)

    def build(self, request_struct_class: type[_Question]) -> _Question:
        """The request as it goes over the wire."""
        return request_struct_class(self._topics, {})


@patient
async def hanging(
    client: AIOKafkaClient, producer_id: int, partitions: Iterable[TopicPartition]
) -> set[TopicPartition]:
    """Where this producer has an open transaction; patient while leaders are elected. Raises `KafkaError`."""
    found: set[TopicPartition] = set()
    leaders: dict[int | None, list[TopicPartition]] = defaultdict(list)
    try:
        for tp in partitions:
            leaders[client.cluster.leader_for_partition(tp)].append(tp)
        for leader, some in leaders.items():
            if leader is None or leader < 0:
                raise LeaderNotAvailableError(str(some))
            _take(await client.send(leader, _DescribeProducers(some)), producer_id, found)
    except KafkaError:
        await client.force_metadata_update()  # what was known of the leaders may have passed
        raise
    return found


def _take(answer: Any, producer_id: int, found: set[TopicPartition]) -> None:
    """Into `found`: where the answer says that the producer has an open transaction. Raises the `KafkaError` of a partition."""
    for topic, places, _ in answer.topics:
        for partition, error, _, producers, _ in places:
            if error:
                raise for_code(error)(f"{topic} {partition}")
            if any(p == producer_id and start >= 0 for p, _, _, _, _, start, _ in producers):
                found.add(TopicPartition(topic, partition))
