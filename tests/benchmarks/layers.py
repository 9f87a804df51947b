"""Single layers at the size of a small Transformer, and a chain of tiny ops: outputs and gradients from a cotangent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_sm as sm
import tinygrad_sm.functional as F

from .row import Builders, Step, classes, normal


def _step(function: Callable[..., Any], inputs: list[Any], cotangent: Any) -> Step:
    """Return a step that calls `function` of the inputs and goes back from the cotangent; for us and PyTorch alike."""

    def step() -> Any:
        y = function(*inputs)
        y.backward(cotangent)
        gradients = [x.grad for x in inputs]
        for x in inputs:
            x.grad = None
        return y, *gradients

    return step


def _builders(
    arrays: Callable[[], list[Any]], shape: tuple[int, ...], ours: Callable[..., Any], torchs: Callable[..., Any]
) -> Builders:
    """Return the builders of a layer: its inputs, the shape of its output, and what we and PyTorch call for it."""

    def our_builder() -> Step:
        inputs = [sm.Tensor(a, requires_grad=True) for a in arrays()]
        return _step(ours, inputs, sm.Tensor(normal(*shape, seed=9)))

    def torch() -> Step:
        import torch

        inputs = [torch.tensor(a, requires_grad=True) for a in arrays()]
        return _step(torchs, inputs, torch.tensor(normal(*shape, seed=9)))

    return {"ours": our_builder, "torch": torch}


def _torch() -> Any:
    import torch

    return torch


def layer_norm(n: int, d: int) -> Builders:
    """layer_norm of (n, d) with weight and bias."""
    return _builders(
        lambda: [normal(n, d), normal(d, seed=1), normal(d, seed=2)],
        (n, d),
        lambda x, w, b: F.layer_norm(x, (d,), w, b),
        lambda x, w, b: _torch().nn.functional.layer_norm(x, (d,), w, b),
    )


def gelu(n: int, d: int) -> Builders:
    """Gelu by tanh, as GPT-2 has it."""
    return _builders(
        lambda: [normal(n, d)],
        (n, d),
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: _torch().nn.functional.gelu(x, approximate="tanh"),
    )


def dropout(n: int, d: int) -> Builders:
    """Dropout with p = 0.1; the masks differ, so that outputs cannot be compared."""
    return _builders(
        lambda: [normal(n, d)], (n, d), lambda x: F.dropout(x, 0.1), lambda x: _torch().nn.functional.dropout(x, 0.1)
    )


def embedding(n: int, v: int, d: int) -> Builders:
    """Look n indices up in a table (v, d): the output is (n, d), the gradient dense, (v, d)."""
    indices = classes(n, v)
    table: Any = []

    def torch_lookup(weight: Any) -> Any:
        if not table:
            table.append(_torch().tensor(indices))
        return _torch().nn.functional.embedding(table[0], weight)

    return _builders(lambda: [normal(v, d)], (n, d), lambda weight: F.embedding(indices, weight), torch_lookup)


def chain(n: int) -> Builders:
    """A chain of n small ops on 8 numbers, half products and half sums with a Python number."""

    def repeated(y: Any) -> Any:
        for _ in range(n // 2):
            y = y * 1.0001 + 0.01  # neither grows nor shrinks out of range
        return y

    return _builders(lambda: [np.arange(8, dtype=np.float32)], (8,), repeated, repeated)
