"""Pass after pass, with the collector off: memory stays flat, and nothing waits for a collector."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from helpers import leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Op, Tensor
from tinygrad_sm.op import REGISTRY

TARGET = np.array([0, 2, 1, 0])
SIZE = 32  # arrays of SIZE × SIZE take more than Python's own caches do


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    REGISTRY.pop("failing", None)


def loss_of(w: Tensor) -> Tensor:
    h = F.layer_norm(np.tanh(normal(4, SIZE) @ w), SIZE)
    return F.cross_entropy(F.scaled_dot_product_attention(h, h, h, is_causal=True) + h, TARGET)


def _raise(*args: Any) -> Any:
    raise ZeroDivisionError


def hooked(w: Tensor) -> None:
    y = w * 2.0
    norms: list[Tensor] = []
    y.register_hook(norms.append)
    handle = w.register_hook(lambda g: g * 0.5)
    loss_of(y).backward()
    handle.remove()


def failing(w: Tensor) -> None:
    failing_op = Op(np.copy, (_raise,), name="failing")
    with suppress(ZeroDivisionError):
        loss_of(failing_op(w) * 2.0).backward()


def refused(w: Tensor) -> None:
    """Make calls that raise errors of the engine itself."""
    for call in (lambda: w @ normal(5, 5), lambda: (w * 2).backward(), lambda: sm.grad(w.sum(), leaf(1.0)),
                 lambda: sm.grad(w.sum(), w, [1.0, 2.0])):  # fmt: skip
        with suppress(ValueError):
            call()


def differences(w: Tensor) -> None:
    """Do what a check of gradients does: many forward passes on moved values, beside an analytic gradient."""
    (g,) = sm.grad(loss_of(w), w)
    for i in np.ndindex(2, 2):
        moved = w.data.copy()
        moved[i] += 1e-6
        with sm.no_grad():
            (loss_of(Tensor(moved)) - loss_of(w)).item() / 1e-6 - float(g.data[i])


def trained(w: Tensor) -> None:
    optimizer = sm.optim.AdamW([w], lr=1e-3)
    loss_of(w).backward()
    sm.optim.clip_grad_norm_([w], 0.1)
    optimizer.step()
    optimizer.zero_grad()


def second(w: Tensor) -> None:
    (g,) = sm.grad(loss_of(w), w, create_graph=True)
    (g * g).sum().backward()


def kept(w: Tensor) -> None:
    """Leave a recorded gradient on the leaf, as `create_graph` does; it points back to the leaf until it is dropped."""
    loss_of(w).backward(create_graph=True)
    w.grad = None


USES: dict[str, Callable[[Tensor], Any]] = {
    "backward": lambda w: loss_of(w).backward(),
    "grad": lambda w: sm.grad(loss_of(w), w),
    "second derivative": second,
    "recorded gradient": kept,
    "hooks": hooked,
    "an error in a rule": failing,
    "errors of the engine": refused,
    "differences": differences,
    "a training step": trained,
    "hvp": lambda w: sm.hvp(loss_of, w, w.data),
    "jvp": lambda w: sm.jvp(loss_of, [w], [w.data]),
    "a graph": lambda w: sm.Graph(loss_of(w)).find("layer_norm"),
    "the text of a picture": lambda w: str(sm.draw(loss_of(w))),
    "a model": lambda w: sm.nn.TransformerBlock(4, 2)(normal(1, 3, 4, dtype=np.float32)).sum().backward(),
}
each = pytest.mark.parametrize("use", USES.values(), ids=USES.keys())


@each
def test_nothing_is_left_for_the_collector(use: Callable[[Tensor], Any]) -> None:
    w = leaf(normal(SIZE, SIZE))
    use(w)  # what is made once, such as caches
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)  # puts what only the collector can free into gc.garbage
    try:
        use(w)
        gc.collect()
        ours = [o for o in gc.garbage if isinstance(o, (Tensor, np.ndarray, BaseException, Op, sm.Graph))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert ours == []


@each
def test_memory_stays_flat(use: Callable[[Tensor], Any]) -> None:
    """A leak of one tensor or one array a pass would show, above the noise of what Python keeps for later use."""
    w = leaf(normal(SIZE, SIZE))
    for _ in range(3):
        use(w)
        w.grad = None
    tracemalloc.start()
    try:
        counts, sizes = [], []
        for passes in (1, 20):
            for _ in range(passes):
                use(w)
                w.grad = None
            counts.append(sum(type(o) is Tensor for o in gc.get_objects()))
            gc.collect()  # empties the lists of freed objects that Python keeps
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert counts[1] == counts[0]
    assert sizes[1] - sizes[0] < 20 * w.data.nbytes / 2


def test_gradients_that_add_up_take_no_more_memory() -> None:
    """Micro-batches without zero_grad: one buffer, and no history."""
    w = leaf(normal(SIZE, SIZE))
    tracemalloc.start()
    try:
        sizes = []
        for passes in (1, 100):
            for _ in range(passes):
                (w * 2.0).sum().backward()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 100 * w.data.nbytes / 2
    assert w.grad.op is None
    assert set(w.grad.data.flat) == {202.0}
