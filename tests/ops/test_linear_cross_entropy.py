"""linear_cross_entropy beside cross_entropy(linear(…)): values, gradients, options, many blocks, and its memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor
from tinygrad_sm.ops import linear_cross_entropy as home

CLASSES, WIDTH = 5, 3
CLASS_WEIGHT = np.array([1.0, 0.5, 2.0, 0.0, 3.0])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut even small inputs into blocks of three rows, and those into parts of two."""
    monkeypatch.setattr(home, "MOST_ROWS", 3)
    monkeypatch.setattr(home, "PART_BYTES", 2 * CLASSES * 8)


def apart(x: Any, weight: Any, target: Any, bias: Any = None, class_weight: Any = None, **options: Any) -> Any:
    """Return the same loss of the two functions that it is made of."""
    return F.cross_entropy(F.linear(x, weight, bias), target, weight=class_weight, **options)


def leaves_of(*shape: int, seed: int = 0, dtype: Any = np.float64, classes: int = CLASSES) -> list[Tensor]:
    """Return x (*shape), a weight and a bias, which want gradients."""
    shapes = (shape, (classes, shape[-1]), (classes,))
    return [leaf(normal(*s, seed=seed + i), dtype) for i, s in enumerate(shapes)]


@st.composite
def calls(draw: Any) -> tuple[list[Tensor], Any, dict[str, Any]]:
    shape = draw(st.lists(st.integers(0, 4), max_size=3).map(tuple))
    ignore_index = draw(st.sampled_from([-100, 0, 3, -1]))
    n = int(np.prod(shape))
    target = np.array(draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, ignore_index]), min_size=n, max_size=n)), int)
    options = {
        "class_weight": draw(st.sampled_from([None, CLASS_WEIGHT])),
        "ignore_index": ignore_index,
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
    }
    leaves = leaves_of(*shape, WIDTH, seed=draw(st.integers(0, 99)))
    return leaves if draw(st.booleans()) else leaves[:2], target.reshape(shape), options


@pytest.mark.usefixtures("small_blocks")
@given(call=calls())
def test_it_is_cross_entropy_of_linear(call: Any) -> None:
    leaves, target, options = call
    x, weight, bias = [*leaves, None][:3]
    loss, other = (f(x, weight, target, bias=bias, **options) for f in (F.linear_cross_entropy, apart))
    close(loss, other, rtol=1e-12, atol=1e-13)
    c = normal(*loss.shape)
    expected = sm.grad(other, leaves, c)
    for create_graph in (False, True):
        close(sm.grad(loss, leaves, c, create_graph=create_graph), expected, rtol=1e-10, atol=1e-12)
    close(sm.grad(loss, leaves, c), expected, rtol=1e-10, atol=1e-12)  # once more: the first pass took the residual


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 7])
@pytest.mark.usefixtures("small_blocks")
def test_every_row_has_its_turn(n: int) -> None:
    x, weight, bias = leaves_of(n, WIDTH)
    target = np.arange(n) % CLASSES
    loss = F.linear_cross_entropy(x, weight, target, bias=bias, reduction="none")
    close(loss, apart(x, weight, target, bias, reduction="none"), rtol=1e-12)
    loss.backward(np.arange(1.0, n + 1))
    assert (np.abs(x.grad.data).sum(axis=1) > 0).all()


def test_large_enough_for_several_blocks_as_they_are() -> None:
    x, weight, bias = leaves_of(2 * home.MOST_ROWS + 7, 8, classes=50)
    target = np.random.default_rng(0).integers(0, 50, len(x))
    loss, other = F.linear_cross_entropy(x, weight, target, bias=bias), apart(x, weight, target, bias)
    close(loss, other, rtol=1e-13)
    close(sm.grad(loss, (x, weight, bias)), sm.grad(other, (x, weight, bias)), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_second_derivatives(reduction: str) -> None:
    target = np.array([0, 4, -100])

    def f(*leaves: Any) -> Any:
        x, weight, bias = leaves
        return F.linear_cross_entropy(x, weight, target, bias=bias, reduction=reduction, label_smoothing=0.1)

    assert sm.gradcheck(f, leaves_of(3, WIDTH), order=2)


def test_both_names() -> None:
    assert sm.linear_cross_entropy is F.linear_cross_entropy


# -- which gradients ----------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_only_wanted_gradients_are_made(
    wanted: tuple[int, ...], reduction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(home, "_pass", lambda *args: made.append(found := actual(*args)) or found)
    leaves = leaves_of(4, WIDTH)
    args = [t if i in wanted else t.detach() for i, t in enumerate(leaves)]
    loss = F.linear_cross_entropy(*args[:2], np.arange(4), bias=args[2], reduction=reduction)
    c = np.ones(loss.shape)
    loss.backward(c)
    for i, t in enumerate(leaves):
        assert (made[-1][1][i] is not None) is (i in wanted)
        assert (t.grad is not None) is (i in wanted)
    expected = sm.grad(apart(*leaves[:2], np.arange(4), leaves[2], reduction=reduction), leaves, c)
    close([leaves[i].grad for i in wanted], [expected[i] for i in wanted], rtol=1e-12)
    if reduction == "none":  # only the backward pass knows the cotangents of the rows, and makes the logits again
        assert [gradients for _, gradients in made[:-1]] == [[None] * 3]
    else:
        assert len(made) == 1


actual = home._pass


def test_without_a_gradient_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(home, "_pass", lambda *args: made.append(found := actual(*args)) or found)
    x, weight, _ = leaves_of(4, WIDTH)
    with sm.no_grad():
        silent = F.linear_cross_entropy(x, weight, np.arange(4))
    plain = F.linear_cross_entropy(x.data, weight.data, np.arange(4))
    assert [gradients for _, gradients in made] == [[None] * 3] * 2
    assert not silent.requires_grad
    assert isinstance(plain, np.ndarray)
    close(silent, plain, rtol=0, atol=0)
    close(plain, apart(x, weight, np.arange(4)), rtol=1e-13)


def test_gradients_of_two_passes_add_and_are_not_shared() -> None:
    x, weight, bias = leaves_of(4, WIDTH)
    loss = F.linear_cross_entropy(x, weight, np.arange(4), bias=bias)
    (loss * 3.0).backward()
    once = [t.grad.data.copy() for t in (x, weight, bias)]
    (loss * 3.0).backward()
    close([t.grad for t in (x, weight, bias)], [2 * g for g in once], rtol=1e-12)


# -- values -------------------------------------------------------------------------------------


def test_rows_that_are_ignored_have_no_influence() -> None:
    x, weight, bias = leaves_of(4, WIDTH)
    x.data[2] = np.nan
    loss = F.linear_cross_entropy(x, weight, [0, 1, -100, 3], bias=bias)
    kept = leaf(x.data[[0, 1, 3]])
    other = F.linear_cross_entropy(kept, weight, [0, 1, 3], bias=bias)
    close(loss, other, rtol=1e-15)
    found, expected = sm.grad(loss, (x, weight, bias)), sm.grad(other, (kept, weight, bias))
    close(found[1:], expected[1:], rtol=1e-14)
    close(found[0], np.insert(expected[0].data, 2, 0.0, axis=0), rtol=1e-14)


@pytest.mark.parametrize("shape", [(4,), (0,), (2, 0), ()])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_nothing_to_count_is_zero(shape: tuple[int, ...], reduction: str) -> None:
    x, weight, bias = leaves_of(*shape, WIDTH)
    target = np.full(shape, -100)
    loss = F.linear_cross_entropy(x, weight, target, bias=bias, reduction=reduction)
    assert loss.item() == 0
    for t, g in zip((x, weight, bias), sm.grad(loss, (x, weight, bias)), strict=True):
        close(g, np.zeros(t.shape))


def test_logits_of_nothing_are_the_bias() -> None:
    x, weight, bias = leaf(np.zeros((2, 0))), leaf(np.zeros((CLASSES, 0))), leaf(normal(CLASSES))
    loss = F.linear_cross_entropy(x, weight, [0, 1], bias=bias)
    close(loss, apart(x, weight, [0, 1], bias), rtol=1e-14)
    loss.backward()
    assert x.grad.shape == (2, 0)


def test_large_logits() -> None:
    x, weight = leaf([[1e3], [1e3]]), leaf([[1.0], [-1.0], [1.0]])
    loss = F.linear_cross_entropy(x, weight, [0, 1], reduction="none")
    close(loss, [np.log(2), 2000 + np.log(2)], rtol=1e-14)
    loss.backward(np.ones(2))
    close(x.grad, [[0.0], [2.0]], atol=1e-12)


@pytest.mark.parametrize("pair", [("f2", "f2"), ("f4", "f4"), ("f4", "f8"), ("f2", "f4"), (">f4", "f4")])
def test_dtypes(pair: tuple[str, str]) -> None:
    rng = np.random.default_rng(0)
    x = leaf(rng.normal(size=(6, WIDTH)), np.dtype(pair[0]))
    weight, bias = (leaf(rng.normal(size=s), np.dtype(pair[1])) for s in ((CLASSES, WIDTH), CLASSES))
    target = np.arange(6) % CLASSES
    loss = F.linear_cross_entropy(x, weight, target, bias=bias)
    assert loss.dtype == np.result_type(x.data, weight.data)
    loss.backward()
    exact = [leaf(t.data) for t in (x, weight, bias)]
    other = apart(*exact[:2], target, exact[2])
    other.backward()
    eps = float(max(np.finfo(t.dtype).eps for t in (x, weight)))
    close(loss.data.astype(float), other, rtol=2 * eps)
    for t, e in zip((x, weight, bias), exact, strict=True):
        assert t.grad.dtype == t.dtype
        close(t.grad.data.astype(float), e.grad, rtol=8 * eps, atol=8 * eps)


def test_half_precision_does_not_round_the_logits() -> None:
    x, weight = leaf(np.full((1, 8), 30.0), np.float16), leaf(np.full((2, 8), 300.0), np.float16)
    loss = F.linear_cross_entropy(x, weight, [0])  # logits of 72000, beyond the largest half
    close(loss.data.astype(float), np.log(2), rtol=1e-3)


def test_float32_gradients_are_as_exact_as_of_the_two_functions() -> None:
    """The weight's gradient is a sum over blocks; that must not cost digits."""
    leaves = leaves_of(3000, 16, dtype=np.float32, classes=40)
    exact = [leaf(t.data) for t in leaves]
    target = np.random.default_rng(1).integers(0, 40, 3000)
    truth = sm.grad(apart(*exact[:2], target, exact[2]), exact)
    errors = []
    for f in (F.linear_cross_entropy, apart):
        found = sm.grad(f(*leaves[:2], target, bias=leaves[2]), leaves)
        errors.append([np.abs(g.data - t.data).max() / np.abs(t.data).max() for g, t in zip(found, truth, strict=True)])
    ours, others = np.array(errors)
    assert (ours <= 2 * others + 2e-7).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_no_bit(threads: int) -> None:
    leaves = leaves_of(300, 8, dtype=np.float32, classes=9000)
    target = np.random.default_rng(1).integers(0, 9000, 300)

    def results() -> list[bytes]:
        loss = F.linear_cross_entropy(*leaves[:2], target, bias=leaves[2], label_smoothing=0.1)
        return [t.data.tobytes() for t in (loss, *sm.grad(loss, leaves))]

    before = sm.get_num_threads()
    try:
        sm.set_num_threads(1)
        expected = results()
        sm.set_num_threads(threads)
        assert results() == expected
    finally:
        sm.set_num_threads(before)


# -- memory -------------------------------------------------------------------------------------


def peak(f: Any) -> int:
    """Return how many bytes `f` takes at most."""
    f()
    tracemalloc.start()
    try:
        f()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_memory_is_that_of_a_block(reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block, part = 1 << 20, 1 << 16
    monkeypatch.setattr(home, "LOGIT_BYTES", block)
    monkeypatch.setattr(home, "FEWEST_ROWS", 1)
    monkeypatch.setattr(home, "PART_BYTES", part)
    x, weight, _ = leaves_of(1024, 64, dtype=np.float32, classes=4000)
    weight.data *= 0.1  # else rows that one logit dominates are computed again, in float64
    target = np.arange(1024)

    def step(f: Any) -> None:
        loss = f(x, weight, target, reduction=reduction)
        loss.backward(np.ones(loss.shape, np.float32))
        x.grad = weight.grad = None

    assert peak(lambda: step(apart)) > 2 * len(x) * len(weight) * 4
    small = (6 * sm.get_num_threads() + 10) * part
    assert peak(lambda: step(F.linear_cross_entropy)) < block + x.data.nbytes + weight.data.nbytes + small


# -- PyTorch ------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"ignore_index": 1}, {"weight": CLASS_WEIGHT}])
def test_beside_pytorch(reduction: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    leaves = leaves_of(2, 7, WIDTH)
    target = np.random.default_rng(0).integers(0, CLASSES, (2, 7))
    x, weight, bias = (torch.tensor(t.data, requires_grad=True) for t in leaves)
    theirs = {k: torch.tensor(v) if k == "weight" else v for k, v in options.items()}
    logits = torch.nn.functional.linear(x, weight, bias).reshape(-1, CLASSES)
    expected = torch.nn.functional.cross_entropy(
        logits, torch.tensor(target.reshape(-1)), reduction=reduction, **theirs
    )
    ours = {"class_weight" if k == "weight" else k: v for k, v in options.items()}
    loss = F.linear_cross_entropy(*leaves[:2], target, bias=leaves[2], reduction=reduction, **ours)
    expected = expected.reshape(loss.shape)
    close(loss, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    c = normal(*loss.shape)
    expected.backward(torch.tensor(c))
    close(sm.grad(loss, leaves, c), [t.grad.numpy() for t in (x, weight, bias)], rtol=1e-10, atol=1e-13)
