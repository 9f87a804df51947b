"""Short names for the tensors of a graph, to write formulas with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..graph import Graph, Node
from ..op import REGISTRY
from ..text import visible
from .formula import CODE
from .op_names import arguments_of

LONGEST = 40  # characters of a user's name
LETTERS = {  # what people call the result of an op
    "linear": "h", "matmul": "h", "softmax": "p", "log_softmax": "logp", "attention": "o", "relu": "a", "gelu": "a",
    "silu": "a", "tanh": "a", "sigmoid": "s", "layer_norm": "u", "rms_norm": "u", "embedding": "e",
}  # fmt: skip
OTHERS = {"input": "x", "parameter": "w", "constant": "c", "op": "t", "loss": "loss"}


def short_names(graph: Graph, nodes: Iterable[Node], *, paths: bool = False) -> dict[str, str]:
    """Return a name for each of these nodes, by id: the user's, if it is short; else a letter, with a number.

    With `paths`, parameters of modules keep their whole path.

    >>> import tinygrad_sm as sm
    >>> w, x = sm.Tensor(2.0, requires_grad=True, name="w"), sm.Tensor(3.0)
    >>> graph = sm.Graph((w * x + 1.0).tanh())
    >>> list(short_names(graph, graph).values())
    ['w', 'x', 't1', 't2', 'loss']
    """
    nodes = list(nodes)
    wanted = {node.id: full_name(node) if paths and _owned(node) else _wish(graph, node) for node in nodes}
    given = {node.id for node in nodes if _usable(node) or (paths and _owned(node))}
    times = Counter(wanted.values())
    seen: Counter[str] = Counter()
    first = {wanted[node.id]: node.id for node in reversed(nodes) if node.id in given}
    found: dict[str, str] = {}
    taken = {wanted[id] for id in given}
    for node in nodes:
        base = wanted[node.id]
        if times[base] == 1 or first.get(base) == node.id:
            found[node.id] = base
            continue
        seen[base] += 1
        k = seen[base] + (base in first)
        while f"{base}{k}" in taken:
            k += 1
            seen[base] += 1
        found[node.id] = f"{base}{k}"
        taken.add(found[node.id])
    return found


def _owned(node: Node) -> bool:
    return node.op is None and bool(node.scope) and node.name is not None


def _usable(node: Node) -> bool:
    """Tell whether the user's own name can stand in a formula."""
    return bool(node.name and CODE.match(node.name) and not (node.op is None and node.scope) and node.name.isascii())


def _wish(graph: Graph, node: Node) -> str:
    if _usable(node):
        return str(node.name)
    uses = graph.edges_from(node)
    if node.op is not None:
        attended = [edge.position for edge in uses if graph[edge.target].op == "attention" and edge.position < 3]
        return "loss" if node.role == "loss" else "qkv"[attended[0]] if attended else LETTERS.get(node.op, "t")
    user = graph[uses[0].target] if uses else None
    if user is not None and user.op in REGISTRY and (node.role != "input" or user.op == "attention"):
        letters = arguments_of(REGISTRY[user.op])
        position = uses[0].position
        if position < len(letters) and letters[position] not in "abx" and letters[position].isascii():
            return letters[position]
        if position < len(letters) and user.op in ("linear", "layer_norm") and letters[position] in "bx":
            return letters[position] if node.role != "parameter" or position else OTHERS[node.role]
    return OTHERS[node.role]


def full_name(node: Node) -> str:
    """Return the user's name of a node, made fit to be shown."""
    return visible(node.name or node.label, limit=LONGEST)
