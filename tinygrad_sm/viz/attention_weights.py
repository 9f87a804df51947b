"""Attention weights as a page holds them: checked, in steps of 1/65534 as text, with what is told of each head."""

from __future__ import annotations

import base64
import math
import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..tensor import Array, Tensor

STEPS = 65534  # a weight of 1; one more stands for NaN
BYTES = 8_000_000  # of weights on a page, before they become text
FEWEST = 8  # kept of a row
SHARP = 0.99
CLOSE = 0.01  # of a row's sum to 1: half precision and bfloat16 are off by so much


class Plan(NamedTuple):
    """How weights are stored."""

    causal: bool  # nothing above the diagonals, which is then not stored
    kept: int  # weights of a row; 0: all of them


@dataclass
class Packed:
    """The weights of one setting as a page holds them."""

    layers: list[Any] = field(default_factory=list)  # base64 of uint16; of a plan with `kept`, of indices and weights
    stats: list[list[list[float | None]]] = field(default_factory=list)  # of each head: entropy, largest, sharp
    notes: list[str] = field(default_factory=list)


def as_layers(given: Any, name: str, n: int, like: list[Array] | None = None) -> list[Array]:
    """Return the weights of each layer, (heads, n, n), after checking them."""
    if isinstance(given, Tensor) or not isinstance(given, (list, tuple)):
        shape = f" of shape {tuple(given.shape)}" if hasattr(given, "shape") else ""
        fix = {3: f"[{name}] if it is one layer", 4: f"list({name}) if its first axis is that of layers"}
        advice = fix.get(len(getattr(given, "shape", ())), f"{name}=[layer 0, layer 1, …]")
        raise TypeError(
            f"attention_page: {name} is a list of arrays (heads, T, T), a layer each, not one "
            f"{type(given).__name__}{shape}; pass {advice}"
        )
    if not given:
        raise ValueError(f"attention_page: {name} holds no layer")
    layers = [_layer(layer, f"layer {i} of {name}", name, n) for i, layer in enumerate(given)]
    shapes = [[layer.shape for layer in side] for side in (layers, like or layers)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"attention_page: before has {_counted(shapes[0])}, and weights {_counted(shapes[1])}; "
            "both are of the same model and the same text"
        )
    return layers


def _counted(shapes: list[tuple[int, ...]]) -> str:
    return f"{len(shapes)} layers of {', '.join(sorted({str(s[0]) for s in shapes}))} heads"


def _layer(given: Any, what: str, name: str, n: int) -> Array:
    if given is None:
        raise TypeError(
            f"attention_page: {what} is None: the model kept no weights. One of Hugging Face does if it is loaded "
            'with attn_implementation="eager" and called with output_attentions=True'
        )
    try:
        w = _array(given)
    except (TypeError, ValueError) as e:
        got = type(given).__name__
        raise TypeError(
            f"attention_page: {what} must be an array of numbers (heads, T, T), not a {got} ({e})"
        ) from None
    if w.ndim == 4:
        fix = f"[w[0] for w in {name}]" if len(w) == 1 else f"those of one text, [w[0] for w in {name}]"
        raise ValueError(f"attention_page: {what} has a batch axis: shape {w.shape}; pass {fix}")
    if w.ndim == 2 and w.shape == (n, n):
        raise ValueError(
            f"attention_page: {what} has shape {w.shape}, without an axis of heads; pass [w[None] for w in {name}]"
        )
    if w.ndim != 3 or not w.size or w.shape[1] != w.shape[2]:
        raise ValueError(f"attention_page: {what} has shape {w.shape}; it must be (heads, {n}, {n}), for {n} tokens")
    if w.shape[1] != n:
        raise ValueError(
            f"attention_page: there are {n} tokens, but {what} has shape {w.shape}, for {w.shape[1]}; pass all "
            "tokens that the model saw, special ones such as [CLS] too"
        )
    low, high = float(np.nanmin(w, initial=np.inf)), float(np.nanmax(w, initial=-np.inf))
    if low < -1e-6 or high > 1.001:
        raise ValueError(
            f"attention_page: {what} goes from {low:.4g} to {high:.4g}; weights lie in 0 … 1. "
            "Pass what the softmax returns, not scores, and without dropout (model.eval())"
        )
    return w


def _array(given: Any) -> Array:
    if isinstance(given, Tensor):
        given = given.data
    elif hasattr(given, "detach"):  # PyTorch's
        given = given.detach().cpu().float()
    w = np.asarray(given)
    if w.dtype.kind not in "fiub":
        raise TypeError(f"its elements are {w.dtype}")
    return w if w.dtype.kind == "f" else w.astype(np.float64)


def plan(settings: list[list[Array]]) -> Plan:
    """Decide how the weights of one setting or two are stored."""
    layers = [layer for side in settings for layer in side]
    n = layers[0].shape[1]
    above = np.triu_indices(n, 1)
    causal = n > 1 and all(not layer[:, above[0], above[1]].any() for layer in layers)
    heads = sum(len(layer) for layer in layers)
    if 2 * heads * n * n <= BYTES:
        return Plan(causal, 0)
    rows = (heads + len(layers)) * n  # the mean over the heads is kept too: that of parts is none
    kept = BYTES // (4 * rows)
    if kept < FEWEST:
        most = BYTES // (4 * FEWEST * n) * len(layers) // (heads + len(layers)) // len(settings)
        fix = f"weights[:{most}] or weights[::{-(-len(settings[0]) // most)}]" if most else "a shorter text"
        raise ValueError(
            f"attention_page: {rows} rows of {n} weights are too many for one page, which holds "
            f"{BYTES // (4 * FEWEST)}; pass fewer layers, such as {fix}"
        )
    return Plan(causal, min(kept, n))


def packed(layers: list[Array], how: Plan) -> Packed:
    """Write the weights of one setting as text, with the statistics of each head, and what is unusual about them."""
    out, sums, bad = Packed(), [], []
    for i, layer in enumerate(layers):
        w = np.clip(layer.astype(np.float64), 0, 1)
        out.stats.append(statistics(w, how.causal))
        total = w.sum(axis=2)
        for h, row in enumerate(total):
            off = row[np.abs(row - 1) > CLOSE]
            sums += [(f"layer {i} head {h}", off.min(), off.max())] if off.size else []
            bad += [f"layer {i} head {h}"] if np.isnan(row).any() else []
        if how.kept:
            w = np.concatenate([w, w.mean(axis=0, keepdims=True)])
            found = np.argpartition(np.where(np.isnan(w), 2, w), -how.kept, axis=2)[..., -how.kept :]
            found = np.sort(found, axis=2)
            out.layers.append([_text(found.astype("<u2")), _text(_codes(np.take_along_axis(w, found, axis=2)))])
        else:
            rows, columns = np.tril_indices(w.shape[1])
            out.layers.append(_text(_codes(w[:, rows, columns] if how.causal else w)))
    if sums:
        low, high = min(s[1] for s in sums), max(s[2] for s in sums)
        out.notes.append(
            f"Rows of {_some([s[0] for s in sums])} do not sum to 1, but to {low:.3g} … {high:.3g}: is dropout on, or "
            "a part of the keys cut off? Entropies are of these rows divided by their sum."
        )  # fmt: skip
    if bad:
        out.notes.append(f"Some weights of {_some(bad)} are NaN; their rows are left out of the statistics.")
    return out


def _some(names: list[str]) -> str:
    return names[0] + (f" and of {len(names) - 1} other head{'s' * (len(names) > 2)}" if len(names) > 1 else "")


def statistics(w: Array, causal: bool) -> list[list[float | None]]:
    """Return for each head: mean entropy as a share of log n, mean largest weight, share of rows above 0.99.

    Rows that have one key only, or hold NaN, are left out; where none is left the statistics are None.
    """
    n = w.shape[1]
    keys = np.arange(1, n + 1) if causal else np.full(n, n)
    w, keys = w[:, keys > 1], keys[keys > 1]
    if not w.size:
        return [[None] * 3 for _ in w]
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of heads without a row
        p = w / w.sum(axis=2, keepdims=True)
        entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=2) / np.log(keys)
        largest = np.where(np.isnan(entropy), np.nan, w.max(axis=2))
        sharp = np.where(np.isnan(largest), np.nan, largest > SHARP)
        means = np.stack([np.nanmean(x, axis=1) for x in (entropy, largest, sharp)], axis=1)
    return [[None if math.isnan(x) else round(x, 4) for x in row] for row in means.tolist()]


def _codes(w: Array) -> Array:
    return np.where(np.isnan(w), STEPS + 1, np.rint(np.nan_to_num(w) * STEPS)).astype("<u2")


def _text(codes: Array) -> str:
    return base64.b64encode(codes.tobytes()).decode("ascii")
