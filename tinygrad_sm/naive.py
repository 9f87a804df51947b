"""What goes wrong: softmax and cross-entropy written straight from their formulas, for teaching.

Each equals its stable twin where it does not fail, and differentiates like any other composition of ops. The failures
are those of "Primer on Softmax": exp overflows, and log meets a probability that underflowed to 0. NumPy warns.
"""

from __future__ import annotations

from typing import Any

from .ops.arguments import operand
from .ops.arithmetic import exp, log
from .ops.indexing import one_hot


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(z) / Σ exp(z), which is inf/inf = NaN for logits of 1000, and 0/0 = NaN for −1000.

    `x` are logits of any shape, and `axis` is that of the classes.

    >>> import numpy as np, tinygrad_sm as sm
    >>> with np.errstate(over="ignore", invalid="ignore"):
    ...     sm.naive.softmax(sm.Tensor([1000.0, 1000.0]))
    Tensor([nan, nan])
    """
    e = exp(x)
    return e / e.sum(axis=axis, keepdims=True)


def stable_softmax(x: Any, axis: int = -1) -> Any:
    """Do the same with the maximum subtracted first, which cannot overflow; step by step, in simple ops.

    `x` are logits of any shape, and `axis` is that of the classes.

    >>> import tinygrad_sm as sm
    >>> sm.naive.stable_softmax(sm.Tensor([1000.0, 1000.0]))
    Tensor([0.5, 0.5])
    """
    z = x - x.max(axis=axis, keepdims=True)
    return softmax(z, axis)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """Return the log of the (stable) softmax, which is −inf where a probability underflowed to 0.

    `x` are logits of any shape, and `axis` is that of the classes.

    >>> import numpy as np, tinygrad_sm as sm
    >>> with np.errstate(divide="ignore"):
    ...     sm.naive.log_softmax(sm.Tensor([-1.0, 10.0, 5000.0]))
    Tensor([-inf, -inf,   0.])
    """
    return log(stable_softmax(x, axis))


def cross_entropy(logits: Any, target: Any, axis: int = -1) -> Any:
    """Mean of −Σ y·log softmax(z) with one-hot y: 0·(−inf) = NaN where another class underflowed.

    `logits` are of any shape, `axis` is that of the classes, and `target` are class indices, of the other axes.

    >>> import tinygrad_sm as sm
    >>> print(f"{sm.naive.cross_entropy(sm.Tensor([[1.0, 2.0, 3.0]]), [2]):.4f}")
    0.4076
    """
    logits = operand(logits)
    y = one_hot(target, logits.shape[axis], dtype=logits.dtype)
    if axis not in (-1, logits.ndim - 1):
        order = list(range(logits.ndim - 1))
        order.insert(axis % logits.ndim, logits.ndim - 1)
        y = y.transpose(order)
    losses = -(y * log_softmax(logits, axis)).sum(axis=axis)
    return losses.mean()


def mae_loss(logits: Any, target: Any) -> Any:
    """Mean of 1 − softmax(z)[y]: its gradient p_y·(1 − p_y) vanishes where the model is wrong and sure of it.

    `logits` are (…, C), and `target` (…) class indices.

    >>> import tinygrad_sm as sm
    >>> z = sm.Tensor([[10.0, 0.0]], requires_grad=True)
    >>> print(f"{sm.naive.mae_loss(z, [1]).item():.4f}")
    1.0000
    """
    logits = operand(logits)
    y = one_hot(target, logits.shape[-1], dtype=logits.dtype)
    return (1 - (y * stable_softmax(logits)).sum(axis=-1)).mean()
