"""Counting: what a run of usage batches adds to its series, decided by the memory of duplicates for all of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from pipeline.account import Account
from pipeline.batches import ROWS_MAX
from pipeline.columns import COLUMNS, Array, rows_of
from pipeline.duplicates import COUNTED, DAY_BASE, DuplicateMemory, contents_of
from pipeline.law import ensure
from schemas.log import SeriesKey, Usage
from schemas.wire import QUANTITY_MAX

ensure(ROWS_MAX * QUANTITY_MAX < 2**63, "the sum of one batch fits into 64 bits")


class Gain(NamedTuple):
    """What a batch adds to one series: the sum and the largest of `events` new quantities."""

    series: SeriesKey
    total: int
    peak: int
    events: int


class Counted(NamedTuple):
    """One batch after the memory of duplicates: gains, and (place in the batch, outcome) of what was known already."""

    account: Account
    usage: Usage
    gains: list[Gain]
    known: list[tuple[int, int]]


def count(memory: DuplicateMemory, batches: Sequence[tuple[Account, Usage]]) -> Iterator[Counted]:
    """The batches in order. Every event of a batch is in exactly one gain, or in `known` (law 7)."""
    lengths = [rows_of(usage) for _, usage in batches]
    widths = [len(usage.series) for _, usage in batches]
    total, width = sum(lengths), sum(widths)
    bases = [0, *accumulate(widths)]
    names = [name for _, usage in batches for name in usage.series]

    def joined(name: str) -> Array:
        found: Array = np.frombuffer(b"".join([getattr(usage, name) for _, usage in batches]), COLUMNS[name])
        ensure(len(found) == total, "the columns of a batch have equal length", name, len(found), total)
        return found

    places = joined("at") + np.repeat(np.array(bases[:-1], np.int64), lengths)
    quantities, micros, identities = joined("quantities"), joined("micros"), joined("identities")
    seeds = np.fromiter(map(_seed, names), np.uint64, width)
    days = np.fromiter((name[1].toordinal() - DAY_BASE for name in names), np.uint16, width)
    outcomes = memory.admit(identities, contents_of(seeds[places], quantities, micros), days[places])
    known = np.flatnonzero(outcomes != COUNTED)
    if len(known):
        places, quantities = np.delete(places, known), np.delete(quantities, known)
    sums, peaks = np.zeros(width, np.int64), np.zeros(width, np.int64)
    np.add.at(sums, places, quantities)
    np.maximum.at(peaks, places, quantities)
    counts = np.bincount(places, minlength=width)
    gains = [*map(Gain, names, sums.tolist(), peaks.tolist(), counts.tolist())]
    ends = [*accumulate(lengths)]
    cuts = np.searchsorted(known, [0, *ends])
    for i, (account, usage) in enumerate(batches):
        yield Counted(
            account,
            usage,
            [gain for gain in gains[bases[i] : bases[i + 1]] if gain.events],
            _known(known[cuts[i] : cuts[i + 1]], outcomes, ends[i] - lengths[i]),
        )


def _known(places: Array, outcomes: Array, first: int) -> list[tuple[int, int]]:
    """(place in the batch, outcome) of the events at these places of the run."""
    found: list[Any] = list(zip((places - first).tolist(), outcomes[places].tolist(), strict=True))
    return found


@lru_cache(maxsize=1_000_000)
def _seed(name: SeriesKey) -> int:
    """A stable number of the series, for the content of its events."""
    workspace, _, meter, retention_days = name
    text = f"{len(workspace)}:{workspace}{meter}:{retention_days}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
