"""draw: a picture of what made a tensor, with values, gradients and modules, through Graphviz.

The DOT text keeps to what every Graphviz engine sets alike: fonts Arial and Courier, ASCII, HTML-like labels, plain
clusters; node `n7` and edge `e_n6_n7` carry the ids of the `Graph`, in the text and in the SVG.
"""

from __future__ import annotations

import base64
import html
import os
import tempfile
import webbrowser
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import graphviz
import numpy as np

from ..graph import Graph, Node, rms
from ..ops.options import count
from ..tensor import Tensor
from ..text import visible
from .cards import (
    ALARM,
    EXPLODING,
    INK,
    MUTED,
    VANISHING,
    State,
    blend,
    card,
    color,
    escaped,
    font,
    number,
    plain,
    states,
    table,
)
from .render import NoRenderer, render

SHOW = ("value", "grad", "shape")
DIRECTIONS = ("TB", "LR", "BT", "RL")
ONE_LINE = 150  # graphs with more nodes get cards of one line
WEAK, STRONG = (0xA0, 0xAC, 0xBE), (0x18, 0x34, 0x78)  # arrows, from the smallest gradient to the largest


@dataclass(frozen=True)
class Drawing:
    """A picture of a graph: DOT text, which becomes SVG, PNG or PDF on demand. A notebook shows it by itself."""

    dot: str
    alt: str  # what the picture shows, in words

    def __repr__(self) -> str:
        return f"<Drawing: {self.alt[:80]}>"

    def svg(self) -> str:
        """Return the picture as SVG, ready to stand in a file or in HTML.

        Raises NoRenderer, a RuntimeError that says what to install, if no program is there to draw with.
        """
        text = render(self.dot, "svg").decode(errors="replace")
        return text[text.index("<svg") :]  # without the prologue, whose comment has the renderer's version

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a file ending in .svg, .png, .pdf or .dot, and return its path.

        Raises
        ------
        ValueError
            For another ending.
        NoRenderer
            If no program is there to draw with; the DOT text then stands beside, in a file ending in .dot.
        """
        path = Path(path)
        kind = path.suffix.lower()
        if kind not in (".svg", ".png", ".pdf", ".dot"):
            raise ValueError(f"save: the file name must end in .svg, .png, .pdf or .dot; got {path.name!r}")
        try:
            text = self.svg() if kind == ".svg" else self.dot
            data = render(text, kind[1:]) if kind in (".png", ".pdf") else text.encode()
        except NoRenderer as error:
            beside = path.with_suffix(".dot")
            beside.write_bytes(self.dot.encode())
            raise NoRenderer(
                f"{visible(path.name)} is not written, but its DOT text is, to {visible(beside)}: {error}"
            ) from None
        path.write_bytes(data)
        return path

    def open(self) -> Path:
        """Show the picture in the system's web browser; return the path of the SVG file that it shows.

        The file is a temporary one, which the system clears away some day. Raises NoRenderer, as `svg` does.
        """
        handle, name = tempfile.mkstemp(".svg", "tinygrad_sm_")
        os.close(handle)
        path = self.save(name)
        webbrowser.open(path.as_uri())
        return path

    def _repr_html_(self) -> str:
        try:
            svg = self.svg()
        except NoRenderer as error:
            return f"<p>{html.escape(str(error))}</p><pre>{html.escape(self.dot)}</pre>"
        data = base64.b64encode(svg.encode()).decode()  # an <img> outlives saving and reopening untrusted
        return f'<img alt="{html.escape(self.alt)}" style="max-width:100%" src="data:image/svg+xml;base64,{data}">'


def draw(
    tensor_or_tensors: Tensor | Sequence[Tensor] | Graph | Callable[..., Any],
    *inputs: Any,
    show: Sequence[str] = SHOW,
    direction: str = "TB",
    title: str | None = None,
    max_nodes: int = 400,
) -> Drawing:
    """Draw what made a tensor: one card for each tensor, with its value and gradient, in the boxes of its modules.

    Arrows show the forward flow; their width and number, the gradient that comes back along them (RMS). The gradients
    are computed for the picture alone: no `.grad` is touched, and `backward()` need not have run.

    Parameters
    ----------
    tensor_or_tensors : Tensor, sequence of Tensors, Graph, or Module
        Where the picture ends; a scalar, if it shall have gradients. `Graph(t, gradient)` starts from any. A module
        is applied to the inputs, and the picture ends at what it returns.
    *inputs
        What to apply a module to: `draw(model, x)` is `draw(model(x))`.
    show : sequence of {"value", "grad", "shape"}
        What the cards show.
    direction : {"TB", "LR", "BT", "RL"}
        Where the graph runs: top to bottom, left to right, and so on.
    title : str, optional
        Stands above the picture.
    max_nodes : int
        Larger graphs are refused.

    Returns
    -------
    Drawing
        With `.dot`, `.svg()` and `.save("x.svg")`.

    Raises
    ------
    TypeError
        If it is not given Tensors.
    ValueError
        For an unknown option; for a graph of more than `max_nodes` nodes.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> from tinygrad_sm.viz.dot import draw
    >>> x = sm.Tensor([1.0, 2.0], requires_grad=True, name="x")
    >>> draw(x.exp().sum()).alt
    'Computation graph of sum: 3 nodes (1 parameter, 1 op, 1 loss), 2 edges.'
    """
    ends: Any = tensor_or_tensors
    if inputs and hasattr(ends, "parameters") and callable(ends):
        ends, inputs = ends(*inputs), ()
    _check_ends(ends, inputs)
    count(max_nodes, "max_nodes", "draw")
    if isinstance(show, str) or not isinstance(show, Iterable):
        show = (show,)
    if unknown := [s for s in show if s not in SHOW]:
        raise ValueError(f"draw: show takes {', '.join(map(repr, SHOW))}; got {unknown[0]!r}")
    if direction not in DIRECTIONS:
        raise ValueError(f"draw: direction must be one of {', '.join(map(repr, DIRECTIONS))}, not {direction!r}")
    graph = ends if isinstance(ends, Graph) else Graph(ends)
    if len(graph) > max_nodes:
        raise ValueError(
            f"draw: this graph has {len(graph)} nodes, more than max_nodes={max_nodes}. Draw a part of it, or pass "
            f"max_nodes={len(graph)}"
        )
    found = states(graph)
    return Drawing(_source(graph, found, show, direction, title), _in_words(graph, found))


def _check_ends(ends: Any, more: tuple[Any, ...]) -> None:
    """Say what to draw instead of a model, an array or a second tensor."""
    if more:
        if isinstance(more[0], (str, os.PathLike)):
            raise TypeError(f"draw takes no file name; save the picture: draw(t).save({str(more[0])!r})")
        raise TypeError(
            "draw takes one tensor, or several in a tuple: draw((a, b)); its options have names: show=, title="
        )
    for end in ends if isinstance(ends, (tuple, list)) else (ends,):
        if isinstance(end, np.ndarray):
            raise TypeError("draw: an array does not know what made it; draw the Tensor that an op on Tensors returned")
        if hasattr(end, "parameters"):
            raise TypeError(f"draw: a {type(end).__name__} is drawn applied to an input: draw(model, x)")
        if not isinstance(end, (Tensor, Graph)):
            raise TypeError(f"draw takes a Tensor, a tuple of Tensors or a Graph, not a {type(end).__name__}")
    if isinstance(ends, (tuple, list)) and not ends:
        raise ValueError("draw: the sequence holds no tensor")


def _source(graph: Graph, found: dict[str, State], show: Sequence[str], direction: str, title: str | None) -> str:
    """Return the DOT text."""
    picture = graphviz.Digraph(
        "tinygrad_sm",
        graph_attr={
            "rankdir": direction, "bgcolor": "#FFFFFF", "fontname": "Arial", "fontsize": "10",
            "nodesep": "0.22", "ranksep": "0.30", "pad": "0.22", "labelloc": "b", "label": _legend(graph, found, show),
        },
        node_attr={"shape": "box", "fontname": "Arial", "fontsize": "11", "margin": "0.05,0.02", "height": "0.2"},
        edge_attr={"color": "#94A3B8", "arrowsize": "0.55", "fontname": "Courier", "fontsize": "8"},
    )  # fmt: skip
    boxes = {(): picture, **_scope_boxes(graph)}
    heading = font(plain(title or "", 100), 14, INK, bold=True).html
    if heading:
        boxes[()] = _box("cluster_title", "title", heading, style="", peripheries="0")
    for node in graph:
        label, style = card(node, graph, found.get(node.id, State()), show, len(graph) > ONE_LINE)
        boxes[node.scope].node(
            node.id, label, id=node.id, tooltip=_tooltip(node), color=style.border, fillcolor=style.fill,
            style=style.shape, penwidth=f"{style.penwidth:g}", **{"class": node.role},
        )  # fmt: skip
    for path in sorted(boxes, key=len, reverse=True):  # innermost first: a box is copied into the one around it
        if path:
            boxes[path[:-1]].subgraph(boxes[path])
    if heading:
        picture.subgraph(boxes[()])
    sizes = {edge.id: rms(edge.share) for edge in graph.edges if edge.share is not None}
    largest = max((size for size in sizes.values() if size <= EXPLODING), default=0.0)
    for edge in graph.edges:
        size = sizes.get(edge.id)
        look = _arrow(size, largest, direction) if "grad" in show and graph.has_gradients else {}
        picture.edge(edge.source, edge.target, id=edge.id, **look)
    return picture.source


def _scope_boxes(graph: Graph) -> dict[tuple[str, ...], graphviz.Digraph]:
    """Return an empty box for each module, by its path; outer ones first."""
    boxes: dict[tuple[str, ...], graphviz.Digraph] = {}
    for node in graph:
        for depth in range(1, len(node.scope) + 1):
            path, n = node.scope[:depth], len(boxes)
            if path not in boxes:
                label = font(plain(path[-1]) or " ", 10, MUTED, bold=True).html
                boxes[path] = _box(f"cluster_{n}", f"scope_{n}", label, tooltip=plain(" / ".join(path), 200))
    return boxes


def _box(name: str, id: str, label: str, *, tooltip: str = " ", **attributes: str) -> graphviz.Digraph:
    return graphviz.Digraph(
        name,
        graph_attr={
            "id": id, "label": f"<{label}>", "labeljust": "l", "labelloc": "t", "tooltip": escaped(tooltip),
            "style": "rounded,filled", "peripheries": "1", "color": "#DDE3EA", "fillcolor": "#F7F9FB", "margin": "9",
            **attributes,
        },
    )  # fmt: skip


def _tooltip(node: Node) -> str:
    """Say in words what stands on a card, and what does not fit on it."""
    call = node.label if node.op is None else f"{node.label}({node.options})"
    parts = [f"{node.id} {call}", node.name, f"{node.dtype}{node.shape}", node.formula]
    if node.gradient:
        parts.append(f"backward: {node.gradient}")
    parts.append(f"value RMS {number(rms(node.value))}")
    if node.grad is not None:
        parts.append(f"grad RMS {number(rms(node.grad))}")
    parts.append(node.source)
    return escaped(" | ".join(plain(part, 120) for part in parts if part))


def _arrow(size: float | None, largest: float, direction: str) -> dict[str, str]:
    """Return the looks of an edge along which a gradient of this RMS came back."""
    if size is None:
        return {"style": "dashed", "color": "#9CA3AF", "penwidth": "1", "tooltip": "no gradient"}
    ink, text, bold = MUTED, number(size, 2), False
    if not size < float("inf"):
        looks, ink, bold = {"style": "dashed", "color": ALARM, "penwidth": "1.8"}, ALARM, True
    elif size > EXPLODING:
        looks, ink, bold = {"color": ALARM, "penwidth": "5"}, ALARM, True
    elif size == 0:
        looks = {"color": "#C3CBD6", "penwidth": "0.8"}
    elif size < VANISHING:
        looks = {"style": "dotted", "color": "#9CA3AF", "penwidth": "1"}
    else:
        strength = (size / largest) ** 0.7
        looks = {"color": blend(WEAK, STRONG, strength), "penwidth": f"{1 + 2.8 * strength:.2f}"}
    label = font(f"  {text}", 8.5, ink, bold=bold, mono=True).html
    if direction in ("LR", "RL"):  # the number stands above its arrow: lift it
        label = table(f"<TD>{label}</TD>", '<TD HEIGHT="5"></TD>')
    return {**looks, "label": f"<{label}>", "tooltip": f"gradient RMS {text}"}


def _legend(graph: Graph, found: dict[str, State], show: Sequence[str]) -> str:
    """Return the key to the picture: only what this one shows."""
    ramp, words = "", []
    if len(graph) <= ONE_LINE and ("value" in show or ("grad" in show and graph.has_gradients)):
        steps = [f'<TD BGCOLOR="{color(i / 3)}" WIDTH="12" HEIGHT="9" FIXEDSIZE="TRUE"></TD>' for i in range(-3, 4)]
        ramp = f"<TD>{font('- ', 8, MUTED).html}</TD>{''.join(steps)}<TD>{font(' +   ', 8, MUTED).html}</TD>"
        words.append("each strip scaled to its own max")
    if "grad" in show and graph.has_gradients:
        words.append("arrow width and number: RMS gradient flowing back")
    elif "grad" in show:
        wanted = any(node.requires_grad for node in graph)
        words.append("backward not run: the end is not a scalar" if wanted else "nothing here requires a gradient")
    rows = [table(f"{ramp}<TD>{font('      '.join(words), 8, MUTED).html}</TD>")] if words else []
    if any(state.kind == "first" for state in found.values()):
        text = "thick orange: NaN or inf starts here      dashed orange: came from there"
        rows.append(table(f"<TD>{font(text, 8, ALARM).html}</TD>"))
    return f"<{table(*(f'<TD>{row}</TD>' for row in rows), spacing=3)}>" if rows else ""


def _in_words(graph: Graph, found: dict[str, State]) -> str:
    """Return the text for those who cannot see the picture."""
    ends = ", ".join(_called(root) for root in graph.roots[:3])
    roles = Counter(node.role for node in graph)
    kinds = ", ".join(_counted(n, role) for role, n in roles.items())
    nodes, edges = _counted(len(graph), "node"), _counted(len(graph.edges), "edge")
    text = f"Computation graph of {ends}: {nodes} ({kinds}), {edges}."
    first = [node for node in graph if node.id in found and found[node.id].kind == "first"]
    return text + "".join(f" {_called(node)}: {found[node.id].text[2:]}." for node in first[:5])


def _called(node: Node) -> str:
    return plain("" if node.name is None else node.name) or plain(node.label)


def _counted(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}es" if word.endswith("s") else f"{n} {word}s"
