"""One row of the table: a rule, a program that breaks it, its fixed twin, and the op that is to blame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_sm as sm

Program = Callable[[], dict[str, Any]]  # returns the arguments of sm.doctor; its line at fault ends in "# planted"


class Case(NamedTuple):
    """A pair of programs."""

    rule: str
    wrong: Program
    right: Program
    op: str
    name: str = ""


def batch(n: int = 64, d: int = 8, classes: int = 4, seed: int = 0) -> tuple[Any, Any]:
    """Return float32 points, and classes that depend on them."""
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return x, x[:, :classes].argmax(axis=1)


def normal(*shape: int, seed: int = 0, scale: float = 1.0, dtype: Any = np.float32) -> Any:
    """Return a leaf with normal entries that wants a gradient."""
    numbers = np.random.default_rng(seed).normal(size=shape) * scale
    return sm.Tensor(numbers.astype(dtype), requires_grad=True)
