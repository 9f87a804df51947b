"""A beam search as a tree: what was kept at each step, what was pruned, and what won."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..decoding import Hypothesis, Step, beam_search
from ..ops.options import count
from ..tensor import Tensor
from .figures import Plot
from .plot import BLUE, GREEN, GREY, ORANGE, styled, word

PRUNED = 2  # of what was pruned in each step, so many are shown
Prefix = tuple[int, ...]


class Trace(NamedTuple):
    """What a search saw: each hypothesis from its begin on, with its sum; those it kept; and the best."""

    sums: dict[Prefix, float]
    kept: set[Prefix]
    best: Hypothesis


def traced(step: Step, state: Any, begin: int, *, end: int, width: int, **options: Any) -> Trace:
    """Search for one sequence, and watch. The state carries what each hypothesis has written, so it can be told."""
    sums: dict[Prefix, float] = {(begin,): 0.0}
    kept: set[Prefix] = set()

    def watched(tokens: Any, both: Any) -> Any:
        inner, written = both
        log_probs, inner = step(tokens, inner)
        rows = np.asarray(log_probs.data if isinstance(log_probs, Tensor) else log_probs, np.float64)
        written = np.column_stack([written, tokens])
        after: dict[Prefix, float] = {}
        for own, row in zip((tuple(map(int, w)) for w in written), rows, strict=True):
            kept.add(own)
            for token in np.argsort(-row, kind="stable")[: width + PRUNED]:
                if row[token] > -np.inf:
                    after[(*own, int(token))] = sums[own] + float(row[token])
        best = sorted(after, key=lambda prefix: -after[prefix])[: width + PRUNED]
        kept.update(prefix for prefix in best[:width] if prefix[-1] == end)
        sums.update((prefix, after[prefix]) for prefix in best)
        return log_probs, (inner, written)

    start = state, np.empty((1, 0), int)
    ((best, *_),) = beam_search(watched, start, [begin], end=end, width=width, **options)
    return Trace(sums, kept, best)


def placed(sums: dict[Prefix, float]) -> dict[Prefix, float]:
    """Give each hypothesis its line: what branches no more one of its own, the likelier above; others the middle."""
    children: dict[Prefix, list[Prefix]] = {prefix: [] for prefix in sums}
    for prefix in sorted(sums, key=lambda prefix: -sums[prefix]):
        if len(prefix) > 1:
            children[prefix[:-1]].append(prefix)
    order: list[Prefix] = []
    stack: list[Prefix] = [prefix for prefix in sums if len(prefix) == 1]
    while stack:
        order.append(stack.pop())
        stack += children[order[-1]][::-1]
    place: dict[Prefix, float] = {}
    for prefix in order:
        if not children[prefix]:
            place[prefix] = float(len(place))
    for prefix in reversed(order):  # children before parents
        if children[prefix]:
            place[prefix] = float(np.mean([place[child] for child in children[prefix]]))
    return place


def beam(
    step: Step, state: Any, begin: int, *, end: int, max_length: int, width: int = 3, length_penalty: float = 0.0,
    names: Sequence[Any] | None = None, title: str | None = None,
) -> Plot:  # fmt: skip
    """Draw the beam search for one sequence as a tree: a column for each token, with the log-probability so far.

    Orange is the hypothesis that won; blue was kept; green has ended; grey and dashed was not followed: pruned, or left
    when nothing alive could win any more. Of what was pruned in each step the two likeliest are shown.

    Parameters
    ----------
    step, state, end, max_length, width, length_penalty
        As in `decoding.beam_search`; the state has one row.
    begin : int
        The token that the sequence starts with.
    names : sequence of str, optional
        The names of the tokens, with those of begin and end.
    title : str, optional
        Stands above the figure.

    Returns
    -------
    Plot

    Raises
    ------
    ValueError, TypeError
        As `decoding.beam_search`, and if there are too few names.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> table = np.log([[0.1, 0.3, 0.5, 0.1], [0.1, 0.1, 0.1, 0.7], [0.2, 0.3, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]])
    >>> sm.viz.beam(lambda tokens, state: (table[tokens], state), None, 0, end=3, max_length=5, width=2)
    <Plot: beam search of width 2 as a tree: 1 3, with log-probability -1.56, wins among 8>
    """
    begin = count(np.asarray(begin).item() if np.size(begin) == 1 else begin, "begin", "beam", 0)
    trace = traced(
        step, state, begin, end=end, width=width, max_length=max_length, length_penalty=length_penalty
    )  # fmt: skip
    winner: Prefix = (begin, *trace.best.tokens, *([end] if trace.best.finished else []))
    place = placed(trace.sums)
    columns, lines = max(map(len, place)), 1 + max(place.values())

    largest = max(max(prefix) for prefix in place)
    if names is not None and len(names) <= largest:
        raise ValueError(f"beam: there are {len(names)} names, and a token {largest}; give one for each, from 0 on")

    def name(token: int) -> str:
        return word(str(token if names is None else names[token]), 16)

    with styled(1, 1, title, size=(max(1.05 * columns, 4.6), 0.26 * lines + 0.6)) as (figure, axes):
        ax = axes[0, 0]
        for prefix, y in place.items():
            x, alive, wins = len(prefix) - 1, prefix in trace.kept, prefix == winner[: len(prefix)]
            colour = ORANGE if wins else GREY if not alive else GREEN if prefix[-1] == end else BLUE
            if x:
                above = place[prefix[:-1]]
                ax.plot(
                    [x - 0.27, x - 0.17, x - 0.04], [above, y, y], color=colour, lw=2.2 if wins else 1.0,
                    ls="-" if alive or wins else (0, (2, 2)), zorder=2 if wins else 1,
                )  # fmt: skip
            total = f"{round(trace.sums[prefix], 2) + 0.0:.2f}".replace("-", "−")
            ax.text(
                x if x else 0.7, y, f"{name(prefix[-1])}  {total}" if x else name(begin), va="center",
                ha="left" if x else "right", fontsize=8, color=colour, parse_math=False,
                weight="bold" if wins else "normal",
            )  # fmt: skip
        ax.set(xlim=(0.0, columns - 0.2), ylim=(lines - 0.4, -0.6), xticks=[], yticks=[])
        ax.grid(visible=False)
        for side in ax.spines.values():
            side.set_visible(False)
        lines_of = [ax.plot([], [], color=c, lw=w, ls=ls)[0] for c, w, ls in (
            (ORANGE, 2.2, "-"), (GREEN, 1.0, "-"), (BLUE, 1.0, "-"), (GREY, 1.0, (0, (2, 2))))]  # fmt: skip
        meanings = ["won", "ended", "kept", "not followed"]
        figure.legend(lines_of, meanings, loc="outside lower center", ncols=4, fontsize=8)
    written = " ".join(name(token) for token in winner[1:])
    sums = f"with log-probability {trace.best.log_prob:.2f}, wins among {len(place) - 1}"
    return Plot(figure, f"beam search of width {width} as a tree: {written}, {sums}")
