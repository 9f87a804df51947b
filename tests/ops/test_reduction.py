"""Reductions over any axes, ties, zeros, and empty arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import tinygrad_sm as sm
from tinygrad_sm import Tensor

REDUCTIONS = ["sum", "mean", "max", "min", "prod", "var", "std"]


@st.composite
def array_and_axes(draw: Any) -> tuple[Any, Any]:
    """Draw an array with distinct elements away from zero, and axes in any form."""
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, max_side=3))
    values = draw(st.permutations(range(1, int(np.prod(shape)) + 1)))
    x = (np.array(values, float).reshape(shape) - 0.5) / 4
    axes = st.none() | npst.valid_tuple_axes(len(shape))
    if shape:
        axes |= st.integers(-len(shape), len(shape) - 1)
    return x, draw(axes)


@pytest.mark.parametrize("name", REDUCTIONS)
@given(pair=array_and_axes(), keepdims=st.booleans())
def test_values_of_any_axes_are_those_of_numpy(name: str, pair: Any, keepdims: bool) -> None:
    x, axis = pair
    y = getattr(Tensor(x), name)(axis=axis, keepdims=keepdims)
    close(y, getattr(np, name)(x, axis=axis, keepdims=keepdims), rtol=1e-13)
    close(getattr(np, name)(Tensor(x), axis=axis, keepdims=keepdims), y, rtol=0)


def along_rows(name: str, rows: Any, g: Any) -> Any:
    """Return the gradient of a reduction of each row (N, n) for cotangents (N, 1), by its formula."""
    n = rows.shape[1]
    centred = rows - rows.mean(axis=1, keepdims=True)
    formulas = {
        "sum": lambda: np.ones_like(rows),
        "mean": lambda: np.ones_like(rows) / n,
        "max": lambda: rows == rows.max(axis=1, keepdims=True),
        "min": lambda: rows == rows.min(axis=1, keepdims=True),
        "prod": lambda: rows.prod(axis=1, keepdims=True) / rows,
        "var": lambda: 2 * centred / n,
        "std": lambda: centred / (n * rows.std(axis=1, keepdims=True)),
    }
    return g * formulas[name]()


@pytest.mark.parametrize("name", REDUCTIONS)
@given(pair=array_and_axes(), keepdims=st.booleans())
def test_gradients_over_any_axes_follow_the_formula(name: str, pair: Any, keepdims: bool) -> None:
    x, axis = pair
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(np.array(axis, int)))
    count = int(np.prod([x.shape[a] for a in axes]))
    if name == "std" and count == 1:
        return  # 0/0
    t = leaf(x)
    y = getattr(t, name)(axis=axis, keepdims=keepdims)
    g = normal(*y.shape)
    order = [i for i in range(x.ndim) if i not in axes] + list(axes)
    rows = x.transpose(order).reshape(-1, count)
    expected = along_rows(name, rows, g.reshape(-1, 1)).reshape([x.shape[i] for i in order])
    for create_graph in (False, True):
        (actual,) = sm.grad(y, t, g, create_graph=create_graph)
        close(actual, expected.transpose(np.argsort(order)), rtol=1e-10)


@given(x=npst.arrays(float, npst.array_shapes(max_dims=3, max_side=4), elements=st.integers(-3, 3)), data=st.data())
def test_cumsum_along_any_axis(x: Any, data: Any) -> None:
    axis = data.draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    t = leaf(x)
    y = t.cumsum(axis)
    assert np.array_equal(y.data, np.cumsum(x, axis))
    c = normal(*y.shape)
    (g,) = sm.grad(y, t, c)
    close((g * x).sum(), (y.data * c).sum(), rtol=1e-9, atol=1e-9)  # linear, so its gradient is the adjoint


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_ties_share_equally(name: str, create_graph: bool) -> None:
    x = leaf([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]])
    y = getattr(x if name == "max" else -x, name)(axis=1)
    (g,) = sm.grad(y, x, np.full(2, 6.0), create_graph=create_graph)
    sign = 1 if name == "max" else -1
    close(g, sign * np.array([[3, 3, 0], [2, 2, 2]]))
    (g,) = sm.grad(getattr(leaf([1.0, 1.0]), name)(), x, allow_unused=True)
    assert g is None


@pytest.mark.parametrize("row", [[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [2.0, 3.0, 4.0]], ids=str)
def test_prod_with_zeros_to_second_order(row: list[float]) -> None:
    def others(*left_out: int) -> float:
        return float(np.prod([v for i, v in enumerate(row) if i not in left_out]))

    hessian = [[0.0 if i == j else others(i, j) for j in range(3)] for i in range(3)]
    close(sm.jacobian(lambda x: x.prod(), np.array(row)), [others(i) for i in range(3)])
    close(sm.hessian(lambda x: x.prod(), np.array(row)), hessian)
    close(sm.hessian(lambda x: x.prod(), np.array(row)[:, None]).reshape(3, 3), hessian)


@pytest.mark.parametrize("name", ["sum", "prod"])
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)], ids=str)
def test_empty_arrays(name: str, shape: tuple[int, ...]) -> None:
    for axis in (None, 0, -1):
        x = leaf(np.zeros(shape))
        y = getattr(x, name)(axis=axis)
        assert np.array_equal(y.data, getattr(np, name)(x.data, axis=axis))
        (g,) = sm.grad(y, x, np.ones(y.shape))
        assert g.shape == shape


@pytest.mark.parametrize("name", ["argmax", "argmin", "any", "all"])
def test_methods_without_gradient(name: str) -> None:
    x = leaf([[3.0, 0.0], [1.0, 2.0]])
    for kwargs in ({}, {"axis": 1}, {"axis": 0}):
        y = getattr(x, name)(**kwargs)
        assert not y.requires_grad
        assert np.array_equal(y.data, getattr(np, name)(x.data, **kwargs))


def test_ddof_divides_by_less() -> None:
    x = normal(3, 4)
    for name in ("var", "std"):
        for ddof in (0, 1, 2):
            y = getattr(Tensor(x), name)(axis=1, ddof=ddof)
            close(y, getattr(np, name)(x, axis=1, ddof=ddof))
            close(getattr(np, name)(Tensor(x), axis=1, ddof=ddof), y)


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std"])
def test_half_precision_accumulates_as_numpy_does(name: str) -> None:
    x = np.full(5000, 1.0, np.float16)
    x[::2] = 3.0
    y = getattr(Tensor(x), name)()
    assert y.dtype == np.float16
    assert y.item() == getattr(np, name)(x).item()


@pytest.mark.parametrize("name", [*REDUCTIONS, "cumsum"])
def test_axis_out_of_range_names_op_and_shape(name: str) -> None:
    with pytest.raises(IndexError, match=rf"^{name}\(float64\[2, 3\]\): axis 2 is out of bounds"):
        getattr(leaf(np.ones((2, 3))), name)(axis=2)


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_of_nothing_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}\(float64\[0\]\): zero-size array"):
        getattr(leaf(np.ones(0)), name)()


@pytest.mark.parametrize("option", ["dim", "dtype", "initial"])
def test_an_option_of_pytorch_or_numpy_is_refused_by_name(option: str) -> None:
    x = Tensor([1.0, 2.0])
    for reduce in (x.sum, x.max, x.var):
        with pytest.raises(TypeError, match=f"no argument '{option}'.*axis"):
            reduce(**{option: 0})
