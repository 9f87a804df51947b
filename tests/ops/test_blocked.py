"""The pool of threads over blocks of rows: same bits for any number of threads, and safe whatever goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers import leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm.ops import blocked
from tinygrad_sm.ops.blocked import each, row_blocks


@pytest.fixture(autouse=True)
def threads() -> Iterator[Callable[[int], None]]:
    """Give four threads to each test, a new pool, and the function that gives another number."""
    before = sm.get_num_threads()
    sm.set_num_threads(4)
    yield sm.set_num_threads
    sm.set_num_threads(before)


def meet(n: int) -> Callable[[Any], int]:
    """Return a kernel that goes on when n threads are in it, and returns the identity of its own."""
    barrier = threading.Barrier(n)

    def kernel(_: Any) -> int:
        barrier.wait(30)
        return threading.get_ident()

    return kernel


# -- what it returns ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 50])
def test_results_come_in_order(n: int) -> None:
    def kernel(i: int, letter: str) -> str:
        threading.Event().wait(0.002 * (i % 3))  # so that they do not end in order
        return f"{i}{letter}"

    assert each(kernel, range(n), "ab" * 25 if n == 50 else "ab" * n and "abab"[:n]) == [
        f"{i}{'ab'[i % 2]}" for i in range(n)
    ]


def test_as_many_threads_as_said_work_at_once(threads: Callable[[int], None]) -> None:
    for n in (4, 2, 3):
        threads(n)
        found = each(meet(n), range(n))
        assert len(set(found)) == n
        assert threading.get_ident() in found  # the calling thread works too


def test_one_thread_is_a_loop(threads: Callable[[int], None]) -> None:
    threads(1)
    assert set(each(lambda _: threading.get_ident(), range(9))) == {threading.get_ident()}
    assert blocked._pool is None


def test_one_block_makes_no_pool() -> None:
    assert each(lambda _: threading.get_ident(), [0]) == [threading.get_ident()]
    x = leaf(normal(8, 16))
    sm.cross_entropy(x, np.arange(8)).backward()
    (F.softmax(x) ** 2).sum().backward()
    assert blocked._pool is None
    each(lambda _: None, range(2))
    assert blocked._pool is not None


@pytest.mark.parametrize("rows", [0, 1, 7, 1000])
@pytest.mark.parametrize("row_bytes", [0, 1, 1000, 1 << 19, 1 << 30])
def test_blocks_are_all_rows_once(rows: int, row_bytes: int) -> None:
    found = row_blocks(rows, row_bytes)
    assert [i for block in found for i in range(rows)[block]] == list(range(rows))
    assert all((b.stop - b.start - 1) * row_bytes <= blocked.BLOCK_BYTES for b in found)


# -- the same bits ------------------------------------------------------------------------------

N, V = 48, 40
TARGET = np.where(np.arange(N) % 7 == 3, -100, np.arange(N) * 5 % V)
WEIGHT = np.random.default_rng(1).uniform(0, 2, V)
Q, K = normal(2, 3, 40, 16, dtype=np.float32), normal(2, 3, 40, 16, seed=1, dtype=np.float32)
KERNELS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda x: F.softmax(x),
    "softmax of axis 0": lambda x: F.softmax(x, axis=0, temperature=0.3),
    "log_softmax": lambda x: F.log_softmax(x),
    "logsumexp": lambda x: F.logsumexp(x),
    "cross_entropy": lambda x: F.cross_entropy(x, TARGET),
    "cross_entropy, each": lambda x: F.cross_entropy(x, TARGET, reduction="none"),
    "cross_entropy, sum": lambda x: F.cross_entropy(x, TARGET, reduction="sum"),
    "cross_entropy, smoothed": lambda x: F.cross_entropy(x, TARGET, label_smoothing=0.1),
    "cross_entropy, weighted": lambda x: F.cross_entropy(x, TARGET, weight=WEIGHT, label_smoothing=0.1),
    "cross_entropy, probabilities": lambda x: F.cross_entropy(x, F.softmax(normal(N, V))),
    "linear_cross_entropy": lambda x: F.linear_cross_entropy(x, normal(V, V, dtype=np.float32), TARGET),
    "layer_norm": lambda x: F.layer_norm(x, V),
    "rms_norm": lambda x: F.rms_norm(x, V),
    "gelu": lambda x: F.gelu(x),
    "silu": lambda x: F.silu(x),
    "attention": lambda x: F.scaled_dot_product_attention(Q * x[0, 0], K, K * x[1, 1]),
    "attention, causal": lambda x: F.scaled_dot_product_attention(Q, K * x[0, 0], K, is_causal=True),
}


def bits(name: str, seed: int = 0) -> list[bytes]:
    """Return the value and the gradient of a kernel, to the bit."""
    x = leaf(normal(N, V, seed=seed), np.float32)
    y = KERNELS[name](x)
    c = normal(*y.shape, seed=9, dtype=np.float32)
    return [t.data.tobytes() for t in (y, *sm.grad(y, x, c), *sm.grad(y, x, c))]


@pytest.mark.parametrize("name", KERNELS)
def test_threads_change_no_bit(name: str, threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 1024)
    found = []
    for n in (1, 2, 3, 8):
        threads(n)
        found.append(bits(name))
    assert found == [found[0]] * 4


def test_the_kernels_use_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would say nothing. (That BLAS's own threads change nothing, test_determinism.py says.)"""
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 1024)
    for name in ("softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy, probabilities"):
        blocked._forget_pool()
        bits(name)
        assert blocked._pool is not None, name


# -- nested, and from many threads --------------------------------------------------------------


def test_a_nested_call_is_a_loop_in_its_own_thread() -> None:
    def inner(_: int) -> int:
        threading.Event().wait(0.005)  # time for helpers that are free to take a part, if they were let
        return threading.get_ident()

    def outer(_: int) -> bool:
        return set(each(inner, range(8))) == {threading.get_ident()}

    assert each(outer, range(2)) == [True] * 2
    assert each(outer, range(20)) == [True] * 20
    assert len(set(each(meet(4), range(4)))) == 4  # and is over when the outer one is


def test_many_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 1024)
    names = ["softmax", "cross_entropy", "log_softmax", "attention"]
    alone = [bits(name, seed) for seed in range(6) for name in names]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: bits(names[i % 4], i // 4 % 6), range(96)))
    assert found == alone * 4


def test_the_number_of_threads_may_change_while_others_compute(threads: Callable[[int], None]) -> None:
    done = threading.Event()

    def change() -> None:
        n = 0
        while not done.is_set():
            n += 1
            threads(n % 4 + 1)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(100):
            assert each(lambda i: i * i, range(20)) == [i * i for i in range(20)]
    finally:
        done.set()
        changer.join(30)


# -- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, 1, 7, 19])
def test_an_error_is_raised_and_the_pool_goes_on(bad: int) -> None:
    def kernel(i: int) -> int:
        if i == bad:
            raise ZeroDivisionError(f"in part {i}")
        return i

    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match=f"in part {bad}"):
            each(kernel, range(20))
        assert each(lambda i: -i, range(20)) == [-i for i in range(20)]
    assert len(set(each(meet(4), range(4)))) == 4


@pytest.mark.parametrize("kind", [IndexError, StopIteration, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("helper", [False, True])
def test_any_error_of_any_thread_comes_out(kind: type[BaseException], helper: bool) -> None:
    """IndexError, StopIteration and RuntimeError mean something to the pool itself when they are its own."""
    barrier, caller = threading.Barrier(4), threading.get_ident()

    def kernel(_: int) -> None:
        barrier.wait(30)
        if (threading.get_ident() != caller) is helper:
            raise kind("from the kernel")

    with pytest.raises(kind, match="from the kernel"):
        each(kernel, range(4))


@pytest.mark.parametrize("helper", [False, True])
def test_after_an_error_no_part_begins_and_none_goes_on(helper: bool) -> None:
    barrier, failed, caller = threading.Barrier(4), threading.Event(), threading.get_ident()
    begun, ended = [], []

    def kernel(i: int) -> None:
        begun.append(i)
        barrier.wait(30)
        if i == 4:
            raise AssertionError("a part has begun after the error")
        mine = threading.get_ident() == caller
        if mine is not helper and not failed.is_set():
            failed.set()
            raise ZeroDivisionError
        failed.wait(30)
        threading.Event().wait(0.05)  # time for the one that failed to stop the rest
        ended.append(i)

    with pytest.raises(ZeroDivisionError):
        each(kernel, range(50))
    stopped = len(ended)
    assert len(begun) == 4
    assert stopped + 1 >= 4 - 2  # those that had begun were waited for
    threading.Event().wait(0.1)
    assert len(ended) == stopped


def test_the_caller_s_errstate_holds_in_every_thread() -> None:
    barrier = threading.Barrier(4)

    def kernel(_: int) -> Any:
        barrier.wait(30)
        return np.geterr()["divide"], np.zeros(1) / np.zeros(1) if np.geterr()["invalid"] == "ignore" else None

    with np.errstate(divide="raise", invalid="ignore"):
        found = each(kernel, range(4))
    assert [divide for divide, _ in found] == ["raise"] * 4
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        each(lambda x: np.exp(np.float32(x)), [1.0, 2.0, 1000.0, 3.0])


def test_the_caller_s_recording_state_holds_in_every_thread() -> None:
    x, barrier = leaf(1.0), threading.Barrier(4)

    def kernel(_: int) -> bool:
        barrier.wait(30)
        return (x * 2.0).requires_grad

    with sm.no_grad():
        assert each(kernel, range(4)) == [False] * 4
    assert each(kernel, range(4)) == [True] * 4


@pytest.mark.parametrize("possible", [0, 1, 2])
def test_when_no_thread_can_be_started(possible: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All parts are done by those that there are, however many could be started before."""
    start, started = threading.Thread.start, []

    def refuse(self: threading.Thread) -> None:
        if len(started) == possible:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)

    def kernel(i: int) -> int:
        threading.Event().wait(0.02 if threading.get_ident() == caller else 0.1)  # the helpers end last
        return i

    caller = threading.get_ident()
    assert each(kernel, range(8)) == list(range(8))
    assert len(started) == possible
    monkeypatch.undo()
    assert each(kernel, range(8)) == list(range(8))


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "kind", "message"),
    [
        (0, ValueError, "set_num_threads: n must be at least 1, not 0"),
        (-2, ValueError, "at least 1, not -2"),
        (1.0, TypeError, "n must be an integer, not 1.0"),
        (True, TypeError, "n must be an integer, not True"),
        (None, TypeError, "n must be an integer, not None"),
        ("2", TypeError, "n must be an integer, not '2'"),
    ],
)
def test_a_number_of_threads_that_is_none(n: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        sm.set_num_threads(n)
    assert sm.get_num_threads() == 4


def test_numpy_integers_are_numbers_of_threads() -> None:
    sm.set_num_threads(np.int32(3))
    assert sm.get_num_threads() == 3
    assert type(sm.get_num_threads()) is int


def run(code: str, **environment: str) -> str:
    """Run in a process of its own; return what it prints."""
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | environment
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr
    assert not out.stderr
    return out.stdout.strip()


@pytest.mark.parametrize(
    ("wish", "expected"), [("1", "1"), ("3", "3"), ("5,2", "5"), ("", None), ("0", None), ("many", None), (None, None)]
)
def test_omp_num_threads(wish: str | None, expected: str | None) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment = {} if wish is None else {"OMP_NUM_THREADS": wish}
    code = "import tinygrad_sm as sm; print(sm.get_num_threads())"
    assert run(code, **environment) == (expected or str(min(cores, blocked.MOST_THREADS)))
