"""The style of all figures, drawn with matplotlib (extra `[plots]`), and figures of training runs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from ..text import visible

BLUE, ORANGE, GREEN, PURPLE, GREY = "#2662A8", "#DD6B20", "#007A5A", "#6D2A73", "#5B6472"
STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#E5E7EB", "axes.edgecolor": GREY, "axes.titlesize": 10, "axes.titleweight": "bold",
    "legend.frameon": False, "figure.constrained_layout.use": True,
}  # fmt: skip


@contextmanager
def styled(
    columns: int, rows: int = 1, title: str | None = None, size: tuple[float, float] = (4.2, 3.4)
) -> Iterator[tuple[Any, Any]]:
    """Give a figure and its axes (rows, columns), in the style that all figures share; needs no display."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("figures need matplotlib: pip install matplotlib") from None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        FigureCanvasAgg(figure)
        if title is not None:
            figure.suptitle(word(title, 150), fontsize=10, parse_math=False)
        yield figure, figure.subplots(rows, columns, squeeze=False)


def saved(figure: Any, target: Any) -> None:
    """Write a figure to a file, or into a buffer as PNG; an SVG drawn again is the same, with no date or random id."""
    import matplotlib

    svg = str(target).lower().endswith(".svg")
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "tinygrad_sm"}):
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box stands for it, as everywhere
        figure.savefig(target, dpi=120, metadata={"Date": None} if svg else None)


@contextmanager
def drawn(path: str | Path, columns: int, title: str | None = None) -> Iterator[Any]:
    """Give the axes of a row of plots, and save them."""
    with styled(columns, 1, title) as (figure, axes):
        yield axes[0]
        saved(figure, path)


def _series(metrics: list[dict[str, Any]], key: str) -> tuple[list[float], list[Any]]:
    rows = [row for row in metrics if row.get(key) is not None]  # None stands for what was not a finite number
    return [row["step"] for row in rows], [row[key] for row in rows]


def _float(x: float | None) -> float:
    return np.nan if x is None else x


def word(text: str, limit: int = 40) -> str:
    """Return a name fit for a figure; a `_` in front, which hides a line from the legend, gets a space before it."""
    text = visible(text, limit=limit)
    return f" {text}" if text.startswith("_") else text


def _legend(axes: Any, **options: Any) -> None:
    """Add the legend, with names as they are: `$` does not start a formula."""
    for text in axes.legend(**options).get_texts():
        text.set_parse_math(False)


def _label(axes: Any, title: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.set_ylabel(y)


def curve(metrics: list[dict[str, Any]], path: str | Path, bigram: float | None = None) -> None:
    """Draw one run: losses, attention entropy per layer, gradient norm per layer, all over the steps."""
    with drawn(path, 3) as (loss, entropy, norm):
        label = "training, mean since the last"
        loss.plot(*_series(metrics, "train_loss"), color=BLUE, lw=1.2, marker=".", ms=3, label=label)
        loss.plot(*_series(metrics, "held_out_loss"), color=ORANGE, marker="o", ms=3, label="held out")
        if bigram is not None:
            loss.axhline(bigram, color=GREY, ls="--", lw=1, label=f"bigram model, {bigram:.2f}")
        _label(loss, "Loss", "nats a character")
        _legend(loss)
        steps, values = _series(metrics, "attention")
        for i, marker in zip(range(len(values[0]) if values else 0), "osv^D*xP" * 8, strict=False):
            entropy.plot(
                steps, [_float(v[i]["entropy"]) for v in values], marker=marker, ms=3, color=_shade(i, len(values[0])),
                label=f"block {i}",
            )  # fmt: skip
        _label(entropy, "Attention entropy", "share of log n (1 = uniform)")
        entropy.set_ylim(0, 1.02)
        if values:
            _legend(entropy)
        steps, values = _series(metrics, "grad_norms")
        for i, layer in enumerate(values[0] if values else ()):
            norm.plot(
                steps,
                [_float(v[layer]) for v in values],
                color=_shade(i, len(values[0])),
                ls=("-", "--", ":")[i % 3],
                lw=1.2,
                label=word(layer),
            )
        _label(norm, "Gradient norm by layer", "norm")
        norm.set_yscale("log")
        if values:
            _legend(norm, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _shade(i: int, n: int) -> Any:
    """Return the i-th of n colours that differ in lightness too, so that grey prints can be read."""
    import matplotlib

    return matplotlib.colormaps["viridis"](0.85 * i / max(n - 1, 1))


def compare(runs: dict[str, list[dict[str, Any]]], path: str | Path, title: str) -> None:
    """Draw runs over each other: held-out loss, mean attention entropy, joint gradient norm of the blocks."""
    with drawn(path, 3, title) as (loss, entropy, norm):
        for (name, metrics), colour, style in zip(
            runs.items(), cycle((BLUE, ORANGE, GREEN, PURPLE)), cycle(("-", "--", ":"))
        ):
            line = {"color": colour, "ls": style, "lw": 1.4, "label": word(name)}
            loss.plot(*_series(metrics, "held_out_loss"), **line)
            steps, values = _series(metrics, "attention")
            entropy.plot(steps, [np.mean([_float(a["entropy"]) for a in v]) for v in values], **line)
            steps, values = _series(metrics, "grad_norms")
            blocks = [[_float(n) ** 2 for layer, n in v.items() if layer.startswith("blocks")] for v in values]
            norm.plot(steps, np.sqrt([sum(b) for b in blocks]), **line)
        _label(loss, "Held-out loss", "nats a character")
        _label(entropy, "Attention entropy, mean of blocks", "share of log n (1 = uniform)")
        entropy.set_ylim(0, 1.02)
        _label(norm, "Gradient norm of the blocks", "norm")
        norm.set_yscale("log")
        _legend(loss)
