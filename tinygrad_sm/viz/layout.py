"""Placing the cards of a picture: a layered layout with nested boxes, for where no Graphviz is.

Every box is laid out by itself, innermost first, and then stands as one item in the box around it. `rows.py` finds the
rows of its items and their order, `places.py` where they stand; and when all boxes are laid out `routes.py` draws the
arrows. All is computed as if pictures ran from top to bottom; only at the end are x and y exchanged or mirrored.
`layout.js` does the same, step by step, and gets the same numbers: change them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .places import place, stack, surround
from .routes import routes
from .rows import Arrow, Frame, Item, Level, Point, order, rank, thread


class Plan(NamedTuple):
    """Where everything stands, in points, from the top left corner."""

    width: float
    height: float
    places: dict[str, Point]  # the centre of each card
    frames: dict[str, Frame]  # of each box
    routes: dict[str, list[Point]]  # of each arrow its start, then three points for each cubic Bézier piece
    spots: dict[str, Point]  # the centre of the number beside an arrow


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
    sizes, numbers = (
        {id: (h, w) if is_flat else (w, h) for id, (w, h) in given.items()} for given in (sizes, labels or {})
    )
    levels, cards = _tree(sizes, boxes, home)
    arrows = _find_arrows(edges, cards)
    _cut(arrows)
    for level in levels:
        level.has_numbers = any(arrow.id in numbers and arrow.level() is level for arrow, _, _ in level.arcs)
        last = rank(level)
        thread(level, numbers, is_flat)
        order(level, last)
        place(level)
        stack(level)
        surround(level, titles.get(level.box or "", (0.0, 0.0)), direction)
    _make_absolute(levels)
    places = {id: (card.x, card.y + card.height / 2) for id, card in cards.items()}
    frames = {level.box: level.frame for level in levels if level.box is not None}
    _, _, width, height = levels[-1].frame
    return _directed(Plan(width, height, places, frames, *routes(levels, arrows, numbers, is_flat)), direction)


# -- which item is where in the tree of boxes -----------------------------------------------------


def _tree(
    sizes: Mapping[str, Point], boxes: Mapping[str, str | None], home: Mapping[str, str | None]
) -> tuple[list[Level], dict[str, Item]]:
    """Return the levels, innermost first, with their cards and boxes, and the cards."""
    levels = {box: Level(box) for box in (None, *boxes)}
    cards = {}
    for id, (w, h) in sizes.items():
        level = levels[home.get(id)]
        cards[id] = level.add(Item(id, level, w / 2, w / 2, h))
    for box, parent in boxes.items():
        levels[box].item = levels[parent].add(Item(box, levels[parent], inner=levels[box]))
        step: str | None = box
        while step is not None:
            levels[box].depth += 1
            step = boxes[step]
    return sorted(levels.values(), key=lambda level: -level.depth), cards


def _find_arrows(edges: Sequence[tuple[str, str, str]], cards: Mapping[str, Item]) -> list[Arrow]:
    """Find which borders each arrow crosses, and turn around those that close a cycle."""
    found = []
    pairs: list[tuple[Item, Item]] = []  # the items that each arrow joins in the innermost box around both ends
    for edge, source, target in edges:
        arrow = Arrow(edge, cards[source], cards[target])
        a, b = arrow.upper, arrow.lower
        while a.home is not b.home:
            if a.home.depth >= b.home.depth:
                arrow.out.append(a.home)
                assert a.home.item is not None
                a = a.home.item
            else:
                arrow.into.append(b.home)
                assert b.home.item is not None
                b = b.home.item
        if source != target:
            found.append(arrow)
            pairs.append((a, b))
    order = _numbered(pairs)
    for arrow, (a, b) in zip(found, pairs, strict=True):
        if order[a] > order[b]:
            arrow.upper, arrow.lower, arrow.out, arrow.into = arrow.lower, arrow.upper, arrow.into, arrow.out
            arrow.is_turned = True
    return found


def _numbered(pairs: Sequence[tuple[Item, Item]]) -> dict[Item, int]:
    """Return numbers of items: smaller for the first of each pair than for the second, except in cycles."""
    after: dict[Item, list[Item]] = {}
    for a, b in pairs:
        after.setdefault(a, []).append(b)
        after.setdefault(b, [])
    finished: dict[Item, int] = {}
    seen: set[Item] = set()
    for start in after:
        stack = [(start, False)]
        while stack:
            item, is_done = stack.pop()
            if is_done:
                finished[item] = -len(finished)
            elif item not in seen:
                seen.add(item)
                stack += [(item, True), *((below, False) for below in reversed(after[item]))]
    return finished


def _cut(arrows: Sequence[Arrow]) -> None:
    """Cut the arrows at the borders of boxes, where their ports become items."""
    parts = []
    for arrow in arrows:
        ends = []
        for item, crossed in ((arrow.upper, arrow.out), (arrow.lower, arrow.into)):
            for level in crossed:
                parts.append((arrow, level, item, crossed is arrow.out))
                assert level.item is not None
                item = level.item
            ends.append(item)
        ends[0].home.arcs.append((arrow, ends[0], ends[1]))
    for arrow, level, item, goes_out in parts:  # after the others, so that rows are ordered by what is inside
        port = level.add(Item("", level))
        level.arcs.append((arrow, item, port) if goes_out else (arrow, port, item))


def _make_absolute(levels: Sequence[Level]) -> None:
    """Count all x and y from the top left corner of the picture."""
    for level in reversed(levels):  # from the outermost
        left, top, right, bottom = level.frame
        dx, dy = -left, -top
        if level.item is not None:
            dx, dy = level.item.x - level.item.left - left, level.item.y - top
        level.frame = (left + dx, top + dy, right + dx, bottom + dy)
        level.title += dx
        level.tops = [y + dy for y in level.tops]
        level.bottoms = [y + dy for y in level.bottoms]
        for item in level.items:
            item.x += dx
            item.y += dy


def _directed(plan: Plan, direction: str) -> Plan:
    """Return a plan that runs from top to bottom as one of another direction; round its numbers."""
    is_flat = direction in ("LR", "RL")

    def point(p: Point) -> Point:
        x, y = p[0], (plan.height - p[1] if direction in ("BT", "RL") else p[1])
        return (round(y, 2), round(x, 2)) if is_flat else (round(x, 2), round(y, 2))

    def frame(f: Frame) -> Frame:
        (ax, ay), (bx, by) = point(f[:2]), point(f[2:])
        return min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)

    width, height = round(plan.width, 2), round(plan.height, 2)
    return Plan(
        height if is_flat else width,
        width if is_flat else height,
        {id: point(p) for id, p in plan.places.items()},
        {id: frame(f) for id, f in plan.frames.items()},
        {id: [point(p) for p in route] for id, route in plan.routes.items()},
        {id: point(p) for id, p in plan.spots.items()},
    )
