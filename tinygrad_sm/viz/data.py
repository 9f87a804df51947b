"""What the interactive page and `.json` files hold of a graph: plain dicts and lists, ready for JSON.

A number that JSON does not know is a string: "NaN", "inf", "-inf". An array is given by at most 6 × 8 `cells`, which
are means of blocks where it is larger (`means`), and by statistics of all its elements.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..graph import Edge, Node, rms
from ..tensor import Array
from .cards import SHOW, card, cells, module_card
from .fold import View
from .groups import Group, statistics
from .picture import as_card, looks
from .states import EXPLODING, State, of_group
from .svg import fragment

CELL_TAG = re.compile(r'<rect [^>]*width="10" height="10" [^>]*/>')  # the page draws them anew from `cells`
Part = tuple[View, Mapping[str, State]]


def data(
    parts: Sequence[Part], *, names: Sequence[str] = (), title: str, alt: str, direction: str, cards: bool
) -> dict[str, Any]:
    """Return all that is known of one graph, or of several that have `names` and are drawn beside each other.

    `cards` adds how each card looks, as SVG. The ids of several graphs begin with "a_", "b_" and so on; the boxes "a",
    "b" hold them.
    """
    if names:
        return _joined([data([part], title=title, alt=alt, direction=direction, cards=cards) for part in parts], names)
    found: dict[str, Any] = {
        "title": title, "alt": alt, "direction": direction, "nodes": {}, "edges": [], "boxes": {}, "flows": {},
        "order": [], "has_gradients": any(view.graph.has_gradients for view, _ in parts),
    }  # fmt: skip
    for view, states in parts:
        graph = view.graph
        sizes = [rms(edge.share) for edge in graph.edges if edge.share is not None]
        largest = max((size for size in sizes if size <= EXPLODING), default=0.0)
        found["nodes"] |= {node.id: _node(node, view, states.get(node.id, State()), cards) for node in graph}
        found["edges"] += [_edge(edge, largest) for edge in graph.edges]
        found["boxes"] |= {id: _box(group, view, states, cards) for id, group in view.tree.groups.items()}
        found["flows"] |= _flows(view)
        found["order"] += [node.id for node in graph.backward_order()]
    return found


def _joined(found: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Put several graphs side by side, each in a box."""
    whole = {**found[0], "nodes": {}, "edges": [], "boxes": {}, "flows": {}, "order": []}
    for letter, name, part in zip("abcdefgh", names, found, strict=False):
        whole["boxes"][letter] = {
            "label": name, "parent": None, "open": True, "times": 1, "nodes": len(part["nodes"]), "is_module": True,
            "parameters": 0, "grad_of": "result", "grad": None,
        }  # fmt: skip
        for id, node in part["nodes"].items():
            whole["nodes"][f"{letter}_{id}"] = {**node, "box": f"{letter}_{node['box']}" if node["box"] else letter}
        for id, box in part["boxes"].items():
            whole["boxes"][f"{letter}_{id}"] = {
                **box,
                "parent": f"{letter}_{box['parent']}" if box["parent"] else letter,
            }
        for edge in part["edges"]:
            ends = {key: f"{letter}_{edge[key]}" for key in ("id", "source", "target")}
            whole["edges"].append({**edge, **ends})
        for pair, size in part["flows"].items():
            source, _, box_id = pair.partition(">")
            whole["flows"][f"{letter}_{source}>{letter}_{box_id}"] = size
        whole["order"] += [f"{letter}_{id}" for id in part["order"]]
        whole["has_gradients"] |= part["has_gradients"]
    return whole


def _node(node: Node, view: View, state: State, cards: bool) -> dict[str, Any]:
    found = {
        "role": node.role, "name": None if node.name is None else str(node.name), "op": node.op, "label": node.label,
        "options": node.options, "formula": node.formula, "gradient": node.gradient, "box": view.tree.home[node.id],
        "scope": " / ".join(map(str, node.scope)), "shape": str(node.shape), "dtype": str(node.dtype),
        "source": node.source, "requires_grad": node.requires_grad,
        "value": summary(node.value if node.known else np.zeros(0)),
        "grad": None if node.grad is None else summary(node.grad),
        "state": {"kind": state.kind, "text": state.text} if state.kind else None,
    }  # fmt: skip
    if cards:
        look = _look(*card(node, view.graph, state, SHOW), node.id, node.role)
        found["card"] = {**look, "svg": CELL_TAG.sub("", look["svg"])}
    return found


def _look(label: str, style: Any, id: str, kind: str) -> dict[str, Any]:
    text, width, height = fragment(label, as_card(id, label, None, kind, style, ""))
    return {"svg": text, "width": width, "height": height, "class": f"node {kind}"}


def _edge(edge: Edge, largest: float) -> dict[str, Any]:
    size = None if edge.share is None else rms(edge.share)
    color, width, style = looks(size, largest)
    return {
        "id": edge.id, "source": edge.source, "target": edge.target, "position": edge.position,
        "share": None if edge.share is None else _cells(edge.share), "rms": plain_number(size),
        "color": color, "width": width, "style": style,
    }  # fmt: skip


def _box(group: Group, view: View, states: Mapping[str, State], cards: bool) -> dict[str, Any]:
    inside = statistics(group)
    found: dict[str, Any] = {
        "label": str(group.label), "parent": group.parent, "open": group.id in view.open, "times": len(group.parts),
        "nodes": len(group.nodes), "is_module": group.is_module,
        "parameters": sum(node.value.size for node in group.nodes if node.role == "parameter"),
        "grad_of": "parameters", "grad": None,
    }  # fmt: skip
    if inside is not None:
        sizes = {"rms": plain_number(inside.rms), "max": plain_number(inside.peak), "zeros": inside.zeros}
        found |= {"grad_of": inside.of, "grad": sizes}
    if cards:
        label, style = module_card(group, view.graph, of_group(group.nodes, states), SHOW)
        found["card"] = _look(label, style, group.id, "module")
    return found


def _flows(view: View) -> dict[str, Any]:
    """Return the RMS of what comes back to a node from all its uses inside a group, "n6>b3"; for each such pair."""
    pairs = {}
    for edge in view.graph.edges:
        for id in view.tree.around[edge.target]:
            if id not in view.tree.around[edge.source]:
                pairs[f"{edge.source}>{id}"] = (view.graph[edge.source], view.tree.groups[id])
    return {key: plain_number(view.flow(*pair)) for key, pair in pairs.items()}


def summary(array: Array) -> dict[str, Any]:
    """Return cells and statistics of an array.

    >>> summary(np.array([1.0, 0.0, np.nan]))["max"], summary(np.array([1.0, 0.0, np.nan]))["nan"]
    (1.0, 1)
    """
    x = array.astype(np.float64)
    finite = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        low, high, mean = (finite.min(), finite.max(), finite.mean()) if finite.size else (None, None, None)
    return {
        **_cells(array), "min": plain_number(low), "max": plain_number(high), "mean": plain_number(mean),
        "rms": plain_number(rms(finite)), "zeros": float((x == 0).mean()) if x.size else 0.0,
        "nan": int(np.isnan(x).sum()), "inf": int(np.isinf(x).sum()),
    }  # fmt: skip


def _cells(array: Array) -> dict[str, Any]:
    if not array.size:
        return {"cells": [], "means": False}
    grid = cells(array)
    return {"cells": [[plain_number(x) for x in row] for row in grid.tolist()], "means": grid.size < array.size}


def plain_number(x: Any) -> Any:
    """Return a number with six digits, or the name of one that JSON does not know."""
    if x is None:
        return None
    x = float(x)
    return float(f"{x:.6g}") if math.isfinite(x) else "NaN" if x != x else "inf" if x > 0 else "-inf"
