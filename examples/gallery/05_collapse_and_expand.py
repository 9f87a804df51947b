"""One of six blocks opened, with its MLP folded: its attention shows what stands behind the fused op."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

sm.manual_seed(0)
model = sm.nn.TransformerLM(27, d_model=16, n_heads=2, n_layers=6, context=8)
tokens = np.random.default_rng(0).integers(0, 27, (2, 9))
loss = sm.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
drawing = sm.draw(
    loss,
    depth=2,
    expand=["blocks.2", "blocks.2.attn", "attention"],
    collapse=["mlp", "ln*", "qkv", "proj"],
    title="Block 2, opened",
)
drawing.save(Path(__file__).with_suffix(".svg"))
