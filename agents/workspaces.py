"""Workspaces: documents of the compacted topic `workspaces`, as `drawdown workspace` reads and writes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from msgspec import structs

from agents.errors import WrongUse
from agents.kafka import newest_values, send
from agents.parsers import accepted, binding_parser
from agents.probe import require_kafka
from agents.settings import Settings
from pipeline.admission import UNDECODABLE
from pipeline.retention import succeed
from schemas.catalog import load_catalog
from schemas.log import Bound
from schemas.topics import WORKSPACES
from schemas.wire import WorkspaceBinding, encode


def workspaces_of(settings: Settings, account: str | None) -> list[WorkspaceBinding]:
    """The bindings, by account and workspace; what the workers refuse is left out."""
    require_kafka(settings)
    parse = binding_parser(load_catalog(settings.catalog))
    values = asyncio.run(newest_values(settings, settings.topic_prefix + WORKSPACES.name, 0)).values()
    found = [event.binding for value in values if isinstance(event := accepted(parse, value), Bound)]
    return sorted((b for b in found if account in (None, b.account)), key=lambda b: (b.account, b.workspace))


def shared_by(workspaces: Iterable[WorkspaceBinding]) -> dict[str, str]:
    """What is the account's and all of its workspaces have alike (contract.md): field -> value; nothing without a workspace."""
    one = next(iter(workspaces), None)
    return {} if one is None else {field: getattr(one, field) for field in ("time_zone", "currency", "site")}


def bind_workspace(
    settings: Settings, name: str, account: str, given: Mapping[str, str], retentions: Mapping[str, int]
) -> WorkspaceBinding:
    """Write the binding, once Kafka has it; raises `WrongUse` for one that the workers would refuse.

    `retentions` (meter -> days) are defaults; of a known workspace they change by the rule of `pipeline.retention`. Time zone,
    currency and site are the account's: they come from its other workspaces, and have to agree with them.
    """
    known = workspaces_of(settings, None)
    shared = shared_by(b for b in known if b.account == account and b.workspace != name)
    if wrong := [f"--{f.replace('_', '-')}: the account has {v!r}" for f, v in shared.items() if given.get(f, v) != v]:
        raise WrongUse("\n".join(wrong))
    before = next((b for b in known if b.workspace == name), WorkspaceBinding(name, account))
    retention_days = {**before.retention_days, **retentions}
    changes = {"account": account, "retention_days": retention_days} | shared | dict(given)
    binding = structs.replace(before, **changes)
    catalog = load_catalog(settings.catalog)
    try:
        binding_parser(catalog)(encode(binding))
    except (*UNDECODABLE, ValueError) as error:
        raise WrongUse(str(error)) from None
    if before in known and before.account == account:
        binding = succeed(catalog, before, binding, time.time_ns() // 1000)
    asyncio.run(send(settings, WORKSPACES, binding.workspace, encode(binding)))
    return binding
