"""Settings: `DRAWDOWN_*` environment variables, or a TOML file; validated whole at start, all errors at once."""

from __future__ import annotations

import os
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from pipeline.retention import HORIZON_DAYS_MAX

Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """One frozen object for every process. The environment wins over the file.

    Secrets come only from the environment, or from a file each under `DRAWDOWN_SECRETS_DIR`.
    """

    model_config = SettingsConfigDict(env_prefix="DRAWDOWN_", frozen=True, extra="forbid")

    kafka: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, `host:port[,host:port]`")
    clickhouse: str = Field("http://127.0.0.1:8123", description="ClickHouse HTTP address")
    clickhouse_user: str = Field("default", description="ClickHouse user")
    clickhouse_password: SecretStr = Field(SecretStr(""), description="ClickHouse password (secret)")
    clickhouse_database: str = Field("drawdown", pattern="^[A-Za-z_][A-Za-z0-9_]*$", description="ClickHouse database")
    topic_prefix: str = Field("drawdown.", pattern="^[A-Za-z0-9._-]*$", description="precedes every topic name")
    group: str = Field("drawdown", min_length=1, description="consumer group and transactional id of the workers")
    partitions: int = Field(
        4, ge=1, le=1024, description="partitions of a new topic; at most so many workers share the work"
    )
    replication: int = Field(1, ge=1, le=9, description="replication factor of a new topic")
    catalog: Path | None = Field(None, description="a catalog file of your own: more meters, plans and prices (TOML)")
    checkpoint: Seconds = Field(0.25, description="seconds between checkpoints of the ledger")
    route_interval: Seconds = Field(0.2, description="seconds between commits of routed usage")
    future_tolerance: Seconds = Field(600.0, description="seconds an event may be ahead of the worker's clock")
    horizon_days: int = Field(35, ge=1, le=HORIZON_DAYS_MAX, description="days back that a late event still counts")
    settlement_grace: Seconds = Field(
        3600.0, description="seconds after an account's midnight until its day is settled"
    )
    record_bytes_max: int = Field(
        4 * 1024 * 1024, ge=1024, le=8 * 1024 * 1024, description="largest usage record, in bytes"
    )
    record_events_max: int = Field(10_000, ge=1, description="most events in one array")
    usage_events: bool = Field(True, description="keep raw accepted events in ClickHouse, for audit")
    sink_interval: Seconds = Field(0.3, description="seconds at most that a ClickHouse batch waits")
    sink_bytes: int = Field(
        8 * 1024 * 1024, ge=1024, description="bytes after which a ClickHouse batch is sent at once"
    )
    session_timeout: Seconds = Field(10.0, description="seconds after which a silent worker loses its partitions")
    api_host: str = Field("127.0.0.1", description="address of the HTTP API")
    api_port: int = Field(8080, ge=0, le=65535, description="port of the HTTP API")
    api_keys_file: Path | None = Field(None, description="file of the API keys, hashed; `drawdown api-key` writes it")
    api_rate: float = Field(50.0, gt=0, description="lasting requests a second of one API key")
    api_burst: int = Field(200, ge=1, description="most requests of one API key at once")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of /metrics, /healthz and /readyz; 0 = none")
    metrics_host: str = Field("127.0.0.1", description="address of these")
    stuck_after: Seconds = Field(
        20.0, le=25, description="seconds without progress, while there is something to do, until /readyz is red"
    )
    linger: float = Field(60.0, ge=0, description="seconds that a worker which broke a law still answers these")
    package_series_max: int = Field(
        1000, ge=0, description="most series of `drawdown_package_utilization` per process; the fullest packages win"
    )
    webhooks: bool = Field(
        True, description="deliver webhooks in the API processes; else by `drawdown webhook dispatch`"
    )
    webhook_private_targets: bool = Field(
        False, description="let webhooks go to private, loopback and link-local addresses, and without TLS"
    )
    webhook_timeout: Seconds = Field(10.0, description="seconds that a webhook's receiver has to answer")
    webhook_retry_seconds: Seconds = Field(
        86_400.0, description="seconds for which a webhook's delivery is tried again"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="log level")
    log_format: Literal["console", "json"] = Field("console", description="log format")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then secret files, then the TOML file."""
        toml = os.environ.get("DRAWDOWN_CONFIG")
        file = (TomlConfigSettingsSource(settings_cls, Path(toml)),) if toml else ()
        return (init_settings, env_settings, file_secret_settings, *file)


class SettingsInvalid(Exception):
    """Every wrong setting in one message; exit code 2."""


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """The settings of this process; raises `SettingsInvalid` with all errors at once."""
    if config is not None:
        os.environ["DRAWDOWN_CONFIG"] = str(config)
    file, secrets = os.environ.get("DRAWDOWN_CONFIG"), os.environ.get("DRAWDOWN_SECRETS_DIR")
    if file and not Path(file).is_file():  # pydantic-settings passes over both
        raise SettingsInvalid(f"DRAWDOWN_CONFIG: {file} is no file")
    if secrets and not Path(secrets).is_dir():
        raise SettingsInvalid(f"DRAWDOWN_SECRETS_DIR: {secrets} is no directory")
    try:
        return Settings(_secrets_dir=secrets, **overrides)  # type: ignore[call-arg]  # pydantic-settings' own argument
    except ValidationError as error:
        lines = [f"DRAWDOWN_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise SettingsInvalid("\n".join(lines)) from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsInvalid(f"{file}: {error}") from None


def unknown_variables() -> list[str]:
    """What is wrong with each `DRAWDOWN_*` variable of the environment that no setting reads: misspelt, most likely."""
    known = [f"DRAWDOWN_{name.upper()}" for name in Settings.model_fields] + ["DRAWDOWN_CONFIG", "DRAWDOWN_SECRETS_DIR"]
    unknown = sorted(name for name in os.environ if name.startswith("DRAWDOWN_") and name not in known)
    meant = {name: get_close_matches(name, known, 1) for name in unknown}
    return [f"{name}: no such setting{f'; {meant[name][0]}?' if meant[name] else ''}" for name in unknown]
