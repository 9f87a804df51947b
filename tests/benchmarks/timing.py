"""Time two libraries in one process, in turns, so that noise hits both."""

from __future__ import annotations

import gc
import math
import os
import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple

import tinygrad_sm as sm

from .row import Step, installed

TURN = 0.02  # seconds of one library at a time; longer calls take turns one by one


class Times(NamedTuple):
    """Medians in seconds of one unit of work, and ratios ours/theirs."""

    ours: float
    theirs: float
    ratio: float  # median and quartiles of the rounds' ratios
    low: float
    high: float
    best: float  # ratio of the shortest times: what a machine without other work might show


def set_threads(n: int, peers: Sequence[str]) -> None:
    """Give us and the peers n threads each (before JAX is imported, which takes all processors that it may use)."""
    if hasattr(os, "sched_setaffinity") and n < len(os.sched_getaffinity(0)):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n])
    if hasattr(sm, "set_num_threads"):
        sm.set_num_threads(n)
    if "torch" in peers:
        import torch

        torch.set_num_threads(n)
    if installed("threadpoolctl"):
        import threadpoolctl

        threadpoolctl.threadpool_limits(n, user_api="blas")


def one_turn(step: Step, calls: int) -> list[float]:
    """Return the seconds of each call; where there are several, one more before them fills the caches again."""
    if calls > 1:
        step()
    times = []
    for _ in range(calls):
        start = perf_counter()
        step()
        times.append(perf_counter() - start)
    return times


def calls_per_turn(step: Step) -> int:
    """Return how many calls fill a turn, from a call or two that warm up."""
    step()
    [seconds] = one_turn(step, 1)
    if seconds > TURN:
        return 1
    return min(500, math.ceil(TURN / statistics.median(one_turn(step, 5))))


def compare(ours: Step, theirs: Step, seconds: float = 3.0, rounds: int | None = None) -> Times:
    """Time two steps in turns for about `seconds`, or for a number of rounds."""
    steps = (ours, theirs)
    calls = [calls_per_turn(step) for step in steps]
    gc.collect()
    found: Any = ([], [])
    ratios, start = [], perf_counter()
    while len(ratios) < (rounds or 3) or (not rounds and perf_counter() - start < seconds):
        turns = [one_turn(step, n) for step, n in zip(steps, calls, strict=True)]
        for all_times, times in zip(found, turns, strict=True):
            all_times.extend(times)
        ratios.append(statistics.median(turns[0]) / statistics.median(turns[1]))
    low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    a, b = found
    return Times(statistics.median(a), statistics.median(b), ratio, low, high, min(a) / min(b))
