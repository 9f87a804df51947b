"""What the interactive page and .json files hold: complete, true to the graph, and plain JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_draw import deep, linear, logits, trouble
from test_graph import leaf

import tinygrad_sm as sm
from tinygrad_sm import autograd
from tinygrad_sm.graph import Graph, rms
from tinygrad_sm.viz.data import plain_number, summary


def saved(tmp_path, *args, **options):
    path = sm.draw(*args, **options).save(tmp_path / "graph.json")
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))


def test_nodes_edges_and_modules_are_those_of_the_graph(tmp_path):
    graph = linear()
    found = saved(tmp_path, graph, title="T", direction="LR")
    assert (found["title"], found["direction"]) == ("T", "LR")
    assert list(found["nodes"]) == [n.id for n in graph]
    assert [e["id"] for e in found["edges"]] == [e.id for e in graph.edges]
    assert [b["label"] for b in found["boxes"].values()] == ["net: MLP", "fc: Linear"]
    assert found["nodes"]["n3"]["box"] == "b1"
    for node in graph:
        told = found["nodes"][node.id]
        assert (told["role"], told["name"], told["op"]) == (node.role, node.name, node.op)
        assert told["shape"] == str(node.shape)
        assert (told["grad"] is None) == (node.grad is None)
        assert told["value"]["max"] == pytest.approx(node.value.max(), rel=1e-5)


def test_the_order_of_steps_is_that_of_the_engine(tmp_path):
    for loss in (logits(), deep(3)):
        graph = Graph(loss)
        order = saved(tmp_path, graph)["order"]
        tensors = [t for t, _, _ in autograd.sweep({loss: np.ones(())}, consume=False)]
        assert [graph[id].op for id in order] == [t.op.name if t.op else None for t in tensors]
        assert [graph[id].value.tolist() for id in order] == [t.data.tolist() for t in tensors]


def test_the_shares_of_a_gradient_add_up_to_its_cells(tmp_path):
    a = leaf(np.arange(260.0).reshape(13, 20) / 100, "a")
    found = saved(tmp_path, (a.exp() * a + a / (1 + a * a) + (a + a)).sum())
    for id, node in found["nodes"].items():
        shares = [e["share"]["cells"] for e in found["edges"] if e["source"] == id and e["share"]]
        if shares:
            np.testing.assert_allclose(np.sum(shares, axis=0), node["grad"]["cells"], rtol=1e-4)
    assert found["nodes"]["n0"]["grad"]["means"]
    assert np.shape(found["nodes"]["n0"]["value"]["cells"]) == (6, 8)


def test_numbers_that_json_does_not_know_have_names(tmp_path):
    found = saved(tmp_path, trouble())
    assert found["nodes"]["n0"]["grad"]["inf"] == 1
    kinds = {n["state"]["kind"] for n in found["nodes"].values() if n["state"]}
    assert kinds == {"first", "later", "vanishing", "exploding"}
    assert "inf" in json.dumps(found["edges"])
    numbers = (np.nan, np.inf, -np.inf, None, np.float32(0.1))
    assert [plain_number(x) for x in numbers] == ["NaN", "inf", "-inf", None, 0.1]


ARRAYS = [np.zeros((0, 3)), np.array(True), np.arange(3), np.float16([1, 2]), np.full(2, np.nan)]


@pytest.mark.parametrize("array", ARRAYS)
def test_any_array_has_a_summary(array):
    told = summary(array)
    json.dumps(told, allow_nan=False)
    assert told["zeros"] == (float((array == 0).mean()) if array.size else 0)


def test_what_is_folded_is_told_with_what_comes_back_to_it(tmp_path):
    drawing = sm.draw(deep(12), depth=2)
    view, graph = drawing.parts[0].view, drawing.parts[0].view.graph
    found = json.loads(drawing.save(tmp_path / "x.json").read_text(encoding="utf-8"))
    (repeat,) = [b for b in found["boxes"].values() if b["times"] == 12]
    assert (repeat["open"], repeat["is_module"], repeat["nodes"], repeat["parameters"]) == (False, False, 48, 24)
    assert repeat["grad"]["rms"] > 0
    assert found["boxes"]["b0"]["open"]
    for pair, size in found["flows"].items():
        source, _, box = pair.partition(">")
        assert source in found["nodes"]
        uses = [e for e in graph.edges_from(graph[source]) if e.target == box or box in view.tree.around[e.target]]
        assert size == pytest.approx(rms(sum(e.share for e in uses)), rel=1e-5)


def test_without_gradients(tmp_path):
    found = saved(tmp_path, leaf([1.0, 2.0]) * 2)
    assert not found["has_gradients"]
    assert found["order"] == []
