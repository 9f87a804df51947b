"""Gradients of fused ops on paper: softmax, attention and the norms, with the numbers of one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ..graph import Graph, Node
from ..tensor import Array
from .arrays import number
from .derive_loss import after_log_softmax, cross_entropy, softmax_rows
from .document import Block, equation

Derivation = Callable[[Graph, Node, Mapping[str, str], int], Iterator[Block]]


def derivation(graph: Graph, node: Node, names: Mapping[str, str], numbers: int) -> Iterator[Block]:
    """Yield the derivation of the gradient of the op that made a node, if there is one."""
    write = DERIVATIONS.get(str(node.op))
    if write is not None:
        yield from write(graph, node, names, numbers)


def _values(graph: Graph, node: Node) -> dict[int, Array]:
    return {edge.position: graph[edge.source].value.astype(np.float64) for edge in graph.edges_into(node)}


def _softmax(graph: Graph, node: Node, names: Mapping[str, str], numbers: int) -> Iterator[Block]:
    temperature = float(node.constants.get("temperature", 1.0))
    over = "" if temperature == 1 else f"/{number(temperature)}"
    yield Block("heading", "Why: the Jacobian of softmax, and its product with the gradient")
    source = names.get(graph.edges_into(node)[0].source, "z")
    divided = f" divided by T = {number(temperature)}, which leaves a factor 1/T at the end" if over else ""
    yield Block(
        "text",
        (f"Write `z` for the logits `{source}`{divided}. " if source != "z" or divided else "")
        + "Every probability depends on every logit, since they share the sum `s = Σⱼ exp(zⱼ)`. "
        "By the quotient rule:",
    )
    yield equation("∂pᵢ/∂zᵢ = (exp(zᵢ)·s − exp(zᵢ)·exp(zᵢ))/s² = pᵢ·(1 − pᵢ)", label="i = j")
    yield equation("∂pᵢ/∂zⱼ = (0 − exp(zᵢ)·exp(zⱼ))/s² = −pᵢ·pⱼ", label="i ≠ j")
    yield equation("J = diag(p) − p·pᵀ", label="together")
    yield Block(
        "text",
        "The gradient of a logit is the sum over all probabilities, each with the gradient `gⱼ` that came back to it:",
    )
    yield equation(f"Σⱼ gⱼ·pⱼ·([i = j] − pᵢ){over} = pᵢ·(gᵢ − Σⱼ gⱼ·pⱼ){over}", label="chain rule")
    yield Block(
        "text",
        "So the gradient of a logit is positive where that of its probability is above the mean of all, weighted with "
        "`p`; a constant added to all of `g` changes nothing; and where `p` is 0 or 1 nothing comes through: softmax "
        "saturates.",
    )
    if numbers and node.value.ndim:
        axis = node.constants.get("axis", -1)
        p, g = node.value.astype(np.float64), np.asarray(node.grad, np.float64)
        mean = (g * p).sum(axis=axis, keepdims=True)
        yield equation("Σⱼ gⱼ·pⱼ", mean, label="mean")
        yield equation("g − Σⱼ gⱼ·pⱼ", g - mean, label="above it")
        yield equation(f"p·(g − Σⱼ gⱼ·pⱼ){over}", p * (g - mean) / temperature, label="product")


# -- attention ------------------------------------------------------------------------------------


def _attention(graph: Graph, node: Node, names: Mapping[str, str], numbers: int) -> Iterator[Block]:
    values = _values(graph, node)
    q, k, v = (values[i] for i in range(3))
    scale = float(node.constants.get("scale", 1.0))
    mask = _added_mask(node, q.shape[-2], k.shape[-2])
    d_k = q.shape[-1]
    usual = d_k > 1 and np.isclose(scale * np.sqrt(d_k), 1)
    c = "" if scale == 1 else f"{number(scale)}·"
    s = scale * (q @ np.swapaxes(k, -1, -2)) + (0.0 if mask is None else mask)
    lost = bool((s == -np.inf).all(axis=-1).any())
    p = softmax_rows(s)
    g = np.asarray(node.grad, np.float64)
    dp = g @ np.swapaxes(v, -1, -2)
    ds = p * (dp - (p * dp).sum(axis=-1, keepdims=True))
    first: Callable[[Array], Array] = lambda a: a.reshape(-1, *a.shape[-2:])[0]  # noqa: E731 (one head is shown)
    heads = s.size // max(s.shape[-1] * s.shape[-2], 1)
    shown: Callable[[Array], Array | None] = (lambda a: first(a)) if numbers else (lambda a: None)
    again: Callable[[Array], Array | None] = shown if heads > 1 else (lambda a: None)  # else the step has just said it
    yield Block("heading", "Why: attention is three steps, and the gradient goes back through each")
    yield Block(
        "text",
        _renamed(graph, node, names)
        + "Forward: scores, which compare each query with each key; weights, a softmax over the keys; and the mean of "
        "the values with these weights."
        + _about_mask(node)
        + (" A row in which every key is hidden has weights 0." if lost else "")
        + (f" The numbers are those of the first of {heads} heads." if heads > 1 else ""),
    )
    yield equation(f"s = {c}q·kᵀ" + " + mask" * (mask is not None), shown(s), label="scores")
    yield equation("p = softmax(s)", shown(p), label="weights")
    yield equation("o = p·v", label="output")
    yield Block(
        "text",
        (f"The factor is {number(scale)} = 1/√{d_k}, for queries of d_k = {d_k} entries. " if usual else "")
        + "Backward, newest first. The output is a matrix product of weights and values, so each of the two gets the "
        "gradient of the output, `g`, times the other:",
    )
    yield equation("dv = pᵀ·g", again(np.swapaxes(p, -1, -2) @ g), label="values")
    yield equation("dp = g·vᵀ", shown(dp), label="weights")
    yield Block(
        "text",
        "A value gets gradient from each query as much as that query looked at it. Through the softmax, row by row: "
        "the gradient of a score is positive where that of its weight is above the mean of its row, weighted with `p`"
        + (", and 0 at hidden keys, of weight 0:" if not np.isfinite(s).all() else ":"),
    )
    yield equation("ds = p∘(dp − Σⱼ p∘dp)", shown(ds), label="scores")
    yield Block(
        "text",
        "The scores are a matrix product of queries and keys" + (", times a factor, which stays:" if c else ":"),
    )
    yield equation(f"dq = {c}ds·k", again(scale * ds @ k), label="queries")
    yield equation(f"dk = {c}dsᵀ·q", again(scale * np.swapaxes(ds, -1, -2) @ q), label="keys")
    wide = "the softmax saturates, and `ds` vanishes with `p∘(1 − p)`."
    if usual:
        wide = f" Without the factor they would spread √{d_k} times as wide; where d_k is large, {wide}"
    elif d_k > 1:
        wide = (
            f" Their spread grows like √d_k, here √{d_k}, if no factor 1/√d_k takes it out; where it is large, {wide}"
        )
    yield Block("text", "Each row of `ds` sums to 0. A score is a sum of d_k products." + wide * (d_k > 1))


def _renamed(graph: Graph, node: Node, names: Mapping[str, str]) -> str:
    own = [names.get(edge.source, "") for edge in graph.edges_into(node) if edge.position < 3]
    listed = ", ".join(f"`{name}`" for name in own)
    return f"Write `q`, `k` and `v` for queries, keys and values, here {listed}. " if own != ["q", "k", "v"] else ""


def _about_mask(node: Node) -> str:
    given = node.constants.get("mask")
    hidden = ["where the mask is False"] if given is not None and given.dtype == bool else []
    hidden += ["where a key comes after the query"] if node.constants.get("causal", False) else []
    if given is not None and given.dtype != bool:
        more = f", and it is −∞ {hidden[0]}" if hidden else ""
        return f" The mask that was given is added to the scores{more}."
    return f" `mask` is −∞ {' or '.join(hidden)}, which hides that key, and 0 elsewhere." if hidden else ""


def _added_mask(node: Node, t: int, s: int) -> Array | None:
    """Return the masks of attention as numbers added to the scores, or None if every key is seen."""
    given, causal = node.constants.get("mask"), node.constants.get("causal", False)
    if given is None and not causal:
        return None
    mask = np.zeros((t, s))
    if given is not None:
        mask = np.where(given, 0.0, -np.inf) if given.dtype == bool else np.asarray(given, np.float64)
    return np.where(np.tri(t, s, dtype=bool), mask, -np.inf) if causal else mask


# -- norms ----------------------------------------------------------------------------------------


def _norm(graph: Graph, node: Node, names: Mapping[str, str], numbers: int) -> Iterator[Block]:
    centre = node.op == "layer_norm"
    values = _values(graph, node)
    x, w = values[0], values.get(1)
    x = x.reshape(-1, x.shape[-1])
    g = np.asarray(node.grad, np.float64).reshape(x.shape)
    h = g if w is None else g * w
    mean = x.mean(axis=-1, keepdims=True) if centre else 0.0
    sigma = np.sqrt(((x - mean) ** 2).mean(axis=-1, keepdims=True) + float(node.constants.get("eps", 0.0)))
    hat = (x - mean) / sigma
    r = "σ" if centre else "r"
    yield Block("heading", f"Why: {'three' if centre else 'two'} ways from an entry of `x` to the result")
    yield Block(
        "text",
        f"Each row is normalized by itself. `x̂` is the normalized row, n = {x.shape[1]} its "
        f"length, and `h` the gradient of `x̂`"
        + (": the incoming gradient times the weight." if w is not None else "."),
    )
    if centre:
        yield Block(
            "text",
            "An entry `xⱼ` changes `x̂` in three ways: by itself; through the mean of the row, "
            "of which it is 1/n; and through σ, "
            "which changes by `x̂ⱼ/n`:",
        )
        yield equation("∂x̂ᵢ/∂xⱼ = ([i = j] − 1/n − x̂ᵢ·x̂ⱼ/n)/σ", label="derivative")
    else:
        yield Block(
            "text",
            "An entry `xⱼ` changes `x̂` in two ways: by itself, and through the root mean square r, which "
            "changes by `x̂ⱼ/n`:",
        )
        yield equation("∂x̂ᵢ/∂xⱼ = ([i = j] − x̂ᵢ·x̂ⱼ/n)/r", label="derivative")
    yield Block("text", "Summed over all entries, each with its gradient `hᵢ`, the sums over i become means:")
    three = "hⱼ − mean h − x̂ⱼ·mean(h·x̂)" if centre else "hⱼ − x̂ⱼ·mean(h·x̂)"
    full = f"Σᵢ hᵢ·([i = j]{' − 1/n' if centre else ''} − x̂ᵢ·x̂ⱼ/n)/{r}"
    yield equation(f"{full} = ({three})/{r}", label="chain rule")
    if numbers:
        yield Block("text", "With the numbers of this graph" + (", row 0:" if len(x) > 1 else ":"))
        if centre:
            yield equation("mean x", np.asarray(x[0].mean()), label="mean")
        yield equation(r, np.asarray(sigma[0, 0]), label="size")
        yield equation("x̂", hat[0], label="normalized")
        yield equation("h", h[0], label="gradient")
        if centre:
            yield equation("−mean h", np.asarray(-h[0].mean()), label="by the mean")
        yield equation("−x̂·mean(h·x̂)", -hat[0] * (h[0] * hat[0]).mean(), label=f"by {r}")
        total = h[0] - (h[0].mean() if centre else 0.0) - hat[0] * (h[0] * hat[0]).mean()
        yield equation(f"({three.replace('ⱼ', '')})/{r}", total / sigma[0], label="together")
    if centre:
        yield Block(
            "text",
            "What is left sums to 0 over the row, and so does its product with `x̂` (but for "
            "ε): adding a constant to a row, or "
            "stretching it, changes nothing in the result, so no gradient points there.",
        )


DERIVATIONS: dict[str, Derivation] = {
    "softmax": _softmax, "log_softmax": after_log_softmax, "cross_entropy": cross_entropy,
    "soft_cross_entropy": cross_entropy, "linear_cross_entropy": cross_entropy, "attention": _attention,
    "layer_norm": _norm, "rms_norm": _norm,
}  # fmt: skip
