"""Inside a fused op: log-softmax and NLL, whose gradients cancel to p − y at the logits."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

z = sm.Tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]], requires_grad=True, name="z")
loss = sm.cross_entropy(z, np.array([0, 1]))
drawing = sm.draw(loss, expand=["cross_entropy", "log_softmax"], title="cross_entropy, opened")
drawing.save(Path(__file__).with_suffix(".svg"))
