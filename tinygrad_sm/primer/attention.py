"""Why attention divides by √d_k: the mean and the variance of q·k, and what the softmax makes of them."""

from __future__ import annotations

import numpy as np

from .. import functional as F
from ..tensor import Array
from . import pictures
from .parts import Block, Chapter, Figure, claim, prose, read, run

WIDTHS = (4, 16, 64, 256, 1024, 4096)
PAIRS = 20_000
D, KEYS = 512, 128  # of the article's example
QUERIES = 200


def products() -> list[dict[str, float]]:
    """Return mean and variance of q·k, for vectors of independent entries with mean 0 and variance 1."""
    rng = np.random.default_rng(0)
    table = []
    for d in WIDTHS:
        dots = np.concatenate([
            np.einsum("nd,nd->n", rng.standard_normal((n, d)), rng.standard_normal((n, d)))
            for n in [PAIRS // 10] * 10
        ])  # fmt: skip
        table.append({"d_k": d, "mean": dots.mean(), "error": dots.std() / np.sqrt(PAIRS), "variance": dots.var()})
    return table


def weights() -> dict[str, Array]:
    """Return attention weights (queries, keys) of the same q and k, divided in three ways."""
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((QUERIES, D)), rng.standard_normal((KEYS, D))
    scores = q @ k.T
    return {
        "undivided": F.softmax(scores),
        "over √d_k": F.softmax(scores / np.sqrt(D)),
        "over d_k": F.softmax((q / np.sqrt(D)) @ (k / np.sqrt(D)).T),
    }


def square_norms(w: Array) -> Array:
    """Return, of each row, the Frobenius norm of the softmax's Jacobian diag(p) − p·pᵀ."""
    squares = (w**2).sum(axis=-1)
    return np.sqrt(np.maximum(squares - 2 * (w**3).sum(axis=-1) + squares**2, 0))


def describe(w: Array) -> dict[str, float]:
    """Return medians over the rows of the largest weight, of p·(1 − p) and of the Jacobian's norm, and the entropy."""
    safe = np.where(w > 0, w, 1)
    return {
        "largest": float(np.median(w.max(axis=-1))),
        "entropy": float(np.median(-(w * np.log(safe)).sum(axis=-1)) / np.log(w.shape[-1])),
        "derivative": float(np.median(w * (1 - w))),
        "mean derivative": float((w * (1 - w)).mean()),
        "jacobian": float(np.median(square_norms(w))),
    }


def scaling() -> Chapter:
    """Reproduce "Softmax in Transformer Attention Mechanism"."""
    table = products()
    w = weights()
    seen = {name: describe(part) for name, part in w.items()}
    off, on, article = (seen[name] for name in w)
    theory = [abs(row["variance"] / row["d_k"] - 1) for row in table]
    return Chapter(
        "Attention, and why √d_k",
        [
            prose(
                "Attention compares a query with every key by their dot product, and makes weights of these "
                "scores by softmax. If the entries of `q` and `k` are independent, with mean 0 and variance 1, "
                "then each product of two entries has mean 0 and variance 1 as well, and there are d_k of them "
                "in a sum: their variances add up."
            ),
            Block(
                "equation",
                "Var(q·k) = Σᵢ Var(qᵢ·kᵢ) = d_k·(1·1) = d_k",
                r"\operatorname{Var}(q\cdot k) = \sum_{i=1}^{d_k} \operatorname{Var}(q_i k_i) = d_k",
            ),
            run("""
q, k = np.random.default_rng(0).standard_normal((2, 128, 512)).astype(np.float32)
v = np.eye(128, dtype=np.float32)
for scale in (None, 1.0):    # None is 1/√d_k; 1.0 leaves the scores undivided
    out, weights = F.scaled_dot_product_attention(q, k, v, scale=scale, return_weights=True)
    print(scale, weights.max(axis=-1)[:5].round(3))
"""),
            Block(
                "table",
                rows=(
                    ("d_k", "mean of q·k", "its standard error", "variance of q·k"),
                    *(
                        (str(row["d_k"]), f"{row['mean']:.3f}", f"{row['error']:.3f}", f"{row['variance']:.1f}")
                        for row in table
                    ),
                ),
            ),
            Figure(
                "variance",
                lambda: pictures.variance(table),
                f"Measured on {PAIRS:,} pairs for each d_k, and the theory.",
            ),
            claim(
                "the mean of q·k is 1",
                all(abs(row["mean"] - 1) < 3 * row["error"] for row in table),
                ", ".join(f"{row['mean']:.2f} ± {row['error']:.2f}" for row in table)
                + " (standard error) for d_k = "
                + ", ".join(map(str, WIDTHS)),
                "It is 0: every term has mean 0·0. (The article's own next line derives 0.)",
            ),
            claim(
                "the variance of q·k is d_k",
                max(theory) < 0.05,
                f"within {100 * max(theory):.1f} % for d_k from {WIDTHS[0]} to {WIDTHS[-1]}",
            ),
            read(
                "Var(QKᵀ) = Var(Q)·Var(Kᵀ) = d_k·1² = d_k",
                "fails",
                "Var(Q)·Var(K) is 1·1 = 1. The d_k comes from the sum over d_k independent products, which this "
                "line leaves out; and the variance of one product is E[q²]·E[k²] = 1 only because the means are "
                "0.",
            ),
            Block("heading", "The same q and k, divided in three ways"),
            prose(
                f"With d_k = {D} the scores have a standard deviation of √{D} = {np.sqrt(D):.1f}. Softmax of "
                f"{KEYS} such scores is nearly an argmax. Divided by √d_k they have one of 1. The article divides "
                f"q and k each by √d, so that the scores shrink by d and have a deviation of 1/√{D} = "
                f"{1 / np.sqrt(D):.2f}: nearly uniform weights, which look as well spread as could be, because "
                "hardly anything is left of the scores. It also draws new q and k for the second picture. Here "
                "all three are of the same ones."
            ),
            Figure(
                "weights",
                lambda: pictures.weights(w),
                f"Attention weights of {QUERIES} queries on {KEYS} keys, d_k = {D}.",
            ),
            Block(
                "table",
                rows=(
                    (
                        "scores",
                        "largest weight",
                        "entropy / log n",
                        "p·(1 − p), median",
                        "p·(1 − p), mean",
                        "norm of the Jacobian",
                    ),
                    *(
                        (
                            name,
                            *(
                                f"{s[k]:.3g}"
                                for k in ("largest", "entropy", "derivative", "mean derivative", "jacobian")
                            ),
                        )
                        for name, s in seen.items()
                    ),
                ),
            ),
            claim(
                "undivided attention is very peaked, scaled attention more uniform",
                off["largest"] > 0.9 and on["largest"] < 0.3,
                f"median largest weight {off['largest']:.3f} against {on['largest']:.3f} of the same q and k",
            ),
            claim(
                "the article's second figure shows attention scaled by √d_k",
                np.allclose(w["over d_k"], w["over √d_k"], atol=1e-3),
                f"its median largest weight is {article['largest']:.4f}, with 1/{KEYS} = {1 / KEYS:.4f}; scaled "
                f"by √d_k it is {on['largest']:.3f}",
                "It shows scores divided by d_k. Divide the scores, or q, or each of q and k by the fourth root "
                "of d_k.",
            ),
            Block("heading", "The derivative"),
            Figure(
                "derivative",
                lambda: pictures.derivative(),
                "The derivative of p = softmax(z)ᵢ by its own logit. The article's axis says z, but its values "
                "are those of p (left). Over z (right; the others being 0) it is a bell: the derivative vanishes "
                "on both sides.",
            ),
            read(
                "the figure of the derivative has z on its horizontal axis",
                "fails",
                "What is drawn is p·(1 − p) over p from 0 to 1.",
            ),
            Figure(
                "derivatives",
                lambda: pictures.derivatives(w),
                "p·(1 − p) of the same weights, on a logarithmic axis. Most of the undivided ones are far too "
                "small to see on the article's linear one; the first bar is all below 1e−24.",
            ),
            claim(
                "the derivative is very small without the factor, and much larger with it",
                on["derivative"] > 100 * off["derivative"],
                f"median p·(1 − p): {off['derivative']:.1e} against {on['derivative']:.1e}; norm of the whole "
                f"Jacobian, median over queries: {off['jacobian']:.1e} against {on['jacobian']:.1e}",
                "The typical entry, yes. The norm of the whole Jacobian, which multiplies the gradient on its "
                "way back, differs by less: the few large weights of a peaked row have large derivatives. And "
                "the factor 1/√d_k itself is in the chain rule, too: it makes the gradient of q smaller by as "
                "much.",
                limit=on["jacobian"] < 100 * off["jacobian"],
            ),
            read(
                "the titles of the two derivative figures give the smallest derivative",
                "fails",
                "The code prints the smallest weight of the undivided attention, in both.",
            ),
            read(
                "512 is d_k, the usual width of word embeddings",
                "in part",
                "In Vaswani et al. (2017) d_model is 512, and d_k is 64: each of 8 heads has its share. "
                "Undivided scores then have a deviation of 8, not 22.6.",
            ),
            read(
                "the factor was a key component in training Transformers",
                "in part",
                "It depends on d_k and on how q and k begin. It keeps the scores from being spread at the start, "
                "and from moving √d_k times as fast later; at 128 each fault alone does all of the damage. See "
                "docs/attention.md.",
                "leaving it out costs a character model 0.14, 0.30 and 0.33 nats for d_k = 16, 64 and 128 if q "
                "and k begin with variance 1 (five seeds); with GPT-2's small weights −0.06, 0.04 and 0.15",
            ),
        ],
    )
