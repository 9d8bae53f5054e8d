"""Live views and streams without servers: whatever the cuts, the replica and the moment, a stream that comes back misses nothing."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.api import live as module
from agents.api.activity import Activity
from agents.api.live import Live, Subscriber
from served import Event, parse

_SOURCES = 4
_KINDS = ("quota", "quota", "overage", "alert")


def record(source: int, version: int, account: str, day: str = "2026-01-02") -> bytes:
    """A record of a source's kind; few identities, so that versions replace each other."""
    base = {"account": account, "day": day, "version": version, "at": f"2026-01-02T00:00:{version % 60:02}Z"}
    more = {
        "quota": {"meter": "logs", "package": f"p{version % 3}", "used": version},
        "overage": {"workspace": f"w{version % 2}", "meter": "logs", "basis": "payg", "retention_days": 14},
        "alert": {"id": f"alert-{version}"},
    }[_KINDS[source]]
    return json.dumps(base | more).encode()


def identity(kind: str, data: dict[str, object]) -> tuple[object, ...]:
    """What identifies a figure."""
    return (kind, data.get("package"), data.get("workspace"), data.get("id"))


class Replica:
    """A `Live` that reads a shared log in cuts of its own."""

    def __init__(self, log: list[list[bytes]], rng: random.Random) -> None:
        self.log, self.rng, self.live = log, rng, Live()
        self.live.begin([0] * _SOURCES)
        self.live.first_day = "2026-01-01"

    def poll(self, *, everything: bool = False) -> None:
        """Some of what there is of each source, in any order of the sources."""
        positions = list(self.live.positions)
        for source in self.rng.sample(range(_SOURCES), _SOURCES):
            end = len(self.log[source])
            stop = end if everything else self.rng.randint(positions[source], end)
            for offset in range(positions[source], stop):
                self.live.take(_KINDS[source], source, offset, self.log[source][offset])  # type: ignore[arg-type]
            positions[source] = stop
        self.live.positions = positions
        self.live.flush()


class Client:
    """Applies events as the documentation says: by version; a snapshot replaces what it names. It keeps the last id."""

    def __init__(self) -> None:
        self.last: str | None = None
        self.state: dict[tuple[object, ...], int] = {}
        self.seen: set[tuple[str, int]] = set()
        self.snapshots = 0

    def read(self, text: str) -> None:
        """A piece of the stream."""
        for event in parse(text):
            self._apply(event)
            self.last = event.id or self.last

    def _apply(self, event: Event) -> None:
        if event.name == "snapshot":
            self.snapshots += 1
            for kind, rows in (("quota", "quotas"), ("overage", "overage"), ("alert", "alerts")):
                for data in event.data[rows]:
                    self._newest(kind, data)
        else:
            self.seen.add((event.name, event.data["version"]))
            self._newest(event.name, event.data)

    def _newest(self, kind: str, data: dict[str, object]) -> None:
        key = identity(kind, data)
        self.state[key] = max(self.state.get(key, -1), int(str(data["version"])))


@example(seed=99999999, tail=10**9)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), tail=st.sampled_from([10**9, 2_000]))
def test_a_stream_that_comes_back_misses_nothing(seed: int, tail: int) -> None:
    """Two replicas, random polls, a client that is cut off anywhere and comes back anywhere: every record, or a snapshot."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TAIL_BYTES", tail)
        rng = random.Random(seed)
        log: list[list[bytes]] = [[] for _ in range(_SOURCES)]
        replicas = [Replica(log, rng) for _ in range(2)]
        client, version, stream, replica = Client(), 0, None, replicas[0]
        began = None
        for _ in range(60):
            match rng.randrange(5):
                case 0 | 1:
                    source = rng.randrange(_SOURCES)
                    log[source].append(record(source, version, rng.choice(("acct", "other"))))
                    version += 1
                case 2:
                    rng.choice(replicas).poll()
                case 3 if stream is None:
                    replica = rng.choice(replicas)
                    stream = replica.live.subscribe("acct", client.last)
                    began = version if client.last is None else began
                case _ if stream is not None:
                    text = stream.take().decode()
                    if rng.random() < 0.4:  # cut off in the middle of it
                        text, cut = text[: rng.randrange(len(text) + 1)], stream
                        replica.live.unsubscribe(cut)
                        stream = None
                    client.read(text)
        for one in replicas:
            one.poll(everything=True)
        if stream is None:
            stream = replicas[1].live.subscribe("acct", client.last)
            began = version if client.last is None else began
        client.read(stream.take().decode())
        wanted = [(_KINDS[s], json.loads(v)) for s in range(_SOURCES) for v in log[s] if b'"acct"' in v]
        truth: dict[tuple[object, ...], int] = {}
        for kind, data in wanted:
            truth[identity(kind, data)] = max(truth.get(identity(kind, data), -1), data["version"])
        assert client.state == truth, f"seed {seed}"
        if client.snapshots == 1 and began is not None:
            missing = {(kind, data["version"]) for kind, data in wanted if data["version"] >= began} - client.seen
            assert not missing, f"seed {seed}: {missing}"


def one_stream() -> tuple[Live, Subscriber]:
    live = Live()
    live.begin([0] * _SOURCES)
    return live, live.subscribe("acct", None)


def test_a_slow_client_is_closed() -> None:
    """What waits for it is bounded; the others go on."""
    live, slow = one_stream()
    reader = live.subscribe("acct", None)
    for offset in range(100):
        value = json.loads(record(0, offset, "acct")) | {"padding": "x" * 100_000}
        live.take("quota", 0, offset, json.dumps(value).encode())
        live.flush()
        reader.take()
    assert slow.closed
    assert slow.take() == b""
    assert not reader.closed


@pytest.mark.parametrize(
    "token", ["", "nonsense", "1", "1.", "1.0.0", "2.0.0.0.0", "1.0.0.0.9", "1.-1.0.0.0", "1.g.0.0.0"]
)
def test_a_token_that_is_none_gives_a_snapshot(token: str) -> None:
    """Of another version, another number of partitions, ahead of us, or no token at all."""
    live, _ = one_stream()
    text = live.subscribe("acct", token).take().decode()
    assert [event.name for event in parse(text)] == ["snapshot"]


def test_a_snapshot_has_the_newest_of_each_and_only_this_account() -> None:
    """An older version never replaces a newer one; days that are over are left out, alerts are not."""
    live, _ = one_stream()
    live.first_day = "2026-01-02"
    for offset, (source, version, account, day) in enumerate([
        (0, 6, "acct", "2026-01-02"), (0, 3, "acct", "2026-01-02"), (0, 9, "other", "2026-01-02"),
        (0, 12, "acct", "2026-01-01"), (2, 1, "acct", "2026-01-02"), (3, 2, "acct", "2026-01-01"),
    ]):  # fmt: skip
        live.take(_KINDS[source], source, offset, record(source, version, account, day))  # type: ignore[arg-type]
    (snapshot,) = parse(live.subscribe("acct", None).take().decode())
    assert [q["version"] for q in snapshot.data["quotas"]] == [6]
    assert [o["version"] for o in snapshot.data["overage"]] == [1]
    assert [a["id"] for a in snapshot.data["alerts"]] == ["alert-2"]
    live.forget_before("2026-01-03")
    (later,) = parse(live.subscribe("acct", None).take().decode())
    assert (later.data["quotas"], later.data["overage"], len(later.data["alerts"])) == ([], [], 1)


def test_closing_ends_every_stream() -> None:
    """At the end of the process."""
    live, stream = one_stream()
    live.close()
    assert stream.closed
    assert stream.changed.is_set()


def test_the_rate_of_events() -> None:
    """Differences of running totals within the window; the first total of a day makes none."""
    activity = Activity()
    for at, counted in ((100.0, 1_000), (101.0, 1_040), (102.0, 1_100), (103.0, 1_100)):
        value = {"account": "a", "day": "2026-01-02", "counted": counted, "duplicates": 1, "conflicts": 0}
        activity.take(json.dumps(value).encode(), at)
    assert activity.per_second("a", 103.0) == 10.0
    assert activity.per_second("a", 111.5) == 6.0
    assert activity.per_second("a", 120.0) == 0.0
    assert activity.per_second("b", 103.0) == 0.0
