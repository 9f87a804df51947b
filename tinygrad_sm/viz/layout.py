"""Placing the cards of a picture: a layered layout with nested boxes, for where no Graphviz is.

Every box is laid out by itself, innermost first, and then stands as one item in the box around it. An arrow that
crosses the border of a box enters it at a port, which is an item of its first or last row. In a box, items stand in
rows, such that arrows go down; thin items keep the way free for an arrow that passes a row. An arrow is a string,
pulled tight through the gates that cards and boxes leave it, and then smoothed.

All is computed as if pictures ran from top to bottom; only at the ends are x and y exchanged or mirrored. `layout.js`
does the same, step by step, and gets the same numbers: change both together.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

Point = tuple[float, float]
NODE_GAP, ROW_GAP, MARGIN = 15.84, 21.6, 9.0  # points between cards, between rows, and from a card to its box
LINE_GAP, THIN = 9.0, 2.0  # from a line to a card; half the room of a line
CLEAR, BULGE = 9.0, 6.0  # how near the corners of an arrow come to a card; how much nearer its curves may
REACH = 90.0  # how far from its corners an arrow bends
BENDS = (0.38, 0.25, 0.16, 0.08)  # the same relative to the way between two corners, best first
AIM = 0.4, 0.75  # how far from the middle of a card an arrow ends, relative to where it comes from: straight, or not
APART = 12.0  # between the ends of two arrows
TOLERANCE, FAR = 0.5, 1000  # a string gives way to a gate from here on, and sees so many of them
PASSES = 2  # boxes are laid out again when it is known where their arrows go
WIDE = 300.0  # beside a box of this width no leaf stands
# how strongly an arrow pulls its ends to stand below each other: one that passes no row of cards, one, or more, or that
# comes from a leaf; and how strongly an item stays where it is
SHORT, MIDDLE, LONG, LEAF, FREE = 1.0, 0.6, 0.05, 0.004, 0.0002


class Plan(NamedTuple):
    """Where everything stands, in points, from the top left corner."""

    width: float
    height: float
    places: dict[str, Point]  # the centre of each card
    frames: dict[str, tuple[float, float, float, float]]  # left, top, right and bottom of each box
    routes: dict[str, list[Point]]  # of each arrow its start, then three points for each cubic Bézier piece
    spots: dict[str, Point]  # the centre of the number beside an arrow


class _Pull(NamedTuple):
    """A piece of an arrow between items of neighbouring rows, as seen from one of them."""

    item: int  # the other
    there: float  # where the arrow ends, right of the middle of the other
    here: float  # and of this one
    weight: float


@dataclass(eq=False)
class _Level:
    """The items of one box: cards, boxes, ports, and the thin ones that keep the way of an arrow free."""

    items: list[str] = field(default_factory=list)  # the ids of cards and boxes; "" for the others
    left: list[float] = field(default_factory=list)  # how far an item extends from its middle
    right: list[float] = field(default_factory=list)
    height: list[float] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)  # of its top
    low: list[float] = field(default_factory=list)  # how far left an arrow may pass at this item
    high: list[float] = field(default_factory=list)
    ups: list[list[_Pull]] = field(default_factory=list)
    downs: list[list[_Pull]] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    tops: list[float] = field(default_factory=list)  # of the rows
    bottoms: list[float] = field(default_factory=list)
    ways: dict[str, list[int]] = field(default_factory=dict)  # the items that an arrow visits here, from top to bottom
    weights: dict[str, float] = field(default_factory=dict)  # how an arrow pulls its ends here
    marks: dict[str, int] = field(default_factory=dict)  # the item that has room for the number of an arrow
    frame: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def add(self, id: str, left: float, right: float, height: float, row: int) -> int:
        """Add an item and return its number."""
        for values, value in zip((self.left, self.right, self.height), (left, right, height), strict=True):
            values.append(value)
        for values in (self.x, self.y, self.low, self.high):
            values.append(0.0)
        self.items.append(id)
        self.row.append(row)
        self.ups.append([])
        self.downs.append([])
        return len(self.items) - 1


class _Arc(NamedTuple):
    """An arrow, or its part in one box, between two items there."""

    edge: str
    upper: int
    lower: int
    is_inner: bool  # it ends at no port


def arrange(
    sizes: Mapping[str, Point],
    edges: Sequence[tuple[str, str, str]],
    boxes: Mapping[str, str | None],
    home: Mapping[str, str | None],
    titles: Mapping[str, Point],
    direction: str = "TB",
    labels: Mapping[str, Point] | None = None,
) -> Plan:
    """Place cards in layers, boxes around them, and arrows between.

    Parameters
    ----------
    sizes : mapping of str to (float, float)
        Width and height of each card, in points.
    edges : sequence of (str, str, str)
        Id, source card and target card of each arrow. One that would close a cycle runs upwards.
    boxes : mapping of str to str or None
        The box around each box.
    home : mapping of str to str or None
        The box around each card.
    titles : mapping of str to (float, float)
        Width and height of the title of each box.
    direction : {"TB", "LR", "BT", "RL"}
        Where the arrows run.
    labels : mapping of str to (float, float), optional
        Width and height of the number beside an arrow.

    Returns
    -------
    Plan

    Examples
    --------
    >>> plan = arrange({"a": (60, 20), "b": (60, 20)}, [("e", "a", "b")], {}, {"a": None, "b": None}, {})
    >>> plan.places
    {'a': (30.0, 10.0), 'b': (30.0, 51.6)}
    >>> plan.routes
    {'e': [(30.0, 20.0), (30.0, 27.2), (30.0, 34.4), (30.0, 41.6)]}
    """
    is_flat = direction in ("LR", "RL")
    turned = {id: (h, w) if is_flat else (w, h) for id, (w, h) in sizes.items()}
    numbers = {id: (h, w) if is_flat else (w, h) for id, (w, h) in (labels or {}).items()}
    depth = _depths(boxes)
    chains = _chains(edges, boxes, home, depth)
    wishes: dict[tuple[str, str], float] = {}
    best: _Layout | None = None
    for _ in range(PASSES):
        layout = _layout(chains, turned, boxes, home, titles, direction, numbers, depth, wishes)
        if best is None or layout.crossings < best.crossings:
            best = layout
        wishes = _wishes(chains, layout) if best.crossings else {}
        if not wishes:
            break
    assert best is not None
    routes, spots = _routes(chains, best, turned, numbers, is_flat)
    x0, y0, x1, y1 = best.levels[None].frame
    return _directed(Plan(x1 - x0, y1 - y0, best.places, best.frames, routes, spots), direction)


class _Layout(NamedTuple):
    """All items placed."""

    levels: dict[str | None, _Level]
    shifts: dict[str | None, Point]  # how far each level is moved
    places: dict[str, Point]
    frames: dict[str, tuple[float, float, float, float]]
    crossings: int


def _layout(
    chains: Sequence[_Chain],
    sizes: Mapping[str, Point],
    boxes: Mapping[str, str | None],
    home: Mapping[str, str | None],
    titles: Mapping[str, Point],
    direction: str,
    numbers: Mapping[str, Point],
    depth: Mapping[str, int],
    wishes: Mapping[tuple[str, str], float],
) -> _Layout:
    """Lay out all boxes, innermost first; `wishes` says where the arrows go outside of a box, if that is known."""
    levels: dict[str | None, _Level] = {None: _Level(), **{box: _Level() for box in boxes}}
    number = {id: levels[home.get(id)].add(id, w / 2, w / 2, h, 1) for id, (w, h) in sizes.items()}
    number.update((id, levels[parent].add(id, 0.0, 0.0, 0.0, 1)) for id, parent in boxes.items())
    arcs = _arcs(chains, number, levels, wishes)
    crossings = 0
    for box in [*sorted(boxes, key=lambda box: -depth[box]), None]:
        level = levels[box]
        crossings += _lay_out(level, arcs[box], numbers, levels, direction in ("LR", "RL"), bool(wishes))
        if box is None:
            low, high = _extent(level)
            level.frame = (low, level.tops[1], high, max(level.tops[1], level.bottoms[-2]))
            _open_gates(level, 0.0)
        else:
            _surround(level, titles.get(box, (0.0, 0.0)), direction)
            around, i = levels[boxes[box]], number[box]
            around.left[i] = around.right[i] = (level.frame[2] - level.frame[0]) / 2
            around.height[i] = level.frame[3] - level.frame[1]
    return _Layout(levels, *_absolute(levels, boxes, number, depth), crossings)


def _wishes(chains: Sequence[_Chain], layout: _Layout) -> dict[tuple[str, str], float]:
    """Return the x that each arrow comes from, or goes to, where it crosses the border of a box."""
    wishes = {}
    for chain in chains:
        for side, crossed in enumerate((chain.out, chain.into)):
            for box, around in pairwise([*crossed, chain.level] if crossed else []):
                assert box is not None
                way = layout.levels[around].ways[chain.edge]
                step = min(2 if layout.levels[around].marks else 1, len(way) - 1)
                wishes[box, chain.edge] = _x_of(chain, side, around, -1 - step if side else step, layout)
    return wishes


def _x_of(chain: _Chain, side: int, box: str | None, step: int, layout: _Layout) -> float:
    """Return the x of an item on the way of an arrow, seen from the upper card (side 0) or the lower one."""
    item = layout.levels[box].ways[chain.edge][step]
    inner = layout.levels[box].items[item]
    if inner in layout.levels:
        box, item = inner, layout.levels[inner].ways[chain.edge][-1 if side else 0]
    return round(layout.levels[box].x[item] + layout.shifts[box][0], 3)


# -- which item is where in the tree of boxes -----------------------------------------------------


class _Chain(NamedTuple):
    """An arrow, and the boxes whose borders it crosses; it is turned around if it closes a cycle."""

    edge: str
    upper: str
    lower: str
    out: list[str]  # the boxes that it leaves, innermost first
    into: list[str]  # the boxes that it enters, innermost first
    level: str | None  # the box in which it is between
    is_turned: bool


def _depths(boxes: Mapping[str, str | None]) -> dict[str, int]:
    """Return how many boxes there are around each, itself included."""
    depth: dict[str, int] = {}
    for box in boxes:
        chain: list[str] = []
        step: str | None = box
        while step is not None and step not in depth:
            chain.append(step)
            step = boxes[step]
        for inner in reversed(chain):
            above = boxes[inner]
            depth[inner] = 1 if above is None else depth[above] + 1
    return depth


def _chains(
    edges: Sequence[tuple[str, str, str]],
    boxes: Mapping[str, str | None],
    home: Mapping[str, str | None],
    depth: Mapping[str, int],
) -> list[_Chain]:
    """Find which borders each arrow crosses, and turn around those that close a cycle."""
    found: list[_Chain] = []
    between: dict[str | None, list[tuple[str, str]]] = {}
    for edge, source, target in edges:
        out: list[str] = []
        into: list[str] = []
        a, b = home.get(source), home.get(target)
        while a != b:
            if b is None or (a is not None and depth[a] >= depth[b]):
                assert a is not None
                out.append(a)
                a = boxes[a]
            else:
                into.append(b)
                b = boxes[b]
        if source != target:
            found.append(_Chain(edge, source, target, out, into, a, False))
            between.setdefault(a, []).append((out[-1] if out else source, into[-1] if into else target))
    order = {item: rank for pairs in between.values() for item, rank in _numbered(pairs).items()}
    for i, (edge, source, target, out, into, level, _) in enumerate(found):
        if order[out[-1] if out else source] > order[into[-1] if into else target]:
            found[i] = _Chain(edge, target, source, into, out, level, True)
    return found


def _numbered(pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return numbers of items: smaller for the first of each pair than for the second, except in cycles."""
    after: dict[str, list[str]] = {}
    for a, b in pairs:
        after.setdefault(a, []).append(b)
        after.setdefault(b, [])
    finished: list[str] = []
    seen: set[str] = set()
    for start in after:
        if start in seen:
            continue
        seen.add(start)
        stack = [(start, 0)]
        while stack:
            item, k = stack.pop()
            if k == len(after[item]):
                finished.append(item)
                continue
            stack.append((item, k + 1))
            below = after[item][k]
            if below not in seen:
                seen.add(below)
                stack.append((below, 0))
    return {item: len(finished) - n for n, item in enumerate(finished)}


def _arcs(
    chains: Sequence[_Chain],
    number: Mapping[str, int],
    levels: Mapping[str | None, _Level],
    wishes: Mapping[tuple[str, str], float],
) -> dict[str | None, list[_Arc]]:
    """Return the parts of all arrows by box; their ports become items, from left to right as wished."""
    arcs: dict[str | None, list[_Arc]] = {box: [] for box in levels}
    parts: list[tuple[str, str, int, bool]] = []  # box, edge, item, and whether it goes out
    for chain in chains:
        inner = chain.upper
        for box in chain.out:
            parts.append((box, chain.edge, number[inner], True))
            inner = box
        upper, inner = inner, chain.lower
        for box in chain.into:
            parts.append((box, chain.edge, number[inner], False))
            inner = box
        arcs[chain.level].append(_Arc(chain.edge, number[upper], number[inner], True))
    for box, edge, item, goes_out in sorted(parts, key=lambda part: wishes.get(part[:2], 0.0)):
        port = levels[box].add("", THIN, THIN, 0.0, 0)
        arcs[box].append(_Arc(edge, item, port, False) if goes_out else _Arc(edge, port, item, False))
    return arcs


# -- one box --------------------------------------------------------------------------------------


def _lay_out(
    level: _Level,
    arcs: Sequence[_Arc],
    numbers: Mapping[str, Point],
    levels: Mapping[str | None, _Level],
    is_flat: bool,
    ports_are_fixed: bool,
) -> int:
    """Find rows, order and places in a box whose inner boxes are laid out; return the number of crossings."""
    has_numbers = any(arc.is_inner and arc.edge in numbers for arc in arcs)
    last = _rank(level, arcs)
    if has_numbers:  # every other row is for numbers
        level.row = [2 * row - 1 - (row == last) if row else 0 for row in level.row]
        last = 2 * last - 2
    _thread(level, arcs, numbers, levels, is_flat, has_numbers)
    level.rows, crossings = _order(level, last, ports_are_fixed)
    _place(level)
    _stack(level, has_numbers)
    return crossings


def _rank(level: _Level, arcs: Sequence[_Arc]) -> int:
    """Put each item in the first row below all that it comes from, and leaves right above their first use.

    Row 0 and the last, whose number is returned, are for ports.
    """
    n = len(level.items)
    above: list[list[int]] = [[] for _ in range(n)]
    below: list[list[int]] = [[] for _ in range(n)]
    for arc in arcs:
        above[arc.lower].append(arc.upper)
        below[arc.upper].append(arc.lower)
    row = [1 if level.items[i] else 0 for i in range(n)]
    waits = [len(items) for items in above]
    ready = [i for i in range(n) if not waits[i]]
    for i in ready:  # which grows
        for j in below[i]:
            row[j] = max(row[j], row[i] + 1)
            waits[j] -= 1
            if not waits[j]:
                ready.append(j)
    last = 1
    for i in range(n):
        if level.items[i]:
            last = max(last, row[i] + 1)
    for i in reversed(ready):
        if not level.items[i] and above[i]:
            row[i] = last
        elif level.items[i] and len(below[i]) > len(above[i]):
            row[i] = min(row[j] for j in below[i]) - 1
    wide = {row[i] for i in range(n) if level.items[i] and level.left[i] + level.right[i] > WIDE}
    doubled = [2 * row[i] + (row[i] in wide and not above[i] and bool(below[i])) for i in range(n)]
    if wide:  # leaves get a row of their own below
        rank = {r: k for k, r in enumerate(sorted({0, 2 * last, *doubled}))}
        row, last = [rank[r] for r in doubled], rank[2 * last]
    level.row = row
    return last


def _thread(
    level: _Level,
    arcs: Sequence[_Arc],
    numbers: Mapping[str, Point],
    levels: Mapping[str | None, _Level],
    is_flat: bool,
    has_numbers: bool,
) -> None:
    """Put a thin item into each row that an arrow passes, and join the items along its way."""
    is_leaf = [bool(id) for id in level.items]
    for arc in arcs:
        is_leaf[arc.lower] = False
    has_trunk = [False] * len(level.items)  # then leaves give way
    for arc in arcs:
        has_trunk[arc.lower] |= not is_leaf[arc.upper]
    for arc in arcs:
        first, last = level.row[arc.upper], level.row[arc.lower]
        way = [arc.upper]
        mark = (first + last) // 2 if arc.is_inner and arc.edge in numbers else -1
        mark += mark % 2 if mark > 0 else 0
        for row in range(first + 1, last):
            if row == mark:
                width, height = numbers[arc.edge]
                sides = (width + THIN + 2, THIN + 2) if is_flat else (THIN + 2, width + THIN + 2)
                level.marks[arc.edge] = level.add("", *sides, height, row)
                way.append(level.marks[arc.edge])
            else:
                way.append(level.add("", THIN, THIN, 0.0, row))
        way.append(arc.lower)
        level.ways[arc.edge] = way
        passed = (len(way) - 2) // (2 if has_numbers else 1)  # rows of cards
        weight = LEAF if is_leaf[arc.upper] and has_trunk[arc.lower] else (SHORT, MIDDLE, LONG)[min(passed, 2)]
        starts, weight = _port(level, arc.upper, arc.edge, levels, -1, weight)
        ends, weight = _port(level, arc.lower, arc.edge, levels, 0, weight)
        level.weights[arc.edge] = weight
        for k, (a, b) in enumerate(pairwise(way)):
            at_a, at_b = starts if k == 0 else 0.0, ends if k == len(way) - 2 else 0.0
            level.downs[a].append(_Pull(b, at_b, at_a, weight))
            level.ups[b].append(_Pull(a, at_a, at_b, weight))


def _port(
    level: _Level, i: int, edge: str, levels: Mapping[str | None, _Level], end: int, weight: float
) -> tuple[float, float]:
    """Return how far right of the middle of an item an arrow ends, and how it pulls there."""
    inner = levels.get(level.items[i])
    if inner is None:
        return 0.0, weight
    return inner.x[inner.ways[edge][end]] - (inner.frame[0] + inner.frame[2]) / 2, min(weight, inner.weights[edge])


# -- the order in each row ------------------------------------------------------------------------

Ends = list[list[tuple[int, float]]]  # of each item those it is joined to, and where there, from -0.5 to 0.5


def _order(level: _Level, last: int, ports_are_fixed: bool) -> tuple[list[list[int]], int]:
    """Return the items of each row from left to right, with few crossings, and how many there are."""
    widths = [left + right or 1.0 for left, right in zip(level.left, level.right, strict=True)]
    above: Ends = [[(p.item, p.there / widths[p.item]) for p in pulls] for pulls in level.ups]
    below: Ends = [[(p.item, p.there / widths[p.item]) for p in pulls] for pulls in level.downs]
    best: list[list[int]] = []
    fewest = math.inf
    patience = 4 if len(widths) < 5000 else 1
    for onward, back in ((above, below), (below, above)):
        rows = _walked(level.row, last, onward, back)
        place = [0.0] * len(widths)
        if ports_are_fixed:
            rows[0].sort()
            rows[-1].sort()
        _number(rows, place)
        failures, turn = 0, 0
        while fewest and failures <= patience:
            crossings = _crossings(rows, place, above)
            failures += 1
            if crossings < fewest:
                best, fewest, failures = [list(row) for row in rows], crossings, 0
            free = rows[1:-1] if ports_are_fixed else rows
            _sweep(free, place, below if turn % 2 else above, turn % 2 == 1)
            _swap(free, place, above, below)
            turn += 1
    balanced = _balanced(best, above, below)
    _number(balanced, place)
    if _crossings(balanced, place, above) <= fewest:
        best = balanced
    lean = 0.0
    for row in best if best[0] else []:
        if any(level.items[i] for i in row):
            for k, i in enumerate(row):
                lean += 0.0 if level.items[i] else k - (len(row) - 1) / 2
    mirrored = [row[::-1] for row in best]  # long arrows run at the right, far from the title
    _number(mirrored, place)
    if lean < 0 and not ports_are_fixed and _crossings(mirrored, place, above) <= fewest:
        best = mirrored
    return best, int(fewest)


def _balanced(rows: Sequence[Sequence[int]], above: Ends, below: Ends) -> list[list[int]]:
    """Put leaves that go to the same item on both sides of what else goes there."""
    found: list[list[int]] = []
    place: dict[int, int] = {}  # in the row before
    for r, row in enumerate(rows):
        if 0 < r < len(rows) - 1 and all(len(above[i]) == 1 for i in row):  # numbers follow what is above
            row = sorted(row, key=lambda i: place[above[i][0][0]])
        order: list[int] = []
        run: list[int] = []
        target = -1
        for i in [*row, -1]:
            to = _target(i, above, below) if i >= 0 else -1
            if to < 0 or to != target:
                leaves = [j for j in run if not above[j]]
                half = len(leaves) // 2 if len(leaves) < len(run) else 0
                order += [*leaves[:half], *(j for j in run if above[j]), *leaves[half:]]
                run, target = [], to
            if i >= 0:
                run.append(i)
        place = {i: k for k, i in enumerate(order)}
        found.append(order)
    return found


def _target(i: int, above: Ends, below: Ends) -> int:
    """Return the item that all of an item's arrows go to, past a number, or -1."""
    for _ in range(2):
        if len(below[i]) != 1:
            return -1
        i = below[i][0][0]
        if len(above[i]) > 1:
            return i
    return i


def _walked(row: Sequence[int], last: int, onward: Ends, back: Ends) -> list[list[int]]:
    """Fill the rows in the order in which a walk from the ends meets the items: of a tree this has no crossings."""
    rows: list[list[int]] = [[] for _ in range(last + 1)]
    seen = [False] * len(row)
    for start in sorted(range(len(row)), key=lambda i: len(back[i]) > 0):
        stack = [start]
        while stack:
            i = stack.pop()
            if not seen[i]:
                seen[i] = True
                rows[row[i]].append(i)
                stack += [j for j, _ in reversed(onward[i])]
    return rows


def _number(rows: Sequence[Sequence[int]], place: list[float]) -> None:
    for row in rows:
        for k, i in enumerate(row):
            place[i] = k


def _crossings(rows: Sequence[Sequence[int]], place: Sequence[float], above: Ends) -> int:
    """Count the pairs of arrows that cross."""
    total = 0
    for row in rows[1:]:
        seen: list[float] = []
        for _, end in sorted((place[j] + at, place[i]) for i in row for j, at in above[i]):
            total += len(seen) - bisect_right(seen, end)
            insort(seen, end)
    return total


def _sweep(rows: list[list[int]], place: list[float], ends: Ends, is_up: bool) -> None:
    """Sort each row by the mean place of what its items are joined to in the row before."""
    for row in reversed(rows) if is_up else rows:
        key = {}
        for i in row:
            mean = 0.0
            for j, at in ends[i]:
                mean += place[j] + at
            key[i] = mean / len(ends[i]) if ends[i] else place[i]
        row.sort(key=key.__getitem__)
        _number([row], place)


def _swap(rows: Sequence[list[int]], place: list[float], above: Ends, below: Ends) -> None:
    """Exchange neighbours wherever that makes fewer crossings."""
    for row in rows:
        ends = [[sorted(place[j] + at for j, at in side[i]) for side in (above, below)] for i in row]
        for k in range(len(row) - 1):
            gain = 0
            for a, b in zip(ends[k], ends[k + 1], strict=True):
                for end in a:
                    gain += bisect_left(b, end) - len(b) + bisect_right(b, end)
            if gain > 0:
                row[k], row[k + 1] = row[k + 1], row[k]
                ends[k], ends[k + 1] = ends[k + 1], ends[k]
        _number([row], place)


# -- x and y --------------------------------------------------------------------------------------


def _place(level: _Level) -> None:
    """Find the x of all items: straight below each other where the arrows that join them pull strongly."""
    for row in level.rows:
        x = 0.0
        for k, i in enumerate(row):
            x += _gap(level, row[k - 1], i) if k else 0.0
            level.x[i] = x
        for i in row:
            level.x[i] -= x / 2
    for _ in range(6):
        for row in level.rows:
            _settle(level, row, (level.ups,))
        for row in reversed(level.rows):
            _settle(level, row, (level.downs,))
    for _ in range(2):
        for row in level.rows:
            _settle(level, row, (level.ups, level.downs))
        for row in reversed(level.rows):
            _settle(level, row, (level.ups, level.downs))


def _gap(level: _Level, a: int, b: int) -> float:
    """Return how far the middles of neighbours in a row are at least apart."""
    wide = bool(level.items[a]) + bool(level.items[b])
    return level.right[a] + level.left[b] + (2 * THIN, LINE_GAP, NODE_GAP)[wide]


def _settle(level: _Level, row: Sequence[int], sides: Sequence[Sequence[Sequence[_Pull]]]) -> None:
    """Move the items of a row to where they are pulled to, as near as their order and width let them."""
    xs = level.x
    wants, weights, gaps = [], [], []
    before = -1
    for i in row:
        weight, pull = FREE, FREE * xs[i]
        for side in sides:
            for item, there, here, strength in side[i]:
                weight += strength
                pull += strength * (xs[item] + there - here)
        wants.append(pull / weight)
        weights.append(weight)
        gaps.append(_gap(level, before, i) if before >= 0 else 0.0)
        before = i
    for i, x in zip(row, _apart(wants, weights, gaps), strict=True):
        level.x[i] = x


def _apart(wants: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Return the numbers nearest to `wants`, in weighted squares, that are at least `gaps` apart, each from the last.

    >>> _apart([0, 0, 10], [1, 1, 1], [0, 4, 4])
    [-2.0, 2.0, 10.0]
    """
    blocks: list[tuple[float, float, int]] = []  # weight, weighted sum, and number of those that move together
    offsets, offset = [], 0.0
    for want, weight, gap in zip(wants, weights, gaps, strict=True):
        offset += gap
        offsets.append(offset)
        block = (weight, weight * (want - offset), 1)
        while blocks and blocks[-1][1] / blocks[-1][0] >= block[1] / block[0]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    base = [total / weight for weight, total, size in blocks for _ in range(size)]
    return [x + offset for x, offset in zip(base, offsets, strict=True)]


def _stack(level: _Level, has_numbers: bool) -> None:
    """Find the y of the rows, and of the items in them: leaves stand low, near to their use, ends high."""
    y, last = 0.0, len(level.rows) - 1
    for r, row in enumerate(level.rows):
        height = 0.0
        for i in row:
            height = max(height, level.height[i])
        level.tops.append(y)
        level.bottoms.append(y + height)
        for i in row:
            room = height - level.height[i]
            level.y[i] = y + (room if not level.ups[i] else 0.0 if not level.downs[i] else room / 2)
        slant = 0.0
        for i in row:
            for p in level.downs[i]:
                slant = max(slant, abs(level.x[p.item] + p.there - level.x[i] - p.here))
        y += height + (MARGIN if r in (0, last - 1) else ROW_GAP / 2 if has_numbers else ROW_GAP)
        y += min(max(slant - 50, 0.0) * 0.1, ROW_GAP)


def _extent(level: _Level) -> tuple[float, float]:
    """Return where the items of a level begin and end."""
    low = min((x - left for x, left in zip(level.x, level.left, strict=True)), default=0.0)
    return low, max((x + right for x, right in zip(level.x, level.right, strict=True)), default=0.0)


def _surround(level: _Level, title: Point, direction: str) -> None:
    """Put the frame around the items of a box, with room for its title, which no arrow crosses."""
    width, height = title
    low, high = _extent(level)
    if direction in ("LR", "RL"):
        level.bottoms[-1] = max(level.bottoms[-1], level.tops[0] + width + 2 * MARGIN)
        level.frame = (low - MARGIN - height, level.tops[0], high + MARGIN, level.bottoms[-1])
        _open_gates(level, 0.0)
        return
    if direction == "TB":
        level.tops[0] -= height
    else:
        level.bottoms[-1] += height
    edge = low + width
    for port in level.rows[0 if direction == "TB" else -1]:  # beside the title
        level.x[port] = max(level.x[port], edge + LINE_GAP)
        edge = level.x[port]
    high = max(high, edge + THIN, low + width)
    level.frame = (low - MARGIN, level.tops[0], high + MARGIN, level.bottoms[-1])
    _open_gates(level, width, 0 if direction == "TB" else len(level.rows) - 1)


def _open_gates(level: _Level, title: float, title_row: int = 0) -> None:
    """Find between which x an arrow may pass each item of a row."""
    marks = set(level.marks.values())
    for r, row in enumerate(level.rows):
        edge = level.frame[0] + (MARGIN + title + CLEAR if title and r == title_row else MARGIN / 2)
        for k, i in enumerate(row):
            level.low[i] = edge
            if k == len(row) - 1:
                edge = level.frame[2] - MARGIN / 2
            else:
                j = row[k + 1]
                left, right = level.x[i] + level.right[i], level.x[j] - level.left[j]
                if bool(level.items[i]) == bool(level.items[j]):
                    edge = (left + right) / 2
                else:
                    edge = left + CLEAR if level.items[i] else right - CLEAR
            level.high[i] = edge
            if not level.items[i]:
                level.low[i] += level.left[i]
                level.high[i] -= level.right[i]
        if 0 < r < len(level.rows) - 1 and not any(level.items[i] for i in row):  # beside numbers lines may cross
            for a, b in pairwise(row):
                if a not in marks and b not in marks:
                    level.low[b] = level.low[a]
            for b, a in pairwise(reversed(row)):
                if a not in marks and b not in marks:
                    level.high[a] = level.high[b]


# -- all boxes together ---------------------------------------------------------------------------


def _absolute(
    levels: Mapping[str | None, _Level],
    boxes: Mapping[str, str | None],
    number: Mapping[str, int],
    depth: Mapping[str, int],
) -> tuple[dict[str | None, Point], dict[str, Point], dict[str, tuple[float, float, float, float]]]:
    """Return how far each level is moved, where the cards are, and the frames of the boxes."""
    shifts: dict[str | None, Point] = {None: (-levels[None].frame[0], -levels[None].frame[1])}
    frames = {}
    for box, parent in sorted(boxes.items(), key=lambda pair: depth[pair[0]]):
        around, i, (dx, dy) = levels[parent], number[box], shifts[parent]
        left, top = around.x[i] - around.left[i] + dx, around.y[i] + dy
        x0, y0, x1, y1 = levels[box].frame
        shifts[box] = (left - x0, top - y0)
        frames[box] = (left, top, left + x1 - x0, top + y1 - y0)
    places = {}
    for home, level in levels.items():
        dx, dy = shifts[home]
        for i, id in enumerate(level.items):
            if id and id not in levels:
                places[id] = (level.x[i] + dx, level.y[i] + level.height[i] / 2 + dy)
    return shifts, places, frames


def _directed(plan: Plan, direction: str) -> Plan:
    """Return a plan that runs from top to bottom as one of another direction; round its numbers."""
    width, height = plan.width, plan.height
    is_flat = direction in ("LR", "RL")

    def point(p: Point) -> Point:
        x, y = p[0], (height - p[1] if direction in ("BT", "RL") else p[1])
        return (round(y, 2), round(x, 2)) if is_flat else (round(x, 2), round(y, 2))

    def frame(f: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        (ax, ay), (bx, by) = point(f[:2]), point(f[2:])
        return min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)

    return Plan(
        round(height if is_flat else width, 2),
        round(width if is_flat else height, 2),
        {id: point(p) for id, p in plan.places.items()},
        {id: frame(f) for id, f in plan.frames.items()},
        {id: [point(p) for p in route] for id, route in plan.routes.items()},
        {id: point(p) for id, p in plan.spots.items()},
    )


# -- arrows ---------------------------------------------------------------------------------------

Gate = tuple[float, float, float]  # y, and the x between which an arrow passes it


def _routes(
    chains: Sequence[_Chain],
    layout: _Layout,
    sizes: Mapping[str, Point],
    numbers: Mapping[str, Point],
    is_flat: bool,
) -> tuple[dict[str, list[Point]], dict[str, Point]]:
    """Return the curve of each arrow, and where its number stands."""
    levels, shifts = layout.levels, layout.shifts
    gates = [
        [
            gate
            for box in (*chain.out, chain.level, *reversed(chain.into))
            for gate in _gates(levels[box], levels[box].ways[chain.edge], shifts[box])
        ]
        for chain in chains
    ]
    starts, ends = _ends(chains, gates, layout, sizes)
    routes, spots = {}, {}
    for k, chain in enumerate(chains):
        line = _tight(starts[k], gates[k], ends[k])
        route = _smooth(line, gates[k])
        if chain.edge in numbers:
            level, (dx, dy) = levels[chain.level], shifts[chain.level]
            mark = level.marks[chain.edge]
            y = level.y[mark] + level.height[mark] / 2 + dy
            width, height = numbers[chain.edge]
            beside = [_x_at(route, y + step * height / 2) for step in (-1, 0, 1)]
            x = max(min(beside), level.low[mark] + dx) if is_flat else min(max(beside), level.high[mark] + dx)
            aside = width / 2 + THIN + 2
            spots[chain.edge] = (x - aside if is_flat else x + aside, y)
        routes[chain.edge] = route[::-1] if chain.is_turned else route
    return routes, spots


def _gates(level: _Level, way: Sequence[int], shift: Point) -> list[Gate]:
    """Return the gates along the way of an arrow in one box: at each row, between its neighbours there."""
    found = []
    for k, i in enumerate(way):
        low, high = level.low[i] + shift[0], level.high[i] + shift[0]
        top, bottom = level.tops[level.row[i]], level.bottoms[level.row[i]]
        if k > 0 or not level.items[i]:
            found.append((top + shift[1], low, high))
        if bottom > top and not level.items[i]:
            found.append(((top + bottom) / 2 + shift[1], low, high))
        if bottom > top and (k < len(way) - 1 or not level.items[i]):
            found.append((bottom + shift[1], low, high))
    return found


def _ends(
    chains: Sequence[_Chain], gates: Sequence[Sequence[Gate]], layout: _Layout, sizes: Mapping[str, Point]
) -> tuple[list[Point], list[Point]]:
    """Return where each arrow leaves its upper card, and reaches its lower one.

    It aims from middle to middle, but two do not end at the same point.
    """
    places = layout.places
    found: list[list[tuple[str, float, float, int]]] = [[], []]
    for k, chain in enumerate(chains):
        (ax, ay), (bx, by) = places[chain.upper], places[chain.lower]
        (aw, ah), (bw, bh) = sizes[chain.upper], sizes[chain.lower]
        first, last = (ay + ah / 2, *_side(ax, aw)), (by - bh / 2, *_side(bx, bw))
        line = _tight((ax, ay), [first, *gates[k], last], (bx, by))
        for side, y, (p, q, *more) in ((0, first[0], line), (1, last[0], line[::-1])):
            q = more[0] if q[1] == y and more else q
            found[side].append(
                (
                    (chain.upper, chain.lower)[side],
                    _x_of(chain, side, (*(chain.out, chain.into)[side], chain.level)[0], -2 if side else 1, layout),
                    p[0] + AIM[len(line) > 2] * (q[0] - p[0]),
                    k,
                )
            )
    points: list[list[Point]] = []
    for sign, side_ends in ((1, found[0]), (-1, found[1])):
        at: list[Point] = [(0.0, 0.0)] * len(chains)
        groups: dict[str, list[tuple[float, int, float]]] = {}
        for card, order, x, k in side_ends:
            groups.setdefault(card, []).append((order, k, x))
        for card, group in groups.items():
            group.sort()
            low, high = _side(places[card][0], sizes[card][0])
            gap = min(APART, (high - low) / len(group))
            xs = _apart([x for _, _, x in group], [1.0] * len(group), [gap] * len(group))
            for n, (x, (_, k, _)) in enumerate(zip(xs, group, strict=True)):
                x = min(max(x, low + n * gap), high - (len(group) - 1 - n) * gap)
                at[k] = (x, places[card][1] + sign * sizes[card][1] / 2)
        points.append(at)
    return points[0], points[1]


def _side(x: float, width: float) -> Point:
    """Return between which x arrows may end at the card with this middle: not at its round corners."""
    half = max(width / 2 - 10, width / 4)
    return x - half, x + half


def _tight(start: Point, gates: Sequence[Gate], end: Point) -> list[Point]:
    """Return the corners of a string from start to end, pulled tight through the gates between.

    >>> _tight((0, 0), [(1, -1, 1), (2, 3, 4)], (0, 3))
    [(0, 0), (1, 1), (3, 2), (0, 3)]
    """
    stops = [*gates, (end[1], end[0], end[0])]
    line = [start]
    k = 0
    while k < len(stops):
        x, y = line[-1]
        least, most = -math.inf, math.inf  # the slopes that pass all gates so far
        left, right = k, k  # and the gates that they touch
        n = k
        while n < len(stops):
            down = stops[n][0] - y
            if down <= 1e-9:
                x = min(max(x, stops[n][1]), stops[n][2])
                if x != line[-1][0]:
                    line.append((x, y))
                    least, most = -math.inf, math.inf
                n += 1
                continue
            a, b = (stops[n][1] - x) / down, (stops[n][2] - x) / down
            if (a - most) * down > TOLERANCE or (least - b) * down > TOLERANCE or n - k == FAR:
                break
            if a >= least:
                least, left = a, n
            if b <= most:
                most, right = b, n
            n += 1
        if n == len(stops):
            break
        if n - k == FAR:
            line.append((x + (least + most) / 2 * (stops[n][0] - y), stops[n][0]))
            k = n
        elif (a - most) * down > TOLERANCE:
            line.append((stops[right][2], stops[right][0]))
            k = right + 1
        else:
            line.append((stops[left][1], stops[left][0]))
            k = left + 1
    return [*line, end]


def _smooth(line: Sequence[Point], gates: Sequence[Gate]) -> list[Point]:
    """Return a curve, as Bézier pieces, through the corners of a tight string and through the gates."""
    line = [p for k, p in enumerate(line) if k == 0 or p != line[k - 1]]
    line = line if len(line) == 2 else _with_straight_parts(line)
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(line)]
    lengths = [math.sqrt(x * x + y * y) for x, y in steps]
    if len(steps) == 1:
        return _piece(line[0], steps[0], line[1], steps[0], lengths[0] / 3)
    tangents = [steps[0]]
    for k in range(1, len(steps)):
        a, b = (min(lengths[j], REACH) / lengths[j] for j in (k - 1, k))
        tangents.append((steps[k - 1][0] * a + steps[k][0] * b, steps[k - 1][1] * a + steps[k][1] * b))
    tangents.append(steps[-1])
    # it leaves and reaches cards steeply
    tangents[0], tangents[-1] = ((x * 0.4, max(y, abs(x) * 0.4)) for x, y in (steps[0], steps[-1]))
    route = [line[0]]
    g = 0
    for k, (start, end) in enumerate(pairwise(line)):
        if lengths[k] > 2 * REACH + 1:  # straight
            route += _piece(start, steps[k], end, steps[k], lengths[k] / 3)[1:]
            continue
        while g < len(gates) and gates[g][0] <= start[1]:
            g += 1
        first = g
        while g < len(gates) and gates[g][0] < end[1]:
            g += 1
        for part in BENDS:
            piece = _piece(start, tangents[k], end, tangents[k + 1], lengths[k] * part)
            if all(low - BULGE <= _x_at(piece, y) <= high + BULGE for y, low, high in gates[first:g]):
                break
        route += piece[1:]
    return route


def _with_straight_parts(line: Sequence[Point]) -> list[Point]:
    """Return the corners of a line with more points on its long parts, which shall bend near their ends alone."""
    found = [line[0]]
    for (ax, ay), (bx, by) in pairwise(line):
        length = math.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay))
        if length > 6 * REACH:
            part = 2 * REACH / length
            found.append((ax + (bx - ax) * part, ay + (by - ay) * part))
            found.append((bx - (bx - ax) * part, by - (by - ay) * part))
        elif length > 2 * REACH:
            found += [(ax + (bx - ax) * n / 3, ay + (by - ay) * n / 3) for n in (1, 2)]
        found.append((bx, by))
    return found


def _piece(a: Point, leaving: Point, b: Point, reaching: Point, reach: float) -> list[Point]:
    """Return a Bézier curve from a to b with tangents of these directions; `reach` is how far its handles go."""
    handles = []
    for x, y in (leaving, reaching):
        size = reach / (math.sqrt(x * x + y * y) or 1.0)
        if y * size > (b[1] - a[1]) / 2:  # it shall always go down
            size = (b[1] - a[1]) / 2 / y
        handles.append((x * size, y * size))
    (px, py), (qx, qy) = handles
    return [a, (a[0] + px, a[1] + py), (b[0] - qx, b[1] - qy), b]


def _x_at(route: Sequence[Point], y: float) -> float:
    """Return the x of a curve that runs downwards, at a height."""
    k = 0
    while k + 4 < len(route) and route[k + 3][1] < y:
        k += 3
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = route[k : k + 4]
    low, high = 0.0, 1.0
    for _ in range(24):
        t = (low + high) / 2
        s = 1 - t
        if s * s * s * ay + 3 * s * s * t * by + 3 * s * t * t * cy + t * t * t * dy < y:
            low = t
        else:
            high = t
    s = 1 - low
    return s * s * s * ax + 3 * s * s * low * bx + 3 * s * low * low * cx + low * low * low * dx
