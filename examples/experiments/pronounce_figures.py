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
    "beam5_penalty1": "beam 5, α = 1", "beam5_warm": "beam 5 at T",
}  # fmt: skip


def summary(table: Sequence[dict[str, Any]], searches: Sequence[str]) -> Any:
    """Draw perplexity, words wrong, and words that the search lost, for each ε and size of the data."""
    sizes = list(dict.fromkeys(row["data_size"] for row in table))
    with styled(3, len(sizes), size=(4.4, 3.3)) as (figure, axes):
        for line, size in zip(axes, sizes, strict=True):
            rows = sorted((row for row in table if row["data_size"] == size), key=lambda row: row["smoothing"])
            seeds = " and ".join(dict.fromkeys(str(row["n"]) for row in rows))
            label = f"{size} data" if size != "quick" else "quick"
            temperature = {"perplexity": "as trained", "perplexity_after": "at the fitted T"}
            _bars(line[0], rows, temperature, (BLUE, ORANGE), low=1.0)
            line[0].set(title="perplexity of a phone", ylabel=f"{label}, {seeds} seed{'s' * (seeds != '1')}")
            shown = [name for name in searches if name in ("greedy", "beam5", "beam20", "beam5_warm")]
            wer = {f"{name}_wer": NAMES[name] for name in shown}
            _bars(line[1], rows, wer, (GREY, BLUE, GREEN, ORANGE))
            line[1].set(title="words wrong", ylabel="% of words")
            lost = {f"{name}_search_errors": NAMES[name] for name in shown}
            _bars(line[2], rows, lost, (GREY, BLUE, GREEN, ORANGE), low=0.0)
            line[2].set(title="of these lost by the search", ylabel="% of words")
    return figure


def _bars(ax: Any, rows: Any, columns: dict[str, str], colours: Sequence[str], low: float | None = None) -> None:
    """Draw a group of points for each ε: means with their standard deviations."""
    width = 0.7 / len(columns)
    values = []
    for i, ((name, label), colour) in enumerate(zip(columns.items(), colours, strict=False)):
        x = np.arange(len(rows)) + (i - (len(columns) - 1) / 2) * width
        mean = np.array([row[name]["mean"] for row in rows])
        sd = np.array([row[name]["sd"] or 0.0 for row in rows])
        values += [mean - sd, mean + sd]
        ax.errorbar(x, mean, sd, fmt="o", ms=6, capsize=3, color=colour, label=label)
    ax.set_xticks(range(len(rows)), [f"ε = {row['smoothing']:g}" for row in rows])
    ax.set_xlim(-0.6, len(rows) - 0.4)
    ax.grid(axis="x", visible=False)
    bottom, top = min(map(np.min, values)), max(map(np.max, values))
    room = max(top - bottom, 0.1)
    ax.set_ylim(
        bottom - 0.15 * room if low is None else low - (0.03 * (top - low) if low == 0 else 0), top + 0.45 * room
    )
    ax.legend(ncols=2, fontsize=8, loc="upper left")


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
