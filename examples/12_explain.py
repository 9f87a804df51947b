"""The backward pass on paper: a squared error, cross-entropy with its p − y, and attention; and the card of an op.

Each step has its rule, the formula in the names of the graph, and the numbers. That of attention is written as
Markdown and as a page, into `examples/output/`.
"""

import numpy as np
from common import output

import tinygrad_sm as sm
from tinygrad_sm import functional as F

w = sm.Tensor(2.0, requires_grad=True, name="w")
b = sm.Tensor(1.0, requires_grad=True, name="b")
x, target = sm.Tensor(3.0, name="x"), sm.Tensor(5.0, name="target")
with sm.record():
    err = w * x + b - target
    loss = err * err
print(sm.explain(loss))

z = sm.Tensor(np.array([[2.0, 1.0, 0.0], [0.5, 0.0, 3.0]]), requires_grad=True, name="z")
print(f"\n\n{sm.explain(F.cross_entropy(z, [0, 1]))}")

rng = np.random.default_rng(0)
q, k, v = (sm.Tensor(rng.normal(size=(3, 2)).round(1), requires_grad=True, name=name) for name in "qkv")
attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
attention = sm.explain((attended * rng.normal(size=(3, 2)).round(1)).sum())
print(f"\n\n{sm.explain(F.softmax)}\n")

print("written:", output("12_attention.md", attention.save))
print("written:", output("12_attention.html", attention.save))
