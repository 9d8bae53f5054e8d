"""The commands of the audit: recompute a day, fold a topic again, correct a total."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from msgspec import to_builtins
from rich.table import Table

from agents.cli_common import ConfigOption, JsonOption, console, load, print_json
from agents.clickhouse import connect
from agents.errors import EXIT_FAILED, WrongUse
from agents.probe import require_kafka
from agents.tables import plain
from schemas.topics import USAGE

audit = typer.Typer()


@audit.command()
def replay(
    to: Annotated[Path, typer.Option("--to", help="Directory for totals, allocations and overage (JSON lines).")],
    from_topic: Annotated[str, typer.Option("--from-topic", help="The topic to fold: usage.")] = "usage",
    batch: Annotated[int, typer.Option(help="Records routed at a time; it changes nothing.", min=1)] = 10_000,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fold the usage topic from scratch, in memory, and print the ledger's digest."""
    from agents.replay import replay as fold_topic  # only here
    from agents.replay import write_files

    settings = load(config)
    if from_topic != USAGE.name:
        raise WrongUse(f"--from-topic knows {USAGE.name}; not {from_topic}")
    require_kafka(settings)
    replayed = asyncio.run(fold_topic(settings, batch))
    files = [str(file) for file in write_files(replayed, to)]
    if as_json:
        print_json({"digest": replayed.digest, "outcomes": replayed.outcomes, "files": files})
        return
    table = plain("outcome", "events")
    for name, events in sorted(replayed.outcomes.items()):
        table.add_row(name, f"{events:,}")
    console.print(table, f"digest [bold]{replayed.digest}[/]", *files, sep="\n")


@audit.command()
def verify(
    account: str,
    config: ConfigOption = None,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Default: today in the account's time zone.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds at most to wait for the workers to catch up.", min=0)] = 60,
    as_json: JsonOption = False,
) -> None:
    """Recompute an account's day from the raw events on a second path; exit 1 if the ledger says anything else."""
    from agents.verdict import as_json as document  # only here
    from agents.verdict import correction_lines, difference_table, summary_line
    from agents.verify import verify as recompute_day

    settings = load(config)
    require_kafka(settings)
    with connect(settings) as client:
        verified = recompute_day(settings, client, account, day.date() if day else None, wait)
    if as_json:
        print_json(document(verified))
    else:
        if verified.differences:
            console.print(difference_table(verified))
        typer.echo("\n".join([summary_line(verified), *correction_lines(verified)]))
    raise typer.Exit(EXIT_FAILED if verified.differences else 0)


@audit.command()
def adjust(
    account: str,
    workspace: Annotated[str, typer.Option(help="A workspace that is bound to the account.")],
    meter: Annotated[str, typer.Option(help="The meter whose total changes.")],
    day: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="A day of the account, not past the horizon.")],
    quantity: Annotated[int, typer.Option(help="What to add, in the meter's unit; negative: --quantity=-5.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept with the correction.")],
    operator: Annotated[str | None, typer.Option(help="Who; default: your login name.")] = None,
    retention_days: Annotated[
        int | None, typer.Option(help="Default: the workspace's for the meter on that day.")
    ] = None,
    identity: Annotated[str | None, typer.Option("--id", help="The same id again is the same correction.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Correct a day's total by a signed quantity; the correction is kept for good, with its reason."""
    from agents.adjust import Wish, login_name  # only here
    from agents.adjust import adjust as send_correction

    settings = load(config)
    require_kafka(settings)
    who = login_name() if operator is None else operator
    wish = Wish(account, workspace, meter, day.date(), quantity, reason, who, retention_days, identity)
    document = to_builtins(send_correction(settings, wish))
    if as_json:
        print_json(document)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in document.items():
        table.add_row(name, f"{value:+,}" if name == "quantity" else str(value))
    console.print(table)
