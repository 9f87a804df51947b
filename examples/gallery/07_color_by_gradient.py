"""Where the gradient vanishes: eight sigmoid layers, coloured by the size of the gradient."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

sm.manual_seed(0)
layers = [layer for _ in range(8) for layer in (sm.nn.Linear(4, 4), sm.nn.Sigmoid())]
net = sm.nn.Sequential(*layers, sm.nn.Linear(4, 1))
x = sm.Tensor(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32), name="x")
loss = (net(x) ** 2).mean()
drawing = sm.draw(loss, color_by="grad", show=["shape", "grad"], title="The gradient fades on its way back")
drawing.save(Path(__file__).with_suffix(".svg"))
