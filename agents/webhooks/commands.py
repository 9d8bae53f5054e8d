"""`drawdown webhook`: who is told of an account's alerts."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.cli_common import ConfigOption, JsonOption, console, load, print_json
from agents.errors import CommandError, WrongUse
from agents.probe import require_kafka
from agents.settings import Settings
from agents.tables import plain
from schemas.alerting import ALERT_KINDS, Webhook
from schemas.catalog import load_catalog

if TYPE_CHECKING:
    from agents.webhooks.manage import Webhooks

app = typer.Typer(help="Tell receivers of alerts (Standard Webhooks).", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="WEBHOOK")]


def _settings(config: Path | None) -> Settings:
    settings = load(config)
    require_kafka(settings)
    return settings


def _with_webhooks(config: Path | None, work: Callable[[Webhooks], Awaitable[Any]]) -> Any:
    from agents.webhooks.manage import opened

    settings = _settings(config)

    async def run() -> Any:
        async with opened(settings, load_catalog(settings.catalog)) as webhooks:
            return await work(webhooks)

    return asyncio.run(run())


def _find(webhooks: Webhooks, webhook: str) -> Webhook:
    found = webhooks.store.get(webhook)
    if found is None:
        raise WrongUse(f"there is no webhook {webhook!r}")
    return found


@app.command()
def add(
    account: str,
    url: str,
    kind: Annotated[list[str] | None, typer.Option("--kind", help=f"{', '.join(ALERT_KINDS)}; default: all.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Subscribe a URL to an account's alerts, and print its signing secret: this once."""
    from agents.webhooks.manage import WebhookRefused, shown

    kinds = tuple(known for known in ALERT_KINDS if not kind or known in kind)
    if len(kinds) < len(set(kind or ALERT_KINDS)):
        raise WrongUse(f"--kind knows {', '.join(ALERT_KINDS)}")
    try:
        webhook: Webhook = _with_webhooks(config, lambda webhooks: webhooks.add(account, url, kinds))
    except WebhookRefused as refused:
        raise WrongUse(str(refused)) from None
    if as_json:
        print_json(shown(webhook) | {"secret": webhook.secret})
    else:
        typer.echo(f"{webhook.id}\n{webhook.secret}")


@app.command("list")
def list_webhooks(account: str, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """An account's webhooks, and why one is disabled."""
    from agents.webhooks.manage import shown

    async def work(webhooks: Webhooks) -> list[Webhook]:
        return webhooks.store.of(account)

    found = [shown(webhook) for webhook in _with_webhooks(config, work)]
    if as_json:
        print_json(found)
        return
    table = plain("id", "url", "kinds", "status", "reason")
    for one in found:
        style = "green" if one["status"] == "active" else "red"
        status = f"[{style}]{one['status']}[/]"
        table.add_row(one["id"], one["url"], ", ".join(one["kinds"]), status, one["reason"])
    console.print(table)


@app.command()
def deliveries(webhook: IdArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """How telling a webhook of each alert went."""

    async def work(webhooks: Webhooks) -> Any:
        return await webhooks.deliveries(_find(webhooks, webhook))

    found = _with_webhooks(config, work)
    if as_json:
        print_json([_delivery(one) for one in found])
        return
    table = plain("alert", "state", "attempts", "status", "error", "next")
    for one in found:
        table.add_row(one.alert, one.state, str(one.attempts), str(one.status or ""), one.error, str(one.next_at or ""))
    console.print(table)


def _delivery(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__ if name != "body"}


@app.command("test")
def send_test(webhook: IdArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Send a test message now; exit code 1 if it was not accepted."""

    async def work(webhooks: Webhooks) -> Any:
        return await webhooks.test(_find(webhooks, webhook))

    message, outcome = _with_webhooks(config, work)
    _report(as_json, {"id": message, "delivered": outcome.delivered, "status": outcome.status, "error": outcome.error})


@app.command()
def resend(webhook: IdArgument, alert: str, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Send an alert again now; exit code 1 if it was not accepted."""

    async def work(webhooks: Webhooks) -> Any:
        return await webhooks.resend(_find(webhooks, webhook), alert)

    after = _with_webhooks(config, work)
    if after is None:
        raise WrongUse(f"the account has no alert {alert!r}")
    delivered = after.state == "delivered"
    _report(as_json, {"id": alert, "delivered": delivered, "status": after.status, "error": after.error})


def _report(as_json: bool, told: dict[str, Any]) -> None:
    answer = f"HTTP {told['status']}" if told["status"] else told["error"]
    if as_json:
        print_json(told)
    elif told["delivered"]:
        typer.echo(f"delivered: {answer}")
    if not told["delivered"]:
        raise CommandError(f"not delivered: {answer}")


@app.command()
def disable(webhook: IdArgument, config: ConfigOption = None) -> None:
    """Send nothing more to it."""
    _change(config, webhook, "disabled", "disabled by hand")


@app.command()
def enable(webhook: IdArgument, config: ConfigOption = None) -> None:
    """Send alerts to it again, from now on."""
    _change(config, webhook, "active", "")


def _change(config: Path | None, webhook: str, status: str, reason: str) -> None:
    async def work(webhooks: Webhooks) -> Any:
        return await webhooks.set_status(_find(webhooks, webhook), status, reason)

    typer.echo(f"{webhook} {_with_webhooks(config, work).status}")


@app.command()
def remove(webhook: IdArgument, config: ConfigOption = None) -> None:
    """Forget it, and its secret."""

    async def work(webhooks: Webhooks) -> Any:
        await webhooks.store.remove(_find(webhooks, webhook).id)

    _with_webhooks(config, work)
    typer.echo(f"{webhook} removed")


@app.command()
def dispatch(config: ConfigOption = None) -> None:
    """Deliver webhooks in a process of its own (where DRAWDOWN_WEBHOOKS keeps the API processes from it), until a signal."""
    from agents.webhooks.dispatcher import Dispatcher

    settings = _settings(config)

    async def run() -> None:
        task = asyncio.ensure_future(Dispatcher(settings).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    asyncio.run(run())
