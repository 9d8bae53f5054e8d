"""The event columns of a usage batch: little-endian numbers, bytes in the batch and arrays here.

Numbers as text would cost more to write, send and read again than all the rest of the fold.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.log import Usage

Array = npt.NDArray[Any]

#: 16 bytes of (account, source, id).
IDENTITY = np.dtype([("low", "<u8"), ("high", "<u8")])
PLACE, INDEX, NUMBER = np.dtype("<u2"), np.dtype("<i4"), np.dtype("<i8")
#: The columns of a batch that the fold reads, in the order of `Usage`.
COLUMNS: dict[str, np.dtype[Any]] = {
    "at": PLACE, "quantities": NUMBER, "micros": NUMBER, "offsets": NUMBER, "indexes": INDEX, "identities": IDENTITY,
}  # fmt: skip


def column(usage: Usage, name: str) -> Array:
    """One column as an array, read-only."""
    return np.frombuffer(getattr(usage, name), COLUMNS[name])


def rows_of(usage: Usage) -> int:
    """How many events the batch has."""
    return len(usage.at) // PLACE.itemsize


def position(usage: Usage, row: int) -> tuple[int, int]:
    """Where an event stood in its partition of the usage topic: offset, and index in an array (-1: none)."""
    return int(column(usage, "offsets")[row]), int(column(usage, "indexes")[row])


def select(usage: Usage, rows: Array) -> Usage:
    """The batch with these rows alone."""
    return msgspec.structs.replace(usage, **{name: column(usage, name)[rows].tobytes() for name in COLUMNS})
