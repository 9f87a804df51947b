"""A picture in DOT, the language of Graphviz.

The text keeps to what every Graphviz engine sets alike: fonts Arial and Courier, ASCII, HTML-like labels, plain
clusters; node `n7` and edge `e_n6_n7` carry the ids of the `Graph`, in the text and in the SVG.
"""

from __future__ import annotations

import graphviz

from .cards import escaped
from .picture import Arrow, Box, Picture


def dot(picture: Picture) -> str:
    """Return the DOT text of a picture."""
    whole = graphviz.Digraph(
        "tinygrad_sm",
        graph_attr={
            "rankdir": picture.direction, "bgcolor": "#FFFFFF", "fontname": "Arial", "fontsize": "10",
            "nodesep": "0.22", "ranksep": "0.30", "pad": "0.22", "labelloc": "b",
            "label": f"<{picture.legend}>" if picture.legend else "",
        },
        node_attr={"shape": "box", "fontname": "Arial", "fontsize": "11", "margin": "0.05,0.02", "height": "0.2"},
        edge_attr={"color": "#94A3B8", "arrowsize": "0.55", "fontname": "Courier", "fontsize": "8"},
    )  # fmt: skip
    inside = whole
    if picture.heading:
        inside = _cluster("title", "title", picture.heading, style="", peripheries="0")
    boxes = {box.id: _box(n, box) for n, box in enumerate(picture.boxes)}
    for card in picture.cards:
        (inside if card.box is None else boxes[card.box]).node(
            card.id, f"<{card.label}>", id=card.id, tooltip=escaped(card.tooltip), color=card.border,
            fillcolor=card.fill, style=card.style, penwidth=f"{card.penwidth:g}", **{"class": card.kind},
        )  # fmt: skip
    depth: dict[str | None, int] = {None: 0}
    for box in picture.boxes:
        depth[box.id] = depth[box.parent] + 1
    for box in sorted(picture.boxes, key=lambda box: -depth[box.id]):  # a box is copied into the one around it
        (inside if box.parent is None else boxes[box.parent]).subgraph(boxes[box.id])
    if inside is not whole:
        whole.subgraph(inside)
    for arrow in picture.arrows:
        whole.edge(arrow.source, arrow.target, id=arrow.id, **_looks(arrow))
    text: str = whole.source
    return text


def _box(n: int, box: Box) -> graphviz.Digraph:
    return _cluster(str(n), box.id, box.label, tooltip=escaped(box.tooltip) or " ")


def _cluster(name: str, id: str, label: str, *, tooltip: str = " ", **attributes: str) -> graphviz.Digraph:
    return graphviz.Digraph(
        f"cluster_{name}",
        graph_attr={
            "id": id, "label": f"<{label}>", "labeljust": "l", "labelloc": "t", "tooltip": tooltip,
            "style": "rounded,filled", "peripheries": "1", "color": "#DDE3EA", "fillcolor": "#F7F9FB", "margin": "9",
            **attributes,
        },
    )  # fmt: skip


def _looks(arrow: Arrow) -> dict[str, str]:
    looks = {"color": arrow.color, "penwidth": f"{arrow.penwidth:g}", "style": arrow.style, "tooltip": arrow.tooltip}
    if arrow.label:
        looks["label"] = f"<{arrow.label}>"
    return {key: text for key, text in looks.items() if text}
