"""A loop of 2000 ops without a module: too large for cards, so it folds by itself and says so."""

from pathlib import Path

import tinygrad_sm as sm

w = sm.Tensor([1.02], requires_grad=True, name="w")
h = x = sm.Tensor([1.0, -1.0], requires_grad=True, name="x")
for _ in range(1000):
    h = (h * w).tanh()
sm.draw(h.sum(), title="A recurrence, unrolled").save(Path(__file__).with_suffix(".svg"))
