"""Losses on log-probabilities and on plain numbers, and what they share with `cross_entropy.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Op
from ..tensor import Array, as_array
from .arguments import operand
from .arithmetic import abs as absolute
from .arithmetic import log, square, where
from .indexing import _put
from .sample import call
from .shape import moveaxis
from .softmax import check_logits

SAMPLE_TARGET = np.array([1, 0, 3])
SAMPLE_OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {"reduction": "sum"}, {"reduction": "none"}, {"ignore_index": 0}, {"weight": np.array([1.0, 0.5, 2.0, 0.0])},
    {"ignore_index": 3, "weight": np.array([1.0, 0.5, 2.0, 3.0]), "reduction": "sum"},
)  # fmt: skip


def reduced(losses: Any, total: float, reduction: str) -> Any:
    """Reduce the losses of single targets; `total` is what a mean divides by."""
    if reduction == "none":
        return losses
    return losses.sum() / (total if reduction == "mean" and total else 1)


def share(w: Array, total: float, reduction: str) -> Array:
    """Return how much each weighted loss counts in the result."""
    return w / w.dtype.type(total) if reduction == "mean" and total else w


def _wide(dtype: Any) -> Any:
    """Return the dtype to sum in: single precision for half, whose largest number is 65504."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def importance(target: Array, weight: Array | None, ignore_index: int, dtype: Any) -> tuple[Array, Array, float]:
    """Return the targets with ignored ones as class 0, the weight of each (0 if ignored), and their total."""
    counts = target != ignore_index
    safe = np.where(counts, target, 0)
    w = counts.astype(dtype) if weight is None else np.where(counts, weight[safe], 0).astype(dtype)
    return safe, w, float(w.sum(dtype=np.float64))


# -- negative log-likelihood --------------------------------------------------------------------


def _at_targets(safe: Array) -> tuple[Array, ...]:
    return (*np.indices(safe.shape, sparse=True), safe)


def _nll_forward(
    log_probs: Array, target: Array, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Any:
    safe, w, total = importance(target, weight, ignore_index, _wide(log_probs.dtype))
    picked = log_probs[_at_targets(safe)]
    return np.asarray(reduced(-np.where(w == 0, 0, picked) * w, total, reduction), log_probs.dtype)


def _nll_rule(
    g: Any, y: Any, log_probs: Any, target: Array, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Any:
    safe, w, total = importance(target, weight, ignore_index, _wide(log_probs.dtype))
    return _put(g * share(-w, total, reduction), index=_at_targets(safe), shape=log_probs.shape)


_nll = Op(
    _nll_forward,
    (_nll_rule,),
    name="nll_loss",
    formula="−mean(log p[y])",
    gradient="−g/N at y, else 0",
    latex=(r"-\tfrac1N \textstyle\sum_n \log p_{n, y_n}", r"-g\,[i = y_n] / N"),
    samples=[call((3, 4), SAMPLE_TARGET, **options) for options in SAMPLE_OPTIONS],
    domain=(-3.0, -0.1),
)


# -- arguments -----------------------------------------------------------------------------


def check_reduction(reduction: str, caller: str, choices: tuple[str, ...] = ("mean", "sum", "none")) -> None:
    """Refuse a reduction that there is not."""
    if reduction not in choices:
        raise ValueError(f"{caller}: reduction must be one of {', '.join(map(repr, choices))}, not {reduction!r}")


def check_weight(weight: Any, n_classes: int, caller: str) -> Array | None:
    """Return class weights as an array (C,), after checking them."""
    if weight is None:
        return None
    weight = as_array(weight)
    if weight.shape != (n_classes,) or not (weight >= 0).all():
        raise ValueError(
            f"{caller}: weight must be {n_classes} numbers ≥ 0, one per class; got shape {weight.shape}"
            + ("" if weight.shape != (n_classes,) else f" with smallest {weight.min()}")
        )
    return weight


def check_indices(target: Any, logits: Any, ignore_index: int, caller: str) -> Array:
    """Return class indices as an array, after checking kind, shape (that of the logits without classes) and range."""
    target = as_array(target)
    if target.dtype.kind not in "iu":
        raise TypeError(
            f"{caller}: class indices must be integers, not {target.dtype}. Use target.astype(int); "
            "probabilities are floats of the logits' shape"
        )
    if target.shape != logits.shape[:-1]:
        hint = ". One-hot targets must be floats" if target.shape == logits.shape else ""
        kind: type[Exception] = TypeError if hint else ValueError
        raise kind(
            f"{caller}: targets of shape {target.shape} do not fit logits of shape {logits.shape} (class axis last); "
            f"expected {logits.shape[:-1]}{hint}"
        )
    n_classes = logits.shape[-1]
    target = target.astype(np.intp, copy=False)
    bad = ((target < 0) | (target >= n_classes)) & (target != ignore_index)
    if bad.any():
        where_ = tuple(int(i) for i in np.argwhere(bad)[0])
        raise IndexError(f"{caller}: class {target[where_]} at position {where_} is not in 0 … {n_classes - 1}")
    return target


def classes_last(x: Any, axis: int, caller: str) -> Any:
    """Return logits or log-probabilities with the class axis moved to the end, after checking them."""
    x = check_logits(x, axis, caller)
    return x if axis in (-1, x.ndim - 1) else moveaxis(x, axis, -1)


def nll_loss(
    log_probs: Any,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    axis: int = -1,
) -> Any:
    """Negative log-likelihood of class indices: −log p[y], from log-probabilities such as `log_softmax` gives.

    Parameters
    ----------
    log_probs : Tensor or array_like, (..., C, ...)
        Log-probabilities, with the classes along `axis`.
    target : array_like of int
        Class indices, of the shape of `log_probs` without the class axis.
    weight : array_like (C,), optional
        The weight of each class.
    ignore_index : int
        Targets with this value count for nothing.
    reduction : {"mean", "sum", "none"}
        The mean divides by the sum of the weights of the targets that count; it is 0 if none does.
    axis : int
        The class axis. `axis=1` is PyTorch's layout.

    Raises
    ------
    IndexError
        For a class out of range.
    TypeError
        For targets that are not integers.
    ValueError
        For shapes that don't fit, negative weights, an unknown reduction.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> log_probs = sm.log_softmax(sm.Tensor([[1.0, 2.0, 3.0]]))
    >>> print(f"{sm.functional.nll_loss(log_probs, [2]):.4f}")
    0.4076
    """
    log_probs = classes_last(log_probs, axis, "nll_loss")
    check_reduction(reduction, "nll_loss")
    target = check_indices(target, log_probs, ignore_index, "nll_loss")
    weight = check_weight(weight, log_probs.shape[-1], "nll_loss")
    return _nll(log_probs, target, weight=weight, ignore_index=ignore_index, reduction=reduction)


def _same_shape(a: Any, b: Any, caller: str) -> tuple[Any, Any]:
    a, b = operand(a), operand(b)
    if a.shape != b.shape:
        raise ValueError(f"{caller}: input of shape {a.shape} and target of shape {b.shape} must have the same shape")
    return a, b


def _mean_or_sum(losses: Any, reduction: str) -> Any:
    return losses.mean() if reduction == "mean" and losses.size else reduced(losses, 0, reduction)


def kl_div(log_probs: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Any:
    """Kullback-Leibler divergence from the model to the target, pointwise q·(log q − log p).

    `log_probs` are log p; `target` is q, or log q with `log_target`. 0·log 0 counts as 0. As in PyTorch, "mean"
    divides by the number of all elements; "batchmean", by the length of the first axis, is the divergence as
    mathematics defines it.

    >>> import tinygrad_sm as sm
    >>> p = sm.Tensor([[0.5, 0.5]])
    >>> print(f"{sm.functional.kl_div(p.log(), sm.Tensor([[1.0, 0.0]]), reduction='batchmean'):.4f}")
    0.6931
    """
    check_reduction(reduction, "kl_div", ("mean", "sum", "none", "batchmean"))
    log_probs, target = _same_shape(log_probs, target, "kl_div")
    if log_target:
        q = np.exp(target)
        losses = q * where(np.equal(q, 0), 0.0, target - log_probs)
    else:
        empty = np.equal(target, 0)
        losses = target * (log(where(empty, 1.0, target)) - where(empty, 0.0, log_probs))
    return losses.sum() / max(len(losses), 1) if reduction == "batchmean" else _mean_or_sum(losses, reduction)


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Mean squared error, (input − target)², for arrays of one shape.

    >>> import tinygrad_sm as sm
    >>> sm.functional.mse_loss(sm.Tensor([1.0, 2.0]), sm.Tensor([1.0, 4.0]))
    Tensor(2.)
    """
    check_reduction(reduction, "mse_loss")
    a, b = _same_shape(input, target, "mse_loss")
    return _mean_or_sum(square(a - b), reduction)


def l1_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Mean absolute error, |input − target|, for arrays of one shape.

    >>> import tinygrad_sm as sm
    >>> sm.functional.l1_loss(sm.Tensor([1.0, 2.0]), sm.Tensor([1.0, 4.0]))
    Tensor(1.)
    """
    check_reduction(reduction, "l1_loss")
    a, b = _same_shape(input, target, "l1_loss")
    return _mean_or_sum(absolute(a - b), reduction)
