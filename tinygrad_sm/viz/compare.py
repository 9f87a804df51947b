"""compare: two graphs side by side, with what differs marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from ..graph import Graph, Node
from ..ops.options import count
from ..tensor import Array, Tensor
from .cards import INK, MUTED, font, number, plain, table
from .draw import MAX_NODES, Drawing, checked_looks, in_words, read_graph, words_of
from .fold import View
from .picture import Box, Picture, picture
from .states import State, states

LISTED = 8  # so many differences are told below the picture


@dataclass(frozen=True)
class Difference:
    """A node that two graphs have in common, and by how much its value and its gradient differ; or one's alone."""

    label: str  # its name, else its op
    first: str | None  # its id in the first graph; None: only the second has it
    second: str | None
    value: float  # largest difference between the two values, relative to the largest of them
    grad: float

    def __str__(self) -> str:
        if self.first is None or self.second is None:
            return f"{self.label}: only in the {'second' if self.first is None else 'first'}"
        parts = [("value", self.value), ("gradient", self.grad)]
        return f"{self.label}: " + ", ".join(f"{what} differs by {_share(x)}" for what, x in parts if x > 0)


@dataclass(frozen=True)
class Comparison(Drawing):
    """The drawing of two graphs, and the list of their differences, in the order of computation."""

    differences: tuple[Difference, ...] = field(default=(), repr=False)


def compare(
    first: Tensor | Graph,
    second: Tensor | Graph,
    *,
    names: tuple[str, str] = ("first", "second"),
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

    The nodes are matched by op, options, shape and name, in the order of computation, as `diff` matches lines. Each
    graph gets its own gradients, as `draw` does it; tensors that both share are drawn in both.

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
    looks = checked_looks(show, direction, "compare")
    if not (isinstance(names, (tuple, list)) and len(names) == 2):
        raise ValueError(f"compare: names are two, for the two graphs; got {names!r:.60}")
    if not (isinstance(rtol, (int, float)) and rtol >= 0):
        raise ValueError(f"compare: rtol is a number from 0 up, not {rtol!r:.40}")
    count(max_nodes, "max_nodes", "compare")
    opened, closed = words_of(expand, "expand", "compare"), words_of(collapse, "collapse", "compare")
    graphs, views = [], []
    for end in (first, second):
        if not isinstance(end, (Tensor, Graph)):
            raise TypeError(f"compare takes two Tensors or two Graphs, not a {type(end).__name__}")
        graph, words, defined = read_graph(end, opened)
        graphs.append(graph)
        views.append(
            View(
                graph, depth=depth, collapse=closed, expand=words, defined=defined, max_nodes=max_nodes, strict=False
            )
        )  # fmt: skip
    differences = differ(graphs[0], graphs[1], rtol)
    found = [_marked(graph, differences, i) for i, graph in enumerate(graphs)]
    pictures = [picture(view, marks, title=None, **looks) for view, marks in zip(views, found, strict=True)]
    image = _beside(pictures, names, title)
    rows = [image.legend, _told(differences)]
    image = replace(image, legend=table(*(f"<TD>{row}</TD>" for row in rows if row), spacing=3))
    alt = " ".join(
        [f"{plain(name)}: {in_words(view, marks)}" for name, view, marks in zip(names, views, found, strict=True)]
        + [f"{len(differences)} differences."]
    )
    parts = tuple(zip(views, found, strict=True))
    return Comparison(image, alt, "" if title is None else str(title), parts, tuple(map(str, names)), differences)


def differ(first: Graph, second: Graph, rtol: float = 1e-5) -> tuple[Difference, ...]:
    """Return the differences of two graphs, in the order of computation."""
    keys = [[_key(node) for node in graph] for graph in (first, second)]
    found: list[Difference] = []
    for kind, i0, i1, j0, j1 in SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes():
        if kind == "equal":
            for a, b in zip(first.nodes[i0:i1], second.nodes[j0:j1], strict=True):
                value, grad = _distance(a.value, b.value), _distance(a.grad, b.grad)
                if value > rtol or grad > rtol:
                    found.append(Difference(_called(a), a.id, b.id, value * (value > rtol), grad * (grad > rtol)))
        else:
            found += [Difference(_called(a), a.id, None, np.inf, np.inf) for a in first.nodes[i0:i1]]
            found += [Difference(_called(b), None, b.id, np.inf, np.inf) for b in second.nodes[j0:j1]]
    return tuple(found)


def _key(node: Node) -> tuple[Any, ...]:
    return node.label, node.options, node.shape, node.name if node.op is None else None


def _called(node: Node) -> str:
    return plain(node.name) if node.name else plain(node.label)


def _distance(a: Array | None, b: Array | None) -> float:
    """Return the largest difference of two arrays, relative to their largest element; inf if only one is finite."""
    if a is None or b is None:
        return 0.0 if a is b else np.inf
    x, y = a.astype(np.float64), b.astype(np.float64)
    good = np.isfinite(x) & np.isfinite(y)
    if not np.array_equal(x[~good], y[~good], equal_nan=True):
        return np.inf
    x, y = x[good], y[good]
    size = max(np.abs(x).max(initial=0), np.abs(y).max(initial=0))
    return float(np.abs(x / size - y / size).max(initial=0)) if size else 0.0


def _share(x: float) -> str:
    """Write a relative difference: "15 %"; "NaN or inf" where only one is a number."""
    return "NaN or inf" if x == np.inf else f"{100 * x:.2g} %" if x < 10 else number(x, 2)


def _marked(graph: Graph, differences: Sequence[Difference], which: int) -> dict[str, State]:
    """Return what to mark on the cards of a graph; where NaN and inf start stays marked as that."""
    found = states(graph)
    for difference in differences:
        id = difference.first if which == 0 else difference.second
        if id is None or found.get(id, State()).kind == "first":
            continue
        if difference.first is None or difference.second is None:
            found[id] = State("alone", "only here", "only here")
        else:
            parts = [("val", difference.value), ("grad", difference.grad)]
            text = "differs: " + ", ".join(f"{what} {_share(x)}" for what, x in parts if x > 0)
            found[id] = State("differs", text, "differs")
    return found


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
