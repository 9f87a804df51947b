"""Chains of hundreds of thousands of ops: forward, backward and deletion, with no recursion."""

from __future__ import annotations

import gc
import sys

import pytest
from helpers import leaf

import tinygrad_sm as sm

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
    for _ in range(20_000):
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
