"""Softmax: its definition, the example of cat, dog and horse, the soft argmax, and the logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from . import pictures
from .parts import Block, Chapter, Figure, Widget, claim, equation, prose, read, run, same

LOGITS = np.array([1.0, 2.0, 3.0])  # cat, dog, horse


def definition() -> Chapter:
    """Reproduce "Softmax Definition and Properties"."""
    p = F.softmax(LOGITS)
    rng = np.random.default_rng(0)
    many = F.softmax(rng.normal(0, 10, (1000, 50)))
    merged = np.log(np.exp(LOGITS[0]) + np.exp(LOGITS[1]))
    gaps = rng.uniform(0, 5, 10_000)
    spread = spread_of(gaps)
    shifted = F.softmax(LOGITS + 100)
    return Chapter(
        "Softmax: scores become probabilities",
        [
            prose(
                "A classifier gives each of V classes a score, its logit `zᵢ`. Softmax makes probabilities of them: "
                "each logit is exponentiated, which makes it positive, and divided by the sum, so that all add up to 1."
            ),
            equation("pᵢ = exp(zᵢ)/Σⱼ exp(zⱼ)"),
            run("""
z = sm.Tensor([1.0, 2.0, 3.0], name="z")    # cat, dog, horse
p = F.softmax(z)
print(p, p.sum())
print(p[2] / p[0], np.exp(3.0 - 1.0))
"""),
            same("the probabilities of cat, dog and horse, of logits 1, 2 and 3", "0.0900, 0.2447, 0.6652", p),
            same("their sum", "1.0", p.sum()),
            same("cat has 0.09 and horse 0.67", "0.09, 0.67", [p[0], p[2]]),
            same("horse is so many times as likely as cat", "7.4", p[2] / p[0]),
            Figure(
                "probabilities",
                lambda: pictures.distribution(LOGITS, ["cat", "dog", "horse"], temperature=[0.5, 1.0, 2.0]),
                "The example at three temperatures: dividing the logits by T changes how sharp the distribution is.",
            ),
            Widget("sliders", "Move the logits, the temperature and the label smoothing, and see what follows."),
            Block("heading", "Is it a probability distribution?"),
            claim(
                "softmax is never negative",
                (many >= 0).all(),
                f"smallest of 50,000 probabilities: {many.min():.1e}",
            ),
            claim(
                "it sums to 1",
                np.allclose(many.sum(axis=-1), 1, atol=1e-14),
                f"1,000 rows of 50 classes sum to 1 within {np.abs(many.sum(axis=-1) - 1).max():.0e}",
            ),
            claim(
                "it is additive: softmax(zᵢ) + softmax(zⱼ) = softmax(zᵢ + zⱼ)",
                np.isclose(p[0] + p[1], F.softmax(np.array([LOGITS[0] + LOGITS[1], LOGITS[2]]))[0]),
                f"p(cat) + p(dog) = {p[0] + p[1]:.4f}, but the logit 1 + 2 = 3 for both together gives "
                f"{F.softmax(np.array([3.0, 3.0]))[0]:.4f}",
                "What is additive is the probability: P(i or j) = pᵢ + pⱼ, for events that exclude each other. "
                f"The logit of the joint class is log(exp zᵢ + exp zⱼ), here {merged:.4f}, which gives "
                f"{F.softmax(np.array([merged, LOGITS[2]]))[0]:.4f}.",
            ),
            read(
                "the definition has softmax(xᵢ) on the left, and exp(zᵢ) on the right",
                "fails",
                "One vector z throughout. And softmax is a function of the whole vector: pᵢ = softmax(z)ᵢ, not "
                "softmax(zᵢ), since it depends on every logit.",
            ),
            Block("heading", "Does it amplify differences?"),
            prose(
                "The ratio of two probabilities depends on the difference of their logits alone, `p₁/p₂ = exp(z₁ "
                "− z₂)`. So the ratio of the logits, 3 to 1 in the example, means nothing: with 100 added to "
                "every logit it is 103 to 101, and the probabilities are the same."
            ),
            claim(
                "probabilities are not proportional to the logits",
                not np.isclose(p[2] / p[0], 3),
                f"7.4 to 1 for logits of 3 to 1; with 100 added to all it is still {shifted[2] / shifted[0]:.1f} to 1",
            ),
            claim(
                "softmax amplifies the differences between the scores",
                (np.exp(gaps) > 1 + gaps - 1e-12).all(),
                f"a gap of 1 is a ratio of {np.e:.2f}; but a gap of 1 is a difference of only {spread_of(1.0):.2f} in "
                f"probability, and one of 0.1 of {spread_of(0.1):.3f}",
                "It amplifies ratios. Differences it always shrinks: |p₁ − p₂| is at most tanh(|z₁ − z₂|/2), "
                "less than half the gap of the logits.",
                limit=(spread <= gaps / 2).all(),
            ),
        ],
    )


def spread_of(gap: Any) -> Any:
    """Return p₁ − p₂ of two logits that differ by `gap`.

    >>> round(float(spread_of(1.0)), 3)
    0.462
    """
    return np.tanh(gap / 2)


def soft_argmax() -> Chapter:
    """Reproduce "a soft version of the (hard) argmax", with the contour figure."""
    gaps = np.array([1.0, 2.0, 5.0, 10.0])
    largest = F.sigmoid(gaps)
    equal = [0.0, 0.5, 1.0, 2.0, 5.0]
    exact = [float(F.softmax(np.full(3, z))[0]) for z in equal]
    sloppy = [float(F.softmax(np.array([z, 2 * z]))[0]) for z in equal]
    return Chapter(
        "A soft argmax",
        [
            prose(
                "With one logit far above the others, softmax is nearly 1 there and 0 elsewhere: the argmax, as "
                "a one-hot vector, but with a gradient. How far is far? Of two logits, a gap of 5 is enough for "
                "0.99."
            ),
            run("""
for gap in (1.0, 2.0, 5.0, 10.0):
    print(gap, F.softmax(sm.Tensor([gap, 0.0])))
"""),
            claim(
                "softmax becomes argmax when one score is far above the others",
                largest[-1] > 0.9999,
                "p of the larger of two logits that differ by 1, 2, 5, 10: " + ", ".join(f"{x:.4f}" for x in largest),
            ),
            Figure(
                "contour",
                pictures.contours,
                "Left: softmax of two logits. The lines are straight and parallel to the diagonal, since only "
                "the difference counts. Middle: of three, two of them equal. Right: the same three with the "
                "article's exp(Σ z) in place of Σ exp(z): the lines are tilted, as the others count twice, and "
                "are elsewhere even where all logits are near each other.",
            ),
            claim(
                "exp(Σ z) is an acceptable stand-in for Σ exp(z) when the scores are not far apart",
                max(abs(a - b) for a, b in zip(exact, sloppy, strict=True)) < 0.05,
                "three equal logits of 0, 0.5, 1, 2, 5 have p = 1/3 each; with the stand-in "
                + ", ".join(f"{x:.3f}" for x in sloppy),
                "It is wrong even for equal scores, which cannot be nearer to each other. n scores that all are "
                "z have exp(n·z) = n·exp(z) only at z = log(n)/(n − 1). And it breaks what matters most about "
                "softmax: that adding a constant to all logits changes nothing.",
            ),
        ],
    )


def logits() -> Chapter:
    """Reproduce "Quick Aside: Logits"."""
    z = np.linspace(-6, 6, 13)
    p = F.sigmoid(z)
    back = F.logit(p)
    two = F.softmax(np.stack([z, np.zeros_like(z)], axis=-1))[:, 0]
    three = F.softmax(LOGITS)
    own = F.logit(three)
    return Chapter(
        "Logits",
        [
            prose(
                "The sigmoid takes the log-odds of a binary outcome to its probability, and the logit function "
                "takes the probability back. Sigmoid is softmax of two logits, one of them 0."
            ),
            equation("p = 1/(1 + exp(−z))"),
            equation("z = log(p/(1 − p))"),
            run("""
z = sm.Tensor([-2.0, 0.0, 2.0])
p = F.sigmoid(z)
print(p, F.logit(p))
print(F.softmax(F.stack([z, z * 0], axis=-1))[:, 0])
"""),
            claim(
                "the logit is the inverse of the sigmoid",
                np.allclose(back, z, atol=1e-12),
                f"logit(sigmoid(z)) = z within {np.abs(back - z).max():.0e} for z from −6 to 6",
            ),
            claim(
                "the input of softmax is a logit in the same sense",
                np.allclose(two, p, atol=1e-15),
                "with two classes and z₂ = 0, softmax is the sigmoid; but for cat, dog and horse the log-odds are "
                + ", ".join(f"{x:.2f}" for x in own)
                + ", not 1, 2, 3",
                "With more than two classes a logit is no log-odds: only differences mean something, "
                "zᵢ − zⱼ = log(pᵢ/pⱼ), and the log-odds of class i are zᵢ − log Σ exp of the others.",
                limit=not np.allclose(own, LOGITS),
            ),
            read(
                "the logits are the inverse of the logistic function",
                "fails",
                "The logit function is the inverse; a logit is its value, the argument of the sigmoid.",
            ),
        ],
    )
