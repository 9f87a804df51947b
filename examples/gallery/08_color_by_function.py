"""Coloured by a function of the node: how many bytes each value holds."""

from pathlib import Path

import numpy as np

import tinygrad_sm as sm


def kilobytes(node):
    """Return the size of a value in memory."""
    return node.value.nbytes / 1024


sm.manual_seed(0)
block = sm.nn.TransformerBlock(32, 4)
x = sm.Tensor(np.random.default_rng(0).normal(size=(2, 64, 32)).astype(np.float32), name="x")
drawing = sm.draw(block, x, color_by=kilobytes, show="shape", title="Memory of a block, in kilobytes")
drawing.save(Path(__file__).with_suffix(".svg"))
