"""A training step of a small network: linear, relu, linear, cross-entropy, and Adam, over 32 batches in turn."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np

import tinygrad_sm as sm
import tinygrad_sm.functional as F

from .row import Builders, Step, classes, normal

BATCHES = 32
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


def weights(n_in: int, n_hidden: int, n_out: int) -> dict[str, Any]:
    """Return the weights that every peer starts from, by the names of a Sequential."""
    a, b = normal(n_hidden, n_in) / np.float32(n_in**0.5), normal(n_out, n_hidden) / np.float32(n_hidden**0.5)
    return {"0.weight": a, "0.bias": np.zeros(n_hidden, np.float32),
            "2.weight": b, "2.bias": np.zeros(n_out, np.float32)}  # fmt: skip


def mlp(n_in: int, n_hidden: int, n_out: int, batch: int) -> Builders:
    """One step: loss, gradients, Adam's update."""

    def start() -> dict[str, Any]:
        return weights(n_in, n_hidden, n_out)

    def batches() -> list[tuple[Any, Any]]:
        return [(normal(batch, n_in, seed=i), classes(batch, n_out, seed=i)) for i in range(BATCHES)]

    def ours() -> Step:
        model = sm.nn.Sequential(sm.nn.Linear(n_in, n_hidden), sm.nn.ReLU(), sm.nn.Linear(n_hidden, n_out))
        model.load_state_dict({f"layers.{name}": a for name, a in start().items()})
        optimizer, data = sm.optim.Adam(model.parameters()), cycle([(sm.Tensor(x), y) for x, y in batches()])

        def step() -> Any:
            x, y = next(data)
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return (loss,)

        return step

    def torch() -> Step:
        import torch
        from torch import nn

        model = nn.Sequential(nn.Linear(n_in, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out))
        model.load_state_dict({name: torch.tensor(a) for name, a in start().items()})
        optimizer = torch.optim.Adam(model.parameters())
        data = cycle([(torch.tensor(x), torch.tensor(y)) for x, y in batches()])

        def step() -> Any:
            x, y = next(data)
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return (loss,)

        return step

    def autograd() -> Step:
        import autograd.numpy as anp
        from autograd import value_and_grad

        one_hot = np.eye(n_out, dtype=np.float32)  # indexing by arrays would be slower, going back

        def loss_of(params: Any, x: Any, y: Any) -> Any:
            w1, b1, w2, b2 = params
            z = anp.dot(anp.maximum(anp.dot(x, w1) + b1, 0), w2) + b2
            z = z - anp.max(z, axis=1, keepdims=True)
            return anp.mean(anp.log(anp.sum(anp.exp(z), axis=1)) - anp.sum(z * y, axis=1))

        params = [np.ascontiguousarray(a.T) for a in start().values()]
        both, adam = value_and_grad(loss_of), _adam(params)
        data = cycle([(x, one_hot[y]) for x, y in batches()])

        def step() -> Any:
            loss, gradients = both(params, *next(data))
            adam(gradients)
            return (loss,)

        return step

    def mygrad() -> Step:
        import mygrad as mg
        from mygrad.nnet.activations import relu
        from mygrad.nnet.losses import softmax_crossentropy

        mg.turn_memory_guarding_off()  # as its manual advises for speed
        params = [mg.tensor(np.ascontiguousarray(a.T)) for a in start().values()]
        w1, b1, w2, b2 = params
        adam, data = _adam([p.data for p in params]), cycle(batches())

        def step() -> Any:
            x, y = next(data)
            loss = softmax_crossentropy(mg.matmul(relu(mg.matmul(x, w1) + b1), w2) + b2, y)
            loss.backward()
            adam([p.grad for p in params])
            for p in params:
                p.null_grad()
            return (loss,)

        return step

    def jax() -> Step:
        import jax
        import jax.numpy as jnp

        def loss_of(params: Any, x: Any, y: Any) -> Any:
            w1, b1, w2, b2 = params
            log_probs = jax.nn.log_softmax(jax.nn.relu(x @ w1.T + b1) @ w2.T + b2)
            return -jnp.take_along_axis(log_probs, y[:, None], axis=1).mean()

        @jax.jit
        def advance(state: Any, x: Any, y: Any) -> Any:
            params, m, v, t = state
            loss, g = jax.value_and_grad(loss_of)(params, x, y)
            t = t + 1
            m = [BETA1 * a + (1 - BETA1) * b for a, b in zip(m, g, strict=True)]
            v = [BETA2 * a + (1 - BETA2) * b * b for a, b in zip(v, g, strict=True)]
            c1, c2 = 1 - BETA1**t, 1 - BETA2**t
            params = [p - LR * (a / c1) / (jnp.sqrt(b / c2) + EPS) for p, a, b in zip(params, m, v, strict=True)]
            return loss, (params, m, v, t)

        params = [jnp.asarray(a) for a in start().values()]
        zeros = [jnp.zeros_like(p) for p in params]
        state: Any = (params, zeros, zeros, jnp.float32(0))
        data = cycle([(jnp.asarray(x), jnp.asarray(y)) for x, y in batches()])

        def step() -> Any:
            nonlocal state
            loss, state = jax.block_until_ready(advance(state, *next(data)))
            return (loss,)

        return step

    def tinygrad() -> Step:
        import tinygrad
        from tinygrad.nn.optim import Adam

        params = [tinygrad.Tensor(a).contiguous().realize() for a in start().values()]
        for p in params:
            p.is_param_()
        w1, b1, w2, b2 = params
        optimizer = Adam(params, lr=LR)
        data = cycle(
            [(tinygrad.Tensor(x).realize(), tinygrad.Tensor(y.astype(np.int32)).realize()) for x, y in batches()]
        )

        @tinygrad.TinyJit
        def advance(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = (x.linear(w1.T, b1).relu().linear(w2.T, b2)).sparse_categorical_crossentropy(y).backward()
            return loss.realize(*optimizer.schedule_step())

        def step() -> Any:
            with tinygrad.Context(TRAINING=1):
                loss = advance(*next(data))
            tinygrad.Device.default.synchronize()
            return (loss,)

        return step

    found: Builders = {"ours": ours, "torch": torch}
    return {**found, "autograd": autograd, "mygrad": mygrad, "jax": jax, "tinygrad": tinygrad}


def _adam(params: list[Any]) -> Any:
    """Return Adam's update of arrays in place, as a user of a library without optimisers writes it."""
    m, v, t = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params], 0

    def update(gradients: Any) -> None:
        nonlocal t
        t += 1
        rate, root = LR / (1 - BETA1**t), (1 - BETA2**t) ** 0.5
        for p, g, a, b in zip(params, gradients, m, v, strict=True):
            a *= BETA1
            a += (1 - BETA1) * g
            b *= BETA2
            b += (1 - BETA2) * g * g
            p -= rate * a / (np.sqrt(b) / root + EPS)

    return update
