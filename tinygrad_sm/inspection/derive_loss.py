"""Cross-entropy on paper: from its definition to p − y, for every class, with the numbers of one loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..graph import Graph, Node
from ..ops.loss import importance
from ..ops.softmax import softmax
from ..tensor import Array
from .arrays import number
from .document import Block, equation

LOSSES = ("cross_entropy", "soft_cross_entropy", "linear_cross_entropy", "nll_loss")


class Loss(NamedTuple):
    """What a cross-entropy was called with, as rows: N of them, C classes."""

    z: Array  # (N, C) logits; of nll_loss log-probabilities
    y: Array  # (N,) class indices, or (N, C) probabilities
    q: Array  # (N, C) what p is compared with: the one-hot rows, smoothed and weighted; 0 where ignored
    counts: Array  # (N,) which rows count
    weight: Array | None
    smoothing: float
    reduction: str
    divisor: float

    @property
    def plain(self) -> bool:
        """Whether every row is one-hot and counts in full."""
        return self.weight is None and not self.smoothing and bool(self.counts.all()) and self.y.ndim == 1


def read_loss(graph: Graph, node: Node) -> Loss:
    """Return the arguments of a loss."""
    values = {edge.position: graph[edge.source].value for edge in graph.edges_into(node)}
    options = node.constants
    if node.op == "linear_cross_entropy":
        x, w, y, b = (values.get(i) for i in range(4))
        assert x is not None
        assert w is not None
        z = x.astype(np.float64) @ w.astype(np.float64).T + (0.0 if b is None else b)
        weight = options.get("class_weight")
    else:
        z, y, weight = values[0].astype(np.float64), values[1], options.get("weight")
    z = z.reshape(-1, z.shape[-1])
    n_classes = z.shape[1]
    smoothing, reduction = float(options.get("label_smoothing", 0.0)), str(options.get("reduction", "mean"))
    weight = None if weight is None else np.asarray(weight, np.float64)
    w = np.ones(n_classes) if weight is None else weight
    if node.op == "soft_cross_entropy":
        y = np.asarray(y, np.float64).reshape(-1, n_classes)
        q, counts, total = y, np.ones(len(y), bool), float(len(y))
    else:
        y = np.asarray(y).reshape(-1)
        ignored = options.get("ignore_index", -100)
        safe, _, total = importance(y, weight, ignored, np.float64)
        q, counts = np.eye(n_classes)[safe], y != ignored
    q = w * ((1 - smoothing) * q + smoothing / n_classes) * counts[:, None]
    return Loss(z, y, q, counts, weight, smoothing, reduction, total if reduction == "mean" and total else 1.0)


def loss_texts(graph: Graph, node: Node) -> tuple[str, str]:
    """Return formula and gradient of a loss with the options of this call.

    Where all of them are at their defaults, these are the registry's.
    """
    loss = read_loss(graph, node)
    over = {"mean": ("Σₙ ", "/D"), "sum": ("Σₙ ", ""), "none": ("", "")}[loss.reduction]
    if loss.plain and loss.reduction == "mean":
        return node.formula, node.gradient
    if node.op == "nll_loss":
        weighted = "" if loss.plain else "w[y]·"
        return f"−({over[0]}{weighted}ℓ[y]){over[1]}", f"−g·{weighted}[j = y]{over[1]}"
    if loss.plain:
        formula, gradient = f"({over[0]}(log Σⱼ exp(zⱼ) − z[y])){over[1]}", f"g·(p − y){over[1]}"
    else:
        formula, gradient = f"−({over[0]}Σⱼ qⱼ·log pⱼ){over[1]}", f"g·(Q·p − q){over[1]}"
    more = "p = softmax(z)" + (", Q = Σⱼ qⱼ" if not loss.plain else "")
    if node.op == "linear_cross_entropy":
        return f"{formula}, with z = x·Wᵀ + b, {more}", f"d·W, dᵀ·x, Σₙ d, with d = {gradient}, {more}"
    return f"{formula}, with {more}", f"{gradient}, with {more}"


# -- the derivation -------------------------------------------------------------------------------


def cross_entropy(graph: Graph, node: Node, names: Mapping[str, str], numbers: int) -> Iterator[Block]:
    """Derive the gradient with respect to the logits of one row, and write the numbers of a row."""
    loss = read_loss(graph, node)
    yield Block("heading", "Why: from the definition of the loss, for every class")
    yield from _plain() if loss.plain else _general(loss)
    yield from _batch(loss)
    if numbers and loss.counts.any():
        yield from _row(loss, node, graph, numbers)


def _plain() -> Iterator[Block]:
    yield Block(
        "text",
        "Take one row of logits `z`, and write `y` for the number of its true class. The loss "
        "of the row is minus the "
        "log of the probability that softmax gives that class, `pᵢ = exp(zᵢ)/Σⱼ exp(zⱼ)`:",
    )
    yield equation("ℓ = −log p[y] = log Σⱼ exp(zⱼ) − z[y]", label="definition")
    yield Block("text", "The first term depends on every logit, in the same way; its derivative is softmax:")
    yield equation(
        "∂(log Σⱼ exp(zⱼ))/∂zᵢ = exp(zᵢ)/Σⱼ exp(zⱼ) = pᵢ",
        label="every i",
        latex=r"\frac{\partial}{\partial z_i} \log \textstyle\sum_j e^{z_j} = \frac{e^{z_i}}{\sum_j e^{z_j}} = p_i",
    )
    yield Block(
        "text", "The second term is one logit only, that of the true class; its derivative is 1 there, and 0 elsewhere:"
    )
    yield equation("∂ℓ/∂zᵢ = pᵢ − 1", label="i = y")
    yield equation("∂ℓ/∂zᵢ = pᵢ − 0 = pᵢ", label="i ≠ y")
    yield Block("text", "With `y` now for the one-hot row, 1 at the true class and 0 elsewhere, both are one formula:")
    yield equation("∂ℓ/∂z = p − y", label="together")
    yield Block(
        "text",
        "The long way round, through the probabilities, comes to the same. Only `p[y]` is in "
        "the loss, and softmax has "
        "the Jacobian `∂pⱼ/∂zᵢ = pⱼ·([i = j] − pᵢ)`, so the two factors `p[y]` cancel:",
    )
    yield equation(
        "∂ℓ/∂zᵢ = −1/p[y]·p[y]·([i = y] − pᵢ) = pᵢ − [i = y]",
        label="chain rule",
        latex=r"\frac{\partial \ell}{\partial z_i} = -\frac{1}{p_y}\, p_y\,([i = y] - p_i) = p_i - [i = y]",
    )
    yield Block(
        "text", "That is why the two are fused: computed one after the other, `1/p[y]` overflows where `p[y]` is small."
    )


def _general(loss: Loss) -> Iterator[Block]:
    parts = []
    if loss.y.ndim == 2:
        parts.append("the target is a row of probabilities")
    if loss.smoothing:
        parts.append(
            f"label smoothing gives every class ε/C of the target, ε = {number(loss.smoothing)}, C = {loss.z.shape[1]}"
        )
    if loss.weight is not None:
        parts.append("each class counts with its weight w")
    if not loss.counts.all():
        parts.append(f"{int((~loss.counts).sum())} of {len(loss.counts)} rows are ignored, with loss and gradient 0")
    said = "; ".join(parts)
    yield Block(
        "text",
        f"Take one row of logits `z`, and `p = softmax(z)`. Here {said}. All of that goes into "
        f"one row `q` with "
        "which `p` is compared:",
    )
    target = "tᵢ" if loss.y.ndim == 2 else "[i = y]"
    e = loss.smoothing
    inner = f"(1 − ε)·{target} + ε/C" if e else target
    yield equation(
        "qᵢ = "
        + (f"wᵢ·({inner})" if loss.weight is not None and e else f"wᵢ·{inner}" if loss.weight is not None else inner),
        label="target",
    )
    yield Block(
        "text",
        "Write `Q` for the sum of `q` (1, unless there are weights). Since `log pⱼ = zⱼ − log Σᵢ exp(zᵢ)`, the "
        "loss of the row is",
    )
    yield equation("ℓ = −Σⱼ qⱼ·log pⱼ = Q·log Σⱼ exp(zⱼ) − Σⱼ qⱼ·zⱼ", label="definition")
    yield Block("text", "The derivative of the log of the sum is softmax, that of the second sum is one entry of `q`:")
    yield equation("∂ℓ/∂zᵢ = Q·pᵢ − qᵢ", label="every i")
    if loss.y.ndim == 1:
        w = "wᵢ·" if loss.weight is not None else ""
        true = f"{w}(1 − ε + ε/C)" if e else (w.rstrip("·") or "1")
        yield equation(f"∂ℓ/∂zᵢ = Q·pᵢ − {true}", label="i = y")
        yield equation(f"∂ℓ/∂zᵢ = Q·pᵢ − {w}ε/C" if e else "∂ℓ/∂zᵢ = Q·pᵢ", label="i ≠ y")


def _batch(loss: Loss) -> Iterator[Block]:
    if loss.reduction == "none":
        yield Block(
            "text",
            "Each row has a loss of its own (reduction none), so each row is multiplied by its own incoming gradient.",
        )
    elif loss.reduction == "sum":
        yield Block("text", "The losses of the rows are added (reduction sum), so nothing more is divided by.")
    elif loss.weight is not None and loss.y.ndim == 1:
        yield Block(
            "text",
            f"The mean divides by the weights of the true classes that count, together D = {number(loss.divisor)}.",
        )
    else:
        yield Block("text", f"The mean divides by the number of rows that count, {number(loss.divisor)}.")


def softmax_rows(z: Array) -> Array:
    """Return softmax of rows in double precision."""
    return np.nan_to_num(softmax(z))  # a row with nothing to see is NaN there, and 0 here


def _row(loss: Loss, node: Node, graph: Graph, numbers: int) -> Iterator[Block]:
    n = int(loss.counts.argmax())
    z, q = loss.z[n], loss.q[n]
    p, total = softmax_rows(z), float(q.sum())
    which = f"row {n}, " if len(loss.z) > 1 else ""
    true = "" if loss.y.ndim == 2 else f"{which}whose true class is {int(loss.y[n])}"
    yield Block("text", f"With the numbers of this loss, {true or which.rstrip(', ') or 'its one row'}:")
    yield equation("z", z, label="logits")
    yield equation("exp(z − max z)", np.exp(z - z.max()), label="exp")
    yield equation("p", p, label="softmax")
    yield equation("y" if loss.plain else "q", q, label="target")
    if not loss.plain:
        yield equation("Q", np.asarray(total), label="its sum")
    slope = total * p - q
    yield equation("p − y" if loss.plain else "Q·p − q", slope, label="gradient")
    share = _divided(loss, node, n)
    if share != 1:
        yield equation(
            f"(p − y)·{number(share)}" if loss.plain else f"(Q·p − q)·{number(share)}", slope * share, label="its share"
        )
    gains = ": what the true class gains, the others lose" if loss.y.ndim == 1 else ""
    yield Block("text", f"The entries of the row sum to {number(round(float((slope * share).sum()), 9))}{gains}.")
    engine = next((e.share for e in graph.edges_into(node) if e.position == 0 and e.share is not None), None)
    if engine is not None and node.op != "linear_cross_entropy":
        gap = np.abs(engine.reshape(loss.z.shape)[n] - slope * share).max()
        yield Block("text", f"The engine has the same row, up to {number(gap)}.")


def _divided(loss: Loss, node: Node, n: int) -> float:
    """Return what the row is multiplied with: the incoming gradient over the divisor."""
    g = np.asarray(node.grad if node.grad is not None else 1.0, np.float64).reshape(-1)
    return float(g[n] if loss.reduction == "none" else g[0]) / loss.divisor


def after_log_softmax(graph: Graph, node: Node, names: Mapping[str, str], numbers: int) -> Iterator[Block]:
    """Derive the gradient of log_softmax; where nll_loss follows, show that the two make p − y."""
    yield Block("heading", "Why: the derivative of a log-probability")
    yield equation("log pⱼ = zⱼ − log Σᵢ exp(zᵢ)", label="definition")
    yield equation(
        "∂(log pⱼ)/∂zᵢ = [i = j] − pᵢ",
        label="derivative",
        latex=r"\frac{\partial \log p_j}{\partial z_i} = [i = j] - p_i",
    )
    yield Block(
        "text", "Each logit gets the sum over all log-probabilities, each with the gradient `gⱼ` that came back to it:"
    )
    yield equation("Σⱼ gⱼ·([i = j] − pᵢ) = gᵢ − pᵢ·Σⱼ gⱼ", label="chain rule")
    user = next((graph[e.target] for e in graph.edges_from(node) if graph[e.target].op == "nll_loss"), None)
    if user is not None:
        loss = read_loss(graph, user)
        d = number(loss.divisor)
        yield Block(
            "text",
            "The gradient that came in is that of the negative log-likelihood: minus a share at "
            "the true class, 0 at all others. "
            "So its sum over a row is minus that share, and the two terms are",
        )
        w = "" if loss.weight is None else "w[y]·"
        yield equation(f"−{w}[i = y]/{d} + pᵢ·{w}1/{d} = {w}(pᵢ − [i = y])/{d}", label="together")
        yield Block("text", "which is p − y, the gradient of cross-entropy, for the true class and for every other.")
    if numbers:
        z = graph[graph.edges_into(node)[0].source].value
        axis = node.constants.get("axis", -1)
        g = np.asarray(node.grad, np.float64)
        p = np.exp(np.asarray(node.value, np.float64))
        if z.ndim:
            yield equation("p", p, label="softmax")
            yield equation("Σⱼ gⱼ", g.sum(axis=axis, keepdims=True), label="row sums")
