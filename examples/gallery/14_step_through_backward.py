"""The interactive page: step through the backward pass with the arrow keys, and click on anything."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

sm.manual_seed(0)
with sm.record():
    x = sm.Tensor(np.random.default_rng(0).normal(size=(2, 3)), requires_grad=True, name="x")
    logits = sm.nn.Linear(3, 3)(x)
    loss = sm.cross_entropy(logits, np.array([0, 2]))
drawing = sm.draw(loss, expand=["cross_entropy", "log_softmax"], title="Softmax cross-entropy")
drawing.save(Path(__file__).with_suffix(".html"))
