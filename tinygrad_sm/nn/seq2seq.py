"""The encoder-decoder Transformer: one sequence read, another one written (Vaswani et al. 2017), pre-norm."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from .. import functional as F
from ..mode import no_grad
from ..ops.options import count
from ..tensor import Tensor
from .attention import Cache, CrossAttention, MultiHeadAttention
from .block import TransformerBlock
from .layers import GELU, Dropout, Embedding, LayerNorm, Linear, Rng, Sequential, normal
from .module import Module

Caches: TypeAlias = list[tuple[Cache, Cache]]  # for each block: of the target so far, and of the memory


class TransformerDecoderBlock(Module):
    """Causal self-attention, then attention to the memory, then a two-layer network, each pre-norm and added.

    x + attn(ln1(x)), then x + cross(ln2(x), memory), then x + mlp(ln3(x)).

    Parameters
    ----------
    d_model, n_heads : int
        Width, and heads that it is divided among.
    d_ff : int, optional
        Width between the two layers; 4·d_model by default.
    scaled : bool
        The √d_k toggle.
    dropout : float
        In attention, and after each part.
    rng : numpy.random.Generator, optional
        Draws the weights; that of `manual_seed` by default.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> x, memory = (sm.Tensor(np.ones((1, n, 8), np.float32)) for n in (3, 5))
    >>> sm.nn.TransformerDecoderBlock(8, 2)(x, memory).shape
    (1, 3, 8)
    """

    def __init__(
        self, d_model: int, n_heads: int, *, d_ff: int | None = None, scaled: bool = True, dropout: float = 0.0,
        rng: Rng = None,
    ) -> None:  # fmt: skip
        d_ff = 4 * d_model if d_ff is None else d_ff
        count(d_ff, "d_ff", "TransformerDecoderBlock")
        self.ln1 = LayerNorm(d_model)
        self.attn = MultiHeadAttention(d_model, n_heads, causal=True, scaled=scaled, dropout=dropout, rng=rng)
        self.ln2 = LayerNorm(d_model)
        self.cross = CrossAttention(d_model, n_heads, scaled=scaled, dropout=dropout, rng=rng)
        self.ln3 = LayerNorm(d_model)
        self.mlp = Sequential(Linear(d_model, d_ff, rng=rng), GELU(), Linear(d_ff, d_model, rng=rng))
        self.drop = Dropout(dropout)

    def forward(self, x: Any, memory: Any, mask: Any = None, *, caches: tuple[Cache, Cache] | None = None) -> Any:
        """Return the block's output, (B, T, d_model) as x; `mask` broadcasts to (B, H, T, S) and is the memory's."""
        own, read = caches or (None, None)
        x = x + self.drop(self.attn(self.ln1(x), cache=own))
        x = x + self.drop(self.cross(self.ln2(x), memory, mask, cache=read))
        return x + self.drop(self.mlp(self.ln3(x)))


class Transformer(Module):
    """An encoder-decoder Transformer: source tokens (B, S) and target tokens (B, T) to logits (B, T, target_vocab).

    Unlike PyTorch's class of this name it is a whole model: embeddings, learned positions and the output layer, which
    shares its weight with the target's embedding, are inside.

    Parameters
    ----------
    source_vocab, target_vocab : int
        Number of tokens on either side.
    d_model, n_heads : int
        Width, heads per block.
    n_layers : int
        Blocks of the encoder, and of the decoder.
    context : int
        The longest source, and the longest target.
    scaled : bool
        The √d_k toggle, down to the scores of every head.
    dropout : float
        In attention and after each part of a block.
    rng : numpy.random.Generator, optional
        Draws the weights; that of `manual_seed` by default.

    Notes
    -----
    Matrices start normal with standard deviation 1/√d_in, those that write to the residual stream divided by the
    root of their number; embeddings with 1/√d_model; biases at 0.

    Examples
    --------
    Target tokens go in one step behind what is to be predicted (teacher forcing). Here 0 begins and 1 ends:

    >>> import numpy as np, tinygrad_sm as sm
    >>> _ = sm.manual_seed(0)
    >>> model = sm.nn.Transformer(7, 9, d_model=8, n_heads=2, n_layers=1, context=6)
    >>> source, target = np.array([[3, 4, 5]]), np.array([[0, 6, 7, 8, 1]])
    >>> logits = model(source, target[:, :-1])
    >>> logits.shape
    (1, 4, 9)
    >>> loss = sm.cross_entropy(logits, target[:, 1:], label_smoothing=0.1)

    To write, a search asks for one token after the other:

    >>> (best,) = sm.decoding.greedy(model.step, model.start(source), [0], end=1, max_length=6)
    >>> best.length <= 6
    True

    Its parts: the memory of the source, the logits of new tokens from caches, and what the decoder reads where:

    >>> memory = model.encode(source)
    >>> caches = model.new_caches(memory)
    >>> memory.shape, model.decode(target[:, :1], memory, caches=caches).shape
    ((1, 3, 8), (1, 1, 9))
    >>> [weights.shape for weights in model.cross_weights(source, target)]
    [(1, 2, 5, 3)]
    """

    def __init__(
        self, source_vocab: int, target_vocab: int, *, d_model: int, n_heads: int, n_layers: int, context: int,
        scaled: bool = True, dropout: float = 0.0, rng: Rng = None,
    ) -> None:  # fmt: skip
        for name, n, least in (("source_vocab", source_vocab, 1), ("target_vocab", target_vocab, 1),
                               ("n_layers", n_layers, 0), ("context", context, 1)):  # fmt: skip
            count(n, name, "Transformer", least)
        self.context, self.target_vocab = context, target_vocab
        self.source, self.target = Embedding(source_vocab, d_model, rng=rng), Embedding(target_vocab, d_model, rng=rng)
        self.source_positions = Embedding(context, d_model, rng=rng)
        self.target_positions = Embedding(context, d_model, rng=rng)
        self.drop = Dropout(dropout)
        options: Any = {"scaled": scaled, "dropout": dropout, "rng": rng}
        self.encoder = [TransformerBlock(d_model, n_heads, causal=False, **options) for _ in range(n_layers)]
        self.ln_memory = LayerNorm(d_model)
        self.decoder = [TransformerDecoderBlock(d_model, n_heads, **options) for _ in range(n_layers)]
        self.ln = LayerNorm(d_model)
        self._initialize(rng)

    def _initialize(self, rng: Rng) -> None:
        for name, p in self.named_parameters():
            if p.ndim == 2:
                std = 1 / math.sqrt(p.shape[1])
                if name.endswith(("proj.weight", "mlp.layers.2.weight")):
                    std /= math.sqrt((2 if name.startswith("encoder") else 3) * len(self.encoder))
                p.data = normal(p.shape, std, rng).data
            elif name.endswith("bias"):
                p.data = np.zeros_like(p.data)

    def forward(self, source: Any, target: Any, source_mask: Any = None) -> Any:
        """Return the logits (B, T, target_vocab) of what follows each target token, given the true ones before it."""
        return self.decode(target, self.encode(source, source_mask), source_mask)

    def encode(self, source: Any, source_mask: Any = None) -> Any:
        """Return the memory (B, S, d_model) of source tokens (B, S); `source_mask` (B, S) is True where one stands."""
        source = self._tokens(source, "source")
        mask = self._mask(source_mask, *source.shape)
        x = self.drop(self.source(source) + self.source_positions(np.arange(source.shape[1])))
        for block in self.encoder:
            x = block(x, mask)
        return self.ln_memory(x)

    def decode(self, target: Any, memory: Any, source_mask: Any = None, *, caches: Caches | None = None) -> Any:
        """Return the logits (B, T, target_vocab); with `caches` (of `new_caches`), `target` holds the new tokens only.

        Caches that have seen the memory need it no more: then it may be None.
        """
        start = caches[0][0].length if caches else 0
        target = self._tokens(target, "target", start)
        x = self.drop(self.target(target) + self.target_positions(np.arange(start, start + target.shape[1])))
        b, s = (0, 0) if source_mask is None else np.shape(source_mask)[:2] if memory is None else memory.shape[:2]
        mask = self._mask(source_mask, b, s)
        for i, block in enumerate(self.decoder):
            x = block(x, memory, mask, caches=caches[i] if caches else None)
        return F.linear(self.ln(x), self.target.weight)  # (B, T, target_vocab)

    def new_caches(self, memory: Any) -> Caches:
        """Return empty caches for `decode`: of `context` target positions, and of the memory (B, S, d_model)."""
        return [(Cache(self.context), Cache(memory.shape[1])) for _ in self.decoder]

    def start(self, source: Any, source_mask: Any = None) -> dict[str, Any]:
        """Return the state from which `step` writes: the memory, its mask, and empty caches."""
        with no_grad(), self.evaluating():
            memory = self.encode(source, source_mask).data
        mask = np.ones(memory.shape[:2], bool) if source_mask is None else np.asarray(source_mask)
        return {"memory": memory, "mask": mask, "caches": self.new_caches(memory)}

    def step(self, tokens: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return log-probabilities (B, target_vocab) of what follows the tokens (B,), and the state after them.

        This is the function that `decoding.greedy` and `decoding.beam_search` ask for.
        """
        with no_grad(), self.evaluating():
            logits = self.decode(np.asarray(tokens)[:, None], state["memory"], state["mask"], caches=state["caches"])
            log_probs = F.log_softmax(logits[:, 0]).data
        return log_probs, {**state, "memory": None}  # the caches have it now

    def cross_weights(self, source: Any, target: Any, source_mask: Any = None) -> list[Any]:
        """Return the weights (B, H, T, S) with which each decoder block reads the source."""
        found = []
        with no_grad(), self.evaluating():
            memory, target = self.encode(source, source_mask), self._tokens(target, "target")
            mask = self._mask(source_mask, *memory.shape[:2])
            x = self.target(target) + self.target_positions(np.arange(target.shape[1]))
            for block in self.decoder:
                inner = x + block.attn(block.ln1(x))
                found.append(block.cross(block.ln2(inner), memory, mask, return_weights=True)[1].data)
                x = block(x, memory, mask)
        return found

    def _tokens(self, tokens: Any, name: str, start: int = 0) -> Any:
        tokens = tokens.data if isinstance(tokens, Tensor) else np.asarray(tokens)
        if tokens.ndim != 2 or start + tokens.shape[1] > self.context:
            after = f" after {start}" if start else ""
            raise ValueError(
                f"Transformer: {name} must be (batch, time ≤ {self.context}), not {tokens.shape}{after}"
                + (f"; use {name}[None] for a batch of one" if tokens.ndim == 1 else "")
            )
        return tokens

    def _mask(self, mask: Any, batch: int, length: int) -> Any:
        """Return a mask of padding (B, S) as one of scores (B, 1, 1, S)."""
        if mask is None:
            return None
        mask = mask.data if isinstance(mask, Tensor) else np.asarray(mask)
        if mask.dtype != bool or mask.shape != (batch, length):
            raise ValueError(
                f"Transformer: source_mask must be bool, True where a token stands, of shape {(batch, length)} as the "
                f"source; got {mask.dtype} of shape {mask.shape}"
            )
        return mask[:, None, None, :]
