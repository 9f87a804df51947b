"""Gradients where a function has a kink, a jump or an infinite slope; `docs/kinks.md` is the same in words."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import close, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor
from tinygrad_sm.ops.kinks import kept

inf, nan = np.inf, np.nan
quiet = np.errstate(all="ignore")


class Kink(NamedTuple):
    """A function, where it is looked at, its gradient there, and its second derivative if one is claimed."""

    name: str
    f: Callable[[Any], Any]
    x: list[float]
    gradient: list[float]
    second: list[float] | None = None
    torch: str = ""  # an expression in t (torch) and x that has the same gradient, on purpose


KINKS = [
    Kink("abs", sm.abs, [-2, 0, -0.0, 2, inf], [-1, 0, 0, 1, 1], torch="t.abs(x)"),
    Kink("relu", F.relu, [-2, 0, 2, inf, -inf], [0, 0, 1, 1, 0], torch="t.relu(x)"),
    Kink("clip", lambda x: sm.clip(x, -1, 1), [-2, -1, 0, 1, 2, inf], [0, 1, 1, 1, 0, 0], torch="t.clamp(x, -1, 1)"),
    Kink("maximum", lambda x: sm.maximum(x, 0.0), [-1, 0, 1], [0, 0.5, 1], torch="t.maximum(x, 0 * x.detach())"),
    Kink("minimum", lambda x: sm.minimum(x, 0.0), [-1, 0, 1], [1, 0.5, 0], torch="t.minimum(x, 0 * x.detach())"),
    Kink("max", lambda x: x.max(), [1, 3, 3, 0], [0, 0.5, 0.5, 0], torch="x.amax()"),
    Kink("max of minus infinities", lambda x: x.max(), [-inf, -inf], [0.5, 0.5], torch="x.amax()"),
    Kink("min", lambda x: x.min(), [1, 1, 1, 2], [1 / 3, 1 / 3, 1 / 3, 0], torch="x.amin()"),
    Kink("sqrt", sm.sqrt, [0, 4], [inf, 0.25], torch="t.sqrt(x)"),
    Kink("log", sm.log, [0, 2], [inf, 0.5], torch="t.log(x)"),
    Kink("log1p", sm.log1p, [-1, 1], [inf, 0.5], torch="t.log1p(x)"),
    Kink("1/x", lambda x: 1 / x, [0, 2, inf], [-inf, -0.25, 0], torch="1 / x"),
    Kink("x**0", lambda x: x**0, [0, -2, inf], [0, 0, 0], torch="x**0"),
    Kink("x**1", lambda x: x**1, [0, -2, inf], [1, 1, 1], [0, 0, 0], torch="x**1"),
    Kink("x**2", lambda x: x**2, [0, -2], [0, -4], [2, 2], torch="x**2"),
    Kink("x**3", lambda x: x**3, [0, -2], [0, 12], [0, -12], torch="x**3"),
    Kink("x**0.5", lambda x: x**0.5, [0, 4, -1], [inf, 0.25, nan], torch="x**0.5"),
    Kink("x**1.5", lambda x: x**1.5, [0, 4, -1], [0, 3, nan], torch="x**1.5"),
    Kink("x**array", lambda x: x ** np.array([0.0, 1, 2, 3]), [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0]),
    Kink("0**x", lambda x: 0.0**x, [0, 2, -1], [0, 0, -inf], torch="0.0**x"),
    Kink("array**x", lambda x: np.zeros(2) ** x, [0, 2], [0, 0], [0, 0]),
    Kink("x**x", lambda x: x**x, [0, 1], [0, 1], [1, 2]),
    Kink("norm", np.linalg.norm, [0, 0, 0], [0, 0, 0], [0, 0, 0], torch="t.linalg.vector_norm(x)"),
    Kink("std of equals", lambda x: x.std(), [2, 2, 2], [0, 0, 0], [0, 0, 0], torch="x.std(correction=0)"),
    Kink("std of one", lambda x: x.std(), [2], [0], [0], torch="x.std(correction=0)"),
    Kink("var of equals", lambda x: x.var(), [2, 2, 2], [0, 0, 0], [0, 0, 0], torch="x.var(correction=0)"),
    Kink("prod with a zero", lambda x: x.prod(), [0, 2, 3], [6, 0, 0], [5, 3, 2], torch="x.prod()"),
    Kink("prod with two", lambda x: x.prod(), [0, 0, 3], [0, 0, 0], [3, 3, 0], torch="x.prod()"),
    Kink("cumsum", lambda x: x.cumsum(), [0, inf, 1], [3, 2, 1], torch="x.cumsum(0)"),
    Kink("sigmoid", F.sigmoid, [-inf, -1e3, 1e3, inf], [0, 0, 0, 0], [0, 0, 0, 0], torch="t.sigmoid(x)"),
    Kink("tanh", F.tanh, [-inf, -1e3, 1e3, inf], [0, 0, 0, 0], [0, 0, 0, 0], torch="t.tanh(x)"),
    Kink("silu", F.silu, [-1e308, -1e3, 1e3, 1e308], [0, 0, 1, 1], [0, 0, 0, 0], torch="t.nn.functional.silu(x)"),
    Kink("gelu", F.gelu, [-1e3, 0, 1e3], [0, 0.5, 1], torch="t.nn.functional.gelu(x, approximate='tanh')"),
    Kink("exp", sm.exp, [-inf, -1e3, 1e3], [0, 0, inf], torch="t.exp(x)"),
    Kink("layer_norm of equals", lambda x: F.layer_norm(x, 3), [2, 2, 2], [0, 0, 0], [0, 0, 0]),
    Kink("layer_norm of one", lambda x: F.layer_norm(x, 1), [2], [0], [0]),
    Kink("rms_norm of zeros", lambda x: F.rms_norm(x, 2, eps=1.0), [0, 0], [1, 1], [0, 0]),
    Kink("sort by argsort, all equal", lambda x: x[x.argsort()], [1, 1, 1], [1, 1, 1]),
    # The other branch of `where` does not count, whatever is there.
    Kink("where, sqrt", lambda x: sm.where(x > 0, sm.sqrt(x), 0.0), [0, 4, -1], [0, 0.25, 0], [0, -1 / 32, 0]),
    Kink("where, log", lambda x: sm.where(x > 0, sm.log(x), 0.0), [0, 4, -1], [0, 0.25, 0], [0, -1 / 16, 0]),
    Kink("where, log1p", lambda x: sm.where(x > -1, sm.log1p(x), 0.0), [-1, 1], [0, 0.5], [0, -0.25]),
    Kink("where, 1/x", lambda x: sm.where(x != 0, 1 / x, 0.0), [0, 2], [0, -0.25], [0, 0.25]),
    Kink("where, x/x", lambda x: sm.where(x != 0, x / x, 1.0), [0, 2], [0, 0], [0, 0]),
    Kink("where, x**0.5", lambda x: sm.where(x > 0, x**0.5, 0.0), [0, 4, -1], [0, 0.25, 0], [0, -1 / 32, 0]),
    Kink("where, x**array", lambda x: sm.where(x > 0, x ** np.full(2, 0.5), 0.0), [0, 4], [0, 0.25], [0, -1 / 32]),
    Kink(
        "where, array**x",
        lambda x: sm.where([True, False], np.array([2.0, -1]) ** x, 0.0),
        [2, 0.5],
        [4 * np.log(2), 0],
        [4 * np.log(2) ** 2, 0],
    ),
    Kink("where, exp", lambda x: sm.where(x < 1, sm.exp(x), 0.0), [0, 1e3], [1, 0], [1, 0]),
    Kink("where, expm1", lambda x: sm.where(x < 1, sm.expm1(x), x), [0, 1e3], [1, 1], [1, 0]),
    Kink("where, logit", lambda x: sm.where(x > 0, F.logit(x), 0.0), [0, 0.5], [0, 4], [0, 0]),
    Kink("where, a constant NaN", lambda x: sm.where(x > 0, x, nan), [-1, 2], [0, 1]),
]
each = pytest.mark.parametrize("kink", KINKS, ids=lambda kink: kink.name)


def gradient(f: Any, x: Any, create_graph: bool = False) -> Any:
    y = f(x)
    return sm.grad(y, x, np.ones(y.shape), create_graph=create_graph)[0]


@each
@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
@quiet
def test_gradient(kink: Kink, create_graph: bool) -> None:
    g = gradient(kink.f, leaf(kink.x), create_graph)
    close(g, np.array(kink.gradient, float), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kink", [k for k in KINKS if k.second is not None], ids=lambda kink: kink.name)
@quiet
def test_second_derivative(kink: Kink) -> None:
    x = leaf(kink.x)
    g = gradient(kink.f, x, create_graph=True)
    (second,) = sm.grad(g.sum(), x, allow_unused=True) if g.requires_grad else (Tensor(np.zeros(len(kink.x))),)
    close(second if second is not None else np.zeros(len(kink.x)), np.array(kink.second, float), rtol=1e-12, atol=1e-15)


@pytest.mark.torch
@pytest.mark.parametrize("kink", [k for k in KINKS if k.torch], ids=lambda kink: kink.name)
def test_as_pytorch_has_it(kink: Kink) -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(kink.x, dtype=torch.float64, requires_grad=True)
    eval(kink.torch, {"t": torch, "x": x}).sum().backward()  # our own expressions
    close(x.grad.numpy(), np.array(kink.gradient, float), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@quiet
def test_what_is_masked_stays_in_its_dtype(dtype: Any) -> None:
    x = leaf([0.0, 4.0, -1.0], dtype)
    for f in (sm.sqrt, sm.log, lambda t: t**0.5, lambda t: 1 / t):
        g = gradient(lambda t, f=f: sm.where(t > 0, f(t), 0.0), x)
        assert g.dtype == dtype
        assert g.data[[0, 2]].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (lambda x: sm.clip(x, -1, 1), [-2.0, 0.0, nan], [0, inf, 0]),
        (F.relu, [-2.0, 0.0, 2.0, nan], [0, 0, inf, 0]),
        (lambda x: sm.maximum(x, 0.0), [-1.0, 0.0, 1.0], [0, inf, inf]),
        (lambda x: sm.minimum(x, 0.0), [-1.0, 0.0, 1.0], [inf, inf, 0]),
        (lambda x: x.max(), [1.0, 3.0], [0, inf]),
        (lambda x: x**0, [0.0, 1.0], [0, 0]),
        (lambda x: sm.where(x > 0, x, 0.0), [-1.0, 1.0], [0, inf]),
        (sm.tril, [[1.0, 2.0], [3.0, 4.0]], [[inf, 0], [inf, inf]]),
    ],
    ids=["clip", "relu", "maximum", "minimum", "max", "x**0", "where", "tril"],
)
@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_an_infinite_gradient_goes_only_where_it_belongs(f: Any, x: Any, expected: Any, create_graph: bool) -> None:
    x = leaf(x)
    y = f(x)
    (g,) = sm.grad(y, x, np.full(y.shape, inf), create_graph=create_graph)
    close(g, np.array(expected, float))


def test_of_equal_arguments_no_digit_is_lost_and_nothing_overflows() -> None:
    largest = np.finfo(np.float32).max
    a, b = leaf([1.0, 2.0], np.float32), leaf([1.0, 1.0], np.float32)
    ga, gb = sm.grad(sm.maximum(a, b), [a, b], np.full(2, largest))
    assert ga.tolist() == [largest / 2, largest]
    assert gb.tolist() == [largest / 2, 0]


@quiet
def test_nan_takes_part_in_no_comparison() -> None:
    # A NaN is neither the larger nor inside the bounds, so nothing flows to it; the value is NaN all the same.
    for f in (F.relu, lambda x: sm.clip(x, -1, 1), lambda x: sm.maximum(x, 0.0), lambda x: x.max(keepdims=True)):
        x = leaf([nan])
        assert np.isnan(f(x).data).all()
        assert gradient(f, x).tolist() == [0]
    assert np.isnan(gradient(sm.abs, leaf([nan])).data)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-8, 1e8 + 0.3])
def test_std_of_equal_numbers_whose_mean_is_rounded(value: float) -> None:
    for n in (3, 7, 10):
        x = leaf(np.full((2, n), value))
        g = gradient(lambda x: x.std(axis=1), x)
        assert np.abs(g.data).max() < 1e-8  # where dividing rounding by rounding gives numbers near 1


@quiet
def test_too_few_numbers_for_a_variance() -> None:
    for name in ("var", "std"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            g = gradient(lambda x, name=name: getattr(x, name)(ddof=1), leaf([2.0]))
        assert np.isnan(g.data).all()


def test_positional_options_of_var_reach_its_rule() -> None:
    x = leaf(normal(3, 4))
    (g,) = sm.grad(sm.var(x, 1, True).sum(), x)
    close(g, sm.grad(x.var(axis=1).sum(), x)[0])


def test_the_length_of_a_matrix_and_of_its_rows() -> None:
    x = leaf([[3.0, 4.0], [0.0, 0.0]])
    close(np.linalg.norm(x, axis=1), [5, 0])
    close(np.linalg.norm(x, "fro"), 5)
    close(np.linalg.norm(x[0], 2, keepdims=True), [5])
    close(gradient(lambda x: np.linalg.norm(x, axis=-1), x), [[0.6, 0.8], [0, 0]])
    assert np.linalg.norm(leaf([3.0, 4.0], np.float16) * 100).item() == 500  # whose squares overflow float16


# -- warnings follow NumPy ---------------------------------------------------------------------

STEEP = [
    ("sqrt", sm.sqrt, 0.0, 0), ("log", sm.log, 0.0, 1), ("log1p", sm.log1p, -1.0, 1), ("div", lambda x: 1 / x, 0.0, 1),
    ("pow", lambda x: x**-0.5, 0.0, 1), ("x**0.5", lambda x: x**0.5, 0.0, 0), ("logit", F.logit, 0.0, 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "f", "x", "forward"), STEEP, ids=[row[0] for row in STEEP])
def test_a_pole_warns_once_is_silent_or_raises_as_numpy_is_told(name: str, f: Any, x: float, forward: int) -> None:
    def caught(call: Any) -> tuple[Any, list[str]]:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            result = call()
        return result, [str(w.message) for w in found]

    t = leaf(x)
    with np.errstate(all="warn"):
        y, messages = caught(lambda: f(t))
        assert len(messages) == forward
        _, messages = caught(lambda: sm.grad(y, t))
        assert len(messages) == 1
        assert "divide by zero" in messages[0]
        assert caught(lambda: sm.grad(y * 0.0 if np.isfinite(y.data) else sm.where(False, y, t), t))[1] == []
    with np.errstate(all="ignore"):
        assert caught(lambda: sm.grad(f(t), t))[1] == []
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="divide by zero"):
        sm.grad(y, t)


def test_a_gradient_of_zero_outside_the_domain_warns_of_nothing() -> None:
    x = leaf([-1.0, 4.0])
    with np.errstate(all="ignore"):
        y = sm.where(x > 0, sm.sqrt(x) + sm.log(x) + x**0.5, 0.0).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (g,) = sm.grad(y, x)
    close(g, [0, 0.75])


def test_the_limit_products_keep_the_arithmetic_of_numpy() -> None:
    # Documented: mul looks for nothing, since it is the busiest op. The remedy is to choose the number before.
    with np.errstate(all="ignore"):
        p = leaf([0.0, 0.5])
        assert np.isnan(gradient(lambda p: sm.where(p > 0, p * sm.log(p), 0.0), p).data[0])
    p = leaf([0.0, 0.5])
    safe = gradient(lambda p: sm.where(p > 0, p * sm.log(sm.where(p > 0, p, 1.0)), 0.0), p)
    close(safe, [0, np.log(0.5) + 1])


# -- the two helpers ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
def test_kept_is_where_to_the_bit(dtype: Any) -> None:
    g = np.array([1.5, -0.0, inf, nan, 1e-7, -inf, 2.0, -3.0]).astype(dtype)
    mask = np.arange(8) % 3 > 0
    for a, m in ((g, mask), (g[::2], mask[::2]), (g[0], np.True_), (np.broadcast_to(g, (2, 8)), mask), (g, False)):
        out = kept(a, m)
        assert np.array_equal(out, np.where(m, a, 0.0).astype(dtype), equal_nan=True)
        assert not np.signbit(out[~np.broadcast_to(m, np.shape(a))]).any()


def test_the_largest_of_a_row_with_nan_is_differentiated_in_silence() -> None:
    x = leaf([[nan, 1.0], [2.0, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(gradient(lambda x: x.max(axis=1), x), [[0, 0], [1, 0]])


ROOT = [("sqrt", sm.sqrt), ("x**0.5", lambda x: x**0.5), ("x**array", lambda x: x ** np.full(2, 0.5))]


@pytest.mark.parametrize("f", [f for _, f in ROOT], ids=[name for name, _ in ROOT])
def test_a_pole_leaves_its_neighbours_alone(f: Any) -> None:
    x = leaf([0.0, 4.0])
    with np.errstate(all="ignore"):
        close(sm.jacobian(f, x), [[inf, 0], [0, 0.25]])  # and no NaN beside the infinity
        _, tangent = sm.jvp(f, [x], [np.ones(2)])
    assert tangent.data[1] == 0.25


@pytest.mark.parametrize("f", [f for _, f in ROOT], ids=[name for name, _ in ROOT])
def test_a_cotangent_of_zero_can_be_differentiated(f: Any) -> None:
    # Where the slope is finite it is the derivative to the cotangent; at the pole nothing is made up.
    x, c = leaf([0.0, 4.0]), leaf([0.0, 0.0])
    with np.errstate(all="ignore"):
        (g,) = sm.grad(f(x), x, c, create_graph=True)
        close(g, [0, 0])
        (slope,) = sm.grad(g.sum(), c)
    close(slope, [0, 0.25])
