"""The kinds of numbers that files of weights hold, and how each becomes an array.

Plain numbers are stored one by one. Quantised ones come in blocks of 32 along the last axis: one or two float16 for the
block, a scale and an offset, and a whole number of 4, 5 or 8 bits for each of its members (Q4_1: 20 bytes, that is 5
bits per weight instead of 32). Source: https://github.com/ggml-org/ggml, ggml-common.h and ggml-quants.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..tensor import Array


class Kind(NamedTuple):
    """How numbers are stored: `block` of them in `size` bytes, and what makes an array of them.

    `unpack` takes bytes, of shape (blocks, size), and fills an array of `dtype`, of shape (blocks, block). Without it
    the bytes are the array.
    """

    name: str
    block: int
    size: int
    dtype: str
    unpack: Callable[[Array, Array], None] | None = None


def _scale(raw: Array, at: int = 0) -> Array:
    """Return the float16 that stands in each block at byte `at`, as float32 of shape (blocks, 1)."""
    return np.ascontiguousarray(raw[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(codes: Array, out: Array) -> None:
    """Write the low halves of 16 bytes, then the high ones."""
    out[:, :16] = codes & 15
    out[:, 16:] = codes >> 4


def _fifth_bits(raw: Array, out: Array) -> None:
    """Add the highest of 5 bits, 32 of which stand in 4 bytes."""
    out += np.unpackbits(raw, axis=1, bitorder="little") << 4


def _q4_0(raw: Array, out: Array) -> None:
    _nibbles(raw[:, 2:], out)
    out -= 8
    out *= _scale(raw)


def _q4_1(raw: Array, out: Array) -> None:
    _nibbles(raw[:, 4:], out)
    out *= _scale(raw)
    out += _scale(raw, 2)


def _q5_0(raw: Array, out: Array) -> None:
    _nibbles(raw[:, 6:], out)
    _fifth_bits(raw[:, 2:6], out)
    out -= 16
    out *= _scale(raw)


def _q5_1(raw: Array, out: Array) -> None:
    _nibbles(raw[:, 8:], out)
    _fifth_bits(raw[:, 4:8], out)
    out *= _scale(raw)
    out += _scale(raw, 2)


def _q8_0(raw: Array, out: Array) -> None:
    out[:] = raw[:, 2:].view(np.int8)
    out *= _scale(raw)


def _bf16(raw: Array, out: Array) -> None:  # the upper half of a float32, which NumPy has no name for
    bits = out.view(np.uint32)
    bits[:] = raw.view("<u2")
    bits <<= 16


def _as(dtype: str) -> Callable[[Array, Array], None]:
    def unpack(raw: Array, out: Array) -> None:
        out[:] = raw.view(dtype)

    return unpack


def _bool(raw: Array, out: Array) -> None:
    np.not_equal(raw, 0, out=out)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("F32", 1, 4, "<f4"),
        Kind("F16", 1, 2, "<f4", _as("<f2")),
        Kind("BF16", 1, 2, "<f4", _bf16),
        Kind("F64", 1, 8, "<f4", _as("<f8")),
        Kind("BOOL", 1, 1, "?", _bool),
        *(Kind(f"{sign}{8 * size}", 1, size, f"<{sign.lower()}{size}") for sign in "IU" for size in (1, 2, 4, 8)),
        Kind("Q4_0", 32, 18, "<f4", _q4_0),
        Kind("Q4_1", 32, 20, "<f4", _q4_1),
        Kind("Q5_0", 32, 22, "<f4", _q5_0),
        Kind("Q5_1", 32, 24, "<f4", _q5_1),
        Kind("Q8_0", 32, 34, "<f4", _q8_0),
    )
}
