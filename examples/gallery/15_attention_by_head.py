"""Where each head looks: the attention weights of a small model, by head."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import functional as F

rng = np.random.default_rng(0)
tokens = ["the", "cat", "sat", "on", "the", "mat"]
q, k, v = (sm.Tensor(rng.normal(size=(2, 6, 8)) * 1.5) for _ in range(3))
_, weights = F.scaled_dot_product_attention(q, k, v, is_causal=True, return_weights=True)
sm.viz.attention(weights, tokens).save(Path(__file__).with_suffix(".png"))
