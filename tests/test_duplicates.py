"""The memory of duplicates against a plain dictionary, and its pieces in the changelog."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from pipeline.columns import IDENTITY
from pipeline.duplicates import CONFLICT, COUNTED, DAY_BASE, DUPLICATE, ENTRY, DuplicateMemory
from pipeline.pieces import Pieces
from schemas.topics import MESSAGE_BYTES_MAX

DAY = DAY_BASE + 2_500
Row = tuple[int, int, int, int]


def admit(memory: DuplicateMemory, rows: list[Row]) -> list[int]:
    """The outcomes of rows of (low, high, content, day)."""
    identities = np.array([(low, high) for low, high, _, _ in rows], IDENTITY)
    contents = np.array([content for _, _, content, _ in rows], np.uint32)
    days = np.array([day - DAY_BASE for *_, day in rows], np.uint16)
    return [int(outcome) for outcome in memory.admit(identities, contents, days)]


@pytest.mark.parametrize("seed", range(20))
def test_it_answers_as_a_dictionary(seed: int) -> None:
    """Batches of any size, repetitions within and between them, and many probe sequences that begin in the same slots."""
    rng = random.Random(seed)
    memory, known = DuplicateMemory(), dict[tuple[int, int], int]()
    for _ in range(60):
        rows: list[Row] = []
        for _ in range(rng.choice((0, 1, 2, 50, 700))):
            low = rng.randrange(40) if rng.random() < 0.1 else rng.randrange(1 << 13) | rng.getrandbits(2) << 60
            rows.append((low, rng.randrange(3), rng.randrange(2), DAY + rng.randrange(3)))
        expected = []
        for low, high, content, _ in rows:
            first = known.setdefault((low, high), content)
            expected.append(COUNTED if len(known) > sum(o == COUNTED for o in expected) + len(memory) else
                            DUPLICATE if first == content else CONFLICT)  # fmt: skip
        assert admit(memory, rows) == expected, f"seed {seed}"
        assert len(memory) == len(known), f"seed {seed}"


@pytest.mark.parametrize("count", [100_000, 700_000])
def test_at_most_40_bytes_an_identity(count: int) -> None:
    """Log and index together, at every step of their growth."""
    memory, rng = DuplicateMemory(), np.random.default_rng(count)
    for first in range(0, count, 5_000):
        identities = np.zeros(5_000, IDENTITY)
        identities["low"], identities["high"] = rng.integers(0, 1 << 63, 5_000, np.uint64), first + np.arange(5_000)
        assert not memory.admit(identities, np.zeros(5_000, np.uint32), np.zeros(5_000, np.uint16)).any()
        if len(memory) >= 50_000:
            assert memory.memory_bytes <= 40 * len(memory), len(memory)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_stay_few_and_give_the_memory_back(seed: int) -> None:
    """Thousands of small checkpoints with late days: few live pieces, restored in the order of their keys, and forgotten by day."""
    rng, entries = random.Random(seed), dict[bytes, bytes]()
    memory = DuplicateMemory()
    pieces, rows, written = Pieces(memory), list[Row](), 0

    def apply(changes: list[tuple[bytes, bytes | None]]) -> None:
        nonlocal written
        for key, value in changes:
            if value is None:
                del entries[key]
            else:
                entries[key] = value
                written += len(value)

    for checkpoint in range(3_000):
        batch = [(rng.getrandbits(64), rng.getrandbits(64), 7, DAY - (rng.random() < 0.1) * rng.randrange(4))
                 for _ in range(rng.randrange(1, 12))]  # fmt: skip
        rows += batch
        admit(memory, batch)
        apply(list(pieces.append(checkpoint)))
    assert len(entries) < 4 * 3 * 32
    assert sum(map(len, entries.values())) == len(rows) * ENTRY.itemsize
    assert written < 12 * len(rows) * ENTRY.itemsize
    restored = DuplicateMemory()
    again = Pieces(restored)
    for key, value in sorted(entries.items(), key=lambda e: json.loads(e[0])):
        again.load(json.loads(key)[1], key, value)
    assert list(again.append(9_999)) == []
    assert set(admit(restored, rows)) == {DUPLICATE}, f"seed {seed}"
    apply(list(again.forget_before(DAY)))
    assert all(json.loads(key)[1] >= DAY for key in entries)
    today = [row for row in rows if row[3] >= DAY]
    assert len(restored) == len(today)
    assert set(admit(restored, today)) == {DUPLICATE}
    fresh = (1, 2, 3, DAY)
    assert admit(restored, [fresh]) == [COUNTED]
    ((_, value),) = again.append(10_000)
    assert value is not None
    assert len(value) == ENTRY.itemsize


@pytest.mark.parametrize("size", [700, 999, 1_000, 10_000, 26_000, 31_999, 32_000, 450_000])
def test_every_piece_fits_into_a_record(size: int) -> None:
    """Also those that take the place of others, whatever a checkpoint counts; and they still stay few."""
    rng, live = np.random.default_rng(size), set[bytes]()
    memory = DuplicateMemory()
    pieces, total = Pieces(memory), 0
    while total < 3_000_000:
        identities = np.zeros(size, IDENTITY)
        identities["low"], identities["high"] = rng.integers(0, 1 << 63, size, np.uint64), total + np.arange(size)
        memory.admit(identities, np.zeros(size, np.uint32), np.full(size, DAY - DAY_BASE, np.uint16))
        total += size
        for key, value in pieces.append(total):
            live.add(key) if value is not None else live.remove(key)
            assert len(value or b"") < MESSAGE_BYTES_MAX / 2
    assert len(live) < 2 * 32 + total / 16_000
