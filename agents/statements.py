"""Statements of an account, day by day and for a month, as ClickHouse knows them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, TextIO

from clickhouse_connect.driver.client import Client
from rich.table import Table

from agents.tables import plain

DAYS = """
SELECT day, revision, amount, currency, at, length(lines) AS lines FROM statements_newest
WHERE account = {account:String} AND toStartOfMonth(day) = {month:Date} ORDER BY day
"""
LINES = """
SELECT day, revision, l.workspace AS workspace, l.meter AS meter, l.basis AS basis, l.retention_days AS retention_days,
    l.quantity AS quantity, l.units AS units, l.price AS price, l.amount AS amount, currency
FROM statements_newest ARRAY JOIN lines AS l
WHERE account = {account:String} AND toStartOfMonth(day) = {month:Date} ORDER BY day, workspace, meter, retention_days
"""
#: Of the CSV.
COLUMNS = ("day", "revision", "workspace", "meter", "basis", "retention_days", "quantity", "units", "price", "amount", "currency")  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Month:
    """The newest statement of each settled day, and every line of them."""

    account: str
    month: date
    days: list[dict[str, Any]]
    lines: list[dict[str, Any]]

    @property
    def amount(self) -> Decimal:
        """What the month is payable so far."""
        return sum((day["amount"] for day in self.days), Decimal(0))

    def table(self) -> Table:
        """For people: a row a day, and the sum."""
        currency = self.days[0]["currency"] if self.days else ""
        table = plain(
            "day", "revision", "lines", f"amount, {currency}" if currency else "amount",
            title=f"{self.account}, {self.month:%Y-%m}", title_justify="left", show_footer=True,
        )  # fmt: skip
        for column in table.columns[1:]:
            column.justify = "right"
        table.columns[0].footer, table.columns[3].footer = "sum", f"{self.amount:,}"
        for day in self.days:
            table.add_row(str(day["day"]), str(day["revision"]), str(day["lines"]), f"{day['amount']:,}")
        return table

    def write_csv(self, output: TextIO) -> None:
        """Every line, for a spreadsheet; amounts are exact, and a name that looks like a formula is text."""
        writer = csv.DictWriter(output, COLUMNS)
        writer.writeheader()
        writer.writerows({column: _cell(value) for column, value in line.items()} for line in self.lines)


def _cell(value: Any) -> Any:
    """Spreadsheets run a cell that begins like a formula; names come from outside. Numbers stay what they are."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def month_of(client: Client, account: str, month: date) -> Month:
    """The account's statements of the month that starts on that day."""
    parameters = {"account": account, "month": month}
    days, lines = (list(client.query(sql, parameters=parameters).named_results()) for sql in (DAYS, LINES))
    return Month(account, month, days, lines)
