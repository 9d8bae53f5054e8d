"""Structured logs: console lines or JSON on stderr, one line an event. An ERROR pages somebody; a secret is never in a line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from pydantic import SecretStr

from agents.settings import Settings

#: Libraries that report at length what is normal: reconnects, and the broker's answers between two transactions. What stops a process
#: is reported once, by us. `agents` is where Faust writes about the classes that we derive from its own.
_CHATTY = ("agents", "aiokafka", "faust", "mode", "clickhouse_connect", "asyncio", "kafka", "urllib3")
_HIDDEN = "***"


def configure_logs(settings: Settings) -> None:
    """For this process. What libraries say has the same form as ours."""
    level = getattr(logging, settings.log_level.upper())
    as_json = settings.log_format == "json"
    ours: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = [
        structlog.processors.format_exc_info,
        _Secrets(settings),
        structlog.processors.JSONRenderer(default=str)
        if as_json
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
    structlog.configure(
        processors=[*ours, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*ours, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if settings.log_level == "debug" else logging.CRITICAL + 1)


def logs_are_json() -> bool:
    """Whether whoever reads our stderr expects JSON."""
    return isinstance(structlog.get_config()["processors"][-1], structlog.processors.JSONRenderer)


class _Secrets:
    """Hides what is secret in the settings, wherever a library quotes it. The last step before the rendering."""

    def __init__(self, settings: Settings) -> None:
        values = [value for _, value in settings]
        secrets = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
        addresses = (urlsplit(value) for value in values if isinstance(value, str) and "://" in value)
        self._secrets = sorted((secrets | {url.password or "" for url in addresses}) - {""}, key=len, reverse=True)

    def __call__(self, _logger: Any, _method: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
        return {key: self._hide(value) for key, value in event.items()} if self._secrets else event

    def _hide(self, value: Any) -> Any:
        """The value without secrets; text in a list or in another object counts too."""
        if isinstance(value, bool | int | float | None):
            return value
        text = value if isinstance(value, str) else repr(value)
        if not any(secret in text for secret in self._secrets):
            return value
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text
