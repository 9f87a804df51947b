"""Rows for the items of one box, and their order there.

Items stand in rows, such that arrows go down. Thin items keep the way free for an arrow that passes a row, and an arrow
that crosses the border of the box has one in its first or last row, the port. In each row they are ordered such that
few arrows cross.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import NamedTuple

Point = tuple[float, float]
Frame = tuple[float, float, float, float]  # left, top, right and bottom
NODE_GAP, LINE_GAP, THIN = 15.84, 9.0, 2.0  # points between cards, and from a line to a card; half the room of a line
# how strongly an arrow pulls its ends to stand below each other: one that passes no row of cards, one, or more; the
# last kind at a card; and one that comes from a leaf
PULLS, LOOSE, LEAF = (1.0, 0.6, 0.05), 0.0005, 0.004


class Pull(NamedTuple):
    """A piece of an arrow between items of neighbouring rows, as seen from one of them."""

    item: Item  # the other
    there: float  # where the arrow ends, right of the middle of the other
    here: float  # and of this one
    weight: float

    def place(self) -> float:
        """Return the place of the other end, with a fraction for where at a box it is."""
        return self.item.place + self.there / (self.item.left + self.item.right)


@dataclass(eq=False)
class Item:
    """What stands in a row: a card, a box, or, with no id, a piece of the way of an arrow."""

    id: str
    home: Level
    left: float = THIN  # how far it extends from its middle
    right: float = THIN
    height: float = 0.0
    row: int = 0
    place: int = 0  # in its row
    x: float = 0.0
    y: float = 0.0  # of its top
    low: float = 0.0  # how far left an arrow may pass here
    high: float = 0.0
    ups: list[Pull] = field(default_factory=list)
    downs: list[Pull] = field(default_factory=list)
    inner: Level | None = None  # if it is a box
    is_mark: bool = False  # it has room for the number of an arrow
    column: list[Item] = field(default_factory=list)  # the items that have the same x, from top to bottom

    def beside(self, side: int) -> Item | None:
        """Return its neighbour at the left (-1) or the right (1)."""
        row, k = self.home.rows[self.row], self.place + side
        return row[k] if 0 <= k < len(row) else None

    def is_tall(self) -> bool:
        """Tell whether it is in a row of cards."""
        return 0 < self.row < len(self.home.rows) - 1 and (self.row % 2 == 1 or not self.home.has_numbers)

    def is_bend(self) -> bool:
        """Tell whether it is a piece right below or above a card, in a row where an arrow may run aside."""
        is_last = any(pull.item.id for pull in (*self.ups, *self.downs))
        return is_last and not self.is_mark and not self.is_tall() and 0 < self.row < len(self.home.rows) - 1


@dataclass(eq=False)
class Level:
    """What is in one box, or, with no box, the whole picture."""

    box: str | None
    depth: int = 0
    item: Item | None = None  # which it is in the box around
    items: list[Item] = field(default_factory=list)
    arcs: list[tuple[Arrow, Item, Item]] = field(default_factory=list)  # the parts of arrows, from item to item
    rows: list[list[Item]] = field(default_factory=list)  # the first and the last for ports alone
    tops: list[float] = field(default_factory=list)  # of the rows
    bottoms: list[float] = field(default_factory=list)
    frame: Frame = (0.0, 0.0, 0.0, 0.0)
    title: float = -math.inf  # where it ends, if arrows could cross it
    has_numbers: bool = False  # then every other row is for them

    def add(self, item: Item) -> Item:
        """Add an item and return it."""
        item.column.append(item)
        self.items.append(item)
        return item


@dataclass(eq=False)
class Arrow:
    """An arrow between two cards; it is turned around if it closes a cycle."""

    id: str
    upper: Item
    lower: Item
    is_turned: bool = False
    out: list[Level] = field(default_factory=list)  # the boxes that it leaves, innermost first
    into: list[Level] = field(default_factory=list)  # the boxes that it enters, innermost first
    ways: dict[Level, list[Item]] = field(default_factory=dict)  # the items that it visits, from top to bottom
    weights: dict[Level, float] = field(default_factory=dict)  # how it pulls there
    mark: Item | None = None  # has room for its number

    def level(self) -> Level:
        """Return the innermost box around both ends."""
        end = (self.out or self.into)[-1].item if self.out or self.into else self.upper
        assert end is not None
        return end.home

    def way(self) -> list[Item]:
        """Return its upper card, all thin items that it visits, and its lower card."""
        levels = (*self.out, self.level(), *reversed(self.into))
        return [self.upper, *(item for level in levels for item in self.ways[level] if not item.id), self.lower]


# -- rows -----------------------------------------------------------------------------------------


def rank(level: Level) -> int:
    """Put each item in the first row below all that it comes from, and leaves right above their first use.

    Row 0 and the last, whose number is returned, are for ports.
    """
    step = 2 if level.has_numbers else 1
    above: dict[Item, int] = dict.fromkeys(level.items, 0)
    below: dict[Item, list[Item]] = {item: [] for item in level.items}
    for _, upper, lower in level.arcs:
        above[lower] += 1
        below[upper].append(lower)
    for item in level.items:
        item.row = 1 if item.id else 0
    waits = dict(above)
    ready = [item for item in level.items if not waits[item]]
    for item in ready:  # which grows
        for other in below[item]:
            other.row = max(other.row, item.row + step if item.id else 1)
            waits[other] -= 1
            if not waits[other]:
                ready.append(other)
    last = max((item.row for item in level.items if item.id), default=1) + 1
    for item in reversed(ready):
        if not item.id and above[item]:
            item.row = last
        elif item.id and len(below[item]) > above[item]:
            item.row = min(other.row - step if other.id else last - 1 for other in below[item])
    return last


def thread(level: Level, numbers: Mapping[str, Point], is_flat: bool) -> None:
    """Put a thin item into each row that an arrow passes, and join the items along its way."""
    entered = {lower for _, _, lower in level.arcs}
    leaves = {item for item in level.items if item.id and item not in entered}
    trunk = {lower for _, upper, lower in level.arcs if upper not in leaves}  # for these leaves give way
    for arrow, upper, lower in level.arcs:
        mark = -1
        if arrow.id in numbers and arrow.level() is level:
            mark = (upper.row + lower.row) // 2
            mark += mark % 2
        way = [upper]
        for row in range(upper.row + 1, lower.row):
            item = level.add(Item("", level, row=row))
            if row == mark:
                width, item.height = numbers[arrow.id]
                item.left, item.right = THIN + 2, THIN + 2 + width
                if is_flat:
                    item.left, item.right = item.right, item.left
                item.is_mark, arrow.mark = True, item
            way.append(item)
        way.append(lower)
        passed = (len(way) - 2) // (2 if level.has_numbers else 1)  # rows of cards
        weight = LEAF if upper in leaves and lower in trunk else PULLS[min(passed, 2)]
        at = {upper: 0.0, lower: 0.0}  # where at a box it ends
        for item, end in ((upper, -1), (lower, 0)):
            if item.inner:
                at[item] = arrow.ways[item.inner][end].x - (item.inner.frame[0] + item.inner.frame[2]) / 2
                weight = min(weight, arrow.weights[item.inner])
        arrow.ways[level], arrow.weights[level] = way, weight
        for a, b in pairwise(way):
            pull = LOOSE if weight == PULLS[-1] and any(end.id and not end.inner for end in (a, b)) else weight
            a.downs.append(Pull(b, at.get(b, 0.0), at.get(a, 0.0), pull))
            b.ups.append(Pull(a, at.get(a, 0.0), at.get(b, 0.0), pull))


# -- the order in each row ------------------------------------------------------------------------


def order(level: Level, last: int) -> None:
    """Find the order of the items of each row, with few crossings."""
    best: list[list[Item]] = []
    fewest = math.inf
    patience = 4 if len(level.items) < 5000 else 1
    for is_up, is_mirrored in ((True, False), (False, False), (True, True), (False, True)):
        rows = _walked(level.items, last, is_up, is_mirrored)
        _number(rows)
        failures, turn = 0, 0
        while fewest and failures <= patience:
            crossings = _count_crossings(rows)
            failures += 1
            if crossings < fewest:
                best, fewest, failures = [list(row) for row in rows], crossings, 0
            _sweep(rows[::-1] if turn % 2 else rows, turn % 2 == 1)
            _swap(rows)
            turn += 1
    level.rows = min((_balanced(best), best), key=lambda rows: _count_crossings(_number(rows)))
    # long arrows run at the right, in all boxes, so that they go on from box to box without crossings
    mirrored = [row[::-1] for row in level.rows]
    if _leans_right(mirrored) and _count_crossings(_number(mirrored)) <= fewest:
        level.rows = mirrored
    _number(level.rows)


def _leans_right(rows: Sequence[Sequence[Item]]) -> bool:
    """Tell whether arrows pass rows of cards at the right rather than at the left."""
    lean = 0.0
    for row in rows:
        if any(item.id for item in row):
            lean += sum(k - (len(row) - 1) / 2 for k, item in enumerate(row) if not item.id)
    return lean > 0


def _walked(items: Sequence[Item], last: int, is_up: bool, is_mirrored: bool) -> list[list[Item]]:
    """Fill the rows in the order in which a walk from the ends meets the items: of a tree this has no crossings."""
    rows: list[list[Item]] = [[] for _ in range(last + 1)]
    seen: set[Item] = set()
    for start in sorted(items, key=lambda i: len(i.downs if is_up else i.ups) > 0):
        stack = [start]
        while stack:
            item = stack.pop()
            if item not in seen:
                seen.add(item)
                rows[item.row].append(item)
                stack += [pull.item for pull in (item.ups if is_up else item.downs)[:: 1 if is_mirrored else -1]]
    return rows


def _number(rows: Sequence[Sequence[Item]]) -> Sequence[Sequence[Item]]:
    for row in rows:
        for k, item in enumerate(row):
            item.place = k
    return rows


def _count_crossings(rows: Sequence[Sequence[Item]]) -> int:
    """Count the pairs of arrows that cross."""
    total = 0
    for row in rows:
        seen: list[float] = []
        ends = [(pull.place(), item.place + pull.here / (item.left + item.right)) for item in row for pull in item.ups]
        for _, end in sorted(ends):
            total += len(seen) - bisect_right(seen, end)
            insort(seen, end)
    return total


def _sweep(rows: Iterable[list[Item]], is_up: bool) -> None:
    """Sort each row by the mean place of what its items are joined to in the row before."""
    for row in rows:
        key = {}
        for item in row:
            pulls, mean = item.downs if is_up else item.ups, 0.0
            for pull in pulls:  # not `sum`, which rounds in another way than JavaScript
                mean += pull.place() / len(pulls)
            key[item] = mean if pulls else item.place
        row.sort(key=key.__getitem__)
        _number([row])


def _swap(rows: Sequence[list[Item]]) -> None:
    """Exchange neighbours wherever that makes fewer crossings."""
    for row in rows:
        ends = [[sorted(pull.place() for pull in side) for side in (item.ups, item.downs)] for item in row]
        for k in range(len(row) - 1):
            gain = 0
            for a, b in zip(ends[k], ends[k + 1], strict=True):
                for end in a:
                    gain += bisect_left(b, end) - len(b) + bisect_right(b, end)
            if gain > 0:
                row[k], row[k + 1] = row[k + 1], row[k]
                ends[k], ends[k + 1] = ends[k + 1], ends[k]
        _number([row])


def _balanced(rows: Sequence[Sequence[Item]]) -> list[list[Item]]:
    """Put leaves that go to the same item on both sides of what else goes there."""
    found: list[list[Item]] = []
    for row in rows:
        if found and all(len(item.ups) == 1 for item in row):  # numbers follow what is above
            order = {item: k for k, item in enumerate(found[-1])}
            row = sorted(row, key=lambda item: order[item.ups[0].item])
        found.append([])
        for target, run in groupby(row, key=_target):
            items = list(run)
            leaves = [item for item in items if target and not item.ups]
            others = [item for item in items if not target or item.ups]
            half = len(leaves) // 2 if others else 0
            found[-1] += [*leaves[:half], *others, *leaves[half:]]
    return found


def _target(item: Item) -> Item | None:
    """Return the item that all of an item's arrows go to, past a number."""
    for _ in range(2):
        if len(item.downs) != 1:
            return None
        item = item.downs[0].item
        if len(item.ups) > 1:
            break
    return item
