"""What the commands share: options, the console, settings."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agents.logs import configure_logs
from agents.settings import Settings, load_settings

_WIDTH_OF_A_PIPE = 200

#: The standard output; wide where no terminal says how wide it is.
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_OF_A_PIPE)

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
