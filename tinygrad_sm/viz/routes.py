"""How the arrows of a layout run: out, straight along, and in.

An arrow is a smooth curve of x over y through knots: its ends, and the top and the bottom of each piece of its way
that `rows.py` keeps free. Knots that are of no use to it are then left out, so that it bends as little as it can.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

from .places import MARGIN, apart
from .rows import LINE_GAP, THIN, Arrow, Item, Level, Point

Gate = tuple[float, float, float]  # y, and the x between which an arrow passes there
NEAR = 3.0  # how much nearer than that an arrow may come where it bends
APART = 12.0  # between the ends of two arrows at a card
AIM = 0.4  # how far from the middle of a card towards the other one a short arrow ends
LONG = 40.0  # from this length on a straight piece is kept
STEEP = 0.6  # how straight an arrow with bends leaves and reaches cards
BENDS = (1.0, 0.6, 0.3)  # how much of what it likes a bend takes of a straight piece, best first


def routes(
    levels: Sequence[Level], arrows: Sequence[Arrow], numbers: Mapping[str, Point], is_flat: bool
) -> tuple[dict[str, list[Point]], dict[str, Point]]:
    """Return the curve of each arrow, as Bézier pieces, and the centre of its number."""
    for level in levels:
        _open_gates(level)
    starts, ends = _ends(arrows)
    found, spots = {}, {}
    for arrow, start, end in zip(arrows, starts, ends, strict=True):
        knots, gates = _way(arrow, start, end)
        knots = _calm(knots, gates)
        route = [start]
        for k in range(len(knots) - 1):
            route += _piece(knots, k)[1:]
        found[arrow.id] = route[::-1] if arrow.is_turned else route
        if arrow.id in numbers:
            assert arrow.mark is not None
            (width, height), mark, side = numbers[arrow.id], arrow.mark, -1 if is_flat else 1
            y = mark.y + mark.height / 2
            xs = [side * _x_at(knots, y + step * height / 2) for step in (-1, 0, 1)]
            x = min(max(xs), side * (mark.low if is_flat else mark.high))
            spots[arrow.id] = (side * (x + width / 2 + THIN + 2), y)
    return found, spots


def _open_gates(level: Level) -> None:
    """Find between which x an arrow may pass each item of a row."""
    left, _, right, _ = level.frame
    for r, row in enumerate(level.rows):
        is_beside_title = level.title > left and level.bottoms[r] - level.tops[r] > 0 and r in (0, len(level.rows) - 1)
        edge = level.title + LINE_GAP if is_beside_title else left + MARGIN / 2
        for k, item in enumerate(row):
            item.low = edge
            edge = right - MARGIN / 2
            if k < len(row) - 1:
                after = row[k + 1]
                a, b = item.x + item.right, after.x - after.left
                edge = (a + b) / 2
                if bool(item.id) != bool(after.id):
                    edge = a + LINE_GAP if item.id else b - LINE_GAP
            item.high = edge
            if not item.id:
                item.low += item.left
                item.high -= item.right
        if 0 < r < len(level.rows) - 1 and not any(item.id for item in row):  # beside numbers lines may cross
            for before, item in pairwise(row):
                item.low = item.low if before.is_mark or item.is_mark else before.low
            for item, before in pairwise(reversed(row)):
                before.high = before.high if before.is_mark or item.is_mark else item.high


def _ends(arrows: Sequence[Arrow]) -> tuple[list[Point], list[Point]]:
    """Return where each arrow leaves its upper card, and reaches its lower one.

    It aims at its straight part, or from middle to middle, but two do not end at the same point.
    """
    points: list[list[Point]] = []
    for side in (1, -1):
        at: list[Point] = [(0.0, 0.0)] * len(arrows)
        groups: dict[Item, list[tuple[float, int, float]]] = {}
        for k, arrow in enumerate(arrows):
            card, other = (arrow.upper, arrow.lower)[::side]
            way = arrow.way()[::side]
            lane = next((item.x for item in way[1:-1] if item.is_tall()), None)
            aim = card.x + AIM * (other.x - card.x) if lane is None else lane
            groups.setdefault(card, []).append((way[1].x, k, aim))
        for card, group in groups.items():
            group.sort()
            half = max((card.left + card.right) / 2 - 10, (card.left + card.right) / 4)  # not at its round corners
            gap = min(APART, 2 * half / len(group))
            xs = apart([aim for _, _, aim in group], [1.0] * len(group), [gap] * len(group))
            for n, (x, (_, k, _)) in enumerate(zip(xs, group, strict=True)):
                x = min(max(x, card.x - half + n * gap), card.x + half - (len(group) - 1 - n) * gap)
                at[k] = (x, card.y + (card.height if side > 0 else 0.0))
        points.append(at)
    return points[0], points[1]


def _way(arrow: Arrow, start: Point, end: Point) -> tuple[list[Point], list[Gate]]:
    """Return the knots of an arrow, and the gates that it passes."""
    upper, lower = arrow.upper, arrow.lower
    top, bottom = upper.home.bottoms[upper.row], lower.home.tops[lower.row]
    knots, gates = [start, (start[0], top)], [(top, upper.low, upper.high)]
    for item in arrow.way()[1:-1]:
        a, b = item.home.tops[item.row], item.home.bottoms[item.row]
        knots += [(item.x, y) for y in ((a, b) if item.is_tall() else ((a + b) / 2,))]
        gates += [(y, item.low, item.high) for y in (a, (a + b) / 2, b)]
    return [*knots, (end[0], bottom), end], [*gates, (bottom, lower.low, lower.high)]


def _calm(knots: list[Point], gates: Sequence[Gate]) -> list[Point]:
    """Leave out the knots that an arrow does not need to pass its gates, and give bends more room."""
    direct = [knots[0], knots[-1]]
    if _fits(direct, 0, 1, gates):
        return direct
    k = 1
    while k < len(knots) - 1:
        (ax, ay), (bx, by), (cx, cy) = knots[k - 1 : k + 2]
        is_straight = (ax == bx and by - ay > LONG) or (bx == cx and cy - by > LONG)
        fewer = knots[:k] + knots[k + 1 :]
        if (ax == bx == cx) or by == ay or (not is_straight and _fits(fewer, k - 2, k + 1, gates)):
            knots = fewer
            k = max(k - 1, 1)
        else:
            k += 1
    for k in range(1, len(knots) - 1):
        (ax, ay), (bx, by), (cx, cy) = knots[k - 1 : k + 2]
        for bend in BENDS:
            if bx == cx and by - ay < (want := _bend_room(bx - ax)):  # the way straightens here
                y = by + bend * min(want - (by - ay), 0.4 * (cy - by))
            elif ax == bx and cy - by < (want := _bend_room(cx - bx)):  # it ends
                y = by - bend * min(want - (cy - by), 0.4 * (by - ay))
            else:
                break
            moved = [*knots[:k], (bx, y), *knots[k + 1 :]]
            if _fits(moved, k - 2, k + 2, gates):
                knots = moved
                break
    return knots


def _bend_room(aside: float) -> float:
    """Return how high a bend shall be that goes so far aside."""
    return min(40 + 0.4 * abs(aside), 160.0)


def _fits(knots: Sequence[Point], first: int, last: int, gates: Sequence[Gate]) -> bool:
    """Tell whether some pieces of a curve pass their gates."""
    for k in range(max(first, 0), min(last, len(knots) - 1)):
        piece = _piece(knots, k)
        low, high = (bisect_left(gates, knots[j][1], key=lambda gate: gate[0]) for j in (k, k + 1))
        for y, least, most in gates[low:high]:
            if not least - NEAR <= _x_on(piece, y) <= most + NEAR:
                return False
    return True


def _slope(knots: Sequence[Point], k: int) -> float:
    """Return how x grows with y at a knot, such that the curve nowhere runs beyond its knots."""
    steps = [(b[0] - a[0]) / (b[1] - a[1]) if b[1] > a[1] else 0.0 for a, b in pairwise(knots[max(k - 1, 0) : k + 2])]
    if 0 < k < len(knots) - 1:
        a, b = steps
        return 2 * a * b / (a + b) if a * b > 0 else 0.0
    if len(knots) == 2:
        return steps[0]
    return STEEP * steps[0]


def _piece(knots: Sequence[Point], k: int) -> list[Point]:
    """Return the curve from a knot to the next, as a Bézier curve whose y are evenly apart."""
    (ax, ay), (bx, by) = knots[k], knots[k + 1]
    third = (by - ay) / 3
    return [
        (ax, ay),
        (ax + third * _slope(knots, k), ay + third),
        (bx - third * _slope(knots, k + 1), by - third),
        (bx, by),
    ]


def _x_at(knots: Sequence[Point], y: float) -> float:
    """Return the x of a curve at a height."""
    k = bisect_right(knots, y, key=lambda knot: knot[1]) - 1
    return _x_on(_piece(knots, min(max(k, 0), len(knots) - 2)), y)


def _x_on(piece: Sequence[Point], y: float) -> float:
    (a, top), (b, _), (c, _), (d, bottom) = piece
    t = min(max((y - top) / (bottom - top), 0.0), 1.0) if bottom > top else 0.0
    s = 1 - t
    return s * s * s * a + 3 * s * s * t * b + 3 * s * t * t * c + t * t * t * d
