"""`drawdown migrate`: numbered, forward-only DDL, and the price list out of the catalog."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from agents.clickhouse import INSERT_SETTINGS, connect
from agents.errors import CommandError
from agents.settings import Settings
from schemas.catalog import Catalog, load_catalog

_CREATE = re.compile("^CREATE (TABLE|MATERIALIZED VIEW|VIEW)")
_RATES = (
    "meter",
    "retention_days",
    "site",
    "currency",
    "price",
    "unit_size",
    "effective_from",
    "is_default",
    "updated",
)


def pending(settings: Settings) -> list[str]:
    """The names of the files that are not applied yet; raises `CommandError` if an applied one was changed."""
    with connect(settings, database=False) as client:
        applied = _applied(client, settings.clickhouse_database)
    return [name for name, _ in _scripts() if name not in applied]


def migrate(settings: Settings) -> list[str]:
    """Apply what is pending and refresh `rates`; the names that were applied. A second run changes nothing."""
    catalog = load_catalog(settings.catalog)
    database = settings.clickhouse_database
    with connect(settings, database=False) as client:
        client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
        client.command(
            f"CREATE TABLE IF NOT EXISTS {database}.schema_migrations (name String, checksum String, at DateTime64(3, 'UTC'))"
            " ENGINE = ReplacingMergeTree ORDER BY name"
        )
        applied = _applied(client, database)
    done = []
    with connect(settings) as client:
        for name, text in _scripts():
            if name not in applied:
                try:
                    _apply(client, text)
                except DatabaseError:
                    # A run beside us may be further: what it has changed since, this script need not fit.
                    if name in _applied(client, database):
                        continue
                    raise
                row = [name, _checksum(text), datetime.now(UTC)]
                client.insert("schema_migrations", [row], column_names=["name", "checksum", "at"])
                done.append(name)
        client.insert(
            "rates_loaded", list(_rates(catalog, _stamp(client))), column_names=_RATES, settings=INSERT_SETTINGS
        )
    return done


def _apply(client: Client, text: str) -> None:
    """Statement by statement; one that was applied by a run that was cut off, or by one beside us, is passed over.

    Every ALTER is written so that it may come again.
    """
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    for statement in filter(None, map(str.strip, code.split(";"))):
        client.command(_CREATE.sub(r"\g<0> IF NOT EXISTS", statement))


def _applied(client: Client, database: str) -> set[str]:
    if not client.command(f"EXISTS TABLE {database}.schema_migrations"):
        return set()
    rows = client.query(f"SELECT name, checksum FROM {database}.schema_migrations FINAL").result_rows
    recorded = dict(rows)
    for name, text in _scripts():
        if name in recorded and recorded[name] != _checksum(text):
            raise CommandError(f"{name} was changed after it had been applied; DDL only goes forward, in a new file")
    return set(recorded)


def _scripts() -> list[tuple[str, str]]:
    folder = files("schemas").joinpath("clickhouse")
    return sorted((file.name, file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".sql"))


def _checksum(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _stamp(client: Client) -> datetime:
    """Later than that of any list before, for the newest holds; also of one that was loaded where the clock is ahead."""
    last: datetime = client.query("SELECT max(updated) + INTERVAL 1 MICROSECOND FROM rates_loaded").result_rows[0][0]
    return max(datetime.now(UTC), last.replace(tzinfo=UTC))


def _rates(catalog: Catalog, stamp: datetime) -> Iterator[list[object]]:
    """The catalog's price list."""
    for meter in catalog.meters.values():
        for price in meter.prices:
            default = price.retention_days == meter.default_retention
            yield [
                meter.key, price.retention_days, price.site, price.currency, price.price, meter.unit_size,
                price.effective, default, stamp,
            ]  # fmt: skip
