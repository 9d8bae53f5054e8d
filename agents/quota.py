"""Quotas as a table for people."""

from __future__ import annotations

from datetime import date
from typing import Any

from clickhouse_connect.driver.client import Client
from rich.progress_bar import ProgressBar
from rich.table import Table

_NEWEST = """
SELECT account, day, meter, package, quota, used, remaining, utilization, burn_rate_per_minute, exhausts_at, version, at
FROM quota_history WHERE ({account:String} = '' OR account = {account:String}) AND day = {day:Date}
ORDER BY account, meter, package, version DESC LIMIT 1 BY account, meter, package
"""
_WARN, _FULL = 0.8, 1.0


def newest_quotas(client: Client, account: str, day: date) -> list[dict[str, Any]]:
    """The newest status of every package and meter; of all accounts when `account` is empty."""
    return list(client.query(_NEWEST, parameters={"account": account, "day": day}).named_results())


def quota_table(rows: list[dict[str, Any]], title: str) -> Table:
    """A row a package and meter, with a bar that fills."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in ("account", "meter", "package"):
        table.add_column(name, no_wrap=True)
    for name in ("used", "quota", "remaining"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("", justify="right")
    for row in rows:
        share = float(row["utilization"])
        style = "red" if share >= _FULL else "yellow" if share >= _WARN else "green"
        bar = ProgressBar(total=1.0, completed=min(share, 1.0), width=24, complete_style=style, finished_style=style)
        table.add_row(
            row["account"], row["meter"], row["package"],
            f"{row['used']:,}", f"{row['quota']:,}", f"{row['remaining']:,}", bar, f"[{style}]{share:.0%}[/]",
        )  # fmt: skip
    return table
