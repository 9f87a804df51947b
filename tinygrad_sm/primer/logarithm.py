"""Why log_softmax, and not the log of softmax."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from .. import functional as F
from .. import naive
from ..derivatives import grad
from ..tensor import Array, Tensor
from .parts import Block, Chapter, claim, equation, prose, read, run, same

SPREAD = np.array([-1.0, 10.0, 5000.0])
SIZES = ((64, 10), (256, 1000), (256, 32_000))


def log_softmax() -> Chapter:
    """Reproduce "Why use LogSoftmax and NLLLoss?"."""
    z = Tensor(SPREAD.reshape(1, 3), requires_grad=True)
    with np.errstate(all="ignore"):
        logs = np.log(F.softmax(SPREAD))
        bad = grad(naive.cross_entropy(z, [1]), z)[0].data[0]
    good = grad(F.nll_loss(F.log_softmax(z), [1]), z)[0].data[0]
    stable = F.log_softmax(SPREAD)
    rng = np.random.default_rng(0)
    logits, target = rng.normal(0, 5, (8, 10)), rng.integers(10, size=8)
    two, one = F.nll_loss(F.log_softmax(logits), target), F.cross_entropy(logits, target)
    times = measure()
    both, alone = (
        np.array([row["log_softmax"] / row[name] for row in times]) for name in ("log of softmax", "softmax")
    )
    return Chapter(
        "The log of a probability",
        [
            prose(
                "A stable softmax is not enough for a loss. A probability too small to be stored (below about "
                "1e−45 in float32, 1e−324 in float64) is 0, and its log −inf; log_softmax never makes the "
                "probability, so it never takes the log of one."
            ),
            equation("log pⱼ = zⱼ − c − log Σᵢ exp(zᵢ − c)"),
            run("""
z = sm.Tensor([-1.0, 10.0, 5000.0])
print(F.softmax(z), np.log(F.softmax(z)))
print(F.log_softmax(z), np.exp(F.log_softmax(z)))
"""),
            same("the stable softmax of −1, 10, 5000", "0, 0, 1", F.softmax(SPREAD)),
            same("its log", "-inf, -inf, 0", logs),
            same("exp of log_softmax", "0, 0, 1", np.exp(stable)),
            claim(
                "log_softmax is stable",
                np.array_equal(stable, SPREAD - 5000.0),
                "log_softmax of −1, 10, 5000: " + ", ".join(f"{x:.0f}" for x in stable),
            ),
            read("log = 0 is not defined", "fails", "log 0 is not defined: −inf is its limit, and what NumPy gives."),
            Block("heading", "The gradient of both"),
            run("""
z = sm.Tensor([[-1.0, 10.0, 5000.0]], requires_grad=True)
print(sm.grad(sm.naive.cross_entropy(z, [1]), z)[0])
print(sm.grad(F.nll_loss(F.log_softmax(z), [1]), z)[0])
"""),
            claim(
                "with the log of softmax the gradient does not behave",
                not np.isfinite(bad).all() and np.array_equal(good, [0.0, -1.0, 1.0]),
                f"true class 1: {bad.tolist()} through log(softmax), {good.tolist()} through log_softmax, which "
                "is p − y",
            ),
            claim(
                "LogSoftmax with NLLLoss, and CrossEntropyLoss on logits, are the same",
                np.isclose(two, one, rtol=1e-14),
                f"{float(two):.12f} and {float(one):.12f}",
            ),
            Block("heading", "Is it faster?"),
            prose(
                "Milliseconds, medians on the machine that wrote this report, float32. Both need the exponential "
                "of every logit, for the sum; log_softmax saves the division, and does a subtraction instead."
            ),
            Block(
                "table",
                rows=(
                    ("rows × classes", "softmax", "log of softmax", "log_softmax", "log_softmax / log of softmax"),
                    *(
                        (
                            f"{row['rows']} × {row['classes']:,}",
                            *(f"{row[k]:.3f}" for k in KINDS),
                            f"{row['log_softmax'] / row['log of softmax']:.2f}",
                        )
                        for row in times
                    ),
                ),
            ),
            claim(
                "log_softmax is faster than softmax and then log",
                np.prod(both) < 1,
                f"time of log_softmax over that of both: {_list(both)}",
                "Not at every size, in the minute in which this was measured.",
                limit=(both >= 1).any(),
            ),
            claim(
                "log_softmax is faster than softmax, as it does not exponentiate the numerator",
                np.prod(alone) < 0.9,
                f"time of log_softmax over that of softmax: {_list(alone)}",
                "The exponentials are needed for the sum, so nothing is saved there, and they must be kept apart from "
                "the logits.",
            ),
        ],
    )


def _list(ratios: Array) -> str:
    return ", ".join(f"{x:.2f}" for x in ratios)


def measure() -> list[dict[str, Any]]:
    """Time softmax, its log, and log_softmax: median milliseconds for each size."""
    rng = np.random.default_rng(0)
    table: list[dict[str, Any]] = []
    for rows, classes in SIZES:
        z = rng.normal(0, 3, (rows, classes)).astype(np.float32)
        calls = {name: partial(call, z) for name, call in KINDS.items()}
        number = max(1, 100_000 // (rows * classes))
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(9):  # in turn, so that all meet the same disturbances
            for name, call in calls.items():
                seconds[name].append(timeit.timeit(call, number=number) / number)
        table.append({"rows": rows, "classes": classes, **{k: 1000 * median(v) for k, v in seconds.items()}})
    return table


def _both(z: Array) -> Array:
    p = F.softmax(z)
    return np.log(p, out=p)


KINDS: dict[str, Callable[[Array], Array]] = {
    "softmax": F.softmax, "log of softmax": _both, "log_softmax": F.log_softmax,
}  # fmt: skip
