"""The naive softmax beside the stable one: two graphs compared, at a logit of 100."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm

z = sm.Tensor(np.array([[100.0, 2.0, -3.0]], np.float32), requires_grad=True, name="z")
target = np.array([0])
with np.errstate(all="ignore"):
    naive = sm.nll_loss(sm.naive.softmax(z).log(), target)
stable = sm.cross_entropy(z, target)
both = sm.compare(naive, stable, names=("naive", "stable"), expand=["cross_entropy", "log_softmax"])
both.save(Path(__file__).with_suffix(".svg"))
for difference in both.differences:
    print(difference)
