"""What cards warn of, by themselves and for folded modules; and the colours that a user asks for."""

from __future__ import annotations

import numpy as np
import pytest
from test_draw import deep, linear, node_text, stuck, trouble
from test_graph import leaf, scope

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm.graph import Graph
from tinygrad_sm.viz.states import states


def kinds(end) -> dict[str, str]:
    graph = Graph(end)
    return {graph[id].label: state.text for id, state in states(graph).items() if graph[id].op}


def test_a_relu_counts_its_dead_units_in_large_batches_only():
    x = leaf(np.random.default_rng(0).normal(size=(32, 5)) - np.array([0, 9, 0, 9, 0]), "x")
    assert kinds(sm.relu(x).sum()) == {"relu": "! 2 of 5 units dead"}
    assert kinds(sm.relu(x[:8]).sum()) == {}  # of 8 rows many a healthy unit is off in all
    assert kinds(sm.relu(x[:, 1:2]).sum()) == {"relu": "! dead: all 0"}
    assert kinds(sm.relu(leaf(np.ones((0, 3)))).sum()) == {}


def test_a_softmax_is_saturated_if_most_of_its_rows_are():
    z = np.array([[50.0, 0, 0], [0, 50, 0], [0, 0, 0]])
    assert kinds(F.softmax(leaf(z)).sum())["softmax"] == "! saturated: 67 % of rows"
    assert "softmax" not in kinds(F.softmax(leaf(z[1:])).sum())
    assert kinds(F.log_softmax(leaf(z[:2]))[0, 0])["log_softmax"] == "! saturated: 100 % of rows"
    assert kinds(F.softmax(leaf(z.T[:, :2]), axis=0).sum())["softmax"] == "! saturated: 100 % of rows"
    assert kinds(F.softmax(leaf([[50.0], [3.0]]), axis=1).sum()) == {}  # one class: it is always certain


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (trouble, "! NaN or inf starts inside"),
        (lambda: (leaf([1.0, 1.0], "w", ("M",)) * 4096.0).sum(), "! 1 exploding inside"),
        (stuck, "! 2 dead ReLU inside"),
        (lambda: (F.softmax(leaf([[40.0, 0, 1.0]])) * leaf([1.0, 0, 0])).sum(), "! 1 saturated softmax inside"),
        (lambda: (leaf([1.0, 1.0], "w", ("M",)) * 2.0**-30).sum(), "~ 1 vanishing inside"),
    ],
)
def test_a_folded_module_warns_of_the_worst_that_is_inside(make, said):
    with scope("m: M"):
        end = make()
    end = end.roots[0] if isinstance(end, Graph) else end
    if isinstance(end, sm.Tensor):
        drawing = sm.draw(end, depth=1)
        assert said in node_text(drawing.dot, "b0")
        assert said.partition(" inside")[0].partition(" starts")[0] in sm.draw(end, depth=1, show=()).dot


def test_a_victim_inside_a_module_is_dashed():
    with np.errstate(all="ignore"):
        y = (leaf([0.0, 1.0], "x") * 2).log()
        with scope("m: M"):
            y = y * 2
    (card,) = [card for card in sm.draw(y.sum(), depth=1).picture.cards if card.kind == "module"]
    assert "dashed" in card.style


def test_colours_by_a_number_run_from_light_to_dark():
    cards = {card.id: card for card in sm.draw(linear(), color_by=lambda node: node.value.size).picture.cards}
    sizes = {node.id: node.value.size for node in linear()}
    assert cards[max(sizes, key=sizes.get)].fill == "#A79AD6"
    assert cards[min(sizes, key=sizes.get)].fill == "#FFFFFF"


def test_colours_of_ones_own_and_none():
    paint = {"parameter": "#FFDDAA"}
    drawing = sm.draw(linear(), color_by=lambda node: paint.get(node.role))
    assert {card.fill for card in drawing.picture.cards if card.kind == "parameter"} == {"#FFDDAA"}
    assert {card.fill for card in drawing.picture.cards if card.kind == "op"} == {"#FFFFFF"}
    assert "color_by: nothing to measure" in sm.draw(linear(), color_by=lambda node: None).dot
    assert "nothing to measure" in sm.draw(leaf([1.0, 2.0]) * 2, color_by="grad").dot


def test_a_folded_module_has_the_colour_of_its_largest_number():
    cards = sm.draw(deep(3), depth=2, color_by=lambda node: float(node.op == "relu")).picture.cards
    fills = {card.label.partition("blocks")[1]: card.fill for card in cards if card.kind == "module"}
    assert fills["blocks"] == "#A79AD6"


@pytest.mark.parametrize(
    ("color_by", "error", "said"),
    [
        ("gradient", ValueError, "color_by is 'grad' or a function of a node, not 'gradient'"),
        (3, ValueError, "color_by is 'grad' or a function"),
        (lambda node: "red", ValueError, "color_by returned 'red'; a colour is written '#RRGGBB'"),
        (lambda node: [1], TypeError, "color_by returns a number, '#RRGGBB' or None, not a list"),
    ],
)
def test_colours_that_are_none(color_by, error, said):
    with pytest.raises(error, match=said):
        sm.draw(linear(), color_by=color_by)
