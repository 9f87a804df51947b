"""Language models: a stack of causal Transformer blocks, with `generate`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import functional as F
from ..mode import no_grad
from ..ops.options import choice, count
from ..random import default_rng
from ..tensor import Array, Tensor
from .attention import Cache
from .block import TransformerBlock, norm_layer, weights_of
from .layers import Dropout, Embedding, Linear, Rng, normal
from .module import Module, evaluating


class TransformerLM(Module):
    """A language model: tokens (B, T) to the logits of each next token (B, T, vocab_size); GPT-2's shape by default.

    Parameters
    ----------
    vocab_size, d_model, n_heads, n_layers : int
        Number of tokens, width, heads per block, blocks.
    context : int
        The longest input.
    scaled : bool
        The √d_k toggle, down to the scores of every head.
    dropout : float
        In attention and after each part of a block.
    init : {"gpt2", "unit"}
        "gpt2": all weights normal with standard deviation 0.02, those that write to the residual stream
        divided by √(2·n_layers), biases 0. "unit": as that, but with query and key weights of standard deviation
        1/√d_model, so that the entries of q and k have variance 1, as the argument for √d_k assumes.
    tied : bool
        Whether the output layer shares its weight with the embedding (Press and Wolf 2017); else there is a `head`.
    norm, eps : str, float
        Of the blocks and of the last normalization, as in `TransformerBlock`.
    rotary_base : float, optional
        Rotary positions in place of a learned table, as in `MultiHeadAttention`.
    rng : numpy.random.Generator, optional
        Draws the weights; that of `manual_seed` by default.
    **block
        What else `TransformerBlock` takes: d_ff, feed_forward, n_kv_heads, bias.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> _ = sm.manual_seed(0)
    >>> lm = sm.nn.TransformerLM(11, d_model=8, n_heads=2, n_layers=1, context=5)
    >>> lm(np.array([[1, 2, 3]])).shape
    (1, 3, 11)
    >>> lm.generate([1, 2], max_new_tokens=4, rng=np.random.default_rng(0)).shape
    (6,)
    >>> hidden = lm.hidden(np.array([[1, 2, 3]]))
    >>> hidden.shape, lm.logits(hidden).shape, [weights.shape for weights in lm.attention_weights([[1, 2, 3]])]
    ((1, 3, 8), (1, 3, 11), [(1, 2, 3, 3)])

    The shape of Llama:

    >>> llama = sm.nn.TransformerLM(11, d_model=8, n_heads=2, n_layers=1, context=5, norm="rms", rotary_base=1e4,
    ...                             feed_forward="swiglu", d_ff=16, n_kv_heads=1, bias=False)
    >>> [name for name, _ in llama.named_parameters()]  # doctest: +NORMALIZE_WHITESPACE
    ['tokens.weight', 'blocks.0.ln1.weight', 'blocks.0.attn.qkv.weight', 'blocks.0.attn.proj.weight',
     'blocks.0.ln2.weight', 'blocks.0.mlp.gate_up.weight', 'blocks.0.mlp.down.weight', 'ln.weight']
    """

    def __init__(
        self, vocab_size: int, *, d_model: int, n_heads: int, n_layers: int, context: int, scaled: bool = True,
        dropout: float = 0.0, init: str = "gpt2", tied: bool = True, norm: str = "layer", eps: float = 1e-5,
        rotary_base: float | None = None, rng: Rng = None, **block: Any,
    ) -> None:  # fmt: skip
        choice(init, ("gpt2", "unit"), "init", "TransformerLM")
        for name, n, least in (("vocab_size", vocab_size, 1), ("n_layers", n_layers, 0), ("context", context, 1)):
            count(n, name, "TransformerLM", least)
        self.vocab_size, self.context = vocab_size, context
        self.tokens = Embedding(vocab_size, d_model, rng=rng)
        self.positions: Any = Embedding(context, d_model, rng=rng) if rotary_base is None else None
        self.drop = Dropout(dropout)
        block |= {"scaled": scaled, "dropout": dropout, "norm": norm, "eps": eps, "rotary_base": rotary_base}
        self.blocks = [TransformerBlock(d_model, n_heads, rng=rng, **block) for _ in range(n_layers)]
        self.ln = norm_layer(norm, d_model, eps, "TransformerLM")
        self.head = None if tied else Linear(d_model, vocab_size, bias=False, rng=rng)
        self._initialize(init, d_model, rng)

    def _initialize(self, init: str, d_model: int, rng: Rng) -> None:
        for name, p in self.named_parameters():
            into_residual = name.endswith(("proj.weight", "mlp.layers.2.weight", "mlp.down.weight"))
            if p.ndim == 2:
                p.data = normal(p.shape, 0.02 / math.sqrt(2 * len(self.blocks)) if into_residual else 0.02, rng).data
            elif name.endswith("bias"):
                p.data = np.zeros_like(p.data)
        if init == "unit":
            for block in self.blocks:
                weight, values = block.attn.qkv.weight, block.attn.n_kv_heads * (d_model // block.attn.n_heads)
                query_key = normal((len(weight) - values, d_model), 1 / math.sqrt(d_model), rng).data
                weight.data = np.concatenate([query_key, weight.data[-values:]])

    def forward(self, tokens: Any, *, caches: list[Cache] | None = None) -> Any:
        """Return the logits (B, T, vocab_size); with `caches`, `tokens` are the new ones only."""
        return self.logits(self.hidden(tokens, caches=caches))

    def logits(self, hidden: Any) -> Any:
        """Return the logits (…, vocab_size) for what `hidden` returned (…, d_model)."""
        return F.linear(hidden, self.tokens.weight) if self.head is None else self.head(hidden)

    def hidden(self, tokens: Any, *, caches: list[Cache] | None = None) -> Any:
        """Return the normalized output of the last block (B, T, d_model)."""
        tokens = tokens.data if isinstance(tokens, Tensor) else np.asarray(tokens)
        start = caches[0].length if caches else 0
        if tokens.ndim != 2 or start + tokens.shape[1] > self.context:
            raise ValueError(
                f"TransformerLM: tokens must be (batch, time ≤ {self.context}), not {tokens.shape}"
                + (f" after {start}" if start else "")
            )
        if caches is not None and len(caches) != len(self.blocks):
            raise ValueError(
                f"TransformerLM: there are {len(caches)} caches for {len(self.blocks)} blocks; one for each"
            )
        x = self.drop(self._embedded(tokens, start))  # (B, T, d_model)
        for i, block in enumerate(self.blocks):
            x = block(x, cache=caches[i] if caches else None)
        return self.ln(x)

    def _embedded(self, tokens: Any, start: int = 0) -> Any:
        x = self.tokens(tokens)
        return x if self.positions is None else x + self.positions(np.arange(start, start + np.shape(tokens)[1]))

    def attention_weights(self, tokens: Any) -> list[Array]:
        """Return the attention weights (B, H, T, T) of each block for `tokens` (B, T)."""
        with no_grad(), self.evaluating():
            return weights_of(self.blocks, self._embedded(tokens))

    def generate(
        self, prompt: Any, max_new_tokens: int, *, temperature: float = 1.0, top_k: int | None = None,
        top_p: float | None = None, rng: Rng = None,
    ) -> Array:  # fmt: skip
        """Continue a prompt, sampling one token after the other; see `stream` for the parameters.

        Returns
        -------
        ndarray of int, (T + max_new_tokens,), or (B, …) for a batch of prompts (B, T)
        """
        steps = list(self.stream(prompt, max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, rng=rng))
        prompt = np.asarray(prompt)
        new = np.stack(steps, axis=-1) if steps else np.empty((*prompt.shape[:-1], 0), prompt.dtype)
        return np.concatenate([prompt, new.reshape(*prompt.shape[:-1], -1)], axis=-1)

    def stream(
        self, prompt: Any, max_new_tokens: int, *, temperature: float = 1.0, top_k: int | None = None,
        top_p: float | None = None, rng: Rng = None,
    ) -> Iterator[Array]:  # fmt: skip
        """Yield the tokens that continue a prompt (T,) or a batch (B, T), one step at a time: (B,) each.

        Parameters
        ----------
        prompt : array_like of int
            What comes before. Beyond `context`, the earliest tokens are forgotten.
        max_new_tokens : int
            Number of tokens to add.
        temperature : float
            Above 1 more surprising, below 1 less; 0 always takes the likeliest.
        top_k : int, optional
            Sample among the k likeliest only.
        top_p : float in (0, 1], optional
            Sample among the fewest tokens whose probabilities sum to p or more.
        rng : numpy.random.Generator, optional
            Default that of `manual_seed`.

        Examples
        --------
        >>> import numpy as np, tinygrad_sm as sm
        >>> lm = sm.nn.TransformerLM(11, d_model=8, n_heads=2, n_layers=1, context=5)
        >>> len(list(lm.stream([1, 2], max_new_tokens=3, temperature=0)))
        3
        """
        count(max_new_tokens, "max_new_tokens", "generate", 0)
        tokens = np.atleast_2d(np.asarray(prompt))
        if tokens.ndim != 2 or not tokens.shape[1] or tokens.dtype.kind not in "iu":
            raise ValueError(f"generate: the prompt must be integers (T,) or (B, T) with T ≥ 1, not {np.shape(prompt)}")
        parts = [module for _, module in self.named_modules()]
        caches: list[Cache] = []
        for _ in range(max_new_tokens):
            if not caches or caches[0].length == self.context:
                # At first take all that fits. When it is full keep the later half, whose positions start
                # anew, so that not every further token costs a whole pass.
                kept = max(1, self.context // 2) if caches else self.context
                caches, new = [Cache(self.context) for _ in self.blocks], tokens[:, -kept:]
            with no_grad(), evaluating(parts):
                logits = self.logits(self.hidden(new, caches=caches)[:, -1])
            new = sample(logits.data, temperature, top_k, top_p, rng)[:, None]
            tokens = np.concatenate([tokens, new], axis=1)
            yield new[:, 0]


def sample(
    logits: Array, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, rng: Rng = None
) -> Array:
    """Draw one class for each row of logits (B, V), by temperature, top-k and top-p (nucleus) sampling.

    >>> import numpy as np
    >>> sample(np.array([[0.0, 5.0, 1.0]]), temperature=0)
    array([1])
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"generate: temperature must be a finite number of 0 or more, not {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"generate: top_k must be 1 or more, not {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"generate: top_p must be in (0, 1], not {top_p}")
    if temperature == 0:
        return logits.argmax(axis=-1)
    row = np.arange(len(logits))
    order = np.argsort(-logits, axis=-1, kind="stable")  # likeliest first
    z = logits[row[:, None], order].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        p = np.exp((z - z[:, :1]) / temperature)  # softmax, not yet divided by the sum
    if top_k is not None:
        p[:, top_k:] = 0
    if top_p is not None:
        p[np.cumsum(p, axis=-1) - p >= top_p * p.sum(axis=-1, keepdims=True)] = 0  # those before it have reached top_p
    cumulative = np.cumsum(p, axis=-1)
    u = default_rng(rng).random(len(p))[:, None] * cumulative[:, -1:]
    rank = (cumulative <= u).sum(axis=-1)  # u < the last sum, so this is in range, and p[rank] > 0
    return order[row, rank]
