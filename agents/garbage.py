"""Memory of a worker: what comes in lives for one chunk, and the state, millions of objects, until the partition goes.

Neither makes cycles, so looking for some costs time again and again and finds nothing. And the buffers of a chunk, given back to
the system, would have to be cleared by it for the next: that took a fifth of a worker's processor time.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLD = 200_000
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
#: For mallopt(3): buffers below 32 MiB, its largest limit, come out of one heap for all threads, which is given back only when
#: 256 MiB at its end are free.
_MALLOPT = {_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: 32 * 1024 * 1024, _M_TRIM_THRESHOLD: 256 * 1024 * 1024}


def tune_memory() -> None:
    """At the start of a process that works on streams, before its other threads."""
    gc.set_threshold(_THRESHOLD)
    gc.freeze()
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # a C library other than glibc may not have it
        for parameter, value in _MALLOPT.items():
            library.mallopt(parameter, value)


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
