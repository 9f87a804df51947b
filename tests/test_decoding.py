"""Greedy and beam search against exhaustive search on small tables, batches, caches, odd inputs; error rates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from helpers import close
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_sm as sm
from tinygrad_sm import nn
from tinygrad_sm.decoding import Hypothesis, beam_search, edit_distance, error_rate, greedy, length_penalty, reorder

BEGIN, END = 0, 1


def markov(seed: int, v: int = 4, *, sharp: float = 1.5, zeros: float = 0.0) -> Any:
    """Return log-probabilities (V, V) of the next token given the last; a share of them −inf."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(v, v)) * sharp
    logits[rng.random((v, v)) < zeros] = -np.inf
    logits[np.arange(v), rng.integers(0, v, v)] = 1.0  # never all
    return sm.log_softmax(logits)


def stepping(table: Any) -> Any:
    return lambda tokens, state: (table[tokens], state)


def every(table: Any, longest: int, alpha: float = 0.0) -> list[Hypothesis]:
    """Return all sequences that end within `longest` tokens and are possible, best first."""
    others = [t for t in range(len(table)) if t != END]
    found = []
    for n in range(longest):
        for tokens in product(others, repeat=n):
            total = sum(table[a, b] for a, b in pairwise([BEGIN, *tokens, END]))
            if total > -math.inf:
                found.append(Hypothesis(tokens, total, total / length_penalty(n + 1, alpha), n + 1, True))
    return sorted(found, key=lambda h: -h.score)


def same(a: list[Hypothesis], b: list[Hypothesis]) -> None:
    assert [(h.tokens, h.length, h.finished) for h in a] == [(h.tokens, h.length, h.finished) for h in b]
    close(np.array([h.score for h in a]), np.array([h.score for h in b]))
    close(np.array([h.log_prob for h in a]), np.array([h.log_prob for h in b]))


# -- against all sequences ---------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("zeros", [0.0, 0.4])
@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_best_of_all(seed: int, zeros: float, alpha: float) -> None:
    table = markov(seed, zeros=zeros)
    expected = every(table, 5, alpha)
    ((best, *_),) = beam_search(
        stepping(table), None, [BEGIN], end=END, max_length=5, width=500, length_penalty=alpha
    )  # fmt: skip
    if expected:
        same([best], expected[:1])
    else:
        assert not best.finished


def test_a_wide_beam_lists_all_when_nothing_stops_it() -> None:
    table = markov(1)
    table[BEGIN, END] = table[2, END] = table[3, END] = math.log(1e-9)  # so that no end is better than going on
    (found,) = beam_search(stepping(table), None, [BEGIN], end=END, max_length=3, width=100, length_penalty=0.0)
    done = [h for h in found if h.finished]
    same(done, every(table, 3)[: len(done)])


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([0.0, 0.7, 2.0]), st.sampled_from([0.0, 0.5]))
def test_what_is_found_is_possible_and_in_order(seed: int, width: int, alpha: float, zeros: float) -> None:
    table = markov(seed, 5, zeros=zeros)
    (found,) = beam_search(
        stepping(table), None, [BEGIN], end=END, max_length=4, width=width, length_penalty=alpha
    )  # fmt: skip
    assert 1 <= len(found) <= width
    assert len({(h.tokens, h.finished) for h in found}) == len(found)
    for h in found:
        path = [BEGIN, *h.tokens, *([END] if h.finished else [])]
        close(np.array(h.log_prob), np.array(sum((table[a, b] for a, b in pairwise(path)), 0.0)))
        close(np.array(h.score), np.array(h.log_prob / length_penalty(h.length, alpha)))
        assert h.length == len(path) - 1 <= 4
        assert END not in h.tokens
    for part in ([h.score for h in found if h.finished], [h.score for h in found if not h.finished]):
        assert part == sorted(part, reverse=True)
    assert [h.finished for h in found] == sorted((h.finished for h in found), reverse=True)
    best = every(table, 4, alpha)
    if best and found[0].finished:
        assert found[0].score <= best[0].score + 1e-12


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.7, 2.0]), st.sampled_from([0.0, 0.5]))
def test_width_one_is_greedy(seed: int, alpha: float, zeros: float) -> None:
    table = markov(seed, 5, zeros=zeros)
    options: Any = {"end": END, "max_length": 6, "length_penalty": alpha}
    narrow = beam_search(stepping(table), None, [BEGIN, 2, 3], width=1, **options)
    same([h for (h,) in narrow], greedy(stepping(table), None, [BEGIN, 2, 3], **options))


def test_greedy_by_hand() -> None:
    table = np.log([[0.1, 0.2, 0.7], [1 / 3] * 3, [0.3, 0.6, 0.1]])
    (h,) = greedy(stepping(table), None, [0], end=1, max_length=5, length_penalty=1.0)
    assert (h.tokens, h.length, h.finished) == ((2,), 2, True)
    assert h.log_prob == pytest.approx(math.log(0.42))
    assert h.score == pytest.approx(math.log(0.42) / (7 / 6))


# -- length ------------------------------------------------------------------------------------


def test_the_length_penalty_is_that_of_wu() -> None:
    assert [length_penalty(n, 0.6) for n in (1, 7)] == pytest.approx([1.0, 2**0.6])
    table = np.log([[0.0 + 1e-9, 0.45, 0.55], [1 / 3] * 3, [1e-9, 0.8, 0.2]])  # short 0.45, longer 0.44

    def first(alpha: float) -> tuple[int, ...]:
        ((h, *_),) = beam_search(stepping(table), None, [0], end=1, max_length=9, width=9, length_penalty=alpha)
        return h.tokens

    assert first(0.0) == ()
    assert first(1.0) == (2,)


def test_it_stops_when_no_live_hypothesis_can_win() -> None:
    table, calls = np.log([[0.05, 0.9, 0.05], [1 / 3] * 3, [0.8, 0.1, 0.1]]), []

    def step(tokens: Any, state: Any) -> Any:
        calls.append(len(tokens))
        return table[tokens], state

    beam_search(step, None, [0], end=1, max_length=50, width=2)
    assert calls == [1]  # 0.9 is finished, and what lives has 0.05
    calls.clear()
    beam_search(step, None, [0], end=1, max_length=50, width=2, length_penalty=5.0)
    assert len(calls) > 1  # a long one could yet win


def test_a_sequence_that_never_ends_is_cut() -> None:
    table = markov(0)
    table[:, END] = -np.inf
    table = sm.log_softmax(table)
    (h,) = greedy(stepping(table), None, [BEGIN], end=END, max_length=7)
    assert (h.length, len(h.tokens), h.finished) == (7, 7, False)
    (found,) = beam_search(stepping(table), None, [BEGIN], end=END, max_length=7, width=3)
    assert [(h.length, h.finished) for h in found] == [(7, False)] * 3


def test_a_dead_end_is_an_unfinished_hypothesis() -> None:
    table = np.log([[0.1, 0.1, 0.8], [1 / 3] * 3, [1 / 3] * 3])
    table[2] = -np.inf  # nothing follows 2
    (h,) = greedy(stepping(table), None, [0], end=1, max_length=5)
    assert (h.tokens, h.finished) == ((2,), False)
    (found,) = beam_search(stepping(table), None, [2], end=1, max_length=5, width=3)
    assert found == [Hypothesis((), 0.0, 0.0, 0, False)]


# -- ties, batches, states ---------------------------------------------------------------------


def test_ties_go_to_the_earlier_predecessor_and_the_smaller_token() -> None:
    table = np.full((5, 5), -math.log(5))
    (found,) = beam_search(stepping(table), None, [0], end=4, max_length=3, width=3)
    assert [h.tokens for h in found] == [(0, 0, 0), (0, 0, 1), (0, 0, 2)]
    (h,) = greedy(stepping(table), None, [0], end=4, max_length=2)
    assert h.tokens == (0, 0)


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([0.0, 1.0]))
def test_a_batch_equals_one_by_one(seed: int, width: int, alpha: float) -> None:
    """Each sequence has a table of its own, in the state, so a row that went astray would be seen."""
    tables = np.stack([markov(seed + i, 4, sharp=1 + i) for i in range(4)])

    def step(tokens: Any, state: Any) -> Any:
        own, (depth,) = state
        assert depth.shape == tokens.shape
        return own[np.arange(len(tokens)), tokens] - 0.1 * depth[:, None], (own, [depth + 1])

    def start(t: Any) -> Any:
        return t, [np.zeros(len(t))]

    options: Any = {"end": END, "max_length": 5, "length_penalty": alpha}
    together = beam_search(step, start(tables), [BEGIN] * 4, width=width, **options)
    quickly = greedy(step, start(tables), [BEGIN] * 4, **options)
    for i in range(4):
        same(together[i], beam_search(step, start(tables[i : i + 1]), [BEGIN], width=width, **options)[0])
        same([quickly[i]], greedy(step, start(tables[i : i + 1]), [BEGIN], **options))


@pytest.mark.parametrize("width", [1, 2, 6])
def test_with_a_cache_as_without(width: int) -> None:
    model = nn.Transformer(6, 5, d_model=8, n_heads=2, n_layers=2, context=7)
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data = rng.normal(size=p.shape) * 0.7
    source = rng.integers(1, 6, (3, 4))
    mask = np.array([[True] * 4, [True, True, False, False], [True] * 3 + [False]])

    def whole(tokens: Any, state: Any) -> Any:
        source, mask, before = state
        before = np.concatenate([before, tokens[:, None]], axis=1)
        return sm.log_softmax(model(source, before, mask)[:, -1]), (source, mask, before)

    options: Any = {"end": END, "max_length": 7, "width": width, "length_penalty": 0.5}
    cached = beam_search(model.step, model.start(source, mask), [BEGIN] * 3, **options)
    plain = beam_search(whole, (source, mask, np.empty((3, 0), int)), [BEGIN] * 3, **options)
    for a, b in zip(cached, plain, strict=True):
        same(a, b)


def test_reorder_follows_every_kind_of_state() -> None:
    cache = nn.Cache(4)
    cache.append(np.arange(6.0).reshape(3, 1, 2, 1), np.arange(6.0).reshape(3, 1, 2, 1))
    state = {"a": [np.arange(3), (sm.Tensor([1.0, 2.0, 3.0]), cache)], "b": None, "c": "text", "d": np.array(7)}
    new = reorder(state, np.array([2, 0]))
    assert new["a"][0].tolist() == [2, 0]
    assert new["a"][1][0].tolist() == [3.0, 1.0]
    assert new["a"][1][1].k[:, 0, :2, 0].tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert (new["a"][1][1].length, cache.k.shape) == (2, (3, 1, 4, 1))
    assert (new["b"], new["c"], int(new["d"])) == (None, "text", 7)


def test_no_sequences() -> None:
    assert greedy(stepping(markov(0)), None, np.empty(0, int), end=1, max_length=3) == []
    assert beam_search(stepping(markov(0)), None, [], end=1, max_length=3) == []


# -- what is refused ---------------------------------------------------------------------------


def refused() -> Iterator[Any]:
    good = stepping(markov(0))
    bad = markov(0)
    bad[0, 2] = np.nan
    usual: Any = {"end": END, "max_length": 3}
    yield good, [0], {**usual, "width": 0}, ValueError, "width must be at least 1, not 0"
    yield good, [0], {**usual, "width": 2.0}, TypeError, "width must be an integer"
    yield good, [0], {**usual, "max_length": 0}, ValueError, "max_length must be at least 1"
    yield good, [0], {**usual, "length_penalty": -1.0}, ValueError, "length_penalty"
    yield good, [0], {**usual, "end": -1}, ValueError, "end must be at least 0"
    yield good, [0], {**usual, "end": 9}, ValueError, r"shape \(1, V\) with V > end = 9"
    yield good, 0, usual, ValueError, r"for one sequence use \[begin\]"
    yield good, [0.5], usual, ValueError, "integers"
    yield stepping(bad), [0], usual, ValueError, "returned NaN"
    yield stepping(np.exp(markov(0))), [0], usual, ValueError, r"F.log_softmax\(logits\), or np.log"
    yield stepping(np.zeros((4, 4))), [0], usual, ValueError, "exp of a row sums to 4"
    yield lambda t, s: (markov(0)[0], s), [0], usual, ValueError, r"returned \(4,\)"
    yield lambda t, s: markov(0)[t], [0], usual, TypeError, r"step must return \(log_probs, state\), not ndarray"


@pytest.mark.parametrize("row", list(refused()))
def test_bad_input_is_refused(row: Any) -> None:
    step, begin, options, error, message = row
    with pytest.raises(error, match=f"beam_search: .*{message}"):
        beam_search(step, None, begin, **options)
    if "width" not in options:
        with pytest.raises(error, match=f"greedy: .*{message}"):
            greedy(step, None, begin, **options)


# -- error rates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)],
)
def test_known_distances(a: str, b: str, edits: int) -> None:
    assert edit_distance(a, b) == edits


WORDS = st.text("ab", max_size=5)


@given(WORDS, WORDS, WORDS)
def test_the_distance_is_a_metric(a: str, b: str, c: str) -> None:
    d = edit_distance(a, b)
    assert (d == 0) == (a == b)
    assert d == edit_distance(b, a)
    assert abs(len(a) - len(b)) <= d <= max(len(a), len(b))
    assert edit_distance(a, c) <= d + edit_distance(b, c)


@given(WORDS, WORDS)
def test_the_distance_by_its_definition(a: str, b: str) -> None:
    def slow(i: int, j: int) -> int:
        if not (i and j):
            return i + j
        return min(slow(i - 1, j) + 1, slow(i, j - 1) + 1, slow(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    assert edit_distance(a, b) == slow(len(a), len(b))


def test_error_rate_weighs_by_length() -> None:
    assert error_rate(["a", "bbbb"], ["x", "bbbb"]) == 0.2
    assert error_rate(["aaa"], ["b"]) == 3.0
    with pytest.raises(ValueError, match="1 sequences for 2 references"):
        error_rate(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="nothing to be compared with"):
        error_rate([""], [""])


def test_a_table_is_no_step() -> None:
    for search in (sm.decoding.greedy, sm.decoding.beam_search):
        with pytest.raises(TypeError, match="step must be a function"):
            search(np.log(np.full((2, 2), 0.5)), None, [0], end=1, max_length=2)
