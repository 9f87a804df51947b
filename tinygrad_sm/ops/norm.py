"""Normalization over the last axes."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from ..op import Op
from ..tensor import Array
from .arguments import floats, operand, single
from .blocked import each, row_blocks
from .linalg import rows
from .options import count, within
from .sample import call
from .sums import column, column_sums, dots, sums


def _means(x: Array) -> Array:
    mean = column(sums(x), x)
    mean /= x.shape[1]
    return mean


def _blocks(z: Array) -> list[slice]:
    return row_blocks(len(z), 2 * z.shape[1] * z.itemsize)  # each thread has a block of its own, too


def _dtype(x: Array, weight: Any, bias: Any) -> Any:
    """Return the dtype of the result, which is that of all three together."""
    return np.result_type(x, *(p for p in (weight, bias) if p is not None))


def _forward(x: Array, weight: Any, bias: Any, eps: float, centre: bool) -> tuple[Array, list[tuple[Any, Array]]]:
    """Return x̂·w + b, x̂ = (x − mean)·rstd, where without `centre` the mean is 0; and mean and rstd, block by block."""
    dtype = _dtype(x, weight, bias)
    z = rows(single(x.astype(dtype, copy=False)))
    y = np.empty(x.shape, z.dtype)
    out = rows(y)

    def kernel(block: slice) -> tuple[Any, Array]:
        c, o, mean = z[block], out[block], None
        if centre:
            mean = _means(c)
            c = np.subtract(c, mean, out=o)
        rstd = column(dots(c, c), c)
        rstd /= c.shape[1]
        rstd += eps
        np.sqrt(rstd, out=rstd)
        np.divide(1, rstd, out=rstd)
        np.multiply(c, rstd, out=o)
        if weight is not None:
            o *= weight
        if bias is not None:
            o += bias
        return mean, rstd

    statistics = each(kernel, _blocks(z))
    return y.astype(dtype, copy=False), statistics


def _vjp(g: Array, statistics: list[tuple[Any, Array]], x: Array, weight: Any, bias: Any, centre: bool) -> Any:
    # y = x̂·w + b with x̂ = c·r, c = x − mean, r = rstd. Let h = g·w be the gradient of x̂; mean and r depend on x too:
    # dL/dx = r·(h − mean(h) − x̂·mean(h·x̂)) = r·(h − mean(h) − c·r²·mean(h·c)), and dL/dw = Σ g·x̂ over the rows
    z, cotangents = rows(single(x.astype(_dtype(x, weight, bias), copy=False))), rows(single(g))
    dx = np.empty(x.shape, z.dtype)
    out = rows(dx)

    def kernel(block: slice, statistic: tuple[Any, Array]) -> tuple[Any, Any]:
        c, h, o, (mean, r) = z[block], cotangents[block], out[block], statistic
        c, dw, db = c - mean if centre else c, None, None
        if bias is not None:
            db = np.add.reduce(h, axis=0)
        if weight is None:
            share = column(dots(h, c), h)
        else:
            product = np.multiply(h, c, out=o)
            dw, share = column_sums(product, r[:, 0]), column(dots(product, weight), product)
            h = np.multiply(h, weight, out=o)
        share *= r
        share /= c.shape[1]
        share *= r
        t = np.multiply(c, share, out=c if centre else None)
        if centre:
            t += _means(h)
        np.subtract(h, t, out=o)
        o *= r
        return dw, db

    shares = each(kernel, _blocks(z), statistics)
    dw = _total([dw for dw, _ in shares], z) if weight is not None else None
    return dx, dw, _total([db for _, db in shares], z) if bias is not None else None


def _total(parts: list[Array], z: Array) -> Array:
    """Add up the shares of the blocks, in their order."""
    return reduce(np.add, parts) if parts else np.zeros(z.shape[1], z.dtype)


def _layer_norm_forward(x: Array, weight: Any, bias: Any, eps: float) -> Any:
    return _forward(x, weight, bias, eps, centre=True)


def _layer_norm_vjp(g: Array, y: Array, statistics: Any, x: Array, weight: Any, bias: Any, eps: float) -> Any:
    return _vjp(g, statistics, x, weight, bias, centre=True)


def _layer_norm_definition(x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    y = centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    y = y * weight if weight is not None else y
    return y + bias if bias is not None else y


_layer_norm = Op(
    _layer_norm_forward,
    _layer_norm_vjp,
    name="layer_norm",
    definition=_layer_norm_definition,
    formula="x̂·w + b, with x̂ = (x − mean x)/σ, σ = √(var x + ε)",
    gradient="dx = (h − mean h − x̂·mean(h·x̂))/σ, dw = Σₙ g·x̂, db = Σₙ g, with h = g·w",
    latex=(r"\hat x\,w + b,\; \hat x = (x - \mathrm{mean}(x))/\sigma,\; \sigma = \sqrt{\mathrm{var}(x) + \epsilon}",
           r"\bar x = (h - \mathrm{mean}(h) - \hat x\,\mathrm{mean}(h\,\hat x))/\sigma,\; "
           r"\bar w = \textstyle\sum_n g\,\hat x,\; \bar b = \textstyle\sum_n g,\; h = g\,w"),
    samples=[call((2, 5), (5,), (5,), eps=1e-5), call((2, 3, 4), (4,), None, eps=1e-5),
             call((2, 5), None, None, eps=0.1)],
)  # fmt: skip


def _rms_norm_forward(x: Array, weight: Any, eps: float) -> Any:
    return _forward(x, weight, None, eps, centre=False)


def _rms_norm_vjp(g: Array, y: Array, statistics: Any, x: Array, weight: Any, eps: float) -> Any:
    return _vjp(g, statistics, x, weight, None, centre=False)[:2]


def _rms_norm_definition(x: Any, weight: Any, *, eps: float) -> Any:
    y = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return y * weight if weight is not None else y


_rms_norm = Op(
    _rms_norm_forward,
    _rms_norm_vjp,
    name="rms_norm",
    definition=_rms_norm_definition,
    formula="x̂·w, with x̂ = x/r, r = √(mean(x²) + ε)",
    gradient="dx = (h − x̂·mean(h·x̂))/r, dw = Σₙ g·x̂, with h = g·w",
    latex=(
        r"\hat x\,w,\; \hat x = x / r,\; r = \sqrt{\mathrm{mean}(x^2) + \epsilon}",
        r"\bar x = (h - \hat x\,\mathrm{mean}(h\,\hat x))/r,\; \bar w = \textstyle\sum_n g\,\hat x,\; h = g\,w",
    ),
    samples=[call((2, 5), (5,), eps=1e-5), call((2, 3, 4), None, eps=1e-5)],
)


def normalized(normalized_shape: Any, caller: str) -> tuple[int, ...]:
    """Return the lengths of the last axes, of which there may be one, as a tuple."""
    if type(normalized_shape) is int and normalized_shape > 0:
        return (normalized_shape,)
    lengths = tuple(normalized_shape) if np.iterable(normalized_shape) else (normalized_shape,)
    for n in lengths:
        count(n, "normalized_shape", caller)
    return tuple(int(n) for n in lengths)


def _optional(p: Any) -> Any:
    return p if p is None else operand(p)


def _flattened(x: Any, normalized_shape: Any, weight: Any, bias: Any, caller: str) -> tuple[Any, Any, Any]:
    """Check that `normalized_shape` ends the shape of x, and make one axis of it."""
    shape = normalized(normalized_shape, caller)
    x, weight, bias = floats(operand(x), caller), _optional(weight), _optional(bias)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"{caller}: normalized_shape {shape} is not how the shape of x {x.shape} ends")
    for name, p in (("weight", weight), ("bias", bias)):
        if p is not None and p.shape != shape:
            raise ValueError(f"{caller}: {name} of shape {p.shape} must have normalized_shape {shape}")
    if len(shape) == 1:
        return x, weight, bias
    n = int(np.prod(shape))
    return x.reshape((*x.shape[: -len(shape)], n)), *(p if p is None else p.reshape(n) for p in (weight, bias))


def layer_norm(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Normalize over the last axes to mean 0 and variance 1, then scale and shift (Ba et al. 2016).

    Parameters
    ----------
    x : Tensor or array_like of floats, (…, *normalized_shape)
        What to normalize, each part of `normalized_shape` by itself.
    normalized_shape : int or tuple of int
        The lengths of the last axes, over which mean and variance are taken; an integer is one axis.
    weight, bias : Tensor or array_like, normalized_shape, optional
        The scale w and the shift b; without them 1 and 0.
    eps : float
        ε, finite and at least 0.

    Returns
    -------
    Tensor (or ndarray for arrays)
        Of the shape of `x`; the dtype is that of `x`, `weight` and `bias` together (`np.result_type`). Half precision
        is computed in single.

    Raises
    ------
    TypeError
        For an `x` that does not hold floats, lengths that are not integers, or an `eps` that is not a number.
    ValueError
        If the shape of `x` does not end with `normalized_shape`, `weight` or `bias` has another one, or `eps` is
        negative, infinite or NaN.

    Notes
    -----
    y = (x − mean)/√(var + ε)·w + b, where var = mean((x − mean)²), without Bessel's correction. `eps=0` is allowed;
    then a constant row is 0/0, which is NaN, with NumPy's warning. The squares of numbers above 1e19 overflow in
    float32: such a row becomes 0, with NumPy's warning, so scale it down first, or use float64.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.functional.layer_norm(sm.Tensor([1.0, 2.0, 3.0]), 3).data.round(3)
    array([-1.225,  0.   ,  1.225], dtype=float32)
    """
    within(eps, 0, np.inf, "eps", "layer_norm")
    flat, weight, bias = _flattened(x, normalized_shape, weight, bias, "layer_norm")
    y = _layer_norm(flat, weight, bias, eps=eps)
    return y if flat is x else y.reshape(np.shape(x))


def rms_norm(x: Any, normalized_shape: Any, weight: Any = None, eps: float = 1e-5) -> Any:
    """Divide by the root mean square over the last axes, then scale (Zhang and Sennrich 2019).

    Parameters
    ----------
    x : Tensor or array_like of floats, (…, *normalized_shape)
        What to normalize, each part of `normalized_shape` by itself.
    normalized_shape : int or tuple of int
        The lengths of the last axes, over which the mean square is taken; an integer is one axis.
    weight : Tensor or array_like, normalized_shape, optional
        The scale w; without it 1.
    eps : float
        ε, finite and at least 0.

    Returns
    -------
    Tensor (or ndarray for arrays)
        Of the shape of `x`; the dtype is that of `x` and `weight` together (`np.result_type`). Half precision is
        computed in single.

    Raises
    ------
    TypeError, ValueError
        As `layer_norm` does.

    Notes
    -----
    y = x/√(mean(x²) + ε)·w. `eps=0` is allowed; then a row of zeros is 0/0, which is NaN, with NumPy's warning; other
    constant rows are ±1·w. The squares of numbers above 1e19 overflow in float32: such a row becomes 0, with NumPy's
    warning, so scale it down first, or use float64.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.functional.rms_norm(sm.Tensor([3.0, 4.0]), 2).data.round(3)
    array([0.849, 1.131], dtype=float32)
    """
    within(eps, 0, np.inf, "eps", "rms_norm")
    flat, weight, _ = _flattened(x, normalized_shape, weight, None, "rms_norm")
    y = _rms_norm(flat, weight, eps=eps)
    return y if flat is x else y.reshape(np.shape(x))
