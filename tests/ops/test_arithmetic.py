"""Elementwise arithmetic: broadcasting, Python's scalars, and the points where a derivative jumps."""

from __future__ import annotations

import operator
from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers import close, leaf

import tinygrad_sm as sm
from tinygrad_sm import Tensor
from tinygrad_sm.op import REGISTRY

SHAPES = [(), (1,), (3,), (2, 1), (1, 3), (2, 3), (4, 2, 3), (0,), (2, 0), (0, 3)]
BINARY = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


def fits(*shapes: tuple[int, ...]) -> bool:
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True


def summed_to(shape: tuple[int, ...], g: Any) -> Any:
    """Undo broadcasting, axis by axis."""
    while g.ndim > len(shape):
        g = g.sum(axis=0)
    for i, n in enumerate(shape):
        if n == 1 and g.shape[i] != 1:
            g = g.sum(axis=i, keepdims=True)
    return g


def drawn(*shape: int, seed: int) -> Any:
    return np.random.default_rng(seed).uniform(0.5, 2.0, shape)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(("left", "right"), list(product(SHAPES, SHAPES)), ids=str)
def test_broadcasting_is_summed_over(name: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    op, a, b = REGISTRY[name], drawn(*left, seed=1), drawn(*right, seed=2)
    if not fits(left, right):
        with pytest.raises(ValueError, match=rf"^{name}\(float64\["):
            op(Tensor(a), Tensor(b))
        return
    shape = np.broadcast_shapes(left, right)
    c = drawn(*shape, seed=3)
    wide = [leaf(np.broadcast_to(x, shape)) for x in (a, b)]
    expected = sm.grad(op(*wide), wide, c)
    narrow = [leaf(a), leaf(b)]
    y = op(*narrow)
    assert y.shape == shape
    for create_graph in (False, True):
        for g, x, e in zip(sm.grad(y, narrow, c, create_graph=create_graph), narrow, expected, strict=True):
            close(g, summed_to(x.shape, e.data), rtol=1e-13)


@pytest.mark.parametrize(("left", "right"), [((2, 1), (3,)), ((), (2, 3)), ((0,), (1,)), ((4, 1, 3), (2, 1))], ids=str)
def test_where_broadcasts_all_three(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = leaf(drawn(*left, seed=1)), leaf(drawn(*right, seed=2))
    shape = np.broadcast_shapes(left, right)
    condition = np.random.default_rng(0).random(shape) > 0.5
    c = drawn(*shape, seed=3)
    y = sm.where(condition, a, b)
    assert np.array_equal(y.data, np.where(condition, a.data, b.data))
    ga, gb = sm.grad(y, [a, b], c)
    close(ga, summed_to(left, np.where(condition, c, 0)))
    close(gb, summed_to(right, np.where(condition, 0, c)))


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]


@pytest.mark.parametrize("f", OPERATORS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("scalar", [2, 0.5, True], ids=repr)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda d: d.__name__)
def test_python_scalars_are_weak_on_both_sides(f: Any, scalar: Any, dtype: Any) -> None:
    a = np.array([0.5, 1.5], dtype)
    for shape in ((2,), (1,), ()):
        x = Tensor(np.resize(a, shape), requires_grad=True)
        for y, expected in ((f(x, scalar), f(x.data, scalar)), (f(scalar, x), f(scalar, x.data))):
            assert y.dtype == dtype
            assert np.array_equal(y.data, expected)
            (g,) = sm.grad(y, x, np.ones(shape, dtype))
            assert g.dtype == dtype


@pytest.mark.parametrize("f", [*OPERATORS, *COMPARISONS], ids=lambda f: f.__name__)
def test_arrays_and_numpy_scalars_on_either_side(f: Any) -> None:
    x, other = Tensor(np.array([0.5, 1.5, 2.5], np.float32)), np.array([1.5, 1.5, 1.0], np.float32)
    for a in (other, np.float32(1.5)):
        for y, expected in ((f(x, a), f(x.data, a)), (f(a, x), f(a, x.data))):
            assert isinstance(y, Tensor)
            assert y.dtype == expected.dtype
            assert np.array_equal(y.data, expected)


@pytest.mark.parametrize("f", COMPARISONS, ids=lambda f: f.__name__)
def test_comparisons_are_elementwise_and_carry_no_gradient(f: Any) -> None:
    x, y = leaf([1.0, 2.0, 3.0]), leaf([3.0, 2.0, 1.0])
    assert f(x, y).dtype == bool
    assert f(x, y).data.tolist() == f(x.data, y.data).tolist()
    assert not f(x, y).requires_grad
    assert f(x, 2).data.tolist() == f(x.data, 2).tolist()


PIECEWISE = ["sign", "floor", "ceil", "rint", "trunc", "isnan", "isinf", "isfinite", "signbit", "logical_not"]


@pytest.mark.parametrize("name", PIECEWISE)
def test_piecewise_constant_functions_of_numpy(name: str) -> None:
    x = leaf([-1.5, 0.0, 2.5, np.nan, np.inf])
    y = getattr(np, name)(x)
    assert isinstance(y, Tensor)
    assert np.array_equal(y.data, getattr(np, name)(x.data), equal_nan=True)
    assert not y.requires_grad


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or"])
def test_logic_of_two(name: str) -> None:
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert np.array_equal(getattr(np, name)(Tensor(a), b).data, getattr(np, name)(a, b))


def test_masks_combine_with_the_operators_of_python() -> None:
    x = Tensor([0.0, 1.0, 2.0])
    assert (~(x > 0)).tolist() == [True, False, False]
    assert ((x > 0) & (x < 2)).tolist() == [False, True, False]
    assert ((x < 1) | (x > 1)).tolist() == [True, False, True]


def test_unary_plus_and_minus() -> None:
    x = leaf([1.0, -2.0])
    assert (-x).tolist() == [-1.0, 2.0]
    assert (+x).tolist() == [1.0, -2.0]


def slope(f: Any, *points: float) -> list[float]:
    """Return the derivatives of f at points."""
    x = leaf(points)
    return list(sm.grad(f(x), x, np.ones(len(points)))[0].data)


def test_derivatives_where_they_jump() -> None:
    assert slope(sm.abs, -1.0, 0.0, 1.0) == [-1, 0, 1]
    assert slope(sm.relu, -1.0, 0.0, 1.0) == [0, 0, 1]
    assert slope(lambda x: sm.clip(x, -1.0, 1.0), -2.0, -1.0, 0.0, 1.0, 2.0) == [0, 1, 1, 1, 0]
    assert slope(lambda x: sm.clip(x, min=0.0), -1.0, 0.0, 1.0) == [0, 1, 1]
    assert slope(lambda x: sm.clip(x, max=0.0), -1.0, 0.0, 1.0) == [1, 1, 0]


@pytest.mark.parametrize("f", [sm.maximum, sm.minimum], ids=lambda f: f.name)
def test_equal_arguments_share_the_gradient(f: Any) -> None:
    a, b = leaf([1.0, 2.0, 3.0]), leaf([3.0, 2.0, 1.0])
    ga, gb = sm.grad(f(a, b), [a, b], np.ones(3))
    assert sorted([ga.tolist(), gb.tolist()]) == [[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]]


def test_powers_at_zero() -> None:
    assert slope(lambda x: x**0, 0.0, 2.0) == [0, 0]
    assert slope(lambda x: x**1, 0.0, 2.0) == [1, 1]
    assert slope(lambda x: x**2, 0.0, 2.0) == [0, 4]
    assert slope(lambda x: x**3.0, 0.0, -2.0) == [0, 12]
    base, exponent = leaf([0.0, 0.0, 2.0]), leaf([0.0, 1.0, 3.0])
    to_base, to_exponent = sm.grad(base**exponent, [base, exponent], np.ones(3))
    close(to_base, [0, 1, 12])
    close(to_exponent, [0, 0, 8 * np.log(2)])


@pytest.mark.parametrize("n", [0, 1, 2, 3], ids=lambda n: f"x**{n}")
def test_integer_powers_to_third_order_also_at_zero(n: int) -> None:
    x = leaf([0.0, 1.5])
    y = x**n
    for order in range(1, 4):
        (y,) = sm.grad(y, x, np.ones(2), create_graph=True)
        factor = float(np.prod([n - i for i in range(order)]))
        close(y, [factor * v ** max(n - order, 0) for v in (0.0, 1.5)])
        if not y.requires_grad:
            break


def test_elementary_functions_keep_digits_at_the_ends() -> None:
    assert sm.sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]
    assert sm.sigmoid(np.array([-50.0]))[0] == pytest.approx(np.exp(-50.0), rel=1e-15)
    assert sm.log1p(Tensor(np.array(1e-20))).item() == 1e-20
    assert sm.expm1(Tensor(np.array(1e-20))).item() == 1e-20
    assert sm.logit(np.array(1e-300)) == pytest.approx(np.log(1e-300), rel=1e-15)
    assert slope(sm.sigmoid, -1000.0, 1000.0) == [0, 0]
    assert slope(sm.tanh, -1000.0, 1000.0) == [0, 0]


@pytest.mark.parametrize("name", ["fmax", "fmin", "fabs", "float_power"])
def test_numpy_functions_that_have_a_near_twin_keep_their_own_meaning(name: str) -> None:
    f = getattr(np, name)
    a, b = np.array([-1.0, 2.0, np.nan], np.float32), np.array([1.0, 1.0, 1.0], np.float32)
    args = (a,) if f.nin == 1 else (a, b)
    try:
        y = f(Tensor(a), *args[1:])
    except TypeError:
        return  # to have no rule is honest too
    assert np.array_equal(y.data, f(*args), equal_nan=True)
    assert y.dtype == f(*args).dtype


ERRORS = [
    ("clip", lambda: sm.clip(Tensor([1.0])), ValueError, "clip: give a lower bound"),
    ("add", lambda: Tensor([1.0, 2.0]) + Tensor([1.0, 2.0, 3.0]), ValueError, r"add\(float32\[2\], float32\[3\]\)"),
    ("mul", lambda: Tensor([1.0]) * "two", TypeError, "mul"),
    ("div", lambda: np.ones((2, 2)) / Tensor(np.ones((3, 3))), ValueError, r"div\(float64\[2, 2\], float64\[3, 3\]\)"),
    ("where", lambda: sm.where(np.ones(2, bool), Tensor([1.0, 2.0, 3.0]), 0.0), ValueError, r"where\(bool\[2\], "),
]


@pytest.mark.parametrize(("name", "f", "kind", "message"), ERRORS, ids=[e[0] for e in ERRORS])
def test_errors_name_the_op_and_the_shapes(name: str, f: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        f()


def test_bounds_of_clip_may_be_tensors_or_are_refused() -> None:
    x, low = leaf([-1.0, 0.5]), Tensor(np.zeros(2))
    try:
        y = sm.clip(x, low, None)
    except TypeError as error:
        assert "clip" in str(error)  # noqa: PT017
    else:
        assert y.tolist() == [0.0, 0.5]
