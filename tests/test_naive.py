"""The naive variants: equal to the stable ones where they don't fail, and failing where the article says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, differences, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor, naive

NAN, INF = float("nan"), float("inf")
BIG, SMALL, SPREAD = [1000.0] * 3, [-1000.0] * 3, [-1.0, 10.0, 5000.0]
Y = np.array([2, 0, 1])


def mae(logits: Any, target: Any) -> Any:
    p = F.softmax(logits)
    return (1 - F.take_along_axis(p, np.asarray(target)[..., None])).mean()


PAIRS: dict[str, tuple[Any, Any]] = {  # naive, stable
    "softmax": (naive.softmax, F.softmax),
    "stable_softmax": (naive.stable_softmax, F.softmax),
    "log_softmax": (naive.log_softmax, F.log_softmax),
    "cross_entropy": (lambda z: naive.cross_entropy(z, Y), lambda z: F.cross_entropy(z, Y)),
    "mae_loss": (lambda z: naive.mae_loss(z, Y), lambda z: mae(z, Y)),
}
each = pytest.mark.parametrize("name", PAIRS)


@each
@pytest.mark.parametrize("size", [0.1, 1.0, 5.0])
def test_values_and_gradients_equal_the_stable_ones(name: str, size: float) -> None:
    ours, theirs = PAIRS[name]
    z, other = leaf(normal(3, 4) * size), leaf(normal(3, 4) * size)
    a, b = ours(z), theirs(other)
    close(a, b, rtol=1e-9)
    c = normal(*a.shape, seed=4)
    close(sm.grad(a, [z], c), sm.grad(b, [other], c), rtol=1e-8, atol=1e-10)


@each
def test_gradients_by_differences(name: str) -> None:
    ours, _ = PAIRS[name]
    z, c = normal(3, 4), normal(*ours(normal(3, 4)).shape, seed=4)
    x = leaf(z)
    expected = differences(lambda a: float((np.asarray(ours(Tensor(a))) * c).sum()), [z], [0])
    close(sm.grad(ours(x), [x], c), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["softmax", "stable_softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_axis(name: str, axis: int) -> None:
    z = normal(2, 3, 4)
    close(getattr(naive, name)(leaf(z), axis), getattr(F, name.removeprefix("stable_"))(z, axis))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_axis_of_cross_entropy(axis: int) -> None:
    z = normal(2, 3, 4)
    target = np.random.default_rng(0).integers(0, z.shape[axis], np.delete(z.shape, axis))
    close(naive.cross_entropy(leaf(z), target, axis), F.cross_entropy(z, target, axis=axis))


@each
def test_arrays_give_arrays(name: str) -> None:
    ours, theirs = PAIRS[name]
    close(np.asarray(ours(normal(3, 4))), theirs(normal(3, 4)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("function", "logits", "expected", "stable"),
    [
        (naive.softmax, BIG, [NAN] * 3, [1 / 3] * 3),  # inf/inf
        (naive.softmax, SMALL, [NAN] * 3, [1 / 3] * 3),  # 0/0
        (naive.softmax, SPREAD, [0, 0, NAN], [0, 0, 1]),  # 1/inf and inf/inf
        (naive.stable_softmax, BIG, [1 / 3] * 3, [1 / 3] * 3),
        (naive.stable_softmax, SMALL, [1 / 3] * 3, [1 / 3] * 3),
        (naive.stable_softmax, SPREAD, [0, 0, 1], [0, 0, 1]),
        (naive.log_softmax, BIG, [-np.log(3)] * 3, [-np.log(3)] * 3),
        (naive.log_softmax, SMALL, [-np.log(3)] * 3, [-np.log(3)] * 3),
        (naive.log_softmax, SPREAD, [-INF, -INF, 0], [-5001, -4990, 0]),  # log 0
    ],
)
def test_where_softmax_fails(function: Any, logits: Any, expected: Any, stable: Any, dtype: Any) -> None:
    z = np.array(logits, dtype)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        np.testing.assert_allclose(function(Tensor(z)).data, np.array(expected, dtype), rtol=1e-6)
    twin = F.log_softmax if function is naive.log_softmax else F.softmax
    np.testing.assert_allclose(twin(Tensor(z)).data, np.array(stable, dtype), rtol=1e-6)


@pytest.mark.parametrize(
    ("target", "expected", "stable"),
    [(0, NAN, 5001.0), (1, NAN, 4990.0), (2, NAN, 0.0)],  # 0·(−inf) is there whatever the target
)
def test_where_cross_entropy_fails(target: int, expected: float, stable: float) -> None:
    z = leaf([SPREAD])
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = naive.cross_entropy(z, [target])
        assert np.isnan(loss.item()) == np.isnan(expected)
        loss.backward()
    # For the class that takes all, the gradients that reach log 0 are 0, and stay so, though the loss is NaN.
    assert np.isnan(z.grad.data).any() == (target != 2)
    other = leaf([SPREAD])
    good = F.cross_entropy(other, [target])
    assert good.item() == stable
    good.backward()
    close(other.grad, [[0, 0, 1.0] - np.eye(3)[target]])


@pytest.mark.parametrize(("logits", "warning"), [(BIG, "overflow"), (SMALL, "invalid value"), (SPREAD, "overflow")])
def test_numpy_warns(logits: Any, warning: str) -> None:
    with np.errstate(all="warn"), pytest.warns(RuntimeWarning) as seen:
        naive.softmax(Tensor(logits, dtype=np.float64))
    assert any(warning in str(w.message) for w in seen)


@pytest.mark.parametrize("logits", [[[0.0, 0.0, 0.0]], [[2.0, -1.0, 0.5]], [[20.0, 0.0, 0.0]], [[0.0, 0.0, 20.0]]])
def test_mae_gradient_vanishes_where_the_model_is_sure_right_or_wrong(logits: Any) -> None:
    z, p = leaf(logits), F.softmax(np.array(logits))[0]
    loss = naive.mae_loss(z, [2])
    assert loss.item() == pytest.approx(1 - p[2])
    loss.backward()
    # L = 1 − p_y:  ∂L/∂z_y = −p_y·(1 − p_y),  ∂L/∂z_j = p_y·p_j
    close(z.grad, [p[2] * (p - [0, 0, 1])], rtol=1e-7, atol=1e-16)
    assert abs(z.grad.data[0, 2]) == pytest.approx(p[2] * (1 - p[2]), rel=1e-6, abs=1e-16)
    other = leaf(logits)
    F.cross_entropy(other, [2]).backward()
    assert abs(other.grad.data[0, 2]) == pytest.approx(1 - p[2], rel=1e-6)  # that of cross-entropy does not
