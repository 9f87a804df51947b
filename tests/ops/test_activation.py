"""Activations: their forms, options, and behaviour at the ends."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from helpers import close, differences, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor
from tinygrad_sm.ops import blocked

ENDS = np.array([-1e4, -100.0, -20.0, -1.0, 0.0, 1.0, 20.0, 100.0, 1e4])


@pytest.mark.parametrize("f", [F.sigmoid, F.tanh, F.relu, F.silu, F.gelu], ids=lambda f: getattr(f, "__name__", ""))
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_large_arguments_neither_overflow_nor_lose_the_gradient(f: Any, dtype: Any) -> None:
    x = Tensor(ENDS.astype(dtype), requires_grad=True)
    y = f(x)
    (g,) = sm.grad(y, x, np.ones(len(ENDS), dtype))
    assert y.dtype == g.dtype == dtype
    bounded = f in (F.sigmoid, F.tanh)
    close(y.data[[0, -1]], [-1 if f is F.tanh else 0, 1 if bounded else 1e4])
    close(g.data[[0, -1]], [0, 0 if bounded else 1])


def test_exact_gelu_is_x_times_the_normal_distribution() -> None:
    pytest.importorskip("scipy")
    values = np.linspace(-3, 3, 13)
    x = leaf(values)
    y = F.gelu(x, approximate="none")
    normal_cdf = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in values])
    close(y, values * normal_cdf)
    density = np.exp(-values * values / 2) / math.sqrt(2 * math.pi)
    close(sm.grad(y, x, np.ones(13))[0], normal_cdf + values * density)


def test_the_two_forms_of_gelu_are_close_but_not_equal() -> None:
    pytest.importorskip("scipy")
    x = Tensor(np.linspace(-4, 4, 81))
    difference = np.abs(F.gelu(x).data - F.gelu(x, "none").data).max()
    assert 1e-5 < difference < 1e-3


def test_exact_gelu_without_scipy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.special", None)
    with pytest.raises(ImportError, match=r"pip install scipy.*approximate='tanh'"):
        F.gelu(np.array([1.0]), approximate="none")
    close(F.gelu(Tensor([1.0]), approximate="none"), [0.8413447], rtol=1e-6)  # float32 does without


def test_exact_gelu_in_single_precision() -> None:
    x = np.linspace(-12, 12, 2401, dtype=np.float32)
    expected = [float(mpmath.mpf(v) * mpmath.ncdf(v)) for v in x.tolist()]
    slope = [float(mpmath.ncdf(v) + v * mpmath.npdf(v)) for v in x.tolist()]
    t = leaf(x, np.float32)
    y = F.gelu(t, approximate="none")
    (g,) = sm.grad(y, t, np.ones_like(x))
    assert np.abs(y.data - expected).max() < 5e-7
    close(y.data, expected, rtol=1e-5, atol=1e-30)  # far out on the left too, where 1 + erf would be 0
    assert np.abs(g.data - slope).max() < 3e-7
    ends = F.gelu(np.array([np.inf, -np.inf, np.nan, 1e30, -1e30], np.float32), "none")
    np.testing.assert_array_equal(ends, np.array([np.inf, 0, np.nan, 1e30, 0], np.float32))


def test_gelu_refuses_an_unknown_form() -> None:
    with pytest.raises(ValueError, match="approximate must be 'tanh' or 'none', not 'fast'"):
        F.gelu(Tensor([1.0]), approximate="fast")


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0), (2, 3, 4)], ids=str)
def test_fused_gelu_takes_any_shape(shape: tuple[int, ...]) -> None:
    x = leaf(np.random.default_rng(0).normal(size=shape))
    y = F.gelu(x)
    assert y.shape == shape
    c = np.ones(shape)
    expected = differences(lambda v: float(F.gelu(v).sum()), [x.data], [0])
    for create_graph in (False, True):
        close(sm.grad(y, x, c, create_graph=create_graph), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "name", ["exp", "log", "log1p", "expm1", "sqrt", "abs", "sin", "cos", "tanh", "sigmoid", "relu"]
)
def test_methods_are_the_functions(name: str) -> None:
    x = Tensor([0.25, 0.5])
    assert getattr(x, name)().tolist() == getattr(sm, name)(x).tolist()


def test_gelu_in_half_precision_has_a_gradient_far_out() -> None:
    x = Tensor(np.array([80, -80, 300], np.float16), requires_grad=True)
    F.gelu(x).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("turned", [False, True])
def test_gelu_by_blocks_is_gelu_and_the_same_for_any_number_of_threads(
    turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, c = normal(30, 7), normal(30, 7, seed=1)
    x, c = (x.T, c.T) if turned else (x, c)
    t = leaf(x)
    t.data = x  # as it lies in memory
    y, whole = F.gelu(t), sm.grad(F.gelu(t), t, c)[0]
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 100)
    threads = sm.get_num_threads()
    try:
        for n in (1, 3):
            sm.set_num_threads(n)
            assert np.array_equal(F.gelu(t).data, y.data)
            assert np.array_equal(sm.grad(F.gelu(t), t, c)[0].data, whole.data)
    finally:
        sm.set_num_threads(threads)
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    close(y, x * (1 + np.tanh(u)) / 2)
    close(whole, differences(lambda v: float((F.gelu(v) * c).sum()), [x], [0])[0], rtol=1e-6, atol=1e-8)


def test_gelu_keeps_nothing_but_its_argument_for_the_gradient() -> None:
    x = normal(30, 7)
    y = F.gelu(t := leaf(x))
    assert y.residual == [()]
    before = y.data.copy()
    y.backward(Tensor(np.ones((30, 7))))
    assert np.array_equal(t.data, normal(30, 7))
    assert np.array_equal(y.data, before)
