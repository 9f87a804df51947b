"""Chains of hundreds of thousands of ops: forward, backward and deletion, with no recursion."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
from helpers import leaf

import tinygrad_sm as sm
import tinygrad_sm.functional as F

DEPTH = 300_000


@pytest.fixture
def no_garbage_collection() -> object:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_chain_of_300_000_ops() -> None:
    assert sys.getrecursionlimit() < DEPTH // 100
    x = leaf(1.0)
    y = x
    for _ in range(DEPTH):
        y = -y
    y.backward()
    assert x.grad.item() == 1.0
    del y
    y = x * 2.0
    y.backward()
    assert x.grad.item() == 3.0


def test_a_long_chain_is_differentiated_twice() -> None:
    x = leaf(1.0)
    y = x * x
    for _ in range(50_000):
        y = y * 1.0
    (g,) = sm.grad(y, x, create_graph=True)
    (h,) = sm.grad(g, x)
    assert (g.item(), h.item()) == (2.0, 2.0)


def test_a_wide_sum_of_many_leaves() -> None:
    leaves = [leaf(float(i)) for i in range(20_000)]
    total = leaves[0]
    for x in leaves[1:]:
        total = total + x * x
    total.backward()
    assert [x.grad.item() for x in leaves[1:100]] == [2.0 * i for i in range(1, 100)]


def test_one_leaf_used_many_times() -> None:
    x = leaf([1.0, 2.0])
    y = x
    for _ in range(20_000):
        y = y + x
    y.sum().backward()
    assert x.grad.tolist() == [20_001.0, 20_001.0]


def test_a_deep_chain_of_fused_ops() -> None:
    z = leaf([[0.3, -0.2]])
    y = z
    for _ in range(3_000):
        y = F.softmax(y) * 3.0
    y[0, 0].backward()
    assert y.data.sum() == pytest.approx(3.0)
    assert z.grad.data.sum() == pytest.approx(0.0, abs=1e-15)  # adding a constant to all logits changes nothing


def test_a_wide_graph_of_40_000_tensors() -> None:
    leaves = [leaf([float(i)]) for i in range(10_000)]
    parts = [x * 2.0 for x in leaves]
    parts += [p + x for p, x in zip(parts, leaves, strict=True)]
    total = sm.concatenate(parts).sum()  # one op with 20,000 arguments; tests/soak.py has a million tensors
    total.backward()
    assert {x.grad.item() for x in leaves} == {5.0}
    alive = weakref.ref(parts[0])
    del parts, total
    assert alive() is None


def depth() -> int:
    """Return how deep the stack is."""
    frame, n = sys._getframe(), 0
    while frame.f_back is not None:
        frame, n = frame.f_back, n + 1
    return n


def test_nothing_recurses() -> None:
    """Forty frames above this one are enough for a graph of any depth: made, differentiated, drawn and freed."""
    before = sys.getrecursionlimit()
    x = leaf(1.0)
    try:
        sys.setrecursionlimit(depth() + 40)
        y = x * x
        for _ in range(5_000):
            y = y * 1.0
        y.backward()
        (g,) = sm.grad(y, x, create_graph=True)
        assert sm.grad(g, x)[0].item() == 2.0
        assert len(sm.Graph(y)) == 5_002
        del y, g
    finally:
        sys.setrecursionlimit(before)
    assert x.grad.item() == 2.0
