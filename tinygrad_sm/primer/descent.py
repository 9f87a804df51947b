"""A training run of a page's length: a bigram model of characters, with cross-entropy and with the absolute error."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from .. import naive
from ..data import Vocabulary, python_docs, split_topics, unique_paragraphs
from ..derivatives import grad
from ..tensor import Array, Tensor

STEPS = 100
RATES = (30.0, 300.0)
CHARACTERS = 8_000  # of the text


def text_pairs() -> tuple[int, tuple[Array, Array], tuple[Array, Array]]:
    """Return the number of characters that differ, and pairs (character, next one) to train on and held out."""
    train, held_out = split_topics(unique_paragraphs(python_docs()))
    vocabulary = Vocabulary.from_text(train[:CHARACTERS], unknown=" ")
    a, b = (vocabulary.encode(text[:CHARACTERS]) for text in (train, held_out))
    return len(vocabulary), (a[:-1], a[1:]), (b[:-1], b[1:])


def compare_losses() -> dict[str, Any]:
    """Train with both losses from two starts, and return the curves of held-out nats and the final accuracies."""
    classes, train, held_out = text_pairs()
    losses = {"cross-entropy": F.cross_entropy, "absolute error": naive.mae_loss}
    wrong = np.roll(np.eye(classes), 1, axis=1)  # the next character in the alphabet, which hardly ever follows
    starts = {"uniform": np.zeros((classes, classes)), "sure and wrong": 15.0 * wrong}
    found: dict[str, Any] = {"classes": classes, "steps": STEPS}
    for name, loss in losses.items():
        found[name] = {
            start: min((descend(loss, table, rate, train, held_out) for rate in RATES), key=lambda run: run["nats"][-1])
            for start, table in starts.items()
        }
    return found


def descend(loss: Any, table: Array, rate: float, train: Any, held_out: Any) -> dict[str, Any]:
    """Take `STEPS` steps of gradient descent on a table of logits (V, V), all pairs in each step."""
    table, nats = table.copy(), []
    for step in range(STEPS + 1):
        if step % 5 == 0:
            nats.append(float(F.cross_entropy(table[held_out[0]], held_out[1])))
        t = Tensor(table, requires_grad=True)
        (g,) = grad(loss(t[train[0]], train[1]), t)
        table -= rate * g.data
    right = table[held_out[0]].argmax(axis=-1) == held_out[1]
    return {"rate": rate, "nats": nats, "accuracy": float(right.mean())}


def bigram_loss() -> tuple[float, dict[str, Any]]:
    """Return the held-out nats of a bigram model by counting (one added to each count), and of a uniform guess."""
    classes, train, held_out = text_pairs()
    counts = np.ones((classes, classes))
    np.add.at(counts, train, 1)
    logits = np.log(counts)
    nats = float(F.cross_entropy(logits[held_out[0]], held_out[1]))
    uniform = float(F.cross_entropy(np.zeros((len(held_out[0]), classes)), held_out[1]))
    return nats, {"nats": uniform, "classes": classes}
