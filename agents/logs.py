"""Structured logs."""

from __future__ import annotations

import logging
import sys

import structlog

from agents.settings import Settings

#: Libraries that report at length what is normal: reconnects, and the broker's answers between two transactions.
_CHATTY = ("aiokafka", "faust", "mode", "clickhouse_connect", "asyncio", "kafka", "urllib3")


def configure_logs(settings: Settings) -> None:
    """Console lines or JSON on stderr; warnings of libraries only when they are errors."""
    level = getattr(logging, settings.log_level.upper())
    render = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if settings.log_format == "json" else []),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if settings.log_level == "debug" else logging.CRITICAL)
