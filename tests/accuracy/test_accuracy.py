"""The softmax family is right to a few units in the last place, against mpmath, on rows that break naive forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from libraries import LIBRARIES, ours
from ulp import errors, of_itself, right

import tinygrad_sm as sm
import tinygrad_sm.functional as F

BARS = {np.float32: 4.0, np.float64: 8.0}
# Where PyTorch is nearly right, it may be nearer by the luck of a rounding.
LUCK = {np.float32: 2.5, np.float64: 4.5}
# Gradients that miss their bar where large terms cancel and nearly nothing is left (see docs/accuracy.md).
MISSED = {
    ("gradient, smoothed", np.float32): ["one dominates, all below 0, 200 classes"],
    ("gradient, smoothed and weighted", np.float32): ["one dominates, all below 0, 200 classes"],
    ("gradient, smoothed", np.float64): ["ordinary, 2 classes"],
    ("gradient, smoothed and weighted", np.float64): ["ordinary, 2 classes"],
    ("gradient of log_softmax", np.float64): ["ordinary, 2 classes", "one dominates, 200 classes"],
}
by_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
by_quantity = pytest.mark.parametrize("quantity", ours())


def _measured(quantity: str, dtype: Any, library: Any) -> dict[str, float]:
    """Return the worst error of each case, in the unit of the quantity."""
    unit = 0 if of_itself(quantity) else 1
    return {case.name: errors(case, rows, quantity, library[quantity](case))[unit] for case, rows in right(dtype)}


@by_dtype
@by_quantity
def test_every_row_is_right_to_a_few_ulp(quantity: str, dtype: Any) -> None:
    worst = _measured(quantity, dtype, ours())
    for name in MISSED.get((quantity, dtype), []):
        del worst[name]
    assert len(worst) > 15
    assert max(worst.values()) <= BARS[dtype], worst


@pytest.mark.xfail(reason="nearly all cancels, and the bar is missed: see docs/accuracy.md", strict=False)
@pytest.mark.parametrize(("quantity", "dtype"), MISSED, ids=[f"{q}-{d.__name__}" for q, d in MISSED])
def test_rows_where_nearly_all_cancels(quantity: str, dtype: Any) -> None:
    worst = _measured(quantity, dtype, ours())
    assert max(worst[name] for name in MISSED[quantity, dtype]) <= BARS[dtype]


@pytest.mark.parametrize(("quantity", "dtype"), MISSED, ids=[f"{q}-{d.__name__}" for q, d in MISSED])
def test_where_nearly_all_cancels_the_error_is_that_of_the_terms(quantity: str, dtype: Any) -> None:
    """The gradient is q − p·Q: measured against its terms, and not against what they leave, it keeps its bar."""
    for case, rows in right(dtype):
        if case.name in MISSED[quantity, dtype]:
            for n, (row, result) in enumerate(zip(rows, ours()[quantity](case), strict=True)):
                exact = row[quantity]
                term = row["softmax"].high.max() * (case.weight.min() if "weighted" in quantity else 1)
                if quantity == "gradient of log_softmax":  # there q is the cotangent
                    term = max(np.abs(case.g[n]).max(), term * abs(case.g[n].sum()))
                off = np.abs((result[exact.seen].astype(np.float64) - exact.high) - exact.low)
                assert off.max() <= BARS[dtype] * np.spacing(dtype(term))


@pytest.mark.torch
@by_dtype
@by_quantity
def test_no_worst_entry_is_worse_than_that_of_pytorch(quantity: str, dtype: Any) -> None:
    pytest.importorskip("torch")
    mine, theirs = (_measured(quantity, dtype, LIBRARIES[name]()) for name in ("ours", "PyTorch"))
    for name, error in mine.items():
        assert error <= max(theirs[name], LUCK[dtype]), (name, error, theirs[name])


@pytest.mark.parametrize("margin", [5, 20, 50, 100])
@by_dtype
def test_the_dominating_entry_of_log_softmax_gets_its_gradient(margin: int, dtype: Any) -> None:
    """With g = −[i = top] that gradient is p_top − 1, which is −expm1(log p_top) with the sign changed."""
    for n in (2, 10, 300):
        x = sm.Tensor(np.zeros(n, dtype), requires_grad=True)
        x.data[1] = margin
        (g,) = sm.grad(-F.log_softmax(x)[1], x)
        others = (n - 1) * np.exp(-np.longdouble(margin))
        assert abs(g.data[1] / dtype(-others / (1 + others)) - 1) <= 4 * np.finfo(dtype).eps


def test_a_constant_cotangent_of_softmax_gives_nothing_but_rounding() -> None:
    for n in (5, 100):
        x = sm.Tensor(np.linspace(0, 5, n).astype(np.float32), requires_grad=True)
        x.data[2] = 12.0
        (g,) = sm.grad(F.softmax(x), x, np.full(n, 0.1, np.float32))
        assert abs(g.data).max() <= 0.1 * np.finfo(np.float32).eps


@by_dtype
@pytest.mark.parametrize("n", [6, 60])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_zero_times_log_zero_is_zero(dtype: Any, n: int, smoothing: float) -> None:
    """Logits of −inf, on classes of no weight or no probability, leave losses and gradients finite, to second order."""
    z = np.random.default_rng(0).normal(size=(3, n)).astype(dtype)
    z[:, 1::2] = -np.inf
    weight = np.where(np.arange(n) % 2, 0, 1.5).astype(dtype)
    q = np.where(np.arange(n) % 2, 0, 2 / n) * np.ones((3, 1))
    targets: list[tuple[Any, dict[str, Any]]] = [
        (np.array([0, 2, 4]), {"weight": weight, "label_smoothing": smoothing}),
        (np.array([1, 1, 4]), {"weight": weight, "label_smoothing": smoothing}),
        (q.astype(dtype), {"weight": weight, "label_smoothing": smoothing}),
        *([] if smoothing else [(q.astype(dtype), {}), (np.array([0, 2, 4]), {})]),
    ]
    live = np.arange(0, n, 2)
    for target, options in targets:
        x = sm.Tensor(z, requires_grad=True)
        loss = F.cross_entropy(x, target, **options)
        kept = {**options, "weight": weight[live]} if "weight" in options else options
        (g,) = sm.grad(loss, x)
        assert np.isfinite(loss.item())
        assert np.isfinite(g.data).all()
        assert not g.data[:, 1::2].any()
        if not smoothing and (target.ndim == 2 or not (target % 2).any()):  # as if the dead classes were not there
            part = target[:, live] if target.ndim == 2 else target // 2
            np.testing.assert_allclose(loss.data, F.cross_entropy(z[:, live], part, **kept), rtol=1e-5)
        (recorded,) = sm.grad(loss, x, create_graph=True)
        assert np.isfinite(recorded.data).all()
        (second,) = sm.grad((recorded * recorded).sum(), x)
        assert np.isfinite(second.data).all()


@by_dtype
@pytest.mark.parametrize("n", [6, 60])
def test_an_ignored_row_of_infinite_loss_counts_for_nothing(dtype: Any, n: int) -> None:
    z = np.random.default_rng(0).normal(size=(2, n)).astype(dtype)
    z[1, 0] = -np.inf  # whose uniform part is infinite
    x = sm.Tensor(z, requires_grad=True)
    loss = F.cross_entropy(x, np.array([1, -100]), label_smoothing=0.1)
    (g,) = sm.grad(loss, x)
    np.testing.assert_allclose(loss.data, F.cross_entropy(z[:1], np.array([1]), label_smoothing=0.1), rtol=1e-6)
    assert np.isfinite(g.data).all()
    assert not g.data[1].any()


@by_dtype
@pytest.mark.parametrize("n", [3, 50])
def test_rows_without_a_softmax_are_quietly_nan_and_alone(dtype: Any, n: int) -> None:
    z = np.random.default_rng(0).normal(size=(5, n)).astype(dtype)
    good = z[4:].copy()
    z[0], z[1, 0], z[2, 1], z[3, :2] = -np.inf, np.inf, np.nan, (np.inf, -np.inf)
    with np.errstate(all="raise"):
        for f in (F.softmax, F.log_softmax, F.logsumexp):
            x = sm.Tensor(z, requires_grad=True)
            y = f(x)
            (g,) = sm.grad(y, x, np.ones(y.shape, dtype))
            if f is F.logsumexp:
                np.testing.assert_array_equal(y.data[:4], [-np.inf, np.inf, np.nan, np.inf])
            else:
                assert np.isnan(y.data[:4]).all()
            assert np.isnan(g.data[:4]).all()
            np.testing.assert_array_equal(y.data[4:], f(good))
            assert np.isfinite(g.data[4]).all()
        x = sm.Tensor(z, requires_grad=True)
        loss = F.cross_entropy(x, np.zeros(5, int), reduction="none")
        assert np.isnan(loss.data[:4]).all()
        assert np.isfinite(loss.data[4])


@by_dtype
@pytest.mark.parametrize("n", [4, 64])
@pytest.mark.parametrize("temperature", [1e-37, 1e-5, 0.3, 1e5])
def test_temperatures_from_one_end_to_the_other(dtype: Any, n: int, temperature: float) -> None:
    z = np.random.default_rng(0).normal(size=(2, n)).astype(dtype)
    d = np.asarray(z, np.longdouble)
    d = (d - d.max(axis=1, keepdims=True)) / np.longdouble(temperature)
    e = np.exp(d)
    with np.errstate(all="raise"):
        x = sm.Tensor(z, requires_grad=True)
        p, log_p = F.softmax(x, temperature=temperature), F.log_softmax(x, temperature=temperature)
        eps = float(np.finfo(dtype).eps)
        np.testing.assert_allclose(p.data, (e / e.sum(axis=1, keepdims=True)).astype(dtype), rtol=1e2 * eps, atol=eps)
        if temperature > 1e-30:
            expected = (d - np.log(e.sum(axis=1, keepdims=True))).astype(dtype)
            np.testing.assert_allclose(log_p.data, expected, rtol=9 * eps)
        for y in (p, log_p):
            assert np.isfinite(sm.grad(y, x, np.full(y.shape, 1 / n, dtype))[0].data).all()


def test_logsumexp_keeps_its_digits_where_the_sum_is_near_one() -> None:
    """Log-probabilities in float32 nearly sum to 1: what is left is the error of their rounding."""
    z = F.log_softmax(np.random.default_rng(0).normal(size=(20, 500)).astype(np.float32))
    exact = np.log1p(np.exp(z.astype(np.longdouble)).sum(axis=1) - 1)
    np.testing.assert_allclose(F.logsumexp(z), exact.astype(np.float32), rtol=1e-3)
