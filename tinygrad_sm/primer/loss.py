"""Cross-entropy with softmax, the gradient p − y, and what happens with the mean absolute error in its place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import functional as F
from .. import naive
from ..derivatives import grad, jacobian
from ..graph import Graph
from ..inspection.derive_loss import cross_entropy as derivation
from ..tensor import Array, Tensor
from . import pictures
from .descent import compare_losses
from .parts import Block, Chapter, Figure, claim, equation, prose, read, run

LOGITS = np.array([1.0, 2.0, 3.0])
TRUE = 1  # dog


def differences(f: Callable[[Array], float], z: Array, eps: float = 1e-6) -> Array:
    """Return the gradient of f at z by central differences."""
    steps = eps * np.eye(len(z))
    return np.array([(f(z + step) - f(z - step)) / (2 * eps) for step in steps])


def gradient(loss: Callable[[Tensor], Any], z: Array) -> Array:
    """Return the gradient of a loss at z by the engine."""
    t = Tensor(z, requires_grad=True)
    return grad(loss(t), t)[0].data


def cross_entropy() -> Chapter:
    """Reproduce "Why do we use Cross Entropy Loss with Softmax?"."""
    p, y = F.softmax(LOGITS), np.eye(3)[TRUE]
    z = Tensor(LOGITS, requires_grad=True, name="z")
    loss = F.cross_entropy(z, TRUE)
    engine = grad(loss, z)[0].data
    numeric = differences(lambda a: float(F.cross_entropy(a, TRUE)), LOGITS)
    soft = np.array([0.2, 0.5, 0.3])
    soft_gradient = gradient(lambda t: F.cross_entropy(t, soft), LOGITS)
    graph = Graph(loss)
    J = jacobian(F.softmax, Tensor(LOGITS)).data
    rng = np.random.default_rng(0)
    random = [gradient(partial(F.cross_entropy, target=c), rng.normal(0, 5, 10)) for c in range(10)]
    by_hand = -y[TRUE] * (1 - p[TRUE])
    return Chapter(
        "Cross-entropy, and its gradient p − y",
        [
            prose(
                "Cross-entropy compares the probabilities with the truth: minus the log of the probability of "
                "the true class. Here that is dog, class 1. What follows is written by `sm.explain`, from the "
                "graph of this loss."
            ),
            run("""
z = sm.Tensor([1.0, 2.0, 3.0], requires_grad=True, name="z")
loss = sm.cross_entropy(z, 1)
loss.backward()
print(loss)
print(z.grad)
print(F.softmax(z.detach()) - np.float32([0, 1, 0]))
"""),
            *(block for block in derivation(graph, graph.nodes[-1], {}, 24)),
            Block("heading", "By algebra, by the engine, by differences"),
            Block(
                "table",
                rows=(
                    ("class", "p − y", "the engine", "central differences"),
                    *(
                        (name, *(f"{a[i]:.6f}" for a in (p - y, engine, numeric)))
                        for i, name in enumerate(("cat", "dog", "horse"))
                    ),
                ),
            ),
            claim(
                "the gradient of cross-entropy with respect to the logits is p − y",
                np.allclose(engine, p - y, atol=1e-14) and np.allclose(numeric, p - y, atol=1e-8),
                f"for every class: the engine within {np.abs(engine - (p - y)).max():.0e}, differences within "
                f"{np.abs(numeric - (p - y)).max():.0e}",
            ),
            claim(
                "the derivation shows it",
                np.isclose(by_hand, (p - y)[TRUE]),
                f"for the true class j it ends with −yⱼ·(1 − pⱼ) = {by_hand:.4f}, which is pⱼ − yⱼ",
                "It covers the true class only. For the others the gradient is pᵢ, "
                f"here {engine[0]:.4f} and {engine[2]:.4f}: the loss depends on each logit, through the sum.",
                limit=np.abs(np.delete(engine, TRUE)).min() > 0.01,
            ),
            claim(
                "its last step, −yⱼ·(1 − pⱼ) = pⱼ − yⱼ, is an identity",
                np.allclose(-soft * (1 - p), p - soft),
                f"with yⱼ = 0.5 and pⱼ = {p[TRUE]:.4f} the left side is {-0.5 * (1 - p[TRUE]):.4f}, the right one "
                f"{p[TRUE] - 0.5:.4f}",
                "It is true since yⱼ = 1. For targets that are probabilities p − y holds all the same (the "
                f"engine: within {np.abs(soft_gradient - (p - soft)).max():.0e}), but by another way: all terms "
                "of the sum.",
            ),
            claim(
                "the gradient is small where the model is right, and large where it is wrong",
                all(abs(abs(g[c]) - np.abs(np.delete(g, c)).sum()) < 1e-9 for c, g in enumerate(random)),
                "|pⱼ − yⱼ| = 1 − pⱼ for the true class, never more than 1; the entries of a row sum to 0, so the "
                "others gain together what the true class loses",
            ),
            Block("heading", "Through the probabilities: the Jacobian of softmax"),
            equation("∂pⱼ/∂zᵢ = pⱼ·([i = j] − pᵢ)"),
            Figure(
                "jacobian",
                lambda: pictures.jacobian(LOGITS),
                "diag(p) − p·pᵀ: symmetric, rows and columns sum to 0. The article uses its diagonal only, p·(1 − p).",
            ),
            claim(
                "∂pⱼ/∂zⱼ = pⱼ·(1 − pⱼ)",
                np.allclose(np.diag(J), p * (1 - p), atol=1e-15),
                "the diagonal: " + ", ".join(f"{x:.4f}" for x in np.diag(J)),
                "The whole Jacobian is diag(p) − p·pᵀ; off the diagonal stands −pᵢ·pⱼ, which the backward pass "
                "needs too.",
                limit=np.abs(J - np.diag(np.diag(J))).max() > 0.01,
            ),
            Figure(
                "graph",
                pictures.loss_graph,
                "The graph of this loss, opened into the definition of cross_entropy: nll_loss of log_softmax. "
                "nll_loss sends back −1 at the true class, and log_softmax makes p − y of it.",
            ),
        ],
    )


def absolute_error() -> Chapter:
    """Reproduce the mean absolute error in place of cross-entropy, and let a training run stall."""
    sure = np.array([10.0, 0.0, 0.0])  # sure of class 0
    p = F.softmax(LOGITS)
    by_engine = gradient(lambda t: naive.mae_loss(t.reshape(1, 3), [TRUE]), LOGITS)
    true_mae = gradient(lambda t: abs(F.softmax(t) - np.eye(3)[TRUE]).sum(), LOGITS)
    wrong = {
        "cross-entropy": gradient(lambda t: F.cross_entropy(t, 1), sure),
        "absolute error": gradient(lambda t: naive.mae_loss(t.reshape(1, 3), [1]), sure),
    }
    right = gradient(lambda t: F.cross_entropy(t, 0), sure)
    runs = compare_losses()
    ce, mae = runs["cross-entropy"], runs["absolute error"]
    return Chapter(
        "The absolute error in its place",
        [
            prose(
                "Is cross-entropy needed? Take as loss how far the probability of the true class is from 1. Its "
                "gradient has a factor p·(1 − p), which is nearly 0 when the model is right, and also when it is "
                "wrong and sure of it."
            ),
            run("""
z = sm.Tensor([[10.0, 0.0, 0.0]], requires_grad=True)    # sure of class 0; the truth is class 1
print(sm.grad(sm.cross_entropy(z, [1]), z)[0])
print(sm.grad(sm.naive.mae_loss(z, [1]), z)[0])
"""),
            equation(
                "∂(1 − p[y])/∂zᵢ = −p[y]·([i = y] − pᵢ)",
                latex=r"\frac{\partial (1 - p_y)}{\partial z_i} = -p_y\,([i = y] - p_i)",
            ),
            claim(
                "the gradient for the true class is −pⱼ·(1 − pⱼ)",
                np.isclose(by_engine[TRUE], -p[TRUE] * (1 - p[TRUE])),
                f"{by_engine[TRUE]:.4f} by the engine",
            ),
            claim(
                "the loss yⱼ − pⱼ is the mean absolute error",
                np.allclose(true_mae, by_engine),
                f"Σ|y − p| over the three classes has the gradient {true_mae[TRUE]:.4f} for the true class, twice "
                "as much",
                "1 − pⱼ is the error of the true class. The sum of |yᵢ − pᵢ| over all classes is 2·(1 − pⱼ), "
                "their mean that divided by V; the gradient vanishes in the same places.",
            ),
            claim(
                "the gradient vanishes where p is near 0: a model that is wrong and sure does not learn",
                np.abs(wrong["absolute error"]).max() < 1e-4 < 0.9 < np.abs(wrong["cross-entropy"]).max(),
                f"sure of the wrong class by 10: largest entry {np.abs(wrong['absolute error']).max():.1e}, against "
                f"{np.abs(wrong['cross-entropy']).max():.4f} of cross-entropy",
            ),
            claim(
                "that it vanishes where p is near 1 is as bad",
                np.abs(right).max() > 0.01,
                f"so does cross-entropy's: right and sure by 10, its largest entry is {np.abs(right).max():.1e}",
                "Where the model is right there is nothing to change: that is what one wants, as the article says two "
                "sentences on. Only the other end hurts.",
            ),
            Block("heading", "A training run in which it stalls"),
            prose(
                f"A bigram model of English (the text that Python ships with): one row of {runs['classes']} "
                "logits for each character, for the one that follows. Both losses start from the same weights "
                "and take the same steps of gradient descent, each at the best of several learning rates."
            ),
            Figure(
                "stall",
                lambda: pictures.stall(runs),
                "Mean surprise of the next character in held-out text, in nats. From uniform probabilities, and "
                "from a start that is sure of a wrong character.",
            ),
            Block(
                "table",
                rows=(
                    ("start", "loss", "nats at the start", "nats at the end", "right guesses"),
                    *(
                        (
                            start,
                            name,
                            f"{r[start]['nats'][0]:.2f}",
                            f"{r[start]['nats'][-1]:.2f}",
                            f"{100 * r[start]['accuracy']:.1f} %",
                        )
                        for start in ("uniform", "sure and wrong")
                        for name, r in (("cross-entropy", ce), ("absolute error", mae))
                    ),
                ),
            ),
            prose(
                "From the uniform start the absolute error does learn something: to guess the likeliest "
                "character. It is smallest when all of the probability is on that one, so its probabilities get "
                "worse while its guesses get better."
            ),
            claim(
                "a model trained with it hardly changes when it is wrong",
                mae["sure and wrong"]["nats"][-1] > 0.9 * mae["sure and wrong"]["nats"][0]
                and ce["sure and wrong"]["nats"][-1] < 0.5 * ce["sure and wrong"]["nats"][0],
                f"after {runs['steps']} steps from a sure and wrong start: "
                f"{mae['sure and wrong']['nats'][-1]:.2f} nats, against {ce['sure and wrong']['nats'][-1]:.2f} "
                "with cross-entropy",
            ),
            read(
                "cross-entropy is the better loss for softmax",
                "in part",
                "For learning from clean labels. That the absolute error hardly follows an example that "
                "contradicts a sure model makes it robust to wrong labels (Ghosh, Kumar and Sastry 2017); losses "
                "between both exist for that (Zhang and Sabuncu 2018).",
            ),
        ],
    )
