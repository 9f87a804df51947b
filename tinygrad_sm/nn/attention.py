"""Multi-head attention, to the sequence itself or to another one, with the √d_k toggle."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from .. import functional as F
from ..ops.arguments import given
from ..ops.attention import check_mask
from ..ops.options import count, positive, refuse, shown, toggle, within
from ..tensor import Array, Tensor
from .layers import Linear, Rng
from .module import Module


class Cache:
    """The keys and values of past positions, so that generating one more token looks at that token only.

    `k` and `v` are arrays (B, H, room, d_head), of which the first `length` positions are filled. The room doubles when
    it is used up, until it is `context`.

    >>> import tinygrad_sm as sm
    >>> import numpy as np
    >>> cache = sm.nn.Cache(8)
    >>> one = np.ones((1, 2, 1, 4), np.float32)
    >>> _ = cache.append(one, one)
    >>> k, v = cache.append(one, one)
    >>> k.shape, cache.length
    ((1, 2, 2, 4), 2)
    >>> twice = cache.reorder([0, 0])
    >>> twice.k.shape, twice.length
    ((2, 2, 8, 4), 2)
    """

    def __init__(self, context: int) -> None:
        self.context, self.length = context, 0
        self.k: Any = None
        self.v: Any = None

    def append(self, k: Array, v: Array) -> tuple[Array, Array]:
        """Add the new positions (B, H, T, d_head), and return all so far."""
        start, end = self.length, self.length + k.shape[2]
        if end > self.context:
            raise ValueError(f"the key-value cache holds {self.context} positions; {end} were given")
        if self.k is not None and (len(k), k.shape[1], k.shape[3]) != (len(self.k), self.k.shape[1], self.k.shape[3]):
            raise ValueError(
                f"the key-value cache holds keys of shape {self.k[:, :, :start].shape}, which those of shape {k.shape} "
                "do not continue; reorder(rows) makes a cache of other rows of the batch"
            )
        if self.k is None or end > self.k.shape[2]:
            room = min(self.context, max(2 * end, 64))
            self.k, self.v = (self._moved(old, new, room) for old, new in ((self.k, k), (self.v, v)))
        self.k[:, :, start:end], self.v[:, :, start:end], self.length = k, v, end
        return self.k[:, :, :end], self.v[:, :, :end]

    def _moved(self, old: Any, new: Array, room: int) -> Array:
        """Return an array of more room, for what is like `new`, with what `old` holds."""
        larger = np.empty((*new.shape[:2], room, new.shape[3]), new.dtype)
        if old is not None:
            larger[:, :, : self.length] = old[:, :, : self.length]
        return larger

    def reorder(self, rows: Any) -> Cache:
        """Return a cache that holds these rows of the batch: the hypotheses that a search keeps, some of them twice."""
        other = Cache(self.context)
        if self.k is not None:
            other.append(self.k[rows, :, : self.length], self.v[rows, :, : self.length])
        return other


class MultiHeadAttention(Module):
    """Self-attention in `n_heads` parallel heads (Vaswani et al. 2017): x (B, T, d_model) to the same shape.

    Parameters
    ----------
    d_model : int
        Width of the input and the output; d_head = d_model / n_heads is d_k.
    n_heads : int
        Number of heads; must divide d_model.
    n_kv_heads : int, optional
        Number of heads of keys and values, each shared by n_heads / n_kv_heads heads of queries in a row: grouped-query
        attention (Ainslie et al. 2023). As many as `n_heads` by default.
    rotary_base : float, optional
        Turn queries and keys by their positions with `F.rotary`, of this base; 10000 is usual. None: do not.
    causal : bool
        Whether position i sees positions 0 … i only.
    scaled : bool
        The √d_k toggle: False leaves the scores q·k undivided.
    dropout : float
        Share of the attention weights set to zero in training.
    bias : bool
        Whether the two projections have a bias.
    rng : numpy.random.Generator, optional
        Draws the weights; that of `manual_seed` by default.

    Attributes
    ----------
    qkv : Linear
        One product for queries, keys and values, in this order: (3·d_model, d_model), or fewer rows where heads are
        shared.
    proj : Linear
        From the joined heads back to d_model.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> attend = sm.nn.MultiHeadAttention(8, 2, causal=True)
    >>> x = sm.Tensor(np.ones((1, 3, 8), np.float32))
    >>> out, weights = attend(x, return_weights=True)
    >>> out.shape, weights.shape
    ((1, 3, 8), (1, 2, 3, 3))
    >>> [part.shape for part in sm.nn.MultiHeadAttention(8, 2, n_kv_heads=1).split_heads(x)]
    [(1, 2, 3, 4), (1, 1, 3, 4), (1, 1, 3, 4)]
    """

    def __init__(
        self, d_model: int, n_heads: int, *, n_kv_heads: int | None = None, rotary_base: float | None = None,
        causal: bool = False, scaled: bool = True, dropout: float = 0.0, bias: bool = True, rng: Rng = None,
    ) -> None:  # fmt: skip
        _check_sizes(d_model, n_heads, "MultiHeadAttention")
        n_kv_heads = n_heads if n_kv_heads is None else count(n_kv_heads, "n_kv_heads", "MultiHeadAttention")
        if n_heads % n_kv_heads:
            raise ValueError(f"MultiHeadAttention: n_kv_heads={n_kv_heads} must divide n_heads={n_heads}")
        if rotary_base is not None:
            positive(rotary_base, "rotary_base", "MultiHeadAttention")
            if d_model // n_heads % 2:
                raise ValueError(
                    f"MultiHeadAttention: rotary positions turn pairs of features, and d_head = {d_model}/{n_heads} "
                    f"= {d_model // n_heads} is odd"
                )
        causal = toggle(causal, "causal", "MultiHeadAttention", "a mask goes with each call")
        dropout = within(dropout, 0, 1, "dropout", "MultiHeadAttention")
        _scale(scaled, "MultiHeadAttention")
        self.d_model, self.n_heads, self.causal, self.scaled, self.dropout = d_model, n_heads, causal, scaled, dropout
        self.n_kv_heads, self.rotary_base = n_kv_heads, rotary_base
        self.qkv = Linear(d_model, (n_heads + 2 * n_kv_heads) * (d_model // n_heads), bias, rng=rng)
        self.proj = Linear(d_model, d_model, bias, rng=rng)

    def split_heads(self, x: Any, start: int = 0, *, recorded: bool = True) -> list[Any]:
        """Return q (B, H, T, d_head), and k and v of as many heads or fewer, of x (B, T, d_model).

        `start` is the position of the first of x. They are arrays if they need not be `recorded`.
        """
        _check_input(x, self.d_model, "x", "MultiHeadAttention")
        b, t, _ = x.shape
        qkv = self.qkv(x) if recorded else self.qkv(x).data
        h, kv = self.n_heads, self.n_kv_heads
        qkv = qkv.reshape(b, t, h + 2 * kv, self.d_model // h).transpose(0, 2, 1, 3)  # (B, all heads, T, d_head)
        qk, v = qkv, qkv[:, h + kv :]
        if self.rotary_base is not None:
            qk = F.rotary(qkv[:, : h + kv], np.arange(start, start + t), base=self.rotary_base)
        return [qk[:, :h], qk[:, h : h + kv], v]

    def forward(
        self, x: Any, mask: Any = None, *, return_weights: bool = False, cache: Cache | None = None, **other: NoReturn
    ) -> Any:
        """Return the output (B, T, d_model), and with `return_weights` the weights (B, H, T, S) too.

        In training these are the weights after dropout (in PyTorch too); for the softmax itself, call `eval()` first.

        `mask` broadcasts to (B, H, T, S): bool, True = attend, or float, added to the scores. So a padding mask
        (B, S), True where there is a token, goes as `mask[:, None, None, :]`; one of two axes is (T, S). A position
        that may attend to nothing gives the bias of `proj`. With a `cache` (no gradients then), x holds the new
        positions only.
        """
        refuse(other, self.forward, "MultiHeadAttention")
        x = given(x, "x", "MultiHeadAttention")
        past = cache.length if cache else 0
        q, k, v = self.split_heads(x, past, recorded=cache is None)
        b, t, _ = x.shape
        if mask is not None:
            mask = check_mask(mask, (b, self.n_heads, t, t + past), "MultiHeadAttention")
        if cache is not None:
            q, (k, v) = Tensor(q), cache.append(k, v)
        causal = self.causal and t > 1  # the last position sees all
        if causal and k.shape[2] != t:  # new positions stand at the end of the keys
            ahead = np.arange(k.shape[2]) > np.arange(k.shape[2] - t, k.shape[2])[:, None]
            if mask is not None and mask.dtype != bool:
                mask = F.where(ahead, -np.inf, mask)
            else:
                mask = ~ahead if mask is None else np.logical_and(mask, ~ahead)
            causal = False
        return _attend(self, q, k, v, mask, causal, return_weights)


class CrossAttention(Module):
    """Attention to another sequence, the memory: queries of x (B, T, d_model), keys and values of it (B, S, d_model).

    In an encoder-decoder Transformer the decoder reads the encoder's output with it. The parameters are those of
    `MultiHeadAttention`, but its `qkv` is cut in two, since they see different inputs.

    Parameters
    ----------
    d_model, n_heads, scaled, dropout, bias
        As in `MultiHeadAttention`.
    rng : numpy.random.Generator, optional
        Draws the weights; that of `manual_seed` by default.

    Attributes
    ----------
    q : Linear
        For queries: (d_model, d_model).
    kv : Linear
        One product for keys and values: (2·d_model, d_model), in this order.
    proj : Linear
        From the joined heads back to d_model.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> x, memory = (sm.Tensor(np.ones((1, n, 8), np.float32)) for n in (3, 5))
    >>> out, weights = sm.nn.CrossAttention(8, 2)(x, memory, return_weights=True)
    >>> out.shape, weights.shape
    ((1, 3, 8), (1, 2, 3, 5))
    """

    def __init__(
        self, d_model: int, n_heads: int, *, scaled: bool = True, dropout: float = 0.0, bias: bool = True,
        rng: Rng = None,
    ) -> None:  # fmt: skip
        _check_sizes(d_model, n_heads, "CrossAttention")
        dropout = within(dropout, 0, 1, "dropout", "CrossAttention")
        _scale(scaled, "CrossAttention")
        self.d_model, self.n_heads, self.scaled, self.dropout = d_model, n_heads, scaled, dropout
        self.q = Linear(d_model, d_model, bias, rng=rng)
        self.kv = Linear(d_model, 2 * d_model, bias, rng=rng)
        self.proj = Linear(d_model, d_model, bias, rng=rng)

    def forward(
        self, x: Any, memory: Any, mask: Any = None, *, return_weights: bool = False, cache: Cache | None = None,
        **other: NoReturn,
    ) -> Any:  # fmt: skip
        """Return the output (B, T, d_model), and with `return_weights` the weights (B, H, T, S) too.

        `mask` broadcasts to (B, H, T, S); a padding mask of the memory (B, S), True where there is a token, goes as
        `mask[:, None, None, :]`. A `cache` takes up the keys and values of the memory at the first call; later
        ones read it, and their `memory` may be None.
        """
        refuse(other, self.forward, "CrossAttention")
        x = given(x, "x", "CrossAttention")
        _check_input(x, self.d_model, "x", "CrossAttention")
        b, t, _ = x.shape
        size = self.d_model // self.n_heads
        q = self.q(x).reshape(b, t, self.n_heads, size).transpose(0, 2, 1, 3)  # (B, H, T, d_head)
        if cache is None or not cache.length:
            memory = given(memory, "memory", "CrossAttention")
            _check_input(memory, self.d_model, "memory", "CrossAttention")
            kv = self.kv(memory).reshape(*memory.shape[:2], 2, self.n_heads, size)  # (B, S, 2, H, d_head)
            kv = kv.transpose(2, 0, 3, 1, 4)  # (2, B, H, S, d_head)
            k, v = kv[0], kv[1]
            if cache is not None:
                k, v = cache.append(k.data, v.data)
        else:
            k, v = cache.k[:, :, : cache.length], cache.v[:, :, : cache.length]
        if len(k) != b:
            raise ValueError(f"CrossAttention: x {x.shape} has a batch of {b}, and the memory one of {len(k)}")
        if mask is not None:
            mask = check_mask(mask, (b, self.n_heads, t, k.shape[2]), "CrossAttention")
        return _attend(self, q, k, v, mask, False, return_weights)


def _attend(module: Any, q: Any, k: Any, v: Any, mask: Any, causal: bool, return_weights: bool) -> Any:
    """Attend in every head, join the heads and project: q (B, H, T, d_head) to (B, T, d_model)."""
    attended = F.scaled_dot_product_attention(
        q, k, v, mask=mask, is_causal=causal, scale=_scale(module.scaled, type(module).__name__),
        dropout_p=module.dropout if module.training else 0.0, return_weights=return_weights,
        enable_gqa=k.shape[1] != q.shape[1],
    )  # fmt: skip
    out, weights = attended if return_weights else (attended, None)
    b, _, t, _ = q.shape
    out = module.proj(out.transpose(0, 2, 1, 3).reshape(b, t, module.d_model))
    return (out, weights) if return_weights else out


def _check_sizes(d_model: Any, n_heads: Any, caller: str) -> None:
    if not (isinstance(d_model, (int, np.integer)) and isinstance(n_heads, (int, np.integer))):
        sizes = f"{shown(d_model)} and {shown(n_heads)}"
        raise TypeError(f"{caller}: d_model and n_heads must be integers, not {sizes}")
    if n_heads < 1 or d_model % n_heads:
        raise ValueError(f"{caller}: n_heads={n_heads} must divide d_model={d_model}")


def _check_input(x: Any, d_model: int, name: str, caller: str) -> None:
    if x.ndim != 3 or x.shape[2] != d_model:
        fix = f"; use {name}[None] for a batch of one" if x.ndim == 2 else ""
        raise ValueError(f"{caller}: {name} must be (batch, time, {d_model}), not {x.shape}{fix}")
    if x.dtype.kind != "f":
        raise TypeError(f"{caller}: {name} must be floats, not {x.dtype}; use .astype(np.float32)")


def _scale(scaled: Any, caller: str) -> float | None:
    """Return the scale that the toggle stands for: None is 1/√d_head."""
    advice = "True divides the scores by sqrt(d_head), and F.scaled_dot_product_attention takes any scale="
    return None if toggle(scaled, "scaled", caller, advice) else 1.0
