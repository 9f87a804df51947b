"""Rules on attention: scores without √d_k, masks that are missing, overflow, or hide all keys."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ...autograd import sweep
from ...derivatives import between
from ...graph import Graph, Node, history, rms
from ...tensor import Array, Tensor
from .base import Context, Finding, UncheckedError, finding, rule
from .reading import LossCall, argument, arguments, followed, loss_calls
from .scores import HIDES, Attention, undivided, visible_keys, weighs_values

SHARP = 0.99  # a row with such a weight looks at one key only


@rule("unscaled-attention", "attention without √d_k")
def unscaled_attention(context: Context) -> Iterator[Finding]:
    """If the entries of q and k have variance 1, q·k has variance d_k, and a softmax of that is all but one-hot.

    Measured: the standard deviation of the scores within a row, beside √d_k. Reported only if the scores are not
    divided, are spread as that argument says (by half of √d_k, and by 3, or more), and the weights are sharp for it:
    more than one row in twenty above 0.99, or an entropy of less than 0.6 of what it could be. Layers whose weights
    have variance 1/(3 n), as nn.Linear makes them, give a third of √d_k: from a quarter on both are asked for. A model
    whose smaller weights make up for the missing factor is left alone, and so is one that divides by a norm, or by a
    number that is learnt.
    """
    for found in undivided(context.graph):
        measured = _sharpness(found)
        if measured is None:
            continue
        spread, sharp, entropy = measured
        share, signs = spread / (math.sqrt(found.d_k) * found.factor), (sharp >= 0.05) + (entropy <= 0.6)
        if spread < 3 or share < 0.25 or signs < (1 if share >= 0.5 else 2):
            continue
        evidence = {
            "standard deviation of the scores": spread, "√d_k": math.sqrt(found.d_k), "rows above 0.99": sharp,
            "entropy as a share of log n": entropy,
        }  # fmt: skip
        if found.gradient is not None:
            evidence["median gradient norm of the scores"] = float(np.median(np.linalg.norm(found.gradient, axis=-1)))
        yield finding(
            "unscaled-attention", found.node, "warning",
            f"The scores q·k are not divided by √d_k = {math.sqrt(found.d_k):.3g}, and differ by {spread:.3g} within a "
            "row. The softmax then puts nearly all weight on few keys, whatever was learnt, so the gradient of the "
            "scores vanishes, and queries and keys hardly move.",
            "out = sm.functional.scaled_dot_product_attention(q, k, v)  # scale=None divides by √d_k; by hand: "
            "q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5",
            evidence,
        )  # fmt: skip


def _sharpness(found: Attention) -> tuple[float, float, float] | None:
    """Return the spread of a row of scores, the share of sharp rows, and the entropy; of rows with two keys or more."""
    counts = found.allowed.sum(axis=-1)
    rows = counts > 1
    if not rows.any():
        return None
    scores, allowed, weights = found.scores[rows], found.allowed[rows], found.weights[rows].astype(np.float64)
    n = allowed.sum(axis=-1)
    mean = np.where(allowed, scores, 0).sum(axis=-1) / n
    spread = np.sqrt(np.where(allowed, np.square(scores - mean[:, None]), 0).sum(axis=-1) / n)
    if not np.isfinite(spread).all() or not np.isfinite(weights).all():
        return None
    entropy = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(axis=-1) / np.log(n)
    return float(np.median(spread)), float((weights.max(axis=-1) > SHARP).mean()), float(entropy.mean())


# -- the future ---------------------------------------------------------------------------------


@rule("missing-causal-mask", "a language model that sees the future")
def missing_causal_mask(context: Context) -> Iterator[Finding]:
    """A model that predicts the next token must not see it.

    Asked only where the targets are the tokens of an embedding (or of table[tokens], or one-hot rows times a table),
    moved by one. Then it is measured: the scores of the
    first half of the positions get a gradient, and none of it may reach the embeddings of the second half.
    """
    for call in loss_calls(context.graph):
        tokens = _shifted_tokens(context.graph, call)
        if tokens is None:
            continue
        blamed = next(filter(None, (_sees_ahead(context.graph, node) for node in context.graph)), None)
        if context.probe is None:
            if blamed is not None:
                raise UncheckedError("it asks for gradients anew: pass the loss itself, not its Graph")
            continue
        leak = _leak(context, call, tokens)
        if leak is None or not leak[0] > 1e-6 * leak[1]:
            continue
        yield finding(
            "missing-causal-mask", blamed or call.node, "error",
            "The targets are the next tokens of the input, but scores at early positions depend on later tokens. The "
            "model reads the answer instead of predicting it: the loss falls far, and generation fails.",
            "out = sm.functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # or "
            "nn.MultiHeadAttention(..., causal=True)",
            {"gradient of early scores in later tokens (RMS)": leak[0], "in their own tokens": leak[1]},
        )  # fmt: skip


def _shifted_tokens(graph: Graph, call: LossCall) -> tuple[Node, Array] | None:
    """Return the embedding whose next tokens the targets are, and the position (B, T) of each target."""
    if call.target is None or call.soft:
        return None
    ignored = call.node.kwargs.get("ignore_index", -100)
    for node in reversed(
        graph.nodes
    ):  # the last such embedding: an encoder before may see the text that a decoder writes
        indices = _looked_up(graph, node)
        if indices is None or indices.ndim != 2 or indices.shape[1] < 4:
            continue
        for now, following in ((indices[:, :-1], indices[:, 1:]), (indices, indices[:, 1:])):
            # Targets for all positions but the last of a longer text, or only for those with a next token here.
            target = call.target.reshape(now.shape) if call.target.size == now.size else None
            if target is None and call.target.size == indices.size:
                target = call.target.reshape(indices.shape)[:, :-1]
            if target is None:
                continue
            target = target[:, : following.shape[1]]
            counts = target != ignored
            if counts.sum() >= 4 and (target == following)[counts].all() and (target != indices[:, :-1])[counts].any():
                width = call.target.size // len(indices)
                return node, np.broadcast_to(np.arange(width), (len(indices), width))
    return None


def _looked_up(graph: Graph, node: Node) -> Array | None:
    """Return the tokens whose vectors a node looks up: an embedding, table[tokens], or one-hot rows times a table."""
    if node.op == "embedding":
        return np.asarray(node.args[1])
    if node.op == "getitem":
        index = node.kwargs.get("index")
        return index if isinstance(index, np.ndarray) and index.dtype.kind in "iu" else None
    rows = argument(graph, node, 0) if node.op in ("matmul", "linear") else None
    if rows is None or not rows.known or rows.requires_grad or len(rows.shape) != 3:
        return None
    ones = rows.value == 1
    return rows.value.argmax(axis=-1) if ((rows.value == 0) | ones).all() and (ones.sum(axis=-1) == 1).all() else None


def _leak(context: Context, call: LossCall, tokens: tuple[Node, Array]) -> tuple[float, float] | None:
    """Return the RMS of the gradient of early scores with respect to later embeddings, and to their own."""
    embedding, positions = tokens
    assert context.probe is not None
    half, shape = positions.shape[1] // 2, list(call.scores.shape)
    del shape[call.axis]
    early = np.expand_dims((positions < half).reshape(shape), call.axis)
    seed = np.random.default_rng(0).normal(size=call.scores.shape) * early
    gradient = context.probe(call.scores, seed, embedding)
    if gradient is None or not np.isfinite(gradient).all():
        return None
    return rms(gradient[:, half:]), rms(gradient[:, :half])


def probe(graph: Graph, loss: Tensor, output: Node, seed: Array, wanted: Node) -> Array | None:
    """Return the gradient of one node for a gradient at another, that of nodes of the graph of a loss."""
    tensors = {node.id: t for t in history([loss]) if (node := graph.node_of(t)) is not None}
    end, begin = tensors.get(output.id), tensors.get(wanted.id)
    if end is None or begin is None or not end.requires_grad:
        return None
    start = {end: seed.astype(end.dtype)}
    steps = sweep(start, wanted=between(start, [begin]), stop={begin}, consume=False)  # none for weights
    return next((np.asarray(g) for t, g, _ in steps if t is begin), None)


def _sees_ahead(graph: Graph, node: Node) -> Node | None:
    """Return an attention, or its softmax, whose early queries put weight on later keys; None if this is none."""
    if node.op == "attention" and node.shape[-2] == np.shape(node.args[1])[-2]:
        allowed = visible_keys(node)[0]
        return node if np.triu(np.broadcast_to(allowed, (*allowed.shape[:-2], *allowed.shape[-2:])), 1).any() else None
    square = node.op == "softmax" and len(node.shape) > 1 and node.shape[-1] == node.shape[-2] > 1
    if square and node.known and weighs_values(graph, node):
        return node if (np.triu(node.value, 1) > 0).any() else None
    return None


# -- masks --------------------------------------------------------------------------------------


@rule("fully-masked-row", "a query whose keys are all hidden")
def fully_masked_row(context: Context) -> Iterator[Finding]:
    """A row of scores with every key hidden has no softmax.

    With −inf it is NaN; with a large negative number it spreads evenly over keys that should be hidden; the op of this
    library gives zeros. Reported if the loss uses the row, by its gradient: padded queries that it ignores do no harm.
    """
    for node, rows in without_keys(context):
        kind = (
            "gives zeros, whatever the values are" if node.op == "attention" else "is NaN, or spreads over hidden keys"
        )
        bad = node.grad is not None and not np.isfinite(node.value).all()
        yield finding(
            "fully-masked-row", node, "error" if bad else "warning",
            f"The mask hides every key of {int(rows.sum())} of {rows.size} queries, and the loss uses what they "
            f"return. Such a row {kind}.",
            "mask = mask | ~mask.any(axis=-1, keepdims=True)  # lets such queries see all; and leave them out of the "
            "loss, with ignore_index",
            {"rows without keys": int(rows.sum()), "rows": rows.size},
        )  # fmt: skip


def without_keys(context: Context) -> list[tuple[Node, Array]]:
    """Return each attention or softmax with rows whose keys are all hidden, and that the loss uses; and which rows."""
    found = []
    for node in context.graph:
        if node.grad is None or len(node.shape) < 2 or not node.known:
            continue
        hidden = _hidden_rows(context.graph, node)
        if hidden is not None and hidden.any():
            used = hidden & (node.grad != 0).any(axis=-1)  # NaN is not 0
            if used.any():
                found.append((node, used))
    return found


def _hidden_rows(graph: Graph, node: Node) -> Array | None:
    """Tell of each query of an attention, or row of a softmax along the last axis, whether nothing is left to see."""
    if node.op == "attention":
        return np.broadcast_to(~visible_keys(node)[0].any(axis=-1), node.shape[:-1])
    if node.op == "softmax" and node.kwargs.get("axis", -1) in (-1, len(node.shape) - 1):
        logits = argument(graph, node, 0)
        if logits is not None and logits.op in ("where", "add", "sub", "mul"):
            return np.asarray((logits.value <= HIDES).all(axis=-1))
    if node.op == "where" and np.size(node.args[2]) == 1:  # what the library's own attention makes of such rows
        first = argument(graph, node, 1)
        if first is not None and first.op == "softmax" and np.shape(node.args[0])[-1:] == (1,):
            return np.broadcast_to(~np.asarray(node.args[0], bool)[..., 0], node.shape[:-1])
    return None


@rule("mask-overflow", "an additive mask that overflows")
def mask_overflow(context: Context) -> Iterator[Finding]:
    """A large negative number that hides a key may leave the range of the dtype, and become −inf.

    −1e9 does so in float16, whose least number is −65504, and so do two masks of the dtype's minimum that are added.
    Rows with nothing but −inf are NaN. Found where finite numbers go in, a mask among them, and −inf comes out.
    """
    for node, count in overflowing(context):
        lowest = min(float(np.min(a.value)) for a in arguments(context.graph, node) if a.value.size)
        yield finding(
            "mask-overflow", node, "error" if node.grad is not None and not np.isfinite(node.grad).all() else "warning",
            f"An additive mask goes beyond the range of {node.dtype} here: finite numbers go in, and −inf comes out. A "
            "row in which all keys are hidden is then NaN, and with it all weights after the next step.",
            "scores = sm.where(mask, scores, -np.inf)  # or mask= of sm.functional.scaled_dot_product_attention, bool: "
            "True = attend",
            {"entries": count, "smallest argument": lowest, "least of the dtype": float(np.finfo(node.dtype).min)},
        )  # fmt: skip


def overflowing(context: Context) -> list[tuple[Node, int]]:
    """Return the ops that make −inf of a finite mask on its way to a softmax, and how many entries of it."""
    found = []
    for node in context.graph:
        if node.op not in ("add", "sub", "astype", "mul") or node.dtype.kind != "f" or not node.known:
            continue
        count = int(np.isneginf(node.value).sum())
        inputs = [np.asarray(a) for a in node.args if np.asarray(a).dtype.kind in "fiub"]
        finite = all(np.isfinite(a).all() for a in inputs)
        if count and finite and any((a <= HIDES).any() for a in inputs) and _meets_softmax(context.graph, node):
            found.append((node, count))
    return found


def _meets_softmax(graph: Graph, node: Node) -> bool:
    def goes_on(_: Node, user: Node) -> bool:
        return user.op in ("where", "add", "sub", "astype", "reshape", "transpose")

    return any(user.op in ("softmax", "log_softmax", "attention") for user in followed(graph, node, goes_on))
