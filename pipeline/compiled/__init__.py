"""What is done for every byte of usage, compiled to machine code by Numba: loops over arrays, without the interpreter and its lock.

Functions here know arrays, the addresses of such, and numbers. They are compiled when they are called first, all in about ten
seconds, and kept on disk beside their source, or in the user's cache, or where `NUMBA_CACHE_DIR` says. They check no bounds:
callers size what is written.
"""

import pickle
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from importlib.resources import files
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


def _sources() -> str:
    """A digest of all that machine code may be made of: these modules, and those whose constants they use."""
    texts = (
        file.read_bytes()
        for name in (__name__, "schemas")
        for file in files(name).iterdir()
        if file.name.endswith(".py")
    )
    return sha256(b"".join(sorted(sha256(text).digest() for text in texts))).hexdigest()


_SOURCES = _sources()


class _Kept(FunctionCache):
    """Numba's, which looks at a function's own module alone, though the code of others is in its code, and trusts what it finds."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _SOURCES  # noqa: SLF001

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code that is kept, or None; what a crash left half written is not there."""
        try:
            return super().load_overload(sig, target_context)
        except (EOFError, pickle.UnpicklingError):
            self.flush()
            return None


def compiled(function: Callable[..., Any]) -> Any:
    """Decorator of a function of this package; where nothing can be kept, every process compiles anew."""
    dispatcher: Any = njit(nogil=True)(function)
    with suppress(RuntimeError):  # Numba found no place that it may write to
        dispatcher._cache = _Kept(function)  # noqa: SLF001
    return dispatcher
