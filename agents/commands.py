"""Commands of the billing center: written to the account's own log, answered on `orders`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.documents import AccountDocuments
from agents.errors import CommandError
from agents.kafka import partition_counts, reader, send
from agents.settings import Settings
from pipeline.account import Account
from pipeline.billing import Command
from pipeline.orders import traffic_name
from schemas.billing import Amendment, Fault, Order, Outcome
from schemas.log import decode_account_event, encode_account_event
from schemas.topics import ACCOUNT_EVENTS, ORDERS

_decode = msgspec.json.Decoder(Outcome).decode
_ANSWER_SECONDS = 30.0
#: Faults of bindings. One that was acknowledged a moment ago may still be on its way to the ledger: it is asked again for so long.
_OF_BINDINGS = frozenset({"not_bound", "not_commercial"})
_BEHIND_SECONDS, _PAUSE_SECONDS = 5.0, 0.3


class Refused(CommandError):
    """The ledger refuses the command; every fault is a line, and nothing has changed."""


def names_made(command: Command) -> list[str]:
    """The packages that the command would make: their names are keys of the topic `packages`, so one account has them."""
    match command:
        case Order():
            plan = [] if command.plan is None else [command.id]
            return [*plan, *(traffic_name(command, key) for key in command.traffic)]
        case Amendment():
            return [command.id] if command.workspaces else []
        case _:
            return []


def encoded(command: Command) -> bytes:
    """The command as it goes into the log; raises `Refused` for one that the ledger could not read, which would stop it."""
    value = encode_account_event(command)
    try:
        decode_account_event(value)
    except msgspec.DecodeError as error:
        raise Refused(f"invalid_field: {error}") from None
    return value


async def decided(ask: Callable[[], Awaitable[Outcome]], expected: Callable[[], Iterable[Fault]]) -> Outcome:
    """What the ledger says when asked; again, while it refuses for bindings that are not at fault by the documents (`expected`).

    Refused commands are not remembered, so the same id may ask again.
    """
    outcome = await ask()
    deadline = monotonic() + _BEHIND_SECONDS
    while monotonic() < deadline and not {f for f in outcome.faults if f.code in _OF_BINDINGS} <= {*expected()}:
        await asyncio.sleep(_PAUSE_SECONDS)
        outcome = await ask()
    return outcome


async def submit(settings: Settings, command: Command, expected: Iterable[Fault]) -> Outcome:
    """Write the command and wait for what became of it; `expected` are its faults by the documents.

    Raises `Refused`, `KafkaError`, or `CommandError` without an answer. Trying again with the same id is always safe: it is the same command.
    """
    outcome = await decided(lambda: _ask(settings, command), lambda: expected)
    if not outcome.accepted:
        raise Refused("\n".join(f"{fault.code}: {fault.message}" for fault in outcome.faults))
    return outcome


async def _ask(settings: Settings, command: Command) -> Outcome:
    value, topic = encoded(command), settings.topic_prefix + ORDERS.name
    partitions = [TopicPartition(topic, p) for p in range((await partition_counts(settings, [ORDERS]))[ORDERS])]
    async with reader(settings, *partitions) as consumer:
        await consumer.seek_to_end(*partitions)
        # The positions are fixed before the command is sent: its answer cannot lie before them.
        for partition in partitions:
            await consumer.position(partition)
        await send(settings, ACCOUNT_EVENTS, command.account, value)
        return await _answer(consumer, command)


async def _answer(consumer: AIOKafkaConsumer, command: Command) -> Outcome:
    deadline = monotonic() + _ANSWER_SECONDS
    while monotonic() < deadline:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                outcome = _decode(record.value)
                if (outcome.account, outcome.id) == (command.account, command.id):
                    return outcome
    raise CommandError(
        f"no answer within {_ANSWER_SECONDS:.0f} s; is a worker running? {command.id!r} is in the log and will be looked at:"
        " asking again with the same --id is safe"
    )


def run(settings: Settings, command: Command, expected: Iterable[Fault] = ()) -> Outcome:
    """`submit` for the command line."""
    return asyncio.run(submit(settings, command, expected))


def account_of(documents: AccountDocuments) -> Account:
    """The account as its documents show it, to quote a price; its wallet is known to the ledger alone."""
    account = Account(documents.account)
    for binding in documents.bindings.values():
        account.put_binding(binding)
    account.packages.update(documents.packages)
    return account
