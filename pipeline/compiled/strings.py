"""Strings that stay in the text where they were found: delimited, hashed as identities, and copied into JSON arrays."""

from __future__ import annotations

import numpy as np

from pipeline.compiled import compiled
from pipeline.compiled.blake2 import BLOCK_BYTES, blake2b
from pipeline.compiled.bytes import WORD_BYTES, byte, copy, put_byte, trailing_zeros, word
from pipeline.compiled.instants import NOT_PLAIN

#: Room for the longest text of an identity: names of 256 characters, in UTF-8, and their lengths.
_TEXT_BYTES = 4096
_QUOTE, _BACKSLASH, _COMMA, _COLON, _ZERO, _SPACE, _DELETE = b'"\\,:0 \x7f'
#: A word whose bytes are all 1, and others whose bytes are all the same.
_ONES = np.uint64(0x0101_0101_0101_0101)
_HIGHEST, _QUOTES, _BACKSLASHES, _SPACES, _DELETES = (
    _ONES * np.uint64(one) for one in (0x80, _QUOTE, _BACKSLASH, _SPACE, _DELETE)
)
_ALL_BITS = ~np.uint64(0)


@compiled
def closing_quote(text, at, end):
    """The place of the quote that ends a string of printable ASCII without escapes, or `NOT_PLAIN`; `at` is behind the first quote."""
    while at + WORD_BYTES <= end:
        found = _special(word(text, at))
        if found:
            at += trailing_zeros(found) >> 3
            return at if byte(text, at) == _QUOTE else NOT_PLAIN
        at += WORD_BYTES
    while at < end and _SPACE <= byte(text, at) < _DELETE and byte(text, at) != _QUOTE and byte(text, at) != _BACKSLASH:
        at += 1
    return at if at < end and byte(text, at) == _QUOTE else NOT_PLAIN


@compiled
def _special(eight):
    """The highest bit of the first byte that is a quote, a backslash or not printable ASCII; above it bits may be wrong.

    A byte is below n if subtracting n borrows, and it is c if it is below 1 once c is taken out of it ("Bit twiddling hacks",
    S. E. Anderson); a borrow only ever reaches bytes above one that was found.
    """
    quotes, backslashes, deletes = eight ^ _QUOTES, eight ^ _BACKSLASHES, eight ^ _DELETES
    below = (eight - _SPACES) & ~eight
    below |= (quotes - _ONES) & ~quotes
    below |= (backslashes - _ONES) & ~backslashes
    below |= (deletes - _ONES) & ~deletes
    return (below | eight) & _HIGHEST


@compiled
def short(text, start, stop, end):
    """The first eight bytes, or fewer, of a text that is not empty, as a number, the first one lowest; `end` of what may be read."""
    size = min(stop - start, WORD_BYTES)
    if start + WORD_BYTES <= end:
        return np.int64(word(text, start) & (_ALL_BITS >> np.uint64(64 - 8 * size)))
    value = 0
    for place in range(start + size - 1, start - 1, -1):
        value = value << 8 | byte(text, place)
    return value


@compiled
def identify(values, sources, ids, prefixes, prefix_bounds, accounts, digests):
    """The identity of each event (`pipeline.identities`), of strings in ASCII with their quotes, without escapes."""
    buffer = np.zeros(_TEXT_BYTES, np.uint8)
    text, message, known = values.ctypes.data, buffer.ctypes.data, prefixes.ctypes.data
    for i in range(len(ids)):
        prefix, size = prefix_bounds[accounts[i]], prefix_bounds[accounts[i] + 1] - prefix_bounds[accounts[i]]
        copy(message, 0, known, prefix, size)
        start, length = sources[i, 0] + 1, sources[i, 1] - sources[i, 0] - 2
        size = _write_number(message, size, length)
        put_byte(message, size, _COLON)
        copy(message, size + 1, text, start, length)
        size += 1 + length
        start, length = ids[i, 0] + 1, ids[i, 1] - ids[i, 0] - 2
        copy(message, size, text, start, length)
        size += length
        buffer[size : (size + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES] = 0
        digests[i, 0], digests[i, 1] = blake2b(message, size)


@compiled
def enumerate_strings(values, places, listed, bounds):
    """The strings one behind the other, each with a comma; string n from `bounds[n]` on."""
    text, target, size = values.ctypes.data, listed.ctypes.data, 0
    for i in range(len(places)):
        bounds[i] = size
        length = places[i, 1] - places[i, 0]
        copy(target, size, text, places[i, 0], length)
        put_byte(target, size + length, _COMMA)
        size += length + 1
    bounds[len(places)] = size


@compiled
def _write_number(target, at, number):
    """The place behind a number below 1000 in decimal digits."""
    if number >= 100:
        put_byte(target, at, _ZERO + number // 100)
        at += 1
    if number >= 10:
        put_byte(target, at, _ZERO + number // 10 % 10)
        at += 1
    put_byte(target, at, _ZERO + number % 10)
    return at + 1
