"""Bytes of a text by their places."""

from __future__ import annotations

import numpy as np

from pipeline.compiled import compiled


@compiled
def byte(text, at):
    """A byte by its place, which is never negative: an unsigned index spares the check."""
    return text[np.uint64(at)]
