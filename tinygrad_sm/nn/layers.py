"""The plain layers: Linear, Embedding, normalization, dropout, activations, Sequential, losses as modules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import functional as F
from ..random import default_rng
from ..tensor import Tensor
from .module import Module

Rng = np.random.Generator | None


def uniform(shape: tuple[int, ...], bound: float, rng: Rng = None) -> Tensor:
    """Return a parameter with entries drawn uniformly from (−bound, bound), float32."""
    return Tensor(default_rng(rng).uniform(-bound, bound, shape).astype(np.float32), requires_grad=True)


def normal(shape: tuple[int, ...], std: float, rng: Rng = None) -> Tensor:
    """Return a parameter with normal entries of mean 0 and the given standard deviation, float32."""
    return Tensor((default_rng(rng).normal(size=shape) * std).astype(np.float32), requires_grad=True)


def constant(shape: tuple[int, ...], value: float) -> Tensor:
    """Return a parameter with all entries equal, float32."""
    return Tensor(np.full(shape, value, np.float32), requires_grad=True)


class Linear(Module):
    """x·Wᵀ + b, with `weight` (out, in) and `bias` (out,), both drawn from U(−1/√in, 1/√in) as in PyTorch.

    >>> import numpy as np, tinygrad_sm as sm
    >>> sm.nn.Linear(3, 2)(sm.Tensor(np.ones((5, 3), np.float32))).shape
    (5, 2)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, rng: Rng = None) -> None:
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        self.weight = uniform((out_features, in_features), bound, rng)
        self.bias = uniform((out_features,), bound, rng) if bias else None

    def forward(self, x: Any) -> Any:
        """Return x·Wᵀ + b for x (…, in)."""
        return F.linear(x, self.weight, self.bias)


class Embedding(Module):
    """A table of `num_embeddings` rows of length `embedding_dim`, looked up by integers; normal with variance 1.

    >>> import tinygrad_sm as sm
    >>> sm.nn.Embedding(10, 4)([1, 2, 3]).shape
    (3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, rng: Rng = None) -> None:
        self.weight = normal((num_embeddings, embedding_dim), 1.0, rng)

    def forward(self, indices: Any) -> Any:
        """Return the rows at `indices`, of shape (*indices.shape, embedding_dim)."""
        return F.embedding(indices, self.weight)


class LayerNorm(Module):
    """Normalize the last axes to mean 0 and variance 1, then scale by `weight` and shift by `bias`.

    >>> import tinygrad_sm as sm
    >>> sm.nn.LayerNorm(2)(sm.Tensor([[1.0, 3.0]])).data.round(3)
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, bias: bool = True) -> None:
        self.normalized_shape, self.eps = normalized_shape, eps
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.weight, self.bias = constant(shape, 1.0), constant(shape, 0.0) if bias else None

    def forward(self, x: Any) -> Any:
        """Return the normalized x, of its shape."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(Module):
    """Divide the last axes by their root mean square, then scale by `weight`.

    >>> import tinygrad_sm as sm
    >>> sm.nn.RMSNorm(2)(sm.Tensor([[3.0, 3.0]])).data.round(3)
    array([[1., 1.]], dtype=float32)
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5) -> None:
        self.normalized_shape, self.eps = normalized_shape, eps
        self.weight = constant((normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape, 1.0)

    def forward(self, x: Any) -> Any:
        """Return x / rms(x) · weight."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class Dropout(Module):
    """Set each element to zero with probability p while training, and scale the others by 1/(1 − p).

    >>> import tinygrad_sm as sm
    >>> sm.nn.Dropout(0.5).eval()(sm.Tensor([1.0, 2.0]))
    Tensor([1., 2.])
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must be in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Any) -> Any:
        """Return x with elements dropped, or x itself in evaluation."""
        return F.dropout(x, self.p, self.training)


class Sequential(Module):
    """Modules (or functions) applied one after the other.

    >>> import tinygrad_sm as sm
    >>> mlp = sm.nn.Sequential(sm.nn.Linear(64, 16), sm.nn.ReLU(), sm.nn.Linear(16, 10))
    >>> sum(p.size for p in mlp.parameters())
    1210
    """

    def __init__(self, *layers: Any) -> None:
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        """Return the last layer's output."""
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Any:
        return self.layers[index]


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Any:
        """Return max(x, 0)."""
        return F.relu(x)


class GELU(Module):
    """x·Φ(x), in the tanh form by default."""

    def __init__(self, approximate: str = "tanh") -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """Return gelu(x)."""
        return F.gelu(x, self.approximate)


class SiLU(Module):
    """x·σ(x)."""

    def forward(self, x: Any) -> Any:
        """Return x·σ(x)."""
        return F.silu(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Any:
        """Return tanh x."""
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ)."""

    def forward(self, x: Any) -> Any:
        """Return σ(x)."""
        return F.sigmoid(x)


class Softmax(Module):
    """Probabilities from logits. Don't put it before CrossEntropyLoss, which takes logits."""

    def __init__(self, axis: int = -1, *, temperature: float = 1.0) -> None:
        self.axis, self.temperature = axis, temperature

    def forward(self, x: Any) -> Any:
        """Return softmax(x) along the axis."""
        return F.softmax(x, self.axis, temperature=self.temperature)


class LogSoftmax(Module):
    """Log-probabilities from logits; what NLLLoss takes."""

    def __init__(self, axis: int = -1, *, temperature: float = 1.0) -> None:
        self.axis, self.temperature = axis, temperature

    def forward(self, x: Any) -> Any:
        """Return log_softmax(x) along the axis."""
        return F.log_softmax(x, self.axis, temperature=self.temperature)


class CrossEntropyLoss(Module):
    """`F.cross_entropy` with its options kept: logits and targets to a loss in nats.

    >>> import tinygrad_sm as sm
    >>> print(f"{sm.nn.CrossEntropyLoss(label_smoothing=0.1)(sm.Tensor([[0.0, 0.0]]), [1]):.4f}")
    0.6931
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def forward(self, logits: Any, target: Any) -> Any:
        """Return the loss."""
        return F.cross_entropy(logits, target, **self.options)


class NLLLoss(Module):
    """`F.nll_loss` with its options kept: log-probabilities and class indices to a loss in nats."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def forward(self, log_probs: Any, target: Any) -> Any:
        """Return the loss."""
        return F.nll_loss(log_probs, target, **self.options)


class MSELoss(Module):
    """Mean squared error."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        return F.mse_loss(input, target, reduction=self.reduction)
