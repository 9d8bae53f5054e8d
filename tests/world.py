"""Seeded worlds for tests: accounts in several time zones, packages near their quotas, events with everything that goes wrong."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

ZONES = ("UTC", "Asia/Shanghai", "America/New_York", "Asia/Kolkata")
METERS = {"logs": (14, 30, 60), "traces": (7, 14), "triggers": (0,), "hosts": (0,), "time_series": (14,)}


@dataclass
class World:
    """Bindings, packages and usage records `(partition, offset, key, value)`; one partition keeps the order plain."""

    bindings: list[dict[str, Any]]
    packages: list[dict[str, Any]]
    records: list[tuple[int, int, bytes | None, bytes]]


def binding(workspace: str, account: str, zone: str = "UTC", **more: Any) -> dict[str, Any]:
    """A workspace binding."""
    return {"workspace": workspace, "account": account, "time_zone": zone} | more


def package(
    name: str,
    account: str,
    workspaces: list[str],
    quotas: dict[str, int],
    now: datetime,
    kind: str = "plan",
    **more: Any,
) -> dict[str, Any]:
    """A package that covers the days around `now`."""
    return {
        "package": name, "account": account, "kind": kind, "plan": None, "workspaces": workspaces, "quotas": quotas,
        "effective": str((now - timedelta(days=40)).date()), "expires": str((now + timedelta(days=300)).date()),
        "ordered_at": now.isoformat(), "status": "active", "price": "1.00", "currency": "CNY",
    } | more  # fmt: skip


def event(
    workspace: str, meter: str, quantity: Any, identity: str, time: datetime, retention: int | None = None, **more: Any
) -> dict[str, Any]:
    """A usage event."""
    data = {"quantity": quantity} if retention is None else {"quantity": quantity, "retention_days": retention}
    return {
        "specversion": "1.0", "id": identity, "source": "test", "type": f"usage.{meter}", "subject": workspace,
        "time": time.isoformat(), "data": data,
    } | more  # fmt: skip


def malformed(rng: random.Random, good: dict[str, Any], now: datetime) -> tuple[bytes | None, bytes]:
    """A record of one of the codes, made from a good event."""
    key = good["subject"].encode()
    data = good["data"]
    spoiled: list[Any] = [
        good | {"specversion": "0.3"}, good | {"id": ""}, good | {"data": {}}, good | {"time": "yesterday"},
        good | {"data": data | {"quantity": 1.5}}, good | {"data": data | {"quantity": True}}, good | {"type": "usage.tea"},
        good | {"data": data | {"quantity": -1}}, good | {"data": data | {"quantity": 10**15 + 1}},
        good | {"data": data | {"retention_days": 5}}, good | {"time": (now + timedelta(hours=1)).isoformat()},
        good | {"time": (now - timedelta(days=37)).isoformat()}, [1, "x"], {},
    ]  # fmt: skip
    choice = rng.randrange(len(spoiled) + 3)
    if choice == len(spoiled):
        return key, b'{"specversion": '
    if choice == len(spoiled) + 1:
        return b"other", json.dumps(good).encode()
    if choice == len(spoiled) + 2:
        return None, json.dumps(good | {"subject": "nobody"}).encode()
    return key, json.dumps(spoiled[choice]).encode()


def make_world(seed: int, now: datetime, events: int = 400) -> World:
    """The same world for the same seed and clock."""
    rng = random.Random(seed)
    bindings, packages, owners = [], [], {}
    for a, zone in enumerate(ZONES):
        account, names = f"acct-{a}", [f"ws-{a}{w}" for w in range(4)]
        bindings += [binding(w, account, zone, retention_days={"logs": rng.choice((14, 30))}) for w in names]
        bindings[-1]["plan"] = "free" if a % 2 else "commercial"
        owners.update(dict.fromkeys(names, zone))
        some = {meter: rng.randrange(1, 3000) for meter in METERS if rng.random() < 0.8}
        packages.append(package(f"p{a}-plan", account, rng.sample(names, 3), some or {"logs": 5}, now))
        packages.append(
            package(f"p{a}-traffic", account, rng.sample(names, 2), {"logs": rng.randrange(2000)}, now, "traffic")
        )
    sent: list[dict[str, Any]] = []
    values: list[tuple[bytes | None, bytes]] = []
    while len(sent) < events:
        workspace = rng.choice(list(owners))
        meter = rng.choice(list(METERS))
        retention = rng.choice((None, *METERS[meter])) if METERS[meter] != (0,) else None
        one = event(
            workspace, meter, rng.randrange(100), f"e{len(sent)}", _time(rng, now, owners[workspace]), retention
        )
        sent.append(one)
        values.append((workspace.encode(), json.dumps(one).encode()))
        dice = rng.random()
        if dice < 0.1:  # a duplicate, now or of long ago
            again = rng.choice(sent)
            values.append((again["subject"].encode(), json.dumps(again).encode()))
        elif dice < 0.14:  # the same identity with another content
            again = rng.choice(sent)
            values.append((again["subject"].encode(), json.dumps(again | {"data": {"quantity": 101}}).encode()))
        elif dice < 0.2:
            values.append(malformed(rng, one, now))
        elif dice < 0.25:
            values.append((workspace.encode(), json.dumps([one, one | {"id": f"{one['id']}-b"}, {"bad": 1}]).encode()))
    return World(bindings, packages, [(0, offset, key, value) for offset, (key, value) in enumerate(values)])


def _time(rng: random.Random, now: datetime, zone: str) -> datetime:
    """Mostly now; also late by days, and around the account's midnight."""
    dice = rng.random()
    if dice < 0.6:
        return now - timedelta(seconds=rng.randrange(3600))
    if dice < 0.8:
        return now - timedelta(days=rng.randrange(30), seconds=rng.randrange(86400))
    midnight = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(microseconds=rng.choice((-1, 0, 1, -500_000)))
