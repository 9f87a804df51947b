"""Finding attention in a graph, as one op or composed of simple ones, and measuring its scores and weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...graph import Graph, Node
from ...ops.softmax import softmax
from ...tensor import Array
from .reading import VIEWS, argument, arguments, behind, followed, is_parameter, number

HIDES = -1e4  # an additive mask of this or less hides a key
HEADS = 16  # of a fused op so many heads are measured
Factor = float | None  # None: something other than a plain number scales the scores


@dataclass(frozen=True)
class Attention:
    """Scores (H, T, S) as the softmax sees them, but for hidden keys, and what became of them."""

    node: Node  # the attention op, or the softmax
    scores: Array
    allowed: Array  # (H, T, S) bool
    weights: Array
    gradient: Array | None  # of the scores
    d_k: int
    factor: float  # what q·k was multiplied with


def undivided(graph: Graph) -> Iterator[Attention]:
    """Yield each attention of a graph whose numbers are known, and whose scores are not divided by √d_k."""
    for node in graph:
        if not node.known or not node.value.size:
            continue
        found = _fused(graph, node) if node.op == "attention" else _composed(graph, node)
        if found is not None and found.scores.size:
            yield found


def _undivided(factor: float, d_k: int) -> bool:
    return factor * math.sqrt(d_k) >= 2


# -- the op -------------------------------------------------------------------------------------


def _fused(graph: Graph, node: Node) -> Attention | None:
    scale = float(node.kwargs.get("scale", 1.0))
    q_node, k_node = argument(graph, node, 0), argument(graph, node, 1)
    assert q_node is not None
    assert k_node is not None
    factor = _times(scale, _times(_scaling(graph, q_node), _scaling(graph, k_node)))
    if factor is None or not _undivided(factor, node.args[0].shape[-1]):
        return None
    q, k, v = (_heads(np.asarray(x), node) for x in node.args[:3])
    scores = (q * scale) @ k.swapaxes(-1, -2)
    allowed, bias = visible_keys(node)
    allowed = np.broadcast_to(allowed, (*node.shape[:-1], k.shape[-2]))
    allowed = allowed.reshape(-1, *allowed.shape[-2:])[:HEADS]
    if bias is not None:
        bias = np.broadcast_to(bias, (*node.shape[:-1], k.shape[-2])).reshape(-1, *allowed.shape[-2:])[:HEADS]
        scores = scores + np.where(allowed, bias, 0)
    weights, gradient = softmax_where(scores, allowed), None
    if node.grad is not None:
        g = _heads(node.grad, node) @ v.swapaxes(-1, -2)
        gradient = weights * (g - (weights * g).sum(axis=-1, keepdims=True))
    return Attention(node, scores, allowed, weights, gradient, q.shape[-1], factor)


def _heads(x: Array, node: Node) -> Array:
    """Return an array (…, T, d) as the first heads of the op (H, T, d)."""
    x = np.broadcast_to(x, (*node.shape[:-2], *x.shape[-2:]))
    return x.reshape(-1, *x.shape[-2:])[:HEADS].astype(np.float64)


def visible_keys(node: Node) -> tuple[Array, Array | None]:
    """Return which keys the mask of an attention op lets be seen, to broadcast with the scores, and what it adds."""
    t, s = node.shape[-2], np.asarray(node.args[1]).shape[-2]
    allowed, bias, mask = np.ones((t, s), bool), None, node.kwargs.get("mask")
    if node.kwargs.get("causal"):
        allowed = np.tril(allowed)
    if mask is not None:
        mask = np.asarray(mask)
        shown = mask if mask.dtype == bool else mask > HIDES
        bias = None if mask.dtype == bool else np.where(shown, mask, 0)
        allowed = allowed & shown
    return allowed, bias


def softmax_where(scores: Array, allowed: Array) -> Array:
    """Return the softmax along the last axis over what is allowed; a row of nothing is 0."""
    p = softmax(np.where(allowed, scores, -np.inf))
    return np.where(allowed.any(axis=-1, keepdims=True), p, 0)


# -- composed of simple ops ---------------------------------------------------------------------


def _composed(graph: Graph, node: Node) -> Attention | None:
    """Return what a softmax is, if it is taken of products q·k and then multiplies values."""
    if node.op != "softmax" or len(node.shape) < 2 or node.kwargs.get("axis", -1) not in (-1, len(node.shape) - 1):
        return None
    if not weighs_values(graph, node):
        return None
    logits = argument(graph, node, 0)
    if logits is None:
        return None
    factor, product = _unscaled(graph, logits)
    operands = _operands(graph, product)
    if operands is None:
        return None
    (q, k), d_k = operands
    if is_parameter(behind(graph, q)) != is_parameter(behind(graph, k)):
        return None  # a layer, such as that which gates experts
    factor = _times(factor, _times(_scaling(graph, q), _scaling(graph, k)))
    factor = _times(factor, 1 / float(node.kwargs.get("temperature", 1.0)))
    if factor is None or not _undivided(factor, d_k):
        return None
    shape = (-1, *node.shape[-2:])
    weights = node.value.reshape(shape)
    # log p is the scores less a number for each row, which is enough to tell how far they are spread.
    scores = (
        logits.value.reshape(shape)
        if logits.known
        else np.log(weights, where=weights > 0, out=np.full(weights.shape, 10 * HIDES))
    )
    gradient = None if logits.grad is None else logits.grad.reshape(shape)
    return Attention(node, scores.astype(np.float64), scores > HIDES, weights, gradient, d_k, factor)


def weighs_values(graph: Graph, node: Node) -> bool:
    """Tell whether a softmax is multiplied with values: weights @ v, perhaps after dropout."""

    def goes_on(before: Node, user: Node) -> bool:
        same = user.shape == before.shape and user.op in {*VIEWS, "where", "mul", "dropout"}
        return same or user.op in ("reshape", "broadcast_to")

    return any(user.op in ("matmul", "einsum") for user in followed(graph, node, goes_on))


def _unscaled(graph: Graph, node: Node) -> tuple[Factor, Node]:
    """Walk back from scores over masks and factors to the product; return the factor on the way, and the product."""
    factor: Factor = 1.0
    while True:
        if node.op in ("mul", "div"):
            value = [number(graph, node, 0), number(graph, node, 1)]
            inner = argument(graph, node, 0 if value[0] is None else 1)
            other = value[1] if value[0] is None else value[0]
            factor = _times(factor, other if node.op == "mul" or other is None else 1 / other if other else None)
        elif node.op in {*VIEWS, "where", "add", "sub"}:
            inner = next((a for a in arguments(graph, node) if a.op is not None and a.requires_grad), None)
        else:
            return factor, node
        if inner is None:
            return factor, node
        node = inner


def _times(a: Factor, b: Factor) -> Factor:
    return None if a is None or b is None else a * b


def _scaling(graph: Graph, node: Node) -> Factor:
    """Return the number that queries or keys were multiplied with; None if they were divided by a norm or the like."""
    factor: Factor = 1.0
    while True:
        node = behind(graph, node)
        if node.op not in ("mul", "div"):
            return None if node.op in ("where",) else factor
        value = [number(graph, node, 0), number(graph, node, 1)]
        other = value[1] if value[0] is None else value[0]
        inner = argument(graph, node, 0 if value[0] is None else 1)
        if inner is None or not other:
            return None
        factor = _times(factor, other if node.op == "mul" else 1 / other)
        node = inner


def _operands(graph: Graph, product: Node) -> tuple[tuple[Node, Node], int] | None:
    """Return the two arguments of a product q·k, and the length of what is summed over."""
    a, b = argument(graph, product, 0), argument(graph, product, 1)
    if a is None or b is None or product.op not in ("matmul", "einsum") or len(product.args) != 2:
        return None
    if product.op == "matmul":
        return ((a, b), a.shape[-1]) if a.shape else None
    inputs, _, output = str(product.kwargs["spec"]).partition("->")
    term = inputs.split(",")[0]
    summed = [a.shape[i] for i, letter in enumerate(term) if letter not in output]
    return ((a, b), math.prod(summed)) if summed and "." not in term else None
