"""The layout in pure Python, its SVG, and the same layout in JavaScript."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import launched
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_sm as sm
from tinygrad_sm.viz import layout
from tinygrad_sm.viz.draw import draw
from tinygrad_sm.viz.layout import arrange
from tinygrad_sm.viz.picture import Arrow, Box, Card, Picture
from tinygrad_sm.viz.places import MARGIN
from tinygrad_sm.viz.svg import fragment, measure, svg

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "", " ", "\n\x00\x1b[31m", "a<b>&c", '"quoted"', "ends with \\", "</svg><script>alert(1)</script>",
    "&foo; &#0; &amp;", "naïve λ \u202e\ud800 😀", "x" * 5000, "--> <!-- ]]>", "<TABLE>",
]  # fmt: skip


@st.composite
def graphs(draw):
    """Arguments of arrange: a random acyclic graph, in boxes that are stretches of a topological order."""
    boxes, home, stack, cards = {}, {}, [], []
    for sign in draw(st.text("nnn()", min_size=1, max_size=40)):
        if sign == "(":
            boxes[f"b{len(boxes)}"] = stack[-1] if stack else None
            stack.append(f"b{len(boxes) - 1}")
        elif sign == "n":
            cards.append(f"n{len(cards)}")
            home[cards[-1]] = stack[-1] if stack else None
        elif stack:
            stack.pop()
    side = st.integers(30, 160)
    sizes = {card: (float(draw(side)), draw(side) / 2) for card in cards}
    pairs = draw(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 6)), max_size=60)) if cards else []
    edges = [(f"e{k}", cards[a], cards[a + far]) for k, (a, far) in enumerate(pairs) if a + far < len(cards)]
    titles = {box: (float(draw(side)), 19.0) for box in boxes}
    labels = {edge: (25.0, 9.0) for edge, _, _ in edges} if draw(st.booleans()) else None
    return sizes, edges, boxes, home, titles, draw(st.sampled_from(["TB", "LR", "BT", "RL"])), labels


def around(box, boxes):
    """Return a box and all around it."""
    found = []
    while box is not None:
        found.append(box)
        box = boxes[box]
    return found


def rectangle(plan, sizes, card):
    (x, y), (w, h) = plan.places[card], sizes[card]
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def inside(inner, outer):
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def disjoint(a, b):
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def points(route, n=8):
    """Return points of a curve."""
    found = []
    for k in range(0, len(route) - 1, 3):
        a, b, c, d = (np.array(p) for p in route[k : k + 4])
        for t in np.linspace(0, 1, n):
            s = 1 - t
            found.append(s**3 * a + 3 * s * s * t * b + 3 * s * t * t * c + t**3 * d)
    return np.array(found)


# -- geometry -----------------------------------------------------------------------------------


@given(graphs())
def test_cards_and_boxes_are_where_they_belong(case):
    sizes, _, boxes, home, titles, *_ = case
    plan = arrange(*case)
    whole = (-0.02, -0.02, plan.width + 0.02, plan.height + 0.02)
    cards = {card: rectangle(plan, sizes, card) for card in sizes}
    assert all(disjoint(a, b) for a, b in combinations(cards.values(), 2))
    assert set(plan.frames) == set(boxes)
    for box, frame in plan.frames.items():
        assert inside(frame, whole)
        assert frame[2] - frame[0] >= titles[box][0]
        for card, corners in cards.items():
            assert inside(corners, frame) if box in around(home[card], boxes) else disjoint(corners, frame)
    for (a, frame), (b, other) in combinations(plan.frames.items(), 2):
        if b in around(a, boxes):
            assert inside(frame, other)
        elif a in around(b, boxes):
            assert inside(other, frame)
        else:
            assert disjoint(frame, other)


@given(graphs())
def test_arrows_run_from_border_to_border_forward(case):
    sizes, edges, _, _, _, direction, labels = case
    plan = arrange(*case)
    axis, sign = {"TB": (1, 1), "BT": (1, -1), "LR": (0, 1), "RL": (0, -1)}[direction]
    assert set(plan.routes) == {edge for edge, _, _ in edges}
    assert set(plan.spots) == set(labels or {})
    for edge, source, target in edges:
        route = plan.routes[edge]
        assert len(route) % 3 == 1
        for end, card, side in ((route[0], source, sign), (route[-1], target, -sign)):
            border = plan.places[card][axis] + side * sizes[card][axis] / 2
            assert end[axis] == pytest.approx(border, abs=0.02)
            assert abs(end[1 - axis] - plan.places[card][1 - axis]) <= sizes[card][1 - axis] / 2
        assert (np.diff(points(route)[:, axis]) * sign > -0.1).all()


@given(graphs())
@settings(max_examples=25)
def test_arrows_keep_off_cards_and_boxes_and_numbers_off_everything(case):
    sizes, edges, boxes, home, *_ = case
    plan = arrange(*case)
    cards = {card: rectangle(plan, sizes, card) for card in sizes}
    for edge, source, target in edges:
        ours = around(home[source], boxes) + around(home[target], boxes)
        for x, y in points(plan.routes[edge]):
            dot = (x - 1, y - 1, x + 1, y + 1)  # what is at least so far inside of a card
            assert not any(inside(dot, corners) for corners in cards.values())
            assert not any(inside(dot, frame) for box, frame in plan.frames.items() if box not in ours)
    spots = [(x - 11, y - 4, x + 11, y + 4) for x, y in plan.spots.values()]
    assert all(disjoint(spot, card) for spot in spots for card in cards.values())
    assert all(disjoint(a, b) for a, b in combinations(spots, 2))


def test_two_arrows_between_the_same_cards_are_apart():
    for labels in (None, {"e": (20, 9), "f": (20, 9)}):
        routes = arrange(
            {"a": (80, 30), "b": (80, 30)},
            [("e", "a", "b"), ("f", "a", "b")],
            {},
            {"a": None, "b": None},
            {},
            "TB",
            labels,
        ).routes
        a, b = points(routes["e"]), points(routes["f"])
        assert np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)).min() >= 8


def test_same_plan_whatever_the_seed_of_hashes():
    code = """
from tinygrad_sm.viz.layout import arrange
n = [f"n{i}" for i in range(40)]
boxes = {f"b{i}": None if i < 4 else f"b{i % 4}" for i in range(8)}
edges = [(f"e{i}", n[i * 7 % 30], n[i * 7 % 30 + 1 + i % 9]) for i in range(60)]
home = {i: f"b{int(i[1:]) // 5}" for i in n}
print(arrange({i: (70, 30) for i in n}, edges, boxes, home, {b: (30, 19) for b in boxes}))
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_a_chain_of_20000_cards_is_straight():
    cards = [f"n{i}" for i in range(20_000)]
    edges = [(f"e{i}", a, b) for i, (a, b) in enumerate(pairwise(cards))]
    plan = arrange(dict.fromkeys(cards, (100, 30)), edges, {}, dict.fromkeys(cards), {})
    assert {x for x, _ in plan.places.values()} == {50.0}
    assert all(len(route) == 4 for route in plan.routes.values())


def test_a_thousand_boxes_in_each_other():
    boxes = {f"b{i}": f"b{i - 1}" if i else None for i in range(1000)}
    home = {"a": None, "b": "b999", "c": "b500", "d": None}
    edges = [("e", "a", "b"), ("f", "b", "c"), ("g", "b", "d")]
    plan = arrange(dict.fromkeys("abcd", (50, 20)), edges, boxes, home, dict.fromkeys(boxes, (40, 19)))
    assert inside(plan.frames["b999"], plan.frames["b0"])


def test_cycles_and_arrows_to_themselves_do_no_harm():
    sizes, home = dict.fromkeys("abcd", (50, 20)), {"a": "box", "b": None, "c": "box", "d": None}
    edges = [("e", "a", "b"), ("f", "b", "c"), ("g", "c", "a"), ("h", "d", "d"), ("i", "b", "a")]
    plan = arrange(sizes, edges, {"box": None}, home, {"box": (30, 19)}, labels={"f": (20, 9)})
    assert set(plan.routes) == set("efgi")
    assert plan.routes["f"][-1][0] == pytest.approx(plan.places["c"][0], abs=25)


def test_empty_and_single():
    assert arrange({}, [], {}, {}, {})[:2] == (0, 0)
    plan = arrange({"a": (50, 20)}, [], {"empty": None}, {"a": None}, {"empty": (30, 19)}, "LR")
    assert plan.places["a"]
    assert plan.frames["empty"][2] - plan.frames["empty"][0] >= 30


def crossings(plan, edges):
    """Count the pairs of arrows that cross."""
    lines = {edge: points(plan.routes[edge], 12) for edge, _, _ in edges}

    def cross(a, b):
        d = b[1:] - b[:-1]
        for p, q in pairwise(a):
            r = q - p
            det = r[0] * d[:, 1] - r[1] * d[:, 0]
            with np.errstate(all="ignore"):
                t = ((b[:-1, 0] - p[0]) * d[:, 1] - (b[:-1, 1] - p[1]) * d[:, 0]) / det
                u = ((b[:-1, 0] - p[0]) * r[1] - (b[:-1, 1] - p[1]) * r[0]) / det
            if ((t > 0) & (t < 1) & (u > 0) & (u < 1)).any():
                return True
        return False

    return sum(cross(lines[a], lines[b]) for a, b in combinations(lines, 2))


def named(pairs):
    return [(f"e{k}", a, b) for k, (a, b) in enumerate(pairs)]


PLANAR = {
    "tree": [(f"n{2 * i + k}", f"n{i}") for i in range(1, 16) for k in (0, 1)],
    "tree down": [(f"n{i}", f"n{2 * i + k}") for i in range(1, 16) for k in (0, 1)],
    "ladder": [(f"{s}{i}", f"{s}{i + 1}") for i in range(8) for s in "ab"] + [(f"a{i}", f"b{i + 1}") for i in range(8)],
    "residual": [(f"n{i}", f"n{i + 1}") for i in range(12)] + [(f"n{i}", f"n{i + 4}") for i in (0, 4, 8)],
    "skips in skips": [(f"n{i}", f"n{i + 1}") for i in range(8)] + [("n0", "n8"), ("n1", "n7"), ("n2", "n6")],
}


@pytest.mark.parametrize("direction", ["TB", "LR"])
@pytest.mark.parametrize("name", PLANAR)
def test_planar_graphs_have_no_crossings(name, direction):
    edges = named(PLANAR[name])
    cards = dict.fromkeys(card for _, *ends in edges for card in ends)
    plan = arrange(
        dict.fromkeys(cards, (60, 24)), edges, {}, cards, {}, direction, dict.fromkeys([e for e, *_ in edges], (20, 9))
    )
    assert crossings(plan, edges) == 0


def test_arrows_from_block_to_block_do_not_cross():
    """Two blocks with arrows around: what leaves the first and enters the second is in the same order."""
    pairs = [
        ("x", "a0"),
        ("a0", "a1"),
        ("a1", "a2"),
        ("x", "a2"),
        ("a2", "b0"),
        ("b0", "b1"),
        ("b1", "b2"),
        ("a2", "b2"),
    ]
    edges = named(pairs)
    home = {card: card[0] if card != "x" else None for pair in pairs for card in pair}
    titles = {"a": (30, 19), "b": (30, 19)}
    labels = dict.fromkeys([e for e, *_ in edges], (20, 9))
    plan = arrange(dict.fromkeys(home, (90, 24)), edges, dict.fromkeys("ab"), home, titles, "TB", labels)
    assert crossings(plan, edges) == 0
    ways = [points(plan.routes[edge]) for edge, *_ in edges]
    for box, (width, height) in titles.items():  # and none runs through a title
        x, y = plan.frames[box][0] + MARGIN, plan.frames[box][1]
        assert not any(
            ((x < way[:, 0]) & (way[:, 0] < x + width) & (y < way[:, 1]) & (way[:, 1] < y + height)).any()
            for way in ways
        )


# -- SVG ----------------------------------------------------------------------------------------


def loss():
    """A picture with modules, strips, numbers, and an input."""
    fc = sm.nn.Linear(3, 4)
    x = sm.Tensor(np.ones((2, 3)), name="x")
    return sm.cross_entropy(sm.relu(fc(x)), np.array([0, 3]))


@pytest.mark.parametrize("direction", ["TB", "LR", "BT", "RL"])
def test_svg_has_all_ids_and_classes(direction):
    picture = draw(loss(), direction=direction, title="A title & more").picture
    root = ElementTree.fromstring(svg(picture))
    groups = {group.get("id"): group.get("class") for group in root.iter(f"{SVG}g")}
    assert all(groups[card.id] == f"node {card.kind}" for card in picture.cards)
    assert all(groups[arrow.id] == "edge" for arrow in picture.arrows)
    assert all(groups[box.id] == "cluster" for box in picture.boxes)
    assert "A title & more" in "".join(root.itertext()).replace("\u00a0", " ")
    for group in root.iter(f"{SVG}g"):
        if (group.get("class") or "").startswith("node"):
            assert next(child.get("class") for child in group if child.tag != f"{SVG}title") == "card"
    numbers = [float(word) for word in root.get("viewBox", "").split()]
    assert [f"{side:.0f}pt" for side in numbers[2:]] == [root.get("width"), root.get("height")]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_do_no_harm(text):
    label = "<TABLE><TR><TD>x</TD></TR></TABLE>"
    cards = [Card(id, label, "s", f"op{text}", "#000000", "#FFFFFF", "filled", 1.0, text) for id in (f"a{text}", "b")]
    arrow = Arrow(f"e{text}", f"a{text}", "b", f"#111111{text}", 1.0, "dashed", text, text)
    picture = Picture(cards, [Box("s", text, None, text)], [arrow], text, text, "TB")
    root = ElementTree.fromstring(svg(picture))
    assert svg(picture).isascii()
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "g", "rect", "path", "polygon", "text", "tspan", "title"}


def test_real_pictures_with_hostile_names():
    for text in HOSTILE:
        x = sm.Tensor([1.0, 2.0], requires_grad=True, name=text)
        ElementTree.fromstring(svg(draw((x * 2).sum(), title=text).picture))


def extents(text):
    """Return where a line of text begins and ends."""
    size, bold = text.get("font-size"), text.get("font-weight") == "bold"
    face = "Courier" if "Courier" in text.get("font-family", "") else "Arial"
    words = (text.text or "").replace("&", "&amp;").replace("<", "&lt;")
    words = f"<B>{words}</B>" if bold else words
    width, _ = measure(f'<FONT FACE="{face}" POINT-SIZE="{size}">{words}</FONT>')
    shift = {"middle": 0.5, "end": 1.0}.get(text.get("text-anchor", "start"), 0.0)
    left = float(text.get("x")) - shift * width
    return left, left + width


@pytest.mark.parametrize("name", ["x", "a rather long name of it", "WWWWWWWWWWWWWWWW", "λ∞漢字" * 5])
def test_text_fits_into_its_card(name):
    x = sm.Tensor(np.arange(6.0).reshape(2, 3) * 1e-9, requires_grad=True, name=name)
    long = x
    for _ in range(160):  # then cards are one line
        long = long * 1.5
    with np.errstate(all="ignore"):
        pictures = [draw(y.sum()).picture for y in (sm.softmax(x, axis=1) * 2.5, x / 0.0, long)]
    for card in [card for picture in pictures for card in picture.cards[:9]]:
        text, width, height = fragment(card.label, card)
        for line in ElementTree.fromstring(f"<g>{text}</g>").iter("text"):
            left, right = extents(line)
            assert left >= 1
            assert right <= width - 1
            assert 0 < float(line.get("y")) < height


def test_measure_knows_the_widths_of_letters():
    assert measure('<FONT POINT-SIZE="10">iiii</FONT>')[0] < measure('<FONT POINT-SIZE="10">WW</FONT>')[0]
    courier = measure('<FONT FACE="Courier" POINT-SIZE="10">abc</FONT>')[0]
    assert courier == pytest.approx(18, rel=0.05)
    bold = measure('<FONT POINT-SIZE="10"><B>abc</B></FONT>')[0]
    assert bold > measure('<FONT POINT-SIZE="10">abc</FONT>')[0]


def test_cells_share_the_room_and_fixed_ones_do_not_grow():
    cell = '<TD WIDTH="30" HEIGHT="10" FIXEDSIZE="TRUE" BGCOLOR="#112233"></TD>'
    table = f'<TABLE CELLSPACING="1" CELLPADDING="0"><TR>{cell}{cell}</TR><TR><TD WIDTH="100"></TD></TR></TABLE>'
    assert measure(table) == (133.0, 13.0)
    assert measure(table.replace("<TABLE", '<TABLE FIXEDSIZE="TRUE" WIDTH="50" HEIGHT="9"')) == (50.0, 9.0)


def test_heads_of_arrows_point_along_them():
    picture = draw(loss()).picture
    text = svg(picture)
    for head in re.findall(r'<polygon points="([^"]+)"', text):
        tip, a, b = (tuple(map(float, p.split(","))) for p in head.split())
        middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
        assert tip[1] > middle[1]
        assert math.dist(tip, middle) > 4


# -- JavaScript ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    with launched() as chromium:
        page = chromium.new_page()
        page.add_script_tag(content=Path(layout.__file__).with_suffix(".js").read_text())
        yield page


def flat(plan):
    """Yield the numbers of a plan, by key."""
    stack = [("", plan)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{key}/{k}", v) for k, v in value.items()]
        elif isinstance(value, (list, tuple)):
            stack += [(f"{key}/{k}", v) for k, v in enumerate(value)]
        else:
            yield key, value


@given(graphs())
@settings(max_examples=40)
def test_javascript_gets_the_same_numbers(browser, case):
    ours = dict(flat(arrange(*case)._asdict()))
    theirs = dict(flat(browser.evaluate("(case_) => arrange(...case_)", json.loads(json.dumps(case)))))
    assert theirs == pytest.approx(ours, abs=0.021)


def test_javascript_gets_the_same_numbers_of_cycles_and_of_nothing(browser):
    sizes, home = dict.fromkeys("abc", (50, 20)), {"a": "box", "b": None, "c": "box"}
    edges = [("e", "a", "b"), ("f", "b", "c"), ("g", "c", "a"), ("h", "a", "a")]
    for case in ([sizes, edges, {"box": None}, home, {"box": (30, 19)}, "LR"], [{}, [], {}, {}, {}]):
        ours = dict(flat(arrange(*case)._asdict()))
        assert dict(flat(browser.evaluate("(case_) => arrange(...case_)", case))) == pytest.approx(ours, abs=0.021)
