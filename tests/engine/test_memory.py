"""No reference cycle: with the garbage collector off, a graph goes when its last name goes."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers import DIFFERENTIABLE, Case, graph_of, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def plain(x: Tensor) -> Tensor:
    return ((x @ x.T).tanh() * 2.0 + x.sum()).mean()


def fused(x: Tensor) -> Tensor:
    h = F.layer_norm(F.scaled_dot_product_attention(x, x, F.gelu(x), is_causal=True), x.shape[-1])
    return F.cross_entropy(h + F.softmax(x), np.arange(len(x)) % x.shape[-1], label_smoothing=0.1)


def hooked(x: Tensor) -> Tensor:
    y = x * 2
    norms: list[float] = []
    y.register_hook(lambda g: norms.append(float((g.data**2).sum())))
    y.register_hook(lambda g: g * 3)
    y.retain_grad()
    x.register_hook(lambda g: g + 1).remove()
    return (y * y).sum()


PASSES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "forward only": lambda loss, x: None,
    "backward": lambda loss, x: loss.backward(),
    "backward twice": lambda loss, x: (loss.backward(), loss.backward()),
    "grad": lambda loss, x: sm.grad(loss, x),
    "recorded grad": lambda loss, x: sm.grad(loss, x, create_graph=True),
    "second derivative": lambda loss, x: sm.grad((sm.grad(loss, x, create_graph=True)[0] ** 2).sum(), x),
}


@pytest.mark.parametrize("f", [plain, fused, hooked], ids=lambda f: f.__name__)
@pytest.mark.parametrize("run", PASSES.values(), ids=PASSES.keys())
def test_inner_tensors_die_with_the_loss(f: Any, run: Any) -> None:
    x = leaf(normal(4, 4))
    loss = f(x)
    result = run(loss, x)
    inner = [weakref.ref(t) for t in graph_of(loss) if t is not x]
    assert len(inner) > 2
    del result
    x.grad = None
    del loss
    assert [r() for r in inner if r() is not None] == []


@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_no_op_makes_a_cycle(case: Case) -> None:
    inputs, leaves = case.boxed(case.arguments())
    y = case(*inputs)
    gradients = sm.grad(y, leaves, np.ones(y.shape), create_graph=True)
    alive = [weakref.ref(t) for t in (y, *gradients)]
    del y, gradients
    assert [r() for r in alive if r() is not None] == []


@pytest.mark.parametrize("f", [plain, fused, hooked], ids=lambda f: f.__name__)
@pytest.mark.parametrize("create_graph", [False, True])
def test_memory_is_back_after_the_loss_is_gone(f: Any, create_graph: bool) -> None:
    x = leaf(normal(128, 128))

    def step() -> None:
        loss = f(x)
        sm.grad(loss, x, create_graph=create_graph)

    step()  # warms caches
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(3):
            step()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before > x.data.nbytes  # what was measured was there
    assert after - before < x.data.nbytes / 4


def test_no_grad_keeps_nothing() -> None:
    x = leaf(normal(3, 3))
    with sm.no_grad():
        y = x * 2
        inner = weakref.ref(y)
        z = y + 1
    del y
    assert inner() is None
    assert z.op is None


def test_the_backward_pass_keeps_nothing_of_the_cotangents() -> None:
    x = leaf(normal(3, 3))
    loss = plain(x)
    seen = []
    x.register_hook(lambda g: seen.append(weakref.ref(g)))
    loss.backward()
    assert seen[0]() is None
    assert isinstance(x.grad, Tensor)


def test_jvp_hessian_and_vjp_leave_nothing_behind() -> None:
    made: list[Any] = []

    def f(x: Tensor) -> Tensor:
        y = F.softmax(x * 2)
        made.append(weakref.ref(y))
        return (y * y).sum()

    a = normal(3)
    sm.hessian(f, a)
    sm.jvp(f, [a], [a])
    sm.hvp(f, a, a)
    sm.jacobian(f, a)
    sm.vjp(f, a)[1](np.ones(()))
    assert len(made) == 5
    assert [r() for r in made if r() is not None] == []
