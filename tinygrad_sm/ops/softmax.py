"""softmax, log_softmax and logsumexp: what this library is about.

All three start from e = exp((z − max z) / T), whose largest entry is 1, so that nothing overflows, and from
the sum of the *other* entries: where one logit dominates, log(1 + rest) keeps the digits that log(sum) loses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Op
from ..tensor import Array, Tensor, attach
from .arguments import count_rows, normalize_axis, operand, single
from .arithmetic import exp, log
from .blocked import row_blocks
from .sample import call
from .shape import moveaxis

SAMPLES = (call((2, 5)), call((2, 5), axis=0), call((2, 3, 2), axis=1, temperature=0.5), call((1,)))


def exp_rows(z: Array, e: Array, temperature: float = 1.0) -> tuple[Array, Array, Array]:
    """Write exp((z − max) / temperature) of each row of `z` (N, V) into `e`.

    Returns the position of the maximum (N,), the maximum (N,), and the sum of the entries of `e` without
    that at the maximum (N,), which is 1; or NaN where the row has NaN, +inf, or −inf only.
    """
    rows = np.arange(len(z))
    top = z.argmax(axis=1)
    peak = z[rows, top]
    np.subtract(z, peak[:, None], out=e)
    if temperature != 1.0:
        e /= temperature
    np.exp(e, out=e)
    one = e[rows, top]  # 1, or NaN
    e[rows, top] = 0
    rest = e.sum(axis=1) + (one - 1)
    e[rows, top] = one
    return top, peak, rest


def as_rows(x: Array, axis: int = -1) -> Array:
    """View or copy `x` as rows (N, V) along `axis`; half precision becomes single, to compute in."""
    x = np.moveaxis(x, axis, -1)
    x = x.reshape(count_rows(x), x.shape[-1])
    return single(x)


def from_rows(rows: Array, like: Array, axis: int = -1) -> Array:
    """Undo `as_rows`."""
    if rows.shape == like.shape and rows.dtype == like.dtype and axis in (-1, like.ndim - 1):
        return rows  # itself and not a view, so that the engine need not copy it
    shape = np.moveaxis(like, axis, -1).shape
    return np.moveaxis(rows.reshape(shape), -1, axis).astype(like.dtype, copy=False)


def _softmax_forward(x: Array, axis: int = -1, temperature: float = 1.0) -> tuple[Array, tuple[()]]:
    z = as_rows(x, axis)
    p = np.empty_like(z, order="C")
    for block in row_blocks(*_extent(z)):
        e = p[block]
        _, _, rest = exp_rows(z[block], e, temperature)
        e /= (1 + rest)[:, None]
    return from_rows(p, x, axis), ()


def _extent(z: Array) -> tuple[int, int]:
    """Return the number of rows and the bytes of one; no rows if they are empty."""
    return (len(z) if z.shape[1] else 0), z.shape[1] * z.itemsize


def _softmax_vjp(g: Array, y: Array, residual: tuple[()], x: Array, axis: int = -1, temperature: float = 1.0) -> Any:
    # dL/dzᵢ = pᵢ·(gᵢ − Σⱼ gⱼ·pⱼ) / T: the product of g with the Jacobian diag(p) − p·pᵀ
    rows, cotangents = as_rows(y, axis), as_rows(g, axis)
    out = np.empty_like(rows, order="C")
    for block in row_blocks(*_extent(rows)):
        p, c, o = rows[block], cotangents[block], out[block]
        np.multiply(c, p, out=o)
        np.subtract(c, o.sum(axis=1, keepdims=True), out=o)
        o *= p
    if temperature != 1.0:
        out /= temperature
    return (from_rows(out, x, axis),)


def shift(z: Any, axis: int, temperature: float = 1.0) -> Any:
    """Return (z − max z) / T. The maximum is taken as a constant, since it cancels in what is built on it."""
    z = z - np.max(z.data if isinstance(z, Tensor) else z, axis=axis, keepdims=True, initial=-np.inf)
    return z if temperature == 1.0 else z / temperature


def _softmax_definition(x: Any, axis: int = -1, temperature: float = 1.0) -> Any:
    e = exp(shift(x, axis, temperature))
    return e / e.sum(axis=axis, keepdims=True)


_softmax = Op(
    _softmax_forward,
    _softmax_vjp,
    name="softmax",
    definition=_softmax_definition,
    formula="p = exp(z/T) / Σ exp(z/T)",
    gradient="p·(g − Σ g·p)/T",
    latex=(r"p_i = e^{z_i/T} / \textstyle\sum_j e^{z_j/T}", r"p_i\,(g_i - \textstyle\sum_j g_j p_j)/T"),
    samples=SAMPLES,
)


def _log_softmax_forward(x: Array, axis: int = -1, temperature: float = 1.0) -> tuple[Array, tuple[()]]:
    z = as_rows(x, axis)
    out = np.empty_like(z, order="C")
    for block in row_blocks(*_extent(z)):
        o = out[block]
        _, peak, rest = exp_rows(z[block], o, temperature)
        np.subtract(z[block], peak[:, None], out=o)
        if temperature != 1.0:
            o /= temperature
        o -= np.log1p(rest)[:, None]
    return from_rows(out, x, axis), ()


def _log_softmax_vjp(
    g: Array, y: Array, residual: tuple[()], x: Array, axis: int = -1, temperature: float = 1.0
) -> Any:
    # dL/dzᵢ = (gᵢ − pᵢ·Σⱼ gⱼ) / T, with p = exp(y)
    rows, cotangents = as_rows(y, axis), as_rows(g, axis)
    out = np.empty_like(rows, order="C")
    for block in row_blocks(*_extent(rows)):
        c, o = cotangents[block], out[block]
        np.exp(rows[block], out=o)
        o *= -c.sum(axis=1, keepdims=True)
        o += c
    if temperature != 1.0:
        out /= temperature
    return (from_rows(out, x, axis),)


def _log_softmax_definition(x: Any, axis: int = -1, temperature: float = 1.0) -> Any:
    d = shift(x, axis, temperature)
    return d - log(exp(d).sum(axis=axis, keepdims=True))


_log_softmax = Op(
    _log_softmax_forward,
    _log_softmax_vjp,
    name="log_softmax",
    definition=_log_softmax_definition,
    formula="z/T − log Σ exp(z/T)",
    gradient="(g − p·Σ g)/T",
    latex=(r"z_i/T - \log \textstyle\sum_j e^{z_j/T}", r"(g_i - p_i \textstyle\sum_j g_j)/T"),
    samples=SAMPLES,
)


def _logsumexp_forward(x: Array) -> Array:
    z = as_rows(x)
    out = np.full(len(z), -np.inf, z.dtype)  # log of an empty sum
    for block in row_blocks(*_extent(z)):
        with np.errstate(invalid="ignore"):  # ∞ − ∞, where the maximum is infinite
            _, peak, rest = exp_rows(z[block], np.empty_like(z[block]))
        out[block] = np.where(np.isinf(peak), peak, peak + np.log1p(rest))  # log 0 and log ∞
    return out.reshape(x.shape[:-1]).astype(x.dtype, copy=False)


_logsumexp = Op(
    _logsumexp_forward,
    (lambda g, y, x: g[..., None] * softmax(x, -1),),
    name="logsumexp",
    formula="log Σ exp(z)",
    gradient="g·softmax(z)",
    latex=(r"\log \textstyle\sum_j e^{z_j}", r"g\,p_i"),
    samples=[call((2, 5)), call((3,))],
)


def check_logits(x: Any, axis: Any, caller: str) -> Any:
    """Return `x` as something with a dtype, and refuse what has no softmax."""
    x = operand(x)
    if x.dtype.kind != "f":
        raise TypeError(f"{caller}: the input must be floats, not {x.dtype}; use .astype(np.float32)")
    if axis is None or isinstance(axis, tuple):
        raise TypeError(f"{caller}: axis must be one integer, not {axis}")
    if x.ndim == 0:
        raise ValueError(f"{caller}: a scalar has no axis to normalize over; reshape it to (1,)")
    normalize_axis(axis, x.ndim, caller)
    return x


def _check_temperature(temperature: float, caller: str) -> float:
    if not 0 < temperature < float("inf"):
        raise ValueError(f"{caller}: temperature must be a positive number, not {temperature}")
    return float(temperature)


def softmax(x: Any, axis: int = -1, *, temperature: float = 1.0) -> Any:
    """Turn logits into probabilities: pᵢ = exp(zᵢ/T) / Σⱼ exp(zⱼ/T).

    Parameters
    ----------
    x : Tensor or array_like of floats
        Logits z, of any shape.
    axis : int
        The axis of the classes, along which the result sums to 1.
    temperature : float
        T: above 1 flattens the distribution, below 1 sharpens it.

    Returns
    -------
    Tensor (or ndarray for an array)
        Probabilities, of the shape and dtype of `x`. A row that is all −inf, or has NaN or +inf, is NaN.

    Raises
    ------
    TypeError
        For integers, or an axis that is not an integer.
    IndexError
        For an axis out of range.
    ValueError
        For a temperature that is not positive, or a scalar.

    Notes
    -----
    The maximum is subtracted first, which changes nothing but lets nothing overflow ("Primer on Softmax",
    section Numerical Stability). Backward: pᵢ·(gᵢ − Σⱼ gⱼpⱼ)/T, the product with the Jacobian diag(p) − p·pᵀ.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.softmax(sm.Tensor([1.0, 2.0, 3.0])).data.round(4)
    array([0.09  , 0.2447, 0.6652], dtype=float32)
    """
    x = check_logits(x, axis, "softmax")
    return _softmax(x, axis=axis, temperature=_check_temperature(temperature, "softmax"))


def log_softmax(x: Any, axis: int = -1, *, temperature: float = 1.0) -> Any:
    """Log-probabilities zᵢ/T − log Σⱼ exp(zⱼ/T): the log of softmax, but finite where that would be log 0.

    Parameters, errors and shapes are those of `softmax`. Backward: (gᵢ − pᵢ·Σⱼ gⱼ)/T.
    Source: "Primer on Softmax", section Why use LogSoftmax and NLLLoss.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.log_softmax(sm.Tensor([-1.0, 10.0, 5000.0]))
    Tensor([-5001., -4990.,     0.])
    """
    x = check_logits(x, axis, "log_softmax")
    return _log_softmax(x, axis=axis, temperature=_check_temperature(temperature, "log_softmax"))


def logsumexp(x: Any, axis: Any = -1, keepdims: bool = False, *, temperature: float = 1.0) -> Any:
    """Return log Σ exp(x/T) over one axis, a tuple of axes, or all (None); a smooth maximum.

    The result of an empty or all −inf row is −inf. Errors are those of `softmax`. Backward: g·softmax(x/T)/T.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> print(f"{sm.logsumexp(sm.Tensor([1000.0, 1000.0])):.3f}")
    1000.693
    """
    x = check_logits(x, -1, "logsumexp")
    x = x if _check_temperature(temperature, "logsumexp") == 1.0 else x / temperature
    axes = normalize_axis(axis, x.ndim, "logsumexp")
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    moved = moveaxis(x, axes, tuple(range(x.ndim - len(axes), x.ndim)))
    if len(axes) != 1:
        moved = moved.reshape((*shape, int(np.prod([x.shape[i] for i in axes], dtype=int))))
    y = _logsumexp(moved)
    return y.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape))) if keepdims else y


attach(softmax=softmax, log_softmax=log_softmax, logsumexp=logsumexp)
