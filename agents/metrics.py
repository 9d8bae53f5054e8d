"""The Prometheus metrics of contract.md, section 5."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import cache, partial
from heapq import nlargest
from itertools import product
from time import monotonic, time_ns

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.days import day_of

disable_created_metrics()  # type: ignore[no-untyped-call]  # when a series began is no use to us, and half of the page

#: How an event ends.
OUTCOMES = ("counted", "duplicate", "dead_letter")
EVENTS = Counter("drawdown_events", "Usage events by how they ended, once that is durable", ["meter", "outcome"])
EVENT_DELAY = Histogram(
    "drawdown_event_delay_seconds",
    "From the arrival of a checkpoint's oldest event in the account's log until its quota status is published",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300),
)
CHECKPOINT_SECONDS = Histogram("drawdown_checkpoint_seconds", "One transaction of a source partition", ["topic"])
CONSUMER_LAG = Gauge(
    "drawdown_consumer_lag", "Offsets that this process has not fetched yet, of its partitions", ["topic", "partition"]
)
OVERAGE_EVENTS = Counter("drawdown_overage_events", "Overage events emitted")
CLICKHOUSE_INSERT_SECONDS = Histogram("drawdown_clickhouse_insert_seconds", "One insert into ClickHouse", ["table"])
CLICKHOUSE_INSERT_FAILURES = Counter("drawdown_clickhouse_insert_failures", "Inserts that failed and are repeated")
HTTP_REQUESTS = Counter("drawdown_http_requests", "Requests by how they ended", ["method", "route", "status"])
HTTP_SECONDS = Histogram("drawdown_http_seconds", "One request; of a stream, its whole life", ["method", "route"])
STREAM_CLIENTS = Gauge("drawdown_stream_clients", "Open event streams")
STREAMS_DROPPED = Counter("drawdown_streams_dropped", "Event streams closed because the client read too slowly")
READY = Gauge("drawdown_ready", "1 while /readyz is green, 0 while it is red")
WEBHOOK_ATTEMPTS = Counter("drawdown_webhook_attempts", "Attempts to tell a webhook of an alert", ["outcome"])
WEBHOOKS_DISABLED = Counter("drawdown_webhooks_disabled", "Webhooks that were disabled because their receiver is gone")
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


class _Meters:
    """Counts events by meter. Names that come from outside must not become series without end: only known meters do."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def know(self, meters: Iterable[str]) -> None:
        """These are the meters; each has its series from the start, for one that begins with its first event has no rate."""
        self._known.update(meters)
        for meter, outcome in product(self._known, OUTCOMES):
            EVENTS.labels(meter=meter, outcome=outcome)

    def count(self, meter: str, outcome: str, events: int) -> None:
        """Events ended so; the meter is "" where it is not known."""
        EVENTS.labels(meter=meter if meter in self._known else "", outcome=outcome).inc(events)


METERS = _Meters()


#: Account, package, meter.
QuotaKey = tuple[str, str, str]


class _PackageUtilization(Collector):
    """How far today's quotas are drawn down, of the packages whose partition is here.

    Today is the account's. Of more than `series_max` quotas the fullest are shown: they are what an alert is about.
    """

    series_max = 1000

    def __init__(self) -> None:
        #: Partition of `account-events` -> quota -> (day, time zone, share that is used).
        self._shares: dict[int, dict[QuotaKey, tuple[date, str, float]]] = {}

    def show(self, partition: int, time_zone: str, day: date, quota: QuotaKey, used: int, of: int) -> None:
        """So much of a quota is used. An earlier day than is known is a late event's; of 0, the package is gone."""
        shares = self._shares.setdefault(partition, {})
        if quota in shares and shares[quota][0] > day:
            return
        if of:
            shares[quota] = day, time_zone, used / of
        else:
            shares.pop(quota, None)

    def forget(self, partition: int) -> None:
        """The partition left."""
        self._shares.pop(partition, None)

    def describe(self) -> list[GaugeMetricFamily]:
        """The name, for the registry."""
        help_text = "Share of today's quota that is used up (1 = all), of the fullest packages"
        return [GaugeMetricFamily("drawdown_package_utilization", help_text, labels=["account", "package", "meter"])]

    def collect(self) -> list[GaugeMetricFamily]:
        """Of today; called by the thread that serves /metrics."""
        now = time_ns() // 1000
        today = cache(partial(day_of, now))
        shares = [item for of_partition in list(self._shares.values()) for item in list(of_partition.items())]
        current = ((share, key) for key, (day, time_zone, share) in shares if day == today(time_zone))
        (family,) = self.describe()
        for share, key in nlargest(self.series_max, current):
            family.add_metric(key, share)
        return [family]


PACKAGE_UTILIZATION = _PackageUtilization()
REGISTRY.register(PACKAGE_UTILIZATION)
