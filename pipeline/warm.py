"""Warming up: everything in `pipeline.compiled` is compiled, or loaded from where it is kept, before the first event waits for it.

`python -m pipeline.warm` does so for all later processes of this machine; it takes about a quarter of a minute once.
"""

from __future__ import annotations

import numpy as np

from pipeline.admission import Limits
from pipeline.batches import batches
from pipeline.columns import column
from pipeline.duplicates import DuplicateMemory
from pipeline.law import ensure
from pipeline.records import Record, Records
from pipeline.routing import Router
from schemas.catalog import Catalog, load_catalog
from schemas.wire import WorkspaceBinding

_EVENT = (
    b'{"specversion":"1.0","id":"1","source":"warm-up","type":"usage.%b","subject":"w",'
    b'"time":"2026-01-01T00:00:00Z","data":{"quantity":1}}'
)
_NOW_MICROS = 1_767_225_600_000_000


def warm_up(catalog: Catalog) -> None:
    """One event goes the way of all; nothing is left of it."""
    Records.located(b"", 0, 0, 0)
    router = Router(catalog, Limits(record_bytes=10_000, record_events=10, future_micros=0, horizon_days=1))
    router.bind(WorkspaceBinding("w", "a"))
    event = _EVENT % next(iter(catalog.meters)).encode()
    for _ in range(2):  # its series is known only the second time
        routed = router.route(Records.of([Record(0, b"w", event)]), _NOW_MICROS)
    usage = next(batches(0, routed.rows))
    outcomes = DuplicateMemory().admit(column(usage, "identities"), np.zeros(1, np.uint32), np.ones(1, np.uint16))
    ensure(outcomes.tolist() == [0], "the event that warms the worker up is counted", outcomes)


if __name__ == "__main__":
    warm_up(load_catalog())
