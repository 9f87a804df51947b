"""The pool of threads and processes, signals, the end of the interpreter: nothing hangs, and all goes on after."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import leaf, normal
from interrupts import at_every_moment
from test_processes import in_fork, needs_fork

import tinygrad_sm as sm
from tinygrad_sm.ops import blocked
from tinygrad_sm.ops.blocked import each

# Since Python 3.12 forking warns when there are threads, and of these there are some here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
SHAPE = (64, 32768)  # several blocks


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = sm.get_num_threads()
    sm.set_num_threads(3)
    yield
    sm.set_num_threads(before)


def work(seed: int = 0) -> list[bytes]:
    """Return softmax and cross-entropy forward and backward, to the bit."""
    x = leaf(normal(*SHAPE, seed=seed), np.float32)
    loss = sm.cross_entropy(x, np.arange(SHAPE[0])) + (sm.softmax(x) ** 2).sum()
    return [loss.data.tobytes(), sm.grad(loss, x)[0].data.tobytes()]


def pool_works() -> bool:
    """Tell whether three threads take parts at once, and the results are right."""
    barrier = threading.Barrier(3)

    def kernel(i: int) -> int:
        barrier.wait(1)
        return i * i

    try:
        return each(kernel, range(3)) == [0, 1, 4]
    except threading.BrokenBarrierError:
        return False


class Busy:
    """Another thread of this process, in the pool, until the block ends."""

    def __init__(self, products: bool = False) -> None:
        self.products, self.inside, self.done = products, threading.Barrier(4), threading.Event()

    def kernel(self, i: int) -> int:
        self.inside.wait(30)
        self.done.wait(30)
        return i

    def run(self) -> None:
        self.found = each(self.kernel, range(3), products=self.products)

    def __enter__(self) -> Busy:
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        self.inside.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join(30)
        assert self.found == [0, 1, 2]


# -- processes ----------------------------------------------------------------------------------


@needs_fork
def test_a_fork_after_the_pool_was_used() -> None:
    expected = work()
    assert blocked._pool is not None
    assert in_fork(lambda: work() == expected and pool_works()) == 0
    assert work() == expected
    assert pool_works()


@needs_fork
def test_a_fork_while_another_thread_is_in_the_pool() -> None:
    expected = work()
    with Busy():
        assert in_fork(lambda: work() == expected and pool_works()) == 0
    assert pool_works()


@needs_fork
def test_a_fork_out_of_a_kernel() -> None:
    expected = work()
    forks = each(lambda i: in_fork(lambda: work() == expected) if i == 1 else 0, range(3))
    assert forks == [0, 0, 0]


def blas_threads() -> int:
    """Return how many threads NumPy's matrix products may use, or 0 if that is not known."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return 0

    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    ours = [lib for lib in libraries if "numpy" in lib.filepath] or libraries
    return max((lib.num_threads for lib in ours), default=0)


@needs_fork
def test_a_fork_while_another_thread_is_about_to_hold_blas() -> None:
    with blocked._lock:
        assert in_fork(lambda: each(lambda i: i, range(5), products=True) == [0, 1, 2, 3, 4]) == 0


def test_spawned_workers_compute_the_same() -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(work, [0, 1]) == [work(0), work(1)]


# -- BLAS ---------------------------------------------------------------------------------------


def blas_in(_: int) -> int:
    return blas_threads()


def held_by_the_first_and_let_go_by_the_last() -> None:
    with Busy(products=True):
        assert blas_threads() == 1
        assert each(blas_in, range(3), products=True) == [1, 1, 1]
        assert blas_threads() == 1  # this one has left, the other is still there
    assert blas_threads() == 2
    try:
        each(lambda i: 1 // i, range(3), products=True)
    except ZeroDivisionError:
        assert blas_threads() == 2
    assert each(blas_in, range(3)) == [2, 2, 2]


def let_go_in_a_fork() -> None:
    with Busy(products=True):
        assert in_fork(lambda: blas_threads() == 2) == 0
        assert in_fork(lambda: each(blas_in, range(5), products=True) == [1] * 5 and blas_threads() == 2) == 0
    assert blas_threads() == 2


@pytest.mark.parametrize(
    "check", ["held_by_the_first_and_let_go_by_the_last", pytest.param("let_go_in_a_fork", marks=needs_fork)]
)
def test_blas(check: str) -> None:
    """In a process of its own: once a thread has set OpenBLAS's number of threads, others set it in vain."""
    pytest.importorskip("threadpoolctl")
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    code = f"import sys; sys.path[:0] = {paths}\nimport test_pool\nprint(test_pool.blas_threads())\n"
    if run(code, OPENBLAS_NUM_THREADS="2") != "2":
        pytest.skip("this BLAS has no two threads")
    run(f"{code}test_pool.sm.set_num_threads(3)\ntest_pool.{check}()", OPENBLAS_NUM_THREADS="2")


# -- interrupts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("products", [False, True])
def test_at_every_moment_the_pool_goes_on(products: bool) -> None:
    """And the calling thread is not taken for one inside it, nor BLAS held for ever."""
    each(lambda i: i, range(5), products=True)  # what is made once, is made
    moments, stuck, n_blas = 0, set(), blas_threads()
    for _ in at_every_moment(lambda: None, lambda _: each(lambda i: i, range(5), products=products)):
        moments += 1
        if not pool_works():
            stuck.add(f"moment {moments}: the pool")
            blocked._inside.pool = False
        each(lambda i: i, range(5), products=True)  # may put right what an interrupt has left
        if blas_threads() != n_blas:
            stuck.add(f"moment {moments}: BLAS")
            blocked._after_fork()
    assert moments > 10
    assert not stuck


SIGINT = """
import os, random, signal, threading
import numpy as np, tinygrad_sm as sm
from tinygrad_sm.ops import blocked
from tinygrad_sm.ops.blocked import each

def interrupt(delay, caught):
    while not caught.wait(delay):  # again, should the first be swallowed by a destructor
        os.kill(os.getpid(), signal.SIGINT)
        delay = 5

def bits():
    x = sm.Tensor(z, requires_grad=True)
    loss = sm.cross_entropy(x, np.arange(64)) + (sm.softmax(x) ** 2).sum()
    return loss.data.tobytes(), sm.grad(loss, x)[0].data.tobytes()

signal.signal(signal.SIGINT, signal.default_int_handler)
sm.set_num_threads(3)
z, chance = np.random.default_rng(0).normal(size=(64, 32768)).astype(np.float32), random.Random(0)
expected = bits()
for i in range(20):
    caught = threading.Event()
    thread = threading.Thread(target=interrupt, args=(chance.uniform(0.0, 0.02), caught))
    try:
        thread.start()
        while True:
            bits()
            each(lambda i: z[i] @ z[i], range(64), products=True)
    except KeyboardInterrupt:
        caught.set()
    thread.join()
    assert bits() == expected
    barrier = threading.Barrier(3)
    assert each(lambda i: barrier.wait(10) * 0 + i, range(3)) == [0, 1, 2]
print("interrupted", i + 1, "times")
"""


def run(code: str, timeout: float = 120, **environment: str) -> str:
    """Run in a process of its own; return what it prints."""
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, timeout=timeout, env={**os.environ, **environment},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert not out.stderr
    return out.stdout.strip()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs the signals of POSIX")
def test_real_interrupts_at_random_moments() -> None:
    assert run(SIGINT) == "interrupted 20 times"


# -- the end ------------------------------------------------------------------------------------

START = """
import atexit, threading, time
import numpy as np, tinygrad_sm as sm
sm.set_num_threads(3)
x = np.ones((64, 32768), np.float32)

def forever():
    while True:
        sm.softmax(x)
        begun.set()

begun = threading.Event()
"""
ENDINGS = {
    "a daemon thread computes": "threading.Thread(target=forever, daemon=True).start(); begun.wait(30)",
    "the pool idles": "sm.softmax(x)",
    "atexit computes": "atexit.register(lambda: print(sm.softmax(x).shape)); sm.softmax(x)",
    "atexit computes first": "atexit.register(lambda: print(sm.softmax(x).shape))",
    "a thread outlives main": (
        "t = threading.Thread(target=lambda: [time.sleep(0.2), print(sm.softmax(x).shape)]); sm.softmax(x); t.start()"
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_interpreter_ends(name: str) -> None:
    printed = run(START + ENDINGS[name], timeout=60)
    assert printed == ("(64, 32768)" if "print" in ENDINGS[name] else "")


@needs_fork
def test_a_forked_child_ends_as_any_program_does() -> None:
    code = START + (
        "import os, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "sm.softmax(x)\n"
        "pid = os.fork()\n"
        "sm.softmax(x)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 0)\n"
    )
    run(code, timeout=60)
