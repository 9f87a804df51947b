"""Generation: with and without the key-value cache, beyond the context, sampling, modes, errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import normal
from test_nn_transformer import C, V, model

import tinygrad_sm as sm
from tinygrad_sm import Tensor, nn
from tinygrad_sm.nn.transformer import sample

# -- generation --------------------------------------------------------------------------------


def greedy_by_hand(lm: nn.TransformerLM, prompt: Any, n: int) -> Any:
    """Continue without a cache: the full forward pass for each token."""
    tokens = np.array(prompt)
    for _ in range(n):
        tokens = np.concatenate([tokens, lm(tokens).data[:, -1].argmax(-1)[:, None]], axis=1)
    return tokens


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("length", [1, 3, C - 1, C])
def test_greedy_with_cache_equals_greedy_without(length: int, scaled: bool) -> None:
    lm = model(scaled=scaled)
    prompts = np.random.default_rng(1).integers(0, V, (40, length))
    expected = greedy_by_hand(lm, prompts, C + 1 - length)  # the last one sees the whole context
    assert len(np.unique(expected[:, length:])) > 2
    assert lm.generate(prompts, C + 1 - length, temperature=0).tolist() == expected.tolist()


def test_generation_beyond_the_context() -> None:
    lm = model()
    text = lm.generate([1, 2], 30, temperature=0)
    assert text.shape == (32,)
    assert ((text >= 0) & (text < V)).all()
    # once the cache is full, it goes on from the later half, as from a prompt
    again = lm.generate(text[C + 1 - C // 2 : C + 1], C // 2 + 1, temperature=0)
    assert text[C + 1 : C + 1 + C // 2 + 1].tolist() == again[C // 2 :].tolist()


@pytest.mark.parametrize("length", [C, C + 1, 5 * C])
def test_prompts_as_long_as_the_context_and_longer(length: int) -> None:
    lm, prompt = model(), np.arange(length) % V
    text = lm.generate(prompt, 20, temperature=0)
    assert text[:length].tolist() == prompt.tolist()
    assert text.shape == (length + 20,)
    assert lm.generate(prompt[-C:], 20, temperature=0)[C:].tolist() == text[length:].tolist()


@pytest.mark.parametrize("context", [1, 2])
def test_generation_with_the_smallest_contexts(context: int) -> None:
    lm = model(context=context)
    text = lm.generate([3], 5, temperature=0)
    if context == 1:
        expected = [3]
        for _ in range(5):
            expected.append(int(lm(np.array([[expected[-1]]])).data[0, 0].argmax()))
        assert text.tolist() == expected
    assert text.shape == (6,)


def test_generation_with_no_blocks() -> None:
    assert model(n_layers=0).generate([1], 2 * C, temperature=0).shape == (1 + 2 * C,)


@pytest.mark.parametrize(
    ("prompt", "shape"),
    [([1, 2], (5,)), (np.array([[1, 2], [3, 4], [5, 6]]), (3, 5)), (np.array([[1]], np.uint8), (1, 4)),
     (Tensor(np.array([1, 2])), (5,))],
)  # fmt: skip
def test_prompts(prompt: Any, shape: tuple[int, ...]) -> None:
    text = model().generate(prompt, 3, temperature=0)
    assert text.shape == shape
    assert text.dtype.kind in "iu"
    assert text[..., : np.shape(prompt)[-1]].tolist() == np.asarray(prompt).tolist()
    assert model().generate(prompt, 0).tolist() == np.asarray(prompt).tolist()


def test_a_batch_equals_its_prompts_one_by_one() -> None:
    lm, prompts = model(), np.array([[1, 2], [3, 4], [5, 6]])
    together = lm.generate(prompts, 12, temperature=0)
    assert together.tolist() == [lm.generate(p, 12, temperature=0).tolist() for p in prompts]


def test_stream_yields_what_generate_returns() -> None:
    lm, prompts = model(), np.array([[1, 2], [3, 4]])
    steps = list(lm.stream(prompts, 9, rng=np.random.default_rng(2)))
    assert [s.shape for s in steps] == [(2,)] * 9
    whole = lm.generate(prompts, 9, rng=np.random.default_rng(2))
    assert np.stack(steps, 1).tolist() == whole[:, 2:].tolist()


def test_seeds_of_generation() -> None:
    lm = model()

    def text(seed: int) -> list[int]:
        return lm.generate([1], 20, rng=np.random.default_rng(seed)).tolist()

    def text_by_library(seed: int) -> list[int]:
        sm.manual_seed(seed)
        return lm.generate([1], 20).tolist()

    assert text(0) == text(0) != text(1)
    assert text_by_library(0) == text_by_library(0) == text(0) != text_by_library(1)
    assert (
        lm.generate([1], 20, temperature=0, rng=np.random.default_rng(0)).tolist()
        == lm.generate([1], 20, top_k=1, rng=np.random.default_rng(1)).tolist()
    )


def test_generation_is_not_recorded_and_uses_no_dropout() -> None:
    lm = model(dropout=0.5)
    assert lm.generate([1, 2], 12, temperature=0).tolist() == model().generate([1, 2], 12, temperature=0).tolist()
    assert all(p.grad is None for p in lm.parameters())


def finish(steps: Iterator[Any]) -> None:
    list(steps)


def close_early(steps: Iterator[Any]) -> None:
    next(steps)
    steps.close()


def interrupt(steps: Iterator[Any]) -> None:
    next(steps)
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt)


def fail(steps: Iterator[Any]) -> None:
    with pytest.raises(ValueError, match="top_k"):
        next(steps)


@pytest.mark.parametrize("end", [finish, close_early, interrupt, fail])
@pytest.mark.parametrize("training", [True, False])
def test_the_training_mode_is_restored(training: bool, end: Any) -> None:
    lm = model(dropout=0.1).train(training)
    end(lm.stream([1], 5, top_k=0 if end is fail else None))
    assert {m.training for _, m in lm.named_modules()} == {training}


def test_the_mode_of_each_part_is_restored() -> None:
    lm = model(dropout=0.1)
    lm.blocks[0].eval()
    lm.generate([1], 2)
    assert (lm.training, lm.blocks[0].training, lm.blocks[0].attn.training, lm.blocks[1].training) == (
        True, False, False, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "options", "error", "words"),
    [
        ([], {}, ValueError, ["generate", "prompt", "T ≥ 1"]),
        ([0.5], {}, ValueError, ["generate", "integers"]),
        (np.zeros((1, 1, 1), int), {}, ValueError, ["generate", "(1, 1, 1)"]),
        ([V], {}, IndexError, [str(V), f"0 … {V - 1}"]),
        ([1], {"temperature": -1.0}, ValueError, ["generate", "temperature", "-1.0"]),
        ([1], {"temperature": float("nan")}, ValueError, ["generate", "temperature"]),
        ([1], {"top_k": 0}, ValueError, ["generate", "top_k", "0"]),
        ([1], {"top_p": 0.0}, ValueError, ["generate", "top_p", "(0, 1]"]),
        ([1], {"top_p": 1.5}, ValueError, ["generate", "top_p", "1.5"]),
    ],
)
def test_generation_errors(prompt: Any, options: dict[str, Any], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        model().generate(prompt, 3, **options)
    assert all(word in str(caught.value) for word in words)


# -- sampling ----------------------------------------------------------------------------------

P = np.array([0.05, 0.4, 0.25, 0.0, 0.3])
DRAWS = 40_000


def frequencies(p: Any, seed: int = 0, **options: Any) -> Any:
    """Return how often each class is drawn with logits log p (some constant added)."""
    with np.errstate(divide="ignore"):
        logits = np.log(np.tile(p, (DRAWS, 1))) + 3
    drawn = sample(logits, rng=np.random.default_rng(seed), **options)
    return np.bincount(drawn, minlength=len(p)) / DRAWS


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, P),
        ({"temperature": 2.0}, P**0.5),
        ({"temperature": 0.5}, P**2),
        ({"top_k": 2}, [0, 0.4, 0, 0, 0.3]),
        ({"top_k": 99}, P),
        ({"top_p": 0.6}, [0, 0.4, 0, 0, 0.3]),
        ({"top_p": 1.0}, P),
        ({"top_k": 3, "top_p": 0.7}, [0, 0.4, 0, 0, 0.3]),  # of 0.4, 0.3 and 0.25 the first two make 74 %
        ({"temperature": 0.5, "top_k": 2}, [0, 0.16, 0, 0, 0.09]),
    ],
)
def test_samples_follow_the_probabilities(options: dict[str, Any], expected: Any) -> None:
    p = np.array(expected) / np.sum(expected)
    found = frequencies(P, **options)
    assert (found[p == 0] == 0).all()
    assert (np.abs(found - p) <= 5 * np.sqrt(p * (1 - p) / DRAWS)).all()  # five standard deviations


@pytest.mark.parametrize(
    ("p", "top_p", "kept"),
    [
        ([0.5, 0.3, 0.15, 0.05], 1e-9, [0]),
        ([0.5, 0.3, 0.15, 0.05], 0.49, [0]),
        ([0.5, 0.3, 0.15, 0.05], 0.51, [0, 1]),
        ([0.5, 0.3, 0.15, 0.05], 0.79, [0, 1]),
        ([0.5, 0.3, 0.15, 0.05], 0.81, [0, 1, 2]),
        ([0.5, 0.3, 0.15, 0.05], 0.96, [0, 1, 2, 3]),
        ([0.15, 0.05, 0.5, 0.3], 0.6, [2, 3]),
        ([0.25] * 4, 0.25, [0]),  # equal to p is enough; of ties the first
        ([0.25] * 4, 0.5, [0, 1]),
        ([0.25] * 4, 0.51, [0, 1, 2]),
        ([0.25] * 4, 0.75, [0, 1, 2]),
        ([0.25] * 4, 1.0, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_fewest_that_sum_to_p(p: list[float], top_p: float, kept: list[int]) -> None:
    assert np.flatnonzero(frequencies(np.array(p), top_p=top_p)).tolist() == kept


@pytest.mark.parametrize(("top_k", "kept"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 4]), (4, [0, 1, 2, 4])])
def test_top_k_keeps_k_also_of_ties(top_k: int, kept: list[int]) -> None:
    assert np.flatnonzero(frequencies(np.array([0.1, 0.3, 0.3, 0.0, 0.3]), top_k=top_k)).tolist() == kept


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 1}, {"top_p": 1e-12}, {"temperature": 1e-6}])
def test_ways_to_be_greedy(options: dict[str, Any]) -> None:
    logits = normal(50, 7)
    assert sample(logits, **options).tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 1}])
def test_greedy_takes_the_first_of_ties(options: dict[str, Any]) -> None:
    assert sample(np.array([[0.0, 2.0, 2.0], [5.0, 5.0, 5.0]]), **options).tolist() == [1, 0]


def test_rows_are_sampled_independently() -> None:
    logits = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    assert sample(logits).tolist() == [0, 1]
    drawn = sample(np.zeros((DRAWS, 2)), rng=np.random.default_rng(0)).reshape(-1, 2)
    assert abs((drawn[:, 0] == drawn[:, 1]).mean() - 0.5) < 0.02
