"""How good a pronouncing model is: its probabilities given the true phones before, and what a search writes with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pronunciations as data

import tinygrad_sm as sm
from tinygrad_sm import nn
from tinygrad_sm.calibration import expected_calibration_error, fit_temperature
from tinygrad_sm.decoding import Hypothesis, Step, beam_search, error_rate, greedy

SEARCHES = {  # name: width and α of the length penalty
    "greedy": (1, 0.0), "beam5": (5, 0.0), "beam20": (20, 0.0), "beam5_penalty06": (5, 0.6), "beam5_penalty1": (5, 1.0),
}  # fmt: skip


def logits_of(model: nn.Transformer, pairs: data.Pairs) -> tuple[Any, Any, Any]:
    """Return the logits (N, V) of all phones and ends, given the true ones before; their targets; the word of each."""
    logits, targets, words = [], [], []
    order = np.argsort(pairs.n_letters, kind="stable")
    with sm.no_grad(), model.evaluating():
        for i in range(0, len(order), 250):
            rows = order[i : i + 250]
            source, mask, given, wanted = data.batch(pairs[rows])
            there = wanted >= 0
            logits.append(model(source, given, mask).data[there])
            targets.append(wanted[there])
            words.append(np.broadcast_to(rows[:, None], wanted.shape)[there])
    return np.concatenate(logits).astype(np.float64), np.concatenate(targets), np.concatenate(words)


def nll(logits: Any, targets: Any, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood in nats."""
    return float(sm.cross_entropy(logits / temperature, targets))


def calibration_error(logits: Any, targets: Any, temperature: float = 1.0) -> float:
    """Return the expected calibration error of the likeliest phone, over 15 bins of confidence."""
    return expected_calibration_error(sm.softmax(logits, temperature=temperature), targets)


def warmer(step: Step, temperature: float) -> Step:
    """Return a step whose probabilities are those at another temperature."""

    def stepping(tokens: Any, state: Any) -> Any:
        log_probs, state = step(tokens, state)
        return sm.log_softmax(log_probs / temperature), state

    return stepping


def pronounced(
    model: nn.Transformer, pairs: data.Pairs, width: int, alpha: float = 0.0, temperature: float = 1.0
) -> list[list[Hypothesis]]:
    """Return the hypotheses for each word, best first."""
    found: list[list[Hypothesis]] = [[] for _ in pairs.letters]
    step = model.step if temperature == 1 else warmer(model.step, temperature)
    options: Any = {"end": data.END, "max_length": data.CONTEXT, "length_penalty": alpha}
    order = np.argsort(pairs.n_letters, kind="stable")
    for i in range(0, len(order), 250):
        rows = order[i : i + 250]
        source, mask, _, _ = data.batch(pairs[rows])
        state, begin = model.start(source, mask), np.full(len(rows), data.BEGIN)
        if width == 1:
            some = [[h] for h in greedy(step, state, begin, **options)]
        else:
            some = beam_search(step, state, begin, width=width, **options)
        for row, hypotheses in zip(rows, some, strict=True):
            found[row] = hypotheses
    return found


def spoken(h: Hypothesis) -> tuple[int, ...]:
    """Return the phones of a hypothesis as numbers from 0; what is no phone, as a second begin, counts as −1."""
    return tuple(t if t >= data.FIRST else -1 for t in h.tokens)


def searched(
    model: nn.Transformer, pairs: data.Pairs, true_log_prob: Any, name: str, width: int, alpha: float = 0.0,
    temperature: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Return the error rates (in %) of a search, its search errors, lengths, and which words are right, as hex digits.

    A wrong word is a *search error* if the truth has a higher score than what was found, so that a better search
    would have preferred it; else the *model* prefers what is wrong. `oracle` is the share of words whose truth is
    nowhere among the hypotheses found.
    """
    truth = [pairs.target(i) for i in range(len(pairs.letters))]
    lists = pronounced(model, pairs, width, alpha, temperature)
    best = [hypotheses[0] for hypotheses in lists]
    right = np.array([spoken(h) == t for h, t in zip(best, truth, strict=True)])
    true_score = true_log_prob / ((5 + pairs.n_phones + 1) / 6) ** alpha
    lost = ~right & (true_score > np.array([h.score for h in best]) + 1e-4)
    kept = [any(spoken(h) == t for h in some) for some, t in zip(lists, truth, strict=True)]
    lengths = np.array([h.length for h in best])
    return {
        f"{name}_wer": 100 * float(1 - right.mean()),
        f"{name}_per": 100 * error_rate([spoken(h) for h in best], truth),
        f"{name}_search_errors": 100 * float(lost.mean()),
        f"{name}_oracle": 100 * float(1 - np.mean(kept)),
        f"{name}_length": float(lengths.mean() / (pairs.n_phones + 1).mean()),
        f"{name}_log_prob": float(np.mean([h.log_prob for h in best])),
        f"{name}_right": np.packbits(right).tobytes().hex(),
    }


def measures(model: nn.Transformer, fit: data.Pairs, test: data.Pairs, searches: Sequence[str]) -> dict[str, Any]:
    """Return all numbers of one model, on the words `test`; the temperature is fitted on other words, `fit`."""
    logits, targets, words = logits_of(model, test)
    temperature = fit_temperature(*logits_of(model, fit)[:2])
    found: dict[str, Any] = {
        "perplexity": math.exp(nll(logits, targets)),
        "temperature": temperature,
        "perplexity_after": math.exp(nll(logits, targets, temperature)),
        "ece": 100 * calibration_error(logits, targets),
        "ece_after": 100 * calibration_error(logits, targets, temperature),
        "confidence": 100 * float(sm.softmax(logits).max(axis=1).mean()),
        "token_accuracy": 100 * float((logits.argmax(axis=1) == targets).mean()),
    }

    def true(t: float) -> Any:
        log_probs = np.take_along_axis(sm.log_softmax(logits, temperature=t), targets[:, None], axis=1)[:, 0]
        return np.bincount(words, log_probs)

    for name in searches:
        found |= searched(model, test, true(1.0), name, *SEARCHES[name])
    found |= searched(model, test, true(temperature), "beam5_warm", 5, temperature=temperature)
    return found


def bits(digits: str, n: int) -> Any:
    """Return what `searched` wrote as hex digits: whether each word is right."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))[:n].astype(int)


def mcnemar(a: Any, b: Any) -> dict[str, Any]:
    """Return McNemar's exact test of two systems on the same words.

    Only words count that one system has right and the other wrong: `only_a` and `only_b`, which by chance alone would
    be binomial with ½. Two-sided.
    """
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    n, less = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(less + 1))
    return {"only_a": only_a, "only_b": only_b, "p": min(1.0, 2 * tail / 2**n)}


def compared(pairs: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """Compare two systems over several seeds: McNemar for each, pooled, and with each word as one observation.

    Pooling counts a word once for each seed as if these were different words, so its p is too small; in `by_word`
    the differences of all seeds are first summed for each word, and then z = Σd / √Σd².
    """
    each = [mcnemar(a, b) for a, b in pairs]
    d = sum(b - a for a, b in pairs)
    z = float(d.sum() / max(math.sqrt(float((d * d).sum())), 1e-12))
    pooled = mcnemar(np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))
    differences = np.array([100 * (b.mean() - a.mean()) for a, b in pairs])
    return {
        "gain": {"mean": float(differences.mean()), "sd": float(differences.std(ddof=1)) if len(pairs) > 1 else None},
        "by_seed": each,
        "pooled": pooled,
        "by_word": {"z": z, "p": math.erfc(abs(z) / math.sqrt(2))},
    }
