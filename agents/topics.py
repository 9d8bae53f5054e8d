"""`drawdown topics`: create what is missing, compare what is there."""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError

from agents.kafka import admin
from agents.settings import Settings
from schemas.topics import TOPICS, Topic


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is: no partitions means that it does not exist. `differences` from what it should be."""

    name: str
    partitions: int
    cleanup: str
    differences: list[str]


def partitions_of(settings: Settings, topic: Topic) -> int:
    """Partitions of a new topic."""
    return settings.partitions if topic.partitioned else 1


async def ensure_topics(settings: Settings) -> list[str]:
    """Create the missing topics; their names."""
    missing = [state.name for state in await describe_topics(settings) if not state.partitions]
    new = [
        NewTopic(name, partitions_of(settings, topic), settings.replication, topic_configs=topic.config)
        for topic in TOPICS
        if (name := settings.topic_prefix + topic.name) in missing
    ]
    async with admin(settings) as client:
        try:
            await client.create_topics(new) if new else None
        except TopicAlreadyExistsError:  # somebody beside us was faster
            return await ensure_topics(settings)
    return missing


async def describe_topics(settings: Settings) -> list[TopicState]:
    """Every topic of ours, in the order of the contract."""
    names = [settings.topic_prefix + topic.name for topic in TOPICS]
    async with admin(settings) as client:
        existing = set(await client.list_topics())
        present = [name for name in names if name in existing]
        described = {d["topic"]: len(d["partitions"]) for d in await client.describe_topics(present)} if present else {}
        configs = {name: await _config(client, name) for name in present}
    partitions = max((described[settings.topic_prefix + t.name] for t in TOPICS
                      if t.partitioned and settings.topic_prefix + t.name in described), default=settings.partitions)  # fmt: skip
    return [_state(settings, topic, described, configs, partitions) for topic in TOPICS]


def _state(
    settings: Settings, topic: Topic, described: dict[str, int], configs: dict[str, dict[str, str]], partitions: int
) -> TopicState:
    name = settings.topic_prefix + topic.name
    if name not in described:
        return TopicState(name, 0, topic.cleanup, ["missing"])
    have, wanted = described[name], partitions if topic.partitioned else 1
    differences = [f"{have} partitions, should be {wanted}"] if have != wanted else []
    differences += (
        f"{key} is {configs[name].get(key)}, should be {value}"
        for key, value in topic.config.items()
        if configs[name].get(key) != value
    )
    return TopicState(name, have, configs[name].get("cleanup.policy", "?"), differences)


async def _config(client: object, name: str) -> dict[str, str]:
    responses = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])  # type: ignore[attr-defined]
    return {entry[0]: entry[1] for response in responses for resource in response.resources for entry in resource[4]}
