"""Rotary positions: pairs of features turned by angles that grow with the position."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..op import Op
from ..tensor import Array, Tensor
from .arguments import floats, operand
from .options import positive
from .sample import call


def _turn(x: Array, angles: Array) -> Array:
    half = x.shape[-1] // 2
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    a, b, y = x[..., :half], x[..., half:], np.empty(x.shape, x.dtype)
    np.subtract(a * cos, b * sin, out=y[..., :half])
    np.add(b * cos, a * sin, out=y[..., half:])
    return y


_rotary: Op = Op(
    _turn,
    (lambda g, y, x, angles: _rotary(g, angles=-angles),),  # a rotation's transpose turns back
    name="rotary",
    formula="(a·cos φ − b·sin φ, b·cos φ + a·sin φ), with x = (a, b) in halves",
    gradient="(c·cos φ + d·sin φ, d·cos φ − c·sin φ), with g = (c, d)",
    latex=(r"(a \cos\varphi - b \sin\varphi,\; b \cos\varphi + a \sin\varphi),\; x = (a, b)",
           r"(c \cos\varphi + d \sin\varphi,\; d \cos\varphi - c \sin\varphi),\; g = (c, d)"),
    samples=[call((3, 4), angles=np.array([[0.0, 0.0], [1.0, 0.1], [2.0, 0.2]])),
             call((2, 3, 2), angles=np.array([[0.0], [0.5], [-2.5]]))],
)  # fmt: skip


@lru_cache(maxsize=16)
def _rates(half: int, base: float) -> Array:
    rates = base ** (-np.arange(half) / half)
    rates.flags.writeable = False
    return rates


def rotary(x: Any, positions: Any = None, *, base: float = 10000.0) -> Any:
    """Turn each vector by its position, pair by pair of features: rotary position embedding, RoPE (Su et al. 2021).

    Features i and i + d/2 of position t are turned as a point of the plane by the angle φ = t·base^(−2i/d). Applied to
    queries and keys, it makes their product q·k depend on the *distance* of the two positions only, for turning both
    by the same angle changes nothing.

    Parameters
    ----------
    x : Tensor or array_like of floats, (…, T, d)
        d is even.
    positions : array_like of numbers, (T,) or broadcast to (…, T), optional
        0 … T − 1 by default.
    base : float
        The last pair takes about 2π·base positions to turn once.

    Returns
    -------
    Tensor (or ndarray for arrays)
        Of the shape and dtype of `x`; the angles are taken in double precision.

    Raises
    ------
    TypeError
        For an `x` that does not hold floats, or a base that is not a number.
    ValueError
        For an odd d, fewer than two axes, positions that do not fit, or a base that is not positive.

    Notes
    -----
    Some weights (of the original LLaMA, of GGUF files) turn the pairs (0, 1), (2, 3), … instead: the same with another
    order of the rows of the query and key weights. `sm.pretrained` puts them in order when it reads such a file.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> F = sm.functional
    >>> q, k = np.random.default_rng(0).normal(size=(2, 8))
    >>> products = [(F.rotary(q[None], [t]) @ F.rotary(k[None], [t + 3]).T).item() for t in (0, 5, 1000)]
    >>> max(products) - min(products) < 1e-9  # the distance is 3 each time
    True
    """
    base, x = positive(base, "base", "rotary"), floats(operand(x), "rotary")
    if x.ndim < 2 or x.shape[-1] % 2:
        raise ValueError(f"rotary: x must be (…, T, d) with an even d, not {x.shape}")
    positions = positions.data if isinstance(positions, Tensor) else positions
    positions = np.arange(x.shape[-2]) if positions is None else np.asarray(positions)
    if positions.dtype.kind not in "iuf":
        raise TypeError(f"rotary: positions must be numbers, not {positions.dtype}")
    fits = positions.ndim >= 1 and positions.shape[-1] in (1, x.shape[-2]) and positions.ndim < x.ndim
    lead = x.shape[-1 - positions.ndim : -1]
    if not fits or any(a not in (1, b) for a, b in zip(positions.shape, lead, strict=True)):
        raise ValueError(f"rotary: positions of shape {positions.shape} do not fit x {x.shape}: one for each of its T")
    return _rotary(x, angles=positions[..., None] * _rates(x.shape[-1] // 2, base))
