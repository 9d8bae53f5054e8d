"""What becomes durable, and what does not, when an owner of a source partition dies after each step of a commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CoordinatorLoadInProgressError, KafkaError, MessageSizeTooLargeError, ProducerFenced
from faust.types import TP
from tenacity import stop_after_attempt

from agents import kafka
from agents.batching import Batch, Send, batches, submit
from agents.drawdown import DrawdownStage
from agents.hanging import hanging
from agents.kafka import admin, all_records, committed_offsets, newest_values, records_at
from agents.offsets import OffsetsUnstable, take_offsets
from agents.partition import Partition
from agents.registry import Registry
from agents.route import UsageInlet, limits_of
from agents.settings import Settings, load_settings
from agents.transactions import Commit, Transactor, Writes
from conftest import Meter
from driver import CATALOG
from pipeline.law import LawBroken
from pipeline.records import Record, Records
from pipeline.routing import Router
from schemas.log import Bound, encode_account_event
from schemas.topics import MESSAGE_BYTES_MAX, TOPICS
from schemas.wire import WorkspaceBinding

SENDS = 3
#: What hangs is not looked for.
NOTHING = Writes(())
#: `UNSTABLE_OFFSET_COMMIT`.
UNSTABLE = 88


def commit_of(settings: Settings, value: bytes, next_offset: int) -> Commit:
    topic = settings.topic_prefix + "ledger-changelog"
    return Commit([(topic, 0, f"key-{i}".encode(), value) for i in range(SENDS)], next_offset)


@asynccontextmanager
async def owner(settings: Settings, writes: Writes = NOTHING) -> AsyncIterator[Transactor]:
    """An owner of the same source partition; the newest fences the ones before."""
    transactor = Transactor(settings, TopicPartition(settings.topic_prefix + "account-events", 0), writes)
    await transactor.start()
    try:
        yield transactor
    finally:
        await transactor.stop()


async def durable(settings: Settings) -> tuple[set[bytes], int | None]:
    """What a reader of committed records sees: the values, and the committed offset."""
    values = await newest_values(settings, settings.topic_prefix + "ledger-changelog", 0)
    return set(values.values()), await offset_of(settings)


async def offset_of(settings: Settings) -> int | None:
    """The committed offset of the source partition."""
    source = settings.topic_prefix + "account-events", 0
    return (await committed_offsets(settings, settings.group, [source])).get(source)


async def settled(settings: Settings) -> tuple[set[bytes], int | None]:
    """What the next owner finds: Kafka may answer a commit before readers see it, but not the next owner's start."""
    async with owner(settings):
        return await durable(settings)


async def test_a_commit_is_all_of_it(meter: Meter) -> None:
    """Records and offset are there together."""
    async with owner(meter.settings) as one:
        await one.commit(commit_of(meter.settings, b"1", 7))
    assert await settled(meter.settings) == ({b"1"}, 7)


@pytest.mark.parametrize("steps", ["sent", "sent and offset"])
async def test_an_owner_that_dies_before_the_commit_leaves_nothing(meter: Meter, steps: str) -> None:
    """The next owner's start aborts the open transaction: no record and no offset of it is ever seen."""
    settings = meter.settings
    async with owner_lost(settings) as lost:
        commit = commit_of(settings, b"lost", 9)
        await lost._producer.begin_transaction()
        await sent(lost, commit)
        if steps == "sent and offset":
            await lost._producer.send_offsets_to_transaction({lost.source: commit.next_offset}, settings.group)
        async with owner(settings) as following:
            assert await durable(settings) == (set(), None)
            await following.commit(commit_of(settings, b"2", 4))
            assert await settled(settings) == ({b"2"}, 4)


async def sent(one: Transactor, commit: Commit) -> None:
    """Only the records, into the open transaction."""
    await asyncio.gather(*[await submit(one._producer, batch) async for batch in batches(one._producer, commit.sends)])


@asynccontextmanager
async def owner_lost(settings: Settings, writes: Writes = NOTHING) -> AsyncIterator[Transactor]:
    """An owner whose end is not orderly: what it left open stays open."""
    transactor = Transactor(settings, TopicPartition(settings.topic_prefix + "account-events", 0), writes)
    await transactor.start()
    yield transactor
    with suppress(KafkaError):
        await transactor.stop()


@asynccontextmanager
async def unverified(settings: Settings) -> AsyncIterator[None]:
    """Kafka takes records and offsets for a transaction that does not know of them."""
    async with admin(settings) as client:

        async def put(configs: dict[str, str]) -> None:
            await client.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", configs)])

        await put({"transaction.partition.verification.enable": "false"})
        try:
            async with asyncio.timeout(60):
                while not await is_heeded(settings):  # noqa: ASYNC110  # not at once
                    await asyncio.sleep(0.1)
            yield
        finally:
            await put({})


async def is_heeded(settings: Settings) -> bool:
    """Whether Kafka takes such a record; tried where nobody looks, by a producer of its own: the order of one that was refused is broken."""
    probe = Transactor(settings, TopicPartition(settings.topic_prefix + "usage", 0), NOTHING)
    await probe.start()
    try:
        await probe._producer.begin_transaction()
        await slip(probe, settings.topic_prefix + "quota-status")
    except KafkaError:
        return False
    finally:
        with suppress(KafkaError):
            await probe.stop()
    return True


async def slip(one: Transactor, topic: str) -> None:
    """A record into the topic's first partition, of which the open transaction does not know."""
    # So that the client does not say it to the transaction.
    one._producer._txn_manager._txn_partitions.add(TopicPartition(topic, 0))
    await sent(one, Commit([(topic, 0, b"k", b"hung")], 9))


async def orphan(settings: Settings) -> None:
    """Commit a transaction that does not know of its offset."""
    async with unverified(settings), owner_lost(settings) as one:
        await one._producer.begin_transaction()
        await sent(one, commit_of(settings, b"1", 9))
        # So that the client does not say it to the transaction.
        one._producer._txn_manager.consumer_group_added(settings.group)
        await one._producer.send_offsets_to_transaction({one.source: 9}, settings.group)
        await one._producer.commit_transaction()


async def test_an_offset_whose_end_the_group_never_heard_of_is_freed_by_the_next_owner(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a broker that was stopped amid a commit: the records are there, the offset is pending for ever."""
    settings = meter.settings
    await orphan(settings)
    with monkeypatch.context() as patch:
        patch.setattr(kafka, "_complete", kafka._complete.retry_with(stop=stop_after_attempt(1)))  # type: ignore[attr-defined]
        with pytest.raises(OffsetsUnstable):
            await offset_of(settings)
    async with owner(settings) as following:
        assert await durable(settings) == ({b"1"}, None)
        await following.commit(commit_of(settings, b"2", 4))
    assert await settled(settings) == ({b"2"}, 4)


async def test_what_kafka_refuses_is_not_committed_around(meter: Meter) -> None:
    """The client commits also when a record was refused: then nothing of the commit may become durable."""
    settings, small = meter.settings, meter.settings.topic_prefix + "small"
    async with admin(settings) as client:
        await client.create_topics([NewTopic(small, 1, 1, topic_configs={"max.message.bytes": "500"})])
    whole = commit_of(settings, b"1", 7)
    async with owner_lost(settings) as one:
        with pytest.raises(MessageSizeTooLargeError):
            await one.commit(Commit([*whole.sends, (small, 0, b"k", b"x" * 1000)], 7))
        assert await settled(settings) == (set(), None)


async def test_a_committed_offset_is_final(meter: Meter) -> None:
    """Whoever asks while a transaction holds the offset waits: the offset before it is not the answer."""
    settings = meter.settings
    async with owner_lost(settings) as one:
        await one._producer.begin_transaction()
        await one._producer.send_offsets_to_transaction({one.source: 9}, settings.group)
        asked = asyncio.create_task(offset_of(settings))
        assert not (await asyncio.wait([asked], timeout=1))[0], "the transaction is still under way"
        await one._producer.commit_transaction()
        assert await asyncio.wait_for(asked, 30) == 9


@pytest.mark.parametrize("place", ["answer", "partition"])
def test_no_offsets_are_not_the_answer_of_a_broker_that_loads_its_groups(place: str) -> None:
    """It answers with a code and no topics at all; read as "nothing committed", the group would start again from the beginning."""
    code = CoordinatorLoadInProgressError.errno
    topics = [("usage", [(0, -1, -1, "", code, {})], {})] if place == "partition" else []
    with pytest.raises(CoordinatorLoadInProgressError):
        take_offsets(SimpleNamespace(error_code=code if place == "answer" else 0, topics=topics), {})


def test_of_offsets_that_are_not_all_final_those_that_are_count() -> None:
    """With many busy partitions one of them is always under way: only that one is asked for again."""
    found: dict[tuple[str, int], int] = {}
    rows = [(0, 7, -1, "", 0, {}), (1, -1, -1, "", UNSTABLE, {}), (2, -1, -1, "", 0, {})]
    with pytest.raises(OffsetsUnstable):
        take_offsets(SimpleNamespace(error_code=0, topics=[("usage", rows, {})]), found)
    assert found == {("usage", 0): 7, ("usage", 2): -1}


async def test_an_offset_without_its_state_stops_the_worker(meter: Meter) -> None:
    """State and offset are committed together: what would be lost silently between the two is a broken law."""
    settings = meter.settings
    async with owner(settings) as one:
        await one.commit(Commit([], 5))
    with pytest.raises(LawBroken, match="changelog"):
        await DrawdownStage(settings, 0, CATALOG).open(await offset_of(settings) or 0)


async def test_an_offset_of_a_ledger_that_kafka_lost_is_put_right(meter: Meter) -> None:
    """The state says how far the partition is; the group, which `verify` asks, hears of it again without a new event."""
    settings = meter.settings
    binding = WorkspaceBinding(workspace="A", account="acct")
    bound = Record(0, b"acct", encode_account_event(Bound("acct", binding, None)))
    async with owner(settings) as one:
        stage = DrawdownStage(settings, 0, CATALOG)
        await stage.open(0)
        await stage.take(Records.of([bound]))
        commit = await stage.collect()
        assert commit is not None
        await one.commit(commit)
    await settled(settings)
    for committed, said in ((1, [None]), (0, [1, None])):
        again = DrawdownStage(settings, 0, CATALOG)
        await again.open(committed)
        commits = [await again.collect() for _ in said]
        assert [commit and commit.next_offset for commit in commits] == said


async def test_a_zombie_is_refused(meter: Meter) -> None:
    """An owner that was replaced cannot commit any more, and what it sends is not seen."""
    async with owner_lost(meter.settings) as zombie, owner(meter.settings) as living:
        await living.commit(commit_of(meter.settings, b"new", 5))
        with pytest.raises(ProducerFenced):
            await zombie.commit(commit_of(meter.settings, b"old", 3))
        assert await settled(meter.settings) == ({b"new"}, 5)


async def hang(settings: Settings, topic: str) -> None:
    """Leave records in the topic's first partition whose transaction Kafka has completed without a mark there."""
    async with unverified(settings), owner_lost(settings) as one:
        await one._producer.begin_transaction()
        await slip(one, topic)


async def no_position() -> int:
    """Readers see none."""
    return 0


def like_a_ledger(settings: Settings) -> tuple[str, str, Writes]:
    """Changelog, alerts, and an owner's writes to both, of which the changelog decides."""
    changelog, alerts = (settings.topic_prefix + name for name in ("ledger-changelog", "alerts"))
    return changelog, alerts, Writes((changelog, alerts), TopicPartition(changelog, 0), no_position)


@pytest.mark.parametrize(
    ("decides", "marked", "included"),
    [(True, 0, False), (True, 9, True), (False, 0, True)],
    ids=["all hang", "its offset has its mark", "its deciding record has its mark"],
)
async def test_a_transaction_that_kafka_left_without_its_marks_is_ended(
    meter: Meter, decides: bool, marked: int, included: bool
) -> None:
    """It is done again if the record hangs too that says that it is included, and then what hangs must never be seen; else it must be.

    Chaos, seeds 16 and 25: the next commit made it visible, so dead letters and alerts were said twice.
    """
    settings = meter.settings
    source = TopicPartition(settings.topic_prefix + "account-events", 0)
    changelog, alerts, writes = like_a_ledger(settings)
    topic = changelog if decides else alerts
    await hang(settings, topic)
    if marked:
        # Else its end commits its own position, which is 0 if it asked before the commit.
        async with AIOKafkaConsumer(
            bootstrap_servers=settings.kafka, group_id=settings.group, enable_auto_commit=False
        ) as consumer:
            consumer.assign([source])
            await consumer.commit({source: marked})
    async with owner(settings, writes) as following:
        await following.commit(Commit([(changelog, 0, b"k", b"again"), (alerts, 0, b"k", b"again")], marked + 1))
    await settled(settings)
    assert await values_of(settings, topic) == ([b"hung", b"again"] if included else [b"again"])


async def values_of(settings: Settings, topic: str) -> list[bytes | None]:
    """What readers see in the topic's first partition."""
    return [record.value async for records in all_records(settings, topic, 0) for record in records]


async def test_what_hangs_of_ones_own_is_ended_when_kafka_was_away(meter: Meter) -> None:
    """A worker that outlives Kafka's restart: readers waited before what hung until something else was written there, maybe for days."""
    settings = meter.settings
    changelog, alerts, writes = like_a_ledger(settings)
    async with unverified(settings), owner(settings, writes) as one:
        await one._producer.begin_transaction()
        await sent(one, Commit([(changelog, 0, b"k", b"1")], 1))
        await slip(one, alerts)
        await one._producer.commit_transaction()
        await marked(one, {TopicPartition(alerts, 0)})
        await one.settle()
        assert await one._hanging() == {TopicPartition(alerts, 0)}, "the connections held, so nobody looked"
        disconnect(one)
        await one.settle()
        await marked(one, set())
        await one.commit(Commit([(changelog, 0, b"k", b"2")], 2))
    await settled(settings)
    assert await values_of(settings, alerts) == [b"hung"]


async def marked(one: Transactor, left: set[TopicPartition]) -> None:
    """Wait until nothing but these hangs: Kafka answers before it has written the marks."""
    async with asyncio.timeout(60):
        while await one._hanging() != left:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def disconnect(one: Transactor) -> None:
    """As when Kafka goes away."""
    for connection in one._producer.client._conns.values():
        connection.close()


async def test_a_zombie_does_not_end_what_its_successor_has_open(meter: Meter) -> None:
    """It has the same producer id, so its transaction looks like one of ours that hangs."""
    settings = meter.settings
    *_, writes = like_a_ledger(settings)
    async with owner_lost(settings, writes) as zombie, owner(settings) as living:
        await living._producer.begin_transaction()
        await sent(living, commit_of(settings, b"open", 5))
        disconnect(zombie)
        with pytest.raises(ProducerFenced):
            await zombie.settle()
        await living._producer.commit_transaction()
    assert await settled(settings) == ({b"open"}, None)


async def test_kafka_has_the_deciding_record_before_any_other(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else others could hang of a transaction that was aborted before it was sent, and would be taken for included."""
    settings = meter.settings
    changelog, alerts, writes = like_a_ledger(settings)
    futures: list[asyncio.Future[object]] = []
    known: list[tuple[str, bool]] = []

    async def watched(producer: AIOKafkaProducer, batch: Batch) -> asyncio.Future[object]:
        known.append((batch.topic, bool(futures) and futures[0].done()))
        futures.append(await submit(producer, batch))
        return futures[-1]

    monkeypatch.setattr("agents.transactions.submit", watched)
    sends: list[Send] = [(topic, 0, b"k", b"v") for topic in (changelog, alerts, changelog)]
    async with owner(settings, writes) as one:
        await one.commit(Commit(sends, 1))
        assert known == [(changelog, False), (alerts, True), (changelog, True)]
        with pytest.raises(LawBroken, match="the deciding record is the first of a commit"):
            await one.commit(Commit(sends[1:], 2))


@pytest.mark.parametrize("unknown", [None, -1], ids=["partition", "leader"])
async def test_a_leader_that_is_not_known_yet_is_waited_for(
    meter: Meter, monkeypatch: pytest.MonkeyPatch, unknown: int | None
) -> None:
    """While Kafka starts it knows of none: the worker's start asked once and gave up."""
    place = TopicPartition(meter.settings.topic_prefix + "ledger-changelog", 0)
    async with owner(meter.settings) as one:
        await one._producer.partitions_for(place.topic)
        cluster = one._producer.client.cluster
        told = [cluster.leader_for_partition(place), 99, unknown]  # the second is no node
        monkeypatch.setattr(cluster, "leader_for_partition", lambda _: told.pop() if len(told) > 1 else told[0])
        assert await hanging(one._producer.client, one._producer._txn_manager.producer_id, [place]) == set()
        assert len(told) == 1


def test_what_the_stages_write_is_looked_at() -> None:
    """Every topic of their commits; and the partition that decides is that of their position, or state."""
    settings = load_settings(topic_prefix="")
    router = Router(CATALOG, limits_of(settings))
    inlet = UsageInlet(settings, "usage", 3, router, Registry(settings, router)).writes
    ledger = DrawdownStage(settings, 3, CATALOG).writes
    assert inlet is not None
    assert (inlet.deciding, ledger.deciding) == (
        TopicPartition("routing-positions", 3),
        TopicPartition("ledger-changelog", 3),
    )
    others = {"usage", "workspaces", "alert-rules", "routing-positions", "webhooks", "webhook-deliveries"}
    assert {*ledger.topics} == {topic.name for topic in TOPICS} - others


@pytest.mark.parametrize("topics", [("ledger-changelog",), ("ledger-changelog", "alerts")], ids=["offset", "records"])
async def test_a_refusal_that_comes_amid_a_commit_says_why(
    meter: Meter, monkeypatch: pytest.MonkeyPatch, topics: tuple[str, ...]
) -> None:
    """The client then says of whatever follows only that there is no transaction: the cause is what its records were told."""
    settings = meter.settings

    async def after_the_refusal(producer: AIOKafkaProducer, batch: Batch) -> asyncio.Future[object]:
        future = await submit(producer, batch)
        while not producer._sender.sender_task.done():  # noqa: ASYNC110  # to the step of the event loop
            await asyncio.sleep(0)
        return future

    monkeypatch.setattr("agents.transactions.submit", after_the_refusal)
    async with owner_lost(settings) as zombie, owner(settings):
        with pytest.raises(ProducerFenced):
            await zombie.commit(Commit([(settings.topic_prefix + topic, 0, b"k", b"old") for topic in topics], 3))
        assert await settled(settings) == (set(), None)


async def test_records_are_found_by_their_place(meter: Meter) -> None:
    """The original bytes of a refused event, also behind the marks that transactions leave in the log; not beyond its end."""
    settings = meter.settings
    async with owner(settings) as one:
        for number in range(3):
            await one.commit(commit_of(settings, str(number).encode(), number))
    await settled(settings)
    topic = settings.topic_prefix + "ledger-changelog"
    mark = SENDS + 1  # each transaction ends with a mark
    found = await records_at(settings, topic, 0, {0, mark, 2 * mark + 1, 1_000})
    assert found == {0: b"0", mark: b"1", 2 * mark + 1: b"2"}


class Scripted:
    """A stage whose commits are given; it stands for ours, not for Kafka."""

    interval = 0.05
    writes = NOTHING
    full = False
    next_offset = 0

    def __init__(self, commits: list[Commit]) -> None:
        self.commits = commits

    async def open(self, next_offset: int) -> None:
        """Nothing to restore."""

    async def take(self, records: Iterable[Any]) -> None:
        """Nothing to do."""

    async def collect(self) -> Commit | None:
        """The next one."""
        return self.commits.pop(0) if self.commits else None

    def close(self) -> None:
        """Nothing to let go of."""


async def test_nothing_is_committed_behind_a_commit_that_failed(meter: Meter) -> None:
    """The worker is told to stop, and a rebalance that comes before it does commits nothing more."""
    settings, told = meter.settings, asyncio.Event()
    too_large = Commit([(settings.topic_prefix + "ledger-changelog", 0, b"k", b"x" * (MESSAGE_BYTES_MAX + 1))], 1)
    stage = Scripted([too_large, commit_of(settings, b"after", 2)])
    tp = TP(settings.topic_prefix + "account-events", 0)
    partition = Partition(settings, tp, 1, stage, lambda _error: told.set())
    await partition.fence()
    await partition.open(0)
    await partition.take(1, Records.of([Record(0, None, b"")]))
    await asyncio.wait_for(told.wait(), 30)
    await partition.close()
    assert await durable(settings) == (set(), None)
    assert stage.commits, "what came after was not even collected"


async def test_a_partition_at_rest_reminds_kafka_of_its_producer(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka forgets one that has made no transaction for a week; a reminder changes nothing, and what comes next is committed."""
    settings, times = meter.settings, 0
    remind = Transactor.remind

    async def counted(self: Transactor) -> None:
        nonlocal times
        await remind(self)
        times += 1

    monkeypatch.setattr(Transactor, "remind", counted)
    monkeypatch.setattr("agents.partition._REMIND_SECONDS", 0)
    stage, failures = Scripted([]), []
    partition = Partition(settings, TP(settings.topic_prefix + "account-events", 0), 1, stage, failures.append)
    await partition.fence()
    await partition.open(0)
    async with asyncio.timeout(30):
        while times < 3:  # noqa: ASYNC110  # with the first of them it starts
            await asyncio.sleep(0.05)
    assert await durable(settings) == (set(), None)
    stage.commits.append(commit_of(settings, b"1", 7))
    await partition.close()
    assert (await settled(settings), failures) == (({b"1"}, 7), [])


async def test_a_failure_elsewhere_ends_the_commits_of_all_partitions(meter: Meter) -> None:
    """A worker that stops acknowledges nothing more, wherever it is wrong."""
    settings = meter.settings
    stage = Scripted([commit_of(settings, b"after", 2)])
    partition = Partition(settings, TP(settings.topic_prefix + "account-events", 0), 1, stage, lambda _error: None)
    await partition.fence()
    partition.abandon()
    await partition.open(0)
    await partition.close()
    assert await durable(settings) == (set(), None)
    assert stage.commits


class Interrupted(Scripted):
    """A stage that is left half-way through a chunk."""

    async def take(self, records: Iterable[Any]) -> None:
        """Never ends."""
        await asyncio.Event().wait()
        await super().take(records)


async def test_half_a_chunk_is_never_committed(meter: Meter) -> None:
    """An agent that is cancelled while it takes a chunk leaves a stage that nothing more is collected from."""
    settings = meter.settings
    stage = Interrupted([commit_of(settings, b"half", 2)])
    tp = TP(settings.topic_prefix + "account-events", 0)
    partition = Partition(settings, tp, 1, stage, lambda _error: None)
    await partition.fence()
    await partition.open(0)
    agent = asyncio.create_task(partition.take(1, Records.of([Record(0, None, b"")])))
    await asyncio.sleep(0)
    agent.cancel()
    await asyncio.wait([agent])
    await partition.close()
    assert await durable(settings) == (set(), None)
    assert stage.commits
