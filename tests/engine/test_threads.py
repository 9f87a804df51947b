"""Threads and tasks: each has its own recording state, and all may use one graph at once."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor

THREADS = 8


def at_once(f: Callable[[int], Any]) -> list[Any]:
    """Run f(0) … f(7) in threads that start together."""
    barrier = threading.Barrier(THREADS)

    def run(i: int) -> Any:
        barrier.wait()
        return f(i)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def test_no_grad_in_one_thread_is_not_seen_in_another() -> None:
    x, inside, done = leaf([1.0]), threading.Event(), threading.Event()
    seen: list[bool] = []

    def silent() -> None:
        with sm.no_grad():
            inside.set()
            done.wait(10)
            seen.append((x * 2).requires_grad)

    thread = threading.Thread(target=silent)
    thread.start()
    inside.wait(10)
    recorded = (x * 2).requires_grad
    done.set()
    thread.join()
    assert (recorded, seen) == (True, [False])


def test_a_copied_context_takes_the_state_along() -> None:
    x = leaf([1.0])
    with sm.no_grad():
        context = copy_context()
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(context.run, lambda: (x * 2).requires_grad).result()
    assert (x * 2).requires_grad


def test_tasks_have_their_own_state() -> None:
    x = leaf([1.0])

    async def silent() -> bool:
        with sm.no_grad():
            await asyncio.sleep(0)
            return (x * 2).requires_grad

    async def loud() -> bool:
        await asyncio.sleep(0)
        return (x * 2).requires_grad

    async def both() -> list[bool]:
        return list(await asyncio.gather(silent(), loud(), silent(), loud()))

    assert asyncio.run(both()) == [False, True, False, True]


def model() -> tuple[list[Tensor], Tensor]:
    """Return leaves, and a loss through plain and fused ops, which leave residuals to one pass only."""
    w, x = leaf(normal(6, 6)), leaf(normal(5, 6, seed=1))
    h = F.gelu(F.layer_norm(x @ w, 6))
    h = F.scaled_dot_product_attention(h, h, h, is_causal=True)
    return [w, x], F.cross_entropy(h * 3.0 + F.softmax(h) * F.rms_norm(h, 6), [0, 1, 2, 3, 4], label_smoothing=0.1)


@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_threads_differentiate_one_graph_at_once(create_graph: bool) -> None:
    leaves, loss = model()
    expected = [g.data for g in sm.grad(*reversed(model()))]
    for _ in range(10):
        leaves, loss = model()
        for gradients in at_once(lambda i: sm.grad(loss, leaves, create_graph=create_graph)):  # noqa: B023
            for g, x, e in zip(gradients, leaves, expected, strict=True):
                close(g, e, rtol=1e-11)
                assert g.shape == x.shape


def test_threads_add_up_in_shared_leaves() -> None:
    expected = [g.data for g in sm.grad(*reversed(model()))]
    for _ in range(10):
        leaves, loss = model()
        at_once(lambda i: loss.backward())  # noqa: B023
        for x, e in zip(leaves, expected, strict=True):
            close(x.grad, THREADS * e, rtol=1e-11)


def test_threads_build_graphs_on_shared_leaves() -> None:
    w = leaf(normal(6, 6))
    inputs = [normal(5, 6, seed=i) for i in range(THREADS)]

    def loss(i: int) -> Tensor:
        return F.cross_entropy(F.gelu(inputs[i] @ w), np.arange(5))

    at_once(lambda i: [loss(i).backward() for _ in range(20)])
    expected = sum(sm.grad(loss(i), w)[0].data for i in range(THREADS))
    close(w.grad, 20 * expected, rtol=1e-9)


def train(seed: int) -> list[bytes]:
    """Train a model of one's own for a few steps; return the bits of its weights and gradients."""
    lm = sm.nn.TransformerLM(7, d_model=8, n_heads=2, n_layers=1, context=6, rng=np.random.default_rng(seed))
    optimizer = sm.optim.AdamW(lm.parameters(), lr=0.01)
    tokens = np.random.default_rng(seed).integers(0, 7, (4, 7))
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(lm(tokens[:, :-1]), tokens[:, 1:]).backward()
        optimizer.step()
    return [a.tobytes() for p in lm.parameters() for a in (p.data, p.grad.data)]


@pytest.fixture
def _many_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # as many chances for threads to get in each other's way as there can be
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_many_switches")
def test_each_thread_trains_its_own_model_as_if_alone() -> None:
    assert at_once(train) == [train(i) for i in range(THREADS)]  # to the bit


@pytest.mark.usefixtures("_many_switches")
def test_threads_train_one_model_and_lose_no_gradient() -> None:
    """Whole numbers add up exactly in any order, so that one lost or doubled share would show."""
    w, b = leaf(np.arange(12.0).reshape(4, 3) - 5), leaf([1.0, -2.0, 3.0])
    batches = [np.round(normal(5, 4, seed=i) * 4) for i in range(THREADS)]

    def loss(i: int) -> Tensor:
        return (F.relu(batches[i] @ w + b) * np.arange(3.0)).sum()

    at_once(lambda i: [loss(i).backward() for _ in range(25)])
    found = [w.grad.data, b.grad.data]
    w.grad = b.grad = None
    for i in range(THREADS):
        loss(i).backward()
    assert [a.tolist() for a in found] == [(25 * x.grad.data).tolist() for x in (w, b)]
    assert w.grad.data.any()


def test_an_error_in_one_thread_does_not_disturb_the_others() -> None:
    w = leaf(np.ones(3))

    def fail(g: Tensor) -> None:
        raise ZeroDivisionError

    def use(i: int) -> bool:
        y = w * 2.0
        if i % 2:
            y.register_hook(fail)
        try:
            for _ in range(20):
                y.sum().backward()
        except ZeroDivisionError:
            return False
        return True

    assert at_once(use) == [True, False] * (THREADS // 2)
    assert w.grad.tolist() == [2.0 * 20 * THREADS / 2] * 3


class Slow(np.ndarray):
    """An array whose sum takes long enough for other threads to come in between."""

    def __add__(self, other: Any) -> Any:
        total = np.asarray(self) + other
        time.sleep(0.05)
        return total


def test_no_thread_comes_between_reading_and_storing_a_gradient() -> None:
    w = leaf(np.zeros(3))
    w.grad = Tensor(np.zeros(3))
    w.grad.data = np.zeros(3).view(Slow)
    at_once(lambda i: (w * 2.0).sum().backward())
    assert w.grad.tolist() == [2.0 * THREADS] * 3
