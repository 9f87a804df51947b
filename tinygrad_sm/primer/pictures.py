"""The figures of the article, drawn right, and the graphs behind its examples."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from .. import naive
from ..derivatives import jacobian as jacobian_of
from ..tensor import Array, Tensor
from ..viz.cards import INK
from ..viz.draw import Drawing, draw
from ..viz.figures import Plot, distribution
from ..viz.flow_figures import jacobian as jacobian_figure
from ..viz.plot import BLUE, GREEN, GREY, ORANGE, styled

__all__ = [
    "contours", "derivative", "derivatives", "distribution", "gaps", "jacobian", "loss_graph", "overflow", "stable",
    "stall", "variance", "weights",
]  # fmt: skip
COLOURS = (ORANGE, BLUE, GREEN)


def contours() -> Plot:
    """Softmax of two logits; of three, by what the first competes with; and with exp(Σ z) in its place."""
    z = np.linspace(-6, 6, 121)
    first, second = np.meshgrid(z, z)
    levels = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
    two = F.sigmoid(first - second)
    exact = np.exp(first) / (np.exp(first) + 2 * np.exp(second))  # both others have the logit `second`
    sloppy = np.exp(first) / (np.exp(first) + np.exp(2 * second))
    titles = ("two logits", "three logits, z₃ = z₂", "the same, with exp(z₂ + z₃)")
    with styled(3, 1, size=(3.6, 3.4)) as (figure, axes):
        filled = None
        for ax, p, title in zip(axes[0], (two, exact, sloppy), titles, strict=True):
            filled = ax.contourf(z, z, p, levels=np.linspace(0, 1, 11), cmap="Blues")
            inks = [INK if level <= 0.5 else "white" for level in levels]
            lines = ax.contour(z, z, p, levels=levels, colors=inks, linewidths=0.8)
            ax.clabel(lines, fmt="%g", fontsize=7)
            ax.set(title=title, xlabel="z₁", ylabel="z₂", aspect="equal")
            ax.grid(visible=False)
        figure.colorbar(filled, ax=axes, label="p₁", shrink=0.8)
    return Plot(figure, "softmax of two and of three logits as contour lines, and with the article's approximation")


def overflow() -> Drawing:
    """Draw the graph of the naive softmax of (1000, 0)."""
    z = Tensor([1000.0, 0.0], requires_grad=True, name="z")
    with np.errstate(all="ignore"):
        return draw(naive.softmax(z)[0], title="softmax as written")


def stable() -> Drawing:
    """Draw the graph of the stable softmax of the same, opened."""
    z = Tensor([1000.0, 0.0], requires_grad=True, name="z")
    return draw(F.softmax(z)[0], title="with the maximum subtracted", expand="softmax")


def loss_graph() -> Drawing:
    """Draw cross-entropy, opened into its definition."""
    z = Tensor([1.0, 2.0, 3.0], requires_grad=True, name="z")
    return draw(F.cross_entropy(z, 1), title="cross-entropy, opened", expand="cross_entropy")


def jacobian(logits: Array) -> Plot:
    """Draw diag(p) − p·pᵀ as a heat map."""
    J = jacobian_of(F.softmax, Tensor(logits)).data
    return jacobian_figure(J, ["p₁", "p₂", "p₃"], ["z₁", "z₂", "z₃"], title="diag(p) − p·pᵀ of the logits 1, 2, 3")


def stall(runs: dict[str, Any]) -> Plot:
    """Draw the held-out loss of both losses from both starts."""
    starts = ("uniform", "sure and wrong")
    with styled(2, 1, size=(4.4, 3.2)) as (figure, axes):
        for ax, start in zip(axes[0], starts, strict=True):
            for name, colour, style in (("cross-entropy", BLUE, "-"), ("absolute error", ORANGE, "--")):
                nats = runs[name][start]["nats"]
                steps = np.linspace(0, runs["steps"], len(nats))
                ax.plot(steps, nats, style, color=colour, label=name)
                ax.annotate(
                    f"{nats[-1]:.2f}", (steps[-1], nats[-1]), xytext=(3, 0), textcoords="offset points", color=colour
                )
            ax.set(title=f"start: {start}", xlabel="step", ylabel="nats a character, held out", ylim=(0, None))
            ax.legend(loc="best")
    return Plot(figure, "held-out loss of a bigram model trained with cross-entropy and with the absolute error")


def variance(table: list[dict[str, float]]) -> Plot:
    """Draw mean and variance of q·k over d_k."""
    d = np.array([row["d_k"] for row in table])
    with styled(2, 1, size=(4.0, 3.2)) as (figure, axes):
        left, right = axes[0]
        error = 2 * np.array([row["error"] for row in table])
        left.errorbar(
            d, [row["mean"] for row in table], error, fmt="o", color=BLUE, capsize=3, label="measured, ± 2 s.e."
        )
        left.axhline(0, color=GREY, lw=1, label="theory: 0")
        left.axhline(1, color=ORANGE, lw=1, ls="--", label="the article: 1")
        left.set(xscale="log", xlabel="d_k", title="mean of q·k")
        left.legend()
        right.plot(d, [row["variance"] for row in table], "o", color=BLUE, label="measured")
        right.plot(d, d, color=GREY, lw=1, label="theory: d_k")
        right.set(xscale="log", yscale="log", xlabel="d_k", title="variance of q·k")
        right.legend()
    return Plot(figure, "mean and variance of q·k over d_k, measured and in theory")


def weights(w: dict[str, Array]) -> Plot:
    """Draw histograms of attention weights, one panel for each way to divide the scores."""
    bins = np.linspace(0, 1, 51)
    with styled(len(w), 1, size=(3.6, 3.0)) as (figure, axes):
        for ax, (name, part), colour in zip(axes[0], w.items(), COLOURS, strict=True):
            ax.hist(part.ravel(), bins, color=colour)
            ax.set_ylim(0.7, 2 * part.size)
            ax.axvline(1 / part.shape[-1], color=GREY, lw=1, ls="--")
            largest = np.median(part.max(axis=-1))
            title = f"{name}\nlargest weight of a row: {largest:.3g}"
            ax.set(title=title, xlabel="weight", yscale="log", ylabel="number of weights")
    return Plot(figure, "histograms of attention weights of the same q and k, divided in three ways; dashed: uniform")


def derivatives(w: dict[str, Array]) -> Plot:
    """Draw histograms of p·(1 − p) on a logarithmic axis."""
    bins = np.logspace(-24, 0, 73)
    with styled(len(w), 1, size=(3.6, 3.0)) as (figure, axes):
        for ax, (name, part), colour in zip(axes[0], w.items(), COLOURS, strict=True):
            slope = (part * (1 - part)).ravel()
            ax.hist(np.clip(slope, bins[0], None), bins, color=colour)
            ax.axvline(np.median(slope), color=INK, lw=1, ls="--")
            ax.set(
                title=f"{name}\nmedian {np.median(slope):.1e}",
                xlabel="p·(1 − p)",
                xscale="log",
                ylabel="number of weights",
            )
    return Plot(figure, "histograms of p·(1 − p) of the same attention weights; dashed: median")


def derivative() -> Plot:
    """Draw p·(1 − p) over p, and over z."""
    p, z = np.linspace(0, 1, 101), np.linspace(-8, 8, 201)
    with styled(2, 1, size=(4.0, 3.0)) as (figure, axes):
        left, right = axes[0]
        left.plot(p, p * (1 - p), color=BLUE)
        left.set(title="over p", xlabel="p", ylabel="∂p/∂z = p·(1 − p)", ylim=(0, 0.27))
        for n, colour, style in ((2, BLUE, "-"), (10, ORANGE, "--"), (100, GREEN, ":")):
            s = F.sigmoid(z - np.log(n - 1))
            right.plot(z, s * (1 - s), style, color=colour, label=f"{n} classes")
        right.set(title="over z, the other logits being 0", xlabel="z", ylim=(0, 0.27))
        right.legend()
    return Plot(figure, "the derivative of softmax by its own logit, over p and over z")


def gaps(by_epsilon: dict[float, Array], limit: float) -> Plot:
    """Draw how far the true logit gets ahead of the others, over the steps."""
    with styled(1, 1, size=(5.2, 3.4)) as (figure, axes):
        ax = axes[0, 0]
        for (epsilon, gap), colour, style in zip(by_epsilon.items(), (ORANGE, BLUE), ("-", "--"), strict=True):
            ax.plot(np.arange(1, len(gap) + 1), gap, style, color=colour, label=f"ε = {epsilon:g}")
        ax.axhline(limit, color=GREY, lw=1)
        text = f"log((1 − ε + ε/K)/(ε/K)) = {limit:.2f}"
        at = (len(by_epsilon[0.0]), limit)
        ax.annotate(text, at, xytext=(0, -12), textcoords="offset points", ha="right", color=GREY)
        ax.set(xscale="log", xlabel="step of gradient descent", ylabel="logit of the true class − another")
        ax.legend(loc="lower right")
    return Plot(figure, "the gap of the logits over the steps, without and with label smoothing")
