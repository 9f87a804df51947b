"""The same over training: the update-to-weight ratio of each module, step by step."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

sm.manual_seed(0)
rng = np.random.default_rng(0)
model = sm.nn.TransformerLM(20, d_model=16, n_heads=2, n_layers=2, context=8)
optimizer = sm.optim.AdamW(model.parameters(), lr=3e-3)
flow = None
for _ in range(40):
    tokens = np.arange(9) + rng.integers(0, 12, (8, 1))
    loss = sm.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    flow = sm.gradient_flow(model, since=flow)
    optimizer.step()
flow.plot(by="module", what="update").save(Path(__file__).with_suffix(".png"))
