"""Causal attention of h heads, t positions and width d: output, and the gradients of q, k and v from a cotangent."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_sm as sm
import tinygrad_sm.functional as F

from .row import Builders, Step, normal


def attention(h: int, t: int, d: int) -> Builders:
    """Scaled dot-product attention with a causal mask; PyTorch takes its fused kernel, in shape (1, h, t, d)."""

    def arrays() -> list[Any]:
        return [normal(1, h, t, d, seed=seed) for seed in range(4)]

    def ours() -> Step:
        q, k, v, cotangent = (sm.Tensor(a[0], requires_grad=i < 3) for i, a in enumerate(arrays()))

        def step() -> Any:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            y.backward(cotangent)
            gradients = q.grad, k.grad, v.grad
            q.grad = k.grad = v.grad = None
            return y, *gradients

        return step

    def torch() -> Step:
        import torch

        q, k, v, cotangent = (torch.tensor(a, requires_grad=i < 3) for i, a in enumerate(arrays()))

        def step() -> Any:
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            y.backward(cotangent)
            gradients = q.grad, k.grad, v.grad
            q.grad = k.grad = v.grad = None
            return y[0], *(g[0] for g in gradients)

        return step

    def jax() -> Step:
        import jax

        q, k, v, cotangent = (jax.numpy.asarray(np.swapaxes(a, 1, 2)) for a in arrays())  # (1, t, h, d)

        @jax.jit
        def both(q: Any, k: Any, v: Any, c: Any) -> Any:
            y, pull = jax.vjp(lambda *qkv: jax.nn.dot_product_attention(*qkv, is_causal=True), q, k, v)
            return [jax.numpy.swapaxes(x[0], 0, 1) for x in (y, *pull(c))]

        return lambda: jax.block_until_ready(both(q, k, v, cotangent))

    def tinygrad() -> Step:
        import tinygrad

        q, k, v, cotangent = (tinygrad.Tensor(a).realize() for a in arrays())

        @tinygrad.TinyJit
        def both(q: Any, k: Any, v: Any) -> Any:
            y = q.scaled_dot_product_attention(k, v, is_causal=True)
            found = [x[0] for x in (y, *y.gradient(q, k, v, gradient=cotangent))]
            return found[0].realize(*found[1:]), *found[1:]

        def step() -> Any:
            found = both(q, k, v)
            tinygrad.Device.default.synchronize()
            return found

        return step

    return {"ours": ours, "torch": torch, "jax": jax, "tinygrad": tinygrad}
