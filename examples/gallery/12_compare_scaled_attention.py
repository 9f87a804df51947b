"""Attention with and without the division by √d_k: two graphs compared."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import functional as F

rng = np.random.default_rng(0)
q, k, v = (sm.Tensor(rng.normal(size=(6, 64)), requires_grad=True, name=name) for name in "qkv")
losses = [(F.scaled_dot_product_attention(q, k, v, scale=scale) ** 2).mean() for scale in (None, 1.0)]
both = sm.compare(*losses, names=("scaled by 1/8", "not scaled"), expand="attention", title="Attention, d_k = 64")
both.save(Path(__file__).with_suffix(".svg"))
