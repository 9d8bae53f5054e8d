"""The memory of duplicates: which identities were counted, and with what content (semantics.md, section 2).

Exact: 128 bits of BLAKE2b over (account, source, id), and 32 bits of the content, so that the same identity with other
content is found. Identities are kept across days: a copy that claims another day is a conflict, not a second event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from pipeline.law import ensure

#: Outcomes of an event that reached the ledger.
COUNTED, DUPLICATE, CONFLICT = 0, 1, 2

_DIGEST = 16
#: Content (4 bytes) and day (2 bytes), little endian.
_MEMO = 6
#: One remembered identity in a piece: digest, content, day.
ENTRY_BYTES = _DIGEST + _MEMO
#: A piece is one state entry, and has to fit into a record.
_PIECE_BYTES = 40_000 * ENTRY_BYTES
#: 2020-01-01; two bytes then hold the days up to the year 2199.
_DAY_BASE = 737_425
_MASK_32, _MASK_DAY = 0xFFFF_FFFF, 0xFFFF
#: Odd constants of a multiplicative hash (Knuth; splitmix64).
_MIX_QUANTITY, _MIX_TIME = 0x9E37_79B9_7F4A_7C15, 0xBF58_476D_1CE4_E5B9


def contents_of(seeds: Sequence[int], at: Iterable[int], quantities: Iterable[int], micros: Iterable[int]) -> list[int]:
    """32 bits of each event's content: its series (`seeds[at]`, a stable number), quantity and time."""
    return [
        ((seeds[place] + quantity * _MIX_QUANTITY + micro * _MIX_TIME) >> 32) & _MASK_32
        for place, quantity, micro in zip(at, quantities, micros, strict=True)
    ]


class DuplicateMemory:
    """The identities of one partition of `account-events`."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}
        self._fresh: list[bytes] = []

    def __len__(self) -> int:
        return len(self._known)

    def admit(
        self, account: str, sources: Iterable[str], ids: Iterable[str], contents: Iterable[int], days: Iterable[int]
    ) -> bytearray:
        """The outcome of each event, in order; `days` are the ordinals they count to. The first of an identity counts."""
        # Lengths are part of the text, so no two identities share a text.
        prefix = f"{len(account)}:{account}"
        known, fresh, outcomes = self._known, self._fresh, bytearray()
        size = len(known)
        for source, identity, content, day in zip(sources, ids, contents, days, strict=True):
            text = f"{prefix}{len(source)}:{source}{identity}"
            digest = blake2b(text.encode(), digest_size=_DIGEST).digest()
            first = known.setdefault(digest, content << 16 | day - _DAY_BASE)
            if len(known) > size:
                size += 1
                fresh.append(digest)
                outcomes.append(COUNTED)
            else:
                outcomes.append(DUPLICATE if first >> 16 == content else CONFLICT)
        return outcomes

    def take_fresh(self) -> list[tuple[int, bytes]]:
        """What was counted since the last call, as (day ordinal, piece); a piece goes back in through `load`."""
        known, pieces = self._known, dict[int, bytearray]()
        for digest in self._fresh:
            memo = known[digest]
            piece = pieces.setdefault(memo & _MASK_DAY, bytearray())
            piece += digest + memo.to_bytes(_MEMO, "little")
        self._fresh = []
        return [
            (day + _DAY_BASE, bytes(piece[first : first + _PIECE_BYTES]))
            for day, piece in pieces.items()
            for first in range(0, len(piece), _PIECE_BYTES)
        ]

    def load(self, piece: bytes) -> None:
        """Remember a piece again; one that was loaded before changes nothing."""
        ensure(len(piece) % ENTRY_BYTES == 0, "a piece of the duplicate memory holds whole entries", len(piece))
        self._known.update(
            (piece[at : at + _DIGEST], int.from_bytes(piece[at + _DIGEST : at + ENTRY_BYTES], "little"))
            for at in range(0, len(piece), ENTRY_BYTES)
        )

    def forget_before(self, day: int) -> None:
        """Drop the identities of all days before this ordinal."""
        oldest = day - _DAY_BASE
        self._known = {digest: memo for digest, memo in self._known.items() if memo & _MASK_DAY >= oldest}
