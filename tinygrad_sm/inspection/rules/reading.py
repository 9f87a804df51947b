"""Reading a graph: what stands behind views, a softmax in any of its forms, what a loss was given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...graph import Graph, Node
from ...op import REGISTRY
from ...tensor import Array
from .base import rows_of

VIEWS = frozenset({"reshape", "transpose", "getitem", "astype", "broadcast_to"})  # the same numbers, elsewhere
ELEMENTWISE = frozenset({"add", "sub", "mul", "div", "neg", "clip", "maximum", "minimum", "where"})
LARGE = 1 << 24  # elements; larger arrays are not gone through where that takes a copy


def argument(graph: Graph, node: Node, position: int) -> Node | None:
    """Return the node that stands at this place among the arguments of an op; None for a plain number."""
    return next((graph[edge.source] for edge in graph.edges_into(node) if edge.position == position), None)


def arguments(graph: Graph, node: Node) -> list[Node]:
    """Return the nodes among the arguments of an op."""
    return [graph[edge.source] for edge in graph.edges_into(node)]


def users(graph: Graph, node: Node) -> list[Node]:
    """Return the nodes that took this one as an argument."""
    return [graph[edge.target] for edge in graph.edges_from(node)]


def number(graph: Graph, node: Node, position: int) -> float | None:
    """Return the plain number, or the constant of one element, at this place among the arguments; else None."""
    if position >= len(node.args):
        return None
    value, leaf = node.args[position], argument(graph, node, position)
    if np.ndim(value) == 0 and (leaf is None or (leaf.op is None and not leaf.requires_grad)):
        return float(value) if value is not None else None
    return None


def behind(graph: Graph, node: Node, through: Collection[str] = VIEWS) -> Node:
    """Return what an array was before the ops in `through`, views by default, passed it on."""
    while node.op in through and (before := first_inner(graph, node)) is not None:
        node = before
    return node


def first_inner(graph: Graph, node: Node) -> Node | None:
    """Return the first argument that has a history or wants a gradient; else the first."""
    found = arguments(graph, node)
    return next((a for a in found if a.requires_grad), found[0] if found else None)


def origins(graph: Graph, nodes: Iterable[Node]) -> dict[str, Node]:
    """Return these nodes and all that they came from, by id."""
    stack = list(nodes)
    found = {node.id: node for node in stack}
    while stack:
        for before in arguments(graph, stack.pop()):
            if before.id not in found:
                found[before.id] = before
                stack.append(before)
    return found


def followed(graph: Graph, node: Node, goes_on: Callable[[Node, Node], bool]) -> Iterator[Node]:
    """Yield the users of a node, and those of each user for which `goes_on(node, user)` is true, and so on.

    No user is gone through twice, however many ways lead to it.
    """
    stack, seen = [node], set[str]()
    while stack:
        node = stack.pop()
        for user in users(graph, node):
            yield user
            if user.id not in seen and goes_on(node, user):
                seen.add(user.id)
                stack.append(user)


def is_parameter(node: Node | None) -> bool:
    """Tell whether a node is a leaf that is trained."""
    return node is not None and node.op is None and node.requires_grad


def axis_of(node: Node) -> int:
    """Return the axis of an op, counted from 0; the last one if it was not given."""
    return _counted(node.kwargs.get("axis", -1), len(node.shape))


def _counted(axis: Any, ndim: int) -> int:
    """Return an axis counted from 0; -1 if it is not one axis."""
    axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
    return int(axis) % max(ndim, 1) if isinstance(axis, (int, np.integer)) else -1


# -- softmax in its forms -----------------------------------------------------------------------


@dataclass(frozen=True)
class Normalized:
    """A softmax, a log_softmax or a sigmoid, as an op or composed of simple ops."""

    kind: str  # "softmax", "log_softmax", "sigmoid"
    node: Node  # the result
    logits: Node  # what it was taken of
    axis: int
    exp: Node | None = None  # of one that is written by hand, the op that could overflow


def normalized(graph: Graph, node: Node) -> Normalized | None:
    """Return what a node is, if it is the result of a softmax, a log_softmax or a sigmoid."""
    if node.op in ("softmax", "log_softmax", "sigmoid"):
        logits = argument(graph, node, 0)
        return None if logits is None else Normalized(node.op, node, logits, axis_of(node))
    if node.op == "div":
        return _quotient(graph, node)
    if node.op == "exp":  # exp(log_softmax(z)), or exp(z − logsumexp(z))
        inner = argument(graph, node, 0)
        if inner is not None and inner.op == "log_softmax":
            logits = argument(graph, inner, 0)
            return None if logits is None else Normalized("softmax", node, logits, axis_of(inner))
        if inner is not None and inner.op == "sub" and _is_logsumexp(graph, inner):
            logits = argument(graph, inner, 0)
            return None if logits is None else Normalized("softmax", node, logits, len(node.shape) - 1)
    return None


def _is_logsumexp(graph: Graph, difference: Node) -> bool:
    second = argument(graph, difference, 1)
    return second is not None and behind(graph, second).op == "logsumexp"


def _quotient(graph: Graph, node: Node) -> Normalized | None:
    """Return exp(z) / Σ exp(z), or 1 / (1 + exp(−z))."""
    top, bottom = argument(graph, node, 0), argument(graph, node, 1)
    if bottom is None:
        return None
    if top is None or top.op is None:
        return _logistic(graph, node, bottom)
    total = behind(graph, bottom, {"reshape", "broadcast_to"})
    exp = argument(graph, total, 0) if total.op == "sum" else None
    if exp is None or top.op != "exp" or exp.op != "exp":
        return None
    logits = argument(graph, exp, 0)
    if logits is None or logits is not argument(graph, top, 0):
        return None
    return Normalized("softmax", node, logits, _counted(total.kwargs.get("axis"), len(exp.shape)), exp)


def _logistic(graph: Graph, node: Node, bottom: Node) -> Normalized | None:
    if number(graph, node, 0) != 1 or bottom.op != "add" or 1 not in (
        number(graph, bottom, 0), number(graph, bottom, 1)
    ):  # fmt: skip
        return None
    exp = next((a for a in arguments(graph, bottom) if a.op == "exp"), None)
    negative = argument(graph, exp, 0) if exp is not None else None
    if negative is None or negative.op != "neg":
        return None
    return Normalized("sigmoid", node, arguments(graph, negative)[0], -1, exp)


def are_probabilities(values: Array) -> bool:
    """Tell whether all rows, two or more, are distributions: no entry below 0, a sum of 1.

    >>> are_probabilities(np.full((2, 4), 0.25)), are_probabilities(np.eye(2)[:1]), are_probabilities(np.ones((2, 4)))
    (True, False, False)
    """
    if values.ndim < 2 or values.dtype.kind != "f" or not values.size or values.shape[-1] < 2:
        return False
    rows, slack = rows_of(values), 32 * float(np.finfo(values.dtype).eps)
    return bool(len(rows) >= 2 and (rows >= 0).all() and (abs(rows.sum(axis=1) - 1) <= max(slack, 1e-6)).all())


# -- losses -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LossCall:
    """What a loss over classes was given, with the classes along the last axis."""

    node: Node
    kind: str  # "logits": cross_entropy, or nll_loss of log_softmax; "log_probs": another nll_loss; "hidden": linear_…
    scores: Node  # the first argument: logits, log-probabilities, or what the linear layer is given
    target: Array | None  # class indices, or probabilities; None where that is not known
    n_classes: int
    head: Node | None = None  # the weight of linear_cross_entropy
    axis: int = -1  # of the classes: another than the last in graphs of other libraries

    @property
    def values(self) -> Array:
        """The scores, with the classes along the last axis."""
        return np.moveaxis(self.scores.value, self.axis, -1) if self.scores.shape else self.scores.value

    @property
    def counted(self) -> Array:
        """The class indices that are not ignored, flat; empty for probabilities."""
        if self.target is None or self.target.dtype.kind not in "iu":
            return np.zeros(0, int)
        flat = self.target.reshape(-1)
        return flat[flat != self.node.kwargs.get("ignore_index", -100)]

    @property
    def soft(self) -> bool:
        """Whether the targets are probabilities."""
        return self.target is not None and self.target.dtype.kind == "f"


def loss_calls(graph: Graph) -> Iterator[LossCall]:
    """Yield the losses over classes in a graph."""
    for node in graph:
        first = argument(graph, node, 0) if node.op is not None else None
        if first is None:
            continue
        if node.op in ("cross_entropy", "soft_cross_entropy"):
            axis = int(node.kwargs.get("axis", -1))
            n_classes = first.shape[axis] if first.shape else 0
            yield LossCall(node, "logits", first, _target(node, 1), n_classes, axis=axis)
        elif node.op == "linear_cross_entropy":
            head = argument(graph, node, 1)
            n_classes = len(node.args[1])
            yield LossCall(node, "hidden", first, _target(node, 2), n_classes, head)
        elif node.op == "nll_loss":
            inner = behind(graph, first)
            logits = argument(graph, inner, 0) if inner.op == "log_softmax" else None
            kind, scores = ("log_probs", first) if logits is None else ("logits", logits)
            axis = int(node.kwargs.get("axis", -1))
            yield LossCall(node, kind, scores, _target(node, 1), first.shape[axis], axis=axis)


def _target(node: Node, position: int) -> Array | None:
    found = node.args[position] if position < len(node.args) else None
    return found if isinstance(found, np.ndarray) else None


# -- from which output of a linear layer --------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """The layer with parameters that scores came from, and for each score, from which of its outputs."""

    node: Node  # linear, or a matmul with a parameter
    weight: Node
    outputs: Array  # of the shape of the scores: 0 … n − 1
    n: int


def head_of(graph: Graph, scores: Node) -> Head | None:
    """Return the layer that made scores; None if views and simple ops do not lead back to one."""
    path: list[Node] = []
    node = scores
    while node.op in VIEWS or (node.op in ELEMENTWISE and _is_simple(graph, node)):
        before = first_inner_of_shape(graph, node)
        if before is None:
            return None
        path.append(node)
        node = before
    weight = argument(graph, node, 1)
    if node.op not in ("linear", "matmul") or weight is None or not is_parameter(behind(graph, weight)):
        return None
    if not node.shape or np.prod(node.shape) > LARGE:
        return None
    n = node.shape[-1]
    outputs: Any = np.broadcast_to(np.arange(n, dtype=np.int32), node.shape)
    for step in reversed(path):
        if step.op in VIEWS and not step.kwargs:
            return None  # of another library, which did not keep how it was called
        if step.op in VIEWS - {"astype"}:
            outputs = REGISTRY[step.op].forward(outputs, **step.kwargs)
    return Head(node, behind(graph, weight), np.asarray(outputs), n)


def first_inner_of_shape(graph: Graph, node: Node) -> Node | None:
    """Return the argument that a view or a simple op works on."""
    if node.op in VIEWS:
        return argument(graph, node, 0)
    return next((a for a in arguments(graph, node) if a.shape == node.shape and not is_parameter(a)), None)


def _is_simple(graph: Graph, node: Node) -> bool:
    """Tell whether an op joins one inner node of its own shape with leaves only: adds a bias, divides by a number."""
    inner = [a for a in arguments(graph, node) if a.op is not None]
    return len(inner) == 1 and inner[0].shape == node.shape
