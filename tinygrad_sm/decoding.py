"""Search for the likeliest sequence that a model can write, greedily or with a beam; and tell how wrong it came out.

A model is here a function `step(tokens, state) -> log_probs, state`: it is given the last token of each of R
hypotheses, (R,), and what it knows of the earlier ones, and returns the log-probabilities of the next token, (R, V),
and the new state. `nn.Transformer` has such a `step`; so has a table of probabilities, a row for each last token:

>>> import numpy as np
>>> table = np.log([[0.1, 0.3, 0.5, 0.1], [0.1, 0.1, 0.1, 0.7], [0.2, 0.3, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]])
>>> def step(tokens, state):
...     return table[tokens], state
>>> (first,) = greedy(step, None, [0], end=3, max_length=5)
>>> ((best, *_),) = beam_search(step, None, [0], end=3, max_length=5, width=2)
>>> first.tokens, best.tokens
((2, 1), (1,))
>>> [round(float(np.exp(h.log_prob)), 3) for h in (first, best)]
[0.105, 0.21]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .ops.options import count, within
from .tensor import Array, Tensor

Step: TypeAlias = Callable[[Array, Any], tuple[Any, Any]]


class Hypothesis(NamedTuple):
    """One sequence that a search found.

    Attributes
    ----------
    tokens : tuple of int
        Without the begin and the end.
    log_prob : float
        The sum of the log-probabilities of the tokens, the end's included; in nats.
    score : float
        What hypotheses are compared by: `log_prob` over the length penalty.
    length : int
        The number of tokens, the end included.
    finished : bool
        Whether it came to its end; False if `max_length` cut it off, or if no token could follow.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> (h,) = sm.decoding.greedy(lambda t, s: (np.log([[0.2, 0.8]]), s), None, [0], end=1, max_length=3)
    >>> h.tokens, h.length, h.finished
    ((), 1, True)
    """

    tokens: tuple[int, ...]
    log_prob: float
    score: float
    length: int
    finished: bool


def length_penalty(length: int, alpha: float) -> float:
    """Return ((5 + length) / 6)^α, which log-probabilities are divided by (Wu et al. 2016); 1 for `alpha` = 0.

    >>> length_penalty(7, 0.0), length_penalty(7, 1.0)
    (1.0, 2.0)
    """
    return ((5 + length) / 6) ** alpha


def greedy(
    step: Step, state: Any, begin: Any, *, end: int, max_length: int, length_penalty: float = 0.0
) -> list[Hypothesis]:
    """Write each of B sequences by the likeliest next token, until that is the end; see `beam_search`.

    It is the beam search of width 1, in fewer lines: `step`, `state`, `begin`, `end`, `max_length` and `length_penalty`
    are those of `beam_search`. Of equally likely tokens it takes the first.

    Returns
    -------
    list of Hypothesis, one for each sequence

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> import numpy as np
    >>> table = np.log([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [0.3, 0.3, 0.4]])
    >>> (h,) = sm.decoding.greedy(lambda t, s: (table[t], s), None, [0], end=2, max_length=4)
    >>> h.tokens, round(float(np.exp(h.log_prob)), 2)
    ((1,), 0.36)
    """
    tokens = _begin(step, begin, "greedy")
    end, max_length = count(end, "end", "greedy", 0), count(max_length, "max_length", "greedy")
    alpha = within(length_penalty, 0, math.inf, "length_penalty", "greedy")
    written: list[list[int]] = [[] for _ in tokens]
    sums, live = np.zeros(len(tokens)), np.arange(len(tokens))  # which sequences are not yet at their end
    found: dict[int, Hypothesis] = {}
    while len(live):
        log_probs, state = _checked(step(tokens, state), len(live), end, "greedy")
        chosen = log_probs.argmax(axis=1)
        best = log_probs[np.arange(len(live)), chosen]
        kept = []
        for row, (i, token) in enumerate(zip(live.tolist(), chosen.tolist(), strict=True)):
            if np.isneginf(best[row]):
                found[i] = _hypothesis(written[i], sums[i], alpha, finished=False)
                continue
            sums[i] += best[row]
            if token == end:
                found[i] = _hypothesis(written[i], sums[i], alpha, finished=True)
                continue
            written[i].append(token)
            if len(written[i]) == max_length:
                found[i] = _hypothesis(written[i], sums[i], alpha, finished=False)
            else:
                kept.append(row)
        state = reorder(state, np.array(kept, int)) if 0 < len(kept) < len(live) else state
        live, tokens = live[kept], chosen[kept]
    return [found[i] for i in range(len(written))]


def beam_search(
    step: Step, state: Any, begin: Any, *, end: int, max_length: int, width: int = 5, length_penalty: float = 0.0
) -> list[list[Hypothesis]]:
    """Search each of B sequences for the one of highest score, keeping the `width` best hypotheses at each step.

    Of all continuations of a sequence's live hypotheses by one token, the `width` with the highest sum of
    log-probabilities remain. Those that end are set apart; the others live on. So width 1 is `greedy`, and a width of
    at least the number of all possible sequences searches through all.

    Parameters
    ----------
    step : function (tokens (R,), state) -> (log_probs (R, V), state)
        The model; see the top of this module. R varies: it is the number of hypotheses alive.
    state : any
        What `step` is first called with, for B rows. As hypotheses are kept, copied and dropped, its rows follow: it
        may be made of arrays and Tensors with a row for each hypothesis as their first axis, objects with a method
        `reorder(rows)` that returns another (`nn.Cache`), and lists, tuples and dicts of these; all else stays.
    begin : array_like of int (B,)
        The token that each sequence starts with.
    end : int
        The token that ends one.
    max_length : int
        The most tokens a hypothesis may have, its end included.
    width : int
        How many hypotheses are kept for each sequence.
    length_penalty : float, 0 or more
        α of ((5 + length)/6)^α, by which a sum of log-probabilities is divided to give the score (Wu et al. 2016).
        A sum falls with every token; α above 0 favours longer hypotheses. At 0 the score is the sum.

    Returns
    -------
    list of lists of Hypothesis
        For each sequence up to `width`, best first: first the finished ones, then those that were cut off. Ties keep
        the order in which they were found: earlier steps, better predecessors, smaller tokens.

    Raises
    ------
    ValueError
        If `step` returns NaN, what cannot be log-probabilities (as probabilities or logits), or another shape; and for
        options out of range.

    Notes
    -----
    The search of a sequence stops early, and this loses nothing of the best: a live hypothesis with the sum s ≤ 0
    can only end with a sum of s or less, since log-probabilities are at most 0, and with a length of `max_length`
    or less, where the penalty, which grows with length, is largest. So its score stays at or below
    s / penalty(max_length). Once no live hypothesis has a bound above the best finished score, none can beat it.
    (The second best may still be improved upon.)

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> import numpy as np
    >>> table = np.log([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [0.3, 0.3, 0.4]])
    >>> ((best, other),) = sm.decoding.beam_search(lambda t, s: (table[t], s), None, [0], end=2, max_length=4, width=2)
    >>> best.tokens, other.tokens
    ((1,), ())
    """
    tokens = _begin(step, begin, "beam_search")
    end, max_length = count(end, "end", "beam_search", 0), count(max_length, "max_length", "beam_search")
    width = count(width, "width", "beam_search")
    alpha = within(length_penalty, 0, math.inf, "length_penalty", "beam_search")
    longest = ((5 + max_length) / 6) ** alpha
    finished: list[list[Hypothesis]] = [[] for _ in tokens]
    cut: list[list[Hypothesis]] = [[] for _ in tokens]
    # of each live hypothesis: its sequence, the sum of its log-probabilities, and its tokens
    owner, sums, written = np.arange(len(tokens)), np.zeros(len(tokens)), np.empty((len(tokens), 0), int)
    for _ in range(max_length if len(tokens) else 0):
        log_probs, state = _checked(step(tokens, state), len(owner), end, "beam_search")
        totals = sums[:, None] + log_probs  # (R, V)
        kept = []
        for i, group in _groups(owner):
            top = _largest(totals[group].ravel(), width)
            parents, following = np.divmod(top, totals.shape[1])
            parents += group.start
            if not len(top):  # nothing can follow
                cut[i] += [
                    _hypothesis(written[r], sums[r], alpha, finished=False) for r in range(group.start, group.stop)
                ]
            for r in parents[following == end]:
                finished[i].append(_hypothesis(written[r], totals[r, end], alpha, finished=True))
            parents, following = parents[following != end], following[following != end]
            best = max((h.score for h in finished[i]), default=-math.inf)
            if len(parents) and totals[parents[0], following[0]] / longest > best:
                kept.append((parents, following))
        if not kept:
            owner, sums, written = owner[:0], sums[:0], written[:0]
            break
        rows, tokens = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        owner, sums, written = owner[rows], totals[rows, tokens], np.column_stack([written[rows], tokens])
        state = reorder(state, rows)
    for r, i in enumerate(owner.tolist()):
        cut[i].append(_hypothesis(written[r], sums[r], alpha, finished=False))
    return [_ranked(done, rest, width) for done, rest in zip(finished, cut, strict=True)]


def reorder(state: Any, rows: Array) -> Any:
    """Return the state of the hypotheses `rows`, of which some may stand there twice; see `beam_search`.

    >>> import numpy as np
    >>> reorder({"memory": np.array([[1], [2], [3]]), "scale": 2.0}, np.array([2, 2, 0]))
    {'memory': array([[3], [3], [1]]), 'scale': 2.0}
    """
    if isinstance(state, (np.ndarray, Tensor)):
        return state[rows] if state.ndim else state
    if hasattr(state, "reorder"):
        return state.reorder(rows)
    if isinstance(state, dict):
        return {key: reorder(value, rows) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(reorder(value, rows) for value in state)
    return state


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Return the fewest insertions, deletions and substitutions that make one sequence the other (Levenshtein).

    >>> edit_distance("kitten", "sitting")
    3
    """
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
        above = row
    return above[-1]


def error_rate(found: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]]) -> float:
    """Return all edits from what was found to what was wanted, over the length of what was wanted.

    Of sentences of words it is the word error rate, of words of phones the phoneme error rate. It can exceed 1.

    >>> round(error_rate([["K", "AE", "T"], ["D", "AO"]], [["K", "AE", "T"], ["D", "AO", "G"]]), 3)
    0.167
    """
    if len(found) != len(wanted):
        raise ValueError(f"error_rate: there are {len(found)} sequences for {len(wanted)} references")
    total = sum(map(len, wanted))
    if not total:
        raise ValueError("error_rate: the references hold nothing to be compared with")
    return sum(edit_distance(a, b) for a, b in zip(found, wanted, strict=True)) / total


def _begin(step: Any, begin: Any, caller: str) -> Array:
    if not callable(step):
        raise TypeError(
            f"{caller}: step must be a function (tokens, state) -> (log_probs, state), not {type(step).__name__}; of a "
            "table of log-probabilities it is lambda tokens, state: (table[tokens], state)"
        )
    begin = np.asarray(begin)
    if begin.ndim != 1 or (begin.size and begin.dtype.kind not in "iu"):
        fix = "; for one sequence use [begin]" if begin.ndim == 0 else ""
        raise ValueError(
            f"{caller}: begin must be the first tokens of B sequences, integers (B,), "
            f"not {begin.dtype} of shape {begin.shape}{fix}"
        )
    return begin.astype(int)


def _checked(result: Any, rows: int, end: int, caller: str) -> tuple[Array, Any]:
    """Return what `step` gave, as float64, if it can be log-probabilities."""
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(f"{caller}: step must return (log_probs, state), not {type(result).__name__}")
    log_probs, state = result
    log_probs = np.asarray(log_probs.data if isinstance(log_probs, Tensor) else log_probs, np.float64)
    if log_probs.ndim != 2 or len(log_probs) != rows or log_probs.shape[1] <= end:
        raise ValueError(
            f"{caller}: step must return log-probabilities of shape ({rows}, V) with V > end = {end}; "
            f"it returned {log_probs.shape}"
        )
    if np.isnan(log_probs).any():
        raise ValueError(f"{caller}: step returned NaN among the log-probabilities")
    with np.errstate(over="ignore"):
        most = np.exp(log_probs).sum(axis=1).max(initial=0)
    if most > 1.01:
        raise ValueError(
            f"{caller}: step must return log-probabilities, but exp of a row sums to {most:.4g}; "
            "pass F.log_softmax(logits), or np.log of probabilities"
        )
    return np.minimum(log_probs, 0), state  # rounding may leave 1e-8, and the stopping rule needs 0 or less


def _groups(owner: Array) -> list[tuple[int, slice]]:
    """Return (sequence, its rows) for each sequence that has live hypotheses; they stand together."""
    cuts = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(owner)]
    return [(int(owner[a]), slice(a, b)) for a, b in pairwise(cuts)]


def _largest(values: Array, n: int) -> Array:
    """Return where the n largest values stand, largest first, ties in order; without those that are −inf."""
    least = np.partition(values, -n)[-n] if n < len(values) else -np.inf
    candidates = np.flatnonzero(values >= least)
    best = candidates[np.argsort(-values[candidates], kind="stable")][:n]
    return best[values[best] > -np.inf]


def _ranked(finished: list[Hypothesis], cut: list[Hypothesis], width: int) -> list[Hypothesis]:
    """Return up to `width` hypotheses, the finished ones first; sorting keeps ties as they were found."""
    return [h for found in (finished, cut) for h in sorted(found, key=lambda h: -h.score)][:width]


def _hypothesis(tokens: Sequence[int] | Array, total: float, alpha: float, *, finished: bool) -> Hypothesis:
    length = len(tokens) + finished
    score = float(total) / length_penalty(length, alpha)
    return Hypothesis(tuple(map(int, tokens)), float(total), score, length, finished)
