"""Figures of the pronouncing model: its measures, a beam search as a tree, and which letters each phone looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import harness
import numpy as np
import pronunciations as data

import tinygrad_sm as sm
from tinygrad_sm import nn
from tinygrad_sm.decoding import Hypothesis, beam_search
from tinygrad_sm.viz.plot import BLUE, GREEN, GREY, ORANGE, PURPLE, styled

NAMES = {
    "greedy": "greedy", "beam5": "beam 5", "beam20": "beam 20", "beam5_penalty06": "beam 5, α = 0.6",
    "beam5_penalty1": "beam 5, α = 1", "beam5_warm": "beam 5 at T",
}  # fmt: skip
COLOURS = (GREY, BLUE, GREEN, PURPLE, ORANGE, "#B7791F")


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


# -- one search as a tree ----------------------------------------------------------------------

Prefix = tuple[int, ...]


def traced(model: nn.Transformer, word: data.Pairs, width: int) -> tuple[dict[Prefix, float], set[Prefix], Hypothesis]:
    """Search, and return the sums of the best continuations at each step, those that were kept, and what won.

    The state carries what each hypothesis has written so far, so no search has to be changed for it.
    """
    sums: dict[Prefix, float] = {}
    kept: set[Prefix] = set()

    def step(tokens: Any, state: Any) -> Any:
        inner, prefixes = state
        prefixes = np.column_stack([prefixes, tokens])
        log_probs, inner = model.step(tokens, inner)
        after: dict[Prefix, float] = {}
        for prefix, row in zip(prefixes, log_probs, strict=True):
            own = tuple(map(int, prefix))
            kept.add(own)
            for token in np.argsort(-row, kind="stable")[: width + 2]:
                after[(*own, int(token))] = sums.get(own, 0.0) + float(row[token])
        best = sorted(after, key=lambda key: -after[key])[: width + 2]
        kept.update(key for key in best[:width] if key[-1] == data.END)
        sums.update((key, after[key]) for key in best)
        return log_probs, (inner, prefixes)

    source, mask, _, _ = data.batch(word)
    state = (model.start(source, mask), np.empty((1, 0), int))
    ((best, *_),) = beam_search(step, state, [data.BEGIN], end=data.END, max_length=data.CONTEXT, width=width)
    return sums, kept, best


def tree(ax: Any, model: nn.Transformer, word: data.Pairs, width: int = 3) -> None:
    """Draw a search: a column for each phone, with the sum of log-probabilities; grey and dashed is what was pruned."""
    sums, kept, best = traced(model, word, width)
    winner = (data.BEGIN, *best.tokens, data.END)
    children: dict[Prefix, list[Prefix]] = {}
    for prefix in sorted(sums, key=lambda key: -sums[key]):
        children.setdefault(prefix[:-1], []).append(prefix)
    place: dict[Prefix, float] = {}
    leaves = [0.0]

    def put(prefix: Prefix) -> float:
        """Give leaves a line each, from the top, and what branches the middle of its branches."""
        below = [put(child) for child in children.get(prefix, [])]
        if not below:
            leaves[0] -= 1.0
        place[prefix] = float(np.mean(below)) if below else leaves[0]
        return place[prefix]

    put((data.BEGIN,))
    for prefix, y in place.items():
        x, alive, wins = len(prefix) - 1, prefix in kept, prefix == winner[: len(prefix)]
        ended = prefix[-1] == data.END
        colour = ORANGE if wins else GREEN if ended and alive else BLUE if alive else GREY
        if x:
            before = place[prefix[:-1]]
            ax.plot([x - 0.75, x - 0.5, x - 0.3], [before, y, y], color=colour, lw=2.2 if wins else 1.1,
                    ls="-" if alive else (0, (2, 2)), zorder=1)  # fmt: skip
        name = word.word(0) if not x else "end" if ended else data.PHONES[prefix[-1] - data.FIRST]
        ax.text(x - (0.28 if x else 0.32), y, f"{name} {sums[prefix]:.2f}" if x else name, va="center", fontsize=8,
                color=colour, weight="bold" if wins or not x else "normal")  # fmt: skip
    ax.set(xlim=(-0.4, max(map(len, place)) - 0.2), ylim=(leaves[0] - 0.8, -0.2), xticks=[], yticks=[])
    ax.grid(visible=False)
    for side in ax.spines.values():
        side.set_visible(False)


def examples(args: Any, models: dict[str, nn.Transformer], word: data.Pairs, attended: data.Pairs) -> None:
    """Save a beam search of the first word by each model, and the attention of the last model to the second word."""
    with styled(len(models), 1, size=(8.5, 5.2)) as (figure, axes):
        for ax, (title, model) in zip(axes[0], models.items(), strict=True):
            tree(ax, model, word)
            ax.set_title(title)
        harness.save(args, "pronounce_beam", figure)
    model = list(models.values())[-1]
    source, mask, _, _ = data.batch(attended)
    with sm.no_grad():
        state = model.start(source, mask)
    (best,) = beam_search(model.step, state, [data.BEGIN], end=data.END, max_length=data.CONTEXT)
    given = np.array([[data.BEGIN, *best[0].tokens]])
    weights = np.concatenate([w[0] for w in model.cross_weights(source, given, mask)])  # (layers·heads, T, S)
    queries = [data.PHONES[t - data.FIRST] for t in best[0].tokens] + ["end"]
    plot = sm.viz.attention(
        weights, list(attended.word(0)), queries=queries,
        title="Which letters (columns) the decoder reads as it writes each phone (rows): heads 0 to 3 are of its first "
        "block, 4 to 7 of its second",
    )  # fmt: skip
    harness.save(args, "pronounce_attention", plot.figure)
