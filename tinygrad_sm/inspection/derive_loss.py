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
from .formula import Term, parse, substitute

LOSSES = ("cross_entropy", "soft_cross_entropy", "linear_cross_entropy", "nll_loss")


class Loss(NamedTuple):
    """What a cross-entropy was called with, as rows; of logits and targets a row is made when it is asked for."""

    values: dict[int, Array]  # the arguments of the op by position
    y: Array  # (N,) class indices, or (N, C) probabilities
    classes: int
    counts: Array  # (N,) which rows count
    weight: Array | None
    smoothing: float
    reduction: str
    divisor: float
    ignored: int

    @property
    def plain(self) -> bool:
        """Whether every row is one-hot and counts in full."""
        return self.weight is None and not self.smoothing and bool(self.counts.all()) and self.y.ndim == 1

    def logits(self, n: int) -> Array:
        """Return row n of the logits, (C,); of nll_loss log-probabilities."""
        row = self.values[0].reshape(len(self.y), -1)[n].astype(np.float64)
        if 2 not in self.values:
            return row
        return self.values[1] @ row + self.values.get(3, 0.0)  # linear_cross_entropy: x, W, target, b

    def compared(self, n: int) -> Array:
        """Return what p is compared with in row n, (C,): the one-hot row, smoothed and weighted; 0 where ignored."""
        own = self.y[n] if self.y.ndim == 2 else np.arange(self.classes) == self.y[n]
        w = 1.0 if self.weight is None else self.weight
        return np.asarray(w * ((1 - self.smoothing) * own + self.smoothing / self.classes) * self.counts[n])


def read_loss(graph: Graph, node: Node) -> Loss:
    """Return the arguments of a loss."""
    values = {edge.position: graph[edge.source].value for edge in graph.edges_into(node)}
    options = node.constants
    linear = node.op == "linear_cross_entropy"
    y, weight = values[2 if linear else 1], options.get("class_weight" if linear else "weight")
    classes = values[1].shape[0] if linear else values[0].shape[-1]
    ignored, reduction = int(options.get("ignore_index", -100)), str(options.get("reduction", "mean"))
    weight = None if weight is None else np.asarray(weight, np.float64)
    if node.op == "soft_cross_entropy":
        y = y.astype(np.float64).reshape(-1, classes)
        counts, total = np.ones(len(y), bool), float(len(y))
    else:
        y = y.reshape(-1)
        counts, total = y != ignored, importance(y, weight, ignored, np.float64)[2]
    divisor = total if reduction == "mean" and total else 1.0
    smoothing = float(options.get("label_smoothing", 0.0))
    return Loss(values, y, classes, counts, weight, smoothing, reduction, divisor, ignored)


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
        return f"{formula}, with z = x·Wᵀ + b, {more}", f"dz·W, dzᵀ·x, Σₙ dz, with dz = {gradient}, {more}"
    return f"{formula}, with {more}", f"{gradient}, with {more}"


def compared(loss: Loss, known: Mapping[str, Term]) -> dict[str, Term]:
    """Return the definition of what p is compared with: the one-hot row y, or q where more goes into it."""
    if loss.plain:
        return {"y": substitute(parse("[j = y]"), {"y": known.get("[y]", known["y"])})}
    own = "tⱼ" if loss.y.ndim == 2 else "[j = t]"
    if loss.smoothing:
        own = f"((1 − {number(loss.smoothing)})·{own} + {number(loss.smoothing)}/{loss.classes})"
    if not loss.counts.all() and (loss.smoothing or 0 <= loss.ignored < loss.classes):
        own = f"{own}·[t ≠ {loss.ignored}]"
    own = own if loss.weight is None else f"wⱼ·{own}"
    return {"q": substitute(parse(own), {"t": known.get("[y]", known.get("t", ("name", "t", "")))})}


# -- the derivation -------------------------------------------------------------------------------


def cross_entropy(graph: Graph, node: Node, names: Mapping[str, str], numbers: int) -> Iterator[Block]:
    """Derive the gradient with respect to the logits of one row, and write the numbers of a row."""
    loss = read_loss(graph, node)
    yield Block("heading", "Why: from the definition of the loss, for every class")
    source = names.get(graph.edges_into(node)[0].source, "z")
    row = "Take one row of the logits `z`" if node.op == "linear_cross_entropy" or source == "z" else (
        f"Take one row of the logits `{source}`, call it `z`")  # fmt: skip
    yield from _plain(row) if loss.plain else _general(loss, row)
    yield from _batch(loss)
    if numbers and loss.counts.any():
        yield from _row(loss, node, graph, numbers)


def _plain(row: str) -> Iterator[Block]:
    yield Block(
        "text",
        f"{row}, and let `y` be the number of its true class. The loss of the row is minus the log of the "
        "probability that softmax gives that class, where `pᵢ = exp(zᵢ)/Σⱼ exp(zⱼ)`:",
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
        "text",
        "That is why the two are fused: one after the other, they divide by `p[y]`, which rounds to 0 where the model "
        "is sure of another class.",
    )


def _general(loss: Loss, row: str) -> Iterator[Block]:
    parts = []
    if loss.smoothing:
        parts.append(
            f"label smoothing gives every class ε/C of the target, ε = {number(loss.smoothing)}, C = {loss.classes}"
        )
    if loss.weight is not None:
        parts.append("each class counts with its weight w")
    if not loss.counts.all():
        out = int((~loss.counts).sum())
        parts.append(
            f"{out} of {len(loss.counts)} rows {'is' if out == 1 else 'are'} ignored, with loss and gradient 0"
        )
    said = f"Here {'; '.join(parts)}. " if parts else ""
    whose = "whose target is the row `t` of probabilities" if loss.y.ndim == 2 else "whose true class is `y`"
    sums = loss.y.sum(axis=1) if loss.y.ndim == 2 else 1.0
    ones = ", which is 1 here" if loss.weight is None and np.allclose(sums, 1) else ""
    yield Block(
        "text",
        f"{row}, {whose}, and `p = softmax(z)`. {said}So `p` is compared with the row `q`:",
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
        f"Write `Q` for the sum of `q`{ones}. Since `log pⱼ = zⱼ − log Σᵢ exp(zᵢ)`, the loss of the row is",
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
        yield Block("text", "The losses of the rows are added up (reduction sum), with no divisor.")
    elif loss.weight is not None and loss.y.ndim == 1:
        yield Block(
            "text",
            f"The mean divides by the sum of the weights of the rows' true classes, {number(loss.divisor)}.",
        )
    else:
        which = "" if loss.counts.all() else " that are not ignored"
        yield Block("text", f"The mean divides by the number of rows{which}, {number(loss.divisor)}.")


def softmax_rows(z: Array) -> Array:
    """Return softmax of rows in double precision."""
    return np.nan_to_num(softmax(z))  # a row with nothing to see is NaN there, and 0 here


def _row(loss: Loss, node: Node, graph: Graph, numbers: int) -> Iterator[Block]:
    n = int(loss.counts.argmax())
    z, q = loss.logits(n), loss.compared(n)
    p, total = softmax_rows(z), float(q.sum())
    which = f"row {n}, " if len(loss.y) > 1 else ""
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
    g = np.asarray(node.grad if node.grad is not None else 1.0, np.float64).reshape(-1)
    factor = float(g[n] if loss.reduction == "none" else g[0])
    share = factor / loss.divisor
    if share != 1:
        yield equation(
            _times(factor, "p − y" if loss.plain else "Q·p − q", loss.divisor), slope * share, label="its share"
        )
    gains = ": what the true class gains, the others lose" if loss.y.ndim == 1 else ""
    yield Block("text", f"The entries of the row sum to {number(round(float((slope * share).sum()), 9))}{gains}.")
    engine = next((e.share for e in graph.edges_into(node) if e.position == 0 and e.share is not None), None)
    if engine is not None and node.op != "linear_cross_entropy":
        gap = np.abs(engine.reshape(len(loss.y), -1)[n] - slope * share).max()
        yield Block("text", f"The engine has the same row, up to {number(gap)}.")


def _times(g: float, body: str, divisor: float) -> str:
    """Write a gradient times the one that comes in, over the divisor, without factors that are 1."""
    factor = "" if g == 1 else f"−{number(-g)}·" if g < 0 else f"{number(g)}·"
    return f"{factor}({body})" + (f"/{number(divisor)}" if divisor != 1 else "")


def after_log_softmax(graph: Graph, node: Node, names: Mapping[str, str], numbers: int) -> Iterator[Block]:
    """Derive the gradient of log_softmax; where nll_loss follows, show that the two make p − y."""
    yield Block("heading", "Why: the derivative of a log-probability")
    source = names.get(graph.edges_into(node)[0].source, "z")
    if source != "z":
        yield Block("text", f"Write `z` for the logits `{source}`, and `p` for their softmax:")
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
        over = f"/{number(loss.divisor)}" if loss.divisor != 1 else ""
        w = "" if loss.weight is None else "w[y]·"
        after = f"{w}(pᵢ − [i = y]){over}" if w or over else "pᵢ − [i = y]"
        scaled = np.any(graph.edges_from(node)[0].share) and np.any(user.grad != 1)
        yield Block(
            "text",
            "The gradient that came in is that of the negative log-likelihood: at the true class `y` of a row "
            f"`−{w or '1'}{over}`".replace("·/", "/").replace("·`", "`")
            + (", times the gradient of that loss" if scaled else "")
            + ", at all others 0. Its sum over the row is that one entry, so the two terms are"
            + (", before that factor," if scaled else ""),
        )
        yield equation(f"−{w}[i = y]{over} + {w}pᵢ{over} = {after}", label="together")
        factor = f", times {'the weight of the class' if w else ''}{' and ' if w and over else ''}"
        factor += f"1{over}" if over else ""
        yield Block(
            "text",
            "which is p − y, the gradient of cross-entropy, for the true class and for every other"
            + (factor if w or over else "")
            + ".",
        )
    if numbers:
        z = graph[graph.edges_into(node)[0].source].value
        axis = node.constants.get("axis", -1)
        g = np.asarray(node.grad, np.float64)
        p = np.exp(np.asarray(node.value, np.float64))
        if z.ndim:
            yield equation("p", p, label="softmax")
            yield equation("Σⱼ gⱼ", g.sum(axis=axis, keepdims=True), label="row sums")
