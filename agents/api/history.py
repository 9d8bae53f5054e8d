"""What ClickHouse knows: days that are over, overage, charges, the course of a day, statements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import Error

from agents.api.problems import unavailable
from agents.settings import Settings
from agents.statements import DAYS, LINES, Month
from agents.wallets import TRANSACTIONS

_CONNECT_SECONDS, _ANSWER_SECONDS = 3, 15

_STATUSES = """
SELECT h.*, n.workspaces AS workspaces FROM (
    SELECT * FROM quota_history WHERE account = {account:String} AND day = {day:Date}
    ORDER BY version DESC LIMIT 1 BY meter, package
) AS h INNER JOIN (
    SELECT meter, package, workspaces FROM quota_newest FINAL WHERE account = {account:String} AND day = {day:Date}
) AS n ON h.meter = n.meter AND h.package = n.package
"""

_OVERAGE = """
SELECT * FROM overage WHERE account = {account:String} AND day BETWEEN {first:Date} AND {last:Date}
ORDER BY day, workspace, meter, basis, retention_days LIMIT {limit:UInt32}
"""
_RATED = """
FROM rated_overage
WHERE account = {account:String} AND day BETWEEN {first:Date} AND {last:Date} AND quantity > 0 AND plan = 'commercial'
"""
_LINES = f"""
SELECT workspace, meter, basis, retention_days, price, currency, sum(quantity) AS total, sum(units) AS unit_count,
    sum(amount) AS charge, sumIf(amount, day < {{today:Date}}) AS charge_before {_RATED}
GROUP BY workspace, meter, basis, retention_days, price, currency
ORDER BY workspace, meter, basis, retention_days, price
"""
_DAYS = f"""
SELECT day, sum(amount) AS charge {_RATED} AND currency = {{currency:String}} GROUP BY day ORDER BY day
"""
#: At most about 300 intervals a package, each with its last value. A tuple, because argMax alone passes NULL over.
_BURNDOWN = """
WITH (
    SELECT intDiv(dateDiff('second', min(at), max(at)), 300) + 1 FROM quota_history
    WHERE account = {account:String} AND day = {day:Date} AND meter = {meter:String}
) AS step
SELECT package, step, argMax(tuple(at, used, remaining, quota, burn_rate_per_minute, exhausts_at), version) AS last
FROM quota_history WHERE account = {account:String} AND day = {day:Date} AND meter = {meter:String}
GROUP BY package, intDiv(toUnixTimestamp(at), step) AS slot ORDER BY package, slot
"""
_STATEMENTS = """
SELECT * FROM statements_whole WHERE account = {account:String} AND day = {day:Date} ORDER BY revision DESC
"""


class History:
    """Read-only queries; whatever is wrong with ClickHouse is a 503."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AsyncClient | None = None

    @property
    def embedded(self) -> bool:
        """Whether ClickHouse runs inside a worker of this machine (`chdb:`), where nobody else can ask it."""
        return self._settings.clickhouse.startswith("chdb:")

    async def ping(self) -> bool:
        """Whether ClickHouse answers."""
        try:
            return bool(await (await self._connected()).ping())
        except (Error, OSError, TimeoutError):
            return False

    async def statuses(self, account: str, day: date) -> dict[tuple[str, str], dict[str, Any]]:
        """The newest quota statuses of a day, by meter and package."""
        rows = await self._rows(_STATUSES, account=account, day=day)
        return {(row["meter"], row["package"]): row for row in rows}

    async def overage(self, account: str, first: date, last: date, limit: int) -> Sequence[dict[str, Any]]:
        """The newest overage of every identity in a range of days."""
        return await self._rows(_OVERAGE, account=account, first=first, last=last, limit=limit)

    async def charge_lines(self, account: str, first: date, last: date, today: date) -> Sequence[dict[str, Any]]:
        """Rated overage by line and price; `charge_before` leaves today out."""
        return await self._rows(_LINES, account=account, first=first, last=last, today=today)

    async def charge_days(self, account: str, first: date, last: date, currency: str) -> Sequence[dict[str, Any]]:
        """The charge of each day that has one, in one currency."""
        return await self._rows(_DAYS, account=account, first=first, last=last, currency=currency)

    async def burndown(self, account: str, meter: str, day: date) -> Sequence[dict[str, Any]]:
        """The course of a day: `last` = (at, used, remaining, quota, burn rate, exhausts at) of each interval of `step` seconds."""
        return await self._rows(_BURNDOWN, account=account, meter=meter, day=day)

    async def statements(self, account: str, day: date) -> Sequence[dict[str, Any]]:
        """Every revision of a day's statement, the newest first; none while the day is open."""
        return await self._rows(_STATEMENTS, account=account, day=day)

    async def month(self, account: str, month: date) -> Month:
        """The newest statements of the month that starts on that day."""
        days = await self._rows(DAYS, account=account, month=month)
        lines = await self._rows(LINES, account=account, month=month)
        return Month(account, month, list(days), list(lines))

    async def transactions(self, account: str, last: int) -> Sequence[dict[str, Any]]:
        """The newest transactions of the wallet first."""
        return await self._rows(TRANSACTIONS, account=account, last=last)

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.close()

    async def _rows(self, sql: str, **parameters: Any) -> Sequence[dict[str, Any]]:
        try:
            result = await (await self._connected()).query(sql, parameters=parameters)
        except (Error, OSError, TimeoutError):
            raise unavailable("ClickHouse") from None
        return list(result.named_results())

    async def _connected(self) -> AsyncClient:
        if self.embedded:
            raise unavailable("ClickHouse")
        if self._client is None:
            settings = self._settings
            self._client = await clickhouse_connect.get_async_client(
                dsn=settings.clickhouse,
                username=settings.clickhouse_user,
                password=settings.clickhouse_password.get_secret_value(),
                database=settings.clickhouse_database,
                connect_timeout=_CONNECT_SECONDS,
                send_receive_timeout=_ANSWER_SECONDS,
                tz_mode="aware",
            )
        return self._client
