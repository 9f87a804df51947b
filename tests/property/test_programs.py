"""Random programs of fifty ops against an engine of single numbers, raw against recorded, taped against not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from helpers import close, normal
from hypothesis import given, settings
from programs import OPS, SHAPES, Step, loss, programs, run
from scalar import Number, numbers, slopes

import tinygrad_sm as sm
from tinygrad_sm import Tensor

LENGTH = 50
every_program = given(steps=programs(LENGTH))


def arrays(seed: int = 0) -> list[Any]:
    return [np.tanh(normal(*shape, seed=seed + i)) for i, shape in enumerate(SHAPES)]


def leaves() -> list[Tensor]:
    return [Tensor(a, requires_grad=True) for a in arrays()]


def lifted(x: Any) -> Any:
    """Make a Number of every constant, such as those that `np.where` puts in, and an array of a lone Number."""
    out = np.empty(np.shape(x), object)
    for i in np.ndindex(out.shape):
        element = x[i] if isinstance(x, np.ndarray) else x
        out[i] = element if isinstance(element, Number) else Number(element)
    return out


def scalar_loss(steps: list[Step], inputs: list[Any]) -> Number:
    return loss(run(steps, inputs, lifted))


def floats(parts: list[Any]) -> list[Any]:
    return [np.array(p, float) for p in parts]


@every_program
def test_tensors_compute_what_arrays_do_to_the_bit(steps: list[Step]) -> None:
    expected = run(steps, arrays())
    found = run(steps, leaves())
    with sm.no_grad():
        silent = run(steps, leaves())
    for e, y, z in zip(expected, found, silent, strict=True):
        assert y.shape == z.shape == np.shape(e)
        assert y.data.tobytes() == z.data.tobytes() == np.asarray(e).tobytes()
        assert y.requires_grad
        assert z.is_leaf


@every_program
def test_gradients_are_those_of_the_scalar_engine(steps: list[Step]) -> None:
    inputs = [numbers(a) for a in arrays()]
    output = scalar_loss(steps, inputs)
    ours = leaves()
    total = loss(run(steps, ours))
    total.backward()
    close(total, output.inside, rtol=1e-12)
    close([x.grad for x in ours], floats(slopes(output, *inputs)), rtol=1e-10, atol=1e-10)


@every_program
def test_a_recorded_pass_gives_what_a_raw_one_does(steps: list[Step]) -> None:
    ours = leaves()
    values = run(steps, ours)
    total = loss(values)
    raw = sm.grad(total, ours)
    recorded = sm.grad(total, ours, create_graph=True)
    close(list(recorded), list(raw), rtol=1e-11, atol=1e-12)
    some = values[len(values) // 2]  # also from and to the middle of the graph
    if some.requires_grad:
        close(
            list(sm.grad(total, [some, ours[0]], allow_unused=True)),
            list(sm.grad(total, [some, ours[0]], allow_unused=True, create_graph=True)),
            rtol=1e-11,
            atol=1e-12,
        )


@settings(max_examples=30)
@every_program
def test_second_derivatives_are_those_of_dual_numbers(steps: list[Step]) -> None:
    directions = arrays(seed=10)
    inputs = [numbers(a, d) for a, d in zip(arrays(), directions, strict=True)]
    output = scalar_loss(steps, inputs)
    moved = slopes(output, *inputs)  # gradients as duals: their ε is how they change along the directions
    ours = leaves()
    total = loss(run(steps, ours))
    gradients = sm.grad(total, ours, create_graph=True)
    along = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    close(along, output.inside.dual, rtol=1e-9, atol=1e-9)
    expected = [np.array([getattr(x, "dual", 0.0) for x in m.flat]).reshape(m.shape) for m in moved]
    close([x if x is not None else np.zeros(s) for x, s in zip(_grads(along, ours), SHAPES, strict=True)], expected,
          rtol=1e-8, atol=1e-8)  # fmt: skip


def _grads(y: Tensor, inputs: list[Tensor]) -> Any:
    return sm.grad(y, inputs, allow_unused=True) if y.requires_grad else [None] * len(inputs)


def test_every_op_is_drawn() -> None:
    used: Counter[str] = Counter()

    @every_program
    def collect(steps: list[Step]) -> None:
        used.update(step.op for step in steps)

    collect()
    assert set(used) == set(OPS)


@pytest.mark.parametrize("op", sorted(OPS))
def test_every_op_alone(op: str) -> None:
    """One op between the inputs and the loss: when a program fails, this says whose fault it is."""
    for i in range(len(SHAPES)):
        for axis in range(2):
            steps = [Step(op, i, 1, axis), Step(op, -1, 0, axis)]
            inputs = [numbers(a) for a in arrays()]
            ours = leaves()
            loss(run(steps, ours)).backward()
            close([x.grad for x in ours], floats(slopes(scalar_loss(steps, inputs), *inputs)), rtol=1e-11, atol=1e-12)
