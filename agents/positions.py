"""Where routing goes on: a position of its own, in the transaction of what it covers.

The group's offset is in that transaction too, and Apache Kafka 4.3.1 can lose it alone: of a broker that is stopped amid a commit
the records may be there, while the mark of the offset never came, so that the group stands where it stood before. Routing again would
say dead letters twice, and might judge an event otherwise than the first time.

A position never overrules an operator, who sets the group's offset, or a usage topic that was made anew, where the group has none: it
counts only if the group stands exactly where it stood before the position was written.
"""

from __future__ import annotations

import msgspec

from agents.batching import Send
from agents.kafka import newest_values
from agents.settings import Settings
from schemas.topics import ROUTED


class Position(msgspec.Struct, frozen=True):
    """First offset of a usage partition that is not routed; and the group's offset before the transaction that says so."""

    next_offset: int
    before: int


_decode = msgspec.json.Decoder(Position).decode


def position_send(settings: Settings, partition: int, position: Position) -> Send:
    """The record of a position; a partition of the topic is that of usage alone, so that nobody waits for another's transaction."""
    return settings.topic_prefix + ROUTED.name, partition, str(partition).encode(), msgspec.json.encode(position)


async def visible_position(settings: Settings, partition: int) -> int:
    """First offset of a usage partition that is not routed, by what readers see."""
    values = await newest_values(settings, settings.topic_prefix + ROUTED.name, partition)
    return max((_decode(value).next_offset for value in values.values()), default=0)


async def routed_until(settings: Settings, partition: int, committed: int) -> int:
    """Where a usage partition goes on whose group stands at `committed`; the partition is fenced already."""
    if committed:
        for value in (await newest_values(settings, settings.topic_prefix + ROUTED.name, partition)).values():
            position = _decode(value)
            if position.before == committed:
                return position.next_offset
    return committed
