"""Rules on softmax itself: its log, its overflow, its axis, its flat ends; and where NaN and inf begin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...graph import Graph, Node, is_finite
from ...tensor import Array
from ...viz.states import CERTAIN, saturated_rows
from .attention import overflowing, without_keys
from .base import Context, Finding, finding, rows_of, rule
from .reading import (
    VIEWS,
    Normalized,
    argument,
    arguments,
    behind,
    followed,
    head_of,
    loss_calls,
    normalized,
    number,
    origins,
    users,
)

PASSED = {*VIEWS, "clip", "maximum", "add", "log", "neg", "mul", "where"}  # between probabilities and their loss
LOW = -20.0  # below this maximum of a row, exp(z) and its sum may underflow


@rule("log-of-softmax", "the log of a softmax")
def log_of_softmax(context: Context) -> Iterator[Finding]:
    """A probability that underflows to 0 has the log −inf, and a gradient of inf or NaN.

    In float32 that takes a logit some 104 below the largest. An ε inside the log hides it: the gradient is then wrong
    just where the model is most wrong. log_softmax computes z − logsumexp(z) and is finite everywhere.
    """
    for node in context.graph:
        inner = argument(context.graph, node, 0) if node.op == "log" else None
        if inner is None:
            continue
        given = behind(context.graph, _without_epsilon(context.graph, inner), {*VIEWS, "clip", "maximum"})
        given = behind(context.graph, _without_epsilon(context.graph, given))
        found = normalized(context.graph, given)
        if found is None or found.kind != "softmax":
            continue
        evidence = {}
        if given.known and given.value.size:
            evidence = {"smallest probability": float(given.value.min()), "zeros": int((given.value == 0).sum())}
        yield finding(
            "log-of-softmax", node, "warning",
            "The log is taken of a softmax. A probability that underflows to 0 has the log −inf, and gradients of inf "
            "and NaN follow; an ε inside the log gives a wrong gradient instead.",
            "log_p = sm.log_softmax(logits)  # and with targets: loss = sm.cross_entropy(logits, target)", evidence,
        )  # fmt: skip


def _without_epsilon(graph: Graph, node: Node) -> Node:
    """Return p, of p + ε; PyTorch does not keep the number, but what it was added to and the sum."""
    if node.op == "add":
        given = arguments(graph, node)
        if len(given) == 1 and given[0].known and node.known and given[0].shape == node.shape:
            return given[0] if float(np.abs(node.value - given[0].value).max(initial=0.0)) < 1e-2 else node
        for place, other in ((0, 1), (1, 0)):
            inner, value = argument(graph, node, place), number(graph, node, other)
            if inner is not None and value is not None and abs(value) < 1e-2:
                return inner
    return node


@rule("unstable-softmax", "softmax by hand, without the maximum")
def unstable_softmax(context: Context) -> Iterator[Finding]:
    """exp(z) / Σ exp(z), and log Σ exp(z), overflow in float32 for a logit above 88, and give inf / inf = NaN.

    Where all logits of a row are below −104 they give 0 / 0. Subtracting the maximum changes nothing but this, and is
    what sm.softmax, sm.log_softmax and sm.logsumexp do.
    """
    seen = set()
    for node in context.graph:
        exp, axis = _by_hand(context.graph, node)
        if exp is None or exp.id in seen:
            continue
        seen.add(exp.id)
        logits = argument(context.graph, exp, 0)
        z = None if logits is None else logits.value if logits.known else np.log(exp.value) if exp.known else None
        if z is None or not z.size or _shifted(z, axis):
            continue
        limit = float(np.log(np.finfo(exp.dtype).max))
        largest = float(z.max())
        what = "softmax" if node.op == "div" else "logsumexp"
        yield finding(
            "unstable-softmax", exp, "warning" if largest < limit else "error",
            f"A {what} is written by hand, without subtracting the maximum: exp(z) overflows {exp.dtype} for z "
            f"above {limit:.0f}. Then inf / inf is NaN, and after one such step so are all weights.",
            f"p = sm.{what}(logits)", {"largest z": largest, "smallest": float(z.min()), "limit": limit},
        )  # fmt: skip


def _by_hand(graph: Graph, node: Node) -> tuple[Node | None, int]:
    """Return the exp, and the axis, of exp(z) / Σ exp(z) or log Σ exp(z); None if a node is neither."""
    if node.op == "div" and (found := normalized(graph, node)) is not None and found.kind == "softmax":
        return found.exp, found.axis
    if node.op == "log" and (total := argument(graph, node, 0)) is not None:
        total = behind(graph, total, {"reshape"})
        exp = argument(graph, total, 0) if total.op == "sum" else None
        if exp is not None and exp.op == "exp":
            axis = total.kwargs.get("axis")
            axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
            return exp, axis if isinstance(axis, int) else -1
    return None, -1


def _shifted(z: Array, axis: int) -> bool:
    """Tell whether the maximum of each row is at 0 or not far below, so that exp(z) neither overflows nor vanishes."""
    if not z.ndim or not z.size:
        return True
    peaks = z.max(axis=axis)
    return bool((peaks <= 1e-6).all() and (peaks >= LOW).all())


# -- NaN and inf --------------------------------------------------------------------------------


@rule("non-finite", "NaN or inf")
def non_finite(context: Context) -> Iterator[Finding]:
    """The op at which NaN or inf begins: all that went in was finite, and what came out is not.

    Most are an exp that overflows, a log of 0, a division by 0, or weights that grew in steps too large. An inf that
    goes no further, as the −inf of a mask in a softmax, is none. sm.detect_anomaly() stops a program at the line where
    it happens.
    """
    graph = context.graph
    if is_finite(context.root.value) and all(is_finite(node.grad) for node in graph if node.op is None):
        return  # whatever is inf on the way does no harm, as in the minimum of what a mask leaves
    first = graph.first_nonfinite()
    explained = {node.id for node, _ in overflowing(context)}
    explained |= origins(graph, (node for node, _ in without_keys(context))).keys()  # a masked row explains NaN there
    kind = "value" if "value" in first.values() else "grad"  # a gradient of NaN follows from a value of NaN
    for node in graph:
        if first.get(node.id) != kind or node.id in explained or not all(a.known for a in arguments(graph, node)):
            continue
        array = node.value if kind == "value" else node.grad
        assert array is not None
        if kind == "value" and _harmless(graph, node):
            continue
        bad = "NaN" if np.isnan(array).any() else "inf"
        name = node.op or node.name or node.role
        where = f"{name} makes" if node.op is not None and kind == "value" else f"the {kind} of {name} has"
        why, fix = _origin(graph, node) if kind == "value" else (
            "Its own value is finite: the slope is infinite there, as that of a square root or a norm at 0",
            "x = sm.sqrt(x + 1e-12)  # or sm.where(x > 0, x, 1.0) before, so that no slope is infinite",
        )  # fmt: skip
        yield finding(
            "non-finite", node, "error",
            f"{where[0].upper()}{where[1:]} {bad} of arguments that are finite. {why}; after the next step all weights "
            "are NaN.",
            fix, {"entries": int((~np.isfinite(array)).sum()), "of": array.size, **_ranges(graph, node)},
        )  # fmt: skip


def _harmless(graph: Graph, node: Node) -> bool:
    """Tell whether inf in a node goes no further: all that used it is finite, and so is its gradient."""
    after = users(graph, node)
    return (
        bool(after) and not np.isnan(node.value).any() and all(map(is_finite, [node.grad, *(u.value for u in after)]))
    )


def _origin(graph: Graph, node: Node) -> tuple[str, str]:
    if node.op is None:
        return "It is a leaf: look at the data, or at the step before", "assert np.isfinite(x).all()"
    if node.op == "log":
        return "The log of 0 is −inf", "log_p = sm.log_softmax(logits)  # or sm.log(x + 1e-12), or sm.log1p"
    if node.op in ("exp", "expm1"):
        limit = float(np.log(np.finfo(node.dtype).max)) if node.dtype.kind == "f" else 88.0
        return f"exp overflows {node.dtype} above {limit:.0f}", "p = sm.softmax(z)  # subtracts the maximum first"
    if node.op == "div":
        return "The divisor is 0, or both are", "y = a / (b + 1e-12)"
    return (
        "Its result is beyond what the dtype holds, or not defined",
        "with sm.detect_anomaly():  # stops at the line\n    loss.backward()",
    )


def _ranges(graph: Graph, node: Node) -> dict[str, float]:
    first = argument(graph, node, 0)
    if first is None or not first.value.size or first.dtype.kind != "f":
        return {}
    return {"smallest argument": float(first.value.min()), "largest": float(first.value.max())}


# -- axis ---------------------------------------------------------------------------------------


@rule("softmax-over-batch", "softmax over the batch axis")
def softmax_over_batch(context: Context) -> Iterator[Finding]:
    """axis=0 is the batch: the examples of a batch then compete for each class, and no row sums to 1.

    Found where the axis is 0, the scores come from a linear layer, whose outputs lie along another axis, and the result
    goes to the loss. Elsewhere a softmax over positions may be meant, as in pooling or in slots.
    """
    for node in context.graph:
        if node.op not in ("softmax", "log_softmax") or len(node.shape) < 2 or axis_is_not_first(node):
            continue
        logits = argument(context.graph, node, 0)
        head = head_of(context.graph, logits) if logits is not None else None
        if head is None or head.n < 2 or node.shape[0] < 2 or not to_loss(context, node):
            continue
        along = head.outputs.reshape(head.outputs.shape[0], -1)
        if (along != along[:1]).any():
            continue
        p = node.value if node.op == "softmax" else np.exp(node.value)
        sums = rows_of(p).sum(axis=1) if node.known else np.zeros(0)
        evidence = {"axis": 0, "shape": str(node.shape)}
        if sums.size:
            evidence |= {"smallest sum of a row": float(sums.min()), "largest": float(sums.max())}
        yield finding(
            "softmax-over-batch", node, "error",
            f"{node.op} runs over axis 0, the batch, and not over the {head.n} classes. The examples of a batch "
            "compete with each other, no row sums to 1, and what is learnt depends on which examples share a batch.",
            f"p = sm.{node.op}(logits, axis=-1)", evidence,
        )  # fmt: skip


def axis_is_not_first(node: Node) -> bool:
    """Tell whether an op works along another axis than 0."""
    return int(node.kwargs.get("axis", -1)) % len(node.shape) != 0


def to_loss(context: Context, node: Node) -> bool:
    """Tell whether what a node made goes to the loss through simple ops only, none of which mixes it with others."""
    losses = {call.node.id for call in loss_calls(context.graph)}
    simple = {*PASSED, "sum", "sub", "square", "pow", "abs"}

    def goes_on(_: Node, user: Node) -> bool:
        return user.op in simple and sum(a.op is not None for a in arguments(context.graph, user)) == 1

    return any(
        user.id in losses or (user.op in ("sum", "mean") and _is_scalar_end(context, user))
        for user in followed(context.graph, node, goes_on)
    )


def _is_scalar_end(context: Context, node: Node) -> bool:
    return node.value.size == 1 and (node.role == "loss" or all(u.value.size == 1 for u in users(context.graph, node)))


# -- flat ends ----------------------------------------------------------------------------------


@rule("saturated-softmax", "a saturated softmax, whose gradient vanishes")
def saturated_softmax(context: Context) -> Iterator[Finding]:
    """Where one probability is all but 1, the slope p·(1 − p) is below 0.001, and no gradient passes.

    A classifier that is right and sure is meant to be so. So a row counts as stuck only if it also had much to gain:
    by the gradient that comes in, moving its mass to another entry would lower the loss by more than half of what
    entries differ by, and less than 1 % of that reaches the logits. More than half of the rows must be stuck where the
    result goes to the loss, and nine in ten elsewhere: attention heads that have learnt to look at one place are sharp.
    """
    for node in context.graph:
        found = normalized(context.graph, node)
        if found is None or found.kind != "softmax" or not node.known or node.grad is None or found.axis < 0:
            continue
        if node.shape[found.axis] < 2 or not np.isfinite(node.value).all() or not np.isfinite(node.grad).all():
            continue
        stuck, saturated = _stuck(found)
        if not stuck.size or stuck.mean() <= (0.5 if to_loss(context, node) else 0.9):
            continue
        logits = found.logits
        peak = float(np.abs(logits.value).max())
        small = 0.0 if logits.grad is None else float(np.abs(logits.grad).max())
        yield finding(
            "saturated-softmax", node, "warning",
            f"{100 * saturated.mean():.0f} % of the rows of this softmax put more than {CERTAIN} on one entry, "
            "although the loss would gain by moving it. The slope p·(1 − p) is all but 0 there, so the gradient does "
            "not reach the logits, and what made them cannot learn.",
            "loss = sm.cross_entropy(logits, target)  # keeps p − y; inside a model scale the logits: p = "
            "sm.softmax(logits, temperature=...)",
            {"stuck rows": float(stuck.mean()), "saturated rows": float(saturated.mean()), "largest |logit|": peak,
             "largest gradient of p": float(np.abs(node.grad).max()), "of the logits": small},
        )  # fmt: skip


def _stuck(found: Normalized) -> tuple[Array, Array]:
    """Tell of each row whether it is saturated and had much to gain, and whether it is saturated."""
    assert found.node.grad is not None
    p, g = rows_of(found.node.value, found.axis), rows_of(found.node.grad, found.axis)
    counts = (p > 0).sum(axis=1) > 1  # a row with one key left has no choice
    p, g = p[counts], g[counts]
    saturated = saturated_rows(p)
    mean = (p * g).sum(axis=1)
    gain, spread = mean - g.min(axis=1), np.ptp(g, axis=1)  # the first: how much moving all mass would lower the loss
    passed = np.abs(p * (g - mean[:, None])).max(axis=1)
    return saturated & (spread > 0) & (gain > 0.5 * spread) & (passed < 0.01 * gain), saturated
