"""compare: two graphs side by side, with what differs marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..graph import Graph, Node
from ..ops.options import count
from ..tensor import Array, Tensor
from .cards import INK, MUTED, font, number, plain, table
from .draw import MAX_NODES, Drawing, check_words, checked_direction, checked_show, in_words, read_graph, words_of
from .fold import View
from .picture import Box, Part, Picture, picture
from .states import State, states

LISTED = 8  # so many differences are told below the picture
SIDES = ("first", "second")


@dataclass(frozen=True)
class Difference:
    """A node that two graphs have in common, and how it differs; or one that only one of them has.

    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor([1.0, 2.0], requires_grad=True, name="x")
    >>> pictures = sm.compare((x * 2).sum(), (x * 3).sum())
    >>> print(pictures.differences[0])
    x: gradient differs by 33 %
    """

    label: str  # its name, else its op
    first: str | None  # its id in the first graph; None: only the second has it
    second: str | None
    value: float = 0.0  # largest difference between the two values, relative to the largest of them
    grad: float = 0.0
    notes: tuple[str, ...] = ()  # what no number tells: another shape, NaN on one side, no gradient on one side

    def __str__(self) -> str:
        if self.first is None or self.second is None:
            return f"{self.label}: only in the {SIDES[self.first is None]}"
        sizes = [("value", self.value), ("gradient", self.grad)]
        parts = [f"{what} differs by {_percent(x)}" for what, x in sizes if 0 < x < np.inf]
        return f"{self.label}: " + ", ".join([*self.notes, *parts])


@dataclass(frozen=True, repr=False)
class Comparison(Drawing):
    """The drawing of two graphs, and the list of their differences, in the order of computation.

    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor([1.0, 2.0], requires_grad=True, name="x")
    >>> pictures = sm.compare((x * 2).sum(), (x * 3).sum())
    >>> len(pictures.differences)
    3
    """

    differences: tuple[Difference, ...] = field(default=(), repr=False)


def compare(
    first: Tensor | Graph,
    second: Tensor | Graph,
    *,
    names: tuple[str, str] = SIDES,
    rtol: float = 1e-5,
    show: Sequence[str] = ("value", "grad", "shape"),
    direction: str = "TB",
    depth: int | None = None,
    collapse: str | Sequence[str] = (),
    expand: str | Sequence[str] = (),
    max_nodes: int = MAX_NODES,
    title: str | None = None,
) -> Comparison:
    """Draw two graphs side by side, and mark what differs: nodes that one of them has alone, values, gradients.

    The nodes are matched in the order of computation, as `diff` matches lines: ops by their name, leaves by theirs.
    Each graph gets its own gradients, as `draw` does it; tensors that both share are drawn in both.

    Parameters
    ----------
    first, second : Tensor or Graph
        Two losses: of the naive and the stable softmax, with and without the scale 1/√d_k, before and after.
    names : tuple of two str
        What stands above the two.
    rtol : float
        Values and gradients differ if the largest difference is above `rtol` times the largest element.
    show, direction, depth, collapse, expand, max_nodes, title
        As in `draw`; a name that only one of the graphs knows is no error.

    Returns
    -------
    Comparison
        A `Drawing`, with `.differences`.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> q = sm.Tensor([[1.0, 2.0]], requires_grad=True, name="q")
    >>> both = sm.compare((q * 2.0).softmax().max(), q.softmax().max(), names=("scaled", "not"))
    >>> for difference in both.differences:
    ...     print(difference)
    q: gradient differs by 6.4 %
    mul 2: only in the first
    softmax: value differs by 17 %
    max: value differs by 17 %
    """
    seen, way = checked_show(show, "compare"), checked_direction(direction, "compare")
    if not (isinstance(names, (tuple, list)) and len(names) == 2):
        raise ValueError(f"compare: names are two, for the two graphs; got {names!r:.60}")
    if not (isinstance(rtol, (int, float)) and rtol >= 0):
        raise ValueError(f"compare: rtol is a number from 0 up, not {rtol!r:.40}")
    count(max_nodes, "max_nodes", "compare")
    levels = None if depth is None else count(depth, "depth", "compare")
    opened, closed = words_of(expand, "expand", "compare"), words_of(collapse, "collapse", "compare")
    views = []
    for end in (first, second):
        if not isinstance(end, (Tensor, Graph)):
            raise TypeError(f"compare takes two Tensors or two Graphs, not a {type(end).__name__}")
        graph, words, defined, known = read_graph(end, opened)
        views.append(
            View(
                graph, depth=levels, collapse=closed, expand=words, defined=defined, known=known, max_nodes=max_nodes
            )
        )  # fmt: skip
    check_words(views, "compare")
    differences = differ(views[0].graph, views[1].graph, rtol)
    parts = tuple(Part(view, _marked(view.graph, differences, i), seen) for i, view in enumerate(views))
    image = _beside([picture(part, direction=way, title=None) for part in parts], names, title)
    rows = [image.legend, _told(differences)]
    image = replace(image, legend=table(*(f"<TD>{row}</TD>" for row in rows if row), spacing=3))
    said = [f"{plain(name)}: {in_words(part)}" for name, part in zip(names, parts, strict=True)]
    alt = " ".join([*said, f"{len(differences)} differences."])
    return Comparison(image, alt, "" if title is None else str(title), parts, tuple(map(str, names)), differences)


# -- what differs -------------------------------------------------------------------------------


def differ(first: Graph, second: Graph, rtol: float = 1e-5) -> tuple[Difference, ...]:
    """Return the differences of two graphs, in the order of computation."""
    exact = list(matched(*([_key(node, node.shape) for node in graph] for graph in (first, second))))
    loose = list(matched(*([_key(node, node.value.ndim) for node in graph] for graph in (first, second))))
    both = [sum(None not in pair for pair in pairs) for pairs in (exact, loose)]
    pairs = loose if both[1] >= 1.5 * both[0] else exact  # another batch size, perhaps
    found = []
    for a, b in pairs:
        if a is not None and b is not None:
            difference = _difference(first.nodes[a], second.nodes[b], rtol)
            found += [difference] if difference.value or difference.grad or difference.notes else []
        else:
            node = first.nodes[a] if a is not None else second.nodes[b or 0]
            ids = (node.id, None) if a is not None else (None, node.id)
            found.append(Difference(_called(node), *ids))
    return tuple(found)


def matched(a: Sequence[Any], b: Sequence[Any]) -> Iterator[tuple[int | None, int | None]]:
    """Match two sequences with the fewest items left over; yield pairs of places, None where there is no partner.

    Myers' algorithm (An O(ND) Difference Algorithm and Its Variations, 1986), after equal beginnings and ends.

    >>> list(matched("abcd", "axcd"))
    [(0, 0), (1, None), (None, 1), (2, 2), (3, 3)]
    """
    head = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    room = min(len(a), len(b)) - head
    tail = next((i for i in range(room) if a[len(a) - 1 - i] != b[len(b) - 1 - i]), room)
    n, m = len(a) - head - tail, len(b) - head - tail
    yield from ((i, i) for i in range(head))
    for i, j in _shortest(a[head : head + n], b[head : head + m]):
        yield None if i is None else head + i, None if j is None else head + j
    yield from ((head + n + i, head + m + i) for i in range(tail))


def _shortest(a: Sequence[Any], b: Sequence[Any]) -> list[tuple[int | None, int | None]]:
    """Return the shortest way through the table of a by b: diagonal where they are equal."""
    n, m = len(a), len(b)
    reach, trail = {1: 0}, []  # on each diagonal x - y the farthest x, after 0, 1, 2 ... steps aside
    for d in range(n + m + 1):
        trail.append(dict(reach))
        for k in range(-d, d + 1, 2):
            down = k == -d or (k != d and reach[k - 1] < reach[k + 1])
            x = reach[k + 1] if down else reach[k - 1] + 1
            while x < n and x - k < m and a[x] == b[x - k]:
                x += 1
            reach[k] = x
            if x >= n and x - k >= m:
                return _walked_back(trail, n, m)
    return []


def _walked_back(trail: Sequence[dict[int, int]], x: int, y: int) -> list[tuple[int | None, int | None]]:
    steps: list[tuple[int | None, int | None]] = []
    for d in range(len(trail) - 1, -1, -1):
        reach, k = trail[d], x - y
        down = k == -d or (k != d and reach[k - 1] < reach[k + 1])
        before = k + 1 if down else k - 1
        x0 = reach[before]
        y0 = x0 - before
        while x > x0 and y > y0 and (x, y) != (x0 + (not down), y0 + down):
            x, y = x - 1, y - 1
            steps.append((x, y))
        if d:
            steps.append((None, y - 1) if down else (x - 1, None))
        x, y = x0, y0
    return steps[::-1]


def _key(node: Node, size: Any) -> tuple[Any, ...]:
    """Return what two nodes must have in common to be partners; names of leaves count more than their size."""
    return ("leaf", node.name) if node.op is None and node.name else (node.op, size)


def _called(node: Node) -> str:
    return plain(node.name) if node.name else plain(node.label)


def _difference(a: Node, b: Node, rtol: float) -> Difference:
    notes = []
    for x, y in ((a.label, b.label), (a.options, b.options), (f"shape {a.shape}", f"shape {b.shape}")):
        if x != y:
            notes.append(f"{plain(x) or 'defaults'} against {plain(y) or 'defaults'}")
    if (a.grad is None) != (b.grad is None):
        notes.append(f"gradient only in the {SIDES[a.grad is None]}")
    sizes = [0.0, 0.0]
    for i, (what, p, q) in enumerate((("value", a.value, b.value), ("gradient", a.grad, b.grad))):
        if p is not None and q is not None and p.shape == q.shape:
            size = _distance(p, q)
            if size == np.inf:
                bad = [not np.isfinite(array).all() for array in (p, q)]
                other = f"{what} has NaN or inf in other places"
                notes.append(other if all(bad) else f"{what} finite only in the {SIDES[bad[0]]}")
            sizes[i] = size if size > rtol else 0.0
    return Difference(_called(a), a.id, b.id, sizes[0], sizes[1], tuple(notes))


def _distance(a: Array, b: Array) -> float:
    """Return the largest difference of two arrays, relative to their largest element; inf if NaN or inf differ."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    good = np.isfinite(x) & np.isfinite(y)
    if not np.array_equal(x[~good], y[~good], equal_nan=True):
        return np.inf
    x, y = x[good], y[good]
    size = max(np.abs(x).max(initial=0), np.abs(y).max(initial=0))
    return float(np.abs(x / size - y / size).max(initial=0)) if size else 0.0


def _percent(x: float) -> str:
    return f"{100 * x:.2g} %" if x < 10 else number(x, 2)


# -- how it is shown ----------------------------------------------------------------------------


def _marked(graph: Graph, differences: Sequence[Difference], which: int) -> dict[str, State]:
    """Return what to mark on the cards of a graph; where NaN and inf start stays marked as that."""
    found = states(graph)
    for difference in differences:
        id = (difference.first, difference.second)[which]
        if id is None or found.get(id, State()).kind == "first":
            continue
        if difference.first is None or difference.second is None:
            found[id] = State("alone", "only here", "only here")
        else:
            found[id] = State("differs", f"differs: {_brief(difference, which)}", "differs")
    return found


def _brief(difference: Difference, which: int) -> str:
    """Say how a node differs from its partner, as it reads on the card."""
    here, there = SIDES[which], SIDES[1 - which]
    notes = [
        note.replace(f"only in the {here}", "only here").replace(f"only in the {there}", "only there")
        for note in difference.notes
    ]
    sizes = [("val", difference.value), ("grad", difference.grad)]
    return ", ".join([*notes, *(f"{what} {_percent(x)}" for what, x in sizes if 0 < x < np.inf)])


def _beside(pictures: Sequence[Picture], names: Sequence[str], title: str | None) -> Picture:
    """Return one picture with each of these in a box of its own; their ids begin with a_ and b_."""
    cards, boxes, arrows = [], [], []
    for letter, name, part in zip("ab", names, pictures, strict=True):
        label = font(plain(name) or " ", 13, INK, bold=True).html
        boxes.append(Box(letter, label, None, plain(name)))
        boxes += [
            box._replace(id=f"{letter}_{box.id}", parent=f"{letter}_{box.parent}" if box.parent else letter)
            for box in part.boxes
        ]
        cards += [
            card._replace(id=f"{letter}_{card.id}", box=f"{letter}_{card.box}" if card.box else letter)
            for card in part.cards
        ]
        arrows += [
            arrow._replace(
                id=f"{letter}_{arrow.id}", source=f"{letter}_{arrow.source}", target=f"{letter}_{arrow.target}"
            )
            for arrow in part.arrows
        ]
    longest = max((part.legend for part in pictures), key=len)
    heading = font(plain(title or "", 100), 14, INK, bold=True).html
    return Picture(cards, boxes, arrows, heading, longest, pictures[0].direction)


def _told(differences: Sequence[Difference]) -> str:
    lines = [str(difference) for difference in differences[:LISTED]]
    lines += [f"and {len(differences) - LISTED} more"] if len(differences) > LISTED else []
    lines = lines or ["no difference"]
    return table(*(f'<TD ALIGN="LEFT">{font(plain(line, 110), 8, MUTED).html}</TD>' for line in lines))
