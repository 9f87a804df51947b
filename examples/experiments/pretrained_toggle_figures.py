"""The figures of the experiment pretrained_toggle: attention block by block, and the cosines of sentences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_sm.viz.plot import BLUE, GREY, ORANGE, styled

LOOKS = {"with": (BLUE, "-", "o", "with 1/√d_k"), "without": (ORANGE, "--", "s", "without")}
TITLES = {
    "entropy": "entropy of the weights / log n", "largest": "largest weight, mean", "above 0.99": "rows above 0.99",
    "jacobian": "norm of the Jacobian, median row", "gradient": "gradient of the scores, median row",
    "mean gradient": "gradient of the scores, mean",
}  # fmt: skip


def minilm(blocks: dict[str, Any]) -> Any:
    """Draw six measures over MiniLM's blocks."""
    with styled(3, 2, size=(3.5, 2.7)) as (figure, axes):
        for ax, name in zip(axes.ravel(), TITLES, strict=True):
            _over_blocks(ax, name, {kind: blocks[kind]["blocks"] for kind in LOOKS})
            if "gradient" in name:
                ax.set_yscale("log")
        low = min(ax.get_ylim()[0] for ax in axes[1, 1:])  # the two gradients on one scale, to be compared
        high = max(ax.get_ylim()[1] for ax in axes[1, 1:])
        for ax in axes[1, 1:]:
            ax.set_ylim(low, 1.3 * high)
    return figure


def smollm2(on: dict[str, Any], off: dict[str, Any]) -> Any:
    """Draw four measures over SmolLM2's blocks."""
    names = ("entropy", "largest", "above 0.99", "jacobian")
    with styled(2, 2, size=(4.6, 2.7)) as (figure, axes):
        for ax, name in zip(axes.ravel(), names, strict=True):
            _over_blocks(ax, name, {"with": on["blocks"], "without": off["blocks"]})
    return figure


def cosines(vectors: dict[str, Any]) -> Any:
    """Draw the cosines of all sentences, of each block alone, and over the factor of the scores."""
    with styled(3, size=(3.5, 2.9)) as (figure, axes):
        all_of_them, one, sweep = axes[0]
        all_of_them.hist(vectors["cosines"], bins=np.arange(0.5, 1.0001, 0.02), color=ORANGE, edgecolor="white")
        all_of_them.axvline(vectors["cosine"]["mean"], color=GREY, ls="--", lw=1)
        mean = f"mean {vectors['cosine']['mean']:.2f}"
        all_of_them.text(0.04, 0.9, mean, color=GREY, transform=all_of_them.transAxes)
        all_of_them.set(
            title="without, in all blocks", xlabel="cosine to the vector with 1/√d_k", ylabel="sentences",
            xlim=(min(0.6, min(vectors["cosines"]) - 0.02), 1),
        )  # fmt: skip
        found = vectors["one by one"]
        _ranges(one, range(len(found)), found, ORANGE)
        one.set(title="without, in one block alone", xlabel="block", ylabel="cosine", xticks=range(len(found)))
        one.grid(axis="x", visible=False)
        steps = vectors["sweep"]
        x = [step["factor"] for step in steps]
        _ranges(sweep, x, steps, BLUE)
        sweep.plot(x, [step["mean"] for step in steps], color=BLUE, lw=1.2)
        sweep.set_xscale("log", base=2)
        ticks = [t for t in (0.25, 0.5, 1, 2, 4) if min(x) <= t] + [math.sqrt(32)]
        sweep.set_xticks(ticks, [f"{t:g}" for t in ticks[:-1]] + ["√32"])
        sweep.minorticks_off()
        sweep.set(
            title="other factors, in all blocks", xlabel="q·k times this over √d_k (√32: q·k itself)", ylabel="cosine"
        )
        for ax in (one, sweep):
            ax.set_ylim(top=1.02)
    return figure


def _ranges(ax: Any, x: Any, found: list[dict[str, float]], colour: str) -> None:
    """Draw means as marks, and from the 5 % to the 95 % quantile as lines."""
    ax.vlines(x, [f["low"] for f in found], [f["high"] for f in found], color=colour, lw=1.2, alpha=0.6)
    ax.plot(x, [f["mean"] for f in found], "o", color=colour, ms=5)


def _over_blocks(ax: Any, name: str, kinds: dict[str, list[dict[str, float]]]) -> None:
    for kind, blocks in kinds.items():
        colour, style, marker, label = LOOKS[kind]
        ax.plot([b[name] for b in blocks], style, marker=marker, color=colour, lw=1.4, ms=4, label=label)
    n = len(kinds["with"])
    ax.set(title=TITLES[name], xlabel="block", xticks=range(0, n, 1 if n < 10 else 5))
    if name != "jacobian" and "gradient" not in name:
        ax.set_ylim(-0.03, 1.03)
    elif name == "jacobian":
        ax.set_ylim(bottom=-0.02)
    if name == "entropy":
        ax.legend(loc="best", fontsize=8)
