"""`drawdown api-key create / list / revoke`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from agents.api.keys import ALL, SCOPES, create_key, keys_file_of, read_keys, revoke_key
from agents.cli_common import ConfigOption, JsonOption, console
from agents.errors import WrongUse
from agents.settings import load_settings
from agents.tables import plain

app = typer.Typer(help="Make, list and revoke the keys of the HTTP API.", no_args_is_help=True)


def _file(config: Path | None) -> Path:
    return keys_file_of(load_settings(config))


@app.command()
def create(
    account: Annotated[list[str], typer.Option("--account", help=f"An account; {ALL!r} is all. May be repeated.")],
    scope: Annotated[list[str], typer.Option("--scope", help=f"{', '.join(SCOPES)}. May be repeated.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it: this once, for only its hash is kept."""
    scopes = [known for known in SCOPES if known in scope]
    if len(scopes) < len(set(scope)):
        raise WrongUse(f"--scope knows {', '.join(SCOPES)}")
    key, text = create_key(_file(config), account, scopes, name)
    if as_json:
        typer.echo(json.dumps({"id": key.id, "key": text}))
    else:
        typer.echo(text)


@app.command("list")
def list_keys(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The keys, without their secrets."""
    keys = [asdict(key) for key in read_keys(_file(config)).values()]
    if as_json:
        typer.echo(json.dumps([{k: v for k, v in key.items() if k != "sha256"} for key in keys], default=str))
        return
    table = plain("id", "name", "accounts", "scopes", "created")
    for key in keys:
        table.add_row(key["id"], key["name"], ", ".join(key["accounts"]), ", ".join(key["scopes"]), str(key["created"]))
    console.print(table)


@app.command()
def revoke(identity: Annotated[str, typer.Argument(metavar="ID")], config: ConfigOption = None) -> None:
    """Revoke a key; running processes notice within seconds."""
    key = revoke_key(_file(config), identity)
    typer.echo(f"revoked {key.id} {key.name}".rstrip())
