"""The steps of a backward pass in their order, where a folded module is one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..graph import Edge, Graph, Node, dotted, rms
from ..tensor import Array
from ..text import visible
from ..viz.fold import View
from ..viz.groups import Group, joint_rms, summed
from .arrays import number
from .derivations import DERIVATIONS, derivation
from .document import Block, gradient_span
from .op_notes import NOTES, Note
from .steps import arrivals, contributions, step

LONGEST = 60  # characters of a module's label


def all_steps(graph: Graph, view: View, names: Mapping[str, str], numbers: int, *, derive: bool) -> Iterator[Block]:
    """Yield the blocks of each step, newest first; a module that is folded is one."""
    place = {node.id: k for k, node in enumerate(graph)}
    folded = {id: _path(view.tree.groups[by]) for id, by in view.of.items() if id != by}
    count, scope, explained = 0, tuple[str, ...](), set[str]()
    for item in sorted(view.shown, key=lambda item: -_last(item, place)):
        if isinstance(item, Node) and item.grad is None:
            continue
        if isinstance(item, Node) and item.op is None:
            users = [edge for edge in graph.edges_from(item) if edge.share is not None]
            if contributions(graph, item) > 1 and all(view.of[e.target] == e.target for e in users):
                yield Block("heading", f"Sum: {_leaf(item)} `{names[item.id]}`")
                yield from arrivals(graph, item, names, numbers, folded)
            continue
        around = item.scope if isinstance(item, Node) else item.scope[:-1]
        if view.tree.groups and around != scope:
            scope = around
            if around and not dotted(around):
                yield Block("text", f"In the `{_kind(around[-1])}`:")
            elif around:
                yield Block(
                    "text", f"In `{visible(dotted(around) or around[-1], limit=LONGEST)}` ({_kind(around[-1])}):"
                )
            else:
                yield Block("text", "Outside the modules:")
        count += 1
        if isinstance(item, Group):
            yield from _group(graph, view, item, names, count, numbers)
            continue
        yield from step(graph, item, names, count, numbers, folded)
        if derive:
            why = NOTES.get(str(item.op), Note()).why if item.op not in explained | set(DERIVATIONS) else ""
            explained.add(str(item.op))
            if why:
                yield Block("text", why, label=" ")
            yield from derivation(graph, item, names, numbers)


def _leaf(node: Node) -> str:
    return {"parameter": "the parameter", "input": "the input"}.get(node.role, "the leaf")


def _kind(label: str) -> str:
    return visible(label.rpartition(": ")[2], limit=LONGEST)


def _last(item: Node | Group, place: Mapping[str, int]) -> int:
    """Return when an item was finished: leaves of a module are older than what it computes."""
    return place[item.id] if isinstance(item, Node) else max(place[node.id] for node in item.nodes)


# -- a folded module ------------------------------------------------------------------------------


def _group(
    graph: Graph, view: View, group: Group, names: Mapping[str, str], count: int, numbers: int
) -> Iterator[Block]:
    path = _path(group)
    ops = [node for node in group.nodes if node.op is not None]
    times = f", {len(group.parts)} equal ones" if len(group.parts) > 1 else ""
    kind = f"{_kind(group.label)}{times}" if group.label != _kind(group.label) else times.removeprefix(", ")
    yield Block("heading", f"Step {count}: `{path}` ({kind or 'a stretch'}, {len(ops)} op{'s' * (len(ops) != 1)})")
    into, out = _through(graph, group.nodes)
    if into:
        yield _said("comes in", _listed(into, names))
    if out:
        yield _said("goes out", _listed(out, names))
        before, after = (joint_rms(list(arrays.values())) for arrays in (into, out))
        if before > 0 and np.isfinite(after):
            yield _said("ratio", f"{number(after / before)}, RMS going out over RMS coming in")
    if len(group.parts) > 1:
        sizes = [joint_rms(list(_through(graph, part)[1].values())) for part in reversed(group.parts)]
        yield _said(
            "each", f"RMS going out, last one first: {', '.join(map(number, sizes[:12]))}" + ", …" * (len(sizes) > 12)
        )
    own = [
        (names[node.id], node.grad) for node in group.nodes if node.op is None and node.scope and node.grad is not None
    ]
    if own:
        words = [f"{name.removeprefix(path + '.')} {number(rms(grad))}" for name, grad in own[:6]]
        more = f", and {len(own) - 6} more" if len(own) > 6 else ""
        yield _said("parameters", f"RMS of their gradients: {', '.join(words)}{more}")
    if group.is_module or any(len(op.scope) >= len(group.scope) for op in ops):
        yield _said("look inside", f'sm.explain(loss, expand="{_expandable(group)}")')


def _path(group: Group) -> str:
    return visible(dotted(group.scope) or group.label, limit=LONGEST)


def _expandable(group: Group) -> str:
    """Return what names a module for `expand`; of equal ones, the last."""
    if len(group.parts) == 1:
        return _path(group)
    op = next((node for node in group.parts[-1] if len(node.scope) >= len(group.scope)), None)
    return visible(dotted(op.scope[: len(group.scope)]), limit=LONGEST) if op is not None else _path(group)


def _through(graph: Graph, nodes: Sequence[Node]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the gradients that come into a part of the graph, and those that go out to earlier ops and inputs."""
    inside = {node.id for node in nodes}
    into = [e for node in nodes if node.op for e in graph.edges_from(node) if e.target not in inside]
    out = [e for node in nodes if node.op for e in graph.edges_into(node) if e.source not in inside]
    starts = [(node.id, node.seed) for node in nodes]  # where the backward pass starts, the start comes in too
    further = [e for e in out if graph[e.source].op is not None or not graph[e.source].scope]
    return summed([*_shares(into), *starts]), summed(_shares(further))


def _shares(edges: Iterable[Edge]) -> list[tuple[str, Array | None]]:
    return [(edge.source, edge.share) for edge in edges]


def _listed(arrays: dict[str, Array], names: Mapping[str, str]) -> str:
    parts = [
        f"{gradient_span(names[id])} = {number(a[()])}"
        if a.ndim == 0
        else f"{gradient_span(names[id])}: {tuple(a.shape)}, RMS {number(rms(a))}"
        for id, a in list(arrays.items())[:3]
    ]
    return "; ".join(parts) + (f", and {len(arrays) - 3} more" if len(arrays) > 3 else "")


def _said(label: str, text: str) -> Block:
    return Block("line", text, label=label)
