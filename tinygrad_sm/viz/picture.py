"""Picture: what a drawing consists of, before anything is placed: cards, the boxes around them, and arrows.

`picture` makes one of what is shown of a graph. `dot.py` writes it in Graphviz's language, and `svg.py`, with
`layout.py`, draws it where no Graphviz is. Labels are what Graphviz calls HTML-like: the tables of `cards.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..graph import Node, rms
from .cards import (
    ALARM,
    CHANGED,
    INK,
    MUTED,
    Style,
    blend,
    card,
    color,
    font,
    module_card,
    number,
    plain,
    table,
)
from .fold import View
from .groups import Group, statistics
from .states import EXPLODING, VANISHING, State, of_group

ONE_LINE = 150  # pictures with more cards have cards of one line
WEAK, STRONG = (0xA0, 0xAC, 0xBE), (0x18, 0x34, 0x78)  # arrows, from the smallest gradient to the largest
LIGHT, DARK = (0xFF, 0xFF, 0xFF), (0xA7, 0x9A, 0xD6)  # the cards of `color_by`, from the smallest to the largest


class Card(NamedTuple):
    """A node of the graph, or a module that is folded into one card."""

    id: str
    label: str  # <TABLE>...</TABLE>
    box: str | None  # the innermost box around it
    kind: str  # its role, "module" if folded: a CSS class
    border: str
    fill: str
    style: str  # "rounded,filled,dashed"
    penwidth: float
    tooltip: str


class Box(NamedTuple):
    """A module, drawn around its cards."""

    id: str
    label: str
    parent: str | None
    tooltip: str


class Arrow(NamedTuple):
    """From the card of an argument to that of the op that uses it."""

    id: str
    source: str
    target: str
    color: str
    penwidth: float
    style: str  # "", "dashed" or "dotted"
    label: str  # the number beside it, or ""
    tooltip: str


@dataclass(frozen=True)
class Picture:
    """All that is drawn; `heading` stands above, `legend` below."""

    cards: Sequence[Card]
    boxes: Sequence[Box]  # outer ones first
    arrows: Sequence[Arrow]
    heading: str
    legend: str
    direction: str  # "TB", "LR", "BT" or "RL"


class Part(NamedTuple):
    """One graph, and how it is shown."""

    view: View
    states: Mapping[str, State]  # what is wrong with which node
    show: Sequence[str]
    fills: Mapping[str, str] = {}  # colours that the user asked for, of nodes and groups
    said: str = ""  # what the legend says of them


def picture(part: Part, *, direction: str, title: str | None) -> Picture:
    """Return the picture of what is shown of a graph."""
    view, found, show, fills, _ = part
    graph, one_line = view.graph, len(view.shown) > ONE_LINE
    cards = []
    for item in view.shown:
        fill = fills.get(item.id)
        if isinstance(item, Group):
            state, kind = of_group(item.nodes, found), "module"
            label, style = module_card(item, graph, state, show, one_line, fill)
            tooltip = " | ".join(filter(None, [item.label, f"nodes: {len(item.nodes)}", state.text]))
        else:
            kind = item.role
            label, style = card(item, graph, found.get(item.id, State()), show, one_line, fill)
            tooltip = _tooltip(item)
        cards.append(as_card(item.id, label, view.parent(item), kind, style, plain(tooltip, 400)))
    heading = font(plain(title or "", 100), 14, INK, bold=True).html
    arrows = _arrows(view, direction, "grad" in show and graph.has_gradients)
    return Picture(cards, _boxes(view), arrows, heading, _legend(part), direction)


def as_card(id: str, label: str, box: str | None, kind: str, style: Style, tooltip: str) -> Card:
    """Return the card with this label, which has the looks of `style`."""
    return Card(id, label, box, kind, style.border, style.fill, style.shape, style.penwidth, tooltip)


def _boxes(view: View) -> list[Box]:
    """Return the open modules that hold something, outer ones first."""
    groups = view.tree.groups
    return [
        Box(id, font(plain(group.label) or " ", 10, MUTED, bold=True).html, view.parent(group),
            plain(" / ".join(group.scope), 200))
        for id, group in groups.items() if group.is_module and id in view.open
    ]  # fmt: skip


def _tooltip(node: Node) -> str:
    """Say in words what stands on a card, and what does not fit on it."""
    call = node.label if node.op is None else f"{node.label}({node.options})"
    parts = [f"{node.id} {call}", node.name, f"{node.dtype}{node.shape}", node.formula]
    if node.gradient:
        parts.append(f"backward: {node.gradient}")
    parts.append(f"value RMS {number(rms(node.value))}" if node.known else "value not kept")
    if node.grad is not None:
        parts.append(f"grad RMS {number(rms(node.grad))}")
    parts.append(node.source)
    return " | ".join(plain(part, 120) for part in parts if part)


# -- arrows -------------------------------------------------------------------------------------


def _arrows(view: View, direction: str, measured: bool) -> list[Arrow]:
    sizes = [link.size for link in view.links if link.size is not None]
    largest = max((size for size in sizes if size <= EXPLODING), default=0.0)
    arrows = []
    for link in view.links:
        if not measured:
            arrows.append(Arrow(link.id, link.source, link.target, "#94A3B8", 1.0, "", "", ""))
            continue
        color, width, style = looks(link.size, largest)
        ink, bold = (ALARM, True) if color == ALARM else (MUTED, False)
        text = "" if link.size is None else number(link.size, 2)
        label = font(f"  {text}", 8.5, ink, bold=bold, mono=True).html if text else ""
        if label and direction in ("LR", "RL"):  # the number stands above its arrow: lift it
            label = table(f"<TD>{label}</TD>", '<TD HEIGHT="5"></TD>')
        tooltip = f"gradient RMS {text}" if text else "no gradient"
        arrows.append(Arrow(link.id, link.source, link.target, color, width, style, label, tooltip))
    return arrows


def looks(size: float | None, largest: float) -> tuple[str, float, str]:
    """Return colour, width and style of an arrow along which a gradient of this RMS came back."""
    if size is None:
        return "#9CA3AF", 1.0, "dashed"
    if not size < math.inf:
        return ALARM, 1.8, "dashed"
    if size > EXPLODING:
        return ALARM, 5.0, ""
    if size == 0:
        return "#C3CBD6", 0.8, ""
    if size < VANISHING:
        return "#9CA3AF", 1.0, "dotted"
    strength = (size / largest) ** 0.7
    return blend(WEAK, STRONG, strength), round(1 + 2.8 * strength, 2), ""


# -- colours that the user asked for ------------------------------------------------------------


def colours(view: View, color_by: str | Callable[[Node], Any] | None) -> tuple[dict[str, str], str]:
    """Return the colour of each node and group, and what the legend says of them.

    The smallest number of what is shown is light, and the largest dark.
    """
    if color_by is None:
        return {}, ""
    if color_by != "grad" and not callable(color_by):
        raise ValueError(f"draw: color_by is 'grad' or a function of a node, not {color_by!r}")
    log = not callable(color_by)
    measure = _measured(color_by) if callable(color_by) else _gradient_size(view)
    what = "gradient RMS" if log else getattr(color_by, "__name__", "color_by")
    found = {item.id: measure(item) for item in (*view.graph, *view.tree.groups.values())}
    fills = {id: value for id, value in found.items() if isinstance(value, str)}
    numbers = {id: float(x) for id, x in found.items() if x is not None and not isinstance(x, str)}
    numbers = {id: x for id, x in numbers.items() if math.isfinite(x) and (x > 0 or not log)}
    shown = [numbers[item.id] for item in view.shown if item.id in numbers]
    if not shown:
        return fills, "" if fills else "color_by: nothing to measure"
    low, high, scale = min(shown), max(shown), math.log if log else float
    span = scale(high) - scale(low) or 1.0
    for id, x in numbers.items():
        fills[id] = blend(LIGHT, DARK, min(max((scale(x) - scale(low)) / span, 0.0), 1.0))
    name = plain("color_by" if what == "<lambda>" else what)
    return fills, f"card colour: {name}, {number(low, 2)} (light) to {number(high, 2)} (dark){', log' if log else ''}"


def _gradient_size(view: View) -> Callable[[Node | Group], Any]:
    def measure(item: Node | Group) -> float | None:
        if isinstance(item, Node):
            return None if item.grad is None else rms(item.grad)
        found = statistics(item, view.graph)
        return None if found is None else found.rms

    return measure


def _measured(function: Callable[[Node], Any]) -> Callable[[Node | Group], Any]:
    """Return what measures a card: a folded module has the largest of its nodes."""

    def measure(item: Node | Group) -> Any:
        if isinstance(item, Node):
            return _checked(function(item))
        found = [_checked(function(node)) for node in item.nodes]
        return max((x for x in found if isinstance(x, float)), default=next((x for x in found if x is not None), None))

    return measure


def _checked(value: Any) -> Any:
    if isinstance(value, str):
        if not re.fullmatch("#[0-9A-Fa-f]{6}", value):
            raise ValueError(f"draw: color_by returned {value!r}; a colour is written '#RRGGBB'")
        return value
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise TypeError(f"draw: color_by returns a number, '#RRGGBB' or None, not a {type(value).__name__}") from None


# -- words --------------------------------------------------------------------------------------


def _legend(part: Part) -> str:
    """Return the key to the picture: only what this one shows."""
    view, found, show, _, said = part
    graph, strips, words = view.graph, "", []
    if len(view.shown) <= ONE_LINE and ("value" in show or ("grad" in show and graph.has_gradients)):
        steps = [f'<TD BGCOLOR="{color(i / 3)}" WIDTH="12" HEIGHT="9" FIXEDSIZE="TRUE"></TD>' for i in range(-3, 4)]
        strips = f"<TD>{font('- ', 8, MUTED).html}</TD>{''.join(steps)}<TD>{font(' +   ', 8, MUTED).html}</TD>"
        words.append("each strip scaled to its own max")
    if "grad" in show and graph.has_gradients:
        words.append("arrow width and number: RMS gradient flowing back")
    elif "grad" in show:
        wanted = any(node.requires_grad for node in graph)
        words.append("backward not run: the end is not a scalar" if wanted else "nothing here requires a gradient")
    if not graph.edges:
        words.append("no history: made under no_grad, detached, or from data alone")
    rows = [table(f"{strips}<TD>{font('      '.join(words), 8, MUTED).html}</TD>")] if words else []
    kinds = {state.kind for state in found.values()}
    lines = [(said, MUTED)] if said else []
    if "first" in kinds:
        lines.append(("thick orange: NaN or inf starts here      dashed orange: came from there", ALARM))
    if "alone" in kinds or "differs" in kinds:
        lines.append(("thick blue: in this graph only      blue label: differs from the other graph", CHANGED))
    if view.folded_by_itself:
        folded = f"{len(graph):,} nodes, too many for cards: folded into {len(view.shown)}"
        lines.append((f"{folded}; expand=, depth= and max_nodes= open them", MUTED))
    rows += [table(f"<TD>{font(text, 8, ink).html}</TD>") for text, ink in lines]
    return table(*(f"<TD>{row}</TD>" for row in rows), spacing=3) if rows else ""
