"""What is done for every byte of usage, compiled to machine code by Numba: loops over arrays, without the interpreter and its lock.

Functions here know arrays, the addresses of such, and numbers. They are compiled when they are called first, all in about ten
seconds, and kept on disk beside their source, or in the user's cache, or where `NUMBA_CACHE_DIR` says. They check no bounds:
callers size what is written.
"""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Decorator of a function of this package; where nothing can be kept, every process compiles anew."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # Numba found no place that it may write to
        return njit(nogil=True)(function)
