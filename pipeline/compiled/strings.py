"""Strings that stay in the text where they were found: hashed as identities, and copied into JSON arrays."""

from __future__ import annotations

import numpy as np

from pipeline.compiled import compiled
from pipeline.compiled.blake2 import BLOCK_BYTES, blake2b_into

#: Room for the longest text of an identity: names of 256 characters, in UTF-8, and their lengths.
_TEXT_BYTES = 4096


@compiled
def identify(text, sources, ids, prefixes, prefix_bounds, accounts, digests):
    """The identity of each event (`pipeline.identities`), of strings in ASCII with their quotes, without escapes."""
    message = np.zeros(_TEXT_BYTES, np.uint8)
    words = message.view(np.uint64)
    for i in range(len(ids)):
        account = accounts[i]
        size = _copy(message, 0, prefixes, prefix_bounds[account], prefix_bounds[account + 1])
        start, stop = sources[i, 0] + 1, sources[i, 1] - 1
        size = _write_number(message, size, stop - start)
        message[size] = ord(":")
        size = _copy(message, size + 1, text, start, stop)
        size = _copy(message, size, text, ids[i, 0] + 1, ids[i, 1] - 1)
        filled = (size + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES
        message[size:filled] = 0
        blake2b_into(digests[i], words, size)


@compiled
def enumerate_strings(text, places, listed, bounds):
    """The strings one behind the other, each with a comma; string n from `bounds[n]` on."""
    size = 0
    for i in range(len(places)):
        bounds[i] = size
        size = _copy(listed, size, text, places[i, 0], places[i, 1])
        listed[size] = ord(",")
        size += 1
    bounds[len(places)] = size


@compiled
def _copy(target, at, text, start, stop):
    """The place behind the copy."""
    for place in range(start, stop):
        target[at] = text[place]
        at += 1
    return at


@compiled
def _write_number(target, at, number):
    """The place behind a number below 1000 in decimal digits."""
    if number >= 100:
        target[at] = ord("0") + number // 100
        at += 1
    if number >= 10:
        target[at] = ord("0") + number // 10 % 10
        at += 1
    target[at] = ord("0") + number % 10
    return at + 1
