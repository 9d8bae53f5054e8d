"""Garbage collection of a worker: what comes in lives for one chunk, and the state, millions of objects, until the partition goes.

Neither makes cycles, so looking for some costs time again and again and finds nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLD = 200_000


def collect_seldom() -> None:
    """At the start of a process that works on streams."""
    gc.set_threshold(_THRESHOLD)
    gc.freeze()


@contextmanager
def long_lived() -> Iterator[None]:
    """What is made in here is never looked at by the collector until `release`."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def release() -> None:
    """What was long-lived is not wanted any more: whatever is still there of it is looked at again."""
    gc.unfreeze()
