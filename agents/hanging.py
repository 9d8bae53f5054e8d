"""Transactions that Kafka has completed without their marks (ARCHITECTURE.md, decision 3).

Their records hang: readers wait before them, and the next commit of the same producer makes them visible, after what they held was done again.
Kafka shows them (`DescribeProducers`, KIP-664): after a producer's start nothing of its own is under way, so what is open hangs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from aiokafka import TopicPartition
from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, Int16, Int32, Int64, Schema

from agents.kafka import admin
from agents.protocol import TAGS, TEXT, TOPICS, answers, topics_of
from agents.settings import Settings


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


async def hanging(settings: Settings, producer_id: int, partitions: Iterable[TopicPartition]) -> set[TopicPartition]:
    """Where this producer has an open transaction. Raises `KafkaError`."""
    found: set[TopicPartition] = set()
    async with admin(settings) as client:
        leaders: dict[int, list[TopicPartition]] = defaultdict(list)
        for tp in partitions:
            leaders[client._client.cluster.leader_for_partition(tp)].append(tp)  # noqa: SLF001  # the client has no such request
        for leader, some in leaders.items():
            answer = await client._send_request(_DescribeProducers(some), leader)  # noqa: SLF001
            for topic, places, _ in answer.topics:
                for partition, error, _, producers, _ in places:
                    if error:
                        raise for_code(error)()
                    if any(p == producer_id and start >= 0 for p, _, _, _, _, start, _ in producers):
                        found.add(TopicPartition(topic, partition))
    return found
