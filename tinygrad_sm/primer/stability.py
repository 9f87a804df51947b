"""Numerical stability: overflow, underflow, and the maximum that is subtracted."""

from __future__ import annotations

import numpy as np

from .. import functional as F
from .. import naive
from ..tensor import Tensor
from . import pictures
from .parts import Block, Chapter, Figure, claim, equation, prose, read, run, same


def stability() -> Chapter:
    """Reproduce "Numerical Stability"."""
    large, small = np.full(3, 1000.0), np.full(3, -1000.0)
    rows = np.array([[1.0, 2.0, 3.0], [-1000.0, -1000.0, -1000.0]])
    with np.errstate(all="ignore"):
        exp_1000 = np.exp(np.array(1000.0))
        overflow, underflow = naive.softmax(Tensor(large)).data, naive.softmax(Tensor(small)).data
        z = rows - rows.max()  # over all of the array, as in the article's code
        as_printed = np.exp(z) / np.exp(z).sum(axis=0)
        limits = [f"{np.log(np.finfo(t).max):.2f} in {np.dtype(t)}" for t in (np.float16, np.float32, np.float64)]
        by_row = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    right = F.softmax(rows)
    return Chapter(
        "Numerical stability",
        [
            prose(
                "Written as it stands, softmax fails for large logits: `exp(1000)` is more than a float can hold, and "
                "inf/inf is NaN. For very small ones every exponential is 0, and 0/0 is NaN as well. Yet only the "
                "differences of the logits matter, so any `c` may be subtracted from all of them:"
            ),
            equation("exp(zᵢ)/Σⱼ exp(zⱼ) = exp(zᵢ − c)/Σⱼ exp(zⱼ − c)"),
            prose(
                "With `c = max z` the largest exponential is 1. Nothing overflows, the sum is at least 1, and what "
                "underflows to 0 was too small to count."
            ),
            run("""
for logits in ([1000.0, 1000.0, 1000.0], [-1000.0, -1000.0, -1000.0]):
    z = sm.Tensor(logits)
    print(sm.naive.softmax(z), F.softmax(z))
"""),
            same("softmax as written, of 1000, 1000, 1000", "nan, nan, nan", overflow),
            same("softmax as written, of −1000, −1000, −1000", "nan, nan, nan", underflow),
            same(
                "with the maximum subtracted, of 1000, 1000, 1000",
                "0.33333333, 0.33333333, 0.33333333",
                F.softmax(large),
            ),
            same("with the maximum subtracted, of −1000, …", "0.33333333, 0.33333333, 0.33333333", F.softmax(small)),
            claim(
                "exp(1000) is too large for a floating-point number",
                np.isinf(exp_1000),
                "exp overflows above " + ", ".join(limits),
            ),
            Figure(
                "overflow",
                pictures.overflow,
                "The graph of the naive softmax of (1000, 0), with gradients: the picture marks where the first "
                "inf arose, and what it spoilt.",
            ),
            Figure(
                "stable",
                pictures.stable,
                "The same with the maximum subtracted, opened from the one op that `F.softmax` is: every number "
                "is finite.",
            ),
            Block("heading", "The article's code, on a batch"),
            prose(
                "The article takes `np.max(x)` over the whole array and sums over `axis=0`. For one vector both "
                "are right. A batch has one row for each example, and then neither is."
            ),
            claim(
                "the stable code works: z = x − max(x), divided by the sum over axis 0",
                np.allclose(as_printed, right),
                f"of the rows (1, 2, 3) and (−1000, −1000, −1000) it gives {_row(as_printed[0])} and "
                f"{_row(as_printed[1])}",
                "axis 0 runs over the examples: it compares them with each other. And one maximum for all rows makes "
                f"the small row underflow, even with the right axis: {_row(by_row[1])}. Each row needs its own: "
                "x.max(axis=-1, keepdims=True).",
            ),
            read(
                "PyTorch's softmax subtracts the maximum too; the article links to the code of its "
                "tensor-expression compiler",
                "in part",
                "That file writes kernels for fused TorchScript graphs. A plain call of softmax runs other code, which "
                "subtracts the maximum as well.",
            ),
        ],
    )


def _row(row: np.ndarray) -> str:
    return "(" + ", ".join("NaN" if np.isnan(x) else f"{x:.3g}" for x in row) + ")"
