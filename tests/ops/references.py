"""What each op computes, written a second time and as plainly as can be: NumPy's own function, or loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

REFERENCES: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide, "neg": np.negative, "pow": np.power,
    "square": np.square, "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sqrt": np.sqrt,
    "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "abs": np.absolute, "maximum": np.maximum, "minimum": np.minimum,
    "where": np.where, "sum": np.sum, "mean": np.mean, "var": np.var, "std": np.std, "max": np.max, "min": np.min,
    "prod": np.prod, "cumsum": np.cumsum, "transpose": np.transpose, "flip": np.flip,
    "reshape": lambda x, shape: np.reshape(x, shape),  # as a keyword it has another name before NumPy 2.1
    "broadcast_to": np.broadcast_to, "tril": np.tril, "triu": np.triu, "matmul": np.matmul, "astype": np.asarray,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "logit": lambda p: np.log(p / (1 - p)),
    "relu": lambda x: np.where(x > 0, x, 0.0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "gelu_exact": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))),
    "erf": np.vectorize(math.erf),
    "clip": lambda x, low=None, high=None: np.clip(x, low, high),
    "pad": lambda x, widths, value: np.pad(x, widths, constant_values=value),
    "concatenate": lambda *xs, axis: np.concatenate(xs, axis),
    "getitem": lambda x, index: x[index],
    "embedding": lambda weight, indices: np.take(weight, indices, axis=0),
    "embedding_rows": lambda g, indices, n: np.eye(n)[indices.ravel()].T @ g.reshape(-1, g.shape[-1]),
    "norm": lambda x, axis=None, keepdims=False: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
    "linear": lambda x, weight, bias=None: np.einsum("...i,oi->...o", x, weight) + (0 if bias is None else bias),
}  # fmt: skip


def reference(function: Callable[..., Any]) -> Callable[..., Any]:
    REFERENCES[function.__name__] = function
    return function


@reference
def put(x: Any, index: Any, shape: Any) -> Any:
    cells = np.arange(math.prod(shape)).reshape(shape)[index]
    return np.bincount(cells.ravel(), x.ravel(), minlength=math.prod(shape)).reshape(shape)


@reference
def einsum(*xs: Any, spec: str) -> Any:
    inputs, output = spec.split("->")
    terms = inputs.split(",")
    sizes = {letter: n for term, x in zip(terms, xs, strict=True) for letter, n in zip(term, x.shape, strict=True)}
    out = np.zeros([sizes[letter] for letter in output])
    for position in product(*map(range, sizes.values())):
        at = dict(zip(sizes, position, strict=True))
        factors = [x[tuple(at[i] for i in term)] for term, x in zip(terms, xs, strict=True)]
        out[tuple(at[i] for i in output)] += math.prod(factors)
    return out


@reference
def logsumexp(x: Any) -> Any:
    return np.log(np.exp(x).sum(axis=-1))


@reference
def softmax(x: Any, axis: int = -1, temperature: float = 1.0) -> Any:
    e = np.exp(x / temperature)
    return e / e.sum(axis=axis, keepdims=True)


@reference
def log_softmax(x: Any, axis: int = -1, temperature: float = 1.0) -> Any:
    return np.log(softmax(x, axis, temperature))


def reduced(losses: Any, total: float, reduction: str) -> Any:
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / total if total else losses.sum()}[reduction]


@reference
def nll_loss(log_probs: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
    return cross_entropy_of(log_probs, target, weight, ignore_index, 0.0, reduction)


@reference
def cross_entropy(
    logits: Any, target: Any, weight: Any = None, ignore_index: int = -100, label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:  # fmt: skip
    return cross_entropy_of(log_softmax(logits), target, weight, ignore_index, label_smoothing, reduction)


def cross_entropy_of(
    log_probs: Any, target: Any, weight: Any, ignore_index: int, label_smoothing: float, reduction: str
) -> Any:
    """Follow PyTorch's documentation, target by target."""
    n_classes = log_probs.shape[-1]
    weight = np.ones(n_classes) if weight is None else weight
    losses, total = np.zeros(target.shape), 0.0
    for n in np.ndindex(*target.shape):
        y = target[n]
        if y == ignore_index:
            continue
        hard = -weight[y] * log_probs[n][y]
        smooth = -sum(weight[c] * log_probs[n][c] for c in range(n_classes)) / n_classes
        losses[n] = (1 - label_smoothing) * hard + label_smoothing * smooth
        total += weight[y]
    return reduced(losses, total, reduction)


@reference
def linear_cross_entropy(x: Any, weight: Any, target: Any, bias: Any, class_weight: Any = None, **options: Any) -> Any:
    logits = REFERENCES["linear"](x, weight, bias)
    return REFERENCES["cross_entropy"](logits, target, weight=class_weight, **options)


@reference
def soft_cross_entropy(
    logits: Any, target: Any, weight: Any = None, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Any:
    target = (1 - label_smoothing) * target + label_smoothing / target.shape[-1]
    weight = 1.0 if weight is None else weight
    losses = -(target * weight * log_softmax(logits)).sum(axis=-1)
    return reduced(losses, losses.size, reduction)


@reference
def attention(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float = 1.0) -> Any:
    """Query by query: a softmax over the keys that it may see."""
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (np.broadcast_to(x, lead + x.shape[-2:]) for x in (q, k, v))
    t, s = q.shape[-2], k.shape[-2]
    added = np.zeros((*lead, t, s)) if mask is None else np.broadcast_to(mask, (*lead, t, s))
    if added.dtype == bool:
        added = np.where(added, 0.0, -np.inf)
    out = np.zeros((*lead, t, v.shape[-1]))
    for at in np.ndindex(*lead, t):
        head, i = at[:-1], at[-1]
        seen = [j for j in range(s) if added[at][j] > -np.inf and (not causal or j <= i)]
        if seen:
            scores = np.array([scale * (q[at] @ k[head][j]) + added[at][j] for j in seen])
            out[at] = softmax(scores) @ v[head][seen]
    return out


@reference
def layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    y = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return y * (1 if weight is None else weight) + (0 if bias is None else bias)


@reference
def rms_norm(x: Any, weight: Any, eps: float) -> Any:
    y = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return y * (1 if weight is None else weight)


@reference
def rotary(x: Any, angles: Any) -> Any:
    half = x.shape[-1] // 2
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)  # a product of complex numbers turns the plane
    return np.concatenate([z.real, z.imag], axis=-1)
