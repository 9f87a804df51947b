"""What the tests share: the table of ops, arrays for it, and derivatives by differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_sm as sm
from tinygrad_sm import Op, Tensor
from tinygrad_sm.op import REGISTRY

NEEDS_SCIPY = ("erf", "gelu_exact")


class Case(NamedTuple):
    """One row of the table of ops: an op and one of its sample calls."""

    op: Op
    sample: Any

    def arguments(self, dtype: Any = np.float64, seed: int = 0) -> list[Any]:
        """Return the arguments as arrays, drawn from the op's domain."""
        args = self.sample.draw(self.op.domain, seed, dtype)
        return [a.astype(dtype) if i in self.wanted else a for i, a in enumerate(args)]

    @property
    def wanted(self) -> list[int]:
        """Tell which arguments want a gradient."""
        return list(self.sample.wanted)

    def boxed(self, args: Sequence[Any]) -> tuple[list[Any], list[Tensor]]:
        """Return the arguments with leaves where a gradient is wanted, and these leaves."""
        inputs = [Tensor(a, requires_grad=True) if i in self.wanted else a for i, a in enumerate(args)]
        return inputs, [inputs[i] for i in self.wanted]

    def __call__(self, *args: Any) -> Any:
        return self.op(*args, **self.sample.kwargs)

    def first(self, args: Sequence[Any], cotangent: Any, *, create_graph: bool = False) -> Sequence[Any]:
        """Return the gradients of Σ y·cotangent, as arrays; of a recorded pass with `create_graph`."""
        inputs, leaves = self.boxed(args)
        return [g.data for g in sm.grad(self(*inputs), leaves, cotangent, create_graph=create_graph)]


def cases(keep: Callable[[Op], bool] = lambda op: True) -> list[Any]:
    """Return the rows of the table as parameters of a test, named `op-number`."""
    missing = find_spec("scipy") is None
    return [
        pytest.param(
            Case(op, sample),
            id=f"{op.name}-{number}",
            marks=pytest.mark.skipif(missing and op.name in NEEDS_SCIPY, reason="needs SciPy"),
        )
        for op in REGISTRY.values()
        for number, sample in enumerate(op.samples)
        if keep(op)
    ]


@contextmanager
def own_ops() -> Iterator[dict[str, Op]]:
    """Forget the ops that are registered inside."""
    before = dict(REGISTRY)
    try:
        yield REGISTRY
    finally:
        REGISTRY.clear()
        REGISTRY.update(before)


DIFFERENTIABLE = cases(lambda op: op.vjp is not None)
FUSED = cases(lambda op: op.definition is not None)


def leaf(data: Any, dtype: Any = np.float64) -> Tensor:
    """Return a tensor that wants a gradient, of float64 unless told otherwise."""
    return Tensor(np.array(data, dtype), requires_grad=True)


def normal(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Any:
    """Return an array of standard normal numbers."""
    return np.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def differences(f: Callable[..., float], args: Sequence[Any], wanted: Sequence[int], eps: float = 1e-6) -> list[Any]:
    """Return the central differences (f(x + ε) − f(x − ε)) / 2ε for the arguments in `wanted`."""
    gradients = []
    for i in wanted:
        gradient = np.zeros_like(args[i])
        for j in np.ndindex(*gradient.shape):
            values = []
            for step in (eps, -eps):
                moved = [np.array(a) if k == i else a for k, a in enumerate(args)]
                moved[i][j] += step
                values.append(f(*moved))
            gradient[j] = (values[0] - values[1]) / (2 * eps)
        gradients.append(gradient)
    return gradients


def close(actual: Any, expected: Any, *, rtol: float = 1e-9, atol: float = 1e-11) -> None:
    """Assert equal shapes and nearly equal numbers, of Tensors, arrays, or sequences of them."""
    if isinstance(actual, (list, tuple)):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            close(a, e, rtol=rtol, atol=atol)
        return
    actual, expected = (x.data if isinstance(x, Tensor) else np.asarray(x) for x in (actual, expected))
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def graph_of(tensor: Tensor) -> Iterator[Tensor]:
    """Walk over a tensor and all that it was made from."""
    seen, stack = {tensor}, [tensor]
    while stack:
        t = stack.pop()
        yield t
        for a in t.args:
            if isinstance(a, Tensor) and a not in seen:
                seen.add(a)
                stack.append(a)
