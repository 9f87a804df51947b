"""compare: which nodes of two graphs are matched, what differs, and what the picture says of it."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from test_draw import deep, logits, node_text
from test_graph import leaf, scope

import tinygrad_sm as sm
from tinygrad_sm.graph import Graph
from tinygrad_sm.viz.compare import matched


def test_equal_graphs_have_no_difference():
    both = sm.compare(logits(), logits())
    assert both.differences == ()
    assert "no difference" in both.dot
    assert both.alt.endswith("0 differences.")


def test_what_one_graph_has_alone_is_marked():
    both = sm.compare(deep(2), deep(3))
    alone = [d for d in both.differences if d.first is None or d.second is None]
    assert len(alone) == 4
    assert all(d.first is None for d in alone)
    assert str(alone[0]).endswith("only in the second")
    assert both.dot.count(">only here<") == 4


def test_values_and_gradients_that_differ_are_told_with_their_size():
    a = leaf([1.0, 2.0], "a")
    both = sm.compare((a * leaf([3.0, 4.0], "k")).sum(), (a * leaf([3.0, 5.0], "k")).sum(), names=("one", "two"))
    found = {d.label: (d.value, d.grad) for d in both.differences}
    assert found["k"] == (pytest.approx(0.2), 0)
    assert found["a"] == (0, pytest.approx(0.2))
    assert found["mul"] == (pytest.approx(0.2), 0)
    assert "differs: grad 20 %" in node_text(both.dot, "a_n0")
    assert str(both.differences[0]) == "a: gradient differs by 20 %"
    assert ">one<" in both.dot
    assert ">two<" in both.dot


def test_a_difference_below_rtol_is_none():
    a = leaf([1.0, 2.0], "a")
    assert sm.compare((a * leaf([1.0, 1.0], "k")).sum(), (a * leaf([1.0, 1.0 + 1e-9], "k")).sum()).differences == ()
    assert sm.compare((a * leaf([1.0, 1.0], "k")).sum(), (a * leaf([1.0, 1.0 + 1e-9], "k")).sum(), rtol=0).differences


def test_what_no_number_tells_is_told_in_words():
    z, w = leaf([[1.0, 2.0]], "z"), leaf([[3.0, 4.0]], "w")
    frozen = sm.Tensor(w.data, name="w")
    told = [str(d) for d in sm.compare((z * w).sum(), (z * frozen).sum()).differences]
    assert told == ["w: parameter against input, gradient only in the first"]
    wide = leaf(np.ones((4, 2)), "z")
    told = [str(d) for d in sm.compare((z * 2.0).sum(), (wide * 3.0).sum()).differences]
    assert told[0] == "z: shape (1, 2) against shape (4, 2)"
    assert told[1].startswith("mul 2: mul 2 against mul 3, shape (1, 2) against shape (4, 2)")
    seeded = sm.compare(Graph(z * 2), Graph(z * 2, np.ones((1, 2))))
    assert str(seeded.differences[0]) == "z: gradient only in the second"


def test_differences_inside_a_folded_module_are_counted():
    x = leaf([[1.0, 2.0]], "x")
    ends = []
    for bias in (1.0, 2.0):
        with scope("net: Net"):
            ends.append(sm.relu(x * bias - 100.0).sum())
    both = sm.compare(*ends, depth=1)
    assert both.dot.count("inside differ</B>") == 2


def test_a_misspelt_name_is_an_error_and_the_repr_is_short():
    with pytest.raises(ValueError, match=r"compare: expand='crossentropyy' names no module or fused op"):
        sm.compare(logits(), logits(), expand="crossentropyy")
    assert len(repr(sm.compare(logits(), logits()))) < 200


def test_matching_is_the_shortest_edit_and_quick_on_long_chains():
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = ("".join(rng.choice(list("abc"), n)) for n in rng.integers(0, 9, 2))
        pairs = list(matched(a, b))
        assert [i for i, _ in pairs if i is not None] == list(range(len(a)))
        assert [j for _, j in pairs if j is not None] == list(range(len(b)))
        assert all(a[i] == b[j] for i, j in pairs if i is not None and j is not None)
        table = np.zeros((len(a) + 1, len(b) + 1), int)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
        assert sum(None not in pair for pair in pairs) == table[-1, -1]
    assert len(list(matched([0, 1] * 3000, [0, 1] * 1500 + [2] + [0, 1] * 1500))) == 6001


def test_where_nan_starts_stays_marked():
    z = leaf([[1000.0, 0.0]], "z")
    with np.errstate(all="ignore"):
        naive = sm.nll_loss(sm.naive.softmax(z).log(), np.array([0]))
    both = sm.compare(naive, sm.cross_entropy(z, np.array([0])), expand=["cross_entropy", "log_softmax"])
    (exp,) = [n for n in Graph(naive) if n.op == "exp"]
    assert "inf starts here (value)" in node_text(both.dot, f"a_{exp.id}")
    (told,) = [d for d in both.differences if d.label == "z"]
    assert told.grad == np.inf
    assert str(told) == "z: gradient finite only in the second"
    assert "gradient finite only there" in node_text(both.dot, f"a_{told.first}")
    assert "gradient finite only here" in node_text(both.dot, f"b_{told.second}")


def test_the_first_stands_left_and_ids_are_apart():
    both = sm.compare(logits(), logits() * 2)
    svg = ElementTree.fromstring(both.svg())
    ids = [e.get("id") for e in svg.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    assert {"a_n0", "b_n0", "a_e_n0_n1", "a", "b"} <= set(ids)
    edges = {
        g.get("id"): min(
            float(x) for x in re.findall(r"(-?[\d.]+),", "".join(p.get("d", p.get("points", "")) for p in g.iter()))
        )
        for g in svg.iter()
        if g.get("id") in ("a", "b")
    }
    assert edges["a"] < edges["b"]


def test_the_page_and_json_hold_both_graphs(tmp_path):
    both = sm.compare(logits(), logits() * 2, names=("once", "twice"), title="T")
    found = json.loads(both.save(tmp_path / "x.json").read_text())
    assert found["boxes"]["a"]["label"] == "once"
    assert found["nodes"]["b_n0"]["box"] == "b"
    assert {e["source"] for e in found["edges"]} <= set(found["nodes"])
    assert len(found["order"]) == len(set(found["order"]))
    assert {box["parent"] for box in found["boxes"].values()} <= {None, *found["boxes"]}


@pytest.mark.parametrize(
    ("args", "options", "error", "said"),
    [
        ((np.ones(2), logits()), {}, TypeError, "compare takes two Tensors or two Graphs, not a ndarray"),
        ((logits(), logits()), {"names": ("a",)}, ValueError, "names are two"),
        ((logits(), logits()), {"names": "ab"}, ValueError, "names are two"),
        ((logits(), logits()), {"rtol": -1}, ValueError, "rtol"),
        ((logits(), logits()), {"show": "colour"}, ValueError, "compare: show takes"),
        ((logits(), logits()), {"direction": "up"}, ValueError, "compare: direction"),
        ((logits(), logits()), {"max_nodes": 0}, ValueError, "compare"),
        ((logits(), logits()), {"expand": 3}, TypeError, "compare: expand takes names"),
    ],
)
def test_errors(args, options, error, said):
    with pytest.raises(error, match=said):
        sm.compare(*args, **options)


def test_modules_of_one_graph_only_may_be_named():
    both = sm.compare(deep(2), logits(), collapse="blocks.*")
    assert len([c for c in both.picture.cards if c.kind == "module"]) == 2
