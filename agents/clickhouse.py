"""The ClickHouse client, and the settings that every insert carries."""

from __future__ import annotations

from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error

from agents.errors import Unreachable
from agents.settings import Settings

#: Defaults differ between server versions; an insert is one synchronous block set. Rows of the same key are merged when they are
#: read, as those of two inserts have to be; doing it for each insert too took a fifth of its time.
INSERT_SETTINGS: dict[str, Any] = {
    "async_insert": 0,
    "optimize_on_insert": 0,
    "insert_deduplicate": 1,
    "input_format_skip_unknown_fields": 1,
    "input_format_json_ignore_unknown_keys_in_named_tuple": 1,
    "date_time_input_format": "best_effort",
}
_CONNECT_SECONDS = 5


def connect(settings: Settings, *, database: bool = True, answer_seconds: int = 60) -> Client:
    """A client of the settings' database; raises `Unreachable`. Threads may share it. No answer may take longer."""
    try:
        return clickhouse_connect.get_client(
            dsn=settings.clickhouse,
            username=settings.clickhouse_user,
            password=settings.clickhouse_password.get_secret_value(),
            database=settings.clickhouse_database if database else "default",
            autogenerate_session_id=False,
            connect_timeout=_CONNECT_SECONDS,
            send_receive_timeout=answer_seconds,
        )
    except (Error, OSError, ValueError) as error:
        reason = "it is not reachable" if "Max retries" in str(error) else str(error).strip().splitlines()[0][:200]
        raise Unreachable(
            f"ClickHouse at {settings.clickhouse} does not answer (DRAWDOWN_CLICKHOUSE): {reason}"
        ) from None
