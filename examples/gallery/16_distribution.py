"""Temperature: the same logits as probabilities, sharp and flat."""

from pathlib import Path

import tinygrad_sm as sm

plot = sm.viz.distribution([2.0, 1.0, 0.1, -1.0], ["cat", "dog", "fox", "owl"], temperature=[0.5, 1, 4])
plot.save(Path(__file__).with_suffix(".png"))
