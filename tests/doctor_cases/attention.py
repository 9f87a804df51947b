"""Attention and its masks."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import nn

from .case import Case, normal
from .healthy import text

WANTED = np.random.default_rng(9).normal(size=(2, 12, 32)).astype(np.float32)


def qkv(d_k: int = 32) -> list[Any]:
    """Return queries, keys and values of variance 1."""
    return [normal(2, 12, d_k, seed=i) for i in range(3)]


def unscaled_op() -> dict[str, Any]:
    q, k, v = qkv()
    out = F.scaled_dot_product_attention(q, k, v, scale=1.0)  # planted
    return {"loss": ((out - WANTED) ** 2).mean()}


def scaled_op() -> dict[str, Any]:
    q, k, v = qkv()
    out = F.scaled_dot_product_attention(q, k, v)
    return {"loss": ((out - WANTED) ** 2).mean()}


def unscaled_by_hand() -> dict[str, Any]:
    q, k, v = qkv()
    p = F.softmax(q @ k.swapaxes(-1, -2) + np.triu(np.full((12, 12), -np.inf, np.float32), 1))  # planted
    return {"loss": ((p @ v - WANTED) ** 2).mean()}


def scaled_by_hand() -> dict[str, Any]:
    q, k, v = qkv()
    p = F.softmax(q / 32**0.5 @ k.swapaxes(-1, -2) + np.triu(np.full((12, 12), -np.inf, np.float32), 1))
    return {"loss": ((p @ v - WANTED) ** 2).mean()}


def unscaled_einsum() -> dict[str, Any]:
    q, k, v = qkv()
    p = F.softmax(sm.einsum("bid,bjd->bij", q, k))  # planted
    return {"loss": ((sm.einsum("bij,bjd->bid", p, v) - WANTED) ** 2).mean()}


def cosine_attention() -> dict[str, Any]:
    """Unit vectors and a temperature need no √d_k."""
    q, k, v = qkv()
    q, k = (x / ((x * x).sum(axis=-1, keepdims=True)) ** 0.5 for x in (q, k))
    p = F.softmax(q @ k.swapaxes(-1, -2) * 30.0)
    return {"loss": ((p @ v - WANTED) ** 2).mean()}


def unscaled_model() -> dict[str, Any]:
    tokens = text()
    lm = nn.TransformerLM(17, d_model=32, n_heads=1, n_layers=1, context=12, scaled=False, init="unit")
    z = lm(tokens[:, :-1])  # planted
    return {"loss": F.cross_entropy(z, tokens[:, 1:])}


class ByHand(nn.Module):
    """Attention at d_k = 128 of layers as they come: they halve the spread of the scores, which is still too large."""

    def __init__(self, scale: float) -> None:
        self.q, self.k, self.v = (nn.Linear(128, 128) for _ in range(3))
        self.norm, self.head, self.scale = nn.LayerNorm(128), nn.Linear(128, 5), scale

    def forward(self, x: Any) -> Any:
        h = self.norm(x)
        q, k, v = self.q(h), self.k(h), self.v(h)
        p = F.softmax(q @ k.swapaxes(1, 2) * self.scale)  # planted
        return self.head((x + p @ v).mean(axis=1))


def unscaled_wide() -> dict[str, Any]:
    x = normal(16, 12, 128).data
    return {"loss": F.cross_entropy(ByHand(1.0)(x), np.arange(16) % 5)}


def scaled_wide() -> dict[str, Any]:
    x = normal(16, 12, 128).data
    return {"loss": F.cross_entropy(ByHand(128**-0.5)(x), np.arange(16) % 5)}


def scaled_model() -> dict[str, Any]:
    tokens = text()
    lm = nn.TransformerLM(17, d_model=32, n_heads=1, n_layers=1, context=12, init="unit")
    return {"loss": F.cross_entropy(lm(tokens[:, :-1]), tokens[:, 1:]), "model": lm}


class Bare(nn.Module):
    """One layer of attention by hand."""

    def __init__(self, masked: bool) -> None:
        self.tokens, self.positions, self.head = nn.Embedding(17, 16), nn.Embedding(13, 16), nn.Linear(16, 17)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.masked = masked

    def forward(self, x: Any) -> Any:
        h = self.tokens(x) + self.positions(np.arange(x.shape[1]))
        scores = self.q(h) @ self.k(h).swapaxes(1, 2) / 4
        if self.masked:
            scores = sm.where(np.tri(x.shape[1], dtype=bool), scores, -np.inf)
        weights = F.softmax(scores)  # planted
        return self.head(h + weights @ self.v(h))


def future_by_hand() -> dict[str, Any]:
    tokens, lm = text(), Bare(masked=False)
    return {"loss": F.cross_entropy(lm(tokens[:, :-1]), tokens[:, 1:]), "model": lm}


def past_by_hand() -> dict[str, Any]:
    tokens, lm = text(), Bare(masked=True)
    return {"loss": F.cross_entropy(lm(tokens[:, :-1]), tokens[:, 1:]), "model": lm}


class Seeing(nn.Module):
    """A block with the library's attention, causal or not."""

    def __init__(self, causal: bool) -> None:
        self.tokens, self.block, self.head = (
            nn.Embedding(17, 16),
            nn.TransformerBlock(16, 2, causal=causal),
            nn.Linear(16, 17),
        )

    def forward(self, x: Any) -> Any:
        return self.head(self.block(self.tokens(x)))  # planted


def looked_up(tokens: Any, lookup: Any, causal: bool) -> Any:
    """Return the scores of a model whose vectors come from no Embedding."""
    block, head = nn.TransformerBlock(16, 2, causal=causal), nn.Linear(16, 17)
    return head(block(lookup(tokens, normal(17, 16))))  # planted


def future_of_a_table() -> dict[str, Any]:
    tokens = text()
    z = looked_up(tokens[:, :-1], lambda t, table: table[t], causal=False)
    return {"loss": F.cross_entropy(z, tokens[:, 1:])}


def past_of_a_table() -> dict[str, Any]:
    tokens = text()
    z = looked_up(tokens[:, :-1], lambda t, table: table[t], causal=True)
    return {"loss": F.cross_entropy(z, tokens[:, 1:])}


def future_of_one_hot_rows() -> dict[str, Any]:
    tokens = text()
    z = looked_up(tokens[:, :-1], lambda t, table: F.one_hot(t, 17) @ table, causal=False)
    return {"loss": F.cross_entropy(z, tokens[:, 1:])}


def past_of_one_hot_rows() -> dict[str, Any]:
    tokens = text()
    z = looked_up(tokens[:, :-1], lambda t, table: F.one_hot(t, 17) @ table, causal=True)
    return {"loss": F.cross_entropy(z, tokens[:, 1:])}


def future_in_a_block() -> dict[str, Any]:
    tokens, lm = text(), Seeing(causal=False)
    z = lm(tokens[:, :-1])
    return {"loss": F.cross_entropy(z.reshape(-1, 17), tokens[:, 1:].reshape(-1))}


def future_with_scores_cut() -> dict[str, Any]:
    tokens, lm = text(), Seeing(causal=False)
    z = lm(tokens)
    return {"loss": F.cross_entropy(z[:, :-1], tokens[:, 1:])}


def past_in_a_block() -> dict[str, Any]:
    tokens, lm = text(), Seeing(causal=True)
    return {"loss": F.cross_entropy(lm(tokens)[:, :-1], tokens[:, 1:])}


def mask_of_nothing() -> dict[str, Any]:
    q, k, v = qkv()
    seen = np.arange(12) < np.array([12, 0])[:, None]
    out = F.scaled_dot_product_attention(q, k, v, mask=seen[:, None, :])  # planted
    return {"loss": ((out - WANTED) ** 2).mean()}


def minus_infinity_everywhere() -> dict[str, Any]:
    q, k, v = qkv()
    seen = np.arange(12) < np.array([12, 0])[:, None]
    scores = sm.where(seen[:, None, :], q @ k.swapaxes(-1, -2) / 32**0.5, -np.inf)
    p = F.softmax(scores)  # planted
    return {"loss": ((p @ v - WANTED) ** 2).mean()}


def minus_a_billion_everywhere() -> dict[str, Any]:
    q, k, v = qkv()
    hides = np.where(np.arange(12) < np.array([12, 0])[:, None], 0, -1e9).astype(np.float32)
    p = F.softmax(q @ k.swapaxes(-1, -2) / 32**0.5 + hides[:, None, :])  # planted
    return {"loss": ((p @ v - WANTED) ** 2).mean()}


def with_dropout() -> dict[str, Any]:
    q, k, v = qkv()
    seen = np.arange(12) < np.array([12, 0])[:, None]
    out = F.scaled_dot_product_attention(q, k, v, mask=seen[:, None, :], dropout_p=0.1)  # planted
    return {"loss": ((out - WANTED) ** 2).mean()}


def padded_queries_ignored() -> dict[str, Any]:
    """The second sequence is empty, and no loss is taken of it."""
    q, k, v = qkv()
    seen = np.arange(12) < np.array([12, 0])[:, None]
    out = F.scaled_dot_product_attention(q, k, v, mask=seen[:, None, :])
    return {"loss": ((out[:1] - WANTED[:1]) ** 2).mean()}


def masks_added() -> dict[str, Any]:
    q, k, v = qkv()
    least = np.finfo(np.float32).min
    future = np.triu(np.full((12, 12), least, np.float32), 1)
    padding = np.where(np.arange(12) < 10, 0, least).astype(np.float32)
    scores = q @ k.swapaxes(-1, -2) / 32**0.5 + future
    scores = scores + padding  # planted
    return {"loss": ((F.softmax(scores) @ v - WANTED) ** 2).mean()}


def half_precision() -> dict[str, Any]:
    q, k, v = (sm.Tensor(x.data.astype(np.float16), requires_grad=True) for x in qkv())
    future = np.triu(np.full((12, 12), -65504, np.float16), 1)
    scores = q @ k.swapaxes(-1, -2) / 32**0.5 - 40.0
    scores = scores + future  # planted
    return {"loss": ((F.softmax(scores) @ v - WANTED.astype(np.float16)) ** 2).mean()}


def masks_joined() -> dict[str, Any]:
    q, k, v = qkv()
    seen = np.tri(12, dtype=bool) & (np.arange(12) < 10)
    scores = sm.where(seen, q @ k.swapaxes(-1, -2) / 32**0.5, -np.inf)
    return {"loss": ((F.softmax(scores) @ v - WANTED) ** 2).mean()}


CASES = [
    Case("unscaled-attention", unscaled_op, scaled_op, "attention"),
    Case("unscaled-attention", unscaled_by_hand, scaled_by_hand, "softmax"),
    Case("unscaled-attention", unscaled_einsum, cosine_attention, "softmax"),
    Case("unscaled-attention", unscaled_model, scaled_model, "attention"),
    Case("unscaled-attention", unscaled_wide, scaled_wide, "softmax"),
    Case("missing-causal-mask", future_by_hand, past_by_hand, "softmax"),
    Case("missing-causal-mask", future_in_a_block, past_in_a_block, "attention"),
    Case("missing-causal-mask", future_of_a_table, past_of_a_table, "attention"),
    Case("missing-causal-mask", future_of_one_hot_rows, past_of_one_hot_rows, "attention"),
    Case("missing-causal-mask", future_with_scores_cut, past_in_a_block, "attention"),
    Case("fully-masked-row", mask_of_nothing, padded_queries_ignored, "attention"),
    Case("fully-masked-row", minus_infinity_everywhere, masks_joined, "softmax"),
    Case("fully-masked-row", minus_a_billion_everywhere, masks_joined, "softmax"),
    Case("fully-masked-row", with_dropout, padded_queries_ignored, "where"),
    Case("mask-overflow", masks_added, masks_joined, "add"),
    Case("mask-overflow", half_precision, masks_joined, "add"),
]
