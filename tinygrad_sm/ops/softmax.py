"""softmax, log_softmax and logsumexp: what this library is about.

All three start from e = exp((z − max z) / T), whose largest entry is 1, so that nothing overflows; or from exp(z), for
a tame row, which saves a pass and its rounding. Three things keep the digits that the definitions lose:

- `rest`, the sum of e without that 1. Where one logit dominates, log(1 + rest) and 1 − p = rest/(1 + rest) are far
  below 1, and log(sum) or 1 − p would round them away.
- At the maximum a gradient is a small difference of large numbers, so it is made of `rest` and of the other entries.
- Rounding z − max makes a relative error of |z − max|·ε in e. Where one logit dominates, nothing but such entries is
  left, so these rows are computed again, exactly.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..op import Op
from ..tensor import Array, Tensor, attach
from .arguments import count_rows, given, normalize_axis, single
from .arithmetic import exp, log
from .blocked import each, row_blocks
from .options import positive, refuse, shown
from .sample import call
from .shape import moveaxis
from .sums import column, dots, sums

SAMPLES = (call((2, 5)), call((2, 5), axis=0), call((2, 3, 2), axis=1, temperature=0.5), call((1,)))
SHORT = 64  # columns in which double precision costs next to nothing
SURE = 1 / 16  # where `rest` is below this, one logit dominates
TAME = 16  # a row whose maximum is in [0, TAME]: neither exp(z) nor a small number over its sum leaves single precision


class Peak(NamedTuple):
    """The maximum of each row of logits, and what the others weigh beside it."""

    at: tuple[Array, Array]  # (N,), (N,) index of the maxima
    value: Array  # (N,) the maxima
    top: Array  # (N,) what e is there: 1, or exp(max)
    rest: Array  # (N,) Σ exp((z − max) / T) over the others, in float64
    sure: Array  # (S,) the rows that one logit dominates, unless z has digits to spare


def exp_rows(z: Array, e: Array, dtype: Any, temperature: float = 1.0, d: Array | None = None) -> Peak:
    """Write d = (z − max) / temperature of each row of `z` (N, V) into `d`, if given, and exp(d) into `e`.

    Of a tame row `e` is exp(z), if `d` is not wanted. `dtype` is that of the results. All is NaN where the row has NaN,
    +inf, or −inf only.
    """
    at = np.arange(len(z)), z.argmax(axis=1)
    peak = z[at]
    _exp(z, peak, e, temperature, d)
    top = e[at]
    e[at] = top - top  # 0; but NaN stays
    rest = sums(e).astype(_double(z), copy=False)
    e[at] = top
    rest /= top
    sure = (rest < SURE).nonzero()[0] if z.itemsize == dtype.itemsize else at[0][:0]
    found = Peak(at, peak, top, rest, sure)
    if sure.size:
        exact = exactly(z, found, temperature)
        e[sure] = exact * column(top[sure], exact)
        exact[at[0][: len(exact)], at[1][sure]] = 0
        rest[sure] = exact.sum(axis=1)
    return found


def _exp(z: Array, peak: Array, e: Array, temperature: float = 1.0, d: Array | None = None) -> None:
    """Write exp((z − max) / T) of each row into `e`, exp(z) of a tame one; with `d`, exponents, and none is tame.

    Each row by itself decides, so that no bit of it depends on the others.
    """
    if temperature == 1.0 and d is None and z.dtype == np.float32:  # a double's exp takes so long that little is saved
        peak = np.where((peak >= 0) & (peak <= TAME), 0, peak)
        if not peak.any():
            np.exp(z, out=e)
            return
    d = np.subtract(z, peak[:, None], out=e if d is None else d)
    if temperature != 1.0:
        d /= temperature
    np.exp(d, out=e)


def without(x: Array, at: tuple[Array, Array]) -> Array:
    """Return the sum of each row of `x` without one entry, in float64: the terms may cancel."""
    kept = x[at]
    x[at] = 0
    total: Array = np.add.reduce(x, axis=1, dtype=_double(x))
    x[at] = kept
    return total


def _double(x: Array) -> Any:
    return np.promote_types(x.dtype, np.float64)  # a long double stays one


def exactly(z: Array, peak: Peak, temperature: float) -> Array:
    """Return exp((z − max) / T) of the rows that one logit dominates, as exactly as float64 can."""
    # What rounding takes from d = z − max (Knuth 1969, TwoSum) is put back: exp(d + δ) = exp(d)·(1 + δ)
    z, m = z[peak.sure].astype(_double(z)), peak.value[peak.sure, None].astype(_double(z))
    d = z - m
    back = d - z
    lost = (z - (d - back)) - (m + back)
    return np.exp(d / temperature) * (1 + np.where(np.isfinite(d), lost, 0) / temperature)


def as_rows(x: Array, axis: int = -1) -> Array:
    """View or copy `x` as rows (N, V) along `axis`, in native floats of a precision to compute in.

    Half precision becomes single; and single, where rows are short, double.
    """
    if axis not in (-1, x.ndim - 1):
        x = np.moveaxis(x, axis, -1)
    if x.ndim != 2:
        x = x.reshape(count_rows(x), x.shape[-1])
    if is_short(x):
        return x.astype(np.float64)
    return single(x.astype(x.dtype.newbyteorder("="), copy=False))


def is_short(rows: Array) -> bool:
    """Tell whether rows of this precision are so short that they are computed in double precision."""
    return rows.shape[-1] <= SHORT and rows.itemsize < 8


def from_rows(rows: Array, like: Array, axis: int = -1, dtype: Any = None) -> Array:
    """Undo `as_rows`; `dtype`, if given, in place of that of `like`."""
    rows = rows.astype(dtype or like.dtype, copy=False)
    if axis in (-1, like.ndim - 1):
        return rows if like.ndim == 2 else rows.reshape(like.shape)  # no view needlessly: the engine would copy it
    return np.moveaxis(rows.reshape(np.moveaxis(like, axis, -1).shape), -1, axis)


def blocks(rows: Array) -> list[slice]:
    """Cut rows into blocks that fit the cache; none if they are empty."""
    return row_blocks(len(rows) if rows.shape[1] else 0, rows.shape[1] * rows.itemsize)


def quiet() -> Any:
    """Let exp(−inf) be 0 and ∞ − ∞ be NaN without a word."""
    return np.errstate(over="ignore", under="ignore", invalid="ignore")


def _softmax_forward(x: Array, axis: int = -1, temperature: float = 1.0) -> tuple[Array, tuple[Array, list[Peak]]]:
    z = as_rows(x, axis)
    p = np.empty_like(z, order="C")

    def kernel(block: slice) -> Peak:
        e = p[block]
        peak = exp_rows(z[block], e, x.dtype, temperature)
        e /= column((1 + peak.rest) * peak.top, e)
        return peak

    with quiet():
        peaks = each(kernel, blocks(z))
    return from_rows(p, x, axis), (p, peaks)


def _softmax_vjp(g: Array, y: Array, residual: Any, x: Array, axis: int = -1, temperature: float = 1.0) -> Any:
    # dL/dzᵢ = pᵢ·(gᵢ − Σⱼ gⱼ·pⱼ) / T: the product of g with the Jacobian diag(p) − p·pᵀ. A constant added to g changes
    # nothing, so take g − g_top: then the sum lacks the term beside which the others would be lost.
    z, cotangents, (rows, peaks) = as_rows(x, axis), as_rows(g, axis), residual
    out = np.empty_like(rows, order="C")

    def kernel(block: slice, peak: Peak) -> None:
        p, c, o = rows[block], cotangents[block], out[block]
        np.subtract(c, c[peak.at][:, None], out=o)
        mean = dots(o, p)
        if peak.sure.size:
            exact = exactly(z[block], peak, temperature)
            mean[peak.sure] = (exact * o[peak.sure]).sum(axis=1) / (1 + peak.rest[peak.sure])
        o -= column(mean, o)
        o *= p
        if temperature != 1.0:
            o /= temperature

    with quiet():
        each(kernel, blocks(rows), peaks)
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
    formula="pᵢ = exp(zᵢ/T) / Σⱼ exp(zⱼ/T)",
    gradient="pᵢ·(gᵢ − Σⱼ gⱼ·pⱼ)/T",
    latex=(r"p_i = e^{z_i/T} / \textstyle\sum_j e^{z_j/T}", r"p_i\,(g_i - \textstyle\sum_j g_j p_j)/T"),
    samples=SAMPLES,
)


def _log_softmax_forward(x: Array, axis: int = -1, temperature: float = 1.0) -> tuple[Array, list[Peak]]:
    z = as_rows(x, axis)
    out = np.empty_like(z, order="C")

    def kernel(block: slice) -> Peak:
        o = out[block]
        peak = exp_rows(z[block], np.empty_like(o), x.dtype, temperature, d=o)
        o -= column(np.log1p(peak.rest), o)
        return peak

    with quiet():
        peaks = each(kernel, blocks(z))
    return from_rows(out, x, axis), peaks


def _log_softmax_vjp(g: Array, y: Array, peaks: list[Peak], x: Array, axis: int = -1, temperature: float = 1.0) -> Any:
    # dL/dzᵢ = (gᵢ − pᵢ·Σⱼ gⱼ) / T. At the maximum, with R for the sum of the other g, that is
    # g_top·(1 − p_top) − p_top·R = (g_top·rest − R) / (1 + rest).
    z, cotangents = as_rows(x, axis), as_rows(g, axis)
    out = np.empty_like(z, order="C")

    def kernel(block: slice, peak: Peak) -> None:
        c, o = cotangents[block], out[block]
        o[...] = c
        others = without(o, peak.at)
        top = (c[peak.at] * peak.rest - others) / (1 + peak.rest)
        _exp(z[block], peak.value, o, temperature)  # not exp(y), with the rounding of y in it
        e_top = o[peak.at]
        if peak.sure.size:
            o[peak.sure] = exactly(z[block], peak, temperature) * column(e_top[peak.sure], z)
        o *= column(-(c[peak.at] + others) / ((1 + peak.rest) * e_top), o)
        o += c
        o[peak.at] = top
        if temperature != 1.0:
            o /= temperature

    with quiet():
        each(kernel, blocks(z), peaks)
    return (from_rows(out, x, axis),)


def _log_softmax_definition(x: Any, axis: int = -1, temperature: float = 1.0) -> Any:
    d = shift(x, axis, temperature)
    return d - log(exp(d).sum(axis=axis, keepdims=True))


_log_softmax = Op(
    _log_softmax_forward,
    _log_softmax_vjp,
    name="log_softmax",
    definition=_log_softmax_definition,
    formula="zᵢ/T − log Σⱼ exp(zⱼ/T)",
    gradient="(gᵢ − pᵢ·Σⱼ gⱼ)/T, with p = softmax(z/T)",
    latex=(
        r"z_i/T - \log \textstyle\sum_j e^{z_j/T}",
        r"(g_i - p_i \textstyle\sum_j g_j)/T,\; p = \mathrm{softmax}(z/T)",
    ),
    samples=SAMPLES,
)


def _logsumexp_forward(x: Array) -> Array:
    z = as_rows(x)
    out = np.full(len(z), -np.inf, _double(z))  # log of an empty sum

    def kernel(block: slice) -> None:
        out[block] = _logsumexp_rows(z[block], x.dtype)

    with quiet():
        each(kernel, blocks(z))
        return out.reshape(x.shape[:-1]).astype(x.dtype, copy=False)


def _logsumexp_rows(z: Array, dtype: Any) -> Array:
    found = exp_rows(z, np.empty_like(z, order="C"), dtype)
    peak, rest = found.value, found.rest
    y = np.where(np.isinf(peak), peak, peak + np.log1p(rest))  # log 0 and log ∞
    near_0 = np.flatnonzero(np.abs(y) < np.abs(peak) / 4)  # peak and log(1 + rest) cancel, as for log-probabilities
    if near_0.size and z.dtype == np.float32:
        y[near_0] = _logsumexp_rows(z[near_0].astype(np.float64), dtype)
    return y


_logsumexp = Op(
    _logsumexp_forward,
    (lambda g, y, x: g[..., None] * softmax(x, -1),),
    name="logsumexp",
    formula="log Σⱼ exp(zⱼ)",
    gradient="g·p, with p = softmax(z)",
    latex=(r"\log \textstyle\sum_j e^{z_j}", r"g\,p,\; p = \mathrm{softmax}(z)"),
    samples=[call((2, 5)), call((3,))],
)


def check_logits(x: Any, axis: Any, caller: str) -> Any:
    """Return `x` as something with a dtype, and refuse what has no softmax."""
    x = given(x, "the input", caller)
    if x.dtype.kind == "f" and type(axis) is int and -x.ndim <= axis < x.ndim:
        return x
    if x.dtype.kind != "f":
        raise TypeError(
            f"{caller}: the input must be floats, not {x.dtype}; use .astype(np.float32), or write 1.0 for 1 in a list"
        )
    if isinstance(axis, (bool, np.bool_)) or not isinstance(axis, (int, np.integer)):
        raise TypeError(f"{caller}: axis must be one integer, not {shown(axis)}")
    if x.ndim == 0:
        raise ValueError(f"{caller}: a scalar has no axis to normalize over; reshape it to (1,)")
    normalize_axis(axis, x.ndim, caller)
    return x


def _check_temperature(temperature: Any, caller: str, dtype: Any) -> float:
    advice = f"for one per row, or to learn it, write {caller}(x / temperature)"
    temperature, range_ = positive(temperature, "temperature", caller, advice), np.finfo(dtype)
    if not float(range_.tiny) <= temperature <= float(range_.max):
        raise ValueError(f"{caller}: temperature {temperature} is out of the range of {range_.dtype}")
    return temperature


def softmax(x: Any, axis: int = -1, *, temperature: float = 1.0, **other: NoReturn) -> Any:
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
        Probabilities, of the shape and dtype of `x`. A row that is all −inf, or has NaN or +inf, is NaN, and so
        is its gradient; other rows are not touched by it. No rows, or rows of no entries, give an empty array.

    Raises
    ------
    TypeError
        For integers, an axis that is not an integer, or a temperature that is not one constant number.
    IndexError
        For an axis out of range.
    ValueError
        For a temperature that is not finite and above 0 (in the dtype of x), or a scalar.

    Notes
    -----
    The maximum is subtracted first (unless it is so small that exp(z) cannot overflow), which changes nothing but
    lets nothing overflow ("Primer on Softmax", section Numerical Stability). Backward: pᵢ·(gᵢ − Σⱼ gⱼpⱼ)/T, the
    product with the Jacobian diag(p) − p·pᵀ.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.softmax(sm.Tensor([1.0, 2.0, 3.0])).data.round(4)
    array([0.09  , 0.2447, 0.6652], dtype=float32)
    """
    refuse(other, softmax, "softmax")
    x = check_logits(x, axis, "softmax")
    return _softmax(x, axis=axis, temperature=_check_temperature(temperature, "softmax", x.dtype))


def log_softmax(x: Any, axis: int = -1, *, temperature: float = 1.0, **other: NoReturn) -> Any:
    """Log-probabilities zᵢ/T − log Σⱼ exp(zⱼ/T): the log of softmax, but finite where that would be log 0.

    Parameters, errors and shapes are those of `softmax`. Backward: (gᵢ − pᵢ·Σⱼ gⱼ)/T.
    Source: "Primer on Softmax", section Why use LogSoftmax and NLLLoss.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.log_softmax(sm.Tensor([-1.0, 10.0, 5000.0]))
    Tensor([-5001., -4990.,     0.])
    """
    refuse(other, log_softmax, "log_softmax")
    x = check_logits(x, axis, "log_softmax")
    return _log_softmax(x, axis=axis, temperature=_check_temperature(temperature, "log_softmax", x.dtype))


def logsumexp(x: Any, axis: Any = -1, keepdims: bool = False, *, temperature: float = 1.0, **other: NoReturn) -> Any:
    """Return log Σ exp(x/T) over one axis, a tuple of axes, or all (None); a smooth maximum.

    T is the `temperature`. The result of an empty or all −inf row is −inf, that of a row with +inf is inf. Errors are
    those of `softmax`. Backward: g·softmax(x/T)/T.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> print(f"{sm.logsumexp(sm.Tensor([1000.0, 1000.0])):.3f}")
    1000.693
    """
    refuse(other, logsumexp, "logsumexp")
    x = check_logits(x, -1, "logsumexp")
    temperature = _check_temperature(temperature, "logsumexp", x.dtype)
    x = x if temperature == 1.0 else x / temperature
    axes = normalize_axis(axis, x.ndim, "logsumexp")
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    moved = moveaxis(x, axes, tuple(range(x.ndim - len(axes), x.ndim)))
    if len(axes) != 1:
        moved = moved.reshape((*shape, int(np.prod([x.shape[i] for i in axes], dtype=int))))
    y = _logsumexp(moved)
    return y.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape))) if keepdims else y


attach(softmax=softmax, log_softmax=log_softmax, logsumexp=logsumexp)
