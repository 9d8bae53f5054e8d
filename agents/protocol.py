"""Requests of Kafka's protocol about many partitions that the client lacks: how they name these, and how they are answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from aiokafka.protocol.types import CompactArray, CompactString, Int32, TaggedFields

TEXT = CompactString("utf-8")
TAGS = ("tags", TaggedFields)
#: The field of a request.
TOPICS = ("topics", CompactArray(("topic", TEXT), ("partitions", CompactArray(Int32)), TAGS))


def topics_of(partitions: Iterable[tuple[str, int]]) -> list[tuple[str, list[int], dict[int, Any]]]:
    """What stands in that field for these (topic, partition)."""
    topics: dict[str, list[int]] = defaultdict(list)
    for topic, partition in partitions:
        topics[topic].append(partition)
    return [(topic, some, {}) for topic, some in topics.items()]


def answers(*columns: tuple[str, Any]) -> tuple[str, Any]:
    """The field of an answer that has these columns for each partition."""
    partition = CompactArray(("partition", Int32), *columns, TAGS)
    return "topics", CompactArray(("topic", TEXT), ("partitions", partition), TAGS)
