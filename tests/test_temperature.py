"""Temperature scaling: the minimum beside SciPy's, extremes, and what cannot be fitted."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm.calibration import fit_temperature, nll


def sample(n: int, classes: int, scale: float, right: float = 0.6, seed: int = 0) -> tuple[Any, Any]:
    """Return logits of a spread, and targets of which about the share `right` are the largest."""
    rng = np.random.default_rng(seed)
    z = scale * rng.normal(size=(n, classes))
    return z, np.where(rng.random(n) < right, z.argmax(axis=1), rng.integers(classes, size=n))


def loss(z: Any, y: Any, t: float) -> float:
    return float(F.cross_entropy(z / t, y))


def by_scipy(z: Any, y: Any) -> float:
    optimize = pytest.importorskip("scipy.optimize")
    found = optimize.minimize_scalar(
        lambda t: loss(z, y, math.exp(t)), bounds=(math.log(1e-3), math.log(1e3)), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    return math.exp(found.x)


@pytest.mark.parametrize("scale", [1e-2, 0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("right", [0.2, 0.9])
def test_the_minimum_is_that_of_scipy(scale: float, classes: int, right: float) -> None:
    z, y = sample(500, classes, scale, right)
    t = fit_temperature(z, y)
    assert t == pytest.approx(by_scipy(z, y), rel=1e-5)
    assert loss(z, y, t) <= min(loss(z, y, t * 1.01), loss(z, y, t / 1.01))


@given(st.integers(1, 40), st.integers(2, 6), st.floats(-2, 2), st.integers(0, 10_000))
def test_it_is_a_minimum_and_changes_no_answer(n: int, classes: int, power: float, seed: int) -> None:
    z, y = sample(n, classes, 10**power, seed=seed)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        t = fit_temperature(z, y)
    assert 1e-3 <= t <= 1e3
    assume(not found)
    np.testing.assert_array_equal(F.softmax(z, temperature=t).argmax(axis=1), z.argmax(axis=1))
    assert loss(z, y, t) <= min(loss(z, y, t * factor) for factor in (0.5, 0.99, 1.01, 2)) + 1e-12
    assert nll(F.softmax(z, temperature=t), y) <= nll(F.softmax(z), y) + 1e-12


def test_known_answers() -> None:
    z = np.array([[4.0, 0.0]] * 4)  # right three times of four: softmax(4/T) = 3/4
    assert fit_temperature(z, [0, 0, 0, 1]) == pytest.approx(4 / math.log(3), rel=1e-12)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20_000, 4))
    y = (z / 2.5 + rng.gumbel(size=z.shape)).argmax(axis=1)  # drawn from softmax(z / 2.5)
    assert fit_temperature(z, y) == pytest.approx(2.5, rel=0.05)


def test_a_scale_of_the_logits_scales_the_temperature_and_a_shift_does_not() -> None:
    z, y = sample(300, 5, 2.0)
    t = fit_temperature(z, y)
    assert fit_temperature(7 * z, y) == pytest.approx(7 * t)
    assert fit_temperature(z + np.arange(300)[:, None], y) == pytest.approx(t)
    assert fit_temperature(sm.Tensor(z.astype(np.float32)), sm.Tensor(y)) == pytest.approx(t, rel=1e-5)
    assert fit_temperature(z[::-1], y[::-1]) == pytest.approx(t)


def test_far_apart_logits_with_few_errors() -> None:
    z = np.array([[1000.0, 0.0]] * 999 + [[1e-3, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = fit_temperature(z, [0] * 999 + [1], bounds=(1e-6, 1e6))
    assert loss(z, [0] * 999 + [1], t) <= min(loss(z, [0] * 999 + [1], t * f) for f in (0.9, 1.1))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, 1e8])
def test_all_right_stops_at_the_lower_bound(scale: float) -> None:
    z, y = sample(50, 3, scale, right=1.0)
    y = z.argmax(axis=1)
    with pytest.warns(
        RuntimeWarning, match=r"T = 0.001: all 50 held-out answers are right, so the loss falls as T goes"
    ):
        assert fit_temperature(z, y) == 1e-3
    with pytest.warns(RuntimeWarning, match=r"T = 0.5: all 50"):
        assert fit_temperature(z, y, bounds=(0.5, 2)) == 0.5


def test_worse_than_chance_stops_at_the_upper_bound() -> None:
    z, _ = sample(50, 3, 1.0)
    with pytest.warns(RuntimeWarning, match=r"T = 1000: .*no larger than all, .*same order\?"):
        assert fit_temperature(z, z.argmin(axis=1)) == 1e3


def test_a_minimum_beyond_the_bounds() -> None:
    z, y = sample(500, 4, 10.0)
    t = fit_temperature(z, y)
    assert t > 5
    with pytest.warns(RuntimeWarning, match=r"T = 5: the best temperature is beyond the bounds 0.1 and 5"):
        assert fit_temperature(z, y, bounds=(0.1, 5)) == pytest.approx(5)
    with pytest.warns(RuntimeWarning, match=r"T = 100: the best temperature is beyond"):
        assert fit_temperature(z, y, bounds=(100, 200)) == pytest.approx(100)


def test_equal_logits_have_no_temperature() -> None:
    assert fit_temperature(np.full((3, 4), 7.0), [0, 1, 2]) == 1


@pytest.mark.parametrize(
    ("z", "y", "kind", "message"),
    [
        ([[1.0, np.nan]], [0], ValueError, r"must be finite; row 0 is \[1.0, nan\], and 1 rows are so"),
        ([[1.0, 2.0], [-np.inf, 0.0]], [0, 0], ValueError, r"row 1 is \[-inf, 0.0\].*-1e4, in place of -inf"),
        ([1.0, 2.0], [0], ValueError, r"numbers \(N, K\) .* shape \(2,\)"),
        ([[1.0]], [0], ValueError, r"K ≥ 2; got float64 of shape \(1, 1\)"),
        (np.zeros((0, 2)), [], ValueError, r"N ≥ 1 rows"),
        ([[1.0, 2.0]], [2], IndexError, r"target 2 of row 0 is out of range for 2 classes"),
        ([[1.0, 2.0]], [0.5], TypeError, r"targets must be integers"),
        ([[1.0, 2.0]], [0, 1], ValueError, r"targets must have shape \(1,\)"),
    ],
)
def test_an_error_says_what_is_wrong(z: Any, y: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=f"^fit_temperature: .*{message}"):
        fit_temperature(z, y)


@pytest.mark.parametrize("bounds", [(2, 1), (1, 1), (0, 1), (-1, 1), (1, math.inf), (1, 2, 3)])
def test_bounds_are_a_range(bounds: Any) -> None:
    with pytest.raises(ValueError, match=r"fit_temperature: .*bounds"):
        fit_temperature([[1.0, 0.0]], [1], bounds=bounds)
