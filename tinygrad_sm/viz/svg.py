"""A picture as SVG, in pure Python: what Graphviz would draw of the same labels, for where no Graphviz is.

The labels are HTML-like tables, as `cards.py` writes them. They are measured with the widths of Arial's letters, and
their cells share what is left of the room as Graphviz's do.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple
from xml.etree import ElementTree

from .cards import INK
from .layout import Plan, arrange
from .picture import Arrow, Box, Card, Picture
from .rows import Point

SANS, MONO = "Arial, Helvetica, sans-serif", "Courier, monospace"
PAD = 15.84  # around all, in points
LINE = 1.2  # height of a line of text, relative to the size of its font
CAPITAL = 0.36  # half the height of a capital
SLACK = 1.03  # a font that stands in for Arial may be a little wider
DASHES = {"dashed": "5,3", "dotted": "1.2,4"}
TITLE_HEIGHT = 19.0
# widths of the printable ASCII characters, from the space on, in thousandths of the font's size
REGULAR = (
    "278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 278 278 "
    "584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 667 778 722 667 611 722 667 944 "
    "667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556 556 556 333 500 "
    "278 556 500 722 500 500 500 334 260 334 584"
)
BOLD = (
    "278 333 474 556 556 889 722 238 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 333 333 "
    "584 584 584 611 975 722 722 722 722 667 611 778 722 278 556 722 611 833 722 778 667 778 722 667 611 722 667 944 "
    "667 667 611 333 278 333 584 556 333 556 611 556 611 556 333 611 611 278 278 556 278 889 611 611 611 611 389 556 "
    "333 611 556 778 556 556 500 389 280 389 584"
)
WIDTHS = {
    is_bold: {chr(32 + i): int(width) / 1000 for i, width in enumerate(widths.split())}
    for is_bold, widths in ((False, REGULAR), (True, BOLD))
}


class Font(NamedTuple):
    """How text looks."""

    size: float = 11.0
    color: str = INK
    is_bold: bool = False
    is_mono: bool = False


class Run(NamedTuple):
    """A piece of text in one font."""

    text: str
    font: Font

    @property
    def width(self) -> float:
        """How much room it needs, in points."""
        return SLACK * self.font.size * sum(_em(c, self.font) for c in self.text)


@dataclass
class Cell:
    """A cell of a table: a line of text, or a table."""

    content: list[Run] | Table
    look: dict[str, str]  # its attributes

    def inner(self) -> Point:
        """Return the size of what is in it."""
        if isinstance(self.content, Table):
            return self.content.size()
        return sum(run.width for run in self.content), max((LINE * run.font.size for run in self.content), default=0.0)

    def size(self, padding: float) -> Point:
        """Return how much room it needs."""
        margin = 2 * self.padding(padding)
        return _at_least(self.look, *(0.0 if self.is_empty() else side + margin for side in self.inner()))

    def padding(self, padding: float) -> float:
        """Return its own padding, else that of its table."""
        return float(self.look.get("CELLPADDING", padding))

    def is_empty(self) -> bool:
        """Tell whether it only takes room."""
        return not self.content


@dataclass
class Table:
    """A table of cells, whose size is found from the inside out."""

    look: dict[str, str]
    rows: list[list[Cell]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return True

    def tracks(self) -> tuple[list[float], list[float]]:
        """Return the widths of its columns, and the heights of its rows."""
        padding = float(self.look.get("CELLPADDING", 2))
        sizes = [[cell.size(padding) for cell in row] for row in self.rows]
        columns = max(map(len, sizes), default=0)
        widths = [max(row[k][0] for row in sizes if k < len(row)) for k in range(columns)]
        return widths, [max((h for _, h in row), default=0.0) for row in sizes]

    def size(self) -> Point:
        """Return how much room it needs."""
        widths, heights = self.tracks()
        gap = float(self.look.get("CELLSPACING", 2))
        return _at_least(self.look, sum(widths) + gap * (len(widths) + 1), sum(heights) + gap * (len(heights) + 1))


def svg(picture: Picture) -> str:
    """Return a picture as SVG text that needs nothing else.

    Cards, boxes and arrows are groups with the ids that they have in the picture.

    >>> card = Card("n0", "<TABLE><TR><TD>x</TD></TR></TABLE>", None, "input", "#000000", "#FFFFFF", "filled", 1, "")
    >>> svg(Picture([card], [], [], "", "", "TB"))[:22]
    '<svg width="86pt" heig'
    """
    cards = {card.id: fragment(card.label, card) for card in picture.cards}
    numbers = {arrow.id: _line(arrow.label) for arrow in picture.arrows if arrow.label}
    plan = arrange(
        {id: (width, height) for id, (_, width, height) in cards.items()},
        [(arrow.id, arrow.source, arrow.target) for arrow in picture.arrows],
        {box.id: box.parent for box in picture.boxes},
        {card.id: card.box for card in picture.cards},
        {box.id: (measure(box.label)[0], TITLE_HEIGHT) for box in picture.boxes},
        picture.direction,
        {arrow.id: _room(numbers[arrow.id], arrow, picture.direction) for arrow in picture.arrows if arrow.label},
    )
    body = [_box(box, plan) for box in picture.boxes]
    body += [
        _arrow(arrow, plan, numbers.get(arrow.id, []), picture.direction in ("LR", "RL"))
        for arrow in picture.arrows
        if arrow.id in plan.routes
    ]
    for card in picture.cards:
        inside, width, height = cards[card.id]
        x, y = plan.places[card.id][0] - width / 2, plan.places[card.id][1] - height / 2
        look = f'id="{_quoted(card.id)}" class="node {_quoted(card.kind)}" transform="translate({_n(x)} {_n(y)})"'
        body.append(f"<g {look}>{_title(card.tooltip)}{inside}</g>")
    return _page(picture, plan, body)


def fragment(label: str, card: Card) -> tuple[str, float, float]:
    """Return the inside of a card as SVG text, with its origin at the top left, its width and its height."""
    table = _read(label)
    label_width, label_height = _size(table)
    width, height = max(54.0, label_width + 7.2), max(14.4, label_height + 2.9)
    border = _rectangle(
        0, 0, width, height, card.fill, min(11.0, height / 3) if "rounded" in card.style else 0,
        f' class="card" stroke="{card.border}" stroke-width="{_n(card.penwidth)}"{_dash(card.style)}',
    )  # fmt: skip
    inside = _painted(table, (width - label_width) / 2, (height - label_height) / 2, label_width, label_height)
    return border + "".join(inside), round(width, 2), round(height, 2)


def measure(label: str) -> Point:
    """Return width and height of a label, in points.

    >>> measure('<FONT POINT-SIZE="10">ab</FONT>')
    (11.45, 12.0)
    """
    width, height = _size(_read(label))
    return round(width, 2), round(height, 2)


# -- reading labels -------------------------------------------------------------------------------


def _read(label: str) -> list[Run] | Table:
    """Read a label: a table, or a line of text."""
    return _content(_parsed(label), Font())


def _parsed(label: str) -> ElementTree.Element:
    if label.startswith("<<") and label.endswith(">>"):
        label = label[1:-1]  # as Graphviz wants it
    label = _valid(label)
    try:
        return ElementTree.fromstring(f"<LABEL>{label}</LABEL>")
    except ElementTree.ParseError:  # plain text
        return ElementTree.fromstring(f"<LABEL>{_quoted(label)}</LABEL>")


def _content(element: ElementTree.Element, font: Font) -> list[Run] | Table:
    """Return the table in an element, else its text."""
    table = element if element.tag == "TABLE" else element.find("TABLE")
    if table is None:
        return list(_runs(element, font))
    rows = [[Cell(_content(cell, font), dict(cell.attrib)) for cell in row.iter("TD") if cell in row] for row in table]
    return Table(dict(table.attrib), rows)


def _runs(element: ElementTree.Element, font: Font) -> Iterator[Run]:
    """Yield the pieces of text in an element, down to the innermost."""
    look = element.attrib
    inner = font._replace(
        size=float(look.get("POINT-SIZE", font.size)),
        color=look.get("COLOR", font.color),
        is_bold=font.is_bold or element.tag == "B",
        is_mono=look["FACE"].startswith("Courier") if "FACE" in look else font.is_mono,
    )
    if element.text:
        yield Run(element.text, inner)
    for child in element:
        yield from _runs(child, inner)
        if child.tail:
            yield Run(child.tail, inner)


def _line(label: str) -> list[Run]:
    """Return the text of a label as one line, without blanks around it."""
    runs = [Run(run.text.strip(), run.font) for run in _runs(_parsed(label), Font())]
    return [run for run in runs if run.text]


def _room(number: Sequence[Run], arrow: Arrow, direction: str) -> Point:
    """Return the size of a number, with half the width of the arrow on its side."""
    width, height = sum(run.width for run in number), 9.0
    return (width, height + arrow.penwidth) if direction in ("LR", "RL") else (width + arrow.penwidth, height)


def _em(c: str, font: Font) -> float:
    """Return the width of a character, relative to the size of the font."""
    if c == "\u00a0":
        c = " "
    if c > "~":  # in whatever font has it
        return 0.0 if unicodedata.combining(c) else 1.0 if unicodedata.east_asian_width(c) in "WF" else 0.75
    return 0.6 if font.is_mono else WIDTHS[font.is_bold].get(c, 0.6)


def _size(content: list[Run] | Table) -> Point:
    return Cell(content, {}).inner()


def _at_least(look: dict[str, str], width: float, height: float) -> Point:
    """Return the size that WIDTH and HEIGHT ask for, if it is larger or fixed."""
    w, h = float(look.get("WIDTH", 0)), float(look.get("HEIGHT", 0))
    return (w, h) if look.get("FIXEDSIZE") == "TRUE" else (max(w, width), max(h, height))


# -- painting -------------------------------------------------------------------------------------


def _painted(content: list[Run] | Table, x: float, y: float, width: float, height: float) -> Iterator[str]:
    """Yield SVG for a label that fills a rectangle."""
    if not isinstance(content, Table):
        yield _text(content, x + width / 2, y + height / 2)
        return
    if "BGCOLOR" in content.look:
        yield _rectangle(x, y, width, height, content.look["BGCOLOR"])
    gap, padding = float(content.look.get("CELLSPACING", 2)), float(content.look.get("CELLPADDING", 2))
    widths, heights = content.tracks()
    widths = _stretched(widths, width - gap * (len(widths) + 1))
    heights = _stretched(heights, height - gap * (len(heights) + 1))
    top = y + gap
    for row, row_height in zip(content.rows, heights, strict=True):
        left = x + gap
        for cell, cell_width in zip(row, widths, strict=False):
            yield from _painted_cell(cell, left, top, cell_width, row_height, cell.padding(padding))
            left += cell_width + gap
        top += row_height + gap


def _stretched(sizes: Sequence[float], room: float) -> list[float]:
    """Give each of the sizes an equal part of the room that is left."""
    more = (room - sum(sizes)) / max(len(sizes), 1)
    return [size + more for size in sizes]


def _painted_cell(cell: Cell, x: float, y: float, width: float, height: float, padding: float) -> Iterator[str]:
    if "BGCOLOR" in cell.look:
        radius = min(6.0, height / 3) if cell.look.get("STYLE") == "ROUNDED" else 0
        yield _rectangle(x, y, width, height, cell.look["BGCOLOR"], radius)
    x, y, width, height = x + padding, y + padding, width - 2 * padding, height - 2 * padding
    if isinstance(cell.content, Table):
        w, h = cell.content.size()
        if cell.content.look.get("FIXEDSIZE") == "TRUE":
            x, y, width, height = x + (width - w) / 2, y + (height - h) / 2, w, h
        yield from _painted(cell.content, x, y, width, height)
    elif cell.content:
        # always in the middle: bold text that Graphviz sets too high is put at the bottom for its sake alone
        align = cell.look.get("ALIGN", "CENTER")
        at, anchor = {"LEFT": (x, "start"), "RIGHT": (x + width, "end")}.get(align, (x + width / 2, "middle"))
        yield _text(cell.content, at, y + height / 2, anchor)


def _text(runs: Sequence[Run], x: float, y: float, anchor: str = "middle", more: str = "") -> str:
    """Write a line of text whose capitals stand in the middle of a height."""
    if not runs:
        return ""
    look = f'x="{_n(x)}" y="{_n(y + CAPITAL * max(run.font.size for run in runs))}"'
    look += f' text-anchor="{anchor}"' if anchor != "start" else ""
    if len(runs) == 1:
        return f"<text {look}{_font(runs[0].font)}{more}>{_words(runs[0].text)}</text>"
    spans = "".join(f"<tspan{_font(run.font)}>{_words(run.text)}</tspan>" for run in runs)
    return f"<text {look}{more}>{spans}</text>"


def _font(font: Font) -> str:
    bold = ' font-weight="bold"' if font.is_bold else ""
    family = MONO if font.is_mono else SANS
    return f' font-family="{family}" font-size="{_n(font.size)}"{bold} fill="{_quoted(font.color)}"'


def _words(text: str) -> str:
    """Write text so that no blank in it is lost."""
    if text != " ".join(text.split()):
        text = text.replace(" ", "\u00a0")
    return _quoted(text)


def _rectangle(x: float, y: float, width: float, height: float, fill: str, radius: float = 0, more: str = "") -> str:
    corner = f' rx="{_n(radius)}"' if radius else ""
    size = f'width="{_n(width)}" height="{_n(height)}"'
    return f'<rect x="{_n(x)}" y="{_n(y)}" {size}{corner} fill="{_quoted(fill)}"{more}/>'


def _box(box: Box, plan: Plan) -> str:
    x0, y0, x1, y1 = plan.frames[box.id]
    frame = _rectangle(x0, y0, x1 - x0, y1 - y0, "#F7F9FB", min(11.0, (y1 - y0) / 3), ' stroke="#DDE3EA"')
    runs = _line(box.label)
    title = _text(runs, x0 + 9, y0 + 11, "start")
    return f'<g id="{_quoted(box.id)}" class="cluster">{_title(box.tooltip)}{frame}{title}</g>'


def _arrow(arrow: Arrow, plan: Plan, number: Sequence[Run], is_flat: bool) -> str:
    """Draw a curve, the head at its end, and the number beside it."""
    color, pen = _quoted(arrow.color), arrow.penwidth
    length, half = 5.0 + 1.6 * pen, 1.7 + 0.95 * pen
    route, tip = _shortened(plan.routes[arrow.id], length)
    base = route[-1]
    far = ((tip[0] - base[0]) ** 2 + (tip[1] - base[1]) ** 2) ** 0.5 or 1.0
    ux, uy = (tip[0] - base[0]) / far, (tip[1] - base[1]) / far
    corners = (tip, (base[0] - half * uy, base[1] + half * ux), (base[0] + half * uy, base[1] - half * ux))
    curve = f"M{_p(route[0])}C" + " ".join(map(_p, route[1:]))
    parts = [
        f'<path d="{curve}" fill="none" stroke="{color}" stroke-width="{_n(pen)}"{_dash(arrow.style)}/>',
        f'<polygon points="{" ".join(map(_p, corners))}" fill="{color}"/>',
    ]
    if number:
        halo = [Run(run.text, run.font._replace(color="#FFFFFF")) for run in number]
        x, y = plan.spots[arrow.id]
        x, y = (x, y - pen / 2) if is_flat else (x + pen / 2, y)
        parts.append(_text(halo, x, y, more=' stroke="#FFFFFF" stroke-width="2.4" aria-hidden="true"'))
        parts.append(_text(number, x, y))
    return f'<g id="{_quoted(arrow.id)}" class="edge">{_title(arrow.tooltip)}{"".join(parts)}</g>'


def _shortened(route: Sequence[Point], length: float) -> tuple[list[Point], Point]:
    """Cut off the end of a curve where the head of the arrow stands; return the rest, and the tip."""
    kept, piece, tip = list(route[:-3]), route[-4:], route[-1]
    low, high = 0.0, 1.0
    for _ in range(20):
        t = (low + high) / 2
        x, y = _split(piece, t)[-1]
        near = (x - tip[0]) ** 2 + (y - tip[1]) ** 2 < length * length
        low, high = (low, t) if near else (t, high)
    return [*kept, *_split(piece, low)[1:]], tip


def _split(piece: Sequence[Point], t: float) -> list[Point]:
    """Return the part of a Bézier curve before t."""
    points, part = list(piece), [piece[0]]
    while len(points) > 1:
        points = [(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t) for a, b in pairwise(points)]
        part.append(points[0])
    return part


def _page(picture: Picture, plan: Plan, body: Sequence[str]) -> str:
    """Put heading, picture and legend below each other on a white ground."""
    heading, legend = (_read(text) if text else [] for text in (picture.heading, picture.legend))
    (heading_width, heading_height), (legend_width, legend_height) = _size(heading), _size(legend)
    above, below = (heading_height + 8 if heading else 0.0), (legend_height + 8 if legend else 0.0)
    inner = max(plan.width, heading_width, legend_width)
    width, height = inner + 2 * PAD, plan.height + above + below + 2 * PAD
    left = PAD + (inner - plan.width) / 2
    parts = [
        f'<svg width="{width:.0f}pt" height="{height:.0f}pt" viewBox="0 0 {_n(width)} {_n(height)}"'
        ' xmlns="http://www.w3.org/2000/svg">',
        _rectangle(0, 0, width, height, "#FFFFFF"),
        *_painted(heading, PAD, PAD, heading_width, heading_height),
        f'<g class="graph" transform="translate({_n(left)} {_n(PAD + above)})">',
        *body,
        "</g>",
        *_painted(legend, (width - legend_width) / 2, height - PAD - legend_height, legend_width, legend_height),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


# -- words of SVG ---------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    """Write text so that it is harmless in SVG, in ASCII."""
    return html.escape(_valid(text)).encode("ascii", "xmlcharrefreplace").decode()


def _valid(text: str) -> str:
    """Put question marks for what XML does not allow."""
    return re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


def _title(tooltip: str) -> str:
    words = html.unescape(tooltip).strip()
    return f"<title>{_quoted(words)}</title>" if words else ""


def _dash(style: str) -> str:
    return "".join(f' stroke-dasharray="{dash}"' for word, dash in DASHES.items() if word in style)


def _n(x: float) -> str:
    """Write a number with at most two decimals."""
    text = f"{x:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _p(point: Point) -> str:
    return f"{_n(point[0])},{_n(point[1])}"
