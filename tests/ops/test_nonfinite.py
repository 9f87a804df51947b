"""NaN and infinite logits stay in their row, forward and backward; empty axes; any number as a temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor

ROWS = {"NaN": [0.0, np.nan, 1.0], "+inf": [np.inf, 0.0, 1.0], "−inf only": [-np.inf] * 3, "NaN only": [np.nan] * 3}
LOSSES: dict[str, Any] = {
    "indices": lambda x, axis: F.cross_entropy(x, [0, 1, 2, 0], axis=axis, reduction="none"),
    "smoothed": lambda x, axis: F.cross_entropy(x, [0, 1, 2, 0], axis=axis, label_smoothing=0.1, reduction="none"),
    "probabilities": lambda x, axis: F.cross_entropy(
        x, np.full(x.shape, 1 / 3), axis=axis, label_smoothing=0.1, reduction="none"
    ),
}
FUNCTIONS: dict[str, Any] = {
    **{f.__name__: f for f in (F.softmax, F.log_softmax, F.logsumexp)},
    "colder": lambda x, axis: F.log_softmax(x, axis, temperature=0.5),
    **LOSSES,
}


@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS.keys())
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_a_bad_row_spoils_no_other(f: Any, row: list[float], axis: int, create_graph: bool) -> None:
    def outcome(z: Any) -> tuple[Any, Any]:
        """Return the output and the gradient, both with one line for each row."""
        x = leaf(z if axis == -1 else z.T)
        with np.errstate(invalid="ignore"):
            y = f(x, axis)
            c = normal(4, 3) if y.ndim == 2 else normal(4)
            (g,) = sm.grad(y, x, c if axis == -1 else c.T, create_graph=create_graph)
        return (y.data, g.data) if axis == -1 else (y.data.T, g.data.T)

    good = normal(4, 3)
    bad = good.copy()
    bad[2] = row
    (y, g), (y_good, g_good) = outcome(bad), outcome(good)
    others = [0, 1, 3]
    close(y[others], y_good[others], rtol=0, atol=0)
    close(g[others], g_good[others], rtol=0, atol=0)
    if f is F.logsumexp and not np.isnan(row).any():
        assert y[2] == max(row)  # the only one for which an infinite row has a meaning
    else:
        assert np.isnan(y[2]).all()
    assert np.isnan(g[2]).all()


def test_the_mean_over_rows_is_nan_but_only_one_gradient() -> None:
    x = leaf([[0.0, 1.0], [np.nan, 1.0], [2.0, 1.0]])
    loss = F.cross_entropy(x, [0, 0, 0])
    assert np.isnan(loss.item())
    (g,) = sm.grad(loss, x)
    assert np.isnan(g.data).any(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(2, 0), (0,), (0, 0), (3, 0, 2)], ids=str)
def test_empty_axes(shape: tuple[int, ...]) -> None:
    axis = shape.index(0)
    x = leaf(np.zeros(shape))
    for f in (F.softmax, F.log_softmax):
        assert f(x, axis).shape == shape
    y = F.logsumexp(x, axis)
    assert y.shape == shape[:axis] + shape[axis + 1 :]
    assert (y.data == -np.inf).all()
    for create_graph in (False, True):
        assert sm.grad(y, x, np.ones(y.shape), create_graph=create_graph)[0].shape == shape


@pytest.mark.parametrize("two", [2, np.int8(2), np.float32(2), np.array(2.0), Tensor(2.0)], ids=lambda t: repr(t))
def test_a_temperature_is_any_one_number(two: Any) -> None:
    z = normal(2, 3)
    for f in (F.softmax, F.log_softmax, F.logsumexp):
        close(f(z, temperature=two), f(z, temperature=2.0), rtol=0, atol=0)
