"""How time and memory grow with size: `python -m tests.benchmarks.growth` draws docs/images/growth.svg."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .alone import seconds_of
from .attention import attention
from .layers import chain
from .losses import cross_entropy
from .memory import ROOT, peak
from .row import Builders
from .timing import set_threads

FIGURE = ROOT / "docs" / "images" / "growth.svg"


class Series(NamedTuple):
    """One panel: what grows, over which sizes, and the exponent that it should have."""

    title: str
    axis: str
    family: Callable[..., Builders]
    at: Callable[[int], tuple[int, ...]]
    sizes: list[int]
    exponent: int
    memory: bool = False


def powers(first: int, last: int) -> list[int]:
    """Return the powers of two from 2^first to 2^last."""
    return [1 << k for k in range(first, last + 1)]


ATTENTION = ("causal attention, 4 heads of 64", "positions", attention, lambda n: (4, n, 64))
SERIES = [
    Series("cross_entropy, 4096 classes", "rows", cross_entropy, lambda n: (n, 4096), powers(4, 13), 1),
    Series("cross_entropy, 256 rows", "classes", cross_entropy, lambda n: (256, n), powers(8, 17), 1),
    Series("a chain of small ops", "ops", chain, lambda n: (n,), [k * 10**e for e in (2, 3, 4, 5) for k in (1, 3)], 1),
    Series(*ATTENTION, powers(6, 12), 2),
    Series(*ATTENTION, powers(9, 13), 1, memory=True),
]


def measure(series: Series, seconds: float = 0.3, threads: int = 2) -> list[float]:
    """Return seconds, or bytes at the peak, for each size."""
    found = []
    for size in series.sizes:
        if series.memory:
            found.append(float(peak(series.family, series.at(size), {}, "ours", threads) or np.nan))
        else:
            found.append(seconds_of(series.family(*series.at(size))["ours"](), seconds))
    return found


def exponent(sizes: list[int], values: list[float]) -> float:
    """Return the slope of log(value) over log(size) in the upper half of the sizes, where fixed costs do not show.

    >>> round(exponent([1, 2, 4, 8, 16], [9, 9, 16, 64, 256]), 6)
    2.0
    """
    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(values[half:]), 1)[0])


def draw(found: list[list[float]]) -> None:
    """Draw the panels on logarithmic axes, each with a dashed line of the slope that it should have."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    settings: dict[str, Any] = {"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 8}
    with mpl.rc_context(settings):
        figure, axes = plt.subplots(2, 3, figsize=(9, 5.4), layout="constrained")
        axes.flat[-1].set_visible(False)
        for ax, series, values in zip(axes.flat, SERIES, found, strict=False):
            sizes, scale = np.array(series.sizes, float), 1e6 if series.memory else 1
            ax.loglog(sizes, np.array(values) / scale, "o-", color="tab:blue", markersize=3)
            line = values[-1] * (sizes / sizes[-1]) ** series.exponent / scale
            ax.loglog(sizes, line, "--", color="gray", linewidth=1)
            unit = "peak memory in MB" if series.memory else "seconds"
            slopes = f"slope {exponent(series.sizes, values):.2f}, dashed {series.exponent}"
            ax.set(xlabel=series.axis, ylabel=unit, title=f"{series.title}\n{slopes}")
            ax.xaxis.set_minor_formatter("")
            ax.yaxis.set_minor_formatter("")
        FIGURE.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(FIGURE, metadata={"Date": None})
        plt.close(figure)


def report(found: list[list[float]]) -> str:
    """Return what was measured as a Markdown table."""
    lines = ["| | grows with | from | to | exponent | should be |", "|---|---|---:|---:|---:|---:|"]
    for series, values in zip(SERIES, found, strict=True):
        what = f"{series.title}, peak memory" if series.memory else f"{series.title}, time"
        slope = exponent(series.sizes, values)
        sizes = f"{series.sizes[0]:,} | {series.sizes[-1]:,}"
        lines.append(f"| {what} | {series.axis} | {sizes} | {slope:.2f} | {series.exponent} |")
    return "\n".join(lines)


def main(threads: int = 2) -> str:
    """Measure, draw, and return the table."""
    set_threads(threads, [])
    found = [measure(series, threads=threads) for series in SERIES]
    draw(found)
    return report(found)


if __name__ == "__main__":
    print(main())
