"""The request for a group's committed offsets that the client lacks: version 7 of `OffsetFetch`, with `require_stable` (KIP-447)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, Int16, Int32, Int64, Schema

from agents.protocol import TAGS, TEXT, TOPICS, answers, topics_of

_UNSTABLE_OFFSET_COMMIT = 88


class OffsetsUnstable(KafkaError):
    """A transaction under way holds an offset of the group: ask again."""

    retriable = True


class _Answer(Response):
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        answers(("offset", Int64), ("leader_epoch", Int32), ("metadata", TEXT), ("error_code", Int16)),
        ("error_code", Int16),
        TAGS,
    )


class _Question(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 9
    API_VERSION = 7
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(("group", TEXT), TOPICS, ("require_stable", Boolean), TAGS)


class StableOffsetFetch(Request[_Question]):
    """The offsets of a group for these (topic, partition), and an error where one is not final yet."""

    API_KEY = 9

    def __init__(self, group: str, partitions: Iterable[tuple[str, int]]) -> None:
        self._group = group
        self._topics = topics_of(partitions)

    def build(self, request_struct_class: type[_Question]) -> _Question:
        """The request as it goes over the wire."""
        return request_struct_class(self._group, self._topics, True, {})


def take_offsets(answer: Any, found: dict[tuple[str, int], int]) -> None:
    """Into `found`: (topic, partition) -> offset, or -1 for none. Then raises the `KafkaError` of the whole answer, or of a partition."""
    _check(answer.error_code)
    refused = 0
    for topic, partitions, _ in answer.topics:
        for partition, offset, _, _, error, _ in partitions:
            if error:
                refused = error
            else:
                found[topic, partition] = offset
    _check(refused)


def _check(code: int) -> None:
    if code == _UNSTABLE_OFFSET_COMMIT:
        raise OffsetsUnstable
    if code:
        raise for_code(code)()
