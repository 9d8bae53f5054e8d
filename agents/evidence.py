"""What `drawdown verify` asks ClickHouse: what the streamed ledger says of a day, and what the raw events say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from clickhouse_connect.driver.client import Client

from agents.settings import Settings
from pipeline.audit import ALLOCATION, CHARGE, EVENTS, OVERAGE, STATEMENT, STATEMENT_LINE, TOTAL, Gain, Planned, Row
from schemas.reasons import PAST_THE_LEDGER
from schemas.topics import ACCOUNT_EVENTS, USAGE

#: Days past the horizon that the ledger remembers identities.
_SLACK_DAYS = 7
#: Beyond it ClickHouse sorts and groups on disk.
_MEMORY_BYTES = 1 << 30

#: What identifies a row, its values (as in `pipeline.audit.COLUMNS`), its version.
_LEDGER = {
    EVENTS: (0, "SELECT counted + duplicates + conflicts, counted, duplicates, conflicts, version FROM usage_outcomes"),
    TOTAL: (3, "SELECT workspace, meter, retention_days, quantity, converted, version FROM usage_totals"),
    ALLOCATION: (3, "SELECT meter, package, workspace, covered, demand, version FROM allocations"),
    OVERAGE: (4, "SELECT workspace, meter, basis, retention_days, quantity, version FROM overage"),
    CHARGE: (4, "SELECT workspace, meter, basis, retention_days, amount, units, price, version FROM rated_overage"),
}
_OF_DAY = " WHERE account = {account:String} AND day = {day:Date}"
_STATEMENT = """
SELECT revision, amount, lines, version FROM statements_newest WHERE account = {account:String} AND day = {day:Date}
"""

_CORRECTIONS = """
SELECT c.id AS id, c.workspace AS workspace, c.meter AS meter, c.retention_days AS retention_days, c.quantity AS quantity,
    c.reason AS reason, c.operator AS operator, c.at AS at, c.log_offset AS log_offset, d.reason AS refused
FROM (SELECT * FROM corrections FINAL WHERE account = {account:String}) AS c
LEFT JOIN (
    SELECT offset, toString(reason) AS reason FROM dead_letters FINAL WHERE topic = {log:String} AND key = {account:String}
) AS d ON c.log_offset = d.offset
WHERE c.day = {day:Date} ORDER BY refused, log_offset LIMIT 1 BY refused, id
"""

_PLANS = """
SELECT log_offset, binding.workspace, binding.plan, binding.time_zone, at FROM bindings FINAL
WHERE account = {account:String} ORDER BY log_offset
"""

#: The first event of an identity in the order of the log counts, whatever day it claims. A later one with other content is a
#: conflict. What is known and stands at a place of the usage topic that the log had passed, was routed again: it is no event.
#: What the ledger refused as late is left out; what routing refused as late, and is here, had been routed before.
_GAINS = """
WITH
    events AS (
        SELECT *, (source, id) AS identity, (log_offset, partition, offset, `index`) AS place,
            offset * 16777216 + `index` + 2 AS position, (workspace, meter, retention_days, quantity, time) AS content
        FROM (SELECT * FROM usage_events FINAL WHERE account = {account:String} AND day >= {day:Date} - {memory:UInt32})
        WHERE log_offset <= {upto:UInt64} AND (partition, offset, `index`) NOT IN (
            SELECT partition, offset, `index` FROM dead_letters FINAL WHERE topic = {usage:String} AND reason = 'too_late'
                AND endsWith(message, {late:String}))
    ),
    batches AS (
        SELECT partition, log_offset, max(max(position))
            OVER (PARTITION BY partition ORDER BY log_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS passed
        FROM events GROUP BY partition, log_offset
    )
SELECT arrayFirst(cut -> cut >= log_offset, {cuts:Array(UInt64)}) AS cut, workspace, meter, retention_days,
    countIf(place = first), countIf(place != first AND same AND position > passed),
    countIf(place != first AND NOT same AND position > passed),
    sumIf(toInt256(quantity), place = first), maxIf(quantity, place = first)
FROM (
    SELECT *, min(place) OVER one AS first, argMin(content, place) OVER one = content AS same
    FROM events WHERE identity IN (SELECT identity FROM events WHERE day = {day:Date})
    WINDOW one AS (PARTITION BY identity)
) AS e JOIN batches USING (partition, log_offset)
WHERE day = {day:Date} GROUP BY ALL ORDER BY ALL
"""


def ledger_rows(client: Client, account: str, day: date) -> list[Row]:
    """Everything that the streamed ledger says of the account's day."""
    found = []
    for what, (width, sql) in _LEDGER.items():
        # A charge of nothing is nothing, also where there is no price.
        condition = " AND quantity > 0" if what == CHARGE else ""
        for *row, version in _query(client, sql + _OF_DAY + condition, account=account, day=day):
            found.append(Row(what, tuple(row[:width]), tuple(row[width:]), version))
    for revision, amount, lines, version in _query(client, _STATEMENT, account=account, day=day):
        found.append(Row(STATEMENT, (revision,), (amount,), version))
        for line in lines:
            key = (revision, line["workspace"], line["meter"], line["basis"], line["retention_days"])
            found.append(Row(STATEMENT_LINE, key, (line["quantity"], line["amount"]), version))
    return found


def has_events(client: Client, account: str) -> bool:
    """Whether the account has any raw event."""
    return bool(_query(client, "SELECT 1 FROM usage_events WHERE account = {account:String} LIMIT 1", account=account))


def corrections(settings: Settings, client: Client, account: str, day: date) -> list[dict[str, Any]]:
    """The day's corrections, each id once; `refused` is the reason why the ledger did not take it, or empty."""
    names = {"account": account, "day": day, "log": settings.topic_prefix + ACCOUNT_EVENTS.name}
    return list(client.query(_CORRECTIONS, parameters=names).named_results())


def plans(client: Client, account: str) -> list[Planned]:
    """Which plan each workspace has since which day of its own, in the order of the log."""
    return [
        Planned(offset, workspace, plan, date.min if at is None else day_in(zone, at))
        for offset, workspace, plan, zone, at in _query(client, _PLANS, account=account)
    ]


def day_in(zone: str, at: datetime) -> date:
    """The day of an instant there; the driver gives UTC without saying so, which Python would take for the host's own time."""
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(ZoneInfo(zone)).date()


def gains(settings: Settings, client: Client, account: str, day: date, cuts: Sequence[int]) -> list[Gain]:
    """What the raw events say, by series and by the cut of the log that includes them; cuts are in ascending order."""
    names = {
        "account": account, "day": day, "upto": cuts[-1], "cuts": list(cuts), "memory": settings.horizon_days + _SLACK_DAYS,
        "usage": settings.topic_prefix + USAGE.name, "late": PAST_THE_LEDGER,
    }  # fmt: skip
    return [Gain(*row) for row in _query(client, _GAINS, **names)]


def _query(client: Client, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    limits = {"max_bytes_before_external_group_by": _MEMORY_BYTES, "max_bytes_before_external_sort": _MEMORY_BYTES}
    return [tuple(row) for row in client.query(sql, parameters=parameters, settings=limits).result_rows]
