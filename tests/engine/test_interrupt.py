"""Ctrl-C in the middle of a backward pass, at every moment: what is left can be used at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from helpers import leaf, normal
from interrupts import at_every_moment, counting

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Op, Tensor
from tinygrad_sm.autograd import _deposit_lock
from tinygrad_sm.mode import MODE, Mode
from tinygrad_sm.op import REGISTRY

TARGET = np.array([0, 2, 1, 0])


class Tiny(sm.nn.Module):
    """Plain and fused ops, a hook, a retained gradient, and a leaf that is younger than the first ops."""

    def __init__(self) -> None:
        self.w, self.b = leaf(normal(3, 3)), leaf(normal(3))
        self.late: Any = None

    def forward(self, x: Any) -> Tensor:
        h = F.layer_norm(np.tanh(x @ self.w), 3)
        h.register_hook(lambda g: g * 2.0)
        h.retain_grad()
        self.late = leaf(normal(3, seed=1))
        return F.cross_entropy(h * self.late + self.b, TARGET)


def prepared() -> tuple[list[Tensor], Tensor, list[Any]]:
    """Return leaves that have gradients already, a loss, and these old gradients."""
    model = Tiny()
    loss = model(normal(4, 3, seed=2))
    leaves = [model.w, model.b, model.late]
    for i, x in enumerate(leaves):
        x.grad = Tensor(normal(*x.shape, seed=i))
    return leaves, loss, [x.grad.data.copy() for x in leaves]


def bits(arrays: Any) -> list[bytes]:
    return [np.ascontiguousarray(getattr(a, "data", a)).tobytes() for a in arrays]


def whole() -> list[bytes]:
    """Return the bits of the gradients of an undisturbed pass."""
    leaves, loss, _ = prepared()
    loss.backward()
    return bits([x.grad for x in leaves])


def is_usable(leaves: list[Tensor], loss: Tensor) -> bool:
    """Tell whether the same graph gives, from new on, what an undisturbed one does."""
    for x in leaves:
        x.grad = None
    loss.backward()
    return bits([x.grad for x in leaves]) == undisturbed()


@cache
def undisturbed() -> list[bytes]:
    leaves, loss, _ = prepared()
    return bits(sm.grad(loss, leaves))


@pytest.mark.parametrize(("create_graph", "step"), [(False, 1), (True, 29)], ids=["raw", "recorded"])
def test_at_every_moment_gradients_are_old_or_whole(create_graph: bool, step: int) -> None:
    final = whole()
    moments = 0
    for leaves, loss, old in at_every_moment(prepared, lambda s: s[1].backward(create_graph=create_graph), step):
        moments += 1
        MODE.set(Mode())  # see the next test
        assert not _deposit_lock.locked()
        for x, before, after in zip(leaves, bits(old), final, strict=True):
            now = bits([x.grad])[0]
            if create_graph and now != before:
                np.testing.assert_allclose(x.grad.data, np.frombuffer(after).reshape(x.shape), rtol=1e-12)
            else:
                assert now in (before, after)
        assert is_usable(leaves, loss)
    assert moments > 50


def mode_after(act: Any) -> list[int]:
    """Return the moments after which the recording state is not what it was."""
    lost = []
    for number, _ in enumerate(at_every_moment(prepared, act), 1):
        if MODE.get() != Mode():
            lost.append(number)
            MODE.set(Mode())
    return lost


def _no_grad(state: Any) -> None:
    with sm.no_grad():
        state[0][0] * 2.0


@pytest.mark.parametrize(
    "act",
    [
        lambda state: state[1].backward(),
        lambda state: sm.grad(state[1], state[0]),
        lambda state: Tiny()(normal(4, 3)),
        _no_grad,
        lambda state: sm.hvp(lambda x: (x**2).sum(), normal(3), normal(3)),
    ],
    ids=["backward", "grad", "module", "no_grad", "hvp"],
)
def test_at_every_moment_the_recording_state_is_restored(act: Any) -> None:
    assert mode_after(act) == []


def raising(error: BaseException) -> Any:
    def rule(g: Any, y: Any, x: Any) -> Any:
        raise error

    return rule


@pytest.fixture
def failing_op() -> Any:
    """Return a function that makes an op whose rule raises an error."""
    made = []

    def make(error: BaseException) -> Op:
        made.append(Op(np.copy, (raising(error),), name="failing"))
        return made[-1]

    yield make
    REGISTRY.pop("failing", None)


ERRORS = [KeyboardInterrupt(), MemoryError("no room"), ZeroDivisionError("in a rule"), SystemExit(1)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_an_error_in_a_rule_comes_out_as_it_is(failing_op: Any, error: BaseException, create_graph: bool) -> None:
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    w.grad = Tensor(np.array([7.0, 7.0]))
    loss = (failing_op(error)(x * 2.0) * w).sum()
    with pytest.raises(type(error)) as caught:
        loss.backward(create_graph=create_graph)
    assert caught.value is error
    assert MODE.get() == Mode()
    assert not _deposit_lock.locked()
    assert x.grad is None
    (x * w).sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]


def test_a_pass_that_fails_changes_no_gradient(failing_op: Any) -> None:
    x = leaf([1.0, 2.0])
    y = failing_op(MemoryError())(x)
    late, kept = leaf([3.0, 4.0]), y * 2.0  # younger than the op that fails: their turn comes before it
    kept.retain_grad()
    with pytest.raises(MemoryError):
        (kept * late).sum().backward()
    assert [t for t in (late, kept, x) if t.grad is not None] == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("where", ["inner", "leaf"])
def test_an_error_in_a_hook_leaves_the_graph_usable(error: BaseException, where: str) -> None:
    leaves, loss, _ = prepared()
    target = leaves[0] if where == "leaf" else loss.args[0]
    fail = True

    def hook(g: Tensor) -> None:
        if fail:
            raise error

    target.register_hook(hook)
    with pytest.raises(type(error)):
        loss.backward()
    assert MODE.get() == Mode()
    fail = False
    assert is_usable(leaves, loss)


def test_an_interrupted_step_leaves_whole_parameters() -> None:
    """A step gives each parameter a new array or leaves it; training goes on from there."""

    def trainer(lr: float = 0.1) -> Any:
        model = Tiny()
        optimizer = sm.optim.SGD([model.w, model.b], lr=lr)
        model(normal(4, 3)).backward()
        return model, optimizer

    model, optimizer = trainer()
    old = bits([model.w, model.b])
    optimizer.step()
    new = bits([model.w, model.b])
    seen = set()
    for model, optimizer in at_every_moment(trainer, lambda state: state[1].step()):
        now = bits([model.w, model.b])
        assert all(n in (a, b) for n, a, b in zip(now, old, new, strict=True))
        seen.add(tuple(n == a for n, a in zip(now, old, strict=True)))
        optimizer.zero_grad()
        model(normal(4, 3)).backward()
        optimizer.step()
        assert all(np.isfinite(p.data).all() for p in (model.w, model.b))
    assert len(seen) > 1  # interrupted before and between


@pytest.mark.parametrize("kind", [sm.optim.SGD, sm.optim.AdamW])
def test_an_optimiser_works_on_after_an_interrupted_step(kind: Any) -> None:
    def trainer() -> Any:
        w = leaf([1.0, 2.0])
        optimizer = kind([w], lr=0.1)
        (w * w).sum().backward()
        return w, optimizer

    moments = 0
    for w, optimizer in at_every_moment(trainer, lambda state: state[1].step()):
        moments += 1
        optimizer.step()
        assert (w.data < [1.0, 2.0]).all()
    assert moments > 5


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_an_interrupted_step_was_done_or_was_not(kind: str) -> None:
    """Parameters, their buffers and the count of steps change together."""

    def trainer() -> Any:
        params = [leaf(normal(2, 3)), leaf(normal(3, seed=1), np.float32), leaf(normal(2, seed=2))]
        optimizer = getattr(sm.optim, kind)(params, lr=0.1, **({"momentum": 0.9} if kind == "SGD" else {}))
        for seed in (3, 4):
            for i, p in enumerate(params):
                p.grad = Tensor(normal(*p.shape, seed=10 * seed + i).astype(p.dtype))
            if seed == 3:
                optimizer.step()
        return params, optimizer

    def all_of(state: Any) -> list[bytes]:
        return [*bits(state[0]), *bits(state[1].state_dict().values())]

    state = trainer()
    before = all_of(state)
    state[1].step()
    after = all_of(state)
    moments = [all_of(state) for state in at_every_moment(trainer, lambda state: state[1].step())]
    assert all(now in (before, after) for now in moments)
    assert before in moments
    assert after in moments
    assert before != after


def test_the_interrupter_interrupts() -> None:
    with counting() as counter:
        (leaf(1.0) * 2.0).backward()
    assert counter.count > 10
    with pytest.raises(KeyboardInterrupt), counting(5):
        (leaf(1.0) * 2.0).backward()


SIGINT = """
import os, random, signal, sys, threading
import numpy as np, tinygrad_sm as sm
from tinygrad_sm.autograd import _deposit_lock
from tinygrad_sm.mode import MODE, Mode

def interrupt(delay, caught):
    while not caught.wait(delay):  # again, should the first be swallowed by a destructor
        os.kill(os.getpid(), signal.SIGINT)
        delay = 5

def bits(model):
    return [p.grad.data.tobytes() for p in model.parameters()]

signal.signal(signal.SIGINT, signal.default_int_handler)
times, chance = int(sys.argv[1]), random.Random(0)
rng, tokens = np.random.default_rng(0), np.arange(24).reshape(3, 8) % 11
model, twin = (sm.nn.TransformerLM(11, d_model=8, n_heads=2, n_layers=1, context=8, rng=rng) for _ in range(2))
optimizer = sm.optim.AdamW(model.parameters(), lr=1e-3)

def step():
    optimizer.zero_grad()
    sm.cross_entropy(model(tokens), (tokens + 1) % 11).backward()
    optimizer.step()

lost = 0
for i in range(times):
    caught = threading.Event()
    thread = threading.Thread(target=interrupt, args=(chance.uniform(0.0, 0.02), caught))
    try:
        thread.start()
        while True:
            step()
    except KeyboardInterrupt:
        caught.set()
    thread.join()
    lost += MODE.get() != Mode()
    MODE.set(Mode())
    assert not _deposit_lock.locked()
    assert all(np.isfinite(p.data).all() for p in model.parameters())
    assert all(p.grad is None or p.grad.shape == p.shape for p in model.parameters())
    twin.load_state_dict(model.state_dict())
    for m in (model, twin):
        m.zero_grad()
        sm.cross_entropy(m(tokens), (tokens + 1) % 11).backward()
    assert bits(model) == bits(twin)
print("interrupted", i + 1, "times; recording state lost", lost, "times")
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs the signals of POSIX")
def test_real_interrupts_at_random_moments() -> None:
    """In a process of its own: a stray Ctrl-C must not hit the tests."""
    out = subprocess.run([sys.executable, "-c", SIGINT, "20"], capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    assert out.stdout.startswith("interrupted 20 times")
