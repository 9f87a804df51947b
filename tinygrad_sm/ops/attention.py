"""Scaled dot-product attention: softmax(q·kᵀ·scale)·v, in blocks, with the √d_k toggle.

`scale=None` is 1/√d_k (Vaswani et al. 2017): if the entries of q and k have variance 1, q·k has variance d_k,
and dividing by √d_k keeps the softmax away from its flat ends. `scale=1.0` switches that off.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..op import Op
from ..random import dropout_mask
from ..tensor import Array, Tensor
from . import blocked
from .arguments import count_rows, given, single
from .arithmetic import where
from .blocked import each, row_blocks
from .options import positive, refuse, toggle, within
from .sample import call
from .softmax import quiet, softmax
from .sums import sums

MOST_ROWS = 128  # of a block: enough for matrix products at full speed
KEEP_BYTES = 1 << 22  # weights up to this size are kept for the backward pass, larger ones computed again


class Part(NamedTuple):
    """What the forward pass knows of a block of rows: its weights are p = exp(s − peak) / total."""

    e: Array | None  # (H, R, S) exp(s − peak), if kept
    peak: Array  # (H, R, 1)
    total: Array  # (H, R, 1)


def _heads(heads: int, t: int, row_bytes: int) -> list[slice]:
    """Cut heads into groups whose scores fit a quarter of a block together, or single ones."""
    return row_blocks(heads, 4 * t * row_bytes)


def _rows(h: slice, t: int, row_bytes: int) -> list[slice]:
    """Cut the rows of a group of heads into blocks; short ones, since the earlier of causal ones see fewer keys."""
    return row_blocks(t, max((h.stop - h.start) * row_bytes, blocked.BLOCK_BYTES // MOST_ROWS))


def _scores(q: Array, k: Array, mask: Array | None, causal: bool, h: slice, rows: slice) -> Array:
    """Return the scores q·kᵀ of one block, −inf where a key is hidden: (heads, rows, keys to the last one seen)."""
    last = min(rows.stop, k.shape[1]) if causal else k.shape[1]  # later keys are hidden from all these rows
    s = q[h, rows] @ k[h, :last].swapaxes(1, 2)  # (H, R, S)
    if mask is not None:
        part = mask[h if len(mask) > 1 else slice(None), rows if mask.shape[1] > 1 else slice(None), :last]
        if part.dtype == bool:
            np.copyto(s, -np.inf, where=~part)
        else:
            s += part
    if causal:
        near = s[:, :, rows.start :]  # earlier keys are seen by all these rows
        np.copyto(near, -np.inf, where=np.arange(near.shape[2]) > np.arange(near.shape[1])[:, None])
    return s


def _exp(s: Array, peak: Array) -> Array:
    s -= peak
    return np.exp(s, out=s)


def _flat(x: Array, lead: tuple[int, ...], dtype: Any) -> Array:
    """Return `x` as (heads, length, d), with the leading axes broadcast to `lead`; half as single precision."""
    x = x if x.shape[:-2] == lead else np.broadcast_to(x, lead + x.shape[-2:])
    return single(x.reshape(math.prod(lead), *x.shape[-2:]).astype(dtype, copy=False))


def _lead(q: Any, k: Any, v: Any) -> tuple[int, ...]:
    """Return the axes before the last two, broadcast."""
    same = q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
    return q.shape[:-2] if same else np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])


def _arranged(q: Array, k: Array, v: Array, mask: Any) -> tuple[tuple[int, ...], Array, Array, Array, Any]:
    lead, dtype = _lead(q, k, v), np.result_type(q, k, v)
    if mask is not None:
        shared = mask.size == math.prod(mask.shape[-2:])
        mask = mask.reshape(1, *mask.shape[-2:]) if shared else _flat(mask, lead, mask.dtype)
    return lead, _flat(q, lead, dtype), _flat(k, lead, dtype), _flat(v, lead, dtype), mask


def _attention_forward(
    q: Array, k: Array, v: Array, mask: Array | None = None, causal: bool = False, scale: float = 1.0
) -> tuple[Array, list[list[Part]]]:
    lead, q3, k3, v3, mask = _arranged(q, k, v, mask)
    q3 = q3 * q3.dtype.type(scale)
    heads, t, row_bytes = len(q3), q3.shape[1], k3.shape[1] * q3.itemsize
    out = np.empty((heads, t, v3.shape[2]), v3.dtype)
    keep = heads * t * row_bytes <= KEEP_BYTES

    def kernel(h: slice) -> list[Part]:
        parts = []
        for rows in _rows(h, t, row_bytes):
            s = _scores(q3, k3, mask, causal, h, rows)
            peak = s.max(axis=-1, keepdims=True, initial=-np.inf)
            peak[np.isneginf(peak)] = 0  # a row with nothing to attend to becomes exp(−inf) = 0 …
            e = _exp(s, peak)
            total = sums(e.reshape(count_rows(e), e.shape[2])).reshape(peak.shape).astype(e.dtype, copy=False)
            total[total == 0] = 1  # … and stays 0
            np.matmul(e, v3[h, : e.shape[2]], out=out[h, rows])
            out[h, rows] /= total
            parts.append(Part(e if keep else None, peak, total))
        return parts

    with quiet():
        kept = each(kernel, _heads(heads, t, row_bytes), products=True)
    return out.reshape(*lead, *out.shape[1:]).astype(np.result_type(q, k, v), copy=False), kept


def _attention_vjp(
    g: Array, y: Array, kept: list[list[Part]], q: Array, k: Array, v: Array,
    mask: Array | None = None, causal: bool = False, scale: float = 1.0,
) -> Any:  # fmt: skip
    # Forward, per row:  p = softmax(s), s = scale·q·kᵀ, y = p·v.  Going back, with dp = g·vᵀ:
    #   dv = pᵀ·g,   ds = p·(dp − Σ p·dp) and Σ p·dp = Σ g·y,   dq = scale·ds·k,   dk = scale·dsᵀ·q
    # p = e / total is never made: g / total in place of g does the same to fewer numbers.
    lead, q3, k3, v3, mask = _arranged(q, k, v, mask)
    g3, y3, scale = _flat(g, lead, q3.dtype), _flat(y, lead, q3.dtype), q3.dtype.type(scale)
    q3 = q3 * scale
    dq, dk, dv = np.empty_like(q3), np.zeros_like(k3), np.zeros_like(v3)
    t, row_bytes = q3.shape[1], k3.shape[1] * q3.itemsize

    def kernel(h: slice, parts: list[Part]) -> None:
        for rows, (e, peak, total) in zip(_rows(h, t, row_bytes), parts, strict=True):
            if e is None:
                e = _exp(_scores(q3, k3, mask, causal, h, rows), peak)
            keys, share = slice(e.shape[2]), g3[h, rows] / total
            dv[h, keys] += e.swapaxes(1, 2) @ share
            ds = share @ v3[h, keys].swapaxes(1, 2)
            ds -= np.vecdot(share, y3[h, rows])[..., None]
            ds *= e
            np.matmul(ds, k3[h, keys], out=dq[h, rows])
            dk[h, keys] += ds.swapaxes(1, 2) @ q3[h, rows]
        dq[h] *= scale

    with quiet():
        each(kernel, _heads(len(q3), t, row_bytes), kept, products=True)
    return [d.reshape(*lead, *x.shape[-2:]) for d, x in ((dq, q), (dk, k), (dv, v))]


def _composed(
    q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float = 1.0, dropout: Any = None
) -> tuple[Any, Any]:
    """Attention from simple ops: the output (…, T, d_v) and the weights (…, T, S). `dropout` multiplies the weights."""
    scores = (q * scale) @ np.swapaxes(k, -1, -2)  # (…, T, S)
    allowed = np.ones(scores.shape[-2:], bool)
    if causal:
        allowed = np.tril(allowed)
    if mask is not None and mask.dtype == bool:
        allowed = allowed & mask
    elif mask is not None:
        hidden = np.isneginf(mask.data if isinstance(mask, Tensor) else mask)
        allowed = allowed & ~hidden
        scores = scores + where(hidden, 0.0, mask)
    if not allowed.all():
        attends = allowed.any(axis=-1, keepdims=True)  # a row with nothing to attend to gets zeros
        scores = where(allowed | ~attends, scores, -np.inf)
        weights = where(attends, softmax(where(attends, scores, 0.0)), 0.0)
    else:
        weights = softmax(scores)
    if dropout is not None:
        weights = weights * dropout
    return weights @ v, weights


_attention = Op(
    _attention_forward,
    _attention_vjp,
    name="attention",
    definition=lambda *args, **kwargs: _composed(*args, **kwargs)[0],
    formula="p·v, with p = softmax(scale·q·kᵀ + mask)",
    gradient="dv = pᵀ·g, dp = g·vᵀ, ds = p∘(dp − Σⱼ p∘dp), dq = scale·ds·k, dk = scale·dsᵀ·q",
    latex=(r"p\,v,\; p = \mathrm{softmax}(\mathrm{scale}\,q k^\top + \mathrm{mask})",
           r"\bar v = p^\top g,\; \bar p = g v^\top,\; \bar s = p \circ (\bar p - \textstyle\sum_j p \circ \bar p),\; "
           r"\bar q = \mathrm{scale}\,\bar s k,\; \bar k = \mathrm{scale}\,\bar s^\top q"),
    samples=[
        call((2, 3, 4), (2, 5, 4), (2, 5, 2), scale=0.5), call((3, 4), (3, 4), (3, 4), causal=True, scale=0.5),
        call((2, 2, 3, 4), (2, 1, 3, 4), (2, 1, 3, 2), scale=1.0),
        call((2, 2, 4), (2, 3, 4), (2, 3, 4), mask=np.array([[True, False, True], [False] * 3]), scale=0.5),
        call((2, 2, 4), (2, 3, 4), (2, 3, 4), mask=np.array([[0.0, -np.inf, 0.5], [-0.3, 0.2, 0.1]]), causal=True),
    ],
)  # fmt: skip


def scaled_dot_product_attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    mask: Any = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    return_weights: bool = False,
    enable_gqa: bool = False,
    rng: np.random.Generator | None = None,
    **other: NoReturn,
) -> Any:
    """Attention: softmax(q·kᵀ·scale + mask)·v (Vaswani et al. 2017; "Primer on Softmax", section on attention).

    Parameters
    ----------
    q, k, v : Tensor, (…, T, d_k), (…, S, d_k), (…, S, d_v)
        Queries, keys and values; leading axes (batch, heads) broadcast.
    mask : array_like, broadcast to (…, T, S), optional
        Bool: True = attend. Float: added to the scores; −inf hides a key. A padding mask (batch, S) goes with
        scores (batch, heads, T, S) as `mask[:, None, None, :]`.
    is_causal : bool
        Let query i see keys 0 … i only; together with a `mask`, both must allow, and a float mask is added too.
    scale : float, optional
        What the scores are multiplied with: 1/√d_k by default; 1.0 is the toggle's "off".
    dropout_p : float in [0, 1)
        Set this share of the weights to zero, and scale the others up. This, `return_weights`, and a mask
        that requires a gradient hold all T × S weights in memory; otherwise work is done in blocks.
    return_weights : bool
        Also return the weights (…, T, S): those that the values were multiplied with, so after dropout (in PyTorch
        too). For the softmax itself leave dropout out.
    enable_gqa : bool
        Grouped-query attention (Ainslie et al. 2023): k and v may have fewer heads, (…, H/n, S, d), than q (…, H, T,
        d_k), and n heads of queries in a row share one of them.
    rng : numpy.random.Generator, optional
        For dropout; default that of `manual_seed`.

    Returns
    -------
    Tensor (…, T, d_v), or (output, weights)
        A row whose keys are all hidden is zero, with zero gradient. The dtype is that of q, k and v together,
        `np.result_type(q, k, v)`.

    Raises
    ------
    TypeError
        For q, k, v that are not floats, a mask of integers, or another kind of scale, dropout or `is_causal`.
    ValueError
        For shapes that don't fit, a scale that is not finite and above 0, or dropout outside [0, 1).

    Notes
    -----
    Hidden keys and values must be finite: their weight is 0, but 0·NaN and 0·∞ are NaN (in PyTorch too). If padding
    may hold such numbers, clear it first, with `where(mask[..., None], v, 0.0)`.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> q = k = v = sm.Tensor(np.eye(2, dtype=np.float32))
    >>> out, weights = sm.functional.scaled_dot_product_attention(q, k, v, is_causal=True, return_weights=True)
    >>> weights.data.round(2)
    array([[1.  , 0.  ],
           [0.33, 0.67]], dtype=float32)
    """
    caller = "scaled_dot_product_attention"
    refuse(other, scaled_dot_product_attention, caller)
    q, k, v = given(q, "q", caller), given(k, "k", caller), given(v, "v", caller)
    is_causal = toggle(is_causal, "is_causal", caller, "a mask goes with mask=")
    if toggle(enable_gqa, "enable_gqa", caller):
        options = {"is_causal": is_causal, "scale": scale, "dropout_p": dropout_p, "return_weights": return_weights}
        return _grouped(q, k, v, mask, options | {"rng": rng}, caller)
    lead = _check_shapes(q, k, v, caller)
    if scale is None:
        scale = 1 / math.sqrt(max(q.shape[-1], 1))
    else:
        advice = "None is 1/sqrt(d_k), and 1.0 switches the scaling off; to learn it, multiply q with it"
        scale = positive(scale, "scale", caller, advice)
    dropout_p = within(dropout_p, 0, 1, "dropout_p", caller)
    dtype = np.result_type(q.dtype, k.dtype)  # of the scores
    if mask is not None:
        mask = check_mask(mask, (*lead, q.shape[-2], k.shape[-2]), caller)
        if mask.dtype not in (bool, dtype):
            with np.errstate(over="ignore"):  # what is too low for this precision becomes −inf, and hides too
                mask = mask.astype(dtype)
    learned = isinstance(mask, Tensor) and mask.requires_grad
    if isinstance(mask, Tensor) and not learned:
        mask = mask.data
    if not (dropout_p or return_weights or learned):
        return _attention(q, k, v, mask=mask, causal=is_causal, scale=scale)
    keep = None
    if dropout_p:
        keep = dropout_mask((*lead, q.shape[-2], k.shape[-2]), dropout_p, dtype, rng)
    out, weights = _composed(q, k, v, mask, is_causal, scale, keep)
    return (out, weights) if return_weights else out


def _grouped(q: Any, k: Any, v: Any, mask: Any, options: dict[str, Any], caller: str) -> Any:
    """Attend with the heads of q in groups, on an axis of their own over which k and v broadcast."""
    lead = _check_shapes(q, k, v, caller, grouped=True)
    (heads, t), (shared, keys) = q.shape[-3:-1], k.shape[-3:-1]
    if mask is not None:
        mask = check_mask(mask, (*lead, t, keys), caller)
    n = heads // shared
    if t == 1 and not options["is_causal"]:  # a token is generated: its heads are the rows of one product
        rows: tuple[int, ...] = (n,)
    else:
        rows = (n, t)
        k, v = (x.reshape(*x.shape[:-2], 1, *x.shape[-2:]) for x in (k, v))
    if mask is not None and mask.ndim > 2:  # (…, H, T, S), or 1 in place of H or T
        axes = (*((shared, n) if mask.shape[-3] != 1 else (1, 1)), *mask.shape[-2:][2 - len(rows) :])
        mask = mask.reshape(*mask.shape[:-3], *axes)
    q = q.reshape(*q.shape[:-3], shared, *rows, q.shape[-1])
    attended = scaled_dot_product_attention(q, k, v, mask=mask, **options)
    joined = [
        x.reshape(*x.shape[: -2 - len(rows)], heads, t, x.shape[-1])
        for x in (attended if options["return_weights"] else (attended,))
    ]
    return tuple(joined) if options["return_weights"] else joined[0]


def _check_shapes(q: Any, k: Any, v: Any, caller: str, *, grouped: bool = False) -> tuple[int, ...]:
    """Return the leading axes of the result, after checking that queries, keys and values fit."""
    if any(x.dtype.kind != "f" for x in (q, k, v)):
        raise TypeError(
            f"{caller}: q, k and v must be floats, not {q.dtype}, {k.dtype}, {v.dtype}; use .astype(np.float32)"
        )
    if min(q.ndim, k.ndim, v.ndim) < 2:
        why = "each must have two axes or more"
    elif q.shape[-1] != k.shape[-1]:
        why = f"d_k is {q.shape[-1]} in q and {k.shape[-1]} in k"
    elif k.shape[-2] != v.shape[-2]:
        why = f"there are {k.shape[-2]} keys and {v.shape[-2]} values"
    elif grouped and not _in_groups(q.shape[:-2], k.shape[:-2], v.shape[:-2]):
        why = (
            "with enable_gqa, k and v have the same number of heads (third axis from the end), and that of q is a "
            "multiple of it"
        )
    else:
        try:
            if grouped:
                return (*np.broadcast_shapes(q.shape[:-3], k.shape[:-3], v.shape[:-3]), q.shape[-3])
            return _lead(q, k, v)
        except ValueError:
            why = "the leading axes (batch, heads) do not broadcast; each must be the same or 1"
    raise ValueError(
        f"{caller}: q {q.shape}, k {k.shape}, v {v.shape} do not fit: {why}. "
        "Expected (…, T, d_k), (…, S, d_k), (…, S, d_v)"
    )


def _in_groups(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]) -> bool:
    """Return whether the heads of queries, the last of these axes, can share those of keys and values."""
    return min(len(q), len(k), len(v)) > 0 and k[-1] > 0 and k[-1] == v[-1] and q[-1] % k[-1] == 0


def check_mask(mask: Any, shape: tuple[int, ...], caller: str) -> Any:
    """Return a mask of bools or floats with two axes or more, after checking that it broadcasts to the scores."""
    mask = given(mask, "mask", caller)
    if mask.dtype.kind not in "bf":
        raise TypeError(
            f"{caller}: mask must be bool (True = attend) or float (added to the scores), "
            f"not {mask.dtype}; use np.asarray(mask, bool)"
        )
    found = mask.shape
    if len(found) > len(shape) or any(a not in (1, b) for a, b in zip(found[::-1], shape[::-1], strict=False)):
        batch, axes = shape[0], ["None"] * (len(shape) - 2)
        fix = ""
        if found == (batch, shape[-1]):
            fix = f"; a padding mask (batch, S) goes as mask[{', '.join([':', *axes, ':'])}]"
        elif len(shape) == 4 and found == (batch, *shape[-2:]):
            fix = "; a mask (batch, T, S) goes as mask[:, None]"
        raise ValueError(f"{caller}: mask of shape {found} does not broadcast to the scores {shape}{fix}")
    return mask.reshape((1,) * (2 - mask.ndim) + found) if mask.ndim < 2 else mask
