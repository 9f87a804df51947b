"""What a loss is given."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import nn

from .case import Case, batch, normal


def logits(classes: int = 4, n: int = 64) -> tuple[Any, Any]:
    """Return what a linear layer makes of a batch, and the targets."""
    x, y = batch(n, classes=classes)
    return nn.Linear(8, classes)(x), y


def softmax_twice() -> dict[str, Any]:
    z, y = logits()
    p = F.softmax(z)
    return {"loss": F.cross_entropy(p, y)}  # planted


def softmax_once() -> dict[str, Any]:
    z, y = logits()
    return {"loss": F.cross_entropy(z, y)}


def sigmoid_first() -> dict[str, Any]:
    z, y = logits()
    return {"loss": F.cross_entropy(z.sigmoid(), y)}  # planted


def log_softmax_first() -> dict[str, Any]:
    z, y = logits()
    return {"loss": F.cross_entropy(F.log_softmax(z), y)}  # planted


def softmax_by_hand_first() -> dict[str, Any]:
    z, y = logits()
    e = (z - z.max(axis=1, keepdims=True)).exp()
    return {"loss": F.cross_entropy(e / e.sum(axis=1, keepdims=True), y)}  # planted


def clipped_softmax_in_pytorchs_layout() -> dict[str, Any]:
    z = nn.Linear(8, 4)(np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32))
    p = F.softmax(z).clip(1e-7, 1.0).swapaxes(1, 2)
    return {"loss": F.cross_entropy(p, np.arange(42).reshape(6, 7) % 4, axis=1)}  # planted


def nll_of_log_softmax_of_softmax() -> dict[str, Any]:
    z, y = logits()
    return {"loss": F.nll_loss(F.log_softmax(F.softmax(z)), y)}  # planted


def loss_written_out() -> dict[str, Any]:
    z, y = logits()
    log_p = F.log_softmax(F.softmax(z))  # planted
    return {"loss": -(log_p * np.eye(4, dtype=np.float32)[y]).sum(axis=1).mean()}


def mixture_of_experts_first() -> dict[str, Any]:
    """Probabilities that no softmax made last: an average of two."""
    z, y = logits()
    p = (F.softmax(z) + F.softmax(z * 2)) / 2
    return {"loss": F.cross_entropy(p, y)}  # planted


def nll_of_probabilities() -> dict[str, Any]:
    z, y = logits()
    return {"loss": F.nll_loss(F.softmax(z), y)}  # planted


def nll_of_log_probabilities() -> dict[str, Any]:
    z, y = logits()
    return {"loss": F.nll_loss(F.log_softmax(z), y)}


def nll_of_logits() -> dict[str, Any]:
    z, y = logits()
    return {"loss": F.nll_loss(z, y)}  # planted


def one_hot_integers() -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(16, 5, 8)).astype(np.float32)
    one_hot = np.eye(5, dtype=int)[np.arange(16) % 5]
    return {"loss": F.cross_entropy(nn.Linear(8, 5)(x), one_hot)}  # planted


def class_indices() -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(16, 5, 8)).astype(np.float32)
    return {"loss": F.cross_entropy(nn.Linear(8, 5)(x[:, 0]), np.arange(16) % 5)}


def square(axis: int = -1, swapped: bool = True) -> Any:
    """Return scores of as many positions as classes, (B, C, T) if swapped."""
    x = np.random.default_rng(0).normal(size=(8, 5, 6)).astype(np.float32)
    z = nn.Linear(6, 5)(x)
    return z.swapaxes(1, 2) if swapped else z


def classes_on_the_wrong_axis() -> dict[str, Any]:
    return {"loss": F.cross_entropy(square(), np.arange(40).reshape(8, 5) % 5)}  # planted


def classes_on_their_axis() -> dict[str, Any]:
    return {"loss": F.cross_entropy(square(), np.arange(40).reshape(8, 5) % 5, axis=1)}


def classes_along_the_batch() -> dict[str, Any]:
    x, y = batch(4)
    return {"loss": F.cross_entropy(nn.Linear(8, 4)(x), y, axis=0)}  # planted


def scrambled_by_reshape() -> dict[str, Any]:
    z = nn.Linear(6, 5)(np.random.default_rng(0).normal(size=(8, 7, 6)).astype(np.float32))
    z = z.swapaxes(1, 2).reshape(56, 5)
    return {"loss": F.cross_entropy(z, np.arange(56) % 5)}  # planted


def reshaped_in_order() -> dict[str, Any]:
    z = nn.Linear(6, 5)(np.random.default_rng(0).normal(size=(8, 7, 6)).astype(np.float32))
    return {"loss": F.cross_entropy(z.reshape(56, 5), np.arange(56) % 5)}


def one_class_only() -> dict[str, Any]:
    z, y = logits()
    return {"loss": F.cross_entropy(z, np.zeros_like(y))}  # planted


def one_class_mostly() -> dict[str, Any]:
    z, y = logits(n=128)
    return {"loss": F.cross_entropy(z, np.where(np.arange(128) < 3, y, 2))}  # planted


def one_class_mostly_with_weights() -> dict[str, Any]:
    z, y = logits(n=128)
    y = np.where(np.arange(128) < 3, y, 2)
    return {"loss": F.cross_entropy(z, y, weight=1 / np.bincount(y, minlength=4).clip(1))}


def mean_and_division() -> dict[str, Any]:
    z, y = logits()
    return {"loss": F.cross_entropy(z, y) / len(y)}  # planted


def mean_of_divided() -> dict[str, Any]:
    z, y = logits()
    losses = F.cross_entropy(z, y, reduction="none") / len(y)  # planted
    return {"loss": losses.mean()}


def squares_divided_twice() -> dict[str, Any]:
    w = normal(8, 1)
    x, _ = batch()
    errors = (sm.Tensor(x) @ w - x[:, :1]) ** 2
    return {"loss": errors.mean() * (1 / 64)}  # planted


def sum_and_division() -> dict[str, Any]:
    z, y = logits()
    return {"loss": F.cross_entropy(z, y, reduction="sum") / len(y)}


def four_micro_batches() -> dict[str, Any]:
    z, y = logits(n=4)
    return {"loss": F.cross_entropy(z, y) / 4}


def divergence(given: Any) -> dict[str, Any]:
    x, _ = batch()
    q = F.softmax(nn.Linear(8, 4)(x) * 3.0).data
    return {"loss": F.kl_div(given(nn.Linear(8, 4)(x)), q, reduction="batchmean")}  # planted


def divergence_of_probabilities() -> dict[str, Any]:
    return divergence(F.softmax)


def divergence_of_log_probabilities() -> dict[str, Any]:
    return divergence(F.log_softmax)


def expected_reward() -> dict[str, Any]:
    """q·p alone is no divergence."""
    x, _ = batch()
    q = F.softmax(nn.Linear(8, 4)(x) * 3.0).data
    return {"loss": (q * (1.0 - F.softmax(nn.Linear(8, 4)(x)))).sum(axis=1).mean()}


CASES = [
    Case("nll-on-probabilities", divergence_of_probabilities, divergence_of_log_probabilities, "mul"),
    Case("nll-on-probabilities", divergence_of_probabilities, expected_reward, "mul"),
    Case("softmax-before-cross-entropy", softmax_twice, softmax_once, "cross_entropy"),
    Case("softmax-before-cross-entropy", sigmoid_first, softmax_once, "cross_entropy"),
    Case("softmax-before-cross-entropy", log_softmax_first, softmax_once, "cross_entropy"),
    Case("softmax-before-cross-entropy", softmax_by_hand_first, softmax_once, "cross_entropy"),
    Case("softmax-before-cross-entropy", clipped_softmax_in_pytorchs_layout, classes_on_their_axis, "cross_entropy"),
    Case("softmax-before-cross-entropy", nll_of_log_softmax_of_softmax, nll_of_log_probabilities, "nll_loss"),
    Case("softmax-before-cross-entropy", loss_written_out, nll_of_log_probabilities, "log_softmax"),
    Case("softmax-before-cross-entropy", mixture_of_experts_first, softmax_once, "cross_entropy"),
    Case("nll-on-probabilities", nll_of_probabilities, nll_of_log_probabilities, "nll_loss"),
    Case("nll-on-logits", nll_of_logits, nll_of_log_probabilities, "nll_loss"),
    Case("one-hot-as-indices", one_hot_integers, class_indices, "cross_entropy"),
    Case("wrong-class-axis", classes_on_the_wrong_axis, classes_on_their_axis, "cross_entropy"),
    Case("wrong-class-axis", classes_along_the_batch, softmax_once, "cross_entropy"),
    Case("wrong-class-axis", scrambled_by_reshape, reshaped_in_order, "cross_entropy"),
    Case("degenerate-targets", one_class_only, softmax_once, "cross_entropy"),
    Case("degenerate-targets", one_class_mostly, one_class_mostly_with_weights, "cross_entropy"),
    Case("double-mean", mean_and_division, sum_and_division, "div"),
    Case("double-mean", mean_of_divided, sum_and_division, "div"),
    Case("double-mean", squares_divided_twice, four_micro_batches, "mul"),
]
