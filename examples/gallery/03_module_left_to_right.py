"""A module applied to an input, from left to right: the end is no scalar, so backward has not run."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

sm.manual_seed(0)
mlp = sm.nn.Sequential(sm.nn.Linear(3, 4), sm.nn.ReLU(), sm.nn.Linear(4, 2))
x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
sm.draw(mlp, sm.Tensor(x, name="x"), direction="LR").save(Path(__file__).with_suffix(".svg"))
