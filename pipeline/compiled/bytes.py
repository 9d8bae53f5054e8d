"""Bytes of a text by their places."""

from __future__ import annotations

import numpy as np

from pipeline.compiled import compiled


@compiled
def byte(text, at):
    """A byte by its place, which is never negative: an unsigned index spares the check."""
    return text[np.uint64(at)]


@compiled
def equal(one, start, stop, other, other_start, other_stop):
    """Whether the bytes from start to stop are the other's from its start to its stop."""
    if stop - start != other_stop - other_start:
        return False
    for place in range(stop - start):
        if byte(one, start + place) != byte(other, other_start + place):
            return False
    return True
