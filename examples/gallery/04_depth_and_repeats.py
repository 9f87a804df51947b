"""Twelve blocks as one card: with depth=2 two levels of modules are seen, and equal neighbours folded."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

sm.manual_seed(0)
model = sm.nn.TransformerLM(27, d_model=32, n_heads=4, n_layers=12, context=16)
tokens = np.random.default_rng(0).integers(0, 27, (4, 17))
loss = sm.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
sm.draw(loss, depth=2, title="A Transformer of twelve blocks").save(Path(__file__).with_suffix(".svg"))
