"""From the routed events of a partition to batches: one account each, in arrival order, small enough for a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from msgspec import Raw

from pipeline.columns import COLUMNS, Array
from pipeline.series import SeriesTable
from pipeline.texts import Listing, in_order
from schemas.log import RoutedUsage, SeriesKey

#: Events in one batch: with the longest source, id and workspace, all escaped, and a series for each, they stay below
#: `MESSAGE_BYTES_MAX`.
ROWS_MAX = 3_000
#: Routed columns beside `series`, which becomes `at`.
_NUMBERS = ("quantities", "micros", "offsets", "indexes", "identities")


@dataclass(frozen=True, slots=True)
class Rows:
    """Routed events, as columns of equal length: `series` are numbers in `table`."""

    table: SeriesTable
    series: Array
    quantities: Array
    micros: Array
    offsets: Array
    indexes: Array
    identities: Array
    sources: Listing
    ids: Listing


def batches(partition: int, rows: Iterable[Rows]) -> Iterator[RoutedUsage]:
    """The batches of rows that were routed one after the other out of one partition of the usage topic."""
    for table, some in groupby(rows, key=lambda one: one.table):
        yield from _of_table(partition, table, list(some))


def _of_table(partition: int, table: SeriesTable, rows: list[Rows]) -> Iterator[RoutedUsage]:
    series = np.concatenate([one.series for one in rows])
    columns = {name: np.concatenate([getattr(one, name) for one in rows]) for name in _NUMBERS}
    met = np.zeros(len(table), bool)
    met[series] = True
    accounts, ranks = np.unique(table.account_of[met], return_inverse=True)
    ranks_of = np.empty(len(table), np.int64)
    ranks_of[met] = ranks
    ranks = ranks_of[series]
    # Sixteen bits are sorted by radix, which is many times faster.
    ranks = ranks.astype(np.uint16) if len(accounts) < 1 << 16 else ranks
    if (np.diff(columns["offsets"]) < 0).any():  # what was read in two ways out of one chunk
        arrival = np.lexsort((columns["indexes"], columns["offsets"]))
        order = arrival[np.argsort(ranks[arrival], kind="stable")]
    else:
        order = np.argsort(ranks, kind="stable")
    series = series[order]
    columns = {name: column[order] for name, column in columns.items()}
    sources, ids = (in_order([getattr(one, name) for one in rows], order) for name in ("sources", "ids"))
    bounds = np.searchsorted(ranks[order], np.arange(len(accounts) + 1)).tolist()
    for account, start, end in zip(accounts.tolist(), bounds, bounds[1:], strict=False):
        for first in range(start, end, ROWS_MAX):
            cut = slice(first, min(first + ROWS_MAX, end))
            names, at = _series_of(table, series[cut])
            yield RoutedUsage(
                table.accounts[account], partition, names, at,
                sources=Raw(sources.array(cut.start, cut.stop)), ids=Raw(ids.array(cut.start, cut.stop)),
                **{name: columns[name][cut].astype(COLUMNS[name], copy=False).tobytes() for name in _NUMBERS},
            )  # fmt: skip


def _series_of(table: SeriesTable, numbers: Array) -> tuple[list[SeriesKey], bytes]:
    """The series of a batch, and each event's place among them."""
    found, at = np.unique(numbers, return_inverse=True)
    return [table.names[number] for number in found.tolist()], at.astype(COLUMNS["at"]).tobytes()
