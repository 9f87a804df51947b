"""The Jacobian of softmax as a heat map: it is diag(p) − p·pᵀ."""

from pathlib import Path

import tinygrad_sm as sm

logits = sm.Tensor([1.0, 2.0, 3.0, 0.0])
jacobian = sm.jacobian(sm.softmax, logits)
plot = sm.viz.jacobian(jacobian, ["p1", "p2", "p3", "p4"], ["z1", "z2", "z3", "z4"], title="softmax of 1, 2, 3, 0")
plot.save(Path(__file__).with_suffix(".png"))
