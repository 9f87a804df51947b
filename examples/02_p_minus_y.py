"""The gradient of cross-entropy with respect to the logits is p − y, for every class.

Three ways to the same numbers: by hand, by the engine's fused op, and by the engine through the simple ops
that cross-entropy is defined by, where the chain rule has to find that most of it cancels.
"""

import numpy as np
from common import output

import tinygrad_sm as sm
from tinygrad_sm import functional as F

rng = np.random.default_rng(0)
z = rng.normal(size=(2, 4)).astype(np.float32)
y = np.array([2, 0])

p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
by_hand = (p - np.eye(4, dtype=np.float32)[y]) / len(y)

logits = sm.Tensor(z, requires_grad=True, name="logits")
loss = F.cross_entropy(logits, y)
loss.backward()

steps = sm.Tensor(z, requires_grad=True, name="logits")
log_p = steps - steps.exp().sum(axis=1, keepdims=True).log()
log_p.name = "log p"
long_way = -log_p[np.arange(2), y].mean()
long_way.name = "loss"
long_way.backward()

print("p − y by hand, over N\n", by_hand.round(4))
print("cross_entropy's backward pass\n", logits.grad.data.round(4))
print("through exp, sum, log, minus and indexing\n", steps.grad.data.round(4))
print("largest difference:", max(np.abs(g.grad.data - by_hand).max() for g in (logits, steps)))
print("each row sums to 0: what the right class gains, the others lose:", logits.grad.data.sum(axis=1).round(7))

print("\nwritten:", output("02_p_minus_y_fused.svg", sm.draw(loss, title="one fused op").save))
print("written:", output("02_p_minus_y_steps.svg", sm.draw(long_way, title="the same, step by step").save))
