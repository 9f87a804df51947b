"""Sentences to vectors: a BERT-shaped encoder, the mean over its tokens, and length 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..mode import no_grad
from ..nn import Module, TransformerEncoder
from ..ops.options import count
from ..tensor import Array
from . import tokens as tokenizing

TINY = 1e-24  # of a squared length: a text without tokens has the vector 0, whose direction is none


class SentenceEncoder(Module):
    """Sentences to vectors of length 1, of which the dot product says how alike two sentences are.

    `sm.pretrained.minilm()` and `sm.pretrained.from_pretrained(path)` make it.

    Parameters
    ----------
    encoder : TransformerEncoder
        From tokens to a vector for each.
    tokenizer : tokenizers.Tokenizer
        From text to tokens, cut to what the encoder takes.
    pooling : {"mean", "cls"}
        The vector of a sentence: the mean over its tokens, or that of the first.
    normalize : bool
        Whether vectors are divided by their length.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> model = sm.pretrained.minilm()                                  # doctest: +SKIP
    >>> a, b, c = model.encode(["A cat sleeps.", "The kitten naps.", "Stocks fell."])    # doctest: +SKIP
    >>> print(f"{a @ b:.2f} {a @ c:.2f}")                               # doctest: +SKIP
    0.71 0.01
    """

    def __init__(
        self, encoder: TransformerEncoder, tokenizer: Any, *, pooling: str = "mean", normalize: bool = True
    ) -> None:
        self.encoder, self.tokenizer, self.pooling, self.normalize = encoder, tokenizer, pooling, normalize

    def tokenize(self, sentences: Sequence[str]) -> tuple[Array, Array]:
        """Return the tokens (B, T) of several sentences, filled up at the end, and which are real (B, T), as bools."""
        return _filled_up([e.ids for e in tokenizing.encoded(self.tokenizer, _texts(sentences, "tokenize"))])

    def forward(self, tokens: Any, mask: Any = None) -> Any:
        """Return the vectors (B, d_model) of `tokens` (B, T), of those where `mask` is True; it differentiates.

        Without a mask all are real.
        """
        mask = np.ones(np.shape(tokens), bool) if mask is None else mask
        hidden = self.encoder(tokens, mask)  # (B, T, d_model)
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            share = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)  # (B, T), each row summing to 1
            pooled = (hidden * share[..., None].astype(hidden.dtype)).sum(axis=1)
        if not self.normalize:
            return pooled
        return pooled / np.sqrt((pooled * pooled).sum(axis=-1, keepdims=True) + TINY)

    def encode(self, sentences: Sequence[str], *, batch_size: int = 32) -> Array:
        """Return the vectors (N, d_model) of N sentences, in batches of like lengths; nothing is recorded.

        >>> import tinygrad_sm as sm
        >>> sm.pretrained.minilm().encode(["one", "two"]).shape         # doctest: +SKIP
        (2, 384)
        """
        sentences, step = _texts(sentences, "encode"), count(batch_size, "batch_size", "encode")
        weight = self.encoder.tokens.weight
        vectors = np.empty((len(sentences), weight.shape[1]), weight.dtype)
        ids = [e.ids for e in tokenizing.encoded(self.tokenizer, sentences)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # like lengths together: little to fill up
        with no_grad(), self.evaluating():
            for start in range(0, len(order), step):
                rows = order[start : start + step]
                vectors[rows] = self(*_filled_up([ids[i] for i in rows])).data
        return vectors

    def attention(self, sentence: str) -> tuple[list[str], list[Array]]:
        """Return the pieces of a sentence, T of them, and the attention weights (H, T, T) of each block.

        `sm.viz.attention_page` takes both.
        """
        tokens, mask = self.tokenize([sentence])
        weights = self.encoder.attention_weights(tokens, mask)
        return [self.tokenizer.id_to_token(int(i)) for i in tokens[0]], [w[0] for w in weights]


def _filled_up(ids: list[list[int]]) -> tuple[Array, Array]:
    """Return lists of tokens as the rows of an array, and where they stand in it."""
    lengths = np.array([len(row) for row in ids], int)
    real = np.arange(lengths.max(initial=0)) < lengths[:, None]
    tokens = np.zeros(real.shape, np.int64)  # what stands in the padding does not matter
    tokens[real] = [i for row in ids for i in row]
    return tokens, real


def _texts(sentences: Any, caller: str) -> list[str]:
    """Return a list of texts; a single one is a mistake, for its letters would be taken for sentences."""
    if isinstance(sentences, str):
        raise TypeError(f"{caller} takes a list of texts, not one text; put it in a list: [text]")
    if not isinstance(sentences, Iterable):
        raise TypeError(f"{caller} takes a list of texts, not a {type(sentences).__name__}")
    texts = list(sentences)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{caller} takes a list of texts; number {i} is of type {type(text).__name__}")
        tokenizing.readable(text, caller)
    return texts
