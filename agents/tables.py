"""Tables on the terminal."""

from __future__ import annotations

import os
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDTH_OF_A_PIPE = 200


def make_console() -> Console:
    """The standard output; wide where no terminal says how wide it is."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if known else _WIDTH_OF_A_PIPE)


def plain(*names: str, **more: Any) -> Table:
    """A table without lines. What is too wide is folded and never cut off: other commands want the ids."""
    table = Table(box=None, header_style="bold", pad_edge=False, **more)
    for name in names:
        table.add_column(name, overflow="fold")
    return table
