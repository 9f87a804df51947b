"""Reductions: many numbers to one, along any axes."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from ..op import Op
from ..tensor import FUNCTIONS, Tensor, attach
from .arguments import normalize_axis, operand, single
from .kinks import kept
from .options import refuse, toggle
from .sample import call

Axis = Any  # None (all axes), an int, or a tuple of ints
AXES = (
    call((2, 3)), call((2, 3), axis=1), call((2, 3), axis=0, keepdims=True), call((2, 3, 2), axis=(0, -1)),
    call((2, 3), axis=None, keepdims=True), call(()), call((2, 3), axis=()),
)  # fmt: skip


def broadcastable(y: Any, shape: tuple[int, ...], axis: Axis) -> Any:
    """Give a reduced array its lost axes back, with length 1, so that it broadcasts against the input."""
    axes = normalize_axis(axis, len(shape), "reduction")
    return y.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape)))


def _spread(g: Any, x: Any, axis: Axis) -> Any:
    return np.broadcast_to(broadcastable(g, x.shape, axis), x.shape)


def _count(x: Any, axis: Axis) -> int:
    axes = normalize_axis(axis, x.ndim, "reduction")
    return math.prod(x.shape[i] for i in axes)


def _sum(x: Any, axis: Axis, keepdims: bool) -> Any:
    y = np.sum(single(x), axis=axis, keepdims=keepdims)
    return y.astype(x.dtype, copy=False) if x.dtype.kind == "f" else y  # counts of bools and int8 want more room


def _reduction(name: str, f: Any, *own: str) -> Any:
    """Return the forward pass of a reduction, with options of its `own`; it says what it does not take."""

    def forward(x: Any, axis: Axis = None, keepdims: bool = False, **options: Any) -> Any:
        if options and (other := {k: v for k, v in options.items() if k not in own}):
            refuse(other, ("x", "axis", *own, "keepdims"), name)
        try:
            return f(operand(x), axis=axis, keepdims=keepdims, **options)
        except TypeError:
            if isinstance(axis, np.ndarray):
                two = (
                    f"; of two arrays, sm.{name}imum(a, b) takes the {name} of each pair"
                    if name in ("max", "min")
                    else ""
                )
                raise TypeError(f"axis must be an int, a tuple of ints or None, not an array{two}") from None
            normalize_axis(axis, np.ndim(x), name)
            toggle(keepdims, "keepdims", name)
            raise

    return forward


sum = Op(
    _reduction("sum", _sum),
    (lambda g, y, x, axis=None, keepdims=False: _spread(g, x, axis),),
    name="sum",
    formula="Σ x",
    gradient="g (spread over x)",
    latex=(r"\sum_i x_i", r"g\,\mathbf 1"),
    samples=AXES,
)
mean = Op(
    _reduction("mean", np.mean),
    (lambda g, y, x, axis=None, keepdims=False: _spread(g, x, axis) / _count(x, axis),),
    name="mean",
    formula="Σ x / n",
    gradient="g/n (spread over x)",
    latex=(r"\tfrac1n \sum_i x_i", r"g / n"),
    samples=AXES,
)


def _centred(x: Any, axis: Axis) -> Any:
    return x - np.mean(x, axis=axis, keepdims=True)


def _freedom(x: Any, axis: Axis, ddof: float) -> float:
    """Return n − ddof, the divisor of a variance; NaN, as the variance is, if too few numbers are there."""
    n = _count(x, axis) - ddof
    return n if n > 0 else np.nan


def _std_rule(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> Any:
    # Centred twice: of equal numbers the first mean may be off by a rounding, which dividing by y would blow up.
    slope = _centred(_centred(x, axis), axis) * (1 / _freedom(x, axis, ddof))
    some = np.not_equal(y, 0)  # of equal numbers, y is 0 and has a kink: the gradient is 0, the middle of all slopes
    return broadcastable(kept(g / np.where(some, y, 1), some), x.shape, axis) * slope


var = Op(
    _reduction("var", np.var, "ddof"),
    (
        lambda g, y, x, axis=None, keepdims=False, ddof=0: (
            broadcastable(g, x.shape, axis) * _centred(x, axis) * (2 / _freedom(x, axis, ddof))
        ),
    ),
    name="var",
    formula="Σ (x − mean x)² / (n − ddof)",
    gradient="g·2(x − mean x)/(n − ddof)",
    latex=(
        r"\textstyle\sum (x - \mathrm{mean}(x))^2 / (n - \mathrm{ddof})",
        r"2\,g\,(x - \mathrm{mean}(x)) / (n - \mathrm{ddof})",
    ),
    samples=[*AXES[:5], call((2, 3), axis=1, ddof=1)],
)
std = Op(
    _reduction("std", np.std, "ddof"),
    (_std_rule,),
    name="std",
    formula="√var(x)",
    gradient="g·(x − mean x)/((n − ddof)·y) (0 at 0)",
    latex=(r"\sqrt{\mathrm{var}(x)}", r"g\,(x - \mathrm{mean}(x)) / ((n - \mathrm{ddof})\,y)"),
    samples=[*AXES[:5], call((2, 3), axis=1, ddof=1)],
)


def _share_of_ties(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    ties = np.equal(x, broadcastable(y, x.shape, axis))
    share = broadcastable(g, x.shape, axis) / np.maximum(np.sum(ties, axis=axis, keepdims=True), 1).astype(g.dtype)
    return kept(share, ties)


max = Op(
    _reduction("max", np.max),
    (_share_of_ties,),
    name="max",
    formula="max x",
    gradient="g·[x = y]/Σ [x = y]",
    latex=(r"\max_i x_i", r"g\,[x = y] / \textstyle\sum [x = y]"),
    samples=AXES,
)
min = Op(
    _reduction("min", np.min),
    (_share_of_ties,),
    name="min",
    formula="min x",
    gradient="g·[x = y]/Σ [x = y]",
    latex=(r"\min_i x_i", r"g\,[x = y] / \textstyle\sum [x = y]"),
    samples=AXES,
)


def _prod_rule(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    if np.all(x.data if isinstance(x, Tensor) else x):
        return broadcastable(g * y, x.shape, axis) / x
    # A zero hides the product of the others, so multiply them out: row i of an n × n array leaves out xᵢ.
    axes = normalize_axis(axis, x.ndim, "prod")
    last = tuple(range(x.ndim - len(axes), x.ndim))
    moved = np.moveaxis(x, axes, last)
    flat = moved.reshape((*moved.shape[: x.ndim - len(axes)], 1, -1))
    n = flat.shape[-1]
    square = np.broadcast_to(flat, (*flat.shape[:-2], n, n))
    others = prod(np.where(np.eye(n, dtype=bool), np.ones((), x.dtype), square), axis=-1)
    return broadcastable(g, x.shape, axis) * np.moveaxis(others.reshape(moved.shape), last, axes)


prod = Op(
    _reduction("prod", np.prod),
    (_prod_rule,),
    name="prod",
    formula="Π x",
    gradient="g·Πⱼ≠ᵢ xⱼ",
    latex=(r"\prod_i x_i", r"g \prod_{j \ne i} x_j"),
    samples=[*AXES, call(np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 1.0]]), axis=1)],
    domain=(0.5, 2.0),
)
_cumsum = Op(
    lambda x, axis: np.cumsum(x, axis=operator.index(axis)),
    (lambda g, y, x, axis: np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis),),
    name="cumsum",
    formula="yᵢ = Σⱼ≤ᵢ xⱼ",
    gradient="Σⱼ≥ᵢ gⱼ",
    latex=(r"y_i = \sum_{j \le i} x_j", r"\sum_{j \ge i} g_j"),
    samples=[call((2, 3), axis=1), call((2, 3), axis=0)],
)


def cumsum(x: Any, axis: int | None = None, **other: Any) -> Any:
    """Return the sums of the elements so far along an axis, or over all elements in order (None).

    Backward: the sums from the other end. Raises IndexError for an axis that is not there.

    >>> import tinygrad_sm as sm
    >>> sm.cumsum(sm.Tensor([1.0, 2.0, 3.0]))
    Tensor([1., 3., 6.])
    """
    refuse(other, cumsum, "cumsum")
    x = operand(x)
    return _cumsum(x.reshape(-1), axis=0) if axis is None else _cumsum(x, axis=axis)


for _op in (sum, mean, max, min, prod):

    def _reduce(x: Any, axis: Axis = None, keepdims: bool = False, *, op: Op = _op, **other: Any) -> Any:
        return op(x, axis=axis, keepdims=keepdims, **other)

    attach(**{_op.name: _reduce})
    FUNCTIONS[getattr(np, _op.name)] = _reduce
FUNCTIONS[np.amax], FUNCTIONS[np.amin] = FUNCTIONS[np.max], FUNCTIONS[np.min]
for _op in (var, std):

    def _spreading(
        x: Any, axis: Axis = None, *, ddof: int = 0, keepdims: bool = False, op: Op = _op, **other: Any
    ) -> Any:
        return op(x, axis=axis, ddof=ddof, keepdims=keepdims, **other)

    attach(**{_op.name: _spreading})
    FUNCTIONS[getattr(np, _op.name)] = _spreading
FUNCTIONS[np.cumsum] = cumsum
attach(cumsum=cumsum)
for _f in (
    np.nonzero, np.flatnonzero, np.argwhere, np.unique, np.isin, np.array_equal, np.allclose, np.isclose,
    np.zeros_like, np.ones_like, np.full_like, np.empty_like,
):  # fmt: skip

    def _on_arrays(*args: Any, f: Any = _f, **kwargs: Any) -> Any:
        """Call NumPy's function on the arrays themselves: what it answers has no gradient."""
        plain = {k: a.data if isinstance(a, Tensor) else a for k, a in kwargs.items()}
        return f(*(a.data if isinstance(a, Tensor) else a for a in args), **plain)

    FUNCTIONS[_f] = _on_arrays
for _f in (np.argmax, np.argmin, np.any, np.all, np.count_nonzero, np.argsort):  # no gradient to speak of
    _op = Op(_f, None, formula=f"{_f.__name__} x", numpy=[_f])
    attach(**{_f.__name__: lambda t, *args, op=_op, **kwargs: op(t, *args, **kwargs)})
