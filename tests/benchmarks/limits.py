"""What this machine can do, and how near we come: bytes moved, exponentials and products a second."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from .alone import seconds_of
from .attention import attention
from .losses import cross_entropy
from .row import installed

BIG, CACHED = 1 << 26, 1 << 16  # floats: 256 MB, and 256 KB that stay in the second-level cache


class Machine(NamedTuple):
    """Rates a second, with one thread or several."""

    threads: int
    copy: float  # bytes read and bytes written, between arrays that are there
    fresh: float  # bytes, read and written into an array that is new, as every output is
    exps: float  # exponentials of float32 in the cache
    flops: float  # of a large product of float32 matrices


def _seconds(work: Callable[[], Any]) -> float:
    work()
    times = []
    for _ in range(5):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return statistics.median(times)


def machine(threads: int) -> Machine:
    """Measure with so many threads."""
    source, target = np.ones(BIG, np.float32), np.ones(BIG, np.float32)
    parts = [slice(i * BIG // threads, (i + 1) * BIG // threads) for i in range(threads)]
    cached = [(np.linspace(-10, 0, CACHED, dtype=np.float32), np.empty(CACHED, np.float32)) for _ in parts]
    square = np.ones((1536, 1536), np.float32)
    with ThreadPoolExecutor(threads) as pool:

        def everywhere(work: Callable[[Any], Any], items: list[Any]) -> None:
            list(pool.map(work, items))

        def copy_fresh() -> None:
            new = np.empty(BIG, np.float32)
            everywhere(lambda part: np.copyto(new[part], source[part]), parts)

        def exps(pair: Any) -> None:
            for _ in range(100):
                np.exp(pair[0], out=pair[1])

        copy = _seconds(lambda: everywhere(lambda part: np.copyto(target[part], source[part]), parts))
        fresh, exp = _seconds(copy_fresh), _seconds(lambda: everywhere(exps, cached))
    with _blas(threads):
        product = _seconds(lambda: square @ square)
    return Machine(threads, 8 * BIG / copy, 8 * BIG / fresh, 100 * CACHED * threads / exp, 2 * 1536**3 / product)


def _blas(threads: int) -> Any:
    if not installed("threadpoolctl"):
        return nullcontext()
    import threadpoolctl

    return threadpoolctl.threadpool_limits(threads, user_api="blas")


def cross_entropy_bounds(m: Machine, n: int, v: int) -> dict[str, float]:
    """Return seconds: the logits are read once, a new gradient is written; one exponential each."""
    return {"memory": 8 * n * v / m.fresh, "exponentials": n * v / m.exps}


def attention_bounds(m: Machine, h: int, t: int, d: int) -> dict[str, float]:
    """Return seconds: 2 products of h·t·t/2·d forward and 5 backward; exponentials in both, as no weight is kept."""
    return {"matrix products": 7 * 2 * h * t * t / 2 * d / m.flops, "exponentials": 2 * h * t * t / 2 / m.exps}


def report(threads: int, seconds: float = 2.0) -> str:
    """Return the machine's rates, and two kernels beside what they allow, as Markdown."""
    one, m = machine(1), machine(threads)
    lines = [f"| what the machine does | 1 thread | {threads} threads |", "|---|---:|---:|"]
    for name, field, unit in [("copy of large arrays, read + written", "copy", "GB/s"),
                              ("copy into new arrays, read + written", "fresh", "GB/s"),
                              ("exponentials in the cache", "exps", "G/s"),
                              ("matrix product", "flops", "GFLOP/s")]:  # fmt: skip
        lines.append(f"| {name} | {getattr(one, field) / 1e9:.2f} {unit} | {getattr(m, field) / 1e9:.2f} {unit} |")
    lines += ["", "| forward and backward | needs | at least | takes | of the limit |", "|---|---|---:|---:|---:|"]
    for name, builders, bounds, joined in [
        ("cross_entropy (2048, 32000)", cross_entropy(2048, 32000), cross_entropy_bounds(m, 2048, 32000), max),
        ("attention (4, 4096, 64)", attention(4, 4096, 64), attention_bounds(m, 4, 4096, 64), sum),
    ]:
        takes, limit = seconds_of(builders["ours"](), seconds), joined(bounds.values())
        parts = " and ".join(f"{what} {1e3 * t:.0f} ms" for what, t in bounds.items())
        text = f"{parts}, {'one after the other' if joined is sum else 'at the same time'}"
        lines.append(f"| {name} | {text} | {1e3 * limit:.0f} ms | {1e3 * takes:.0f} ms | {limit / takes:.0%} |")
    return "\n".join(lines)
