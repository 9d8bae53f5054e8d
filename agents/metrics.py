"""The Prometheus metrics of contract.md, section 5."""

from __future__ import annotations

from time import monotonic

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("drawdown_events", "Usage events by how they ended", ["meter", "outcome"])
EVENT_DELAY = Histogram(
    "drawdown_event_delay_seconds",
    "From an event's arrival in Kafka to its quota status",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300),
)
CHECKPOINT_SECONDS = Histogram("drawdown_checkpoint_seconds", "One transaction of a source partition", ["topic"])
CONSUMER_LAG = Gauge("drawdown_consumer_lag", "Records not yet taken", ["topic", "partition"])
OVERAGE_EVENTS = Counter("drawdown_overage_events", "Overage events emitted")
CLICKHOUSE_INSERT_SECONDS = Histogram("drawdown_clickhouse_insert_seconds", "One insert into ClickHouse", ["table"])
CLICKHOUSE_INSERT_FAILURES = Counter("drawdown_clickhouse_insert_failures", "Inserts that failed and are repeated")
HTTP_REQUESTS = Counter("drawdown_http_requests", "Requests by how they ended", ["method", "route", "status"])
HTTP_SECONDS = Histogram("drawdown_http_seconds", "One request; of a stream, its whole life", ["method", "route"])
STREAM_CLIENTS = Gauge("drawdown_stream_clients", "Open event streams")
STREAMS_DROPPED = Counter("drawdown_streams_dropped", "Event streams closed because the client read too slowly")
INVARIANT_VIOLATIONS = Counter("drawdown_invariant_violations", "Laws of the ledger that were found broken")


class _Progress:
    """When this process last made something durable."""

    def __init__(self) -> None:
        self._at = monotonic()
        gauge = Gauge("drawdown_seconds_since_progress", "Seconds since something was last made durable")
        gauge.set_function(lambda: monotonic() - self._at)

    def mark(self) -> None:
        """Something was made durable now."""
        self._at = monotonic()


PROGRESS = _Progress()
