"""The block that Transformers are stacks of: attention, then a two-layer network, each added to what came in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .. import functional as F
from ..ops.options import choice, count, toggle
from ..tensor import Array
from .attention import Cache, MultiHeadAttention
from .layers import GELU, Dropout, LayerNorm, Linear, ReLU, RMSNorm, Rng, Sequential
from .module import Module


class SwiGLU(Module):
    """A two-layer network with a gate (Shazeer 2020): W₂·(silu(W₁·x) ∘ W₃·x), from d_model to d_ff and back.

    Parameters
    ----------
    d_model, d_ff : int
        Width of input and output, and between.
    bias : bool
        Whether the products have a bias.
    rng : numpy.random.Generator, optional
        Draws the weights; that of `manual_seed` by default.

    Attributes
    ----------
    gate_up : Linear
        W₁ and W₃ in one product: (2·d_ff, d_model), in this order.
    down : Linear
        W₂: (d_model, d_ff).

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> sm.nn.SwiGLU(8, 16)(sm.Tensor(np.ones((3, 8), np.float32))).shape
    (3, 8)
    """

    def __init__(self, d_model: int, d_ff: int, bias: bool = False, *, rng: Rng = None) -> None:
        count(d_model, "d_model", "SwiGLU")
        count(d_ff, "d_ff", "SwiGLU")
        self.gate_up = Linear(d_model, 2 * d_ff, bias, rng=rng)
        self.down = Linear(d_ff, d_model, bias, rng=rng)

    def forward(self, x: Any) -> Any:
        """Return the network's output, of the shape of x (…, d_model)."""
        both = self.gate_up(x)  # (…, 2·d_ff)
        half = both.shape[-1] // 2
        return self.down(F.silu(both[..., :half]) * both[..., half:])


NORMS: dict[str, Callable[..., Module]] = {"layer": LayerNorm, "rms": RMSNorm}
ACTIVATIONS: dict[str, Callable[[], Module]] = {"gelu": GELU, "gelu_exact": lambda: GELU("none"), "relu": ReLU}


def norm_layer(norm: str, d_model: int, eps: float, caller: str) -> Module:
    """Return a normalization by its name in `NORMS`."""
    return NORMS[choice(norm, [*NORMS], "norm", caller)](d_model, eps)


class TransformerBlock(Module):
    """Attention, then a two-layer network, each added to what came in; normalized before (pre-norm) or after.

    Pre-norm is x + attn(ln1(x)), then x + mlp(ln2(x)): that of GPT-2, and with `norm="rms"`, `feed_forward="swiglu"`,
    `rotary_base` and no bias that of Llama. With `norm_first=False` it is ln1(x + attn(x)), then ln2(x + mlp(x)): that
    of the first Transformer and of BERT.

    Parameters
    ----------
    d_model, n_heads : int
        Width, and heads that it is divided among.
    d_ff : int, optional
        Width between the two layers; 4·d_model by default.
    causal : bool
        Whether a position sees only itself and what is before it.
    scaled : bool
        The √d_k toggle.
    dropout : float
        In attention, and after each part.
    norm_first : bool
        Normalize what goes into a part (True), or the sum after it.
    norm : {"layer", "rms"}
        `LayerNorm` or `RMSNorm`.
    feed_forward : {"gelu", "gelu_exact", "relu", "swiglu"}
        The activation between two `Linear` layers, or `SwiGLU`. "gelu" is the tanh form; "gelu_exact" needs
        SciPy in float64.
    n_kv_heads, rotary_base : optional
        As in `MultiHeadAttention`: heads that share keys and values, and rotary positions.
    bias : bool
        Whether the products have a bias.
    eps : float
        Of the normalizations.
    rng : numpy.random.Generator, optional
        Draws the weights; that of `manual_seed` by default.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> x = sm.Tensor(np.ones((1, 3, 8), np.float32))
    >>> sm.nn.TransformerBlock(8, 2)(x).shape
    (1, 3, 8)
    >>> llama = {"norm": "rms", "feed_forward": "swiglu", "n_kv_heads": 1, "rotary_base": 1e4, "bias": False}
    >>> out, weights = sm.nn.TransformerBlock(8, 2, **llama)(x, return_weights=True)
    >>> weights.shape
    (1, 2, 3, 3)
    """

    def __init__(
        self, d_model: int, n_heads: int, *, d_ff: int | None = None, causal: bool = True, scaled: bool = True,
        dropout: float = 0.0, norm_first: bool = True, norm: str = "layer", feed_forward: str = "gelu",
        n_kv_heads: int | None = None, rotary_base: float | None = None, bias: bool = True, eps: float = 1e-5,
        rng: Rng = None,
    ) -> None:  # fmt: skip
        d_ff = 4 * d_model if d_ff is None else d_ff
        count(d_ff, "d_ff", "TransformerBlock")
        choice(feed_forward, [*ACTIVATIONS, "swiglu"], "feed_forward", "TransformerBlock")
        self.norm_first = toggle(norm_first, "norm_first", "TransformerBlock")
        self.ln1 = norm_layer(norm, d_model, eps, "TransformerBlock")
        self.attn = MultiHeadAttention(
            d_model, n_heads, n_kv_heads=n_kv_heads, rotary_base=rotary_base, causal=causal, scaled=scaled,
            dropout=dropout, bias=bias, rng=rng,
        )  # fmt: skip
        self.ln2 = norm_layer(norm, d_model, eps, "TransformerBlock")
        if feed_forward == "swiglu":
            self.mlp: Module = SwiGLU(d_model, d_ff, bias, rng=rng)
        else:
            first, second = Linear(d_model, d_ff, bias, rng=rng), Linear(d_ff, d_model, bias, rng=rng)
            self.mlp = Sequential(first, ACTIVATIONS[feed_forward](), second)
        self.drop = Dropout(dropout)

    def forward(self, x: Any, mask: Any = None, *, cache: Cache | None = None, return_weights: bool = False) -> Any:
        """Return the block's output, (B, T, d_model) as x, and with `return_weights` the weights (B, H, T, S) too."""
        attended = self.attn(self.ln1(x) if self.norm_first else x, mask, cache=cache, return_weights=return_weights)
        out, weights = attended if return_weights else (attended, None)
        x = x + self.drop(out)
        if self.norm_first:
            x = x + self.drop(self.mlp(self.ln2(x)))
        else:
            x = self.ln1(x)
            x = self.ln2(x + self.drop(self.mlp(x)))
        return (x, weights) if return_weights else x


def weights_of(blocks: Iterable[TransformerBlock], x: Any, mask: Any = None) -> list[Array]:
    """Return the attention weights (B, H, T, T) of each block, of which the first is given x."""
    found = []
    for block in blocks:
        x, weights = block(x, mask, return_weights=True)
        found.append(weights.data)
    return found
