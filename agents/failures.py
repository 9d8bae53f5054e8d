"""What stops a worker, as one line for the log: an error pages somebody, and so is only what a restart does not mend."""

from __future__ import annotations

from typing import Any

import structlog
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced

from agents.errors import CommandError
from pipeline.law import LawBroken

log = structlog.get_logger()


def locate(error: BaseException, **fields: Any) -> None:
    """Note where an error happened; what was said before, nearer to it, stays."""
    vars(error)["place"] = fields | place_of(error)


def place_of(error: BaseException) -> dict[str, Any]:
    """The fields that name the place: account, topic, partition, offset, as far as they are known."""
    place: dict[str, Any] = vars(error).get("place", {})
    return place


def report(error: Exception) -> None:
    """The line."""
    text, place = f"{type(error).__name__}: {error}", place_of(error)
    match error:
        case LawBroken():
            log.critical("a law of the ledger is broken: nothing more is acknowledged", law=str(error), **place)
        case ProducerFenced():
            log.warning("another worker owns the partition now: this worker ends", error=text, **place)
        case MessageSizeTooLargeError():
            log.error("worker stops: a record of ours is larger than Kafka takes", error=text, **place)
        case KafkaError():
            log.warning("Kafka does not do what it must: this worker ends", error=text, **place)
        case CommandError():
            log.error("worker stops", error=text, **place)
        case _:
            log.error("worker stops", error=text, exc_info=error, **place)
