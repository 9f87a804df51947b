"""Draw the computation graph of a small Transformer block: values, gradients, modules and all."""

import numpy as np
from common import output

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import nn

sm.manual_seed(0)
block = nn.TransformerBlock(d_model=8, n_heads=2)
head = nn.Linear(8, 5)
x = sm.Tensor(np.random.default_rng(0).normal(size=(1, 4, 8)).astype(np.float32), requires_grad=True, name="x")
logits = head(block(x))
logits.name = "logits"
loss = F.cross_entropy(logits, np.array([[1, 2, 3, 4]]))
loss.name = "loss"

drawing = sm.draw(loss, title="a Transformer block, and the loss of four tokens")
print("written:", output("08_draw_a_graph.svg", drawing.save))
print("written:", output("08_draw_a_graph.dot", drawing.save))

graph = sm.Graph(loss)
print(f"\n{len(graph)} nodes; the five with the largest gradient:")
with_grad = [n for n in graph if n.grad is not None]
for node in sorted(with_grad, key=lambda n: -np.abs(n.grad).max())[:5]:
    print(f"  {node.id:4} {node.op or node.role:14} {node.name or '':10} {np.abs(node.grad).max():.4f}")
