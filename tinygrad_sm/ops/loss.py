"""Losses on log-probabilities and on plain numbers, and what they share with `cross_entropy.py`."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from ..op import Op
from ..tensor import Array, Tensor, as_array
from .arguments import count_rows, given
from .arithmetic import abs as absolute
from .arithmetic import log, square, where
from .indexing import _put
from .options import choice, refuse, shown
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
    if weight is None and np.count_nonzero(counts) == target.size:
        return target, counts.astype(dtype), float(target.size)
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
    formula="−mean(ℓ[y]), with ℓ = log p",
    gradient="−g·[j = y]/N",
    latex=(r"-\tfrac1N \textstyle\sum_n \ell_{n, y_n},\; \ell = \log p", r"-g\,[j = y] / N"),
    samples=[call((3, 4), SAMPLE_TARGET, **options) for options in SAMPLE_OPTIONS],
    domain=(-3.0, -0.1),
)


# -- arguments -----------------------------------------------------------------------------


def check_reduction(reduction: str, caller: str, choices: tuple[str, ...] = ("mean", "sum", "none")) -> None:
    """Refuse a reduction that there is not."""
    choice(reduction, choices, "reduction", caller)


def check_weight(weight: Any, n_classes: int, caller: str, name: str = "weight") -> Array | None:
    """Return class weights as an array (C,), after checking them."""
    if weight is None:
        return None
    if isinstance(weight, Tensor) and weight.requires_grad:
        raise TypeError(f"{caller}: {name} is a constant and gets no gradient; pass {name}.detach()")
    weight = as_array(given(weight, name, caller))
    if weight.shape != (n_classes,):
        raise ValueError(f"{caller}: {name} must be {n_classes} numbers, one per class; got shape {weight.shape}")
    bad = ~((weight >= 0) & (weight < np.inf))
    if bad.any():
        raise ValueError(f"{caller}: {name} must be finite and ≥ 0; got {weight[bad][0]} for class {bad.argmax()}")
    return weight


def check_arguments(x: Any, target: Any, axis: Any, caller: str) -> tuple[Any, Any]:
    """Return logits or log-probabilities, and targets, as Tensors or arrays of numbers, with at least one class."""
    try:
        target = given(target, "the target", caller)
        if target.dtype.kind not in "fiub":
            raise TypeError(f"{caller}: the target has dtype {target.dtype}")
    except (TypeError, ValueError) as error:
        advice = "pass class indices (np.unique(labels, return_inverse=True)[1] makes them of names)"
        raise type(error)(f"{error}; {advice}") from None
    x = given(x, "the input", caller)
    if target.dtype.kind == "f" and target.ndim == x.ndim + 1:
        raise (ValueError if x.dtype.kind == "f" else TypeError)(
            f"{caller}: {x.dtype} of shape {x.shape} came first and {target.dtype} of shape {target.shape} second; "
            "are they swapped? The target is the second argument"
        )
    x = check_logits(x, axis, caller)
    if not x.shape[axis]:
        raise ValueError(f"{caller}: an input of shape {x.shape} has no classes along axis {axis}")
    return x, target


def check_indices(
    target: Any, shape: tuple[int, ...], axis: int, ignore_index: Any, caller: str, *, probabilities: bool = False
) -> Array:
    """Return class indices as an array, after checking kind, shape and range.

    `shape` is that of the logits, with the classes along `axis`, which the target lacks. `probabilities` says that
    the caller takes these too.
    """
    if isinstance(ignore_index, (bool, np.bool_)) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(f"{caller}: ignore_index must be an integer, not {shown(ignore_index)}; -100 ignores no class")
    if not -(2**63) <= ignore_index < 2**63:
        raise ValueError(f"{caller}: ignore_index must fit into 64 bits with a sign, not {ignore_index}")
    target = target if type(target) is np.ndarray else as_array(target)
    axis %= len(shape)
    expected, n_classes = shape[:axis] + shape[axis + 1 :], shape[axis]
    if target.shape == shape:
        floats = "one-hot targets must be floats, target.astype(np.float32); or " if probabilities else ""
        raise TypeError(
            f"{caller}: {floats}give class indices, target.argmax({axis}). "
            f"Got {target.dtype} of the logits' shape {shape}"
        )
    if target.dtype.kind not in "iu" and target.size:
        also = f"; probabilities have the logits' shape {shape}" if probabilities else ""
        raise TypeError(
            f"{caller}: class indices must be integers, not {target.dtype} of shape {target.shape}; "
            f"use target.astype(int){also}"
        )
    if target.shape != expected:
        raise ValueError(
            f"{caller}: targets of shape {target.shape} do not fit logits of shape {shape} with classes along "
            f"axis {axis}; expected {expected}{_fix(target.shape, shape, axis)}"
        )
    bad = target.astype(np.uint64) >= n_classes  # as are negative ones, which become very large
    if np.count_nonzero(bad) and (bad := bad & (target != int(ignore_index))).any():
        found = tuple(int(i) for i in np.argwhere(bad)[0])
        place = f" at position {found}" if found else ""
        fix = "classes count from 0" if target[found] > 0 else f"ignore_index={target[found]} would ignore it"
        raise IndexError(f"{caller}: class {target[found]}{place} is not in 0 … {n_classes - 1}; {fix}")
    return target.astype(np.intp, copy=False)


def _fix(found: tuple[int, ...], shape: tuple[int, ...], axis: int) -> str:
    """Say how targets of a wrong shape might be made to fit."""
    if found == (*shape[:axis], *shape[axis + 1 :], 1):
        return "; use np.squeeze(target, -1)"
    for other in (1, len(shape) - 1):
        if other != axis and found == shape[:other] + shape[other + 1 :]:
            return f"; with the classes along axis {other} pass axis={other}"
    return ""


def check_probabilities(target: Any, caller: str) -> None:
    """Refuse probabilities (..., C) that are negative or do not sum to 1 along the last axis, up to rounding.

    Raises
    ------
    ValueError
        Naming the first bad row, its sum or smallest entry, and the fix.

    Examples
    --------
    >>> import numpy as np
    >>> check_probabilities(np.array([[0.5, 0.5], [1.0, 1.0]]), "cross_entropy")
    Traceback (most recent call last):
    ...
    ValueError: cross_entropy: the probabilities of row (1,) sum to 2, not 1; divide by target.sum(-1, keepdims=True)
    """
    q = as_array(target)
    rows, precision = q.reshape(count_rows(q), q.shape[-1]), np.finfo(q.dtype)
    sums, low = rows.sum(axis=1, dtype=np.float64), rows.min(axis=1, initial=np.inf)
    # Entries rounded to this dtype or to float32, by a softmax whose sum was rounded too.
    eps, tiny = float(precision.eps), float(precision.tiny)
    slack = max(1e-5, 4 * eps) + q.shape[-1] * tiny * eps
    bad = ~((abs(sums - 1) <= slack) & (low >= -slack))
    if not bad.any():
        return
    n = int(bad.argmax())
    row = tuple(int(i) for i in np.unravel_index(n, q.shape[:-1]))
    what = f"the probabilities of row {row}" if row else "the probabilities"
    if low[n] < -slack:
        raise ValueError(f"{caller}: {what} go down to {low[n]:.6g}; are they logits? Then pass softmax(target)")
    raise ValueError(f"{caller}: {what} sum to {sums[n]:.6g}, not 1; divide by target.sum(-1, keepdims=True)")


def classes_last(x: Any, axis: int) -> Any:
    """Return what has a class axis with that axis moved to the end."""
    return x if axis in (-1, x.ndim - 1) else moveaxis(x, axis, -1)


def nll_loss(
    log_probs: Any,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    axis: int = -1,
    **other: NoReturn,
) -> Any:
    """Negative log-likelihood of class indices: −log p[y], from log-probabilities such as `log_softmax` gives.

    Parameters
    ----------
    log_probs : Tensor or array_like, (..., C, ...)
        Log-probabilities, with the classes along `axis`.
    target : array_like of int
        Class indices (signed or unsigned, of any width), of the shape of `log_probs` without the class axis.
    weight : array_like (C,), optional
        The weight of each class, finite and ≥ 0.
    ignore_index : int
        Targets with this value count for nothing.
    reduction : {"mean", "sum", "none"}
        The mean divides by the sum of the weights of the targets that count; it is 0, with zero gradient, if none
        does.
    axis : int
        The class axis. `axis=1` is PyTorch's layout.

    Raises
    ------
    IndexError
        For a class out of range.
    TypeError
        For targets that are not integers.
    ValueError
        For shapes that don't fit, no classes, negative weights, an unknown reduction.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> log_probs = sm.log_softmax(sm.Tensor([[1.0, 2.0, 3.0]]))
    >>> print(f"{sm.functional.nll_loss(log_probs, [2]):.4f}")
    0.4076
    """
    refuse(other, nll_loss, "nll_loss")
    log_probs, target = check_arguments(log_probs, target, axis, "nll_loss")
    check_reduction(reduction, "nll_loss")
    target = check_indices(target, log_probs.shape, axis, ignore_index, "nll_loss")
    log_probs = classes_last(log_probs, axis)
    weight = check_weight(weight, log_probs.shape[-1], "nll_loss")
    return _nll(log_probs, target, weight=weight, ignore_index=ignore_index, reduction=reduction)


def _pair(a: Any, b: Any, caller: str) -> list[Any]:
    """Return input and target, of one shape, as floats: integers beside floats take their dtype."""
    a, b = given(a, "the input", caller), given(b, "the target", caller)
    if a.shape != b.shape:
        raise ValueError(
            f"{caller}: input of shape {a.shape} and target of shape {b.shape} must have the same shape"
            + (f"; target.reshape{a.shape} would fit" if a.size == b.size else "")
        )
    floats = [x.dtype for x in (a, b) if x.dtype.kind == "f"]
    if not floats or any(x.dtype.kind not in "fiub" for x in (a, b)):
        raise TypeError(
            f"{caller}: input and target must be floats, not {a.dtype} and {b.dtype}; use .astype(np.float32)"
        )
    return [x if x.dtype.kind == "f" else x.astype(floats[0]) for x in (a, b)]


def _mean_or_sum(losses: Any, reduction: str) -> Any:
    return losses.mean() if reduction == "mean" and losses.size else reduced(losses, 0, reduction)


def kl_div(log_probs: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Any:
    """Kullback-Leibler divergence from the model to the target, pointwise q·(log q − log p).

    `log_probs` are log p; `target` is q, or log q with `log_target`. 0·log 0 counts as 0. As in PyTorch, "mean"
    divides by the number of all elements; "batchmean", by the length of the first axis, is the divergence as
    mathematics defines it.

    Nothing is normalized, and any q ≥ 0 is taken as it is: for a q that sums to Q, the sum is
    Q·(KL(q/Q ‖ p) + log Q), which may be negative, and its gradient with respect to log p is −q. An entry q < 0 has no
    logarithm and gives NaN.

    Parameters
    ----------
    log_probs : Tensor or array_like of floats
        log p, of any shape.
    target : Tensor or array_like of floats
        q, or log q; of the same shape.
    reduction : {"mean", "batchmean", "sum", "none"}
        What is made of the elements' losses.
    log_target : bool
        Whether `target` is log q.

    Raises
    ------
    ValueError
        For shapes that differ, or an unknown reduction.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> p = sm.Tensor([[0.5, 0.5]])
    >>> print(f"{sm.functional.kl_div(p.log(), sm.Tensor([[1.0, 0.0]]), reduction='batchmean'):.4f}")
    0.6931
    """
    check_reduction(reduction, "kl_div", ("mean", "sum", "none", "batchmean"))
    log_probs, target = _pair(log_probs, target, "kl_div")
    if reduction == "batchmean" and not log_probs.ndim:
        raise ValueError("kl_div: reduction='batchmean' divides by the length of the first axis, and a scalar has none")
    if log_target:
        q = np.exp(target)
        empty = np.equal(q, 0)
        losses = q * (where(empty, 0.0, target) - where(empty, 0.0, log_probs))
    else:
        empty = np.equal(target, 0)
        losses = target * (log(where(empty, 1.0, target)) - where(empty, 0.0, log_probs))
    return losses.sum() / max(len(losses), 1) if reduction == "batchmean" else _mean_or_sum(losses, reduction)


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Mean squared error, (input − target)², for arrays of one shape.

    `reduction` is "mean" over all elements, "sum" or "none". Raises ValueError for shapes that differ (nothing is
    broadcast), or an unknown reduction.

    >>> import tinygrad_sm as sm
    >>> sm.functional.mse_loss(sm.Tensor([1.0, 2.0]), sm.Tensor([1.0, 4.0]))
    Tensor(2.)
    """
    check_reduction(reduction, "mse_loss")
    a, b = _pair(input, target, "mse_loss")
    return _mean_or_sum(square(a - b), reduction)


def l1_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Mean absolute error, |input − target|, for arrays of one shape.

    `reduction` is "mean" over all elements, "sum" or "none". Raises ValueError for shapes that differ (nothing is
    broadcast), or an unknown reduction.

    >>> import tinygrad_sm as sm
    >>> sm.functional.l1_loss(sm.Tensor([1.0, 2.0]), sm.Tensor([1.0, 4.0]))
    Tensor(1.)
    """
    check_reduction(reduction, "l1_loss")
    a, b = _pair(input, target, "l1_loss")
    return _mean_or_sum(absolute(a - b), reduction)
