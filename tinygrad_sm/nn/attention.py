"""Multi-head attention, with the √d_k toggle."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from .. import functional as F
from ..ops.arguments import given
from ..ops.attention import check_mask
from ..ops.options import refuse, shown, toggle, within
from ..tensor import Array, Tensor
from .layers import Linear, Rng
from .module import Module


class Cache:
    """The keys and values of past positions, so that generating one more token looks at that token only.

    `k` and `v` are arrays (B, H, context, d_head), of which the first `length` positions are filled.
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
        if self.k is None:
            shape = (*k.shape[:2], self.context, k.shape[3])
            self.k, self.v = np.empty(shape, k.dtype), np.empty(shape, v.dtype)
        self.k[:, :, start:end], self.v[:, :, start:end], self.length = k, v, end
        return self.k[:, :, :end], self.v[:, :, :end]


class MultiHeadAttention(Module):
    """Self-attention in `n_heads` parallel heads (Vaswani et al. 2017): x (B, T, d_model) to the same shape.

    Parameters
    ----------
    d_model : int
        Width of the input and the output; d_head = d_model / n_heads is d_k.
    n_heads : int
        Number of heads; must divide d_model.
    causal : bool
        Whether position i sees positions 0 … i only.
    scaled : bool
        The √d_k toggle: False leaves the scores q·k undivided.
    dropout : float
        Share of the attention weights set to zero in training.
    bias : bool
        Whether the two projections have a bias.

    Attributes
    ----------
    qkv : Linear
        One product for queries, keys and values: (3·d_model, d_model), in this order.
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
    """

    def __init__(
        self, d_model: int, n_heads: int, *, causal: bool = False, scaled: bool = True, dropout: float = 0.0,
        bias: bool = True, rng: Rng = None,
    ) -> None:  # fmt: skip
        if not (isinstance(d_model, (int, np.integer)) and isinstance(n_heads, (int, np.integer))):
            sizes = f"{shown(d_model)} and {shown(n_heads)}"
            raise TypeError(f"MultiHeadAttention: d_model and n_heads must be integers, not {sizes}")
        if n_heads < 1 or d_model % n_heads:
            raise ValueError(f"MultiHeadAttention: n_heads={n_heads} must divide d_model={d_model}")
        causal = toggle(causal, "causal", "MultiHeadAttention", "a mask goes with each call")
        dropout = within(dropout, 0, 1, "dropout", "MultiHeadAttention")
        _scale(scaled)
        self.d_model, self.n_heads, self.causal, self.scaled, self.dropout = d_model, n_heads, causal, scaled, dropout
        self.qkv = Linear(d_model, 3 * d_model, bias, rng=rng)
        self.proj = Linear(d_model, d_model, bias, rng=rng)

    def split_heads(self, x: Any, *, recorded: bool = True) -> list[Any]:
        """Return q, k and v, each (B, H, T, d_head), of x (B, T, d_model); as arrays if they need not be `recorded`."""
        if x.ndim != 3 or x.shape[2] != self.d_model:
            fix = "; use x[None] for a batch of one" if x.ndim == 2 else ""
            raise ValueError(f"MultiHeadAttention: x must be (batch, time, {self.d_model}), not {x.shape}{fix}")
        if x.dtype.kind != "f":
            raise TypeError(f"MultiHeadAttention: x must be floats, not {x.dtype}; use .astype(np.float32)")
        b, t, _ = x.shape
        qkv = self.qkv(x) if recorded else self.qkv(x).data
        qkv = qkv.reshape(b, t, 3, self.n_heads, self.d_model // self.n_heads)  # (B, T, 3, H, d_head)
        qkv = qkv.transpose(2, 0, 3, 1, 4)  # (3, B, H, T, d_head)
        return [qkv[0], qkv[1], qkv[2]]

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
        q, k, v = self.split_heads(x, recorded=cache is None)
        b, t, _ = x.shape
        if mask is not None:
            mask = check_mask(mask, (b, self.n_heads, t, t + (cache.length if cache else 0)), "MultiHeadAttention")
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
        attended = F.scaled_dot_product_attention(
            q, k, v, mask=mask, is_causal=causal, scale=_scale(self.scaled),
            dropout_p=self.dropout if self.training else 0.0, return_weights=return_weights,
        )  # fmt: skip
        out, weights = attended if return_weights else (attended, None)
        out = self.proj(out.transpose(0, 2, 1, 3).reshape(b, t, self.d_model))
        return (out, weights) if return_weights else out


def _scale(scaled: Any) -> float | None:
    """Return the scale that the toggle stands for: None is 1/√d_head."""
    advice = "True divides the scores by sqrt(d_head), and F.scaled_dot_product_attention takes any scale="
    return None if toggle(scaled, "scaled", "MultiHeadAttention", advice) else 1.0
