"""Reliability diagrams, each with the histogram of confidences above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .cards import INK
from .figures import Plot
from .plot import BLUE, GREY, ORANGE, styled, word

if TYPE_CHECKING:
    from ..calibration import Reliability

GAP: Any = {"facecolor": "none", "edgecolor": ORANGE, "hatch": "////", "linewidth": 0.8}
FEW = 10  # answers, of which a share says little


def reliability_diagram(found: Sequence[Reliability], labels: Sequence[str], title: str | None = None) -> Plot:
    """Draw one or more reliability diagrams side by side, each below the histogram of its confidences."""
    with styled(len(found), 2, title, size=(3.4, 2.5)) as (figure, axes):
        axes[0, 0].get_gridspec().set_height_ratios([1, 2.2])
        for i, (one, label) in enumerate(zip(found, labels, strict=True)):
            _histogram(axes[0, i], one, label)
            _diagram(axes[1, i], one)
            if i:
                for ax in axes[:, i]:
                    ax.set_ylabel("")
        top = max(ax.get_ylim()[1] for ax in axes[0])
        for ax in axes[0]:
            ax.set_ylim(0, top)
        for ax in axes[:, 0]:
            ax.legend(fontsize=7, loc="upper left", frameon=True, framealpha=0.85, edgecolor="none", borderpad=0.2)
    each = [f"{label + ': ' if label else ''}ECE {one.ece:.3f}" for one, label in zip(found, labels, strict=True)]
    return Plot(figure, f"reliability of {found[0].count:,} answers; {', '.join(each)}")


def _bars(ax: Any, one: Reliability, bottom: Any, height: Any, **look: Any) -> Any:
    low = np.array([b.low for b in one])
    width = np.array([b.high for b in one]) - low
    there = np.array([b.count > 0 for b in one])
    bottom, height = (np.broadcast_to(a, len(one))[there] for a in (bottom, height))
    return ax.bar(low[there], height, width[there], bottom, align="edge", **look)


def _histogram(ax: Any, one: Reliability, label: str) -> None:
    share = np.array([b.count for b in one]) / one.count
    _bars(ax, one, 0.0, share, color=GREY, edgecolor="white", linewidth=0.5, alpha=0.55)
    ax.axvline(one.accuracy, color=BLUE, lw=1.6, label="accuracy")
    ax.axvline(one.confidence, color=ORANGE, lw=1.6, ls="--", label="mean confidence")
    ax.set(xlim=(0, 1), ylabel="share of answers")
    ax.set_title(f"{word(label)}\n" * bool(label) + f"accuracy {one.accuracy:.3f}, confidence {one.confidence:.3f}",
                 fontsize=8, parse_math=False)  # fmt: skip
    ax.tick_params(labelbottom=False)


def _diagram(ax: Any, one: Reliability) -> None:
    accuracy, confidence = (np.array([getattr(b, name) for b in one]) for name in ("accuracy", "confidence"))
    bars = _bars(ax, one, 0.0, accuracy, color=BLUE, edgecolor="white", linewidth=0.5)
    for bar, b in zip(bars, (b for b in one if b.count), strict=True):
        bar.set_alpha(1.0 if b.count >= FEW else 0.35)
    ax.bar(0, 0, 0, color=BLUE, label="accuracy")  # for the legend, since the first bar may be pale
    _bars(ax, one, np.minimum(accuracy, confidence), abs(accuracy - confidence), **GAP, label="gap to confidence")
    ax.plot([0, 1], [0, 1], color=INK, lw=0.9, ls="--", label="calibrated")
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    ax.text(0.97, 0.05, f"ECE {100 * one.ece:.1f} %", transform=ax.transAxes, ha="right", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": GREY, "boxstyle": "round"})  # fmt: skip
