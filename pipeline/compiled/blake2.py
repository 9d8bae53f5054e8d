"""BLAKE2b with a digest of 16 bytes, RFC 7693: `hashlib` takes longer to be called than to hash so little."""

from __future__ import annotations

import numpy as np

from pipeline.compiled import compiled
from pipeline.compiled.bytes import WORD_BYTES, word

DIGEST_BYTES = 16
BLOCK_BYTES = 128
_IV = tuple(
    np.uint64(one)
    for one in (
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    )
)  # fmt: skip
#: Where in a block the message words stand, in the order in which a round takes them; the eleventh round is like the first again.
_SIGMA = WORD_BYTES * np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ],
    np.int64,
)
#: What the digest's length and "no key" make of the first word of the start value.
_START = (_IV[0] ^ np.uint64(0x0101_0000 ^ DIGEST_BYTES), *_IV[1:])


@compiled
def blake2b(message, size):
    """Two words of digest of the first `size` bytes at an address; from there to the end of their block are zeros."""
    state, read = _START, BLOCK_BYTES
    while read < size:
        state = _compress(state, message, np.uint64(read), np.uint64(0))
        message += BLOCK_BYTES
        read += BLOCK_BYTES
    state = _compress(state, message, np.uint64(size), ~np.uint64(0))
    return state[0], state[1]


@compiled
def _compress(h, m, read, last):
    v0, v1, v2, v3, v4, v5, v6, v7 = h
    v8, v9, v10, v11, v12, v13, v14, v15 = _IV
    v12 ^= read
    v14 ^= last
    for r in range(12):
        s = r % 10
        v0, v4, v8, v12 = _mix(v0, v4, v8, v12, word(m, _SIGMA[s, 0]), word(m, _SIGMA[s, 1]))
        v1, v5, v9, v13 = _mix(v1, v5, v9, v13, word(m, _SIGMA[s, 2]), word(m, _SIGMA[s, 3]))
        v2, v6, v10, v14 = _mix(v2, v6, v10, v14, word(m, _SIGMA[s, 4]), word(m, _SIGMA[s, 5]))
        v3, v7, v11, v15 = _mix(v3, v7, v11, v15, word(m, _SIGMA[s, 6]), word(m, _SIGMA[s, 7]))
        v0, v5, v10, v15 = _mix(v0, v5, v10, v15, word(m, _SIGMA[s, 8]), word(m, _SIGMA[s, 9]))
        v1, v6, v11, v12 = _mix(v1, v6, v11, v12, word(m, _SIGMA[s, 10]), word(m, _SIGMA[s, 11]))
        v2, v7, v8, v13 = _mix(v2, v7, v8, v13, word(m, _SIGMA[s, 12]), word(m, _SIGMA[s, 13]))
        v3, v4, v9, v14 = _mix(v3, v4, v9, v14, word(m, _SIGMA[s, 14]), word(m, _SIGMA[s, 15]))
    return (
        h[0] ^ v0 ^ v8, h[1] ^ v1 ^ v9, h[2] ^ v2 ^ v10, h[3] ^ v3 ^ v11,
        h[4] ^ v4 ^ v12, h[5] ^ v5 ^ v13, h[6] ^ v6 ^ v14, h[7] ^ v7 ^ v15,
    )  # fmt: skip


@compiled
def _mix(a, b, c, d, x, y):
    a = a + b + x
    d = _rotated(d ^ a, 32)
    c = c + d
    b = _rotated(b ^ c, 24)
    a = a + b + y
    d = _rotated(d ^ a, 16)
    c = c + d
    b = _rotated(b ^ c, 63)
    return a, b, c, d


@compiled
def _rotated(word, bits):
    return (word >> np.uint64(bits)) | (word << np.uint64(64 - bits))
