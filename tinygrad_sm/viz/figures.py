"""Figures of what a softmax does: attention weights by head, a distribution, the surface of two logits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ..ops.options import positive, shown
from ..ops.softmax import softmax
from ..tensor import Array, Tensor
from .cards import INK
from .plot import BLUE, GREEN, GREY, ORANGE, PURPLE, saved, styled, word

COLUMNS = 4  # heads in a row
LABELLED = 20  # tokens that have room for a label each
FILLS = ((BLUE, ""), (ORANGE, "///"), (GREEN, "..."), (PURPLE, "xxx"))  # colours, and hatches for grey prints


@dataclass(frozen=True)
class Plot:
    """A figure. A notebook shows it by itself; `figure` is matplotlib's, to be changed further."""

    figure: Any
    alt: str  # what it shows, in words

    def __repr__(self) -> str:
        return f"<Plot: {self.alt}>"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the figure to a file ending in .png, .svg, .pdf or another format of matplotlib's; return its path."""
        saved(self.figure, path)
        return Path(path)

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        saved(self.figure, buffer)
        return buffer.getvalue()


def numbers(x: Any, caller: str, ndims: tuple[int, ...], what: str) -> Array:
    """Return a Tensor or array as float64, after checking its axes."""
    array = np.asarray(x.data if isinstance(x, Tensor) else x)
    if array.dtype.kind not in "fiu" or array.ndim not in ndims or not array.size:
        raise ValueError(f"{caller}: {what}; got {array.dtype} of shape {array.shape}")
    return array.astype(np.float64)


def words(given: Sequence[Any] | None, n: int, caller: str, name: str) -> list[str]:
    """Return a label for each of n things: those given, or their numbers."""
    if given is None:
        return [str(i) for i in range(n)]
    if len(given) != n:
        raise ValueError(f"{caller}: there are {len(given)} {name} for {n} entries: {shown(given)}")
    return [word(str(w), 16) for w in given]


def attention(
    weights: Any, tokens: Sequence[Any] | None = None, *, queries: Sequence[Any] | None = None, title: str | None = None
) -> Plot:
    """Draw attention weights as a heat map for each head: a row for each query, a column for each key.

    Dark is a large weight, on one scale for all heads. Above each head stands how spread its rows are on the average,
    in nats: 0 looks at one key, log n at all n alike.

    Parameters
    ----------
    weights : Tensor or array, (T, S) or (heads, T, S); of one example
        As `return_weights=True` returns them.
    tokens : sequence of str, optional
        The keys, S of them, and the queries too if these are as many.
    queries : sequence of str, optional
        The queries, T of them, where they are others.
    title : str, optional
        Stands above the figure.

    Returns
    -------
    Plot

    Raises
    ------
    ValueError
        If the weights have other axes, or there are not as many tokens as weights.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> sm.viz.attention(np.eye(2)[None], ["the", "cat"])
    <Plot: attention weights of 1 head, 2 queries, 2 keys>
    """
    w = numbers(
        weights, "attention", (2, 3), "weights must be (T, S) or (heads, T, S); of a batch pass one, weights[0]"
    )
    w = w.reshape(-1, *w.shape[-2:])
    heads, t, s = w.shape
    keys = words(tokens, s, "attention", "tokens")
    rows = words(tokens if queries is None and t == s else queries, t, "attention", "queries")
    entropy = -(w * np.log(np.where(w > 0, w, 1))).sum(axis=2).mean(axis=1)
    columns, most = min(heads, COLUMNS), max(np.nanmax(w), 1e-12)
    size = 3.2, 0.4 + 2.8 * min(max(t / s, 0.6), 2)
    with styled(columns, -(-heads // columns), title, size) as (figure, axes):
        image = None
        for h, ax in enumerate(axes.flat):
            if h >= heads:
                ax.set_visible(False)
                continue
            image = ax.imshow(w[h], cmap="Blues", vmin=0, vmax=most, interpolation="nearest")
            ax.set_title(f"head {h}: {entropy[h]:.2f} nats" if heads > 1 else f"{entropy[h]:.2f} nats")
            ax.grid(visible=False)
            ticks(ax.set_xticks, keys, rotation=90)
            ticks(ax.set_yticks, rows)
        figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
    parts = [f"{n} {name if n == 1 else plural}" for n, name, plural in
             ((heads, "head", "heads"), (t, "query", "queries"), (s, "key", "keys"))]  # fmt: skip
    return Plot(figure, f"attention weights of {', '.join(parts)}")


def ticks(place: Any, labels: list[str], most: int = LABELLED, **look: Any) -> None:
    """Label each entry of an axis, or of many some."""
    step = -(-len(labels) // most)
    for text in place(range(0, len(labels), step), labels[::step], fontsize=7, parse_math=False, **look):
        text.label1.set_parse_math(False)


def distribution(
    logits: Any, labels: Sequence[Any] | None = None, *, temperature: float | Sequence[float] = 1.0,
    title: str | None = None,
) -> Plot:  # fmt: skip
    """Draw logits, and beside them the probabilities that softmax makes of them, at one temperature or several.

    Parameters
    ----------
    logits : Tensor or array (C,)
        The logits of one row.
    labels : sequence of str, optional
        The names of the classes.
    temperature : float, or a sequence of up to four
        Above 1 flattens the distribution, below 1 sharpens it.
    title : str, optional
        Stands above the figure.

    Returns
    -------
    Plot

    Raises
    ------
    ValueError
        If the logits have other axes, or there are not as many labels.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.viz.distribution([1.0, 2.0, 3.0], ["cat", "dog", "horse"], temperature=[1.0, 0.5])
    <Plot: logits of 3 classes, and their softmax at temperature 1, 0.5>
    """
    z = numbers(logits, "distribution", (1,), "logits must be one row (C,); of a batch pass one, logits[0]")
    names = words(labels, len(z), "distribution", "labels")
    given: Any = temperature
    temperatures = [positive(t, "temperature", "distribution") for t in ([given] if np.ndim(given) == 0 else given)]
    if not 1 <= len(temperatures) <= len(FILLS):
        raise ValueError(f"distribution: there is room for 1 to {len(FILLS)} temperatures, not {len(temperatures)}")
    place, width = np.arange(len(z)), 0.8 / len(temperatures)
    upright = 9 < len(z) * len(temperatures) <= 12  # numbers side by side would overlap
    with styled(2, 1, title) as (figure, axes):
        left, right = axes[0]
        left.bar(place, z, color=GREY)
        left.axhline(0, color=GREY, lw=0.8)
        left.set(title="logits z", ylabel="z")
        for i, (t, (colour, hatch)) in enumerate(zip(temperatures, FILLS, strict=False)):
            p = softmax(z, temperature=t)
            bars = right.bar(
                place + (i - (len(temperatures) - 1) / 2) * width, p, width, color=colour, hatch=hatch,
                edgecolor="white", label=f"T = {t:g}",
            )  # fmt: skip
            if len(z) * len(temperatures) <= 12:
                turned = {"rotation": 90, "padding": 2} if upright else {}
                right.bar_label(bars, [f"{x:.3f}" for x in p], fontsize=7, **turned)
        right.set(title="probabilities exp(z/T) / Σ exp(z/T)", ylabel="p", ylim=(0, 1.2 if upright else 1.08))
        if len(temperatures) > 1 or temperatures != [1.0]:
            right.legend()
        for ax in (left, right):
            ax.grid(axis="x", visible=False)
            ticks(ax.set_xticks, names, rotation=0 if max(map(len, names)) * len(names) < 45 else 90)
    warmth = ", ".join(f"{t:g}" for t in temperatures)
    return Plot(figure, f"logits of {len(z)} classes, and their softmax at temperature {warmth}")


def softmax_contour(
    *, low: float = -6.0, high: float = 6.0, temperature: float = 1.0, title: str | None = None
) -> Plot:
    """Draw the softmax of two logits as contour lines: p₁ = exp(z₁/T) / (exp(z₁/T) + exp(z₂/T)).

    It depends on z₁ − z₂ alone, so the lines are straight: away from the diagonal, where p₁ = ½, the softmax is soon
    an argmax. (The article's figure has Σ z over all other classes on its second axis, and with it
    exp(Σ z) in place of Σ exp(z): for two classes that is the same, for more it is not.)

    Parameters
    ----------
    low, high : float
        The range of both logits.
    temperature : float
        T: above 1 draws the lines apart, below 1 together.
    title : str, optional
        Stands above the figure.

    Returns
    -------
    Plot

    Raises
    ------
    ValueError
        If `low` is not below `high`, or the temperature not above 0.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.viz.softmax_contour()
    <Plot: softmax of two logits from -6 to 6, as contour lines>
    """
    temperature = positive(temperature, "temperature", "softmax_contour")
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"softmax_contour: low={low!r} must be below high={high!r}, and both finite")
    z = np.linspace(low, high, 121)
    p = softmax(np.stack(np.meshgrid(z, z), axis=-1), temperature=temperature)[..., 0]
    with styled(1, 1, title, size=(4.8, 4.0)) as (figure, axes):
        ax = axes[0, 0]
        filled = ax.contourf(z, z, p, levels=np.linspace(0, 1, 11), cmap="Blues")
        levels = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
        inks = [INK if level <= 0.5 else "white" for level in levels]
        lines = ax.contour(z, z, p, levels=levels, colors=inks, linewidths=0.8)
        ax.clabel(lines, fmt="%g", fontsize=7)
        ax.set(title="softmax of two logits", xlabel="z₁", ylabel="z₂", aspect="equal")
        ax.grid(visible=False)
        figure.colorbar(filled, ax=ax, label="p₁")
    return Plot(figure, f"softmax of two logits from {low:g} to {high:g}, as contour lines")
