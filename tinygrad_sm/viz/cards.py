"""Cards: one node of a graph as an HTML-like label of Graphviz.

A card says what the node is (pill), its name, its shape, and shows its value and gradient as heat strips.
Graphviz sets the text; the widths here are estimates that let both rows of a card end at the same place.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..graph import Graph, Node, is_finite, rms
from ..tensor import Array

INK, MUTED, ALARM, ALARM_FILL = "#111827", "#5B6472", "#C2410C", "#FFF4ED"
Color = tuple[int, int, int]
BLUE, NEUTRAL, ORANGE = (0x26, 0x62, 0xA8), (0xF5, 0xF6, 0xF8), (0xDD, 0x6B, 0x20)  # the strips: − 0 +
ROWS, COLUMNS, CELL = 6, 8, 10  # the largest strip, and the points of a cell
VANISHING, EXPLODING = 1e-7, 1e3


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
    "loss": Style("", "#FFFFFF", "#6D2A73", "#6D2A73", "#6D2A73", "#FFFFFF", "#E9D5EC", "rounded,filled", 1.2),
}


@dataclass(frozen=True)
class State:
    """What a card has to warn of."""

    kind: str = ""  # "first" or "later" non-finite number, "vanishing", "exploding", or "" for none
    text: str = ""
    brief: str = ""  # the same for cards of one line


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


def cells(array: Array) -> Array:
    """Return at most 6 × 8 numbers that stand for an array: means of blocks of its last axis by all others.

    A block with a NaN in it is NaN; one with an inf, inf.

    >>> cells(np.arange(16.0)).tolist()
    [[0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 14.5]]
    """
    grid = array.reshape(-1, array.shape[-1] if array.ndim else 1)
    if grid.shape[0] <= ROWS and grid.shape[1] <= COLUMNS:
        return grid.astype(np.float64)
    rows, columns = (_cuts(n, most) for n, most in zip(grid.shape, (ROWS, COLUMNS), strict=True))
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


def strip(array: Array) -> Part:
    """Draw an array as a small table of coloured cells, scaled to the largest of them."""
    grid = cells(array)
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


def card(node: Node, graph: Graph, state: State, show: Sequence[str], one_line: bool = False) -> tuple[str, Style]:
    """Return the label of a node, and the style that its role and state give it."""
    style = STYLES[node.role]
    body = Part("", 0) if one_line else _body(node, graph, style, show)
    alarm = _pill(state.brief if one_line else state.text, MUTED if state.kind == "vanishing" else ALARM, "#FFFFFF")
    head = _head(node, style, show, max(body.width, alarm.width), alarm if one_line else Part("", 0))
    rows = [table(head.html)]
    if body.html:
        filler = max(head.width, alarm.width) - body.width
        rows.append(table(body.html + (f'<TD WIDTH="{filler:.0f}"></TD>' if filler > 2 else ""), spacing=3))
    if alarm.html and not one_line:
        rows.append(table(alarm.html))
    if state.kind == "first":
        style = style._replace(border=ALARM, penwidth=3.5, fill=style.fill if node.role == "loss" else ALARM_FILL)
    elif state.kind == "later":
        style = style._replace(border=ALARM, penwidth=1.2, shape=style.shape.removesuffix(",dashed") + ",dashed")
    elif state.kind == "exploding":
        style = style._replace(border=ALARM, penwidth=3.5)
    return f"<{table(*(f'<TD>{row}</TD>' for row in rows))}>", style


def _head(node: Node, style: Style, show: Sequence[str], width: float, alarm: Part) -> Part:
    """Pill, name, options and shape, in one line that is at least `width` wide."""
    name = plain(node.name, 28) if node.name is not None else "loss" if node.role == "loss" else ""
    parts = [
        _pill(style.title or plain(node.label, 28), style.pill, style.pill_text),
        _word(font(name, 12, style.ink, bold=True), 8, 'VALIGN="BOTTOM"'),
        _word(font(plain(node.options, 28), 8, style.muted), 8),
    ]
    shape = font(str(node.shape) if "shape" in show else "", 9, style.muted, mono=True)
    rest = max(shape.width + 9, width - sum(p.width for p in parts) - alarm.width)
    parts += [alarm, Part(f'<TD ALIGN="RIGHT" CELLPADDING="2" WIDTH="{rest:.0f}">{shape.html}</TD>', rest)]
    return Part("".join(p.html for p in parts), sum(p.width for p in parts) + sum(bool(p.html) for p in parts) + 1)


def _body(node: Node, graph: Graph, style: Style, show: Sequence[str]) -> Part:
    """Draw value and gradient, side by side."""
    parts = []
    if "value" in show:
        parts.append(_quantity("val", node.value, style))
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


# -- what is wrong ------------------------------------------------------------------------------


def states(graph: Graph) -> dict[str, State]:
    """Return what is wrong with which node: where NaN and inf start, and go; vanishing and exploding gradients."""
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
        elif not (is_finite(node.value) and is_finite(node.grad)):
            found[node.id] = State("later")
        elif 0 < size < VANISHING:
            found[node.id] = State("vanishing", f"~ vanishing {size:.0e}", f"~ {size:.0e}")
        elif size > EXPLODING:
            found[node.id] = State("exploding", f"! exploding {size:.0e}", f"! {size:.0e}")
    return found
