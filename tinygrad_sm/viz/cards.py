"""Cards: one node of a graph, or a folded module, as an HTML-like label of Graphviz.

A card says what the node is (pill), its name, its shape, and shows its value and gradient as heat strips; that of a
module, what is inside and the gradient of its parameters.
Graphviz sets the text; the widths here are estimates that let both rows of a card end at the same place.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..graph import Graph, Node, dotted
from ..tensor import Array
from .groups import Group, statistics
from .states import State

INK, MUTED, ALARM, ALARM_FILL, CHANGED = "#111827", "#5B6472", "#C2410C", "#FFF4ED", "#1D4ED8"
Color = tuple[int, int, int]
BLUE, NEUTRAL, ORANGE = (0x26, 0x62, 0xA8), (0xF5, 0xF6, 0xF8), (0xDD, 0x6B, 0x20)  # the strips: − 0 +
SHOW = ("value", "grad", "shape")
ROWS, COLUMNS, CELL = 6, 8, 10  # the largest strip, and the points of a cell


class Style(NamedTuple):
    """How the cards of a role look."""

    title: str  # what the pill of a leaf says
    pill: str
    pill_text: str
    border: str
    fill: str
    ink: str
    muted: str
    shape: str
    penwidth: float


STYLES = {
    "input": Style("input", "#0B62A4", "#FFFFFF", "#0B62A4", "#EEF6FC", INK, MUTED, "filled", 1.4),
    "parameter": Style("param", "#007A5A", "#FFFFFF", "#007A5A", "#EAF6F1", INK, MUTED, "rounded,filled", 1.8),
    "constant": Style("const", "#5B6472", "#FFFFFF", "#5B6472", "#F6F7F9", INK, MUTED, "rounded,filled,dashed", 1.1),
    "op": Style("", "#3B4658", "#FFFFFF", "#94A3B8", "#FFFFFF", INK, MUTED, "rounded,filled", 1.1),
    "module": Style("", "#475569", "#FFFFFF", "#64748B", "#EEF2F7", INK, MUTED, "rounded,filled", 1.6),
    "loss": Style("", "#FFFFFF", "#6D2A73", "#6D2A73", "#6D2A73", "#FFFFFF", "#E9D5EC", "rounded,filled", 1.2),
}


class Part(NamedTuple):
    """A piece of a label, and about how wide it is in points."""

    html: str
    width: float


# -- text ---------------------------------------------------------------------------------------


def plain(text: Any, limit: int = 40) -> str:
    r"""Return any text, such as a name, fit for one line of a label: printable, and short.

    A backslash becomes a slash, since Graphviz reads it as the start of an escape in each kind of text, and a
    character beyond U+FFFF a question mark, since its entity breaks the SVG.

    >>> plain("a\n\x00b" + "c" * 99, 12)
    'a bccc...ccc'
    """
    kept = (c if c.isprintable() else " " if c.isspace() else "" for c in str(text)[:10_000].replace("\\", "/"))
    line = " ".join("".join(c if c <= "\uffff" else "?" for c in kept).split())
    return line if len(line) <= limit else f"{line[: limit // 2]}...{line[len(line) - (limit - 3 - limit // 2) :]}"


def escaped(text: str) -> str:
    """Write text for labels and tooltips, in ASCII: quotes, < and > and letters beyond ASCII become entities."""
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def font(text: str, size: float, color: str, *, bold: bool = False, mono: bool = False) -> Part:
    """Set text, with an estimate of its width."""
    if not text:
        return Part("", 0)
    face = ' FACE="Courier"' if mono else ""
    word = f"<B>{escaped(text)}</B>" if bold else escaped(text)
    width = size * sum(0.6 if mono else _em(c) * (1.06 if bold else 1.0) for c in text)
    return Part(f'<FONT{face} POINT-SIZE="{size:g}" COLOR="{color}">{word}</FONT>', width)


def _em(c: str) -> float:
    """Return about how wide a character of Arial is, relative to the size of the font."""
    return 0.28 if c in " !'()[]ijlft.,:;|/I" else 0.86 if c in "mwMW@%" else 0.7 if c.isupper() else 0.56


def number(x: float, digits: int = 4) -> str:
    """Write a number briefly: "6.234", "1e-09", "NaN", "-inf"; integers below 10,000 in full."""
    return "NaN" if x != x else f"{x:.0f}" if 10**digits <= abs(x) < 10_000 else f"{x:.{digits}g}"


# -- heat strips --------------------------------------------------------------------------------


def cells(array: Array, most: int = COLUMNS) -> Array:
    """Return at most 6 × 8 numbers that stand for an array: means of blocks of its last axis by all others.

    A block with a NaN in it is NaN; one with an inf, inf.

    >>> cells(np.arange(16.0)).tolist()
    [[0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 14.5]]
    """
    grid = array.reshape(-1, array.shape[-1] if array.ndim else 1)
    if grid.shape[0] <= ROWS and grid.shape[1] <= most:
        return grid.astype(np.float64)
    rows, columns = (_cuts(n, limit) for n, limit in zip(grid.shape, (ROWS, most), strict=True))
    return np.array([[_mean(grid[a:b, c:d]) for c, d in columns] for a, b in rows])


def _cuts(n: int, most: int) -> list[tuple[int, int]]:
    """Cut n positions into at most `most` nearly equal runs."""
    k = min(n, most)
    return [(i * n // k, (i + 1) * n // k) for i in range(k)]


def _mean(block: Array) -> float:
    with np.errstate(all="ignore"):
        mean = float(block.mean(dtype=np.float64))
    if math.isfinite(mean):
        return mean
    if np.isfinite(block).all():  # the sum overflowed
        return float((block / block.size).sum(dtype=np.float64))
    return math.nan if np.isnan(block).any() else math.inf


def blend(a: Color, b: Color, amount: float) -> str:
    """Return the colour that lies `amount`, from 0 to 1, on the way from `a` to `b`, as "#RRGGBB"."""
    return "#" + "".join(f"{round(x + (y - x) * amount):02X}" for x, y in zip(a, b, strict=True))


def color(x: float) -> str:
    """Return the colour of a number from −1 (blue) to 1 (orange)."""
    return blend(NEUTRAL, ORANGE if x > 0 else BLUE, min(abs(x), 1.0))


def strip(array: Array, columns: int = COLUMNS) -> Part:
    """Draw an array as a small table of coloured cells, scaled to the largest of them."""
    grid = cells(array, columns)
    peak = float(np.abs(grid[np.isfinite(grid)]).max(initial=0)) or 1.0
    rows = ["".join(_cell(x / peak) for x in row) for row in grid.tolist()]
    height, width = ((CELL + 1) * n + 1 for n in grid.shape)
    return Part(table(*rows, more=f' FIXEDSIZE="TRUE" WIDTH="{width}" HEIGHT="{height}" BGCOLOR="#CBD5E1"'), width)


def _cell(x: float) -> str:
    size = f'WIDTH="{CELL}" HEIGHT="{CELL}" FIXEDSIZE="TRUE"'
    if np.isfinite(x):
        return f'<TD {size} BGCOLOR="{color(x)}"></TD>'
    mark = font("×" if x != x else "∞", 7, "#FFFFFF").html
    return f'<TD {size} BGCOLOR="{INK}">{mark}</TD>'


# -- the card -----------------------------------------------------------------------------------


def card(
    node: Node, graph: Graph, state: State, show: Sequence[str], one_line: bool = False, fill: str | None = None
) -> tuple[str, Style]:
    """Return the label of a node, and the style that its role and state give it."""
    style = STYLES[node.role]
    if fill is not None:
        style = style._replace(fill=fill, ink=INK, muted=MUTED)
        style = style._replace(pill=style.border, pill_text="#FFFFFF") if node.role == "loss" else style
    body = Part("", 0) if one_line else _body(node, graph, style, show)
    name = plain(short(node), 28) if node.name is not None else "loss" if node.role == "loss" else ""
    shape = str(node.shape) if "shape" in show else ""
    words = (style.title or node.label, name, node.options)
    return _assembled(words, shape, [body] if body.html else [], style, state, one_line)


def module_card(
    group: Group, graph: Graph, state: State, show: Sequence[str], one_line: bool = False, fill: str | None = None
) -> tuple[str, Style]:
    """Return the label of a folded module, with statistics of the gradients of its parameters, and its style."""
    style = STYLES["module"] if fill is None else STYLES["module"]._replace(fill=fill)
    name, _, kind = group.label.rpartition(": ")
    parameters = sum(node.value.size for node in group.nodes if node.role == "parameter")
    name += f" x{len(group.parts)}" if len(group.parts) > 1 else ""
    n = len(group.nodes)
    inside = f"{n} node{'s' * (n > 1)}" + (f", {parameters:,} parameters" if parameters else "")
    rows = [] if one_line else [_text_row(inside, style)]
    if not one_line and "grad" in show and graph.has_gradients:
        rows += _gradient_rows(group, graph, style)
    shape = str(group.nodes[-1].shape) if "shape" in show else ""
    return _assembled((kind, name.strip(), ""), shape, rows, style, state, one_line)


def short(node: Node) -> str | None:
    """Return the name of a node as it reads inside the box of its module: "weight" where "fc.weight" stands in fc."""
    around = dotted(node.scope) + "."
    return node.name.removeprefix(around) if node.role == "parameter" and isinstance(node.name, str) else node.name


def _gradient_rows(group: Group, graph: Graph, style: Style) -> list[Part]:
    found = statistics(group, graph)
    if found is None:
        return [_text_row("no gradient", style)]
    zeros = math.floor(1000 * found.zeros) / 10  # 100 % means all
    sizes = f"RMS {number(found.rms, 2)}   max {number(found.peak, 2)}   zeros {zeros:g} %"
    rows = [_text_row(f"grad of {found.of}: {sizes}", style)]
    if len(found.each) > 1:
        ends = f"RMS of each: {number(found.each[0], 2)} ... {number(found.each[-1], 2)}"
        label, picture = font(ends, 8, style.muted), strip(np.array([found.each]), columns=24)
        rows.append(Part(f"<TD>{label.html}</TD><TD>{picture.html}</TD>", label.width + picture.width + 6))
    return rows


def _text_row(text: str, style: Style) -> Part:
    part = font(text, 8, style.muted)
    return Part(f'<TD ALIGN="LEFT">{part.html}</TD>', part.width + 4)


def _assembled(
    words: tuple[str, str, str], shape: str, rows: Sequence[Part], style: Style, state: State, one_line: bool
) -> tuple[str, Style]:
    """Put a card together from its first line, its rows and what it has to warn of."""
    kind = state.kind
    ink = MUTED if kind == "vanishing" else CHANGED if kind in ("differs", "alone") else ALARM
    alarm = _pill(state.brief if one_line else state.text, ink, "#FFFFFF")
    width = max([alarm.width, *(row.width for row in rows)])
    head = _head(words, shape, style, width, alarm if one_line else Part("", 0))
    lines = [table(head.html)]
    for row in rows:
        filler = max(head.width, width) - row.width
        lines.append(table(row.html + (f'<TD WIDTH="{filler:.0f}"></TD>' if filler > 2 else ""), spacing=3))
    if alarm.html and not one_line:
        lines.append(table(alarm.html))
    dark = style.fill == style.border
    if kind == "first":
        style = style._replace(border=ALARM, penwidth=3.5, fill=style.fill if dark else ALARM_FILL)
    elif kind == "later":
        style = style._replace(border=ALARM, penwidth=1.2, shape=style.shape.removesuffix(",dashed") + ",dashed")
    elif kind == "exploding":
        style = style._replace(border=ALARM, penwidth=3.5)
    elif kind == "alone":
        style = style._replace(border=CHANGED, penwidth=3.5)
    elif kind in ("dead", "saturated"):
        style = style._replace(border=ALARM, penwidth=2.0)
    return table(*(f"<TD>{line}</TD>" for line in lines)), style


def _head(words: tuple[str, str, str], shape: str, style: Style, width: float, alarm: Part) -> Part:
    """Pill, name, options and shape, in one line that is at least `width` wide."""
    pill, name, options = words
    parts = [
        _pill(plain(pill, 28), style.pill, style.pill_text),
        _word(font(plain(name, 28), 12, style.ink, bold=True), 8, 'VALIGN="BOTTOM"'),
        _word(font(plain(options, 28), 8, style.muted), 8),
    ]
    place = font(shape, 9, style.muted, mono=True)
    rest = max(place.width + 9, width - sum(p.width for p in parts) - alarm.width)
    parts += [alarm, Part(f'<TD ALIGN="RIGHT" CELLPADDING="2" WIDTH="{rest:.0f}">{place.html}</TD>', rest)]
    return Part("".join(p.html for p in parts), sum(p.width for p in parts) + sum(bool(p.html) for p in parts) + 1)


def _body(node: Node, graph: Graph, style: Style, show: Sequence[str]) -> Part:
    """Draw value and gradient, side by side."""
    parts = []
    if "value" in show:
        unknown = _labelled("val", font("not kept", 8, style.muted), style)  # by another library
        parts.append(_quantity("val", node.value, style) if node.known else unknown)
    if "grad" in show and node.requires_grad:
        if node.grad is not None:
            parts.append(_quantity("grad", node.grad, style))
        else:
            parts.append(_labelled("grad", font("none" if graph.has_gradients else "not run", 8, style.muted), style))
    return Part("".join(p.html for p in parts), sum(p.width for p in parts))


def _quantity(label: str, array: Array, style: Style) -> Part:
    if array.size == 0:
        return _labelled(label, font("empty", 8, style.muted), style)
    if array.size == 1:
        x = float(array.item())
        ink = ALARM if not np.isfinite(x) and style.fill != style.border else style.ink
        return _labelled(label, font(number(x), 10, ink, bold=True, mono=True), style)
    if label == "grad" and not array.any():
        return _labelled(label, font("all 0", 8, style.muted), style)
    return _labelled(label, strip(array), style)


def _labelled(label: str, part: Part, style: Style) -> Part:
    width = 15 if label == "val" else 22
    text = font(label, 8, style.muted).html
    cell = 'TD HEIGHT="15" VALIGN="BOTTOM"' if "<B>" in part.html else "TD"
    return Part(f'<TD ALIGN="RIGHT" WIDTH="{width}">{text}</TD><{cell}>{part.html}</TD>', width + part.width + 6)


def _pill(text: str, fill: str, ink: str) -> Part:
    # Graphviz sets bold text too high in its cell: at the bottom of a taller one it stands in the middle
    look = f'BGCOLOR="{fill}" STYLE="ROUNDED" HEIGHT="18" VALIGN="BOTTOM" CELLPADDING="2"'
    return _word(font(text, 9, ink, bold=True), 9, look)


def _word(part: Part, margin: float, look: str = "") -> Part:
    width = part.width + margin
    return Part(f'<TD {look} WIDTH="{width:.0f}">{part.html}</TD>', width) if part.html else part


def table(*rows: str, spacing: int = 1, more: str = "") -> str:
    """Return a table of rows, each of which is written as its cells."""
    body = "".join(f"<TR>{row}</TR>" for row in rows)
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="{spacing}" CELLPADDING="0"{more}>{body}</TABLE>'
