"""The `drawdown` command."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import structlog
import typer
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import Error as ClickHouseError
from rich.live import Live
from rich.table import Table

from agents.api.commands import app as api_keys
from agents.api.keys import keys_file_of, read_keys
from agents.cli_audit import audit
from agents.cli_common import ConfigOption, JsonOption, console, load, print_json
from agents.cli_purchase import package, statements, wallet, workspace
from agents.clickhouse import connect
from agents.errors import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_WRONG_USE, CommandError
from agents.local.services import ALL_PARTS
from agents.logs import logs_are_json
from agents.migrate import migrate as apply_migrations
from agents.migrate import pending
from agents.probe import require_clickhouse, require_kafka
from agents.settings import Settings, SettingsInvalid, load_settings, unknown_variables
from agents.tables import plain
from agents.topics import describe_topics, ensure_topics
from agents.webhooks.commands import app as webhooks
from schemas.catalog import CatalogInvalid, load_catalog

app = typer.Typer(
    help="Drawdown: a streaming usage meter.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(api_keys, name="api-key")
app.add_typer(package, name="package")
app.add_typer(workspace, name="workspace")
app.add_typer(wallet, name="wallet")
app.command()(statements)
app.add_typer(webhooks, name="webhook")
app.add_typer(audit)

CheckOption = Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if something differs.")]
DirOption = Annotated[Path, typer.Option("--dir", help="Where the state is kept; it survives a restart.")]
PortsOption = Annotated[
    str, typer.Option("--ports", help="'auto' picks free ports; 'default' takes 9092, 8123 and 8080.")
]


def _require_set_up(settings: Settings, *, clickhouse: bool = True) -> None:
    """The servers answer, and topics and tables are there; else the error that says what to do."""
    require_kafka(settings)
    missing = [state.name for state in asyncio.run(describe_topics(settings)) if not state.partitions]
    if missing:
        raise CommandError(f"topics are missing ({', '.join(missing)}); run `drawdown topics`")
    if not clickhouse:
        return
    require_clickhouse(settings)
    if waiting := pending(settings):
        raise CommandError(f"migrations are pending ({', '.join(waiting)}); run `drawdown migrate`")


@app.command()
def up(
    config: ConfigOption = None,
    directory: DirOption = Path(".drawdown"),
    only: Annotated[str, typer.Option(help="Parts to start, with commas.")] = ",".join(ALL_PARTS),
    ports: PortsOption = "default",
    ready_file: Annotated[Path | None, typer.Option(help="Write the addresses here once everything answers.")] = None,
) -> None:
    """Start everything on this machine for development; Ctrl-C stops it all."""
    from agents.local.up import Up  # the servers of a laptop are not part of production's start

    with Up(load(config), directory, only.split(","), auto_ports=ports == "auto") as running:
        running.catch_signals()
        if ready_file is not None:
            running.write_ready(ready_file)
        table = Table(title="Drawdown is up", title_justify="left", box=None, show_header=False, pad_edge=False)
        for name, value in (
            ("Kafka", running.settings.kafka), ("ClickHouse", running.settings.clickhouse),
            ("state", str(directory)), ("logs", str(directory / "logs")),
        ):  # fmt: skip
            table.add_row(f"[bold]{name}[/]", value)
        if running.dashboard:
            console.print(f"dashboard   [bold]{running.dashboard}[/]", soft_wrap=True)
        console.print(table, "[dim]Ctrl-C stops everything[/]")
        code = running.watch(console)
    raise typer.Exit(code)


@app.command()
def demo(
    config: ConfigOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running afterwards.")] = False,
) -> None:
    """Play the purchase page's example beside a busy fleet, and check every figure."""
    from agents.demo import run_demo  # only here

    raise typer.Exit(run_demo(load(config), console, keep=keep))


@app.command()
def bench(
    only: Annotated[str, typer.Option(help="Measurements, with commas; all if it is left out.")] = "",
    events: Annotated[int, typer.Option(help="Single-event messages of a measurement.", min=1_000)] = 1_000_000,
    workspaces: Annotated[int, typer.Option(help="Workspaces that send them.", min=1)] = 1_000,
    as_json: JsonOption = False,
) -> None:
    """Measure throughput, latency, memory and recovery on this machine."""
    from agents.bench.run import run_bench  # only here

    raise typer.Exit(
        run_bench(console, events, workspaces, [name for name in only.split(",") if name], as_json=as_json)
    )


@app.command()
def api(config: ConfigOption = None) -> None:
    """Run one process of the HTTP API and the dashboard."""
    settings = load(config)
    read_keys(keys_file_of(settings))
    # An engine inside a worker answers nobody else: then there is no history, and all that is live works.
    _require_set_up(settings, clickhouse=not settings.clickhouse.startswith("chdb:"))
    from agents.api.server import run as serve  # imports FastAPI, which is slow to load

    raise typer.Exit(serve(settings))


@app.command()
def worker(config: ConfigOption = None) -> None:
    """Run one worker process."""
    from agents.worker import run  # imports Faust, which is slow to load

    settings = load(config)
    _require_set_up(settings)
    raise typer.Exit(run(settings))


@app.command()
def topics(config: ConfigOption = None, check: CheckOption = False, as_json: JsonOption = False) -> None:
    """Create the Kafka topics, show them and check their settings."""
    settings = load(config)
    require_kafka(settings)
    if not check:
        asyncio.run(ensure_topics(settings))
    states = asyncio.run(describe_topics(settings))
    if as_json:
        rows = [
            {"topic": s.name, "partitions": s.partitions, "cleanup": s.cleanup, "differences": s.differences}
            for s in states
        ]
        print_json(rows)
    else:
        table = plain("topic", "partitions", "cleanup", "state")
        for s in states:
            table.add_row(
                s.name,
                str(s.partitions),
                s.cleanup,
                f"[red]{'; '.join(s.differences)}[/]" if s.differences else "[green]ok[/]",
            )
        console.print(table)
    raise typer.Exit(EXIT_FAILED if any(s.differences for s in states) else 0)


@app.command()
def migrate(config: ConfigOption = None, check: CheckOption = False, as_json: JsonOption = False) -> None:
    """Apply the ClickHouse migrations and the price list."""
    settings = load(config)
    require_clickhouse(settings)
    names = pending(settings) if check else apply_migrations(settings)
    if as_json:
        print_json({"pending" if check else "applied": names})
    else:
        console.print(f"{'pending' if check else 'applied'}: {', '.join(names) or 'nothing'}")
    raise typer.Exit(EXIT_FAILED if check and names else 0)


@app.command("check-config")
def check_config(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Validate settings and catalog, and show the settings without secrets."""
    settings = load_settings(config)
    if unknown := unknown_variables():
        raise SettingsInvalid("\n".join(unknown))
    load_catalog(settings.catalog)
    values = settings.model_dump(mode="json")
    if as_json:
        print_json(values)
        return
    table = plain("variable", "value", "meaning")
    for name, field in type(settings).model_fields.items():
        table.add_row(f"DRAWDOWN_{name.upper()}", str(values[name]), f"[dim]{field.description}[/]")
    console.print(table)


@app.command()
def quota(
    account: str,
    config: ConfigOption = None,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Default: today in the account's time zone.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """An account's quotas of a day as a live table; once with --json, or when the output is no terminal."""
    from agents.quota_view import Quotas  # only here

    settings = load(config)
    require_clickhouse(settings)
    require_kafka(settings)
    with connect(settings) as client:
        quotas = Quotas(settings, client, account, day.date() if day else None)
        if as_json:
            print_json(quotas.as_json())
        elif not console.is_terminal:
            console.print(quotas.view(all_workspaces=True))
        else:
            view = quotas.view()
            try:
                with Live(view, console=console, screen=True, auto_refresh=False) as live:
                    while True:
                        live.update(view := quotas.view(), refresh=True)
                        time.sleep(1)
            finally:
                console.print(view)


def main() -> None:
    """Every foreseeable failure is one clear line and the documented exit code."""
    try:
        app()
    except CommandError as error:
        _fail(str(error), error.exit_code)
    except (SettingsInvalid, CatalogInvalid) as error:
        _fail(str(error), EXIT_WRONG_USE)
    except (KafkaError, ClickHouseError) as error:
        _fail(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", EXIT_UNREACHABLE)
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        _fail(f"{error.filename}: {error.strerror}", EXIT_WRONG_USE)
    except KeyboardInterrupt:
        sys.exit(0)


def _fail(message: str, code: int) -> None:
    if logs_are_json():
        structlog.get_logger().error(message, exit_code=code)
    else:
        typer.echo(f"drawdown: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
