"""The encoder that reads a whole text at once, in the manner of BERT (Devlin et al. 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..mode import no_grad
from ..ops.arguments import given
from ..ops.options import count
from ..tensor import Array, Tensor
from .block import TransformerBlock, norm_layer, weights_of
from .layers import Dropout, Embedding, Rng
from .module import Module


class TransformerEncoder(Module):
    """Tokens (B, T) to a vector for each, (B, T, d_model), which has seen the whole text; BERT's shape by default.

    Unlike PyTorch's class of this name it is a whole model: the embeddings are inside.

    Parameters
    ----------
    vocab_size, d_model, n_heads, n_layers : int
        Number of tokens, width, heads per block, blocks.
    context : int
        The longest input; each position has a learned vector, unless they are rotary.
    types : int
        Kinds of text, such as question and answer, each with a learned vector; 0 for none.
    scaled : bool
        The √d_k toggle, down to the scores of every head.
    dropout : float
        After the embeddings, in attention and after each part of a block.
    norm_first : bool
        False: each part is normalized after it was added, the embeddings too. True: before it, and at the end.
    norm, eps : str, float
        Of the blocks and the model's own normalization, as in `TransformerBlock`.
    rotary_base : float, optional
        Rotary positions in place of a learned table, as in `MultiHeadAttention`.
    rng : numpy.random.Generator, optional
        Draws the weights; that of `manual_seed` by default.
    **block
        What else `TransformerBlock` takes: d_ff, feed_forward, n_kv_heads, bias.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> encoder = sm.nn.TransformerEncoder(11, d_model=8, n_heads=2, n_layers=1, context=5)
    >>> tokens, real = np.array([[1, 2, 3], [4, 5, 0]]), np.array([[True, True, True], [True, True, False]])
    >>> encoder(tokens, real).shape
    (2, 3, 8)
    >>> [weights.shape for weights in encoder.attention_weights(tokens, real)]
    [(2, 2, 3, 3)]
    """

    def __init__(
        self, vocab_size: int, *, d_model: int, n_heads: int, n_layers: int, context: int, types: int = 0,
        scaled: bool = True, dropout: float = 0.0, norm_first: bool = False, norm: str = "layer", eps: float = 1e-12,
        rotary_base: float | None = None, rng: Rng = None, **block: Any,
    ) -> None:  # fmt: skip
        for name, n, least in (("vocab_size", vocab_size, 1), ("n_layers", n_layers, 0), ("context", context, 1),
                               ("types", types, 0)):  # fmt: skip
            count(n, name, "TransformerEncoder", least)
        self.context, self.norm_first = context, norm_first
        self.tokens = Embedding(vocab_size, d_model, rng=rng)
        self.positions = Embedding(context, d_model, rng=rng) if rotary_base is None else None
        self.types = Embedding(types, d_model, rng=rng) if types else None
        self.ln = norm_layer(norm, d_model, eps, "TransformerEncoder")
        self.drop = Dropout(dropout)
        block |= {"scaled": scaled, "dropout": dropout, "norm_first": norm_first, "norm": norm, "eps": eps}
        block["rotary_base"] = rotary_base
        self.blocks = [TransformerBlock(d_model, n_heads, causal=False, rng=rng, **block) for _ in range(n_layers)]

    def forward(self, tokens: Any, mask: Any = None, types: Any = None) -> Any:
        """Return the last block's output (B, T, d_model).

        `mask` (B, T) is True where there is a token and False where there is padding, which no token attends to; what
        comes out there means nothing. `types` (B, T) are 0 by default.
        """
        x, mask = self._embedded(tokens, mask, types)
        for block in self.blocks:
            x = block(x, mask)
        return self.ln(x) if self.norm_first else x

    def _embedded(self, tokens: Any, mask: Any, types: Any) -> tuple[Any, Any]:
        tokens = tokens.data if isinstance(tokens, Tensor) else np.asarray(tokens)
        if tokens.ndim != 2 or tokens.shape[1] > self.context:
            hint = "; use tokens[None] for a batch of one" if tokens.ndim == 1 else ""
            raise ValueError(
                f"TransformerEncoder: tokens must be (batch, time ≤ {self.context}), not {tokens.shape}{hint}"
            )
        if mask is not None:
            mask = given(mask, "mask", "TransformerEncoder")
            if mask.shape != tokens.shape or mask.dtype != bool:
                raise ValueError(
                    f"TransformerEncoder: mask must be bools (True = a token) of the shape of tokens {tokens.shape}, "
                    f"not {mask.dtype}{mask.shape}" + ("; use mask.astype(bool)" if mask.dtype != bool else "")
                )
            mask = mask[:, None, None, :]  # (B, 1, 1, T)
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions(np.arange(tokens.shape[1]))
        if self.types is not None:
            x = x + self.types(np.zeros(tokens.shape, int) if types is None else types)
        elif types is not None:
            raise ValueError("TransformerEncoder: types were given to a model without; make it with types=2")
        return self.drop(x if self.norm_first else self.ln(x)), mask

    def attention_weights(self, tokens: Any, mask: Any = None, types: Any = None) -> list[Array]:
        """Return the attention weights (B, H, T, T) of each block; the arguments are those of the call."""
        with no_grad(), self.evaluating():
            return weights_of(self.blocks, *self._embedded(tokens, mask, types))
