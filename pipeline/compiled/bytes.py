"""Bytes of a text by their places.

A text is an address here: an array would cost every call that it is handed to more than a byte does. Who takes the address of an
array holds the array until the loop is over.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.compiled import compiled

WORD_BYTES = 8
_BYTE, _WORD = ir.IntType(8), ir.IntType(64)


@intrinsic
def byte(_typing, text, at):
    """The byte at a place, from 0 to 255."""

    def generate(_context, builder, _signature, arguments):
        return builder.zext(builder.load(_pointer(builder, arguments, _BYTE)), _WORD)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def word(_typing, text, at):
    """The eight bytes from a place on, the first one lowest."""

    def generate(_context, builder, _signature, arguments):
        return builder.load(_pointer(builder, arguments, _WORD), align=1)

    return types.uint64(types.int64, types.int64), generate


@intrinsic
def put_byte(_typing, text, at, value):
    """Write the byte at a place."""

    def generate(_context, builder, _signature, arguments):
        *place, value = arguments
        builder.store(builder.trunc(value, _BYTE), _pointer(builder, place, _BYTE))

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def put_number(_typing, numbers, place, value):
    """Write one of the 64-bit integers that stand one behind the other at an address."""

    def generate(_context, builder, _signature, arguments):
        numbers, place, value = arguments
        offset = builder.mul(place, ir.Constant(_WORD, WORD_BYTES))
        builder.store(value, _pointer(builder, (numbers, offset), _WORD))

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def copy(_typing, target, at, text, start, size):
    """Write so many bytes of a text, from `start` on, to the target from `at` on."""

    def generate(_context, builder, _signature, arguments):
        target, at, text, start, size = arguments
        to, of = _pointer(builder, (target, at), _BYTE), _pointer(builder, (text, start), _BYTE)
        cgutils.raw_memcpy(builder, to, of, size, 1)

    return types.void(types.int64, types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def trailing_zeros(_typing, value):
    """How many bits below the lowest that is set; 64 if none is."""

    def generate(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


def _pointer(builder, place, kind):
    return builder.inttoptr(builder.add(*place), kind.as_pointer())


@compiled
def equal(one, start, stop, other, other_start, other_stop):
    """Whether the bytes from start to stop are the other's from its start to its stop."""
    size = stop - start
    if size != other_stop - other_start:
        return False
    at = 0
    while at + WORD_BYTES <= size:
        if word(one, start + at) != word(other, other_start + at):
            return False
        at += WORD_BYTES
    while at < size:
        if byte(one, start + at) != byte(other, other_start + at):
            return False
        at += 1
    return True
