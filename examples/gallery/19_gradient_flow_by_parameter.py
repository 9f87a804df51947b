"""How large the gradient of each parameter is, from the first layer to the last: sigmoids let it fade."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

sm.manual_seed(0)
layers = [layer for _ in range(5) for layer in (sm.nn.Linear(8, 8), sm.nn.Sigmoid())]
net = sm.nn.Sequential(*layers, sm.nn.Linear(8, 1))
(net(np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)) ** 2).mean().backward()
flow = sm.gradient_flow(net)
print(flow)
flow.plot().save(Path(__file__).with_suffix(".png"))
