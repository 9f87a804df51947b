"""Long runs, with their figures: `python tests/soak.py [passes] [nodes] [interrupts]`.

Too long for every run of the tests, which hold smaller ones. Each part asserts that its results are right.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import tinygrad_sm as sm

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "engine")]  # as pytest does


def rss() -> float:
    """Return the resident memory in MB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_rss() -> float:
    """Return the largest resident memory so far in MB."""
    import resource  # POSIX only; this file must import everywhere, since the doctests of the suite look into it

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


@contextmanager
def measured(what: str) -> Iterator[None]:
    before, started = rss(), time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    print(f"{what:48} {seconds:7.2f} s   RSS {before:6.0f} -> {rss():6.0f} MB, peak so far {peak_rss():6.0f} MB")


def many_passes(passes: int) -> None:
    """Train a small Transformer: forward, backward, a step."""
    lm = sm.nn.TransformerLM(11, d_model=16, n_heads=2, n_layers=1, context=8, rng=np.random.default_rng(0))
    optimizer = sm.optim.AdamW(lm.parameters(), lr=1e-3)
    tokens = np.arange(36).reshape(4, 9) % 11

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            sm.cross_entropy(lm(tokens[:, :-1]), tokens[:, 1:]).backward()
            optimizer.step()

    train(100)
    gc.collect()
    start = rss()
    with measured(f"{passes:,} passes of a Transformer"):
        train(passes)
    assert rss() - start < 2, "resident memory grew"
    tracemalloc.start()
    train(20)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    train(200)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    print(f"    tracemalloc: {grown:+,} bytes over 200 further passes; left for the collector: {gc.collect()} objects")
    assert grown < 20_000


def wide(nodes: int) -> None:
    """Make a graph of many tensors side by side: leaves, products, one sum."""
    n = nodes // 3
    with measured(f"{n:,} leaves"):
        leaves = [sm.Tensor(np.array([float(i)]), requires_grad=True) for i in range(n)]
    with measured(f"{2 * n:,} ops on them, joined and summed"):
        total = sm.concatenate([x * 2.0 + x for x in leaves]).sum()
    with measured("backward"):
        total.backward()
    assert {x.grad.item() for x in leaves} == {3.0}
    with measured("freeing the graph"):
        del total
    with measured("freeing the leaves"):
        leaves.clear()


def deep(name: str, f: Callable[[sm.Tensor], sm.Tensor], x: sm.Tensor, depth: int, create_graph: bool = False) -> None:
    with measured(f"a chain of {depth:,} {name}"):
        y = x
        for _ in range(depth):
            y = f(y)
        y = y.sum() if y.ndim else y
    with measured("    backward" + ", recorded, and backward through it" * create_graph):
        (g,) = sm.grad((y * y).sum(), x, create_graph=create_graph)
        if create_graph:
            sm.grad(g.sum(), x)
    with measured("    freeing it"):
        del y, g


def threads() -> None:
    import test_threads

    with measured("8 threads, 20 times 5 steps of a model each"):
        serial = [test_threads.train(i) for i in range(8)]
        for _ in range(20):
            assert test_threads.at_once(test_threads.train) == serial


def interrupts(times: int) -> None:
    import test_interrupt

    with measured(f"{times} interrupts of a training run"):
        command = [sys.executable, "-c", test_interrupt.SIGINT, str(times)]
        print("    " + subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def main(passes: int = 10_000, nodes: int = 1_000_000, times: int = 50) -> None:
    """Run all; the collector stays off, so that whatever waits for it would show as growth."""
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, {os.cpu_count()} cores")
    gc.collect()
    gc.disable()
    many_passes(passes)
    wide(nodes)
    deep("products", lambda y: y * 1.0, sm.Tensor(np.array(1.0), requires_grad=True), 300_000)
    deep("products", lambda y: y * 1.0, sm.Tensor(np.array(1.0), requires_grad=True), 300_000, create_graph=True)
    deep("softmaxes", sm.softmax, sm.Tensor(np.array([[0.3, -0.2]]), requires_grad=True), 300_000)
    threads()
    interrupts(times)
    print("all as it should be")


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
