"""Cross-entropy of logits: its backward pass *is* p − y, one array, made in the forward pass.

`cross_entropy` checks and arranges its input (class axis last, targets as integers or probabilities); the kernels
see rows.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from ..mode import MODE
from ..op import Op
from ..tensor import Array, Tensor
from .arithmetic import where
from .blocked import each
from .loss import (
    SAMPLE_OPTIONS,
    SAMPLE_TARGET,
    check_arguments,
    check_indices,
    check_probabilities,
    check_reduction,
    check_weight,
    classes_last,
    importance,
    nll_loss,
    reduced,
)  # fmt: skip
from .options import refuse, within
from .sample import call
from .softmax import as_rows, blocks, exp_rows, from_rows, is_short, log_softmax, quiet, without
from .sums import column, dots

SMALL = 1 << 14  # logits for which the number of NumPy calls matters more than anything else

# -- cross-entropy with class indices -----------------------------------------------------------


def _cross_entropy_forward(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Array, Array]:
    # The loss of a row is −log p_y and its gradient p − [j = y]. Label smoothing puts q = (1 − ε)·[j = y] + ε/V in
    # place of [j = y]; class weights w give q·w. Both are one formula: with the shares a = (1 − ε)·w_y and b = ε/V,
    #   loss = −a·log p_y − b·Σⱼ wⱼ·log pⱼ,    gradient = (a + b·Σ w)·p − a·[j = y] − b·w
    target = target.reshape(-1)
    plain = weight is None and not label_smoothing
    if plain and is_short(logits) and logits.size <= SMALL and not np.count_nonzero(target == ignore_index):
        return _few_short_rows(logits, target, reduction)
    z = as_rows(logits)
    safe, w, total = importance(target, weight, ignore_index, np.float64)
    scale = 1 / total if reduction == "mean" and total else 1.0
    a, b = (1 - label_smoothing) * w, None
    if label_smoothing:
        b = (target != ignore_index) * (label_smoothing / z.shape[1])
        classes = np.ones(z.shape[1], z.dtype) if weight is None else weight.astype(z.dtype)
        mass, unseen = float(classes.sum(dtype=np.float64)), np.flatnonzero(classes == 0)
    losses, residual = np.empty(len(z)), np.empty_like(z, order="C")

    def kernel(block: slice) -> None:
        e, a_ = residual[block], a[block]
        d = None if b is None else np.empty_like(e)
        at, peak, top, rest, _ = exp_rows(z[block], e, logits.dtype, d=d)
        at_y, norm, log_norm = (at[0], safe[block]), (1 + rest) * top, np.log1p(rest)
        e_y = e[at_y].astype(np.float64)
        others = (rest + (1 - e_y / top)) / (1 + rest)  # Σ p without p_y. As −others, no digit of p_y − 1 is lost
        losses[block] = _counted(a_, log_norm - (z[block][at_y] - peak))
        if b is None or d is None:
            share = scale * a_
            e *= column(share / norm, e)
            e[at_y] = -share * others
        else:
            b_ = b[block]
            d[:, unseen] = 0  # it may be −inf
            losses[block] += _counted(b_, log_norm * mass - dots(d, classes))
            e *= column(scale * (a_ + b_ * mass) / norm, e)
            e -= column(scale * b_, e) if weight is None else column(scale * b_, e) * classes
            e[at_y] = scale * (b_ * (mass * e_y / norm - classes[at_y[1]]) - a_ * others)

    with quiet():
        each(kernel, blocks(z))
        out = reduced(losses.reshape(logits.shape[:-1]), total, reduction)
        return np.asarray(out, logits.dtype), from_rows(residual, logits, dtype=_precise(logits))


def _few_short_rows(logits: Array, target: Array, reduction: str) -> tuple[Array, Array]:
    """Do the same for a few short rows in half the time: in double precision, with the classes along the first axis.

    In double precision 1 + rest and p − 1 keep enough digits of a result in single precision, unless `rest` is tiny.
    """
    z = np.array(logits.reshape(len(target), logits.shape[-1]).T, np.float64, order="C")  # (V, N)
    at_y, scale = (target, np.arange(len(target))), 1 / max(len(target), 1) if reduction == "mean" else 1.0
    with quiet():
        z -= np.maximum.reduce(z, axis=0)
        e = np.exp(z)
        norm = np.add.reduce(e, axis=0)
        log_norm, others = np.log(norm), None
        if not np.minimum.reduce(norm, initial=2) > 1 + 2e-8:  # nor is NaN
            at, e_y = (z.argmax(axis=0), at_y[1]), e[at_y]
            top = e[at]
            e[at] = top - top  # 0; but NaN stays
            rest = np.add.reduce(e, axis=0)
            e[at] = top
            log_norm, others = np.log1p(rest), (rest + (1 - e_y)) / norm
        losses = log_norm - z[at_y]
        e *= scale / norm
        if others is None:
            e[at_y] -= scale
        else:
            e[at_y] = -scale * others
        out = losses.reshape(logits.shape[:-1]) if reduction == "none" else np.add.reduce(losses) * scale
        residual = np.array(e.T, _precise(logits), order="C").reshape(logits.shape)
        return np.asarray(out, logits.dtype), residual


def _precise(logits: Array) -> Any:
    """Return the dtype of a residual: half would round p − y before a large cotangent, a loss scale, comes."""
    return np.promote_types(logits.dtype, np.float32)


def _counted(share: Array, loss: Array) -> Array:
    """Return share·loss, where 0·∞ is 0."""
    return share * loss if share.all() else share * np.where(share == 0, 0, loss)


def _cross_entropy_vjp(g: Array, y: Array, residual: Array, logits: Array, target: Any, **options: Any) -> Any:
    if g.ndim:  # reduction="none": each row has its own cotangent
        residual *= g[..., None]
    elif g != 1:
        residual *= g
    return residual, None


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
    formula="mean(log Σⱼ exp(zⱼ) − z[y])",
    gradient="g·(p − y)/N, with p = softmax(z)",
    latex=(
        r"\tfrac1N \textstyle\sum_n (\log \sum_j e^{z_{nj}} - z_{n, y_n})",
        r"g\,(p - y) / N,\; p = \mathrm{softmax}(z)",
    ),
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
    # With the weighted target q and its sum Q:  loss = −Σ q·log p = Q·log(1 + rest) − Σ q·(z − max), and the gradient
    # is Q·p − q. At the maximum, with R for the sum of the other q, that is (R − q_top·rest) / (1 + rest).
    z, targets = as_rows(logits), as_rows(target)
    scale = 1 / len(z) if reduction == "mean" and len(z) else 1.0
    losses, residual = np.empty(len(z)), np.empty_like(z, order="C")

    def kernel(block: slice) -> None:
        e = residual[block]
        q = np.array(_smoothed(targets[block].astype(e.dtype, copy=False), weight, label_smoothing))
        at, peak, top, rest, _ = exp_rows(z[block], e, logits.dtype)
        others = without(q, at)
        mass = others + q[at]
        d = z[block] - peak[:, None]
        losses[block] = mass * np.log1p(rest) - (np.where(q == 0, 0, d) * q).sum(axis=1)  # 0·log 0 is 0
        e *= column(mass / ((1 + rest) * top), e)
        e -= q
        e[at] = (others - q[at] * rest) / (1 + rest)
        if scale != 1.0:
            e *= scale

    with quiet():
        each(kernel, blocks(z))
        out = reduced(losses.reshape(logits.shape[:-1]), len(z), reduction)
        return np.asarray(out, logits.dtype), from_rows(residual, logits, dtype=_precise(logits))


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
    formula="−mean(Σⱼ qⱼ·log pⱼ), with p = softmax(z)",
    gradient="g·(p − q)/N, with p = softmax(z)",
    latex=(r"-\tfrac1N \textstyle\sum_n \sum_j q_{nj} \log p_{nj},\; p = \mathrm{softmax}(z)",
           r"g\,(p - q) / N,\; p = \mathrm{softmax}(z)"),
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
    **other: NoReturn,
) -> Any:
    """Cross-entropy of softmax(logits) with class indices or probabilities: −Σ q·log softmax(z).

    Feed it logits, not probabilities: it is log_softmax and nll_loss in one, and its gradient is p − y.

    Parameters
    ----------
    logits : Tensor or array_like of floats, (..., C, ...)
        Unnormalized scores, with the classes along `axis`.
    target : array_like
        Integers (signed or unsigned, of any width) are class indices, of the shape of the logits without the class
        axis. Floats of the logits' shape are probabilities. That these are not negative and sum to 1 is not
        checked here, which would be another pass over them, but under `sm.detect_anomaly()`; the loss is what the
        formula gives, and its gradient Σq·p − q.
    weight : array_like (C,), optional
        The weight of each class, finite and ≥ 0.
    ignore_index : int
        Index targets with this value count for nothing. Not for probabilities: leave such rows out.
    label_smoothing : float in [0, 1]
        ε: the target becomes (1 − ε)·y + ε/C (Szegedy et al. 2015).
    reduction : {"mean", "sum", "none"}
        The mean over class indices divides by the sum of the weights of the targets that count, and is 0, with
        zero gradient, if none does; over probabilities, it divides by their number.
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
        For integer logits, float indices, one-hot targets of integers or bools.
    ValueError
        For shapes that don't fit, no classes, smoothing outside [0, 1], negative weights, an unknown reduction,
        probabilities with `ignore_index`.

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
    refuse(other, cross_entropy, caller)
    logits, target = check_arguments(logits, target, axis, caller)
    check_reduction(reduction, caller)
    label_smoothing = within(label_smoothing, 0, 1, "label_smoothing", caller, closed=True)
    shape, logits = logits.shape, classes_last(logits, axis)
    weight = check_weight(weight, logits.shape[-1], caller)
    if target.dtype.kind != "f" or target.ndim < len(shape):
        target = check_indices(target, shape, axis, ignore_index, caller, probabilities=True)
        return _cross_entropy(
            logits, target, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing,
            reduction=reduction,
        )  # fmt: skip
    if target.shape != shape:
        raise ValueError(
            f"{caller}: float targets are probabilities, of the logits' shape {shape}, not {target.shape}; class "
            "indices are integers"
        )
    if ignore_index != -100:
        raise ValueError(
            f"{caller}: ignore_index={ignore_index!r} is for class indices; with probabilities, leave rows out instead"
        )
    target = classes_last(target, axis)
    if (watch := MODE.get().watch) and watch.strict:
        check_probabilities(target, caller)
    learned = isinstance(target, Tensor) and target.requires_grad
    if learned and target.dtype != logits.dtype:
        target = target.astype(logits.dtype)  # the loss has the dtype of the logits, as in the fused form
    loss = _soft_definition if learned else _soft_cross_entropy
    return loss(logits, target, weight=weight, label_smoothing=label_smoothing, reduction=reduction)
