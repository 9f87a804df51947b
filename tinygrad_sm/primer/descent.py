"""A training run of a page's length: a bigram model of characters, with cross-entropy and with the absolute error."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from .. import naive
from ..data import Vocabulary, python_docs, split_topics, unique_paragraphs
from ..derivatives import grad
from ..tensor import Array, Tensor
from ..training import bigram_loss

STEPS = 100
RATES = (30.0, 300.0)
CHARACTERS = 8_000  # of the text


def characters() -> tuple[int, Array, Array]:
    """Return the number of characters that differ, and their codes in order: to train on, and held out."""
    train, held_out = split_topics(unique_paragraphs(python_docs()))
    vocabulary = Vocabulary.from_text(train[:CHARACTERS], unknown=" ")
    a, b = (vocabulary.encode(text[:CHARACTERS]) for text in (train, held_out))
    return len(vocabulary), a, b


def compare_losses() -> dict[str, Any]:
    """Train with both losses from two starts, and return the curves of held-out nats and the final accuracies."""
    classes, *texts = characters()
    train, held_out = ((codes[:-1], codes[1:]) for codes in texts)  # each with the one after it
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


def counted() -> dict[str, Any]:
    """Return the held-out nats of a bigram model by counting, and of a uniform guess among so many classes."""
    classes, train, held_out = characters()
    uniform = float(F.cross_entropy(np.zeros((len(held_out), classes)), held_out))
    return {"bigram": bigram_loss(train, held_out, classes), "uniform": uniform, "classes": classes}
