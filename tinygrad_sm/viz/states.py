"""What is wrong with which node: NaN and inf, gradients that vanish or explode, dead ReLUs, saturated softmaxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..graph import Graph, Node, rms
from ..tensor import Array

VANISHING, EXPLODING = 1e-7, 1e3  # RMS of a gradient
CERTAIN = 0.999  # a softmax row whose largest probability is this has a gradient of p(1 - p) < 0.001
ROWS = 16  # a unit counts as dead if it is 0 in all rows of a batch of at least this many


@dataclass(frozen=True)
class State:
    """What a card has to warn of."""

    kind: str = ""  # "first" or "later" non-finite number, "vanishing", "exploding", "dead", "saturated"; "" for none
    text: str = ""
    brief: str = ""  # the same for cards of one line


def states(graph: Graph) -> dict[str, State]:
    """Return what is wrong, by the id of the node: the worst of what holds for it."""
    found: dict[str, State] = {}
    first = graph.first_nonfinite()
    for node in graph:
        size = 0.0 if node.grad is None else rms(node.grad)
        if node.id in first:
            array = node.grad if first[node.id] == "grad" else node.value
            assert array is not None
            counts = {"NaN": int(np.isnan(array).sum()), "inf": int(np.isinf(array).sum())}
            what = " and ".join(f"{n} {kind}" for kind, n in counts.items() if n)
            verb = "starts" if sum(counts.values()) == 1 else "start"
            found[node.id] = State("first", f"! {what} {verb} here ({first[node.id]})", f"! {what}")
        elif not graph.is_finite(node):
            found[node.id] = State("later")
        elif 0 < size < VANISHING:
            found[node.id] = State("vanishing", f"~ vanishing {size:.0e}", f"~ {size:.0e}")
        elif size > EXPLODING:
            found[node.id] = State("exploding", f"! exploding {size:.0e}", f"! {size:.0e}")
        elif node.op == "relu" and node.known and (dead := _dead(node.value)):
            found[node.id] = State("dead", f"! {dead}", "! dead")
        elif node.op in ("softmax", "log_softmax") and node.known and (share := _saturated(node)) > 0.5:
            found[node.id] = State("saturated", f"! saturated: {100 * share:.0f} % of rows", "! saturated")
    return found


INSIDE = {  # what a folded module says, worst first
    "first": "! NaN or inf starts inside", "exploding": "! {} exploding inside", "dead": "! {} dead ReLU inside",
    "saturated": "! {} saturated softmax inside", "vanishing": "~ {} vanishing inside", "later": "",
}  # fmt: skip


def of_group(nodes: Sequence[Node], found: Mapping[str, State]) -> State:
    """Return what a folded module has to warn of: the worst of what is inside, and how much of it differs."""
    kinds = Counter(found[node.id].kind for node in nodes if node.id in found)
    changed = kinds["differs"] + kinds["alone"]
    if changed:
        verb = "differs" if changed == 1 else "differ"
        return State("differs", f"{changed} inside {verb}", f"{changed} {verb}")
    for kind, text in INSIDE.items():
        if n := kinds[kind]:
            return State(kind, text.format(n), text.format(n).removesuffix(" inside").removesuffix(" starts"))
    return State()


def _dead(value: Array) -> str:
    """Say which units, numbers along the last axis, a ReLU lets nothing pass of."""
    if value.size and not value.any():
        return "dead: all 0"
    n = int(dead_units(value).sum())
    return f"{n} of {value.shape[-1]} units dead" if n else ""


def dead_units(value: Array) -> Array:
    """Tell of each unit, a number along the last axis, whether it is 0 in all rows; of none with fewer than `ROWS`."""
    rows = value.reshape(-1, value.shape[-1]) if value.ndim > 1 else np.zeros((0, 0))
    return np.asarray(~rows.any(axis=0)) if len(rows) >= ROWS else np.zeros(rows.shape[-1:], bool)


def _saturated(node: Node) -> float:
    """Return the share of the rows of a softmax in which one probability is all but 1."""
    p = node.value if node.op == "softmax" else np.exp(node.value)
    if p.ndim == 0 or not p.size:
        return 0.0
    axis = node.kwargs.get("axis", -1)
    return float(saturated_rows(p, axis).mean()) if p.shape[axis] > 1 else 0.0


def saturated_rows(p: Array, axis: int = -1) -> Array:
    """Tell of each row of probabilities whether one of them is all but 1."""
    return np.asarray(p.max(axis=axis) >= CERTAIN)
