"""What losses accept: any integers, lists, nothing at all, and probabilities that are none."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor
from tinygrad_sm.ops.loss import check_probabilities

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
OPTIONS: list[dict[str, Any]] = [
    {"weight": weight, "reduction": reduction, "label_smoothing": smoothing}
    for weight, reduction, smoothing in product([None, np.array([1.0, 0.5, 0.0])], ["mean", "sum", "none"], [0.0, 0.1])
]


def losses(options: dict[str, Any]) -> list[Any]:
    """Return the losses of class indices that take these options."""
    plain = {name: value for name, value in options.items() if name != "label_smoothing"}
    found = [lambda z, y, **more: F.cross_entropy(z, y, **options, **more)]
    if not options["label_smoothing"]:
        found.append(lambda z, y, **more: F.nll_loss(z, y, **plain, **more))
    return found


@pytest.mark.parametrize("dtype", INTEGERS)
def test_class_indices_of_any_integers(dtype: str) -> None:
    y = np.array([2, 0, 1, 2])
    largest = min(int(np.iinfo(dtype).max), 2**63 - 1)
    for options in OPTIONS:
        for loss in losses(options):
            x = leaf(normal(4, 3))
            expected, actual = loss(x, y), loss(x, y.astype(dtype))
            close(actual, expected, rtol=0, atol=0)
            c = np.ones(expected.shape)
            close(sm.grad(actual, x, c)[0], sm.grad(expected, x, c)[0], rtol=0, atol=0)
            ignored = np.array([2, largest, 1, largest], dtype)
            actual = loss(x, ignored, ignore_index=largest)
            close(actual, loss(x, [2, -100, 1, -100]), rtol=0, atol=0)


def test_lists_arrays_and_tensors_are_taken_alike() -> None:
    z, y, w = normal(2, 3, dtype=np.float32), np.array([2, 0]), np.array([1.0, 2.0, 0.5], np.float32)
    q = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], np.float32)
    pairs = [(F.cross_entropy, y, {"weight": w}), (F.cross_entropy, q, {"weight": w}), (F.nll_loss, y, {"weight": w}),
             (F.kl_div, q, {}), (F.mse_loss, q, {}), (F.l1_loss, q, {})]  # fmt: skip
    for f, target, options in pairs:
        expected = f(z, target, **options)
        for kind in (Tensor, lambda a: a.tolist(), lambda a: tuple(a.tolist())):
            other = {name: kind(value) for name, value in options.items()}
            close(f(kind(z), kind(target), **other), expected, rtol=1e-6)
            close(f(Tensor(z), kind(target), **other), expected, rtol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("y", [[-100] * 4, []], ids=["all ignored", "no rows"])
def test_nothing_to_count_is_zero_with_zero_gradient(options: dict[str, Any], y: list[int]) -> None:
    for loss in losses(options):
        x = leaf(normal(len(y), 3))
        out = loss(x, y)
        assert out.shape == (() if options["reduction"] != "none" else (len(y),))
        assert not out.data.any()
        for create_graph in (False, True):
            (g,) = sm.grad(out, x, np.ones(out.shape), create_graph=create_graph)
            assert g.shape == x.shape
            assert not g.data.any()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_rows_of_probabilities_are_zero(options: dict[str, Any]) -> None:
    x, q = leaf(np.zeros((0, 3))), leaf(np.zeros((0, 3)))
    for target in (q.data, q):
        out = F.cross_entropy(x, target, **options)
        assert not out.data.any()
        assert sm.grad(out, x, np.ones(out.shape))[0].shape == (0, 3)


@pytest.mark.parametrize("f", [F.mse_loss, F.l1_loss, F.kl_div])
def test_no_numbers_are_zero(f: Any) -> None:
    x = leaf(np.zeros((0, 3)))
    for reduction in ("mean", "sum"):
        out = f(x, np.zeros((0, 3)), reduction=reduction)
        assert out.item() == 0
        assert sm.grad(out, x)[0].shape == (0, 3)


def test_a_row_without_a_batch_takes_one_number() -> None:
    z = normal(3)
    for y in (2, np.int8(2), np.array(2), Tensor(2)):
        close(F.cross_entropy(z, y), F.cross_entropy(z[None], [2]))
        close(F.nll_loss(z, y), -z[2])
    close(F.cross_entropy(z, [0.0, 0.0, 1.0]), F.cross_entropy(z, 2))


def test_probabilities_take_the_default_ignore_index_said_aloud() -> None:
    z, q = normal(2, 3), np.full((2, 3), 1 / 3)
    close(F.cross_entropy(z, q, ignore_index=-100), F.cross_entropy(z, q))


@pytest.mark.parametrize("learned", [False, True])
def test_probabilities_that_are_none_follow_the_formula(learned: bool) -> None:
    z = normal(2, 3)
    q = np.array([[2.0, -0.5, 0.25], [0.0, 0.0, 0.0]])
    x = leaf(z)
    loss = F.cross_entropy(x, leaf(q) if learned else q, reduction="none")
    close(loss, -(q * F.log_softmax(z)).sum(axis=1), rtol=1e-12)
    close(sm.grad(loss, x, np.ones(2))[0], q.sum(axis=1, keepdims=True) * F.softmax(z) - q, rtol=1e-12, atol=1e-15)


def test_the_loss_has_the_dtype_of_the_logits() -> None:
    z, q = leaf(normal(2, 3), np.float32), leaf(np.full((2, 3), 1 / 3))
    for target in (q, q.data):
        assert F.cross_entropy(z, target).dtype == np.float32
    assert sm.grad(F.cross_entropy(z, q), q)[0].dtype == np.float64


@pytest.mark.parametrize("log_target", [False, True])
def test_kl_div_of_what_is_not_normalized(log_target: bool) -> None:
    log_p = leaf(F.log_softmax(normal(2, 3)))
    q = np.array([[2.0, 1.0, 0.5], [0.1, 0.2, 0.1]])
    loss = F.kl_div(log_p, np.log(q) if log_target else q, log_target=log_target, reduction="none").sum(axis=1)
    total = q.sum(axis=1)
    true = F.kl_div(log_p.data, q / total[:, None], reduction="none").sum(axis=1)
    close(loss, total * (true + np.log(total)), rtol=1e-12)
    close(sm.grad(loss, log_p, np.ones(2))[0], -q, rtol=1e-12)
    assert F.kl_div(log_p, q / 100, reduction="sum").item() < 0


def test_kl_div_of_a_negative_number_is_nan() -> None:
    with np.errstate(invalid="ignore"):
        out = F.kl_div(np.log([0.5, 0.5]), np.array([-0.5, 1.5]), reduction="none")
    assert np.isnan(out).tolist() == [True, False]


@pytest.mark.parametrize("f", [F.mse_loss, F.l1_loss, F.kl_div])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64"])
def test_integers_beside_floats_take_their_dtype(f: Any, dtype: str) -> None:
    x, y = leaf([-0.5, -2.0], np.float32), np.array([1, 0], dtype)
    out = f(x, y)
    assert out.dtype == np.float32
    close(out, f(x, y.astype(np.float32)))
    if f is not F.kl_div:
        close(f(y, x), out)


# -- check_probabilities ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("classes", [2, 1000, 100_000])
def test_rounded_probabilities_pass(dtype: Any, classes: int) -> None:
    z = normal(3, classes)
    q = F.softmax(z.astype(dtype))
    hard = np.eye(classes, dtype=dtype)[:3] if classes < 10_000 else q
    smoothed = (0.9 * hard + 0.1 / classes).astype(dtype)
    for target in (q, hard, smoothed, F.softmax(z).astype(np.float32).astype(np.float64), Tensor(q), q[0]):
        check_probabilities(target, "f")
    with pytest.raises(ValueError, match=r"row \(1,\) sum to 1\.0"):
        check_probabilities((q * np.array([[1], [1.02], [1]])).astype(dtype), "f")


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)], ids=str)
def test_no_probabilities_pass(shape: tuple[int, ...]) -> None:
    check_probabilities(np.zeros(shape), "f")
