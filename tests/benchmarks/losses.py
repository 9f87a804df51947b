"""Softmax and losses: logits in, loss and the gradient of the logits out."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_sm as sm
import tinygrad_sm.functional as F

from .row import Builders, Missing, Step, classes, normal


def cross_entropy(n: int, v: int, form: str = "plain") -> Builders:
    """Mean cross-entropy of logits (n, v) and its gradient, plain or with one of its options."""
    weight = np.linspace(0.5, 1.5, v, dtype=np.float32)
    options: dict[str, Any] = {"label-smoothed": {"label_smoothing": 0.1}, "weighted": {"weight": weight}}.get(form, {})

    def target() -> Any:
        y = classes(n, v)
        return np.where(np.arange(n) % 10, y, -100) if form == "ignore_index" else y

    def step_of(y: Any, **options: Any) -> Step:
        logits = sm.Tensor(normal(n, v), requires_grad=True)

        def step() -> Any:
            loss = F.cross_entropy(logits, y, **options)
            loss.backward()
            gradient, logits.grad = logits.grad, None
            return loss, gradient

        return step

    def torch() -> Step:
        import torch

        logits, y = torch.tensor(normal(n, v), requires_grad=True), torch.tensor(target())
        torch_options = {k: torch.tensor(o) if k == "weight" else o for k, o in options.items()}

        def step() -> Any:
            loss = torch.nn.functional.cross_entropy(logits, y, **torch_options)
            loss.backward()
            gradient, logits.grad = logits.grad, None
            return loss, gradient

        return step

    def jax() -> Step:
        import jax

        def loss(z: Any, y: Any) -> Any:
            log_probs = jax.nn.log_softmax(z)
            return -jax.numpy.take_along_axis(log_probs, y[:, None], axis=1).mean()

        z, y = jax.numpy.asarray(normal(n, v)), jax.numpy.asarray(target())
        both = jax.jit(jax.value_and_grad(loss))
        return lambda: jax.block_until_ready(both(z, y))

    def tinygrad() -> Step:
        import tinygrad

        z, y = tinygrad.Tensor(normal(n, v)).realize(), tinygrad.Tensor(target().astype(np.int32)).realize()

        @tinygrad.TinyJit
        def both(z: Any) -> Any:
            loss = z.sparse_categorical_crossentropy(y)
            return loss.realize(*(gradient := loss.gradient(z))), *gradient

        def step() -> Any:
            found = both(z)
            tinygrad.Device.default.synchronize()
            return found

        return step

    found: Builders = {"ours": lambda: step_of(target(), **options), "torch": torch}
    if form == "plain":
        return {**found, "jax": jax, "tinygrad": tinygrad}
    return {**found, "plain": lambda: step_of(classes(n, v))}


def softmax(n: int, v: int, name: str = "softmax", backward: bool = True) -> Builders:
    """softmax or log_softmax of rows (n, v), and the gradient from a given random cotangent."""

    def ours() -> Step:
        x, function = sm.Tensor(normal(n, v), requires_grad=backward), getattr(F, name)
        if not backward:
            return lambda: (function(x),)
        cotangent = sm.Tensor(normal(n, v, seed=1))

        def step() -> Any:
            y = function(x)
            y.backward(cotangent)
            gradient, x.grad = x.grad, None
            return y, gradient

        return step

    def torch() -> Step:
        import torch

        x, function = torch.tensor(normal(n, v), requires_grad=backward), getattr(torch, name)
        if not backward:
            return lambda: (function(x, -1),)
        cotangent = torch.tensor(normal(n, v, seed=1))

        def step() -> Any:
            y = function(x, -1)
            y.backward(cotangent)
            gradient, x.grad = x.grad, None
            return y, gradient

        return step

    def jax() -> Step:
        import jax

        x, cotangent = jax.numpy.asarray(normal(n, v)), jax.numpy.asarray(normal(n, v, seed=1))

        @jax.jit
        def both(x: Any, c: Any) -> Any:
            y, pull = jax.vjp(getattr(jax.nn, name), x)
            return y, *pull(c)

        return lambda: jax.block_until_ready(both(x, cotangent))

    def tinygrad() -> Step:
        import tinygrad

        x, cotangent = tinygrad.Tensor(normal(n, v)).realize(), tinygrad.Tensor(normal(n, v, seed=1)).realize()

        @tinygrad.TinyJit
        def both(x: Any) -> Any:
            y = getattr(x, name)()
            return y.realize(*(gradient := y.gradient(x, gradient=cotangent))), *gradient

        def step() -> Any:
            found = both(x)
            tinygrad.Device.default.synchronize()
            return found

        return step

    found: Builders = {"ours": ours, "torch": torch}
    return {**found, "jax": jax, "tinygrad": tinygrad} if backward else found


def linear_cross_entropy(n: int, d: int, v: int) -> Builders:
    """The cross-entropy of x·Wᵀ with x (n, d) and W (v, d), against a linear layer and then cross-entropy."""

    def arrays() -> tuple[Any, Any, Any]:
        return normal(n, d), normal(v, d, seed=1) / np.float32(d**0.5), classes(n, v)

    def ours() -> Step:
        loss_of: Any = getattr(F, "linear_cross_entropy", None)
        if loss_of is None:
            raise Missing("F.linear_cross_entropy is not there")
        a, b, y = arrays()
        x, w = sm.Tensor(a, requires_grad=True), sm.Tensor(b, requires_grad=True)

        def step() -> Any:
            loss = loss_of(x, w, y)
            loss.backward()
            gradients, x.grad, w.grad = (x.grad, w.grad), None, None
            return loss, *gradients

        return step

    def torch() -> Step:
        import torch

        a, b, y = map(torch.tensor, arrays())
        x, w = a.requires_grad_(), b.requires_grad_()

        def step() -> Any:
            loss = torch.nn.functional.cross_entropy(torch.nn.functional.linear(x, w), y)
            loss.backward()
            gradients, x.grad, w.grad = (x.grad, w.grad), None, None
            return loss, *gradients

        return step

    return {"ours": ours, "torch": torch}
