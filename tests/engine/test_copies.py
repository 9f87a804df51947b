"""Copies and pickles: of leaves, of models with their optimisers, and of graphs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import graph_of, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor

Copy = Callable[[Any], Any]
each = pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)


def train(lm: Any, optimizer: Any, steps: int) -> list[bytes]:
    tokens = np.arange(12).reshape(2, 6) % 7
    for _ in range(steps):
        optimizer.zero_grad()
        sm.cross_entropy(lm(tokens), (tokens + 1) % 7).backward()
        optimizer.step()
    return [p.data.tobytes() for p in lm.parameters()]


@each
@pytest.mark.parametrize("kind", [sm.optim.SGD, sm.optim.Adam, sm.optim.AdamW], ids=lambda k: k.__name__)
def test_a_model_and_its_optimiser_go_on_to_the_bit(copied: Copy, kind: Any) -> None:
    lm = sm.nn.TransformerLM(7, d_model=8, n_heads=2, n_layers=1, context=6, rng=np.random.default_rng(0))
    optimizer = kind(lm.parameters(), lr=0.01)
    train(lm, optimizer, 2)
    before = [p.data.tobytes() for p in lm.parameters()]
    other, its_optimizer = copied((lm, optimizer))  # together, so that the optimiser moves the copy's parameters
    assert all(a is b for a, b in zip(other.parameters(), its_optimizer.param_groups[0]["params"], strict=True))
    theirs = train(other, its_optimizer, 2)
    assert [p.data.tobytes() for p in lm.parameters()] == before
    assert train(lm, optimizer, 2) == theirs != before


@each
def test_a_loss_takes_its_graph_along(copied: Copy) -> None:
    w = leaf(normal(3, 3))
    loss = F.cross_entropy(F.layer_norm(np.tanh(w @ w), 3) * F.softmax(w), [0, 1, 2])
    expected = sm.grad(loss, w)[0].data
    loss.backward()
    w.grad = None
    other, v = copied((loss, w))
    assert not {id(t) for t in graph_of(loss)} & {id(t) for t in graph_of(other)}
    other.backward()
    assert w.grad is None
    assert np.array_equal(v.grad.data, expected)
    (again,) = sm.grad(other, v, create_graph=True)  # the copies of arguments and of what the ops saw still agree
    np.testing.assert_allclose(again.data, expected, rtol=1e-12, atol=1e-14)
    (other * v.sum()).backward()  # what is made of a copy is newer than it


@each
def test_a_leaf_takes_its_gradient_along(copied: Copy) -> None:
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    y = copied(x)
    (y * 3.0).sum().backward()
    assert (x.grad.tolist(), y.grad.tolist()) == ([2.0, 4.0], [5.0, 7.0])


@each
def test_a_recorded_gradient_can_be_differentiated_in_the_copy(copied: Copy) -> None:
    """The gradient's history leads back to the leaf that holds it: a circle, and still it has an order."""
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    y = copied(x)
    assert sm.grad(y.grad, y)[0].item() == 12.0


@each
def test_a_long_graph_cannot_be_copied_and_stays_whole(copied: Copy) -> None:
    """Python's copying recurses through the arguments. Models are leaves, so they can be copied however deep."""
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y * 1.0
    with pytest.raises(RecursionError):
        copied(y)
    y.backward()
    assert x.grad.item() == 1.0


def test_a_shallow_copy_shares_what_was_there() -> None:
    x = leaf([1.0, 2.0])
    y = copy.copy(x)
    assert y.data is x.data
    (y * 2.0).sum().backward()
    assert x.grad is None
    assert y.grad.tolist() == [2.0, 2.0]


def test_a_hook_that_cannot_be_pickled_says_so() -> None:
    x = leaf(1.0)
    x.register_hook(lambda g: g * 2.0)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(x)
    y = copy.deepcopy(x)
    (y * 3.0).backward()
    assert y.grad.item() == 6.0


def test_a_copied_tensor_has_a_place_of_its_own_in_the_order() -> None:
    x = leaf(1.0)
    y = copy.deepcopy(x)
    z = y * 2.0 + x
    assert max(x.order, y.order) < z.order
    assert isinstance(y, Tensor)
