"""What the commands share: options, the console, settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from agents.logs import configure_logs
from agents.settings import Settings, load_settings
from agents.tables import make_console

console = make_console()

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML); DRAWDOWN_* variables win.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load(config: Path | None) -> Settings:
    """The settings, with logging set up; raises `SettingsInvalid`."""
    settings = load_settings(config)
    configure_logs(settings)
    return settings


def print_json(value: Any) -> None:
    """One JSON document on standard output; what JSON has no type for is text."""
    typer.echo(json.dumps(value, default=str))
