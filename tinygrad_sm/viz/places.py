"""Where the items of one box stand: straight below each other what belongs together.

The way of a long arrow is one column, as straight as a card is. First all items are moved to where arrows pull them;
then the columns are made straight, in what room the cards leave them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .rows import LINE_GAP, NODE_GAP, THIN, Item, Level, Point

ROW_GAP, MARGIN = 21.6, 9.0  # points between rows of cards, and from a card to its box
TITLE_SHIFT = 40.0  # so far a title gives way to an arrow, before the arrow does
STAY = 0.0002  # how strongly an item stays where it is


def place(level: Level) -> None:
    """Find the x of all items: straight below each other where the arrows that join them pull strongly."""
    for row in level.rows:
        x = 0.0
        for k, item in enumerate(row):
            x += _gap(row[k - 1], item) if k else 0.0
            item.x = x
        for item in row:
            item.x -= x / 2
    for n in range(6):
        for row in level.rows:
            _settle(row, True, n > 3)
        for row in reversed(level.rows):
            _settle(row, n > 3, True)
    if _join_columns(level):
        _straighten(level)
        for rows in (level.rows, level.rows[::-1]) * 2:
            for row in rows:
                _settle(row, True, True)


def _gap(a: Item, b: Item, side: int = -1) -> float:
    """Return how far the middles of neighbours in a row are at least apart; a is at the left (-1) or the right (1)."""
    room = a.right + b.left if side < 0 else a.left + b.right
    return room + (2 * THIN, LINE_GAP, NODE_GAP)[bool(a.id) + bool(b.id)]


def _settle(row: Sequence[Item], ups: bool, downs: bool) -> None:
    """Move the items of a row to where they are pulled to, as near as their order and width let them."""
    wants, weights, gaps = [], [], []
    before = None
    for item in row:
        weight, pull = STAY, STAY * item.x
        for side in (item.column[0].ups if ups else (), item.column[-1].downs if downs else ()):
            for other, there, here, strength in side:
                weight += strength
                pull += strength * (other.x + there - here)
        wants.append(pull / weight)
        weights.append(weight)
        gaps.append(_gap(before, item) if before else 0.0)
        before = item
    xs = apart(wants, weights, gaps) if len(row) > 1 else wants
    if any(len(item.column) > 1 for item in row):
        xs = _limited(row, xs, gaps)
    for item, x in zip(row, xs, strict=True):
        for other in item.column:
            other.x = x


def _limited(row: Sequence[Item], xs: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Move each item only as far as the neighbours of its column in other rows let it."""
    lows = [max((_limit(i, -1) for i in item.column if i is not item), default=-math.inf) for item in row]
    highs = [min((_limit(i, 1) for i in item.column if i is not item), default=math.inf) for item in row]
    for k in range(1, len(row)):
        lows[k] = max(lows[k], lows[k - 1] + gaps[k])
    for k in range(len(row) - 1, 0, -1):
        highs[k - 1] = min(highs[k - 1], highs[k] - gaps[k])
    return [min(max(x, low), high) for x, low, high in zip(xs, lows, highs, strict=True)]


def _limit(item: Item, side: int) -> float:
    """Return how far its neighbour at the left (-1) or the right (1) lets an item move."""
    other = item.beside(side)
    return other.x - side * _gap(other, item, side) if other else side * math.inf


def _join_columns(level: Level) -> bool:
    """Join the pieces of each long arrow to columns, but where two cross, and tell whether there are any."""
    found = False
    for row in level.rows:
        furthest = -1
        for item in row:
            below = item.downs[0].item if not item.id and item.downs else item
            if below is item or below.id or below.place < furthest or item.is_bend() or below.is_bend():
                continue
            furthest = below.place
            item.column.append(below)
            below.column = item.column
            found = True
    return found


def _straighten(level: Level) -> None:
    """Make the columns straight, beside the cards that they pass; only where there is no room these give way."""
    firsts = [item for item in level.items if item.column[0] is item]
    lows, highs = (
        _pushed({first: first.x if first.id else -side * math.inf for first in firsts}, side) for side in (1, -1)
    )
    wants = {}
    for first in firsts:
        low, high = lows[first], highs[first]
        pulls, want = first.ups + first.column[-1].downs, 0.0
        for other, there, here, _ in pulls:
            want += (other.x + there - here) / len(pulls)
        wants[first] = min(max(want if pulls else first.x, low), high) if low <= high else (low + high) / 2
    # the middle between moving all to the right that is too near to its neighbour, and all to the left, is right too
    right, left = _pushed(dict(wants), 1), _pushed(wants, -1)
    for item in level.items:
        item.x = (left[item.column[0]] + right[item.column[0]]) / 2


def _pushed(xs: dict[Item, float], side: int) -> dict[Item, float]:
    """Move columns to the right (1) or the left (-1) that are too near to their neighbour; `xs` has their x."""
    waits = {first: sum(item.beside(-side) is not None for item in first.column) for first in xs}
    ready = [first for first in xs if not waits[first]]
    for first in ready:  # which grows
        for item in first.column:
            other = item.beside(side)
            if other:
                moved = other.column[0]
                xs[moved] = side * max(side * xs[moved], side * xs[first] + _gap(item, other, -side))
                waits[moved] -= 1
                if not waits[moved]:
                    ready.append(moved)
    return xs


def apart(wants: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Return the numbers nearest to `wants`, in weighted squares, that are at least `gaps` apart, each from the last.

    >>> apart([0, 0, 10], [1, 1, 1], [0, 4, 4])
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


def stack(level: Level) -> None:
    """Find the y of the rows, and of the items in them: leaves stand low, near to their use, ends high."""
    y, last = 0.0, len(level.rows) - 1
    for r, row in enumerate(level.rows):
        height, slant = max((item.height for item in row), default=0.0), 0.0
        level.tops.append(y)
        level.bottoms.append(y + height)
        for item in row:
            room = height - item.height
            item.y = y + (room if not item.ups else 0.0 if not item.downs else room / 2)
            for other, there, here, _ in item.downs:
                slant = max(slant, abs(other.x + there - item.x - here))
        y += height + (MARGIN if r in (0, last - 1) else ROW_GAP / (2 if level.has_numbers else 1))
        y += min(max(slant - 50, 0.0) * 0.1, ROW_GAP)  # more room for arrows that run far aside


def surround(level: Level, title: Point, direction: str) -> None:
    """Put the frame around the items of a box, with room for its title, which no arrow crosses."""
    (width, height), tops, bottoms = title, level.tops, level.bottoms
    low = min((item.x - item.left for item in level.items), default=0.0)
    high = max((item.x + item.right for item in level.items), default=0.0)
    if level.item is None:
        level.frame = (low, tops[1], high, max(tops[1], bottoms[-2]))
        return
    if direction in ("LR", "RL"):
        bottoms[-1] = max(bottoms[-1], tops[0] + width + 2 * MARGIN)
        low -= height
    else:
        if direction == "TB":
            tops[0] -= height
        else:
            bottoms[-1] += height
        ports = level.rows[0 if direction == "TB" else -1]
        short = low + width + LINE_GAP - ports[0].x if ports else 0.0
        low -= short if 0 < short < TITLE_SHIFT else 0.0
        level.title = edge = low + width
        for port in ports:  # beside the title
            port.x = max(port.x, edge + LINE_GAP)
            edge = port.x
        high = max(high, edge + THIN)
    level.frame = (low - MARGIN, tops[0], high + MARGIN, bottoms[-1])
    level.item.left = level.item.right = (level.frame[2] - level.frame[0]) / 2
    level.item.height = level.frame[3] - level.frame[1]
