"""The softmax of two logits, as a map."""

from pathlib import Path

import tinygrad_sm as sm

sm.viz.softmax_contour().save(Path(__file__).with_suffix(".png"))
