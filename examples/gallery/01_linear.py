"""A linear layer and its loss: values, gradients, and how much gradient comes back along each arrow."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

sm.manual_seed(0)
x = sm.Tensor(np.random.default_rng(0).normal(size=(2, 3)), requires_grad=True, name="x")
logits = sm.nn.Linear(3, 3)(x)
loss = sm.cross_entropy(logits, np.array([0, 2]))
sm.draw(loss, title="A linear layer and its loss").save(Path(__file__).with_suffix(".svg"))
