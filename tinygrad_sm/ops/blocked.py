"""Blocks of rows: the one place that knows of caches and cores.

A kernel that makes several passes over a large array is limited by memory traffic. Run block by block, each pass
but the first finds its numbers in the cache; and as blocks do not depend on each other, each core can take some.
The blocks are the same however many threads there are, and so is every bit of the result.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import copy_context
from typing import Any, TypeVar

import numpy as np

from .options import count

BLOCK_BYTES = 1 << 21  # near a core's own cache; in smaller ones, what a block costs beside its arithmetic shows
T = TypeVar("T")
MOST_THREADS = 8  # with more, the interpreter's lock between two NumPy calls is what they wait for

# glibc gives the memory of a freed array back to the system, and every page of the next array is then asked for and
# cleared anew. When an array as large as this one has come and gone, it keeps up to 64 MB instead (mallopt(3)).
np.empty((1 << 25) - (1 << 16), np.uint8)

_pool: Any = None
_blas: list[Any] = []  # NumPy's, once it is needed
_holders: set[int] = set()  # the threads that want BLAS held to one thread now …
_limit: list[tuple[Any, int]] = []  # … and what it had before
_lock = threading.Lock()
_inside = threading.local()  # `_inside.pool` is True in a thread that works on a block


def row_blocks(rows: int, row_bytes: int) -> list[slice]:
    """Cut `rows` rows into consecutive slices of about `BLOCK_BYTES`, of one row at least.

    >>> row_blocks(5, BLOCK_BYTES // 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    if 0 < rows * row_bytes <= BLOCK_BYTES:
        return [slice(0, rows)]
    return slices(rows, BLOCK_BYTES // max(row_bytes, 1))


def slices(n: int, step: int) -> list[slice]:
    """Cut n things into consecutive slices of `step`, or of one if that is less."""
    step = max(step, 1)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def each(kernel: Callable[..., T], *parts: Sequence[Any], products: bool = False) -> list[T]:
    """Return `list(map(kernel, *parts))`; if there are several parts, several threads take them in turn.

    A kernel may call this again (which is then a plain loop), other threads may too, and so may a forked child. After
    an error no further part is begun, and it is raised when all threads have stopped. `products` says that the
    kernel makes matrix products: then BLAS, which has threads of its own, is held to one for each.
    """
    calls = list(zip(*parts))  # noqa: B905 (quicker so)
    if len(calls) < 2 or getattr(_inside, "pool", False):
        return [kernel(*call) for call in calls]
    with one_blas_thread() if products else nullcontext():
        return _shared(kernel, calls)


def _shared(kernel: Callable[..., T], calls: list[Any]) -> list[T]:
    """Return the results of the calls, in their order; this thread and helpers take one after the other."""
    results: list[Any] = [None] * len(calls)
    left, begun, errors = deque(enumerate(calls)), list[threading.Event](), list[BaseException]()

    def work() -> None:
        done = threading.Event()
        begun.append(done)
        _inside.pool = True
        try:
            for i, call in _taken(left):
                results[i] = kernel(*call)
        except BaseException as error:
            errors.append(error)
        finally:
            _inside.pool = False  # before any call, after which Ctrl-C may come
            left.clear()
            done.set()

    with suppress(RuntimeError):  # no thread can be started any more: those that there are do it all
        for _ in range(min(_threads, len(calls)) - 1):
            _helpers().submit(copy_context().run, work)
    work()
    for done in begun:  # a helper that begins later finds nothing left
        done.wait()
    if errors:
        raise errors[0]
    return results


def _taken(left: deque[Any]) -> Iterator[Any]:
    with suppress(IndexError):
        while True:
            yield left.popleft()  # atomic, so that no two threads get the same


def _helpers() -> Any:
    """Return the pool of threads that help the calling one; made when it is first needed."""
    global _pool
    if _pool is None:
        from concurrent.futures import ThreadPoolExecutor

        _pool = ThreadPoolExecutor(max(_threads - 1, 1), "tinygrad_sm")
    return _pool


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold NumPy's matrix products to one thread each; the last of those who hold them lets them go."""
    try:  # what Ctrl-C leaves undone, the thread's next turn does
        with _lock:
            if not _blas:
                from threadpoolctl import ThreadpoolController  # here, since it takes 30 ms and small arrays do without

                _blas.extend(ThreadpoolController().select(user_api="blas").lib_controllers)
            if not _holders:
                _limit[:] = [(library, library.num_threads) for library in _blas]
            _holders.add(threading.get_ident())
            for library in _blas:
                library.set_num_threads(1)
        yield
    finally:
        with _lock:
            if _holders <= {threading.get_ident()}:
                _let_blas_go()
            _holders.discard(threading.get_ident())


def _let_blas_go() -> None:
    for library, n in _limit:
        library.set_num_threads(n)


def _forget_pool() -> None:
    global _pool
    _pool = None


def _after_fork() -> None:
    """Let a child begin anew: it has none of its parent's threads, and these may hold the lock or BLAS for ever."""
    global _lock
    _forget_pool()
    _inside.pool = False
    _lock = threading.Lock()
    if _holders:
        _holders.clear()
        _let_blas_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def set_num_threads(n: int) -> None:
    """Let kernels on large arrays use `n` threads; every bit of a result is the same for any `n`.

    At first it is the number of cores (at most 8), or what the environment variable OMP_NUM_THREADS said when the
    package was imported, which limits the threads of NumPy's matrix products, too. Afterwards the package threadpoolctl
    sets these; but the products inside attention and linear_cross_entropy are shared out among these `n`.

    >>> import tinygrad_sm as sm
    >>> before = sm.get_num_threads()
    >>> sm.set_num_threads(1)
    >>> sm.get_num_threads()
    1
    >>> sm.set_num_threads(before)
    """
    global _threads
    count(n, "n", "set_num_threads")
    _threads = int(n)
    _forget_pool()  # a pool in use goes on until its work is done


def get_num_threads() -> int:
    """Return how many threads kernels on large arrays use.

    >>> import tinygrad_sm as sm
    >>> sm.get_num_threads() >= 1
    True
    """
    return _threads


def _default_threads() -> int:
    wish = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wish.isdigit() and int(wish):
        return int(wish)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_THREADS)


_threads = _default_threads()
