"""fork and spawn: a child computes what its parent would, and changes nothing there."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from helpers import leaf, normal

import tinygrad_sm as sm
from tinygrad_sm import autograd
from tinygrad_sm.mode import MODE, Mode

METHODS = [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()]
TOKENS = np.arange(12).reshape(2, 6) % 7
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
# Since Python 3.12 forking warns when there are threads, which the libraries below NumPy may have started.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")


def model() -> sm.nn.TransformerLM:
    rng = np.random.default_rng(0)
    return sm.nn.TransformerLM(7, d_model=8, n_heads=2, n_layers=1, context=6, rng=rng)


def gradients(lm: sm.nn.TransformerLM) -> list[bytes]:
    sm.cross_entropy(lm(TOKENS), (TOKENS + 1) % 7).backward()
    return [p.grad.data.tobytes() for p in lm.parameters()]


def child(lm: sm.nn.TransformerLM, pipe: Any) -> None:
    """Train a step, and send back the gradient and the new weights."""
    found = gradients(lm)
    sm.optim.SGD(lm.parameters(), lr=0.1).step()
    pipe.send((found, lm.state_dict(), lm.tokens.weight))
    pipe.close()


@pytest.mark.parametrize("method", METHODS)
def test_a_child_trains_and_sends_back_its_gradient(method: str) -> None:
    context = multiprocessing.get_context(method)
    lm = model()
    before = {name: a.copy() for name, a in lm.state_dict().items()}
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(lm, sender))
    process.start()
    sender.close()
    found, weights, tensor = receiver.recv()
    process.join(60)
    assert process.exitcode == 0
    assert all(p.grad is None for p in lm.parameters())
    assert all(np.array_equal(a, before[name]) for name, a in lm.state_dict().items())
    assert found == gradients(lm)  # to the bit
    sm.optim.SGD(lm.parameters(), lr=0.1).step()
    assert all(np.array_equal(a, weights[name]) for name, a in lm.state_dict().items())
    (tensor * 2.0).sum().backward()  # what came through the pipe is a leaf that works here
    np.testing.assert_allclose(tensor.grad.data, gradient_of(found, lm) + 2.0, rtol=1e-6)


def gradient_of(found: list[bytes], lm: sm.nn.TransformerLM) -> Any:
    weight = lm.tokens.weight
    return np.frombuffer(found[lm.parameters().index(weight)], weight.dtype).reshape(weight.shape)


def in_fork(f: Any) -> int:
    """Run `f` in a forked child; return its exit code: 0 if f is true, minus the signal if it hangs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(3)  # a child that waits for ever is killed
        code = 1
        try:
            code = 0 if f() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_fork
def test_a_fork_in_the_middle_of_a_graph() -> None:
    x = leaf(normal(3))
    loss = (np.tanh(x) * 2.0).sum()
    expected = sm.grad(loss, x)[0].data

    def differentiate() -> bool:
        loss.backward()
        return np.array_equal(x.grad.data, expected)

    assert in_fork(differentiate) == 0
    assert x.grad is None
    assert in_fork(lambda: False) == 1  # a child that fails is noticed


@needs_fork
def test_a_fork_keeps_the_recording_state() -> None:
    x = leaf(1.0)
    with sm.no_grad():
        assert in_fork(lambda: not (x * 2.0).requires_grad) == 0
    assert in_fork(lambda: (x * 2.0).requires_grad and MODE.get() == Mode()) == 0


@needs_fork
def test_a_fork_while_another_thread_stores_a_gradient() -> None:
    """The child has no such thread, so a lock that the thread holds would stay locked there for ever."""
    x, held, done = leaf(1.0), threading.Event(), threading.Event()

    def hold() -> None:
        with autograd._deposit_lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    try:

        def differentiate() -> bool:
            (x * 2.0).backward()
            return x.grad.item() == 2.0

        assert in_fork(differentiate) == 0
    finally:
        done.set()
        thread.join()


def test_a_pool_of_workers() -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(slope, [1.0, 2.0, 3.0])
    assert found == [3.0, 12.0, 27.0]


def slope(x: float) -> float:
    t = leaf(x)
    return sm.grad(t**3, t)[0].item()


def test_unpickled_leaves_in_a_younger_process() -> None:
    """The numbers of creation of another process mean nothing here: ops on what came from it must still be newer."""
    old = [leaf(float(i)) for i in range(5)]
    sent = pickle.dumps(old)
    code = (
        "import pickle, sys, tinygrad_sm as sm\n"
        "a, b, *_ = pickle.load(sys.stdin.buffer)\n"
        "(a * b + b * b).backward()\n"
        "assert (a.grad.item(), b.grad.item()) == (1.0, 2.0), (a.grad, b.grad)\n"
    )
    subprocess.run([sys.executable, "-c", code], input=sent, check=True)
