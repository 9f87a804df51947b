"""What the interactive page and `.json` files hold of a graph: plain dicts and lists, ready for JSON.

A number that JSON does not know is a string: "NaN", "inf", "-inf". An array is given by at most 6 × 8 `cells`, which
are means of blocks where it is larger (`means`), and by statistics of all its elements.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Edge, Node, rms
from ..tensor import Array
from .cards import card, cells, module_card
from .fold import View
from .groups import Group, statistics, summed
from .picture import Part, as_card
from .states import State, of_group
from .svg import fragment

CELL_TAG = re.compile(r'<rect [^>]*width="10" height="10" [^>]*/>')  # the page draws them anew from `cells`


def data(
    parts: Sequence[Part], *, names: Sequence[str] = (), title: str, alt: str, direction: str, cards: bool
) -> dict[str, Any]:
    """Return all that is known of one graph, or of two that have `names` and are drawn beside each other.

    `cards` adds how each card looks, as SVG. The ids of two graphs begin with "a_" and "b_"; the boxes "a" and "b" hold
    them.
    """
    found = [_of_one(part, cards) for part in parts]
    whole = _joined(found, names) if names else found[0]
    return {"title": title, "alt": alt, "direction": direction, **whole}


def _of_one(part: Part, cards: bool) -> dict[str, Any]:
    view, graph = part.view, part.view.graph
    return {
        "nodes": {node.id: _node(node, part, cards) for node in graph},
        "edges": [_edge(edge) for edge in graph.edges],
        "boxes": {id: _box(group, part, cards) for id, group in view.tree.groups.items()},
        "flows": _flows(view),
        "order": [node.id for node in graph.backward_order()],
        "has_gradients": graph.has_gradients,
        "notes": [part.said] if part.said else [],
    }


def _joined(found: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Put two graphs side by side, each in a box that stays open."""
    whole: dict[str, Any] = {
        "nodes": {}, "edges": [], "boxes": {}, "flows": {}, "order": [],
        "has_gradients": any(part["has_gradients"] for part in found),
        "notes": ["thick blue border: in this graph only; blue label: differs from the other graph"],
    }  # fmt: skip
    for letter, name, part in zip("ab", names, found, strict=True):
        outermost = [box for box in part["boxes"].values() if box["parent"] is None]

        def own(id: str | None, letter: str = letter) -> str:
            return f"{letter}_{id}" if id else letter

        whole["boxes"][letter] = {
            "label": name, "parent": None, "open": True, "fixed": True, "times": 1, "nodes": len(part["nodes"]),
            "is_module": False, "parameters": sum(box["parameters"] for box in outermost),
            "grad_of": "parameters", "grad": None,
        }  # fmt: skip
        whole["nodes"] |= {own(id): {**node, "box": own(node["box"])} for id, node in part["nodes"].items()}
        whole["boxes"] |= {own(id): {**box, "parent": own(box["parent"])} for id, box in part["boxes"].items()}
        for edge in part["edges"]:
            whole["edges"].append({**edge, **{key: own(edge[key]) for key in ("id", "source", "target")}})
        for pair, size in part["flows"].items():
            source, _, target = pair.partition(">")
            whole["flows"][f"{own(source)}>{own(target)}"] = size
        whole["order"] += map(own, part["order"])
    return whole


def _node(node: Node, part: Part, cards: bool) -> dict[str, Any]:
    state = part.states.get(node.id, State())
    found = {
        "role": node.role, "name": None if node.name is None else str(node.name), "op": node.op, "label": node.label,
        "options": node.options, "formula": node.formula, "gradient": node.gradient,
        "box": part.view.tree.home[node.id], "scope": " / ".join(map(str, node.scope)), "shape": str(node.shape),
        "size": node.value.size, "dtype": str(node.dtype), "source": node.source,
        "requires_grad": node.requires_grad, "value": summary(node.value if node.known else np.zeros(0)),
        "grad": None if node.grad is None else summary(node.grad),
        "seed": None if node.seed is None else _cells(node.seed), "hooked": node.hooked,
        "state": {"kind": state.kind, "text": state.text} if state.kind else None,
    }  # fmt: skip
    if cards:
        label, style = card(node, part.view.graph, state, part.show, fill=part.fills.get(node.id))
        look = _look(label, style, node.id, node.role)
        found["card"] = {**look, "svg": CELL_TAG.sub("", look["svg"])}
    return found


def _look(label: str, style: Any, id: str, kind: str) -> dict[str, Any]:
    text, width, height = fragment(label, as_card(id, label, None, kind, style, ""))
    return {"svg": text, "width": width, "height": height, "class": f"node {kind}"}


def _edge(edge: Edge) -> dict[str, Any]:
    share = edge.share
    return {
        "id": edge.id, "source": edge.source, "target": edge.target, "position": edge.position,
        "share": None if share is None else _cells(share), "rms": None if share is None else plain_number(rms(share)),
    }  # fmt: skip


def _box(group: Group, part: Part, cards: bool) -> dict[str, Any]:
    inside = statistics(group, part.view.graph)
    found: dict[str, Any] = {
        "label": str(group.label), "parent": group.parent, "open": group.id in part.view.open, "fixed": False,
        "times": len(group.parts), "nodes": len(group.nodes), "is_module": group.is_module,
        "parameters": sum(node.value.size for node in group.nodes if node.role == "parameter"),
        "grad_of": "parameters", "grad": None,
    }  # fmt: skip
    if inside is not None:
        sizes = {"rms": plain_number(inside.rms), "max": plain_number(inside.peak), "zeros": inside.zeros}
        found |= {"grad_of": inside.of, "grad": sizes}
    if cards:
        state, fill = of_group(group.nodes, part.states), part.fills.get(group.id)
        found["card"] = _look(*module_card(group, part.view.graph, state, part.show, fill=fill), group.id, "module")
    return found


def _flows(view: View) -> dict[str, Any]:
    """Return the RMS of what comes back to a node from all its uses in a group, "n6>b3", or in one op, "n6>n7"."""
    found: dict[str, Any] = {}
    around = view.tree.around
    for node in view.graph:
        shares = (
            (id, edge.share)
            for edge in view.graph.edges_from(node)
            for id in (edge.target, *(box for box in around[edge.target] if box not in around[node.id]))
        )
        found |= {f"{node.id}>{id}": plain_number(rms(total)) for id, total in summed(shares).items()}
    return found


def summary(array: Array) -> dict[str, Any]:
    """Return cells and statistics of an array: smallest, largest and mean of its finite elements, RMS of all.

    >>> summary(np.array([1.0, 0.0, np.nan]))["max"], summary(np.array([1.0, 0.0, np.nan]))["rms"]
    (1.0, 'NaN')
    """
    x = array.astype(np.float64)
    finite = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        low, high, mean = (finite.min(), finite.max(), finite.mean()) if finite.size else (None, None, None)
    return {
        **_cells(array), "min": plain_number(low), "max": plain_number(high), "mean": plain_number(mean),
        "rms": plain_number(rms(x)), "zeros": float((x == 0).mean()) if x.size else 0.0,
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
