"""Figures of the pronouncing model: its measures, a beam search as a tree, and which letters each phone looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import harness
import numpy as np
import pronunciations as data

import tinygrad_sm as sm
from tinygrad_sm import nn
from tinygrad_sm.decoding import beam_search
from tinygrad_sm.viz.plot import BLUE, GREEN, GREY, ORANGE, styled

NAMES = {
    "greedy": "greedy", "beam5": "beam 5", "beam20": "beam 20", "beam5_penalty06": "beam 5, α = 0.6",
    "beam5_penalty1": "beam 5, α = 1", "beam5_warm": "beam 5 at the fitted T",
}  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, GREY)


def summary(table: Sequence[dict[str, Any]], searches: Sequence[str]) -> Any:
    """Draw perplexity, words wrong, and words that the search lost, for each ε and size of the data."""
    sizes = list(dict.fromkeys(row["data_size"] for row in table))
    shown = [name for name in ("greedy", "beam5", "beam20", "beam5_warm") if name in searches]
    with styled(3, len(sizes), size=(4.0, 3.4)) as (figure, axes):
        for line, size in zip(axes, sizes, strict=True):
            rows = sorted((row for row in table if row["data_size"] == size), key=lambda row: row["smoothing"])
            seeds = " and ".join(dict.fromkeys(str(row["n"]) for row in rows))
            label = f"{size} data" if size != "quick" else "quick"
            _points(line[0], rows, {"perplexity": "as trained", "perplexity_after": "at the fitted T"})
            line[0].set(title="perplexity of a phone", ylabel=f"{label}, {seeds} seed{'s' * (seeds != '1')}")
            _points(line[1], rows, {f"{name}_wer": NAMES[name] for name in shown})
            line[1].set(title="words wrong", ylabel="% of words")
            _points(line[2], rows, {f"{name}_search_errors": NAMES[name] for name in shown})
            line[2].set(title="of these lost by the search", ylabel="% of words")
    return figure


def _points(ax: Any, rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> None:
    """Draw, for each ε, a point for each column: the mean, with the standard deviation."""
    width = 0.6 / len(columns)
    for i, ((name, label), colour, marker) in enumerate(zip(columns.items(), COLOURS, "osD^", strict=False)):
        x = np.arange(len(rows)) + (i - (len(columns) - 1) / 2) * width
        mean, sd = [row[name]["mean"] for row in rows], [row[name]["sd"] or 0.0 for row in rows]
        ax.errorbar(x, mean, sd, fmt=marker, ms=5, capsize=3, color=colour, label=label)
    ax.set_xticks(range(len(rows)), [f"ε = {row['smoothing']:g}" for row in rows])
    ax.set_xlim(-0.6, len(rows) - 0.4)
    ax.margins(y=0.15)
    ax.grid(axis="x", visible=False)
    ax.legend(ncols=2, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12))


def examples(args: Any, models: dict[float, nn.Transformer], word: data.Pairs, attended: data.Pairs) -> None:
    """Save a beam search of one word by each model, and where the first model looks as it writes another word."""
    names = [word.word(0), "end", *data.PHONES]
    options: Any = {"end": data.END, "max_length": data.CONTEXT}
    for smoothing, model in models.items():
        source, mask, _, _ = data.batch(word)
        title = f"{word.word(0)}, trained with ε = {smoothing:g}; the dictionary has {' '.join(spoken(word))}"
        plot = sm.viz.beam(model.step, model.start(source, mask), data.BEGIN, names=names, title=title, **options)
        harness.save(args, f"pronounce_beam_{smoothing:g}", plot.figure)
    model = next(iter(models.values()))
    source, mask, _, _ = data.batch(attended)
    ((best, *_),) = beam_search(model.step, model.start(source, mask), [data.BEGIN], **options)
    weights = model.cross_weights(source, np.array([[data.BEGIN, *best.tokens]]), mask)[-1][0]
    written = [names[t] for t in best.tokens] + ["end"]
    title = "The letters (columns) that the last block of the decoder reads as it writes each phone (rows)"
    plot = sm.viz.attention(weights, list(attended.word(0)), queries=written, title=title)
    harness.save(args, "pronounce_attention", plot.figure)


def spoken(word: data.Pairs) -> list[str]:
    """Return the phones of a word."""
    return [data.PHONES[t - data.FIRST] for t in word.target(0)]
