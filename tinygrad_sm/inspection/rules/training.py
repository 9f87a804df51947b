"""Rules on training as a whole: the dtype, the size of a step, smoothing beside a teacher."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...graph import Graph, Node, rms
from ...optimizer import Optimizer
from ...tensor import Array, Tensor
from .base import Context, Finding, UncheckedError, finding, rows_of, rule
from .reading import VIEWS, are_probabilities, argument, arguments, loss_calls

LARGEST, SMALLEST = 1.0, 1e-6  # update over weight, both RMS: beyond all that works, and below what float32 keeps
EARLY = 100  # steps after which a small update may be the end of a schedule
DENSE = 3  # a teacher's row has more different probabilities than this


@rule("smoothing-with-distillation", "label smoothing together with distillation")
def smoothing_with_distillation(context: Context) -> Iterator[Finding]:
    """A teacher's probabilities say how alike the classes are; label smoothing says that all are equally alike.

    Together they blur what distillation is for (Müller, Kornblith and Hinton 2019). Reported if a loss smooths the
    probabilities of a teacher, or stands beside another that learns from them. A teacher's rows are dense, with many
    different probabilities: one-hot rows, and mixtures of two, are not.
    """
    calls = list(loss_calls(context.graph))
    smoothed = [call for call in calls if call.node.kwargs.get("label_smoothing")]
    taught = [call.node for call in calls if call.target is not None and call.soft and _from_teacher(call.target)]
    taught += [node for node in context.graph if _weighs_log_probs(context.graph, node)]
    if not smoothed or not taught:
        return
    node = smoothed[0].node
    evidence = {"label_smoothing": float(node.kwargs["label_smoothing"]), "losses with a teacher": len(taught)}
    yield finding(
        "smoothing-with-distillation", node, "warning",
        "Label smoothing is on, and a teacher's probabilities are learnt too. Smoothing pulls all wrong classes to the "
        "same probability, and so wipes out what the teacher says about which of them are alike.",
        "loss = sm.cross_entropy(logits, target)  # label_smoothing=0 beside the distillation", evidence,
    )  # fmt: skip


def _from_teacher(target: Array) -> bool:
    """Tell whether targets are rows of many different probabilities."""
    if not are_probabilities(np.atleast_2d(target)):
        return False
    rows = np.sort(rows_of(target)[:64], axis=1)
    if rows.shape[1] < DENSE or (rows == 0).mean() > 0.5:
        return False
    different = 1 + (np.diff(rows, axis=1) > 1e-6 * rows[:, 1:]).sum(axis=1)
    return bool(np.median(different) > min(DENSE, rows.shape[1] - 1))


def _weighs_log_probs(graph: Graph, node: Node) -> bool:
    """Tell whether a node is q·log p, with a teacher's constant q, as in kl_div."""
    if node.op != "mul":
        return False
    a, b = argument(graph, node, 0), argument(graph, node, 1)
    for q, log_p in ((a, b), (b, a)):
        if q is not None and log_p is not None and q.op is None and not q.requires_grad and q.shape == log_p.shape:
            return q.dtype.kind == "f" and _from_teacher(q.value) and _is_log_prob(graph, log_p)
    return False


def _is_log_prob(graph: Graph, node: Node) -> bool:
    while node.op in {*VIEWS, "where", "sub", "neg", "mul"}:
        before = next((a for a in arguments(graph, node) if a.requires_grad), None)
        if before is None:
            return False
        node = before
    return node.op == "log_softmax"


@rule("float64-creep", "float64 in a float32 model")
def float64_creep(context: Context) -> Iterator[Finding]:
    """One float64 array beside float32 weights makes all that follows float64, at twice the memory and half the speed.

    NumPy makes float64 by default. Found is the op at which a float64 leaf meets a model whose parameters are float32;
    .astype(np.float64) is taken to be meant.
    """
    graph = context.graph
    sizes: dict[str, int] = {}
    for node in graph:
        if node.op is None and node.requires_grad:
            sizes[str(node.dtype)] = sizes.get(str(node.dtype), 0) + node.value.size
    if not sizes or max(sizes, key=lambda name: sizes[name]) != "float32":
        return
    double = [node for node in graph if node.op is not None and node.dtype == np.float64]
    for node in double:
        given = arguments(graph, node)
        leaves = [a for a in given if a.op is None and a.dtype == np.float64]
        if node.op == "astype" or not leaves or any(a.op is not None and a.dtype == np.float64 for a in given):
            continue
        name = leaves[0].name or f"a {leaves[0].role} of shape {leaves[0].shape}"
        yield finding(
            "float64-creep", node, "warning",
            f"{name[0].upper()}{name[1:]} is float64 and meets a float32 model in {node.op}. All that follows is "
            "float64, which takes twice the memory and half the speed, and is rounded to float32 on the way back.",
            "x = x.astype(np.float32)  # before it meets the model", {"float64 results": len(double), "of": len(graph)},
        )  # fmt: skip


# -- steps --------------------------------------------------------------------------------------


@rule("update-ratio", "a learning rate that is too large or too small", needs=["optimizer"])
def update_ratio(context: Context) -> Iterator[Finding]:
    """A good step changes weights by about a thousandth of their size.

    The next step is computed, not taken, and its RMS divided by that of the weights, for every matrix with a gradient;
    weights (n, m) below 1/√n, as are those that began at 0, count as of that size. Reported is the median. Above 1 a
    step replaces what was learnt. Below 1e-6 float32 rounds it away; that is said only of the first 100 steps, if the
    gradient itself is not small, since a schedule may end so.
    """
    optimizer = context.optimizer
    assert optimizer is not None
    measured = list(_ratios(context, optimizer))
    if not measured:
        raise UncheckedError("no matrix that the optimizer moves has a gradient and weights other than 0")
    ratios, gradients = np.array([m[1:] for m in measured]).T
    ratio, rates = float(np.median(ratios)), [float(group.get("lr", 0.0)) for group in optimizer.param_groups]
    small = ratio < SMALLEST and optimizer.steps < EARLY and np.median(gradients) > 1e-3 and max(rates) > 0
    if not (ratio > LARGEST or small):
        return
    node = max(measured, key=lambda m: m[1])[0]
    better = max(rates) * (1e-3 / ratio)
    evidence = {"median update over weight": ratio, "learning rate": max(rates), "matrices": len(measured)}
    what = (
        "it wipes out what they had learnt, and the loss jumps or overflows."
        if ratio > LARGEST
        else "so small that float32 rounds most of it away. Nothing is learnt in any reasonable time."
    )
    yield finding(
        "update-ratio", node, "warning",
        f"The next step of {type(optimizer).__name__} has {ratio:.2g} times the size of the weights: {what}",
        f"optimizer = sm.optim.{type(optimizer).__name__}(model.parameters(), lr={better:.0g})  # about 1e-3 of the "
        "weights",
        evidence,
    )  # fmt: skip


def _ratios(context: Context, optimizer: Optimizer) -> Iterator[tuple[Node | None, float, float]]:
    """Yield the node of each matrix, the size of its next step over its own, and that of its gradient over its own."""
    state, number = optimizer.state, -1
    for group in optimizer.param_groups:
        for p in group["params"]:
            number += 1
            node = context.graph.node_of(p)
            g = _gradient(p, node)
            if p.ndim < 2 or g is None or not g.any() or not p.data.any() or not np.isfinite(g).all():
                continue
            dtype = np.promote_types(p.dtype, np.float32)
            before, g = p.data.reshape(-1).astype(dtype), g.reshape(-1).astype(dtype)
            names = optimizer.needed(group)
            old = {
                name: state[number, name].reshape(-1) if (number, name) in state else np.zeros_like(before)
                for name in names
            }
            t = int(state.get((number, "t"), np.asarray(0))) + 1
            after = np.empty_like(before)
            optimizer.update(before, g.copy(), old, {name: a.copy() for name, a in old.items()}, after, t, group)
            size = max(rms(before), max(p.shape) ** -0.5)  # what began at 0 is small for some steps, and may be
            yield node, rms(after.astype(np.float64) - before) / size, rms(g) / size


def _gradient(p: Tensor, node: Node | None) -> Array | None:
    """Return the gradient that a step would take: .grad, which may have been clipped; else that of the graph."""
    if p.grad is not None and p.grad.shape == p.shape:
        return np.asarray(p.grad.data)
    return None if node is None else node.grad
