"""The plain layers: Linear, Embedding, normalization, dropout, activations, Sequential, losses as modules."""

from __future__ import annotations

import inspect
import math
from typing import Any, TypeAlias

import numpy as np

from .. import functional as F
from ..ops.arguments import operand
from ..ops.loss import check_reduction
from ..ops.norm import normalized
from ..ops.options import count, refuse, toggle, within
from ..random import default_rng
from ..tensor import Tensor
from .module import Module

Rng: TypeAlias = "np.random.Generator | None"  # as text, for to import np.random takes a while


def uniform(shape: tuple[int, ...], bound: float, rng: Rng = None) -> Tensor:
    """Return a parameter with entries drawn uniformly from (−bound, bound), float32."""
    return Tensor(default_rng(rng).uniform(-bound, bound, shape).astype(np.float32, copy=False), requires_grad=True)


def normal(shape: tuple[int, ...], std: float, rng: Rng = None) -> Tensor:
    """Return a parameter with normal entries of mean 0 and the given standard deviation, float32."""
    return Tensor(default_rng(rng).normal(0, std, shape).astype(np.float32, copy=False), requires_grad=True)


def constant(shape: tuple[int, ...], value: float) -> Tensor:
    """Return a parameter with all entries equal, float32."""
    return Tensor(np.full(shape, value, np.float32), requires_grad=True)


def no_input(given: Any, layer: str, call: str = "x") -> None:
    """Say that a layer is made first and called then, where a tensor stands among its options."""
    if any(isinstance(a, (Tensor, np.ndarray)) for a in (given if isinstance(given, tuple) else (given,))):
        raise TypeError(f"{layer} takes options, not tensors: make the layer first, then call it: {layer}()({call})")


def check_options(layer: str, function: Any, given: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Refuse what a loss does not take when it is made, before the first batch comes."""
    no_input(given, layer, "logits, target" if layer == "CrossEntropyLoss" else "log_probs, target")
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if given:
        raise TypeError(f"{layer}: options have names, such as reduction={given[0]!r:.40}")
    refuse({name: v for name, v in options.items() if name not in known}, known, layer)


class Linear(Module):
    """x·Wᵀ + b, with `weight` (out, in) and `bias` (out,), both drawn from U(−1/√in, 1/√in) as in PyTorch.

    Parameters
    ----------
    in_features, out_features : int
        Lengths of the last axis of input and output.
    bias : bool
        Whether there is a b.
    rng : numpy.random.Generator, optional
        Draws the weights; that of `manual_seed` by default.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> sm.nn.Linear(3, 2)(sm.Tensor(np.ones((5, 3), np.float32))).shape
    (5, 2)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, rng: Rng = None) -> None:
        count(in_features, "in_features", "Linear", 0)
        count(out_features, "out_features", "Linear", 0)
        toggle(bias, "bias", "Linear")
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        self.weight = uniform((out_features, in_features), bound, rng)
        self.bias = uniform((out_features,), bound, rng) if bias else None

    def forward(self, x: Any) -> Any:
        """Return x·Wᵀ + b for x (…, in)."""
        x, (n_out, n_in) = operand(x), self.weight.shape
        if x.ndim < 1 or x.shape[-1] != n_in:
            name = self._label or f"Linear({n_in}, {n_out})"
            raise ValueError(f"{name} takes x of shape (…, {n_in}), not {x.shape}; its weight is {self.weight.shape}")
        return F.linear(x, self.weight, self.bias)


class Embedding(Module):
    """A table of `num_embeddings` rows of length `embedding_dim`, looked up by integers; normal with variance 1.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Number of rows, and their length.
    rng : numpy.random.Generator, optional
        Draws the weights; that of `manual_seed` by default.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.nn.Embedding(10, 4)([1, 2, 3]).shape
    (3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, rng: Rng = None) -> None:
        count(num_embeddings, "num_embeddings", "Embedding", 0)
        count(embedding_dim, "embedding_dim", "Embedding", 0)
        self.weight = normal((num_embeddings, embedding_dim), 1.0, rng)

    def forward(self, indices: Any) -> Any:
        """Return the rows at `indices`, of shape (*indices.shape, embedding_dim)."""
        return F.embedding(indices, self.weight)


class LayerNorm(Module):
    """Normalize the last axes to mean 0 and variance 1, then scale by `weight` and shift by `bias`.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Lengths of the last axes, which are normalized together.
    eps : float
        Added to the variance.
    bias : bool
        Whether there is a shift.

    Notes
    -----
    Source: Ba, Kiros and Hinton 2016.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.nn.LayerNorm(2)(sm.Tensor([[1.0, 3.0]])).data.round(3)
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, bias: bool = True) -> None:
        within(eps, 0, math.inf, "eps", "LayerNorm")
        toggle(bias, "bias", "LayerNorm")
        self.normalized_shape, self.eps = normalized_shape, eps
        shape = normalized(normalized_shape, "LayerNorm")
        self.weight, self.bias = constant(shape, 1.0), constant(shape, 0.0) if bias else None

    def forward(self, x: Any) -> Any:
        """Return the normalized x, of its shape."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(Module):
    """Divide the last axes by their root mean square, then scale by `weight`.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Lengths of the last axes, which are normalized together.
    eps : float
        Added to the mean square.

    Notes
    -----
    Source: Zhang and Sennrich 2019.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.nn.RMSNorm(2)(sm.Tensor([[3.0, 3.0]])).data.round(3)
    array([[1., 1.]], dtype=float32)
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5) -> None:
        within(eps, 0, math.inf, "eps", "RMSNorm")
        self.normalized_shape, self.eps = normalized_shape, eps
        self.weight = constant(normalized(normalized_shape, "RMSNorm"), 1.0)

    def forward(self, x: Any) -> Any:
        """Return x / rms(x) · weight."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class Dropout(Module):
    """Set each element to zero with probability p while training, and scale the others by 1/(1 − p).

    `p` is in [0, 1); else ValueError. Source: Srivastava et al. 2014.

    >>> import tinygrad_sm as sm
    >>> sm.nn.Dropout(0.5).eval()(sm.Tensor([1.0, 2.0]))
    Tensor([1., 2.])
    """

    def __init__(self, p: float = 0.5) -> None:
        within(p, 0, 1, "p", "Dropout")
        self.p = p

    def forward(self, x: Any) -> Any:
        """Return x with elements dropped, or x itself in evaluation."""
        return F.dropout(x, self.p, self.training)


class Sequential(Module):
    """Modules (or functions) applied one after the other.

    `layers` are given one by one, each called with what the one before returned. Raises TypeError for what cannot be
    called, and for a class in place of a layer.

    >>> import tinygrad_sm as sm
    >>> mlp = sm.nn.Sequential(sm.nn.Linear(64, 16), sm.nn.ReLU(), sm.nn.Linear(16, 10))
    >>> sum(p.size for p in mlp.parameters())
    1210
    """

    def __init__(self, *layers: Any) -> None:
        for i, layer in enumerate(layers):
            if isinstance(layer, type):
                raise TypeError(f"Sequential: layer {i} is the class {layer.__name__}; make one: {layer.__name__}(…)")
            if not callable(layer):
                hint = "; give the layers one by one: Sequential(*layers)" if isinstance(layer, (list, tuple)) else ""
                raise TypeError(f"Sequential: layer {i} is a {type(layer).__name__}, not a layer or a function{hint}")
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
    """max(x, 0).

    >>> import tinygrad_sm as sm
    >>> sm.nn.ReLU()(sm.Tensor([-1.0, 0.0, 1.0]))
    Tensor([0., 0., 1.])
    """

    def forward(self, x: Any) -> Any:
        """Return max(x, 0)."""
        return F.relu(x)


class GELU(Module):
    """x·Φ(x), in the tanh form by default.

    `approximate` is "tanh", or "none" for the exact one, as in `F.gelu`. Source: Hendrycks and Gimpel 2016.

    >>> import tinygrad_sm as sm
    >>> sm.nn.GELU()(sm.Tensor([-1.0, 0.0, 1.0]))
    Tensor([-0.158808,  0.      ,  0.841192])
    """

    def __init__(self, approximate: str = "tanh") -> None:
        no_input(approximate, "GELU")
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """Return gelu(x)."""
        return F.gelu(x, self.approximate)


class SiLU(Module):
    """x·σ(x).

    >>> import tinygrad_sm as sm
    >>> sm.nn.SiLU()(sm.Tensor([-1.0, 0.0, 1.0]))
    Tensor([-0.2689414,  0.       ,  0.7310586])
    """

    def forward(self, x: Any) -> Any:
        """Return x·σ(x)."""
        return F.silu(x)


class Tanh(Module):
    """The hyperbolic tangent.

    >>> import tinygrad_sm as sm
    >>> sm.nn.Tanh()(sm.Tensor([-1.0, 0.0, 1.0]))
    Tensor([-0.7615942,  0.       ,  0.7615942])
    """

    def forward(self, x: Any) -> Any:
        """Return tanh x."""
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ).

    >>> import tinygrad_sm as sm
    >>> sm.nn.Sigmoid()(sm.Tensor([-1.0, 0.0, 1.0]))
    Tensor([0.2689414, 0.5      , 0.7310586])
    """

    def forward(self, x: Any) -> Any:
        """Return σ(x)."""
        return F.sigmoid(x)


class Softmax(Module):
    """Probabilities from logits. Don't put it before CrossEntropyLoss, which takes logits.

    `axis` is that of the classes, and logits are divided by `temperature`.

    >>> import tinygrad_sm as sm
    >>> sm.nn.Softmax()(sm.Tensor([0.0, 0.0]))
    Tensor([0.5, 0.5])
    """

    def __init__(self, axis: int = -1, *, temperature: float = 1.0) -> None:
        no_input(axis, type(self).__name__)
        self.axis, self.temperature = axis, temperature

    def forward(self, x: Any) -> Any:
        """Return softmax(x) along the axis."""
        return F.softmax(x, self.axis, temperature=self.temperature)


class LogSoftmax(Module):
    """Log-probabilities from logits; what NLLLoss takes.

    `axis` is that of the classes, and logits are divided by `temperature`.

    >>> import tinygrad_sm as sm
    >>> sm.nn.LogSoftmax()(sm.Tensor([0.0, 0.0]))
    Tensor([-0.6931472, -0.6931472])
    """

    def __init__(self, axis: int = -1, *, temperature: float = 1.0) -> None:
        no_input(axis, type(self).__name__)
        self.axis, self.temperature = axis, temperature

    def forward(self, x: Any) -> Any:
        """Return log_softmax(x) along the axis."""
        return F.log_softmax(x, self.axis, temperature=self.temperature)


class CrossEntropyLoss(Module):
    """`F.cross_entropy` with its options kept: logits and targets to a loss in nats.

    The options are those of that function: weight, ignore_index, label_smoothing, reduction, axis; all by name.

    >>> import tinygrad_sm as sm
    >>> print(f"{sm.nn.CrossEntropyLoss(label_smoothing=0.1)(sm.Tensor([[0.0, 0.0]]), [1]):.4f}")
    0.6931
    """

    function = staticmethod(F.cross_entropy)

    def __init__(self, *inputs: Any, **options: Any) -> None:
        check_options(type(self).__name__, self.function, inputs, options)
        self.options = options

    def forward(self, logits: Any, target: Any) -> Any:
        """Return the loss."""
        return self.function(logits, target, **self.options)


class NLLLoss(Module):
    """`F.nll_loss` with its options kept: log-probabilities and class indices to a loss in nats.

    The options are those of that function: weight, ignore_index, reduction, axis; all by name.

    >>> import tinygrad_sm as sm
    >>> print(f"{sm.nn.NLLLoss()(sm.nn.LogSoftmax()(sm.Tensor([[0.0, 0.0]])), [1]).item():.4f}")
    0.6931
    """

    function = staticmethod(F.nll_loss)

    def __init__(self, *inputs: Any, **options: Any) -> None:
        check_options(type(self).__name__, self.function, inputs, options)
        self.options = options

    def forward(self, log_probs: Any, target: Any) -> Any:
        """Return the loss."""
        return self.function(log_probs, target, **self.options)


class MSELoss(Module):
    """Mean squared error.

    `reduction` is "mean" over all elements, "sum" or "none".

    >>> import tinygrad_sm as sm
    >>> sm.nn.MSELoss()(sm.Tensor([1.0, 2.0]), sm.Tensor([1.0, 4.0])).item()
    2.0
    """

    def __init__(self, reduction: str = "mean") -> None:
        no_input(reduction, "MSELoss")
        check_reduction(reduction, "MSELoss")
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        return F.mse_loss(input, target, reduction=self.reduction)
