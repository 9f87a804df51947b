"""Reductions: many numbers to one, along any axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Op
from ..tensor import FUNCTIONS, Tensor, attach
from .arguments import normalize_axis, operand, single
from .sample import call

Axis = Any  # None (all axes), an int, or a tuple of ints
AXES = (
    call((2, 3)), call((2, 3), axis=1), call((2, 3), axis=0, keepdims=True), call((2, 3, 2), axis=(0, -1)),
    call((2, 3), axis=None, keepdims=True), call(()), call((2, 3), axis=()),
)  # fmt: skip


def _kept(y: Any, shape: tuple[int, ...], axis: Axis) -> Any:
    """Give a reduced array its lost axes back, with length 1, so that it broadcasts against the input."""
    axes = normalize_axis(axis, len(shape), "reduction")
    return y.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape)))


def _spread(g: Any, x: Any, axis: Axis) -> Any:
    return np.broadcast_to(_kept(g, x.shape, axis), x.shape)


def _count(x: Any, axis: Axis) -> int:
    axes = normalize_axis(axis, x.ndim, "reduction")
    return int(np.prod([x.shape[i] for i in axes], dtype=int))


sum = Op(
    lambda x, axis=None, keepdims=False: np.sum(single(x), axis=axis, keepdims=keepdims).astype(x.dtype, copy=False),
    (lambda g, y, x, axis=None, keepdims=False: _spread(g, x, axis),),
    name="sum",
    formula="Σ x",
    gradient="g, spread over x",
    latex=(r"\sum_i x_i", r"g\,\mathbf 1"),
    samples=AXES,
)
mean = Op(
    lambda x, axis=None, keepdims=False: np.mean(x, axis=axis, keepdims=keepdims),
    (lambda g, y, x, axis=None, keepdims=False: _spread(g, x, axis) / _count(x, axis),),
    name="mean",
    formula="Σ x / n",
    gradient="g/n, spread over x",
    latex=(r"\tfrac1n \sum_i x_i", r"g / n"),
    samples=AXES,
)


def _centred(x: Any, axis: Axis) -> Any:
    return x - np.mean(x, axis=axis, keepdims=True)


var = Op(
    lambda x, axis=None, ddof=0, keepdims=False: np.var(x, axis=axis, ddof=ddof, keepdims=keepdims),
    (
        lambda g, y, x, axis=None, ddof=0, keepdims=False: (
            _kept(g, x.shape, axis) * _centred(x, axis) * (2 / (_count(x, axis) - ddof))
        ),
    ),
    name="var",
    formula="Σ (x − mean)² / (n − ddof)",
    gradient="g·2(x − mean)/(n − ddof)",
    latex=(r"\tfrac1{n - d} \sum_i (x_i - \bar x)^2", r"\tfrac{2}{n - d}\,g\,(x - \bar x)"),
    samples=[*AXES[:5], call((2, 3), axis=1, ddof=1)],
)
std = Op(
    lambda x, axis=None, ddof=0, keepdims=False: np.std(x, axis=axis, ddof=ddof, keepdims=keepdims),
    (
        lambda g, y, x, axis=None, ddof=0, keepdims=False: (
            _kept(g / y, x.shape, axis) * _centred(x, axis) * (1 / (_count(x, axis) - ddof))
        ),
    ),
    name="std",
    formula="√var(x)",
    gradient="g·(x − mean)/((n − ddof)·y)",
    latex=(r"\sqrt{\mathrm{var}(x)}", r"g\,(x - \bar x) / ((n - d)\,y)"),
    samples=[*AXES[:5], call((2, 3), axis=1, ddof=1)],
)


def _share_of_ties(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    ties = np.equal(x, _kept(y, x.shape, axis)).astype(g.dtype)
    return _kept(g, x.shape, axis) * (ties / ties.sum(axis=axis, keepdims=True))


max = Op(
    lambda x, axis=None, keepdims=False: np.max(x, axis=axis, keepdims=keepdims),
    (_share_of_ties,),
    name="max",
    formula="max x",
    gradient="g to the largest, shared equally by ties",
    latex=(r"\max_i x_i", r"g\,[x_i = y] / \textstyle\sum_j [x_j = y]"),
    samples=AXES,
)
min = Op(
    lambda x, axis=None, keepdims=False: np.min(x, axis=axis, keepdims=keepdims),
    (_share_of_ties,),
    name="min",
    formula="min x",
    gradient="g to the smallest, shared equally by ties",
    latex=(r"\min_i x_i", r"g\,[x_i = y] / \textstyle\sum_j [x_j = y]"),
    samples=AXES,
)


def _prod_rule(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    if np.all(x.data if isinstance(x, Tensor) else x):
        return _kept(g * y, x.shape, axis) / x
    # A zero hides the product of the others, so multiply them out: row i of an n × n array leaves out xᵢ.
    axes = normalize_axis(axis, x.ndim, "prod")
    last = tuple(range(x.ndim - len(axes), x.ndim))
    moved = np.moveaxis(x, axes, last)
    flat = moved.reshape((*moved.shape[: x.ndim - len(axes)], 1, -1))
    n = flat.shape[-1]
    square = np.broadcast_to(flat, (*flat.shape[:-2], n, n))
    others = prod(np.where(np.eye(n, dtype=bool), np.ones((), x.dtype), square), axis=-1)
    return _kept(g, x.shape, axis) * np.moveaxis(others.reshape(moved.shape), last, axes)


prod = Op(
    lambda x, axis=None, keepdims=False: np.prod(x, axis=axis, keepdims=keepdims),
    (_prod_rule,),
    name="prod",
    formula="Π x",
    gradient="g·(product of the others)",
    latex=(r"\prod_i x_i", r"g \prod_{j \ne i} x_j"),
    samples=[*AXES, call(np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 1.0]]), axis=1)],
    domain=(0.5, 2.0),
)
_cumsum = Op(
    lambda x, axis: np.cumsum(x, axis=axis),
    (lambda g, y, x, axis: np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis),),
    name="cumsum",
    formula="yᵢ = x₁ + … + xᵢ",
    gradient="gᵢ + … + gₙ",
    latex=(r"y_i = \sum_{j \le i} x_j", r"\sum_{j \ge i} g_j"),
    samples=[call((2, 3), axis=1), call((2, 3), axis=0)],
)


def cumsum(x: Any, axis: int | None = None) -> Any:
    """Return the sums of the elements so far along an axis, or over all elements in order (None)."""
    x = operand(x)
    return _cumsum(x.reshape(-1), axis=0) if axis is None else _cumsum(x, axis=axis)


def _refuse(other: dict[str, Any], op: Op) -> None:
    """Say what a reduction does not take, such as PyTorch's `dim` or NumPy's `dtype`."""
    if other:
        raise TypeError(f"{op.name} takes axis (which PyTorch calls dim) and keepdims, not {', '.join(other)}")


for _op in (sum, mean, max, min, prod):

    def _reduce(x: Any, axis: Axis = None, keepdims: bool = False, *, op: Op = _op, **other: Any) -> Any:
        _refuse(other, op)
        return op(x, axis=axis, keepdims=keepdims)

    attach(**{_op.name: _reduce})
    FUNCTIONS[getattr(np, _op.name)] = _reduce
FUNCTIONS[np.amax], FUNCTIONS[np.amin] = FUNCTIONS[np.max], FUNCTIONS[np.min]
for _op in (var, std):

    def _spreading(
        x: Any, axis: Axis = None, *, ddof: int = 0, keepdims: bool = False, op: Op = _op, **other: Any
    ) -> Any:
        _refuse(other, op)
        return op(x, axis=axis, ddof=ddof, keepdims=keepdims)

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
