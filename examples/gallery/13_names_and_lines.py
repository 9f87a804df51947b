"""Which card is which variable: under sm.record() a card has the name and the tooltip the line of the source."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

rng = np.random.default_rng(0)
x = sm.Tensor(rng.normal(size=(4, 3)), name="x")
w = sm.Tensor(rng.normal(size=(3, 2)), requires_grad=True, name="w")
with sm.record():
    logits = x @ w
    probs = logits.softmax()
    entropy = -(probs * probs.log()).sum(axis=-1)
    loss = entropy.mean()
sm.draw(loss, direction="LR").save(Path(__file__).with_suffix(".svg"))
