"""What the results should be: definitions, evaluated by mpmath on the floats that they are given."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import mpmath
import numpy as np

# 1 − p may be 1e-324, the smallest float64, and shall have 50 digits: with this many, plain definitions do.
mpmath.mp.dps = 380
mpf = mpmath.mpf
SMOOTHING = 0.1
SAMPLE = 300  # of longer rows, only so many entries are compared (the sums are over all)


class Row:
    """One row of logits, with its probabilities; `y` is one of the entries that are compared."""

    def __init__(self, z: Any, y: int) -> None:
        self.n, self.y = len(z), y
        self.values, self.back = np.unique(z, return_inverse=True)  # equal logits need one exponential
        e = [mpmath.exp(mpf(v)) if np.isfinite(v) else mpf(0) for v in self.values.tolist()]
        self.total = mpmath.fsum(int(n) * x for n, x in zip(np.bincount(self.back), e, strict=True))
        self.lse = mpmath.log(self.total)
        shares = [x / self.total for x in e]
        self.p = [shares[i] for i in self.back]
        step = max(1, len(z) // SAMPLE)
        self.seen = np.unique([*range(0, len(z), step), int(np.argmax(z)), y]).tolist()

    @cached_property
    def log_p(self) -> list[Any]:
        logs = [mpf(v) - self.lse for v in self.values.tolist()]
        return [logs[i] for i in self.back]

    def softmax_vjp(self, g: Sequence[Any]) -> list[Any]:
        """pᵢ·(gᵢ − Σ g·p)."""
        mean = mpmath.fdot(self.p, g)
        return [self.p[i] * (g[i] - mean) for i in self.seen]

    def log_softmax_vjp(self, g: Sequence[Any]) -> list[Any]:
        """gᵢ − pᵢ·Σ g; with g = −q, the gradient of cross-entropy."""
        total = mpmath.fsum(g)
        return [g[i] - self.p[i] * total for i in self.seen]

    def cross_entropy(self, q: Sequence[Any]) -> Any:
        """−Σ q·log p, where 0·log 0 is 0."""
        return -mpmath.fsum(a * b for a, b in zip(q, self.log_p, strict=True) if a)

    def one_hot(self, value: int = 1) -> list[Any]:
        return [mpf(value) if i == self.y else mpf(0) for i in range(self.n)]

    def smoothed(self, weight: Sequence[Any] | None = None) -> list[Any]:
        """(1 − ε)·[i = y] + ε/n, times the weight of class i."""
        low, high = mpf(SMOOTHING) / self.n, 1 - mpf(SMOOTHING)
        q = [low + high if i == self.y else low for i in range(self.n)]
        return q if weight is None else [w * x for w, x in zip(weight, q, strict=True)]


def exactly(x: Any) -> list[Any]:
    """Return the floats of an array as exact numbers."""
    values, back = np.unique(x, return_inverse=True)
    numbers = [mpf(v) for v in values.tolist()]
    return [numbers[i] for i in back.tolist()]


def negative(q: Sequence[Any]) -> list[Any]:
    """Return −q."""
    return [-x for x in q]


def results(row: Row, g: Any, q: Any, weight: Any) -> dict[str, list[Any]]:
    """Return all quantities of a row for a cotangent, probabilities and class weights: at `row.seen`, or one number."""
    g, q, w = exactly(g), exactly(q), exactly(weight)
    hot, smoothed, weighted = row.one_hot(), row.smoothed(), row.smoothed(w)
    to_logits = row.log_softmax_vjp(negative(hot))
    return {
        "softmax": [row.p[i] for i in row.seen],
        "log_softmax": [row.log_p[i] for i in row.seen],
        "logsumexp": [row.lse],
        "cross_entropy": [-row.log_p[row.y]],
        "cross_entropy, smoothed": [row.cross_entropy(smoothed)],
        "cross_entropy, smoothed and weighted": [row.cross_entropy(weighted)],
        "cross_entropy, probabilities": [row.cross_entropy(q)],
        "p_y - 1": [row.p[row.y] - 1],
        "gradient of cross_entropy": to_logits,
        "gradient, smoothed": row.log_softmax_vjp(negative(smoothed)),
        "gradient, smoothed and weighted": row.log_softmax_vjp(negative(weighted)),
        "gradient, probabilities": row.log_softmax_vjp(negative(q)),
        "gradient, one-hot probabilities": to_logits,
        "gradient of softmax": row.softmax_vjp(g),
        "gradient of softmax, one-hot": row.softmax_vjp(hot),
        "gradient of log_softmax": row.log_softmax_vjp(g),
        "gradient of log_softmax, one-hot": negative(to_logits),
        "gradient of logsumexp": [row.p[i] for i in row.seen],
    }
