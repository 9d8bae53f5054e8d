"""Tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def plain(*names: str, **more: Any) -> Table:
    """A table without lines. What is too wide is folded and never cut off: other commands want the ids."""
    table = Table(box=None, header_style="bold", pad_edge=False, **more)
    for name in names:
        table.add_column(name, overflow="fold")
    return table
