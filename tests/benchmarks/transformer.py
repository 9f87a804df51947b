"""The mini Transformer: a training step with AdamW, and generating text with a key-value cache."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np

import tinygrad_sm as sm
import tinygrad_sm.functional as F

from .row import Builders, Step, classes

VOCAB, HEADS = 65, 4


def _model(layers: int, d: int, t: int) -> Any:
    return sm.nn.TransformerLM(
        VOCAB, d_model=d, n_heads=HEADS, n_layers=layers, context=t, rng=np.random.default_rng(0)
    )


def step(layers: int, d: int, t: int, batch: int) -> Builders:
    """One step: loss of (batch, t) tokens, gradients, AdamW's update."""

    def batches() -> list[tuple[Any, Any]]:
        tokens = [classes(batch * (t + 1), VOCAB, seed=i).reshape(batch, t + 1) for i in range(8)]
        return [(a[:, :-1], a[:, 1:]) for a in tokens]

    def ours() -> Step:
        model, data = _model(layers, d, t), cycle(batches())
        optimizer = sm.optim.AdamW(model.parameters())

        def one() -> Any:
            x, y = next(data)
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return (loss,)

        return one

    def torch() -> Step:
        import torch

        from .torch_gpt import from_ours

        model, data = from_ours(_model(layers, d, t), HEADS), cycle([tuple(map(torch.tensor, b)) for b in batches()])
        optimizer = torch.optim.AdamW(model.parameters())

        def one() -> Any:
            x, y = next(data)
            loss = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return (loss,)

        return one

    return {"ours": ours, "torch": torch}


def generate(layers: int, d: int, context: int, n: int) -> Builders:
    """Sample n tokens at temperature 1 after a prompt of one."""

    def ours() -> Step:
        model, rng = _model(layers, d, context), np.random.default_rng(0)
        return lambda: (model.generate([0], n, rng=rng)[None],)

    def torch() -> Step:
        import torch

        from .torch_gpt import from_ours

        model, prompt = from_ours(_model(layers, d, context), HEADS), torch.zeros(1, 1, dtype=torch.int64)
        return lambda: (model.generate(prompt, n),)

    return {"ours": ours, "torch": torch}
