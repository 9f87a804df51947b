"""Random programs: lists of steps, each an op on values made before. One text runs on arrays, Tensors and Numbers.

Every op keeps numbers in [−1, 1], so that fifty in a row neither overflow nor lose digits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

MASK = np.array([True, False, True, True, False, True])
SHAPES = ((2, 3), (3,), (2, 1), ())  # of the inputs


def softmax(x: Any, axis: int) -> Any:
    """Write softmax with NumPy's functions, for everything that they run on."""
    e = np.exp(x)
    return e / np.sum(e, axis=axis, keepdims=True)


def mask_like(x: Any) -> Any:
    return np.resize(MASK, np.shape(x))


# Of one value `x` of shape `s`, and an axis `k` that it has (0 for a scalar, which only UNARY get).
UNARY: dict[str, Callable[..., Any]] = {
    "neg": lambda x: -x,
    "exp": lambda x: np.exp(x - 1.0),
    "log": lambda x: np.log(1.5 + 0.5 * x),
    "sqrt": lambda x: np.sqrt(1.25 + x) / 1.5,
    "sin": lambda x: np.sin(2.0 * x),
    "cos": lambda x: np.cos(x + 0.3),
    "tanh": lambda x: np.tanh(x * 3.0),
    "square": lambda x: x * x,
    "abs": lambda x: abs(x),
    "reciprocal": lambda x: 1.0 / (2.0 + x),
    "relu": lambda x: np.maximum(x, 0.1),
    "where": lambda x: np.where(mask_like(x), x, 0.25),
    "ravel": lambda x: np.reshape(x, (-1,)),
    "mean": lambda x: np.sum(x) / np.size(x),
}
ALONG: dict[str, Callable[..., Any]] = {
    "sum": lambda x, k: np.sum(x, axis=k) / np.shape(x)[k],
    "sum, kept": lambda x, k: np.sum(x, axis=k, keepdims=True) / np.shape(x)[k],
    "max": lambda x, k: np.max(x, axis=k),
    "softmax": softmax,
    "transpose": lambda x, k: np.transpose(x),
    "flip": lambda x, k: np.flip(x, k),
    "cumsum": lambda x, k: np.cumsum(x, axis=k) / np.shape(x)[k],
    "first": lambda x, k: x[(slice(None),) * k + (0,)],
    "every other": lambda x, k: x[(slice(None),) * k + (slice(None, None, 2),)],
    "take twice": lambda x, k: x[(slice(None),) * k + (np.array([0, -1, 0]),)] if np.size(x) <= 6 else x,
    "new axis": lambda x, k: np.expand_dims(x, k) if np.ndim(x) < 3 else x,
    "twice": lambda x, k: np.concatenate([x, x], axis=k) if np.size(x) <= 6 else x,
}
BINARY: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: (x + y) * 0.5,
    "sub": lambda x, y: (x - y) / 2.0,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (2.0 + y),
    "maximum": lambda x, y: np.maximum(x, y),
    "minimum": lambda x, y: np.minimum(x, y),
    "where both": lambda x, y: np.where(mask_like(x + y), x, y),
    "matmul": lambda x, y: x @ np.swapaxes(y, -1, -2) / np.shape(x)[-1] if can_multiply(x, y) else x * y,
}
OPS = {**UNARY, **ALONG, **BINARY}


def can_multiply(x: Any, y: Any) -> bool:
    return np.ndim(x) == np.ndim(y) == 2 and np.shape(x)[1] == np.shape(y)[1]


class Step(NamedTuple):
    """One op on the values numbered `first` and `second`, along `axis`; each counts modulo what there is."""

    op: str
    first: int
    second: int
    axis: int


def fits(x: Any, y: Any) -> bool:
    try:
        return int(np.prod(np.broadcast_shapes(np.shape(x), np.shape(y)))) <= 12
    except ValueError:
        return False


def run(steps: Sequence[Step], inputs: Sequence[Any], keep: Callable[[Any], Any] = lambda x: x) -> list[Any]:
    """Return the inputs and what each step computes; `keep` is applied to each."""
    values = list(inputs)
    for step in steps:
        x = values[step.first % len(values)]
        if step.op in BINARY:
            partners = [y for y in values if fits(x, y)] or [x]
            y = BINARY[step.op](x, partners[step.second % len(partners)])
        elif step.op in UNARY or not np.ndim(x):
            y = UNARY.get(step.op, UNARY["tanh"])(x)
        else:
            y = ALONG[step.op](x, step.axis % np.ndim(x))
        values.append(keep(y))
    return values


def loss(values: Sequence[Any]) -> Any:
    """Return the sum of all elements of all values, each value with a weight of its own."""
    total = 0.0
    for i, x in enumerate(values):
        total = total + np.sum(x) * float(np.cos(i))
    return total


def programs(length: int) -> st.SearchStrategy[list[Step]]:
    """Draw programs; half of the values used are recent ones, so that the graph is deep as well as wide."""
    return st.integers(0, 2**32 - 1).map(lambda seed: program(seed, length))


def program(seed: int, length: int) -> list[Step]:
    """Write a program from a seed: quicker than fifty draws of Hypothesis, and much quicker to shrink."""
    rng = random.Random(seed)
    names = sorted(OPS)

    def number() -> int:
        return rng.choice((-rng.randint(1, 6), rng.randint(0, length)))

    return [Step(rng.choice(names), number(), number(), rng.randint(0, 2)) for _ in range(length)]
