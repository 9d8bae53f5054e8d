"""The topics: names, keys and settings (contract.md, section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_DAYS_35_MS = 35 * 24 * 3600 * 1000
#: Room for one account-event or state entry of a very large account; the broker's default of 1 MiB is too small.
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
#: Series or lines in one record: of the longest names, too, they are smaller than that. More come in several records.
LINES_MAX = 5_000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic without its prefix. `partitioned` topics share one partition count, the others have one partition."""

    name: str
    key: str
    cleanup: Literal["delete", "compact", "compact,delete"]
    partitioned: bool = True
    #: Small segments are compacted soon, where a reader goes through the whole topic; None: the broker's choice.
    segment_bytes: int | None = None

    @property
    def config(self) -> dict[str, str]:
        """The broker settings that matter to correctness; `drawdown topics --check` compares them."""
        shared = {"cleanup.policy": self.cleanup, "max.message.bytes": str(MESSAGE_BYTES_MAX)}
        shared |= {"retention.ms": str(_DAYS_35_MS)} if "delete" in self.cleanup else {}
        return shared | ({"segment.bytes": str(self.segment_bytes)} if self.segment_bytes else {})


USAGE = Topic("usage", "workspace id", "delete")
WORKSPACES = Topic("workspaces", "workspace id", "compact", partitioned=False)
PACKAGES = Topic("packages", "package id", "compact", partitioned=False)
ALERT_RULES = Topic("alert-rules", "account id", "compact", partitioned=False)
ACCOUNT_EVENTS = Topic("account-events", "account id", "delete")
ROUTED = Topic("routing-positions", "usage partition", "compact", segment_bytes=1024 * 1024)
LEDGER = Topic("ledger-changelog", "state entry", "compact")
OVERAGE = Topic("overage", "account id", "delete")
QUOTA_STATUS = Topic("quota-status", "account/day/meter/package", "compact")
USAGE_TOTALS = Topic("usage-totals", "account id", "delete")
ALERTS = Topic("alerts", "account id", "delete")
WEBHOOKS = Topic("webhooks", "webhook id", "compact", partitioned=False)
#: A delivery is in the partition of its alert.
WEBHOOK_DELIVERIES = Topic("webhook-deliveries", "webhook/alert", "compact,delete")
STATEMENTS = Topic("statements", "account/day, and /part of all but the first", "compact")
ORDERS = Topic("orders", "account id", "delete")
WALLETS = Topic("wallets", "account id", "compact")
WALLET_TRANSACTIONS = Topic("wallet-transactions", "account id", "delete")
DEAD_LETTERS = Topic("dead-letters", "the original key", "delete")

TOPICS = (
    USAGE,
    WORKSPACES,
    PACKAGES,
    ALERT_RULES,
    ACCOUNT_EVENTS,
    ROUTED,
    LEDGER,
    OVERAGE,
    QUOTA_STATUS,
    USAGE_TOTALS,
    ALERTS,
    WEBHOOKS,
    WEBHOOK_DELIVERIES,
    STATEMENTS,
    ORDERS,
    WALLETS,
    WALLET_TRANSACTIONS,
    DEAD_LETTERS,
)
