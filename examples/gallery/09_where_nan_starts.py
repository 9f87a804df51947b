"""Where NaN starts: a naive softmax of one large logit. The origin is thick, its victims are dashed."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

z = sm.Tensor([[1000.0, 2.0, -3.0]], requires_grad=True, name="z")
with np.errstate(all="ignore"):
    e = z.exp()
    p = e / e.sum(axis=-1, keepdims=True)
    loss = -(p.log() * np.array([1.0, 0.0, 0.0], np.float32)).sum()
sm.draw(loss, title="exp(1000) is inf, and inf/inf is NaN").save(Path(__file__).with_suffix(".svg"))
