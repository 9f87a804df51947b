"""softmax, log_softmax, logsumexp: any axis and temperature, and the numbers that break naive forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor
from tinygrad_sm.ops import blocked

SOFTMAXES = [F.softmax, F.log_softmax]
by_name = pytest.mark.parametrize("f", SOFTMAXES, ids=lambda f: f.__name__)


def in_long_double(z: Any, axis: int = -1, temperature: float = 1.0) -> tuple[Any, Any]:
    """Return softmax and its logarithm, computed in the longest floats there are."""
    z = np.asarray(z, np.longdouble) / np.longdouble(temperature)
    d = z - z.max(axis=axis, keepdims=True)
    terms = np.sort(np.exp(d), axis=axis)  # the last is 1
    rest = np.delete(terms, -1, axis=axis).sum(axis=axis, keepdims=True)
    return np.exp(d) / (1 + rest), d - np.log1p(rest)


@given(
    z=npst.arrays(float, npst.array_shapes(max_dims=4, max_side=5), elements=st.floats(-50, 50)),
    temperature=st.sampled_from([1.0, 0.1, 0.5, 3.0]),
    data=st.data(),
)
def test_any_axis_and_temperature(z: Any, temperature: float, data: Any) -> None:
    axis = data.draw(st.integers(-z.ndim, z.ndim - 1))
    p, log_p = in_long_double(z, axis, temperature)
    x = leaf(z)
    y, log_y = F.softmax(x, axis, temperature=temperature), F.log_softmax(x, axis, temperature=temperature)
    close(y, p.astype(float), rtol=1e-13, atol=1e-300)
    close(log_y, log_p.astype(float), rtol=1e-13, atol=1e-13)
    close(y.data.sum(axis=axis), np.ones_like(y.data.sum(axis=axis)), rtol=1e-14)
    c = normal(*z.shape)
    to_y = p * (c - (p * c).sum(axis=axis, keepdims=True)) / temperature
    to_log_y = (c - p * c.sum(axis=axis, keepdims=True)) / temperature
    for create_graph in (False, True):
        close(sm.grad(y, x, c, create_graph=create_graph)[0], to_y.astype(float), rtol=1e-11, atol=1e-13)
        close(sm.grad(log_y, x, c, create_graph=create_graph)[0], to_log_y.astype(float), rtol=1e-11, atol=1e-12)


@given(
    z=npst.arrays(float, npst.array_shapes(max_dims=4, max_side=4), elements=st.floats(-500, 500)),
    keepdims=st.booleans(),
    data=st.data(),
)
def test_logsumexp_over_any_axes(z: Any, keepdims: bool, data: Any) -> None:
    axes = data.draw(st.none() | st.integers(-z.ndim, z.ndim - 1) | npst.valid_tuple_axes(z.ndim))
    x = leaf(z)
    y = F.logsumexp(x, axes, keepdims=keepdims)
    axis = axes if axes is None or isinstance(axes, tuple) else (axes,)
    high = np.asarray(z, np.longdouble)
    peak = high.max(axis=axis, keepdims=True)
    total = peak + np.log(np.exp(high - peak).sum(axis=axis, keepdims=True))
    close(y.data.reshape(total.shape), total.astype(float), rtol=1e-14, atol=1e-14)
    assert y.shape == z.sum(axis=axis, keepdims=keepdims).shape
    c = normal(*y.shape)
    (g,) = sm.grad(y, x, c)
    close(g, (np.exp(high - total) * c.reshape(total.shape)).astype(float), rtol=1e-11, atol=1e-13)


EXTREMES = {
    "equal and huge": [1000.0, 1000.0], "equal and tiny": [-1000.0, -1000.0], "spread": [-1e4, 0.0, 1e4],
    "dominant": [0.0, 100.0, -5.0], "with −inf": [-np.inf, 1.0, 2.0], "with −inf and huge": [-np.inf, 5000.0, -1.0],
    "one": [3.0], "one is all": [-np.inf, 0.0],
}  # fmt: skip


@pytest.mark.parametrize("row", EXTREMES.values(), ids=EXTREMES.keys())
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda d: d.__name__)
def test_extreme_logits_are_right_to_the_last_digits(row: list[float], dtype: Any) -> None:
    z = np.array(row, dtype)
    p, log_p = in_long_double(z)
    eps = np.finfo(dtype).eps
    tiny = float(np.finfo(dtype).tiny)
    close(F.softmax(Tensor(z)), p.astype(dtype), rtol=4 * eps, atol=tiny)
    close(F.log_softmax(Tensor(z)), log_p.astype(dtype), rtol=4 * eps, atol=tiny)
    x = Tensor(z, requires_grad=True)
    for f in (F.softmax, F.log_softmax, F.logsumexp):
        y = f(x)
        for create_graph in (False, True):
            (g,) = sm.grad(y, x, np.ones(y.shape, dtype), create_graph=create_graph)
            assert np.isfinite(g.data).all()


def test_many_classes_keep_their_digits() -> None:
    z = np.random.default_rng(0).normal(size=(3, 100_000)).astype(np.float32)
    p, log_p = in_long_double(z)
    close(F.softmax(z), p.astype(np.float32), rtol=2e-6)
    close(F.log_softmax(z), log_p.astype(np.float32), rtol=2e-6)
    close(F.softmax(z.astype(np.float16)).sum(axis=1), np.ones(3), rtol=2e-3)


def test_half_precision_computes_in_single() -> None:
    z = np.full(70_000, 1.0, np.float16)  # a sum of ones that float16 cannot hold
    assert F.logsumexp(z).dtype == np.float16
    assert float(F.logsumexp(z)) == pytest.approx(1 + np.log(70_000), rel=1e-3)
    assert float(F.log_softmax(z)[0]) == pytest.approx(-np.log(70_000), rel=1e-3)


def test_rows_that_have_no_softmax_are_nan() -> None:
    z = np.array([[-np.inf, -np.inf], [0.0, np.inf], [0.0, np.nan], [0.0, 0.0]])
    with np.errstate(invalid="ignore"):
        for f in SOFTMAXES:
            y = f(Tensor(z)).data
            assert np.isnan(y[:3]).all()
            assert np.isfinite(y[3]).all()


def test_logsumexp_of_nothing_is_log_zero() -> None:
    assert F.logsumexp(Tensor([-np.inf, -np.inf])).item() == -np.inf
    assert F.logsumexp(Tensor(np.zeros((2, 0)))).tolist() == [-np.inf, -np.inf]
    assert F.logsumexp(Tensor([1.0, np.inf])).item() == np.inf


@by_name
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (2, 0, 3)], ids=str)
def test_empty_arrays(f: Any, shape: tuple[int, ...]) -> None:
    for axis in range(len(shape)):
        x = leaf(np.zeros(shape))
        y = f(x, axis)
        assert y.shape == shape
        assert sm.grad(y, x, np.zeros(shape))[0].shape == shape


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_blocks_of_rows_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z, c = normal(7, 5), normal(7, 5, seed=1)

    def everything() -> list[Any]:
        results = []
        for f in (*SOFTMAXES, F.logsumexp):
            x = leaf(z)
            y = f(x)
            results += [y.data, sm.grad(y, x, c if y.ndim == 2 else c[:, 0])[0].data]
        return results

    whole = everything()
    monkeypatch.setattr(blocked, "BLOCK_BYTES", rows * 5 * 8)
    close(everything(), whole, rtol=1e-15, atol=1e-16)


@by_name
def test_layout_in_memory_does_not_matter(f: Any) -> None:
    z = normal(4, 5, 3)
    views = [z.transpose(2, 0, 1), z[::-1, ::2], np.asfortranarray(z), np.broadcast_to(z[:1], (4, 5, 3))]
    for view in views:
        for axis in range(3):
            close(f(Tensor(view), axis), f(Tensor(np.ascontiguousarray(view)), axis), rtol=1e-15)


@by_name
def test_methods_lists_and_arrays(f: Any) -> None:
    expected = f(np.array([[1.0, 2.0, 3.0]]))
    assert isinstance(expected, np.ndarray)
    close(getattr(Tensor(np.array([[1.0, 2.0, 3.0]])), f.__name__)(axis=1), expected)
    close(f([[1.0, 2.0, 3.0]]), expected, rtol=1e-6)
    assert not isinstance(f([1.0, 2.0]), Tensor)


def test_jacobian_is_diag_p_minus_p_p_transposed() -> None:
    z = normal(5)
    for temperature in (1.0, 2.0):
        p = F.softmax(z, temperature=temperature)
        close(
            sm.jacobian(lambda x, t=temperature: F.softmax(x, temperature=t), z),
            (np.diag(p) - np.outer(p, p)) / temperature,
        )
    p = F.softmax(z)
    close(sm.hessian(F.logsumexp, z), np.diag(p) - np.outer(p, p))


def test_temperature_goes_from_argmax_to_uniform() -> None:
    z = Tensor([1.0, 2.0, 3.0])
    close(F.softmax(z, temperature=0.01), [0, 0, 1], atol=1e-30)
    close(F.softmax(z, temperature=1e6), np.full(3, 1 / 3), rtol=1e-5)


def test_values_are_those_of_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    z = normal(3, 4, 5) * 20
    for axis in range(3):
        close(F.softmax(z, axis), special.softmax(z, axis), rtol=1e-12, atol=1e-300)
        close(F.log_softmax(z, axis), special.log_softmax(z, axis), rtol=1e-12)
        close(F.logsumexp(z, axis), special.logsumexp(z, axis), rtol=1e-13)
    close(F.logsumexp(z, (0, 2)), special.logsumexp(z, (0, 2)), rtol=1e-13)
    close(F.sigmoid(z), special.expit(z), rtol=1e-13)
    p = np.random.default_rng(0).uniform(size=100)
    close(F.logit(p), special.logit(p), rtol=1e-13, atol=1e-15)


def test_temperature_of_logsumexp() -> None:
    z = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = F.logsumexp(z, temperature=2.0)
    assert y.item() == pytest.approx(np.log(np.exp(z.data / 2).sum()), rel=1e-6)
    y.backward()
    np.testing.assert_allclose(z.grad.data, F.softmax(z.data, temperature=2.0) / 2, rtol=1e-6)


@pytest.mark.parametrize("f", [F.softmax, F.log_softmax, F.logsumexp], ids=lambda f: f.__name__)
def test_a_temperature_out_of_the_range_of_the_dtype_is_refused(f: Any) -> None:
    for temperature in (1e-50, 1e50):
        with pytest.raises(ValueError, match=rf"{f.__name__}: temperature 1e.50 is out of the range of float32"):
            f(np.ones((2, 40), np.float32), temperature=temperature)
        assert np.isfinite(f(np.ones((2, 40)), temperature=temperature)).all()


@pytest.mark.parametrize("f", [F.softmax, F.log_softmax, F.logsumexp], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [">f4", ">f8", np.longdouble])
def test_other_floats_are_as_right(f: Any, dtype: Any) -> None:
    z = np.random.default_rng(0).normal(size=(3, 40))
    z[0, 5] = 40.0
    same = np.dtype(dtype).newbyteorder("=")
    wide, single = z.astype(dtype), z.astype(same)
    np.testing.assert_array_equal(f(wide), f(single))
    x, y = (sm.Tensor(a, requires_grad=True) for a in (wide, single))
    np.testing.assert_array_equal(*(sm.grad(f(t), t, np.ones(f(t).shape))[0].data for t in (x, y)))


@pytest.mark.skipif(np.finfo(np.longdouble).maxexp == np.finfo(np.float64).maxexp, reason="long double is float64 here")
def test_a_long_double_keeps_its_range() -> None:
    z = np.array([np.longdouble("1e400"), 0, 1])
    assert F.softmax(z).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("offset", [0.0, 16.0, 60.0, 90.0])
def test_small_cotangents_of_rows_with_any_maximum_keep_their_digits(offset: float) -> None:
    z = np.random.default_rng(0).normal(size=(3, 100)) + offset
    for f in (F.softmax, F.log_softmax, F.logsumexp):
        g = np.random.default_rng(1).normal(size=f(z).shape) * 1e-25
        single, double = (sm.Tensor(z.astype(np.float32).astype(dtype), requires_grad=True) for dtype in "fd")
        found, right = (sm.grad(f(t), t, g.astype(t.dtype))[0].data for t in (single, double))
        np.testing.assert_allclose(found, right, rtol=2e-6, atol=1e-6 * np.abs(right).max())
