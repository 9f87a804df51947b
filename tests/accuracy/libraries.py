"""Each quantity as each library computes it: from a case to an array, or None where a library has no such function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from exact import SMOOTHING
from rows import Case

import tinygrad_sm as sm
import tinygrad_sm.functional as F

Library = dict[str, Callable[[Case], Any]]
LOSSES: dict[str, Callable[[Case], tuple[Any, dict[str, Any]]]] = {
    "": lambda c: (c.y, {}),
    ", smoothed": lambda c: (c.y, {"label_smoothing": SMOOTHING}),
    ", smoothed and weighted": lambda c: (c.y, {"label_smoothing": SMOOTHING, "weight": c.weight}),
    ", probabilities": lambda c: (c.q, {}),
    ", one-hot probabilities": lambda c: (_hot(c), {}),
}


def _hot(c: Case) -> Any:
    hot = np.zeros_like(c.z)
    hot[np.arange(len(c.y)), c.y] = 1
    return hot


def _table(value: Any, gradient: Any, softmax: Any, log_softmax: Any, logsumexp: Any, cross_entropy: Any) -> Library:
    """Build the table of a library from its functions and its way to take values and gradients of them."""

    def loss(kind: str) -> Any:
        def f(c: Case) -> Any:
            target, options = LOSSES[kind](c)
            return lambda z: cross_entropy(z, target, **options)

        return f

    def ones(c: Case) -> Any:
        return np.ones(len(c.z), c.z.dtype)

    return {
        "softmax": lambda c: value(softmax, c.z),
        "log_softmax": lambda c: value(log_softmax, c.z),
        "logsumexp": lambda c: value(logsumexp, c.z),
        "cross_entropy": lambda c: value(loss("")(c), c.z),
        "cross_entropy, smoothed": lambda c: value(loss(", smoothed")(c), c.z),
        "cross_entropy, smoothed and weighted": lambda c: value(loss(", smoothed and weighted")(c), c.z),
        "cross_entropy, probabilities": lambda c: value(loss(", probabilities")(c), c.z),
        "p_y - 1": lambda c: gradient(loss("")(c), c.z, ones(c)),
        "gradient of cross_entropy": lambda c: gradient(loss("")(c), c.z, ones(c)),
        "gradient, smoothed": lambda c: gradient(loss(", smoothed")(c), c.z, ones(c)),
        "gradient, smoothed and weighted": lambda c: gradient(loss(", smoothed and weighted")(c), c.z, ones(c)),
        "gradient, probabilities": lambda c: gradient(loss(", probabilities")(c), c.z, ones(c)),
        "gradient, one-hot probabilities": lambda c: gradient(loss(", one-hot probabilities")(c), c.z, ones(c)),
        "gradient of softmax": lambda c: gradient(softmax, c.z, c.g),
        "gradient of softmax, one-hot": lambda c: gradient(softmax, c.z, _hot(c)),
        "gradient of log_softmax": lambda c: gradient(log_softmax, c.z, c.g),
        "gradient of log_softmax, one-hot": lambda c: gradient(log_softmax, c.z, _hot(c)),
        "gradient of logsumexp": lambda c: gradient(logsumexp, c.z, ones(c)),
    }


def ours() -> Library:
    def gradient(f: Any, z: Any, g: Any) -> Any:
        x = sm.Tensor(z, requires_grad=True)
        return sm.grad(f(x), x, g)[0].data

    return _table(
        lambda f, z: f(z), gradient, F.softmax, F.log_softmax, F.logsumexp,
        lambda z, target, **options: F.cross_entropy(z, target, reduction="none", **options),
    )  # fmt: skip


def pytorch() -> Library:
    import torch
    import torch.nn.functional as TF

    torch.set_num_threads(1)

    def gradient(f: Any, z: Any, g: Any) -> Any:
        x = torch.tensor(z, requires_grad=True)
        return torch.autograd.grad(f(x), x, torch.tensor(g))[0].numpy()

    def cross_entropy(z: Any, target: Any, weight: Any = None, **options: Any) -> Any:
        weight = None if weight is None else torch.tensor(weight)
        return TF.cross_entropy(z, torch.tensor(target), weight=weight, reduction="none", **options)

    return _table(
        lambda f, z: f(torch.tensor(z)).numpy(), gradient, lambda z: torch.softmax(z, -1),
        lambda z: torch.log_softmax(z, -1), lambda z: torch.logsumexp(z, -1), cross_entropy,
    )  # fmt: skip


def scipy() -> Library:
    from scipy import special

    def quiet(f: Any) -> Any:
        def g(c: Case) -> Any:
            with np.errstate(all="ignore"):
                return f(c.z, axis=-1)

        return g

    return {name: quiet(getattr(special, name)) for name in ("softmax", "log_softmax", "logsumexp")}


def jax() -> Library:
    import jax

    jax.config.update("jax_enable_x64", True)
    nn, jnp = jax.nn, jax.numpy

    def gradient(f: Any, z: Any, g: Any) -> Any:
        return np.asarray(jax.vjp(f, jnp.asarray(z))[1](jnp.asarray(g))[0])

    def cross_entropy(z: Any, target: Any, weight: Any = None, label_smoothing: float = 0.0) -> Any:
        # JAX has no such loss; this is the usual way to write it. Class weights as in PyTorch.
        q = jnp.asarray(target) if target.ndim == z.ndim else nn.one_hot(target, z.shape[-1], dtype=z.dtype)
        q = q * (1 - label_smoothing) + label_smoothing / z.shape[-1]
        q = q if weight is None else q * weight
        return -jnp.sum(jnp.where(q == 0, 0, q * nn.log_softmax(z)), axis=-1)

    return _table(
        lambda f, z: np.asarray(f(jnp.asarray(z))), gradient, nn.softmax, nn.log_softmax,
        lambda z: nn.logsumexp(z, axis=-1), cross_entropy,
    )  # fmt: skip


LIBRARIES: dict[str, Callable[[], Library]] = {"ours": ours, "PyTorch": pytorch, "SciPy": scipy, "JAX": jax}
