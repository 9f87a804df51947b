"""Normalization over the last axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Op
from ..tensor import Array
from .arguments import floats, operand, single
from .linalg import rows
from .options import count, within
from .sample import call


def _layer_norm_forward(x: Array, weight: Any, bias: Any, eps: float) -> tuple[Array, tuple[Array, Array]]:
    dtype, x = x.dtype, single(x)
    xhat = x - x.mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt(np.mean(xhat * xhat, axis=-1, keepdims=True) + x.dtype.type(eps))
    xhat *= rstd
    y = xhat * weight if weight is not None else xhat.copy()
    if bias is not None:
        y += bias
    return y.astype(dtype, copy=False), (xhat, rstd)


def _layer_norm_vjp(g: Array, y: Array, residual: Any, x: Array, weight: Any, bias: Any, eps: float) -> Any:
    # y = x̂·w + b with x̂ = (x − mean)·rstd. Let h = g·w be the gradient of x̂; mean and rstd depend on x too:
    # dL/dx = rstd·(h − mean(h) − x̂·mean(h·x̂))
    xhat, rstd = residual
    h = g * weight if weight is not None else g
    product = h * xhat
    dx = h - h.mean(axis=-1, keepdims=True)
    dx -= xhat * product.mean(axis=-1, keepdims=True)
    dx *= rstd
    dw = rows(g * xhat).sum(axis=0) if weight is not None else None
    return dx, dw, rows(g).sum(axis=0, dtype=xhat.dtype) if bias is not None else None


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
    formula="(x − mean)/√(var + ε)·w + b",
    gradient="(h − mean h − x̂·mean(h·x̂))/σ, h = g·w",
    latex=(r"\hat x\,w + b,\; \hat x = (x - \bar x)/\sqrt{\mathrm{var}(x) + \epsilon}",
           r"(h - \bar h - \hat x\,\overline{h \hat x})/\sigma,\; h = g\,w"),
    samples=[call((2, 5), (5,), (5,), eps=1e-5), call((2, 3, 4), (4,), None, eps=1e-5),
             call((2, 5), None, None, eps=0.1)],
)  # fmt: skip


def _rms_norm_forward(x: Array, weight: Any, eps: float) -> tuple[Array, tuple[Array, Array]]:
    dtype, x = x.dtype, single(x)
    rstd = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + x.dtype.type(eps))
    xhat = x * rstd
    y = xhat * weight if weight is not None else xhat.copy()
    return y.astype(dtype, copy=False), (xhat, rstd)


def _rms_norm_vjp(g: Array, y: Array, residual: Any, x: Array, weight: Any, eps: float) -> Any:
    # y = x·rstd·w:  dL/dx = rstd·(h − x̂·mean(h·x̂)), h = g·w
    xhat, rstd = residual
    h = g * weight if weight is not None else g
    dx = h - xhat * (h * xhat).mean(axis=-1, keepdims=True)
    dx *= rstd
    return dx, rows(g * xhat).sum(axis=0) if weight is not None else None


def _rms_norm_definition(x: Any, weight: Any, *, eps: float) -> Any:
    y = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return y * weight if weight is not None else y


_rms_norm = Op(
    _rms_norm_forward,
    _rms_norm_vjp,
    name="rms_norm",
    definition=_rms_norm_definition,
    formula="x/√(mean(x²) + ε)·w",
    gradient="(h − x̂·mean(h·x̂))/rms, h = g·w",
    latex=(r"w\,x / \sqrt{\overline{x^2} + \epsilon}", r"(h - \hat x\,\overline{h \hat x})/\mathrm{rms},\; h = g\,w"),
    samples=[call((2, 5), (5,), eps=1e-5), call((2, 3, 4), None, eps=1e-5)],
)


def normalized(normalized_shape: Any, caller: str) -> tuple[int, ...]:
    """Return the lengths of the last axes, of which there may be one, as a tuple."""
    lengths = tuple(normalized_shape) if np.iterable(normalized_shape) else (normalized_shape,)
    for n in lengths:
        count(n, "normalized_shape", caller)
    return tuple(int(n) for n in lengths)


def _flattened(x: Any, normalized_shape: Any, weight: Any, bias: Any, caller: str) -> tuple[Any, Any, Any]:
    """Check that `normalized_shape` ends the shape of x, and make one axis of it."""
    shape = normalized(normalized_shape, caller)
    x, weight, bias = floats(operand(x), caller), *(p if p is None else operand(p) for p in (weight, bias))
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

    >>> import tinygrad_sm as sm
    >>> sm.functional.layer_norm(sm.Tensor([1.0, 2.0, 3.0]), 3).data.round(3)
    array([-1.225,  0.   ,  1.225], dtype=float32)
    """
    within(eps, 0, np.inf, "eps", "layer_norm")
    flat, weight, bias = _flattened(x, normalized_shape, weight, bias, "layer_norm")
    y = _layer_norm(flat, weight, bias, eps=eps)
    return y if y.shape == np.shape(x) else y.reshape(np.shape(x))


def rms_norm(x: Any, normalized_shape: Any, weight: Any = None, eps: float = 1e-5) -> Any:
    """Divide by the root mean square over the last axes, then scale (Zhang and Sennrich 2019).

    >>> import tinygrad_sm as sm
    >>> sm.functional.rms_norm(sm.Tensor([3.0, 4.0]), 2).data.round(3)
    array([0.849, 1.131], dtype=float32)
    """
    within(eps, 0, np.inf, "eps", "rms_norm")
    flat, weight, _ = _flattened(x, normalized_shape, weight, None, "rms_norm")
    y = _rms_norm(flat, weight, eps=eps)
    return y if y.shape == np.shape(x) else y.reshape(np.shape(x))
