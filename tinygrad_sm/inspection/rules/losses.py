"""Rules on what a loss is given: probabilities for logits, targets that fit by luck, means taken twice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from ...graph import Graph, Node
from ...tensor import Array
from .base import Context, Finding, finding, rows_of, rule
from .reading import (
    LARGE,
    VIEWS,
    LossCall,
    Normalized,
    are_probabilities,
    argument,
    behind,
    followed,
    head_of,
    loss_calls,
    normalized,
    number,
)

MANY = 32  # targets from which a batch tells something about their balance
LOPSIDED = 0.95  # share of the commonest class from which a model may answer that one always


@rule("softmax-before-cross-entropy", "softmax before cross_entropy")
def softmax_before_cross_entropy(context: Context) -> Iterator[Finding]:
    """cross_entropy takes logits and applies log-softmax itself.

    Given probabilities it squashes them a second time: its scores then differ by 1 at most, so that with C classes the
    loss cannot fall below log(1 + (C − 1)/e), and the gradient is small everywhere. The model learns, but slowly and
    not far. A log_softmax before cross_entropy changes nothing, and costs time.
    """
    calls = [call for call in loss_calls(context.graph) if call.kind == "logits"]
    for call in [*calls, *_written_out(context.graph, {call.scores.id for call in calls})]:
        given = behind(context.graph, call.scores, {*VIEWS, "clip"})
        found = normalized(context.graph, given)
        if found is None and given.op is not None and call.scores.known and are_probabilities(call.values):
            found = Normalized("softmax", given, given, -1)
        if found is not None:
            yield _twice(call, found)
    yield from _sigmoid_twice(context.graph)


def _sigmoid_twice(graph: Graph) -> Iterator[Finding]:
    """Find the same fault with PyTorch's loss of two classes, which applies sigmoid itself."""
    for node in graph:
        given = argument(graph, node, 0) if node.op == "binarycrossentropywithlogits" else None
        found = None if given is None else normalized(graph, behind(graph, given, {*VIEWS, "clip"}))
        if found is not None and found.kind != "log_softmax":
            yield finding(
                "softmax-before-cross-entropy", node, "error",
                "binary_cross_entropy_with_logits takes logits and applies sigmoid itself, but is given the result of "
                f"a {found.kind}, so sigmoid is taken of numbers between 0 and 1. The loss of a 1 cannot fall below "
                "0.313, and that of a 0 not below 0.693.",
                "loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)  # before the "
                f"{found.kind}",
                {"lowest loss that can be reached of 1": math.log1p(math.exp(-1)), "of 0": math.log(2)},
            )  # fmt: skip


def _written_out(graph: Graph, known: set[str]) -> Iterator[LossCall]:
    """Yield what a log_softmax is given of which no loss op is known to follow: the loss may be −Σ q·log p by hand."""
    for node in graph:
        scores = argument(graph, node, 0) if node.op == "log_softmax" else None
        if scores is None or scores.id in known:
            continue
        found = normalized(graph, behind(graph, scores, {*VIEWS, "clip"}))
        if found is not None and found.kind != "log_softmax":
            axis = int(node.kwargs.get("axis", -1))
            yield LossCall(node, "logits", scores, None, node.shape[axis], axis=axis)


def _twice(call: LossCall, found: Normalized) -> Finding:
    op = call.node.op if call.node.op == "log_softmax" else "cross_entropy"
    itself = " and applies log-softmax itself" * (op != "log_softmax")
    id, fix = "softmax-before-cross-entropy", "loss = sm.cross_entropy(logits, target)  # logits: before the {}"
    if found.kind == "log_softmax":
        return finding(
            id, call.node, "note",
            f"{op} is given log-probabilities, and takes their log-softmax again. Nothing changes but the "
            "time it takes, if both have the same axis.",
            fix.format("log_softmax"), {"classes": call.n_classes},
        )  # fmt: skip
    least = math.log1p((call.n_classes - 1) * math.exp(-1))
    evidence = {"classes": call.n_classes, "lowest loss that can be reached": least}
    if call.scores.known and call.scores.value.size:
        evidence |= {"smallest score": float(call.scores.value.min()), "largest": float(call.scores.value.max())}
    what = "the result of a sigmoid" if found.kind == "sigmoid" else "probabilities"
    return finding(
        id, call.node, "error",
        f"{op} takes logits{itself}, but is given {what}, so softmax is taken of "
        f"numbers between 0 and 1. The loss of an example cannot fall below {least:.3g} nats, and its gradient is "
        "small even where the model is wrong.",
        fix.format(found.kind), evidence,
    )  # fmt: skip


# -- nll_loss -----------------------------------------------------------------------------------


@rule("nll-on-probabilities", "nll_loss of probabilities")
def nll_on_probabilities(context: Context) -> Iterator[Finding]:
    """nll_loss takes log-probabilities and returns −mean log p[y].

    Given p instead of log p it returns −mean p[y], between −1 and 0: a loss that looks fine as it falls, but whose
    gradient through the softmax vanishes where the model is wrong and sure. kl_div takes log-probabilities, too.
    """
    for call, _, found in _nll(context.graph):
        kind = "" if found is None else found.kind
        if kind in ("softmax", "sigmoid") or (call.scores.known and are_probabilities(call.values)):
            evidence = {"loss": float(call.node.value.mean())} if call.node.known else {}
            yield finding(
                "nll-on-probabilities", call.node, "error",
                "nll_loss takes log-probabilities, but is given probabilities, so it returns −mean p[y] and not "
                "−mean log p[y]. Its gradient vanishes where the model is wrong and sure of it, and the loss is no "
                "likelihood.",
                "loss = sm.cross_entropy(logits, target)  # or: sm.nll_loss(sm.log_softmax(logits), target)", evidence,
            )  # fmt: skip

    for node in filter(partial(_is_kl_of_probabilities, context.graph), context.graph):
        yield finding(
            "nll-on-probabilities", node, "error",
            "kl_div takes log-probabilities, but is given probabilities, so it sums q·(log q − p) and not "
            "q·(log q − log p). That is no distance: it falls below 0, and is least where p is 1 for the likeliest "
            "class.",
            "loss = sm.functional.kl_div(sm.log_softmax(logits), target)  # the first are log-probabilities",
            {"classes": node.shape[-1]},
        )  # fmt: skip


def _is_kl_of_probabilities(graph: Graph, node: Node) -> bool:
    """Tell whether a node is q·(log q − p), with a constant q and a softmax p; from PyTorch, q log q − q·p."""
    if node.op == "mul":
        q, difference = _operands(graph, node, "mul")
        log_q, p = _operands(graph, difference, "sub")
        if q is None or log_q is None or q.op is not None or q.shape != log_q.shape:
            return False
        seen = q.value > 0
        constant = np.allclose(np.exp(log_q.value[seen]), q.value[seen], rtol=1e-3)
    else:
        log_q, product = _operands(graph, node, "sub")
        q, p = _operands(graph, product, "mul")
        constant = log_q is None and q is not None and q.op is None and are_probabilities(q.value)
    found = normalized(graph, behind(graph, p, {*VIEWS, "where", "clip"})) if constant and p is not None else None
    return found is not None and found.kind == "softmax"


def _operands(graph: Graph, node: Node | None, op: str) -> tuple[Node | None, Node | None]:
    """Return the two arguments of a node, if it is this op."""
    return (None, None) if node is None or node.op != op else (argument(graph, node, 0), argument(graph, node, 1))


@rule("nll-on-logits", "nll_loss of logits")
def nll_on_logits(context: Context) -> Iterator[Finding]:
    """nll_loss takes log-probabilities, whose exponentials sum to 1.

    Of plain logits it returns −mean z[y]: nothing holds the other logits down, so the loss falls without bound while
    the model learns nothing. Measured: entries above 0, which no log-probability is, and the logsumexp of the rows,
    which is 0 for log-probabilities.
    """
    for call, given, found in _nll(context.graph):
        if found is not None or not call.scores.known or not call.scores.value.size:
            continue
        rows = rows_of(call.values)
        if not np.isfinite(rows.max()) or are_probabilities(call.values):
            continue
        sums = _logsumexp(rows)
        off = float(np.median(np.abs(sums)))
        plain = given.op in ("linear", "matmul", "layer_norm", "rms_norm") or head_of(context.graph, given) is not None
        if rows.max() > 1e-3 or (plain and off > 0.01):
            yield finding(
                "nll-on-logits", call.node, "error",
                "nll_loss takes log-probabilities, but is given scores whose exponentials do not sum to 1. The loss is "
                "−mean z[y], which falls without bound as all scores grow, and the model need not tell classes apart.",
                "loss = sm.cross_entropy(logits, target)  # or: sm.nll_loss(sm.log_softmax(logits), target)",
                {"largest score": float(rows.max()), "median |logsumexp| of a row": off},
            )  # fmt: skip


def _nll(graph: Graph) -> Iterator[tuple[LossCall, Node, Normalized | None]]:
    """Yield each nll_loss of something other than a log_softmax, what it was given, and as what that is known."""
    for call in loss_calls(graph):
        if call.kind == "log_probs":
            given = behind(graph, call.scores, {*VIEWS, "clip"})
            yield call, given, normalized(graph, given) or _log_of(graph, given)


def _log_of(graph: Graph, node: Node) -> Normalized | None:
    """Return the softmax of which a node is the log, or z − logsumexp(z): both are log-probabilities."""
    if node.op == "log" and (inner := argument(graph, node, 0)) is not None:
        return Normalized("log_softmax", node, inner, -1)
    if node.op == "sub" and (second := argument(graph, node, 1)) is not None:
        second = behind(graph, second)
        if second.op in ("logsumexp", "log"):
            return Normalized("log_softmax", node, second, -1)
    return None


def _logsumexp(rows: Array) -> Array:
    peak = rows.max(axis=1, keepdims=True)
    return np.asarray(peak[:, 0] + np.log(np.exp(rows - peak).sum(axis=1)))


# -- targets ------------------------------------------------------------------------------------


@rule("one-hot-as-indices", "one-hot targets taken as class indices")
def one_hot_as_indices(context: Context) -> Iterator[Finding]:
    """Integer targets are class indices, so a one-hot row (0, 0, 1, 0) means the four targets 0, 0, 1, 0.

    Where the shapes let that pass, the model learns that nearly everything is class 0, and that only classes 0 and 1
    exist. Found where every row of integer targets has one 1 and zeros else, and there are more classes than these two.
    """
    for call in loss_calls(context.graph):
        if call.target is None or call.target.dtype.kind not in "iu" or call.n_classes < 3:
            continue
        groups = _one_hot_rows(call.target, call.n_classes)
        if groups:
            yield finding(
                "one-hot-as-indices", call.node, "error",
                f"The targets of {call.node.op} are one-hot rows of integers, but integers are class indices: each 0 "
                "and 1 counts as a class of its own. Nearly all targets are then class 0, and no other than 0 and 1 is "
                "ever learnt.",
                "target = one_hot.argmax(axis=-1)  # or as probabilities: one_hot.astype(np.float32)",
                {"one-hot rows": groups, "targets": call.target.size, "classes": call.n_classes},
            )  # fmt: skip


def _one_hot_rows(target: Array, n_classes: int) -> int:
    """Return how many rows targets consist of, if each has one 1 and zeros else; 0 if not, or if that may be chance."""
    flat = target.reshape(-1)
    if flat.size > LARGE or flat.size < 4 * n_classes or (flat > 1).any() or (flat < 0).any():
        return 0
    for width in {n_classes, target.shape[-1]}:
        rows = flat.reshape(-1, width) if width > 2 and flat.size % width == 0 else flat[:0].reshape(0, 1)
        if (
            len(rows) >= (4 if width == n_classes else 8)
            and (rows.sum(axis=1) == 1).all()
            and rows.any(axis=0).sum() > 1
        ):
            return len(rows)
    return 0


@rule("wrong-class-axis", "the class axis is another axis of the same length")
def wrong_class_axis(context: Context) -> Iterator[Finding]:
    """The class axis of the scores must be the one that the last layer made.

    If another axis has the same length, or a reshape followed a transpose, the shapes fit by luck: softmax then runs
    over positions or examples. Found by following each score back to the output of the linear layer that it came
    from: along the class axis all outputs must differ.
    """
    for call in loss_calls(context.graph):
        head = head_of(context.graph, call.scores) if call.kind in ("logits", "log_probs") else None
        if call.kind == "log_probs":
            inner = behind(context.graph, call.scores)
            found = normalized(context.graph, inner)
            head = None if found is None else head
        if head is None or head.n < 2 or head.outputs.shape[call.axis] != head.n or not head.outputs.size:
            continue
        outputs = np.sort(np.moveaxis(head.outputs, call.axis, -1).reshape(-1, head.n), axis=1)
        repeated = (outputs[:, 1:] == outputs[:, :-1]).any(axis=1)
        if repeated.any():
            yield finding(
                "wrong-class-axis", call.node, "error",
                f"Along the class axis of {call.node.op} stand equal outputs of the layer before: the {head.n} classes "
                "lie along another axis, and the shapes fit by luck. The softmax runs over positions or examples, so "
                "the model cannot learn to tell classes apart.",
                "loss = sm.cross_entropy(logits, target, axis=-1)  # the axis that the last layer made; for (B, C, T): "
                "axis=1",
                {"rows that mix outputs": int(repeated.sum()), "rows": len(repeated), "classes": head.n},
            )  # fmt: skip


@rule("degenerate-targets", "targets that are constant or out of balance")
def degenerate_targets(context: Context) -> Iterator[Finding]:
    """A batch whose targets are all one class teaches the model to answer that class always.

    Often the data are sorted and not shuffled, or padding counts as a class. Read are the class indices of 32 targets
    or more, of all losses that share an output layer, and only of scores that come from one: in contrastive losses
    the right answer is at index 0 by design.
    """
    groups: dict[str, list[LossCall]] = {}
    for call in loss_calls(context.graph):
        if call.target is None or call.soft or call.node.kwargs.get("weight") is not None:
            continue
        head = head_of(context.graph, call.scores) if call.head is None else None
        weight = call.head if head is None else head.weight
        if weight is not None:
            groups.setdefault(weight.id, []).append(call)
    for calls in groups.values():
        counts = np.bincount(np.concatenate([call.counted for call in calls]))
        total, most = int(counts.sum()), int(counts.max(initial=0))
        if total < MANY or most < LOPSIDED * total or calls[0].n_classes < 2:
            continue
        constant = most == total
        yield finding(
            "degenerate-targets", calls[0].node, "warning" if constant else "note",
            f"{'All' if constant else f'{100 * most / total:.0f} % of the'} {total} targets are class "
            f"{int(counts.argmax())}. The loss falls to almost nothing for a model that always answers that class, and "
            "says little about what it learnt.",
            "x, y = next(iter(sm.data.batches(x, y, batch_size=64)))  # shuffles; padding: ignore_index=PAD; rare "
            "classes: weight=1 / counts",
            {"targets": total, "commonest class": int(counts.argmax()), "its share": most / total},
        )  # fmt: skip


# -- means --------------------------------------------------------------------------------------


@rule("double-mean", "a batch mean taken twice")
def double_mean(context: Context) -> Iterator[Finding]:
    """A loss that is a mean already, and is divided by the number of examples once more.

    The gradient is then N times too small, and shrinks as the batch grows, which looks like a learning rate that is
    too low. Found where a mean over N (16 or more) is divided by N; dividing by fewer is taken for gradient
    accumulation.
    """
    for node in context.graph:
        divided = _divisor(context.graph, node)
        if divided is None:
            continue
        inner, n = divided
        # A mean of N losses that is divided by N, or N losses that are divided by N and then averaged.
        mean = behind(context.graph, inner, {*VIEWS, "neg"})
        counts = _mean_counts(context.graph, mean) if node.value.size == 1 == mean.value.size else set()
        for user in _after(context.graph, node):
            found = _mean_counts(context.graph, user) if user.value.size == 1 else set()
            counts |= {size for size in found if size == node.value.size}
        if n >= 16 and n in counts:
            yield finding(
                "double-mean", node, "warning",
                f"A mean over {n} numbers is divided by {n} again. The gradient is {n} times too small, and depends on "
                f"the size of the batch. Gradients of {n} batches that are summed are divided so, too: if it is that, "
                "silence this rule.",
                'loss = sm.cross_entropy(logits, target)  # the mean, once; or reduction="sum", divided by len(target)',
                {"divisor": n, "loss": float(context.root.value.mean())},
            )  # fmt: skip


def _divisor(graph: Graph, node: Node) -> tuple[Node, int] | None:
    """Return what is divided by a whole number, or multiplied by the inverse of one, and that number."""
    if node.op not in ("div", "mul"):
        return None
    for place, other in ((0, 1), (1, 0)) if node.op == "mul" else ((0, 1),):
        inner, value = argument(graph, node, place), number(graph, node, other)
        if inner is not None and value:
            n = value if node.op == "div" else 1 / value
            return (inner, round(n)) if abs(n - round(n)) < 1e-4 * abs(n) and n > 1 else None
    return None


def _mean_counts(graph: Graph, node: Node) -> set[int]:
    """Return over how many numbers a node is a mean: of all, and of the rows of a batch."""
    if node.op == "mean" and (inner := argument(graph, node, 0)) is not None:
        return {inner.value.size // max(node.value.size, 1), *inner.shape[:1]}
    if node.op in ("cross_entropy", "soft_cross_entropy", "linear_cross_entropy", "nll_loss"):
        if node.kwargs.get("reduction", "mean") != "mean":
            return set()
        call = next(call for call in loss_calls(graph) if call.node is node)
        scores = call.scores.shape
        return {math.prod(scores[:-1]), *scores[:1]} if len(scores) > 1 else set()
    return set()


def _after(graph: Graph, node: Node) -> list[Node]:
    """Return the means that are taken of a node, with views and signs between."""
    if node.value.size <= 1:
        return []
    return list(followed(graph, node, lambda _, user: user.op in {*VIEWS, "neg"}))
