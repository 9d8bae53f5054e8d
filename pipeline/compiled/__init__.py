"""What is done for every byte of usage, compiled to machine code by Numba: loops over arrays, without the interpreter and its lock.

Functions here know arrays and numbers only. They are compiled when they are called first, some seconds, and kept on disk beside
their source (or where `NUMBA_CACHE_DIR` says). They check no bounds: callers size what is written.
"""

from typing import Any

from numba import njit

#: Decorator of a function of this package.
compiled: Any = njit(cache=True, nogil=True)
