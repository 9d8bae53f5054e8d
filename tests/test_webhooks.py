"""Webhooks: who may be a target, what is sent and when, on a real Kafka and to a real receiver."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from aiohttp.resolver import ThreadedResolver
from msgspec import structs

from agents.settings import Settings
from agents.webhooks.deliveries import tried, verdict
from agents.webhooks.dispatcher import Dispatcher
from agents.webhooks.manage import WebhookRefused, Webhooks, opened, shown
from agents.webhooks.sender import Outcome, Sender, new_secret
from agents.webhooks.targets import TargetRefused, check_url, is_public
from conftest import Meter
from driver import CATALOG
from receiver import Receiver
from schemas.alerting import ALERT_KINDS, AlertRules, Delivery, Webhook
from schemas.wire import Alert, encode

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "https://", "https://user:word@example.com/", "https://[::1]/",
        "https://127.0.0.1/", "https://example.com/#x", "https://example.com:port/", "https://exa mple.com/", "example.com",
    ],
)  # fmt: skip
def test_urls_that_are_no_targets(url: str) -> None:
    with pytest.raises(TargetRefused):
        check_url(url, private=False)


def delivery(**more: Any) -> Delivery:
    return Delivery("w", "a", "acct", "{}", **{"created_at": AT, "next_at": AT} | more)


def webhook(url: str = "https://example.com/", **more: Any) -> Webhook:
    return Webhook("w", "acct", url, new_secret(), ALERT_KINDS, AT, **more)


def test_a_delivery_is_tried_for_a_day_with_growing_pauses() -> None:
    """About a dozen attempts, the last one a day after the first; then it has failed, and so the webhook is dead."""
    one, moments = delivery(), []
    while one.state == "pending":
        assert one.next_at is not None
        moments.append(one.next_at)
        one = tried(one, Outcome(500), one.next_at, DAY)
    pauses = [b - a for a, b in pairwise(moments)]
    assert one.state == "failed" and moments[-1] - moments[0] == DAY and 8 <= len(moments) <= 14
    assert timedelta(seconds=4) <= pauses[0] <= timedelta(seconds=5)
    assert all(a < b for a, b in pairwise(pauses[:6])) and max(pauses) <= timedelta(hours=4)
    assert (
        verdict(webhook(), one, None) == "every attempt since 2026-11-24 12:00 UTC has failed; the last one: HTTP 500"
    )
    assert verdict(webhook(), one, AT - timedelta(seconds=1)) is not None
    assert verdict(webhook(), one, AT + timedelta(hours=20)) is None, "it took another message meanwhile"
    assert verdict(webhook(status="disabled"), one, None) is None


def test_a_receiver_may_ask_for_time() -> None:
    """`Retry-After` makes a pause longer, and at most four hours."""
    after = tried(delivery(), Outcome(429, retry_after=600), AT, DAY)
    assert after.next_at == AT + timedelta(minutes=10)
    assert tried(delivery(), Outcome(503, retry_after=10**9), AT, DAY).next_at == AT + timedelta(hours=4)


def test_gone_is_the_end() -> None:
    after = tried(delivery(), Outcome(410), AT, DAY)
    assert after.state == "failed" and verdict(webhook(), after, AT) == "the receiver says 410 Gone"


def test_a_secret_is_not_shown() -> None:
    one = webhook()
    assert one.secret not in repr(one) + str([one]) + json.dumps(shown(one), default=str)


@asynccontextmanager
async def sending(**more: Any) -> AsyncIterator[Sender]:
    sender = Sender(Settings(**{"webhook_private_targets": True, "webhook_timeout": 2.0} | more))
    yield sender
    await sender.close()


async def test_a_message_verifies_with_the_standards_own_library() -> None:
    with Receiver() as receiver:
        one = webhook(receiver.url)
        async with sending() as sender:
            assert (await sender.attempt(one, "m1", '{"a": "é"}')).delivered
        assert receiver.verified(one.secret)
        assert receiver.messages[0][0] == "m1"


async def test_what_a_receiver_may_not_do() -> None:
    """Hang, send elsewhere, or answer without end."""
    with Receiver(lambda *_: 60.0) as receiver:
        async with sending() as sender:
            assert await sender.attempt(webhook(receiver.url), "m", "{}") == Outcome(None, "no answer within 2 s")
            moved = await sender.attempt(webhook(receiver.url.replace("hook", "moved")), "m", "{}")
            assert (moved.status, moved.delivered) == (307, False)
            assert len(receiver.messages) <= 1, "the first one, if it came in time"
            endless = await sender.attempt(webhook(receiver.url.replace("hook", "endless")), "m", "{}")
            assert endless.delivered


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:7f00:1]"])
async def test_private_targets_are_refused(host: str) -> None:
    with Receiver() as receiver:
        url = receiver.url.replace("http://127.0.0.1", f"https://{host}")
        async with sending(webhook_private_targets=False) as sender:
            outcome = await sender.attempt(webhook(url), "m", "{}")
        assert outcome.status is None and ("public" in outcome.error or "canonical" in outcome.error)
        assert not receiver.messages


async def test_a_name_that_changes_its_mind_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Public when the webhook was added, one private address among others when it is used."""

    async def resolve(_self: Any, host: str, port: int = 0, _family: Any = 0) -> list[dict[str, Any]]:
        addresses = ("8.8.8.8", "127.0.0.1")
        return [{"hostname": host, "host": a, "port": port, "family": 2, "proto": 0, "flags": 0} for a in addresses]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    async with sending(webhook_private_targets=False) as sender:
        outcome = await sender.attempt(webhook("https://rebinding.example/"), "m", "{}")
    assert "127.0.0.1 is not a public address" in outcome.error


def alert(number: int, account: str = "acct", kind: str = "threshold", **more: Any) -> tuple[bytes, bytes]:
    """An alert as the worker writes it."""
    now = datetime.now(UTC)
    one = Alert(
        f"{account}-{number}", account, now.date(), kind, "logs", "p", Decimal("0.8"), 80, 100, number, now
    )  # fmt: skip
    return account.encode(), encode(structs.replace(one, **more))


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        """The time."""
        return datetime.now(UTC) + self.ahead


@asynccontextmanager
async def dispatching(meter: Meter) -> AsyncIterator[tuple[Webhooks, Clock, Settings]]:
    """A dispatcher in this process."""
    settings = meter.settings.model_copy(update={"webhook_private_targets": True, "webhook_timeout": 3.0})
    clock = Clock()
    async with opened(settings, CATALOG) as webhooks:
        task = asyncio.create_task(Dispatcher(settings, clock).run())
        yield webhooks, clock, settings
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(reached: Callable[[], bool], each: Callable[[], Any] = lambda: None, seconds: float = 90) -> None:
    """Wait, doing something meanwhile."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        each()
        await asyncio.sleep(0.05)


async def test_alerts_are_told_to_those_who_want_them_until_they_are_taken(meter: Meter) -> None:
    """A 500, then no answer, then it is taken; by kind, by the rules' receivers, and nothing of the past."""
    with Receiver(lambda _message, number: (500, 60.0, 204)[number - 1]) as receiver, Receiver() as other:
        async with dispatching(meter) as (webhooks, clock, _):
            one = await webhooks.add("acct", receiver.url, ("threshold",))
            two = await webhooks.add("acct", other.url, ALERT_KINDS)
            rules = AlertRules("chosen", receivers=("nobody",))
            await webhooks.store.put_rules(
                "chosen", json.dumps({"account": "chosen", "receivers": ["nobody"]}).encode()
            )
            assert webhooks.store.rules("chosen") == rules
            await webhooks.add("chosen", receiver.url, ALERT_KINDS)
            past = datetime.now(UTC) - timedelta(minutes=5)
            await meter._send(meter.settings.topic_prefix + "alerts", [
                alert(1), alert(2, kind="forecast"), alert(3, "chosen"), alert(4, "nobody"), alert(5, at=past),
                alert(6, day=date(2020, 1, 1)),
            ])  # fmt: skip

            def later() -> None:
                clock.ahead += timedelta(seconds=20)

            await until(lambda: receiver.times["acct-1"] == 3 and other.times["acct-2"] == 1, later)
            await until(lambda: len(other.messages) == 2)
            assert receiver.times == {"acct-1": 3} and other.times == {"acct-1": 1, "acct-2": 1}
            assert receiver.verified(one.secret) and other.verified(two.secret)
            message = json.loads(receiver.messages[0][2])
            assert message["type"] == "alert.threshold" and message["data"]["threshold"] == 0.8
            assert len({body for _, _, body in receiver.messages}) == 1, "the same bytes every time"
            async with asyncio.timeout(90):
                while (known := (await webhooks.deliveries(one))[0]).state == "pending":  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert (known.state, known.attempts, known.status) == ("delivered", 3, 204)
            again = await webhooks.resend(two, "acct-1")
            assert again is not None and again.state == "delivered" and other.times["acct-1"] == 2
            fresh = await webhooks.resend(one, "acct-2")
            assert fresh is not None and (fresh.state, fresh.status) == ("failed", 500), "a first attempt by hand"
            assert await webhooks.resend(one, "chosen-3") is None, "another account's alert"
            (_, tested) = await webhooks.test(two)
            assert tested.delivered and json.loads(other.messages[-1][2])["type"] == "webhook.test"


async def test_a_dead_receiver_is_disabled_and_shown(meter: Meter) -> None:
    """One says 410 and is off at once; one fails for a day and is off then; what comes later is not sent."""
    with Receiver(lambda *_: 410) as gone, Receiver(lambda *_: 500) as failing:
        async with dispatching(meter) as (webhooks, clock, _):
            first = await webhooks.add("acct", gone.url, ALERT_KINDS)
            second = await webhooks.add("acct", failing.url, ALERT_KINDS)
            await meter._send(meter.settings.topic_prefix + "alerts", [alert(1)])

            async def disabled(webhook: Webhook) -> None:
                async with asyncio.timeout(90):
                    while (now := webhooks.store.get(webhook.id)) is None or now.status == "active":
                        known = await webhooks.deliveries(second)
                        if webhook is second and known and known[0].next_at:
                            clock.ahead = max(clock.ahead, known[0].next_at - datetime.now(UTC))
                        await asyncio.sleep(0.1)
                        await webhooks.store.refresh()

            await disabled(first)
            await disabled(second)
            assert gone.times == {"acct-1": 1} and 8 <= failing.times["acct-1"] <= 14
            reasons = [shown(one)["reason"] for one in webhooks.store.of("acct")]
            assert reasons[0] == "the receiver says 410 Gone" and reasons[1].endswith("the last one: HTTP 500")
            await webhooks.set_status(webhooks.store.of("acct")[0], "active")
            await meter._send(meter.settings.topic_prefix + "alerts", [alert(2)])
            await until(lambda: gone.times["acct-2"] == 1)
            assert failing.times["acct-2"] == 0


async def test_only_good_urls_are_added(meter: Meter) -> None:
    async with opened(meter.settings, CATALOG) as webhooks:
        for url in ("http://example.com/", "https://127.0.0.1/", "https://localhost/"):
            with pytest.raises(WebhookRefused):
                await webhooks.add("acct", url, ALERT_KINDS)
        assert webhooks.store.of("acct") == []


def command(meter: Meter, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`drawdown webhook ...`."""
    whole = [sys.executable, "-m", "agents.cli", "webhook", *arguments]
    return subprocess.run(whole, env=meter.env, capture_output=True, text=True, check=False)


def test_the_command_line(meter: Meter) -> None:
    """Add, list, test, disable and enable; the secret is told once and is in no other output; refusals are exit code 2."""
    meter.env["DRAWDOWN_WEBHOOK_PRIVATE_TARGETS"] = "true"
    with Receiver() as receiver:
        added = json.loads(command(meter, "add", "acct", receiver.url, "--kind", "threshold", "--json").stdout)
        assert added["kinds"] == ["threshold"] and added["secret"].startswith("whsec_")
        (listed,) = json.loads(command(meter, "list", "acct", "--json").stdout)
        assert listed == {name: value for name, value in added.items() if name != "secret"}
        assert command(meter, "test", added["id"]).returncode == 0 and receiver.verified(added["secret"])
        receiver.answer = lambda *_: 500
        failed = command(meter, "test", added["id"])
        assert (failed.returncode, failed.stderr) == (1, "drawdown: not delivered: HTTP 500\n")
    assert command(meter, "disable", added["id"]).returncode == 0
    shown = command(meter, "list", "acct").stdout
    assert "disabled by hand" in " ".join(shown.split()) and added["secret"] not in shown
    assert command(meter, "remove", added["id"]).returncode == 0
    for wrong in (("test", added["id"]), ("add", "acct", "ftp://example.com")):
        assert command(meter, *wrong).returncode == 2


def test_each_alert_is_told_through_kills_and_by_one_of_two(meter: Meter) -> None:
    """Dispatchers killed amid their work lose nothing; two that stand do no work twice."""
    meter.env |= {"DRAWDOWN_WEBHOOK_PRIVATE_TARGETS": "true", "DRAWDOWN_LOG_FORMAT": "json"}
    accounts = [f"acct-{n}" for n in range(8)]
    logs: list[Any] = []

    def dispatcher() -> subprocess.Popen[bytes]:
        logs.append(meter.log.with_name(f"dispatcher-{len(logs)}.log"))
        with logs[-1].open("wb") as output:
            whole = [sys.executable, "-m", "agents.cli", "webhook", "dispatch"]
            process = subprocess.Popen(whole, env=meter.env, stdout=output, stderr=output)
        meter.workers.append(process)
        return process

    with Receiver(lambda *_: 0.02) as receiver:

        async def subscribe() -> None:
            settings = meter.settings.model_copy(update={"webhook_private_targets": True})
            async with opened(settings, CATALOG) as webhooks:
                for account in accounts:
                    await webhooks.add(account, receiver.url, ALERT_KINDS)

        asyncio.run(subscribe())
        running = dispatcher()
        sent = set()
        for step in range(2):
            alerts = [alert(step * 100 + n, account) for n in range(10) for account in accounts]
            sent |= {json.loads(value)["id"] for _, value in alerts}
            had = len(receiver.times)
            meter.send("alerts", alerts)
            meter.wait(lambda had=had: len(receiver.times) > had + 5, "progress")  # type: ignore[misc]
            running.send_signal(signal.SIGKILL)
            running.wait()
            running = dispatcher()
        meter.wait(lambda: set(receiver.times) == sent, "every alert was told")
        dispatcher()
        meter.wait(lambda: all('"partitions": 2' in log.read_text() for log in logs[-2:]), "they share the work")
        alerts = [alert(900 + n, account) for n in range(10) for account in accounts]
        meter.send("alerts", alerts)
        fresh = {json.loads(value)["id"] for _, value in alerts}
        meter.wait(lambda: set(receiver.times) == sent | fresh, "every alert was told")
        time.sleep(1)
        assert {receiver.times[one] for one in fresh} == {1}
        running.send_signal(signal.SIGTERM)
        assert running.wait(90) == 0
