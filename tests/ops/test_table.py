"""Every op of the registry, on every sample: derivatives, definitions, dtypes and good manners."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from helpers import DIFFERENTIABLE, FUSED, Case, close, differences, normal
from references import REFERENCES

import tinygrad_sm as sm
from tinygrad_sm import Tensor
from tinygrad_sm.op import REGISTRY

each = pytest.mark.parametrize("case", DIFFERENTIABLE)
each_fused = pytest.mark.parametrize("case", FUSED)
OWN_DTYPE = {"astype"}  # ops whose result has the dtype that the caller names
ROUGH = {np.float16: 2e-2, np.float32: 1e-5, np.float64: 1e-12}


@pytest.mark.parametrize("op", [op for op in REGISTRY.values() if op.vjp is not None], ids=lambda op: op.name)
def test_every_differentiable_op_describes_itself(op: Any) -> None:
    assert op.samples
    assert op.formula
    assert op.gradient
    assert all(op.latex)
    assert op.__doc__


@pytest.mark.parametrize("op", [op for op in REGISTRY.values() if op.vjp is None], ids=lambda op: op.name)
def test_every_other_op_has_a_formula(op: Any) -> None:
    assert op.formula
    assert not op.gradient


@each
def test_arrays_give_arrays_and_tensors_the_same_numbers(case: Case) -> None:
    args = case.arguments()
    raw = case(*args)
    boxed = case(*case.boxed(args)[0])
    assert not isinstance(raw, Tensor)
    assert isinstance(boxed, Tensor)
    assert boxed.op is case.op
    assert np.shape(raw) == boxed.shape
    assert np.array_equal(raw, boxed.data)


@each
def test_value_is_that_of_the_reference(case: Case) -> None:
    args = case.arguments()
    assert case.op.name in REFERENCES, f"{case.op.name} needs an independent reference in tests/ops/references.py"
    expected = REFERENCES[case.op.name](*args, **case.sample.kwargs)
    close(case(*args), expected, rtol=1e-12, atol=1e-13)


@each
def test_gradient_is_that_of_central_differences(case: Case) -> None:
    args = case.arguments()
    cotangent = normal(*np.shape(case(*args)), seed=1)
    expected = differences(lambda *xs: float((case(*xs) * cotangent).sum()), args, case.wanted)
    close(case.first(args, cotangent), expected, rtol=1e-5, atol=1e-7)


@each
def test_second_derivative_is_that_of_central_differences(case: Case) -> None:
    # The gradient itself, Σ ∇x·k for random k, differentiated once more: with respect to the inputs and the cotangent.
    args = case.arguments()
    c = normal(*np.shape(case(*args)), seed=1)
    inputs, leaves = case.boxed(args)
    cotangent = Tensor(c, requires_grad=True)
    slopes = sm.grad(case(*inputs), leaves, cotangent, create_graph=True)
    probes = [normal(*x.shape, seed=2) for x in leaves]
    curvature = sum((g * k).sum() for g, k in zip(slopes, probes, strict=True))
    found = sm.grad(curvature, [*leaves, cotangent], allow_unused=True)

    def slope_along_probes(*xs: Any) -> float:
        return float(sum((g * k).sum() for g, k in zip(case.first(xs[:-1], xs[-1]), probes, strict=True)))

    expected = differences(slope_along_probes, [*args, c], [*case.wanted, len(args)])
    actual = [np.zeros(x.shape) if g is None else g.data for g, x in zip(found, [*leaves, cotangent], strict=True)]
    close(actual, expected, rtol=1e-4, atol=1e-6)


@each
def test_recorded_pass_gives_the_numbers_of_the_raw_one(case: Case) -> None:
    args = case.arguments()
    cotangent = normal(*np.shape(case(*args)), seed=1)
    raw, recorded = (case.first(args, cotangent, create_graph=on) for on in (False, True))
    close(raw, recorded, rtol=1e-12, atol=1e-13)


@each_fused
def test_fused_op_is_its_definition(case: Case) -> None:
    args = case.arguments()
    kwargs = case.sample.kwargs
    cotangent = normal(*np.shape(case(*args)), seed=1)
    (fused, x), (composed, u) = case.boxed(args), case.boxed(args)
    y, z = case(*fused), case.op.definition(*composed, **kwargs)  # type: ignore[misc]
    assert case.op.name not in {t.op.name for t in [z] if t.op}
    close(y, z, rtol=1e-13, atol=1e-14)
    close(sm.grad(y, x, cotangent), sm.grad(z, u, cotangent), rtol=1e-12, atol=1e-13)
    second = (curvature(y, x, cotangent), curvature(z, u, cotangent))
    for a, b in zip(*second, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            close(a, b, rtol=1e-12, atol=1e-13)


def curvature(y: Tensor, leaves: list[Tensor], cotangent: Any) -> tuple[Tensor, ...]:
    """Differentiate Σ ∇y·k, for random k, with respect to the leaves."""
    slopes = sm.grad(y, leaves, cotangent, create_graph=True)
    slope = sum((g * normal(*g.shape, seed=2)).sum() for g in slopes)
    return sm.grad(slope, leaves, allow_unused=True)


@each
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda d: d.__name__)
def test_dtype_is_kept(case: Case, dtype: Any) -> None:
    args = case.arguments(dtype)
    inputs, leaves = case.boxed(args)
    y = case(*inputs)
    if case.op.name not in OWN_DTYPE:
        assert y.dtype == dtype
    raw = sm.grad(y, leaves, np.ones(y.shape, y.dtype))
    recorded = sm.grad(y, leaves, np.ones(y.shape, y.dtype), create_graph=True)
    assert [g.dtype for g in (*raw, *recorded)] == [dtype] * (2 * len(leaves))
    expected = case.first([np.asarray(a, np.float64) if i in case.wanted else a for i, a in enumerate(args)],
                          np.ones(y.shape))  # fmt: skip
    close(list(raw), expected, rtol=ROUGH[dtype], atol=ROUGH[dtype])


@each
def test_inputs_outputs_and_cotangent_are_not_written_to(case: Case) -> None:
    args = case.arguments()
    for a in args:
        if isinstance(a, np.ndarray):
            a.flags.writeable = False
    inputs, leaves = case.boxed(args)
    y = case(*inputs)
    cotangent = normal(*y.shape, seed=1)
    cotangent.flags.writeable = False
    before = y.data.copy()
    first = [g.data.copy() for g in sm.grad(y, leaves, cotangent)]
    assert np.array_equal(y.data, before)
    sm.grad(y, leaves, cotangent, create_graph=True)
    assert np.array_equal(y.data, before)
    close([g.data for g in sm.grad(y, leaves, cotangent)], first, rtol=0, atol=0)  # residuals are made again


@each
@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_backward_gives_each_leaf_a_buffer_of_its_own(case: Case, create_graph: bool) -> None:
    inputs, leaves = case.boxed(case.arguments())
    y = case(*inputs)
    y.retain_grad()
    cotangent = Tensor(normal(*y.shape, seed=1))
    y.backward(cotangent, create_graph=create_graph)
    others = [cotangent.data, y.data, *(x.data for x in leaves)]
    gradients = [y.grad.data, *(x.grad.data for x in leaves)]
    for a, b in (*combinations(gradients, 2), *product(gradients, others)):
        assert not np.shares_memory(a, b)
    for x in leaves:
        x.grad.data += 1.0  # as an optimiser may


@each
def test_backward_twice_adds_up_in_the_leaves(case: Case) -> None:
    inputs, leaves = case.boxed(case.arguments())
    y = case(*inputs)
    cotangent = normal(*y.shape, seed=1)
    y.backward(cotangent)
    once = [x.grad.data.copy() for x in leaves]
    y.backward(cotangent)
    close([x.grad.data for x in leaves], [2 * g for g in once], rtol=1e-15, atol=0)


def of_one_shape(case: Case) -> bool:
    return len(case.wanted) > 1 and len({case.sample.args[i] for i in case.wanted}) == 1


@pytest.mark.parametrize("case", [row for row in DIFFERENTIABLE if of_one_shape(row.values[0])])
def test_the_same_tensor_for_all_arguments(case: Case) -> None:
    # f(x, x): the gradient is the sum of those of the arguments, raw and recorded.
    args = case.arguments()
    same = [args[case.wanted[0]] if i in case.wanted else a for i, a in enumerate(args)]
    x = Tensor(args[case.wanted[0]], requires_grad=True)
    y = case(*(x if i in case.wanted else a for i, a in enumerate(args)))
    cotangent = normal(*y.shape, seed=1)
    expected = sum(case.first(same, cotangent))
    for create_graph in (False, True):
        (g,) = sm.grad(y, x, cotangent, create_graph=create_graph)
        close(g, expected, rtol=1e-12)


@each
def test_arguments_without_gradient_get_none_and_change_nothing(case: Case) -> None:
    args = case.arguments()
    cotangent = normal(*np.shape(case(*args)), seed=1)
    all_gradients = case.first(args, cotangent)
    for position, i in enumerate(case.wanted):
        x = Tensor(args[i], requires_grad=True)
        others = [Tensor(a) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args]
        for create_graph in (False, True):
            y = case(*(x if k == i else a for k, a in enumerate(others)))
            (g,) = sm.grad(y, x, cotangent, create_graph=create_graph)
            close(g, all_gradients[position], rtol=1e-12)
