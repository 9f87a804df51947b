"""All other states: vanishing, exploding, exactly zero, no gradient at all, dead ReLU, saturated softmax."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

rng = np.random.default_rng(0)
small = sm.Tensor(rng.normal(size=3), requires_grad=True, name="small")
large = sm.Tensor(rng.normal(size=3), requires_grad=True, name="large")
cut = sm.Tensor(rng.normal(size=3), requires_grad=True, name="cut")
idle = sm.Tensor(rng.normal(size=3), requires_grad=True, name="idle")
hidden = sm.Tensor(rng.normal(size=(32, 4)) - np.array([0, 9, 0, 9]), requires_grad=True, name="hidden")
scores = sm.Tensor([[90.0, 0.0, 1.0], [0.0, 80.0, 2.0]], requires_grad=True, name="scores")
loss = (small * 1e-9 + large * 1e5 + cut * 0.0).sum() + sm.relu(hidden).mean() + scores.softmax().mean()
drawing = sm.draw((loss, idle * 2), title="States", direction="LR")
drawing.save(Path(__file__).with_suffix(".svg"))
