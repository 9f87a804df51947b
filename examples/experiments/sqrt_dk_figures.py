"""The figures of the experiment sqrt_dk: losses over the steps, and the attention before and after training."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_sm.viz.plot import BLUE, GREEN, GREY, ORANGE, PURPLE, styled

LOOKS = {"scaled": (BLUE, "-", "o"), "unscaled": (ORANGE, "--", "s"), "folded": (GREEN, ":", "^"),
         "slowed": (PURPLE, "-.", "D")}  # fmt: skip
STARTS = {"unit": "q and k start with variance 1", "gpt2": "GPT-2's small weights"}
Runs = list[dict[str, Any]]


def losses(runs: Runs) -> Any:
    """Draw the held-out loss over the steps: a panel for each init and d_k; the mean over seeds, and their range."""
    inits, widths = _axes(runs)
    shown = np.array([r["curve"] for r in runs])[:, 2:, 1]  # the first fifth is steep and the same for all
    low, high = shown.min() - 0.03, shown.max() + 0.03
    with styled(len(widths), len(inits), size=(3.5, 2.9)) as (figure, axes):
        for row, init in zip(axes, inits, strict=True):
            for ax, d_k in zip(row, widths, strict=True):
                ends = {}
                for kind, (colour, style, _) in LOOKS.items():
                    curves = [r["curve"] for r in _select(runs, init, d_k, kind)]
                    if curves:
                        steps, values = np.array(curves[0])[:, 0], np.array(curves)[:, :, 1]
                        mean = values.mean(axis=0)
                        ax.plot(steps, mean, style, color=colour, lw=1.6)
                        ax.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0)
                        ends[kind] = mean[-1]
                last = runs[0]["curve"][-1][0]
                ax.set(title=f"d_k = {d_k}", xlim=(0, last * 1.42), ylim=(low, high))
                ax.set_xticks(np.linspace(0, last, 4).astype(int))
                for kind, y in _apart(ends, 0.07 * (high - low)).items():
                    ax.text(last * 1.03, y, kind, color=LOOKS[kind][0], va="center", fontsize=8)
            row[0].set_ylabel(f"{STARTS[init]}\nheld-out loss, nats a character")
        for ax in axes[-1]:
            ax.set_xlabel("step")
    return figure


def attention(runs: Runs) -> Any:
    """Draw what training does to the attention: from an open mark at the start to a filled one at the end."""
    inits, widths = _axes(runs)
    parts = (
        ("entropy", "entropy of the weights / log n"),
        ("median gradient", "gradient of the scores, median row"),
        ("dead rows", "share of dead rows"),
    )
    with styled(len(parts), len(inits), size=(3.5, 2.9)) as (figure, axes):
        for row, init in zip(axes, inits, strict=True):
            kinds = [kind for kind in LOOKS if any(_select(runs, init, d_k, kind) for d_k in widths)]
            for ax, (name, title) in zip(row, parts, strict=True):
                for i, d_k in enumerate(widths):
                    for j, kind in enumerate(kinds):
                        chosen = _select(runs, init, d_k, kind)
                        if chosen:
                            x = i + 0.17 * (j - (len(kinds) - 1) / 2)
                            first, last = (np.mean([r[name + when] for r in chosen]) for when in (" at first", ""))
                            _arrow(ax, x, first, last, kind)
                ax.set(title=title, xlim=(-0.5, len(widths) - 0.5))
                ax.set_xticks(range(len(widths)), [f"d_k = {d_k}" for d_k in widths])
                ax.grid(axis="x", visible=False)
                if name == "median gradient":
                    ax.set(yscale="log", ylim=(5e-7, 0.3))
                else:
                    ax.set_ylim(-0.03, 1.03)
            row[0].set_ylabel(STARTS[init])
            for i, kind in enumerate(kinds):
                colour, _, marker = LOOKS[kind]
                row[2].plot(0.04, 0.94 - 0.09 * i, marker, color=colour, ms=5, transform=row[2].transAxes)
                row[2].text(0.08, 0.94 - 0.09 * i, kind, color=colour, va="center", transform=row[2].transAxes)
        axes[0][2].text(
            0.98, 0.94, "open: before training\nfilled: after", ha="right", va="top", fontsize=7, color=GREY,
            transform=axes[0][2].transAxes,
        )  # fmt: skip
    return figure


def _axes(runs: Runs) -> tuple[list[str], list[int]]:
    return sorted({r["init"] for r in runs}, reverse=True), sorted({r["d_k"] for r in runs})


def _select(runs: Runs, init: str, d_k: int, kind: str) -> Runs:
    return [r for r in runs if (r["init"], r["d_k"], r["scores"]) == (init, d_k, kind)]


def _arrow(ax: Any, x: float, first: float, last: float, kind: str) -> None:
    colour, _, marker = LOOKS[kind]
    ax.plot([x, x], [first, last], color=colour, lw=1.2, alpha=0.7)
    ax.plot(x, first, marker, color=colour, mfc="white", ms=5)
    ax.plot(x, last, marker, color=colour, ms=5)


def _apart(ends: dict[str, float], gap: float) -> dict[str, float]:
    """Move labels up and down until they are `gap` apart, in the order of the values, around where they belong."""
    names = sorted(ends, key=lambda name: ends[name])
    y = np.array([ends[name] for name in names])
    for _ in range(100):
        for i in range(len(y) - 1):
            if (near := gap - (y[i + 1] - y[i])) > 1e-6:
                y[i], y[i + 1] = y[i] - near / 2, y[i + 1] + near / 2
    return dict(zip(names, y, strict=True))
