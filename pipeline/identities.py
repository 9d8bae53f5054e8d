"""Identities: 128 bits of BLAKE2b over (account, source, id) (semantics.md, section 2).

The text that is hashed says how long account and source are, in characters, so no two identities share a text.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

from pipeline.columns import IDENTITY, Array
from pipeline.compiled.blake2 import DIGEST_BYTES
from pipeline.compiled.strings import identify
from pipeline.texts import Texts


def account_prefix(account: str) -> str:
    """What the texts of all identities of an account begin with."""
    return f"{len(account)}:{account}"


def identities_of(accounts: Iterable[str], sources: Iterable[str], ids: Iterable[str]) -> Array:
    """An identity an event."""
    texts = (f"{account_prefix(a)}{len(s)}:{s}{i}" for a, s, i in zip(accounts, sources, ids, strict=True))
    digests = [blake2b(text.encode(), digest_size=DIGEST_BYTES).digest() for text in texts]
    return np.frombuffer(b"".join(digests), IDENTITY)


def identities_in(text: Array, sources: Array, ids: Array, prefixes: Texts, accounts: Array) -> Array:
    """The same of JSON strings in ASCII without escapes, by their places; `accounts` are places in `prefixes`."""
    digests = np.empty((len(ids), 2), np.uint64)
    identify(text, sources, ids, prefixes.text, prefixes.bounds, accounts, digests)
    return digests.view(IDENTITY)[:, 0]
