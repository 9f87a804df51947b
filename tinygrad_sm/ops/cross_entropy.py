"""Cross-entropy of logits: its backward pass *is* p − y, one array, made in the forward pass.

`cross_entropy` checks and arranges its input (class axis last, targets as integers or probabilities); the kernels
see rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Op
from ..tensor import Array, Tensor
from .arguments import operand
from .arithmetic import where
from .blocked import row_blocks
from .loss import (
    SAMPLE_OPTIONS,
    SAMPLE_TARGET,
    check_indices,
    check_reduction,
    check_weight,
    classes_last,
    importance,
    nll_loss,
    reduced,
    share,
)  # fmt: skip
from .sample import call
from .shape import moveaxis
from .softmax import as_rows, exp_rows, log_softmax

# -- cross-entropy with class indices -----------------------------------------------------------


def _cross_entropy_forward(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Array, Array]:
    # With eⱼ = exp(zⱼ − max) and s = Σ eⱼ, the loss of a row is log s − (z_y − max) and its gradient
    # p − [j = y]. Label smoothing puts q = (1 − ε)·[j = y] + ε/V in place of [j = y]; class weights w give
    # q·w. Both are one formula: with the shares a = (1 − ε)·w_y and b = ε/V of a row,
    #   loss = a·(log s − d_y) + b·Σⱼ wⱼ·(log s − dⱼ),    gradient = (a + b·Σ w)·p − a·[j = y] − b·w
    z = as_rows(logits)
    n_classes = z.shape[1]
    safe, w, total = importance(target.reshape(-1), weight, ignore_index, z.dtype)
    classes = np.ones(n_classes, z.dtype) if weight is None else weight.astype(z.dtype)
    mass, live = classes.sum(), classes != 0  # a class of weight 0 may have the logit −inf
    a = (1 - label_smoothing) * w
    b = (target.reshape(-1) != ignore_index).astype(z.dtype) * z.dtype.type(label_smoothing / n_classes)
    share_a, share_b = share(a, total, reduction), share(b, total, reduction)
    losses, residual = np.empty(len(z), z.dtype), np.empty_like(z, order="C")
    for block in row_blocks(len(z), z.shape[1] * z.itemsize):
        e, y = residual[block], safe[block]
        rows = np.arange(len(y))
        top, peak, rest = exp_rows(z[block], e)
        s, log_s, e_y = 1 + rest, np.log1p(rest), e[rows, y]
        nll = np.where(w[block] == 0, 0, log_s - (z[block][rows, y] - peak))  # what counts for nothing may be inf
        losses[block] = a[block] * nll
        others = np.where(y == top, rest, s - e_y)  # Σ e without e_y; p_y − 1 = −others/s keeps all digits
        if label_smoothing:
            away = (z[block][:, live] - peak[:, None]) @ classes[live]
            losses[block] += b[block] * np.where(b[block] == 0, 0, log_s * mass - away)
        ca, cb = share_a[block], share_b[block]
        e *= ((ca + cb * mass) / s)[:, None]
        e[rows, y] = -ca * (others / s) + cb * (mass * (e_y / s))
        if label_smoothing:
            e -= cb[:, None] * classes
    out = reduced(losses.reshape(target.shape), total, reduction)
    return np.asarray(out, logits.dtype), residual


def _cross_entropy_vjp(g: Array, y: Array, residual: Array, logits: Array, target: Any, **options: Any) -> Any:
    if g.ndim:  # reduction="none": each row has its own cotangent
        residual *= g.reshape(-1, 1)
    elif g != 1:
        residual *= g
    return (residual if residual.shape == logits.shape else residual.reshape(logits.shape)), None


def _cross_entropy_definition(
    logits: Any, target: Array, *, label_smoothing: float = 0.0, reduction: str = "mean", **options: Any
) -> Any:
    log_probs = log_softmax(logits, -1)
    nll = nll_loss(log_probs, target, reduction=reduction, **options)
    if not label_smoothing:
        return nll
    # The uniform part of the smoothed target: the mean over classes of −w·log p, weighted like nll.
    weight, ignore_index = options.get("weight"), options.get("ignore_index", -100)
    _, _, total = importance(target, weight, ignore_index, logits.dtype)
    if weight is not None:
        log_probs = where(weight == 0, 0.0, log_probs) * np.asarray(weight, logits.dtype)
    uniform = where(target != ignore_index, -log_probs.mean(axis=-1), 0.0)
    return (1 - label_smoothing) * nll + label_smoothing * reduced(uniform, total, reduction)


_cross_entropy = Op(
    _cross_entropy_forward,
    _cross_entropy_vjp,
    name="cross_entropy",
    definition=_cross_entropy_definition,
    formula="mean(log Σ exp(z) − z[y])",
    gradient="g·(p − y)/N",
    latex=(r"\tfrac1N \textstyle\sum_n (\log \sum_j e^{z_{nj}} - z_{n, y_n})", r"g\,(p - y) / N"),
    samples=[
        *(call((3, 4), SAMPLE_TARGET, **options) for options in SAMPLE_OPTIONS),
        *(call((3, 4), SAMPLE_TARGET, label_smoothing=0.1, **options) for options in SAMPLE_OPTIONS),
        call((3, 2, 4), np.array([[1, 0], [3, 3], [2, 0]])),
    ],
)


# -- cross-entropy with probabilities -----------------------------------------------------------


def _soft_forward(
    logits: Array, target: Array, weight: Any = None, label_smoothing: float = 0.0, reduction: str = "mean"
) -> tuple[Array, Array]:
    # With the weighted target q and its sum Q:  loss = Q·log s − Σ q·d,  gradient = Q·p − q
    z = as_rows(logits)
    q = _smoothed(as_rows(target).astype(z.dtype, copy=False), weight, label_smoothing)
    count = len(z)
    losses, residual = np.empty(count, z.dtype), np.empty_like(z, order="C")
    for block in row_blocks(count, z.shape[1] * z.itemsize):
        e, t = residual[block], q[block]
        _, peak, rest = exp_rows(z[block], e)
        mass, d = t.sum(axis=1), z[block] - peak[:, None]
        losses[block] = mass * np.log1p(rest) - (t * np.where(t == 0, 0, d)).sum(axis=1)  # 0·log 0 is 0
        e *= (mass / (1 + rest))[:, None]
        e -= t
        if reduction == "mean":
            e /= count
    out = reduced(losses.reshape(logits.shape[:-1]), count, reduction)
    return np.asarray(out, logits.dtype), residual


def _smoothed(target: Any, weight: Any, label_smoothing: float) -> Any:
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing / target.shape[-1]
    return target if weight is None else target * np.asarray(weight, target.dtype)


def _soft_definition(
    logits: Any, target: Any, *, weight: Any = None, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Any:
    q, log_probs = _smoothed(target, weight, label_smoothing), log_softmax(logits, -1)
    hidden = np.logical_and(np.equal(q, 0), np.isinf(log_probs))  # 0·log 0 is 0
    losses = -(q * where(hidden, 0.0, log_probs)).sum(axis=-1)
    return reduced(losses, losses.size, reduction)


SOFT = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 1.0, 0.0], [0.25, 0.25, 0.5, 0.0]])
_soft_cross_entropy = Op(
    _soft_forward,
    _cross_entropy_vjp,
    name="soft_cross_entropy",
    definition=_soft_definition,
    formula="−mean(Σ q·log p)",
    gradient="g·(p − q)/N",
    latex=(r"-\tfrac1N \textstyle\sum_n \sum_j q_{nj} \log p_{nj}", r"g\,(p - q) / N"),
    samples=[
        call((3, 4), SOFT), call((3, 4), SOFT, reduction="none", label_smoothing=0.1),
        call((3, 4), SOFT, weight=np.array([1.0, 0.5, 2.0, 0.0]), reduction="sum"),
    ],
)  # fmt: skip


# -- what users call ----------------------------------------------------------------------------


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = -1,
) -> Any:
    """Cross-entropy of softmax(logits) with class indices or probabilities: −Σ q·log softmax(z).

    Feed it logits, not probabilities: it is log_softmax and nll_loss in one, and its gradient is p − y.

    Parameters
    ----------
    logits : Tensor or array_like of floats, (..., C, ...)
        Unnormalized scores, with the classes along `axis`.
    target : array_like
        Integers are class indices, of the shape of the logits without the class axis. Floats of the logits'
        shape are probabilities (which need not sum to 1: the loss is what the formula gives).
    weight : array_like (C,), optional
        The weight of each class.
    ignore_index : int
        Index targets with this value count for nothing.
    label_smoothing : float in [0, 1]
        ε: the target becomes (1 − ε)·y + ε/C (Szegedy et al. 2015).
    reduction : {"mean", "sum", "none"}
        The mean over class indices divides by the sum of the weights of the targets that count (0 if none
        does); over probabilities, by their number.
    axis : int
        The class axis. `axis=1` is PyTorch's layout.

    Returns
    -------
    Tensor (or ndarray for arrays)
        The loss in nats.

    Raises
    ------
    IndexError
        For a class out of range.
    TypeError
        For integer logits, float indices, integer one-hot targets.
    ValueError
        For shapes that don't fit, smoothing outside [0, 1], negative weights, an unknown reduction.

    Notes
    -----
    Source: "Primer on Softmax", section Why do we use Cross Entropy Loss with Softmax. Its derivation treats the
    true class only; ∂L/∂zᵢ = pᵢ − yᵢ holds for all.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> z = sm.Tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    >>> loss = sm.cross_entropy(z, [2])
    >>> loss.backward()
    >>> print(f"{loss:.4f}", z.grad.data.round(3))
    0.4076 [[ 0.09   0.245 -0.335]]
    """
    caller = "cross_entropy"
    logits = classes_last(logits, axis, caller)
    check_reduction(reduction, caller)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{caller}: label_smoothing must be in [0, 1], not {label_smoothing}")
    weight = check_weight(weight, logits.shape[-1], caller)
    target = operand(target)
    if target.dtype.kind != "f":
        target = check_indices(target, logits, ignore_index, caller)
        return _cross_entropy(
            logits, target, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing,
            reduction=reduction,
        )  # fmt: skip
    if target.ndim == logits.ndim and axis not in (-1, logits.ndim - 1):
        target = moveaxis(target, axis, -1)
    if target.shape != logits.shape:
        hint = "; class indices must be integers" if target.shape == logits.shape[:-1] else ""
        kind: type[Exception] = TypeError if hint else ValueError
        raise kind(f"{caller}: probabilities of shape {target.shape} for logits of shape {logits.shape}{hint}")
    if ignore_index != -100:
        raise ValueError(f"{caller}: ignore_index is for class indices; give a row of zeros to ignore one here")
    learned = isinstance(target, Tensor) and target.requires_grad
    loss = _soft_definition if learned else _soft_cross_entropy
    return loss(logits, target, weight=weight, label_smoothing=label_smoothing, reduction=reduction)
