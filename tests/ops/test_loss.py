"""Losses: every option against loops, PyTorch's meaning of each, and the numbers that break naive forms."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers import close, differences, leaf, normal
from hypothesis import given
from hypothesis import strategies as st
from references import REFERENCES

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor
from tinygrad_sm.ops import blocked

WEIGHT = np.array([1.0, 0.5, 2.0, 0.0, 3.0])
REDUCTIONS = ["mean", "sum", "none"]


@st.composite
def index_calls(draw: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Draw logits of any layout, class indices, and options."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    ignore_index = draw(st.sampled_from([-100, 0, 3, -1]))
    classes = [0, 1, 2, 3, 4, ignore_index]
    n = int(np.prod(shape))
    target = np.array(draw(st.lists(st.sampled_from(classes), min_size=n, max_size=n)), int).reshape(shape)
    options = {
        "weight": draw(st.sampled_from([None, WEIGHT])),
        "ignore_index": ignore_index,
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "reduction": draw(st.sampled_from(REDUCTIONS)),
    }
    return normal(*shape, 5, seed=draw(st.integers(0, 99))), target, options


@given(call=index_calls(), data=st.data())
def test_cross_entropy_of_indices(call: Any, data: Any) -> None:
    z, target, options = call
    axis = data.draw(st.integers(-z.ndim, z.ndim - 1))
    x = leaf(np.moveaxis(z, -1, axis))
    loss = F.cross_entropy(x, target, axis=axis, **options)
    close(loss, REFERENCES["cross_entropy"](z, target, **options), rtol=1e-12, atol=1e-13)
    c = normal(*loss.shape)
    log_probs = F.log_softmax(x, axis)
    options.pop("label_smoothing")
    raw, recorded = (sm.grad(loss, x, c, create_graph=on)[0] for on in (False, True))
    close(raw, recorded, rtol=1e-11, atol=1e-13)
    nll = F.nll_loss(log_probs, target, axis=axis, **options)
    close(nll, REFERENCES["nll_loss"](np.moveaxis(log_probs.data, axis, -1), target, **options), rtol=1e-12)


@given(call=index_calls())
def test_cross_entropy_gradient_is_p_minus_y(call: Any) -> None:
    z, target, options = call
    options["reduction"] = "sum"
    smoothing, ignore = options["label_smoothing"], options["ignore_index"]
    weight = np.ones(5) if options["weight"] is None else options["weight"]
    x = leaf(z)
    (g,) = sm.grad(F.cross_entropy(x, target, **options), x)
    p = F.softmax(z)
    for n in np.ndindex(*target.shape):
        if target[n] == ignore:
            expected = np.zeros(5)
        else:
            y = (1 - smoothing) * (np.arange(5) == target[n]) * weight[target[n]] + smoothing / 5 * weight
            expected = y.sum() * p[n] - y
        close(g.data[n], expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("axis", [-1, 1])
def test_cross_entropy_of_probabilities(reduction: str, weight: Any, smoothing: float, axis: int) -> None:
    z = normal(3, 5, 2) if axis == 1 else normal(3, 2, 5)
    q = np.random.default_rng(1).dirichlet(np.ones(5), (3, 2))
    q[0, 0] = np.eye(5)[2]
    target = np.moveaxis(q, -1, axis)
    options = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}
    x, t = leaf(z), leaf(target)
    loss = F.cross_entropy(x, target, axis=axis, **options)
    expected = REFERENCES["soft_cross_entropy"](np.moveaxis(z, axis, -1), q, **options)
    close(loss, expected, rtol=1e-12)
    learned = F.cross_entropy(x, t, axis=axis, **options)  # a target that wants a gradient takes the composed form
    close(learned, expected, rtol=1e-12)
    c = normal(*loss.shape, seed=2)
    (g,) = sm.grad(loss, x, c)
    gx, gt = sm.grad(learned, [x, t], c)
    close(g, gx, rtol=1e-11, atol=1e-14)
    close(sm.grad(loss, x, c, create_graph=True)[0], gx, rtol=1e-11, atol=1e-14)

    def numeric(values: Any) -> float:
        return float((F.cross_entropy(z, values, axis=axis, **options) * c).sum())

    close(gt, differences(numeric, [target], [0])[0], rtol=1e-5, atol=1e-7)


def test_one_hot_targets_are_indices() -> None:
    z, y = normal(4, 5), np.array([0, 4, 2, 2])
    for smoothing in (0.0, 0.3):
        a = F.cross_entropy(z, y, label_smoothing=smoothing)
        b = F.cross_entropy(z, np.eye(5)[y], label_smoothing=smoothing)
        close(a, b, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_extreme_logits(dtype: Any, smoothing: float) -> None:
    x = Tensor(np.array([[1e4, -1e4, 0.0], [-1000, -1000, -1000], [1000, 1000, 1000]], dtype), requires_grad=True)
    loss = F.cross_entropy(x, [0, 1, 2], label_smoothing=smoothing, reduction="none")
    third = np.log(3.0)
    smooth = (0 + 2e4 + 1e4) / 3
    close(loss, np.array([smoothing * smooth, third, third], dtype), rtol=4 * np.finfo(dtype).eps)
    (g,) = sm.grad(loss, x, np.ones(3, dtype))
    assert np.isfinite(g.data).all()
    assert g.dtype == dtype


def test_a_class_that_cannot_be_has_the_logit_minus_infinity() -> None:
    x = leaf([[0.0, -np.inf, 1.0]])
    loss = F.cross_entropy(x, [2])
    close(loss, np.log1p(np.exp(-1.0)))
    for create_graph in (False, True):
        (g,) = sm.grad(loss, x, create_graph=create_graph)
        close(g, [[1 / (1 + np.e), 0.0, -1 / (1 + np.e)]])
    assert F.cross_entropy(x, [1]).item() == np.inf
    # Where the row is ignored, or the class has weight 0, nothing of it may come through.
    ignored = F.cross_entropy(x, [-100], label_smoothing=0.1, reduction="sum")
    assert ignored.item() == 0.0
    assert sm.grad(ignored, x)[0].tolist() == [[0, 0, 0]]
    weighted = F.cross_entropy(x, [2], label_smoothing=0.1, weight=[1.0, 0.0, 1.0])
    assert np.isfinite(weighted.item())
    raw, recorded = (sm.grad(weighted, x, create_graph=on)[0] for on in (False, True))
    assert np.isfinite(raw.data).all()
    close(raw, recorded, rtol=1e-12)
    probabilities = F.cross_entropy(x, np.array([[0.5, 0.0, 0.5]]))
    assert np.isfinite(probabilities.item())


def test_tiny_losses_keep_their_digits() -> None:
    x = leaf([[40.0, 0.0]])
    loss = F.cross_entropy(x, [0])
    close(loss, np.exp(-40.0), rtol=1e-14, atol=0)
    for create_graph in (False, True):
        (g,) = sm.grad(loss, x, create_graph=create_graph)
        close(g.data[0, 1], np.exp(-40.0), rtol=1e-12, atol=0)
    close(sm.grad(loss, x)[0], [[-np.exp(-40.0), np.exp(-40.0)]], rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", [{}, {"weight": WEIGHT}, {"label_smoothing": 0.1}], ids=str)
def test_all_ignored_is_zero_with_zero_gradient(options: Any) -> None:
    x = leaf(normal(3, 5))
    for f in (F.cross_entropy, F.nll_loss):
        if f is F.nll_loss and "label_smoothing" in options:
            continue
        for reduction in ("mean", "sum"):
            loss = f(x, [-100, -100, -100], reduction=reduction, **options)
            assert loss.item() == 0.0
            for create_graph in (False, True):
                assert not sm.grad(loss, x, create_graph=create_graph)[0].data.any()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_blocks_of_rows_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z, y, q = normal(7, 5), np.array([0, 1, -100, 3, 4, 0, 1]), np.random.default_rng(0).dirichlet(np.ones(5), 7)

    def everything() -> list[Any]:
        results = []
        for target, weight, smoothing, reduction in product((y, q), (None, WEIGHT), (0.0, 0.1), REDUCTIONS):
            x = leaf(z)
            loss = F.cross_entropy(x, target, weight=weight, label_smoothing=smoothing, reduction=reduction)
            results += [loss.data, sm.grad(loss, x, np.ones(loss.shape))[0].data]
        return results

    whole = everything()
    monkeypatch.setattr(blocked, "BLOCK_BYTES", rows * 5 * 8)
    close(everything(), whole, rtol=1e-15, atol=1e-16)


def test_logits_and_targets_that_depend_on_each_other() -> None:
    # L = −Σ p·log p with p = softmax(z): the gradient flows through both arguments.
    z = leaf(normal(3, 4))
    p = F.softmax(z)
    loss = F.cross_entropy(z, p, reduction="sum")
    entropy = -(p * F.log_softmax(z)).sum()
    close(loss, entropy, rtol=1e-13)
    for create_graph in (False, True):
        close(sm.grad(loss, z, create_graph=create_graph), sm.grad(entropy, z), rtol=1e-10)
        # the partial derivative for the logits alone, with p held fixed, is p − p = 0
        to_logits, to_target = sm.grad(F.cross_entropy(q := leaf(z.data), r := leaf(p.data), reduction="sum"), [q, r],
                                       create_graph=create_graph)  # fmt: skip
        close(to_logits, np.zeros((3, 4)), atol=1e-15)
        close(to_target, -F.log_softmax(z.data), rtol=1e-12)
    hessian = sm.hessian(lambda x: F.cross_entropy(x, F.softmax(x), reduction="sum"), z.data[0])
    composed = sm.hessian(lambda x: -(F.softmax(x) * F.log_softmax(x)).sum(), z.data[0])
    close(hessian, composed, rtol=1e-9, atol=1e-12)


def test_a_detached_softmax_as_target_stays_constant() -> None:
    z = leaf(normal(3, 4))
    loss = F.cross_entropy(z, F.softmax(z).detach(), reduction="sum")
    for create_graph in (False, True):
        close(sm.grad(loss, z, create_graph=create_graph), [np.zeros((3, 4))], atol=1e-15)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_of_differences(name: str, reduction: str) -> None:
    a, b = leaf(normal(3, 4)), leaf(normal(3, 4, seed=1))
    loss = getattr(F, name)(a, b, reduction=reduction)
    d = a.data - b.data
    losses, slopes = (d * d, 2 * d) if name == "mse_loss" else (np.abs(d), np.sign(d))
    expected = {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]
    close(loss, expected, rtol=1e-13)
    share = slopes / (12 if reduction == "mean" else 1)
    close(sm.grad(loss, [a, b], np.ones(loss.shape)), [share, -share], rtol=1e-13)


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
def test_kl_divergence(reduction: str, log_target: bool) -> None:
    q = np.random.default_rng(0).dirichlet(np.ones(4), 3)
    x, t = leaf(normal(3, 4)), leaf(np.log(q) if log_target else q)
    log_p = F.log_softmax(x)
    loss = F.kl_div(log_p, t, reduction=reduction, log_target=log_target)
    losses = q * (np.log(q) - log_p.data)
    expected = {"mean": losses.mean(), "sum": losses.sum(), "none": losses, "batchmean": losses.sum() / 3}[reduction]
    close(loss, expected, rtol=1e-12)
    c = normal(*loss.shape)
    numeric = differences(
        lambda a, b: float((F.kl_div(F.log_softmax(a), b, reduction=reduction, log_target=log_target) * c).sum()),
        [x.data, t.data], [0, 1],
    )  # fmt: skip
    close(sm.grad(loss, [x, t], c), numeric, rtol=1e-5, atol=1e-7)


def test_kl_divergence_of_one_row_and_of_none() -> None:
    log_p, q = np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]])
    assert F.kl_div(log_p, q, reduction="batchmean") == pytest.approx(np.log(2))
    assert F.kl_div(log_p[:0], q[:0], reduction="batchmean") == 0


def test_kl_divergence_of_log_zeros() -> None:
    log_p, log_q = leaf([[0.0, -np.inf]]), leaf([[0.0, -np.inf]])
    loss = F.kl_div(log_p, log_q, reduction="sum", log_target=True)
    loss.backward()
    assert (loss.item(), log_p.grad.tolist()) == (0.0, [[-1.0, 0.0]])
    assert np.isfinite(log_q.grad.data).all()


def test_kl_divergence_of_zeros() -> None:
    log_p = leaf(np.log([[0.5, 0.5], [1.0, 1e-300]]))
    loss = F.kl_div(log_p, np.array([[1.0, 0.0], [1.0, 0.0]]), reduction="none")
    close(loss, [[np.log(2), 0], [0, 0]])
    assert F.kl_div(Tensor([[0.0, -np.inf]]), Tensor([[1.0, 0.0]]), reduction="sum").item() == 0.0
    close(sm.grad(loss, log_p, np.ones((2, 2))), [np.array([[-1.0, 0.0], [-1.0, 0.0]])])


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "kl_div", "nll_loss"])
def test_means_in_half_precision_do_not_overflow(name: str) -> None:
    n = 3000  # the sum of 3000 losses of about 40 is beyond float16
    if name == "nll_loss":
        loss = F.nll_loss(Tensor(np.full((n, 2), -40.0, np.float16)), np.zeros(n, int))
    elif name == "kl_div":
        loss = F.kl_div(Tensor(np.full((n, 1), -40.0, np.float16)), Tensor(np.ones((n, 1), np.float16)))
    else:
        root = 40.0**0.5 if name == "mse_loss" else 40.0
        loss = getattr(F, name)(Tensor(np.full(n, root, np.float16)), Tensor(np.zeros(n, np.float16)))
    assert loss.dtype == np.float16
    assert loss.item() == pytest.approx(40, rel=2e-3)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_no_rows_give_zero(name: str) -> None:
    x = leaf(np.zeros((0, 5)))
    for reduction in ("mean", "sum"):
        loss = getattr(F, name)(x, np.zeros(0, int), reduction=reduction)
        assert loss.item() == 0.0
        assert sm.grad(loss, x)[0].shape == (0, 5)


def test_targets_come_as_lists_tensors_and_any_integers() -> None:
    z = Tensor(normal(2, 3))
    expected = F.cross_entropy(z, np.array([2, 0])).item()
    for target in ([2, 0], (2, 0), Tensor([2, 0]), np.array([2, 0], np.uint8), np.array([2, 0], np.int32)):
        assert F.cross_entropy(z, target).item() == expected
    assert F.cross_entropy(Tensor(normal(3)), 1).shape == ()
    assert F.cross_entropy([[1.0, 2.0]], [0]) == pytest.approx(np.log1p(np.e))


@pytest.mark.parametrize("offset", [0.0, 16.0, 60.0])
def test_tiny_weights_keep_their_digits_whatever_the_maximum(offset: float) -> None:
    z, y = (normal(4, 100) + offset).astype(np.float32), [0, 1, 2, 3]
    tiny, one = (
        sm.grad(F.cross_entropy(x, y, weight=np.full(100, w), reduction="sum"), x)[0].data
        for w in (1e-25, 1.0)
        for x in [Tensor(z, requires_grad=True)]
    )
    np.testing.assert_allclose(tiny, one * 1e-25, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2048, 100), (64, 10), (600, 40)])
@pytest.mark.parametrize("soft", [False, True])
def test_loss_scaling_keeps_the_digits_of_half_precision(shape: tuple[int, int], soft: bool) -> None:
    z = normal(*shape).astype(np.float16)
    y: Any = np.arange(shape[0]) % shape[1]
    y = np.eye(shape[1], dtype=np.float16)[y] if soft else y
    half, double = (Tensor(a, requires_grad=True) for a in (z, z.astype(np.float64)))
    (F.cross_entropy(half, y) * 1024.0).backward()
    (F.cross_entropy(double, y) * 1024.0).backward()
    np.testing.assert_allclose(half.grad.data, double.grad.data, rtol=1e-3, atol=1e-7)


def test_a_loss_too_large_for_its_dtype_is_inf_without_a_word() -> None:
    assert F.cross_entropy(np.array([[0, 60000]] * 2, np.float16), [0, 0], reduction="sum") == np.inf
    assert F.cross_entropy(np.array([[0, 3e38]] * 2, np.float32), [0, 0], reduction="sum") == np.inf


@pytest.mark.parametrize("rest", [1e-3, 1e-7, 1e-9, 1e-12, 1e-30])
def test_few_short_rows_that_one_logit_dominates(rest: float) -> None:
    z = np.zeros((3, 5), np.float32)
    z[0, 1] = np.float32(-np.log(rest))
    single, double = (Tensor(a, requires_grad=True) for a in (z, z.astype(np.longdouble)))
    losses = [F.cross_entropy(t, [1, 2, 3], reduction="none") for t in (single, double)]
    for loss in losses:
        loss.sum().backward()
    np.testing.assert_allclose(losses[0].data, losses[1].data.astype(float), rtol=3e-7)
    np.testing.assert_allclose(single.grad.data, double.grad.data.astype(float), rtol=3e-7)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.uint64])
def test_the_range_of_classes_is_checked_in_every_integer_type(dtype: Any) -> None:
    z = normal(2, 5)
    assert F.cross_entropy(z, np.array([0, 4], dtype)).shape == ()
    with pytest.raises(IndexError, match=r"class 5 at position \(1,\) is not in 0 … 4"):
        F.cross_entropy(z, np.array([0, 5], dtype))
    if np.iinfo(dtype).min:
        with pytest.raises(IndexError, match="class -1 at position"):
            F.cross_entropy(z, np.array([0, -1], dtype))
