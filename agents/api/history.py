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

_CONNECT_SECONDS, _ANSWER_SECONDS = 3, 15

_STATUSES = """
SELECT h.*, n.workspaces AS workspaces FROM (
    SELECT * FROM quota_history WHERE account = {account:String} AND day = {day:Date}
    ORDER BY version DESC LIMIT 1 BY meter, package
) AS h INNER JOIN (
    SELECT meter, package, workspaces FROM quota_newest FINAL WHERE account = {account:String} AND day = {day:Date}
) AS n ON h.meter = n.meter AND h.package = n.package
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
