"""Derivatives by differences, each with how far it can be trusted.

The central difference C(h) = (f(x + h) − f(x − h)) / 2h errs twice: it cuts off h²·f‴/6 of the Taylor series, and the
rounding of f, about ε·|f|, is divided by h. A small step is cheap to trust where f is of ordinary size, and keeps away
from kinks; but beside f = 1e9 it drowns in rounding. So `slopes` is for every entry, and `careful` for the few that
disagree with the gradient: it climbs a ladder of steps, and takes the one where both errors together are least.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..tensor import Array, Tensor

Evaluate = Callable[[], Sequence[Tensor]]
# Steps, as multiples of the usual one; not round numbers, or all would be cut alike where f adds x to a large number.
LADDER = tuple(8.6**k for k in range(-3, 6))
EPSILON = float(np.finfo(np.float64).eps)


class Estimate(NamedTuple):
    """A derivative by differences, what it may be wrong by, and the differences to the left and to the right."""

    value: float
    uncertainty: float
    left: float
    right: float


def moved(evaluate: Evaluate, leaf: Tensor, index: tuple[int, ...], step: float) -> tuple[list[Array], float]:
    """Return the outputs with one entry of a leaf moved by `step`, and where it then stands."""
    kept = leaf.data
    data = kept.copy()
    data[index] += step
    leaf.data = data
    try:
        return [y.data for y in evaluate()], float(data[index])
    finally:
        leaf.data = kept


def slopes(
    evaluate: Evaluate, leaf: Tensor, index: tuple[int, ...], eps: float, cotangents: Sequence[Array]
) -> list[float]:
    """Return the derivative of each Σ y·c with respect to one entry of a leaf: its central difference.

    Outputs are subtracted before they are summed, so that those which stay the same add no rounding.
    """
    h = eps * max(1.0, abs(float(leaf.data[index])))
    (up, b), (down, a) = (moved(evaluate, leaf, index, step) for step in (h, -h))
    return [float((c * (u - d)).sum() / (b - a)) for c, u, d in zip(cotangents, up, down, strict=True)]


def careful(
    evaluate: Evaluate, leaf: Tensor, index: tuple[int, ...], eps: float, output: int, cotangent: Array
) -> Estimate:
    """Return the derivative of Σ y·c with respect to one entry of a leaf, as well as differences can tell it.

    Of the central differences at the steps of the ladder, take the one with the least doubt. What a step cuts off, and
    whether it reaches over a kink or a pole, shows beside the next smaller or wider step. Rounding does at least a few
    ε·|f| / h; how much it really does, second differences f(x + h) − 2f(x) + f(x − h) at the small steps show, of which
    a smooth function leaves next to nothing.
    """
    unit = eps * max(1.0, abs(float(leaf.data[index])))
    here = moved(evaluate, leaf, index, 0.0)[0][output]
    steps, values, bends, sides = [m * unit for m in LADDER], [], [], []
    for h in steps:
        (u, b), (d, a) = ((y[output], at) for y, at in (moved(evaluate, leaf, index, step) for step in (h, -h)))
        right, left = float((cotangent * (u - here)).sum()), float((cotangent * (here - d)).sum())
        values.append((right + left) / (b - a) if b > a else np.nan)
        bends.append(abs(right - left))
        sides.append((left / h, right / h))
    size = float(np.abs(cotangent * here).sum())
    # What is more than single precision would lose is no rounding: f jumps, or is drawn anew each time.
    measured = max((bend for bend in bends[: LADDER.index(1.0) + 1] if np.isfinite(bend)), default=0.0)
    rounding = 8 * EPSILON * size + min(measured, 1e-7 * max(size, float(np.abs(cotangent).sum())))
    gaps = np.abs(np.diff([np.nan, *values, np.nan]))
    gaps = np.fmin(gaps[:-1], gaps[1:])
    doubts = np.nan_to_num(gaps + [rounding / h for h in steps], nan=np.inf)
    best = int(doubts.argmin())
    value, noise = (values[best] if np.isfinite(doubts[best]) else np.nan), rounding / steps[best]
    # A wide gap is forgiven if rounding forbade a smaller step; else f is not smooth, and nothing can be told.
    gap = min(float(gaps[best]), max(0.01 * abs(value), 1000 * noise))
    return Estimate(value, gap + noise, *sides[LADDER.index(1.0)])
