"""Texts in one array, for loops that know no Python strings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from pipeline.columns import Array
from pipeline.compiled.strings import enumerate_strings


def joined(texts: Sequence[bytes]) -> tuple[bytes, Array]:
    """The texts one behind the other; text n lies from bound n to bound n + 1."""
    bounds = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=bounds[1:])
    return b"".join(texts), bounds


class Texts:
    """Texts in UTF-8, one behind the other; grows only. Text n lies in `text` from `bounds[n]` to `bounds[n + 1]`."""

    def __init__(self) -> None:
        self._size = 0
        self.text: Array = np.empty(1 << 10, np.uint8)
        self.bounds: Array = np.zeros(1 << 7, np.int64)

    def add(self, text: str) -> None:
        """Append a text."""
        encoded = np.frombuffer(text.encode(), np.uint8)
        start = int(self.bounds[self._size])
        if start + len(encoded) > len(self.text):
            self.text = np.concatenate([self.text, np.empty(max(len(self.text), len(encoded)), np.uint8)])
        if self._size + 1 == len(self.bounds):
            self.bounds = np.concatenate([self.bounds, np.empty_like(self.bounds)])
        self.text[start : start + len(encoded)] = encoded
        self._size += 1
        self.bounds[self._size] = start + len(encoded)


class Listing:
    """JSON strings one behind the other, each with a comma behind it: neighbours are a JSON array."""

    def __init__(self, text: Array, places: Array) -> None:
        """`places`: from and to of each string in `text`, with its quotes."""
        self.text: Array = np.empty(int((places[:, 1] - places[:, 0]).sum()) + len(places), np.uint8)
        self.bounds: Array = np.empty(len(places) + 1, np.int64)
        enumerate_strings(text, places, self.text, self.bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def array(self, first: int, end: int) -> bytes:
        """The strings from the first on up to `end`, at least one, as a JSON array."""
        return b"[%b]" % self.text[self.bounds[first] : self.bounds[end] - 1].tobytes()


def in_order(listings: Sequence[Listing], order: Array) -> Listing:
    """The strings of all listings, in this order."""
    starts = [*accumulate((len(one.text) for one in listings), initial=0)]
    pairs = [*zip(listings, starts, strict=False)]
    places = np.empty((len(order), 2), np.int64)
    places[:, 0] = np.concatenate([one.bounds[:-1] + start for one, start in pairs])[order]
    places[:, 1] = np.concatenate([one.bounds[1:] + (start - 1) for one, start in pairs])[order]
    return Listing(np.concatenate([one.text for one in listings]), places)
