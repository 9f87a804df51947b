"""What the experiments on classifiers share: data in three parts, a perceptron, its training and measures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import calibration, data, nn, optim
from tinygrad_sm import functional as F

CLASSES = 10


class Parts(NamedTuple):
    """Pictures and labels for training, for fitting a temperature, and for the test: no picture is in two of them."""

    x: Any
    y: Any
    x_held: Any
    y_held: Any
    x_test: Any
    y_test: Any


def has_fashion(quick: bool) -> bool:
    """Tell whether Fashion-MNIST is installed. If not, say so: `quick` does without, and a full run ends here."""
    try:
        fashion()
    except FileNotFoundError as error:
        if not quick:
            sys.exit(str(error))
        print(f"!! NO FASHION-MNIST, so digits stand in for it and the numbers are others.\n!! {error}")
        return False
    return True


@lru_cache(maxsize=1)
def fashion() -> Any:
    """Return Fashion-MNIST, read once for each process."""
    return data.fashion_mnist()


def parts(name: str, seed: int, n: int) -> Parts:
    """Choose `n` pictures for training by the seed, and others to fit a temperature on.

    Of fashion 5,000 of the training set are held out, and the test set is its own; the digits that are not for training
    are halved.
    """
    if name == "fashion":
        x, y, x_test, y_test = fashion()
        order = np.random.default_rng(seed).permutation(len(x))
        held, train = order[:5000], order[5000 : 5000 + n]
        return Parts(x[train], y[train], x[held], y[held], x_test, y_test)
    x, y, x_rest, y_rest = data.digits(held_out=1 - n / 1797, seed=seed)
    half = len(x_rest) // 2
    return Parts(x, y, x_rest[:half], y_rest[:half], x_rest[half:], y_rest[half:])


def perceptron(*sizes: int) -> nn.Sequential:
    """Return layers of these sizes, with a ReLU between them."""
    layers: list[Any] = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        layers += [nn.ReLU(), nn.Linear(a, b)] if i else [nn.Linear(a, b)]
    return nn.Sequential(*layers)


def train(
    model: Any, x: Any, y: Any, *, epochs: int, smoothing: float = 0.0, temperature: float = 1.0, batch_size: int = 128,
    after: Callable[[int], object] | None = None,
) -> None:  # fmt: skip
    """Train by Adam at its usual rate; `y` are classes (N,), or a teacher's logits (N, K) to be learned from.

    From a teacher: cross-entropy between both softmaxes at `temperature`, times its square, which keeps gradients as
    large as they are at 1 (Hinton, Vinyals and Dean 2015).
    """
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    soft = F.softmax(y, temperature=temperature) if y.ndim == 2 else y
    for epoch in range(1, epochs + 1):
        for a, b in data.batches(x, soft, batch_size=batch_size):
            logits = model(a)
            if y.ndim == 2:
                loss = F.cross_entropy(logits * (1 / temperature), b) * temperature**2
            else:
                loss = F.cross_entropy(logits, b, label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if after is not None:
            after(epoch)


def logits_of(model: Any, x: Any) -> Any:
    """Return a model's logits as an array, without recording."""
    with sm.no_grad():
        return model(x).data


def measure(logits: Any, y: Any, temperature: float = 1.0) -> dict[str, float]:
    """Return accuracy and every measure of calibration of softmax(logits / temperature); all but NLL and Brier in %."""
    p = F.softmax(logits.astype(np.float64), temperature=temperature)
    found = calibration.reliability(p, y)
    ece = calibration.expected_calibration_error
    return {
        "accuracy": 100 * found.accuracy,
        "confidence": 100 * found.confidence,
        "ece": 100 * found.ece,
        "ece_adaptive": 100 * ece(p, y, adaptive=True),
        "ece_classwise": 100 * ece(p, y, classwise=True),
        "mce": 100 * found.mce,
        "brier": calibration.brier_score(p, y),
        "nll": calibration.nll(p, y),
    }


def paired(runs: Sequence[dict[str, Any]], of: Callable[[dict[str, Any]], float], **kinds: Any) -> dict[str, Any]:
    """Return the mean difference of a number between two kinds of run with equal seeds, and its standard error.

    `kinds` has one setting and its two values, as `smoothing=(0.1, 0.0)`: the first less the second.
    """
    ((name, (a, b)),) = kinds.items()
    found = [{one["seed"]: of(one) for one in runs if one[name] == kind} for kind in (a, b)]
    return difference([found[0][seed] - found[1][seed] for seed in sorted(found[0].keys() & found[1].keys())])


def difference(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard error and number of differences, and how many are above 0."""
    d = np.array(values, float)
    error = float(d.std(ddof=1) / np.sqrt(len(d))) if len(d) > 1 else None
    return {"mean": float(d.mean()), "se": error, "n": len(d), "above_0": int((d > 0).sum())}
