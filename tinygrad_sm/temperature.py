"""Temperature scaling: one number T, fitted on held-out data, by which all logits are divided.

It changes no answer, since all logits of a row are divided alike, only how sure the answers are. Source: Guo, Pleiss,
Sun and Weinberger (2017), On Calibration of Modern Neural Networks, section 4.2.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from .derivatives import grad
from .ops.cross_entropy import cross_entropy
from .ops.options import positive, shown
from .tensor import Array, Tensor

STEPS = 200


def fit_temperature(logits: Any, targets: Any, *, bounds: tuple[float, float] = (1e-3, 1e3)) -> float:
    """Return the temperature T > 0 that minimizes the cross-entropy of softmax(logits / T) on held-out data.

    T > 1 says that the model is overconfident, T < 1 that it is underconfident. Newton's steps in t = log T, with first
    and second derivative from the engine, inside a bracket that each step narrows: in 1/T the loss is convex, so it
    has one valley. It computes in float64.

    Parameters
    ----------
    logits : Tensor or array (N, K)
        Of data that the model was not trained on: on its training data it is nearly always right, and T means nothing.
    targets : Tensor or array (N,) of integers
        The right classes.
    bounds : (float, float)
        The range of T.

    Returns
    -------
    float
        T. It is 1 if no temperature changes the loss (all logits of each row are equal).

    Warns
    -----
    RuntimeWarning
        If the lowest loss is at a bound, which is then returned: at the lower one if every held-out answer is right,
        since the loss falls towards T → 0; at the upper one if the model is no better than chance.

    Raises
    ------
    ValueError
        If logits are not finite, or are probabilities, for other shapes, no rows, or bounds that are not
        0 < low < high.
    TypeError
        If the targets are not integers.
    IndexError
        If a target is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_sm.calibration import fit_temperature
    >>> logits = np.array([[4.0, 0.0]] * 4)                  # 98 % sure, and right three times of four:
    >>> t = fit_temperature(logits, [0, 0, 0, 1])            # 4/T should be log 3
    >>> print(f"{t:.4f} {4 / np.log(3):.4f}")
    3.6410 3.6410
    """
    z, y = _checked(logits, targets)
    low, high = _bounds(bounds)
    right = z[np.arange(len(y)), y]
    if not z.any():
        return 1.0
    if not right.any():  # 0 is the largest logit of each row: all are right
        why = f"all {len(y):,} held-out answers are right, so the loss falls as T goes to 0; hold out more, or harder"
        return _stopped(low, why)
    if right.mean() <= z.mean():  # the derivative of the loss by 1/T at 1/T = 0
        why = "the logits of the right classes are on the average no larger than all, so the best T is infinite; are "
        return _stopped(high, f"{why}logits and targets in the same order?")
    low_t, high_t = math.log(low), math.log(high)
    for bound, outside in ((low_t, 1), (high_t, -1)):
        if outside * _slopes(z, y, bound)[0] >= 0:
            return _stopped(math.exp(bound), f"the best temperature is beyond the bounds {low:g} and {high:g}")
    t = min(max(0.0, low_t), high_t)
    for _ in range(STEPS):
        slope, curvature = _slopes(z, y, t)
        if slope > 0:
            high_t = t
        else:
            low_t = t
        step = t - slope / curvature if curvature > 0 else math.inf
        new = step if low_t < step < high_t else (low_t + high_t) / 2
        if abs(new - t) < 1e-12 or slope == 0:
            break
        t = new
    return math.exp(t)


def _slopes(z: Array, y: Array, t: float) -> tuple[float, float]:
    """Return the first and the second derivative of the loss by t = log T."""
    at = Tensor(np.float64(t), requires_grad=True)
    (slope,) = grad(cross_entropy(z * np.exp(-at), y), at, create_graph=True)
    (curvature,) = grad(slope, at)
    return slope.item(), curvature.item()


def _stopped(bound: float, why: str) -> float:
    warnings.warn(f"fit_temperature: stopped at the bound T = {bound:g}: {why}", RuntimeWarning, stacklevel=3)
    return bound


def _bounds(bounds: Any) -> tuple[float, float]:
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise ValueError(f"fit_temperature: bounds must be a pair (low, high), not {shown(bounds)}")
    low, high = (positive(b, "each of the bounds", "fit_temperature") for b in bounds)
    if low >= high:
        raise ValueError(f"fit_temperature: bounds must be 0 < low < high, not {shown(bounds)}")
    return low, high


def _checked(logits: Any, targets: Any) -> tuple[Array, Array]:
    """Return logits as float64, less the largest of each row, and targets."""
    z = np.asarray(logits.data if isinstance(logits, Tensor) else logits)
    if z.dtype.kind not in "fiu" or z.ndim != 2 or z.shape[1] < 2 or not len(z):
        raise ValueError(
            f"fit_temperature: logits must be numbers (N, K) of N ≥ 1 rows, K ≥ 2; got {z.dtype} of shape {z.shape}"
        )
    finite = np.isfinite(z).all(axis=1)
    if not finite.all():
        i = int(np.argmin(finite))
        raise ValueError(
            f"fit_temperature: logits must be finite; row {i} is {shown(z[i].tolist())}, and {(~finite).sum():,} rows "
            "are so. Put a large negative number, such as -1e4, in place of -inf"
        )
    z = z.astype(np.float64)
    if (z > 0).all() and (abs(z.sum(axis=1) - 1) < 1e-3).all():  # as no logits are, but by chance
        raise ValueError(
            f"fit_temperature: it takes logits, but every row is a distribution; row 0 is {shown(z[0].tolist())}. "
            "Pass what went into the softmax, or the log of these probabilities"
        )
    return z - z.max(axis=1, keepdims=True), class_indices(targets, len(z), z.shape[1], "fit_temperature")


def class_indices(targets: Any, n: int, classes: int, caller: str) -> Array:
    """Return `n` class indices as int64 after checking them."""
    y = np.asarray(targets.data if isinstance(targets, Tensor) else targets)
    if y.shape != (n,):
        one_hot = "; of one-hot targets pass targets.argmax(axis=1)" if y.shape == (n, classes) else ""
        one_hot = "; pass targets.ravel()" if y.shape in ((n, 1), (1, n)) else one_hot
        raise ValueError(f"{caller}: targets must have shape ({n},), one for each row; got {y.shape}{one_hot}")
    if y.dtype.kind not in "iu":
        raise TypeError(f"{caller}: targets must be integers, the indices of the classes, not {y.dtype}: .astype(int)")
    out = (y < 0) | (y >= classes)
    if out.any():
        i = int(np.argmax(out))
        raise IndexError(
            f"{caller}: target {y[i]} of row {i} is out of range for {classes} classes; {out.sum():,} are. To leave "
            "rows out, select the others of both: probabilities[keep], targets[keep]"
        )
    return y.astype(np.int64)
