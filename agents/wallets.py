"""The wallet of an account as ClickHouse knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from clickhouse_connect.driver.client import Client

from agents.errors import WrongUse
from agents.tables import plain

TRANSACTIONS = """
SELECT id, reference, postings, version, at FROM wallet_transactions FINAL WHERE account = {account:String}
ORDER BY version DESC LIMIT {last:UInt32}
"""


@dataclass(frozen=True, slots=True)
class SeenWallet:
    """Balances, and the newest transactions first."""

    account: str
    currency: str
    balances: dict[str, Decimal]
    owes_since: date | None
    locked: bool
    transactions: list[dict[str, Any]]

    def document(self) -> dict[str, Any]:
        """For machines; amounts are text."""
        return {
            "account": self.account, "currency": self.currency, "balances": self.balances, "owes_since": self.owes_since,
            "locked": self.locked,
            "transactions": [t | {"postings": dict(postings_of(t))} for t in self.transactions],
        }  # fmt: skip

    def tables(self) -> list[Any]:
        """For people."""
        money = plain("pocket", self.currency)
        money.columns[1].justify = "right"
        for pocket, amount in self.balances.items():
            money.add_row(pocket, f"[red]{amount:,}[/]" if amount < 0 else f"{amount:,}")
        moved = plain("at", "reference", "from", "to", "amount")
        moved.columns[-1].justify = "right"
        for one in self.transactions:
            postings = postings_of(one)
            sources = ", ".join(name for name, amount in postings if amount < 0)
            targets = ", ".join(name for name, amount in postings if amount > 0)
            total = sum((amount for _, amount in postings if amount > 0), Decimal(0))
            moved.add_row(f"{one['at']:%Y-%m-%d %H:%M}", one["reference"], sources, targets, f"{total:,}")
        state = [f"[red]owes since {self.owes_since}{', locked' if self.locked else ''}[/]"] if self.owes_since else []
        return [money, *state, "", moved]


def postings_of(transaction: dict[str, Any]) -> list[tuple[str, Decimal]]:
    """The sides of a transaction."""
    return [(p["account"], p["amount"]) if isinstance(p, dict) else (p[0], p[1]) for p in transaction["postings"]]


def wallet_of(client: Client, account: str, last: int) -> SeenWallet:
    """The account's wallet; raises `WrongUse` for one into which no money ever came."""
    sql = "SELECT currency, balances, owes_since, locked FROM wallets WHERE account = {account:String}"
    rows = client.query(sql, parameters={"account": account}).result_rows
    if not rows:
        raise WrongUse(f"account {account!r} has no wallet yet; `drawdown wallet fund` puts money into it")
    transactions = client.query(TRANSACTIONS, parameters={"account": account, "last": last}).named_results()
    currency, balances, owes_since, locked = rows[0]
    return SeenWallet(account, currency, balances, owes_since, locked, list(transactions))
