"""What the public functions do to their arguments before an op sees them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..tensor import Tensor, as_array


def operand(x: Any) -> Any:
    """Return a Tensor or an array as it is, and anything else, such as a list, as an array."""
    return x if isinstance(x, (Tensor, np.ndarray)) else as_array(x)


def given(x: Any, what: str, caller: str) -> Any:
    """Return a Tensor or an array as it is, and anything else as an array; `what` is its name in an error."""
    try:
        return operand(x)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{caller}: {what}: {error}") from None


def normalize_axis(axis: Any, ndim: int, caller: str) -> tuple[int, ...]:
    """Return `axis` as a tuple of integers from 0 to ndim − 1; None means all axes.

    Raises
    ------
    TypeError
        If it is not made of integers.
    IndexError
        If it is out of range.
    ValueError
        If an axis is given twice.
    """
    axes = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for a in axes:
        if isinstance(a, (bool, np.bool_)) or not isinstance(a, (int, np.integer)):
            raise TypeError(f"{caller}: axis must be an int, a tuple of ints or None, not {a!r}")
        if not -ndim <= a < ndim:
            raise IndexError(f"{caller}: axis {a} is out of range for a tensor with {ndim} axes")
    axes = tuple(int(a) % ndim for a in axes)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{caller}: an axis is given twice in {axis}")
    return axes


def single(x: Any) -> Any:
    """Return half precision as single, to compute in, and anything else as it is."""
    return x.astype(np.float32) if getattr(x, "dtype", None) == np.float16 else x


def floats(x: Any, caller: str) -> Any:
    """Return `x`, which must hold floats: the work is done in its own dtype, and integers would cut the fractions off.

    Raises
    ------
    TypeError
        If it holds integers or bools.
    """
    if x.dtype.kind != "f":
        raise TypeError(f"{caller}: x must hold floats, not {x.dtype}; use x.astype(np.float32)")
    return x


def count_rows(x: Any) -> int:
    """Return the number of rows along the last axis, which reshape's −1 cannot tell if they are empty."""
    return math.prod(x.shape[:-1])
