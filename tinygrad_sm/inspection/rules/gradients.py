"""Rules on where the gradient goes: dead units, depth, parameters that get none, a loss that depends on nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ...graph import Graph, Node, is_finite, rms
from ...mode import no_grad
from ...tensor import Array, Tensor
from ...viz.states import dead_units
from .base import Context, Finding, Parameter, UncheckedError, finding, rule
from .reading import arguments, behind, is_parameter, loss_calls, number, origins

LAYERS = 4  # a trend by depth needs as many
VANISHED, EXPLODED = 1e-4, 1e4  # gradient of the first layers over that of the last ones
FEW = 4  # rows with which a model is asked first whether it looks at its input
LISTED = 12  # layers, or names, in the evidence


@rule("dead-relu", "units of a ReLU that are dead")
def dead_relu(context: Context) -> Iterator[Finding]:
    """A unit that is below 0 for every input has no gradient, and never comes back.

    Counted over a batch of 16 rows or more are units that are 0 in all rows, and whose inputs lie so far below 0 that
    chance does not explain it: by more than three standard deviations. A unit that fires rarely is not dead. Behind a
    narrow layer the inputs hardly differ, so that at the start each unit is 0 for all of them, or for none, as a coin
    falls; the layers before it then move, and many come back. Reported are more dead units than n coins show, n/2 and
    three standard deviations, or all of them; or more than half, if they lie three times as far below 0 as the others
    are from it.
    """
    for node in context.graph:
        zero = node.op == "relu" or (
            node.op == "maximum" and 0 in (number(context.graph, node, 0), number(context.graph, node, 1))
        )
        before = next((a for a in arguments(context.graph, node) if a.shape == node.shape), None) if zero else None
        if before is None or not node.known or len(node.shape) < 2 or not np.isfinite(before.value).all():
            continue
        dead = dead_units(node.value)
        if not dead.any():
            continue
        z = before.value.reshape(-1, node.shape[-1]).astype(np.float64)
        dead &= z.mean(axis=0) + 3 * z.std(axis=0) < 0
        by_chance = dead.mean() <= 0.5 + 1.5 / math.sqrt(dead.size)
        if not dead.all() and by_chance and (dead.mean() <= 0.5 or -np.median(z[:, dead]) < 3 * rms(z[:, ~dead])):
            continue
        yield finding(
            "dead-relu", node, "error" if dead.all() else "warning",
            f"{int(dead.sum())} of {dead.size} units of this ReLU are 0 for all {len(z)} rows, and far from being "
            "otherwise. Their gradient is 0, so the weights that feed them no longer change.",
            "layer.bias.data[:] = 0  # begin anew with a smaller learning rate and weights of std (2 / n_in) ** 0.5; "
            "or use sm.gelu",
            {"dead units": int(dead.sum()), "units": dead.size, "rows": len(z),
             "median input of a dead unit": float(np.median(z[:, dead]))},
        )  # fmt: skip


# -- depth --------------------------------------------------------------------------------------


@rule("vanishing-gradient", "a gradient that vanishes with depth")
def vanishing_gradient(context: Context) -> Iterator[Finding]:
    """In a chain of layers each may shrink the gradient by a factor, and their product is next to nothing.

    Measured: the norm of the gradient at the output of each layer with weights, of those that lead to the last one. The
    median of the first third is compared with that of the last third: below 1e-4 the first layers hardly move.
    """
    layers = _layers(context.graph)
    ratio = _trend(layers)
    if ratio is not None and ratio < VANISHED:
        node = layers[0][0]
        squashing = [n.op for n in context.graph if n.op in ("sigmoid", "tanh", "softmax")]
        cause = f" Between them stand {len(squashing)} ops whose slope is small." if squashing else ""
        yield finding(
            "vanishing-gradient", node, "warning",
            f"The gradient at the first layers is {ratio:.0e} of that at the last ones.{cause} The first layers hardly "
            "learn, and the others build on random features.",
            "x = x + layer(norm(x))  # a residual connection, or ReLU/GELU with weights of std (2 / n_in) ** 0.5",
            _norms(layers, ratio),
        )  # fmt: skip


@rule("exploding-gradient", "a gradient that explodes with depth")
def exploding_gradient(context: Context) -> Iterator[Finding]:
    """In a chain of layers, or of steps in time, each may enlarge the gradient, and their product is huge.

    Measured as for vanishing-gradient: the first third of the layers has 1e4 times the gradient of the last, or more.
    """
    layers = _layers(context.graph)
    ratio = _trend(layers)
    if ratio is not None and ratio > EXPLODED:
        node = max(layers, key=lambda layer: layer[1])[0]
        yield finding(
            "exploding-gradient", node, "warning",
            f"The gradient at the first layers is {ratio:.0e} times that at the last ones. One step then moves the "
            "first layers so far that what they had learnt is lost, or overflows.",
            "sm.optim.clip_grad_norm_(model.parameters(), 1.0)  # and smaller weights, or a norm before each layer",
            _norms(layers, ratio),
        )  # fmt: skip


def _layers(graph: Graph) -> list[tuple[Node, float]]:
    """Return the layers with weights that lead to the last one, oldest first, and the norms of their gradients."""
    found = [node for node in graph if node.op in ("linear", "matmul", "einsum") and _has_weights(graph, node)]
    if not found:
        return []
    before = origins(graph, found[-1:])
    return [
        (node, rms(node.grad) * node.grad.size**0.5)
        for node in found
        if node.id in before and node.grad is not None and is_finite(node.grad) and node.grad.any()
    ]


def _has_weights(graph: Graph, node: Node) -> bool:
    return any(is_parameter(behind(graph, a)) and len(a.shape) > 1 for a in arguments(graph, node))


def _trend(layers: list[tuple[Node, float]]) -> float | None:
    """Return the gradient of the first third of the layers over that of the last third, by their medians."""
    if len(layers) < LAYERS:
        return None
    norms, third = [norm for _, norm in layers], len(layers) // 3
    return float(np.median(norms[:third]) / np.median(norms[-third:]))


def _norms(layers: list[tuple[Node, float]], ratio: float) -> dict[str, Any]:
    step = -(-len(layers) // LISTED)
    return {"first over last": ratio, "layers": len(layers), "norms, first to last": [n for _, n in layers[::step]]}


# -- what gets no gradient ----------------------------------------------------------------------


@rule("no-gradient", "parameters that get no gradient", needs=["model"])
def no_gradient(context: Context) -> Iterator[Finding]:
    """A parameter that the loss does not come from never moves.

    It is unused, or detach(), .data, sm.no_grad() or an op without a gradient cut the way to it. Parameters that are
    frozen (requires_grad=False) are meant to be so, and so are those that the optimiser, if it is given, does not move;
    if it is not given, a part that ran under sm.no_grad() is only noted. An optimiser that moves some of the model, and
    others that are neither in it nor in the graph, was made before a layer was replaced.
    """
    trained = [p for p in context.parameters if p.requires_grad and all(p.shape)]
    if context.optimizer is not None:  # what it does not move is meant to be still
        moved = {id(p): p for group in context.optimizer.param_groups for p in group["params"]}
        own = {id(p): name for name, p in context.model.named_parameters()}
        still = [p for p in trained if p.name not in {own.get(key) for key in moved}]
        trained = [p for p in trained if p not in still]
        lost = [p for key, p in moved.items() if key not in own and context.graph.node_of(p) is None]
        if lost and trained and (forgotten := [p for p in still if p.node is not None]):
            yield _replaced(forgotten, lost)
    without = [p for p in trained if p.node is None or p.node.grad is None]
    if not without or not context.root.requires_grad:
        return
    cuts = sorted({node.note for node in context.graph if node.note and node.op is None and not node.requires_grad})
    groups: dict[str, list[Parameter]] = {}
    for p in without:
        groups.setdefault(p.name.rpartition(".")[0], []).append(p)
    everything = len(without) == len(trained)
    meant = context.optimizer is None and not everything and any("no_grad" in cut for cut in cuts)
    for module, group in {"": without}.items() if everything else groups.items():
        node = next((p.node for p in group if p.node), None)
        yield unreached([p.name for p in group], len(trained), node, module, cuts, meant)


def _replaced(forgotten: Sequence[Parameter], lost: Sequence[Tensor]) -> Finding:
    """Return the finding that the optimiser holds other parameters than those of the model."""
    names = [p.name for p in forgotten]
    return finding(
        "no-gradient", forgotten[0].node, "warning",
        f"The optimiser does not move {', '.join(names[:LISTED])}, and holds {len(lost)} parameters that are neither "
        "in the model nor in the graph, and get no gradient. A layer was replaced after the optimiser was made.",
        "optimizer = sm.optim.AdamW(model.parameters())  # after the last layer was put in",
        {"parameters it does not move": len(names), "parameters that are not of the model": len(lost),
         "their shapes": [str(p.shape) for p in lost[:LISTED]]},
    )  # fmt: skip


def unreached(
    names: Sequence[str], total: int, node: Node | None = None, module: str = "", cuts: Sequence[str] = (),
    meant: bool = False,
) -> Finding:  # fmt: skip
    """Return the finding that these parameters, of so many, get no gradient; only a note if that may be meant."""
    everything = len(names) == total
    listed = ", ".join(names[:LISTED]) + f" and {len(names) - LISTED} more" * (len(names) > LISTED)
    after = (
        "If that part is not to be trained, all is well; pass optimizer=, and only what it moves is asked for."
        if meant
        else "The optimiser leaves them as they were at the start."
    )
    cause = f" In the graph stands something of which is known: {'; '.join(cuts)}." if cuts else ""
    return finding(
        "no-gradient", node, "error" if everything else "note" if meant else "warning",
        f"{'No parameter gets a gradient' if everything else f'{listed}: no gradient'}, since the loss does not come "
        f"from {'them' if len(names) > 1 else 'it'}.{cause} {after}",
        f"{names[0]}.requires_grad = False  # if it is meant to be still; else use the layer in forward(), and do not "
        "cut the way to it with .detach(), .data or sm.no_grad()",
        {"parameters without gradient": len(names), "of": total, "names": list(names[:LISTED])},
        module,
    )  # fmt: skip


@rule("detached-loss", "a loss that does not depend on the input")
def detached_loss(context: Context) -> Iterator[Finding]:
    """A loss without history, or one that comes from parameters alone, teaches nothing about the data.

    Found are losses that require no gradient; scores of a model that come from nothing but its parameters; and, if
    `model` and `inputs` are given, a model that returns the same, to the last bit, when all rows of its input are made
    equal to the first.
    """
    root = context.root
    if not root.requires_grad:
        frozen = bool(context.parameters) and not any(p.requires_grad for p in context.parameters)
        why = root.note or "no leaf requires a gradient, or detach(), .data or sm.no_grad() cut the history"
        why = "all parameters of the model are frozen (requires_grad=False)" if frozen else why
        yield finding(
            "detached-loss", root, "error",
            f"The loss has no history: {why}. backward() has nothing to differentiate, and no parameter can move.",
            "loss = sm.cross_entropy(model(x), y)  # of Tensors, not of .data, outside of sm.no_grad()",
            {"nodes of the graph": len(context.graph)},
        )  # fmt: skip
        return
    for call in loss_calls(context.graph):
        leaves = _leaves(context.graph, call.scores)
        if call.scores.op is not None and leaves and all(is_parameter(leaf) and leaf.scope for leaf in leaves):
            yield _independent(call.node, {"parameters behind the scores": len(leaves), "inputs behind them": 0})
    if context.model is not None and context.inputs is not None and context.loss is not None:
        change = _dependence(context)
        if change == 0:
            yield _independent(root, {"change of the output when all inputs are equal": change})


def _independent(node: Node, evidence: dict[str, Any]) -> Finding:
    return finding(
        "detached-loss", node, "error",
        "What the model returns does not depend on its input. It can learn how frequent the targets are, and nothing "
        "else.",
        "def forward(self, x):\n    return self.head(self.body(x))  # from x to the output, without a constant between",
        evidence,
    )  # fmt: skip


def _leaves(graph: Graph, node: Node) -> list[Node]:
    """Return the leaves that a node comes from; single numbers do not count as data."""
    return [leaf for leaf in origins(graph, [node]).values() if leaf.op is None and leaf.value.size > 1]


def _dependence(context: Context) -> float:
    """Return by how much the output changes when every row of the input becomes the first one."""
    if any(p.ndim > 1 and not p.data.any() for p in context.model.parameters()):
        raise UncheckedError("a weight is all 0, as some are at the start, and lets nothing pass yet")
    given = context.inputs if isinstance(context.inputs, tuple) else (context.inputs,)
    few = tuple(map(_few, given))
    if len({len(x) for x in map(_plain, few) if x.ndim}) == 1:  # they are rows of one batch
        with suppress(UncheckedError):
            if change := _change(context, few):
                return change
    return _change(context, given)


def _change(context: Context, given: tuple[Any, ...]) -> float:
    """Return by how much the output for some input changes when every row becomes the first one."""
    same = tuple(_repeated(x) for x in given)
    arrays = [(x, y) for x, y in zip(given, same, strict=True) if y is not x]
    if not any(not np.array_equal(_plain(x), _plain(y)) for x, y in arrays):
        raise UncheckedError("the rows of inputs= are all equal")
    try:
        with no_grad(), context.model.evaluating():
            outputs = [_array(context.model(*args)) for args in (given, same)]
    except (TypeError, ValueError, IndexError) as error:
        raise UncheckedError(f"the model does not take inputs=: {error}") from None
    first, second = outputs
    if first.dtype.kind != "f":
        raise UncheckedError("the model does not return floats first")
    if first.shape != second.shape or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return np.inf
    return float(np.abs(first.astype(np.float64) - second).max(initial=0.0))


def _array(x: Any) -> Array:
    x = x[0] if isinstance(x, (tuple, list)) else x
    return _plain(x)


def _plain(x: Any) -> Array:
    return np.asarray(x.data if isinstance(x, Tensor) else x)


def _few(x: Any) -> Any:
    """Return the first rows of an input, which mostly tell as much as all."""
    array = _plain(x)
    few = array[:FEW] if array.ndim and array.dtype != object else x
    return Tensor(few) if isinstance(x, Tensor) else few


def _repeated(x: Any) -> Any:
    """Return an input all of whose rows are its first; what has no rows as it is."""
    array = _plain(x)
    if array.ndim == 0 or array.dtype == object:
        return x
    rows = np.ascontiguousarray(np.broadcast_to(array[:1], array.shape))
    return Tensor(rows) if isinstance(x, Tensor) else rows
