"""Folding: what stands as one card; that nothing is lost, and that arrows never run in a circle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_draw import chain, deep
from test_graph import leaf, scope

import tinygrad_sm as sm
from tinygrad_sm.graph import Graph, Node, dotted, matches, rms
from tinygrad_sm.viz.definition import with_definitions
from tinygrad_sm.viz.fold import View
from tinygrad_sm.viz.groups import Group, Tree, joint_rms, statistics


def labels(view: View) -> list[str]:
    return [item.label for item in view.shown]


def ordered(view: View) -> bool:
    """Tell whether the arrows of a view can be sorted, so that no circle is there."""
    into = {item.id: 0 for item in view.shown}
    for link in view.links:
        into[link.target] += 1
    ready, done = [id for id, n in into.items() if n == 0], 0
    while ready:
        id = ready.pop()
        done += 1
        for link in view.links:
            if link.source == id:
                into[link.target] -= 1
                if into[link.target] == 0:
                    ready.append(link.target)
    return done == len(view.shown)


# -- groups -------------------------------------------------------------------------------------


def test_a_group_is_a_call_of_a_module_with_its_parameters():
    tree = Tree(Graph(deep(2)))
    found = {g.label: (g.parent, g.depth, dotted(g.scope), len(g.nodes)) for g in tree.groups.values()}
    assert found["net: Net"] == (None, 1, "net", 11)  # 8 ops and 3 gains; x belongs to none
    assert found["blocks.1: Block"][1:] == (2, "net.blocks.1", 4)
    assert tree.home["n0"] is None


def test_a_module_called_again_later_is_another_group():
    x = leaf([1.0], "x")
    w = leaf([2.0], "w", ("M",))
    with scope("m: M"):
        y = x * w
    y = y.exp()
    with scope("m: M"):
        y = y * w
    tree = Tree(Graph(y.sum()))
    assert [(g.label, len(g.nodes)) for g in tree.groups.values()] == [("m: M", 2), ("m: M", 1)]
    assert ordered(View(Graph(y.sum()), depth=1))


def labels_of(end, **options) -> list[str]:
    return [g.label for g in Tree(Graph(end), **options).groups.values()]


def test_calls_one_after_the_other_are_two_groups():
    x = sm.Tensor(np.ones((2, 3), np.float32), name="x")
    one, other = sm.nn.Linear(3, 3), sm.nn.Linear(3, 3)
    assert labels_of(one(one(x)).sum()) == ["Linear", "Linear"]
    assert labels_of(other(one(x)).sum()) == ["Linear", "Linear"]
    generator, discriminator = sm.nn.Sequential(one, sm.nn.ReLU()), sm.nn.Sequential(other, sm.nn.ReLU())
    view = View(Graph((discriminator(generator(x)) - discriminator(x)).sum()), depth=1)
    assert labels(view).count("Sequential") == 3


def test_weights_that_a_repeat_shares_count_for_each_of_its_parts():
    cell, h = sm.nn.Linear(2, 2), sm.Tensor(np.ones((1, 2)), requires_grad=True, name="h")
    for _ in range(4):
        h = cell(h).tanh()
    graph = Graph(h.sum())
    (repeat,) = [g for g in Tree(graph).groups.values() if not g.is_module]
    found = statistics(repeat, graph)
    assert len(found.each) == 4
    assert min(found.each) > 0
    assert found.rms == pytest.approx(joint_rms([n.grad for n in graph if n.role == "parameter"]))


def test_infinite_shares_of_a_repeat_are_summed_without_a_warning():
    w, h = leaf([1.0], "w", ("M",)), leaf([1.0], "x")
    for i in range(3):
        with scope(f"blocks.{i}: M"):
            h = h + w * 1e200 - w * 1e200
    graph = Graph(h.sum() * 1e200)  # the gradient of w is inf − inf
    (repeat,) = [g for g in Tree(graph).groups.values() if not g.is_module]
    assert np.isnan(statistics(repeat, graph).each).all()


def test_definitions_stand_in_their_place_in_the_order():
    a, b = leaf([[1.0, 2.0]], "a"), leaf([[2.0, 0.0]], "b")
    with scope("a: Tower"):
        p = sm.softmax(a * 1.0).log()
    with scope("b: Tower"):
        q = sm.softmax(b * 1.0).log()
    (end,), _, _ = with_definitions([(p * q).sum()], ["softmax"])
    assert labels_of(end) == ["a: Tower", "softmax", "b: Tower", "softmax"]
    order = [n.label for n in Graph(end).backward_order()]
    tower = ["log", "div", "sum", "exp", "sub", "mul 1"]
    assert order == ["sum", "mul", *tower, *tower, "parameter", "parameter"]


def test_equal_neighbours_are_a_repeat():
    tree = Tree(Graph(deep(12)))
    (repeat,) = [g for g in tree.groups.values() if not g.is_module]
    assert repeat.label == "blocks.0 to 11: Block"
    assert [len(part) for part in repeat.parts] == [4] * 12
    assert not [g for g in Tree(Graph(deep(2))).groups.values() if not g.is_module]


def test_blocks_of_another_shape_or_wiring_are_no_repeat():
    x = leaf(np.ones((2, 8)), "x")
    for i, n in enumerate((8, 6, 4, 2)):
        with scope(f"blocks.{i}: Cut"):
            x = x[:, :n]
    assert all(g.is_module for g in Tree(Graph(x.sum())).groups.values())


def test_a_repeat_may_have_several_parts():
    x = leaf(np.ones((2, 3)), "x")
    for i in range(5):
        with scope(f"layers.{2 * i}: Scale"):
            x = x * leaf(np.ones(3), "gain", ("Scale",))
        with scope(f"layers.{2 * i + 1}: ReLU"):
            x = sm.relu(x)
    repeats = [g for g in Tree(Graph(x.sum())).groups.values() if not g.is_module]
    assert [(g.label, len(g.parts), len(g.nodes)) for g in repeats] == [("layers.0 to layers.9: Scale, ReLU", 5, 15)]


def test_what_one_asks_to_open_is_no_part_of_a_repeat():
    view = View(Graph(deep(12)), depth=2, expand=["blocks.3"])
    assert [x for x in labels(view) if "block" in x] == ["blocks.0 to 2: Block", "blocks.4 to 11: Block"]
    assert sorted(view.tree.groups[i].label for i in view.open) == ["blocks.3: Block", "net: Net"]


def test_names_of_modules():
    scope = ("net: Net", "blocks.0: Block", "attn: Attention")
    assert dotted(scope) == "net.blocks.0.attn"
    for word in ("attn", "Attention", "net.blocks.0.attn", "attn: Attention", "*.attn", "net.blocks.*.attn"):
        assert matches(word, scope), word
    for word in ("Block", "blocks.0", "att", "net"):
        assert not matches(word, scope), word


# -- what is shown ------------------------------------------------------------------------------


def test_all_is_shown_at_first():
    graph = Graph(deep(3))
    view = View(graph)
    assert view.shown == graph.nodes
    assert [(link.id, link.source, link.target) for link in view.links] == [
        (e.id, e.source, e.target) for e in graph.edges
    ]
    assert not view.folded_by_itself


@pytest.mark.parametrize(("depth", "n"), [(0, 2), (1, 2), (2, 4), (3, 5), (9, 5)])
def test_depth(depth, n):
    view = View(Graph(deep(12)), depth=depth)
    assert ordered(view)
    assert len(view.shown) == n


def test_a_large_graph_folds_by_itself_and_a_small_one_does_not():
    view = View(Graph(deep(12)), max_nodes=30)
    assert view.folded_by_itself
    assert labels(view).count("blocks.0 to 11: Block") == 1
    assert not View(Graph(deep(12)), max_nodes=60).folded_by_itself


def test_a_graph_without_modules_folds_what_repeats_and_else_stretches():
    view = View(Graph(chain(5000)))
    assert len(view.shown) < 10
    assert "mul 0.5, sub 1" in labels(view)
    y = leaf([0.5], "x")
    rng = np.random.default_rng(0)
    for i in rng.integers(0, 4, 2000):
        y = (sm.tanh, sm.sin, sm.cos, sm.sigmoid)[i](y) * 0.5
    view = View(Graph(y.sum()))
    assert 10 < len(view.shown) < 150
    assert ordered(view)
    assert any(label.startswith("ops ") for label in labels(view))


def test_a_stretch_keeps_its_parameters_inside_and_shared_ones_outside():
    w, h = leaf([0.5], "w"), leaf([1.0], "x")
    for _ in range(300):
        h = sm.tanh(h * w + leaf([0.1]))
    view = View(Graph(h.sum()))
    assert [n.name for n in view.shown if isinstance(n, Node) and n.name] == ["w", "x"]
    (group,) = [g for g in view.shown if isinstance(g, Group)]
    (link,) = [x for x in view.links if x.source == "n0" and x.target == group.id]
    inside = {n.id for n in group.nodes}
    total = sum(e.share for e in view.graph.edges_from(view.graph["n0"]) if e.target in inside)
    assert link.size == pytest.approx(rms(total))


def test_an_arrow_to_a_folded_module_has_the_sum_of_what_comes_back():
    x = leaf([3.0, -1.0], "x")
    with scope("m: M"):
        y = x * x.exp()
    view = View(Graph(y.sum()), depth=1)
    (link,) = [link for link in view.links if link.source == "n0"]
    assert link.size == pytest.approx(rms((1 + x.data) * np.exp(x.data)))


def test_unknown_modules_are_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"collapse='atn' names no module.*blocks\.0: Block.*net: Net"):
        sm.draw(deep(2), collapse="atn")
    with pytest.raises(ValueError, match=r"expand='softmax' names no module or fused op.*modules: none"):
        sm.draw(chain(3), expand="softmax")
    with pytest.raises(TypeError, match=r"expand takes names.*int"):
        sm.draw(chain(3), expand=3)
    with pytest.raises(ValueError, match="depth"):
        sm.draw(chain(3), depth=-1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=40), st.data())
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_no_circle_arises(steps, data):
    made = [leaf([1.0, 2.0], "x", ("M",))]
    for module, inner, back in steps:
        a = made[max(0, len(made) - 1 - back)]
        names = [f"m{module}: M"] * (module > 0) + [f"in{inner}: N"] * (module > 0 and inner > 0)
        with scope(*names):
            made.append(a * 0.5 + made[-1] if inner else a.tanh())
    graph = Graph(sum(made[1:], start=made[0]).sum())
    depth = data.draw(st.one_of(st.none(), st.integers(0, 3)))
    view = View(graph, depth=depth, max_nodes=data.draw(st.sampled_from([1, 5, 20, 1000])))
    stand = [n.id for item in view.shown for n in (item.nodes if isinstance(item, Group) else [item])]
    assert sorted(stand) == sorted(n.id for n in graph)
    assert ordered(view)
    assert all(view.parent(item) is None or view.parent(item) in view.open for item in view.shown)
    crossing = {(view.of[e.source], view.of[e.target]) for e in graph.edges} - {(x.id, x.id) for x in view.shown}
    assert {(link.source, link.target) for link in view.links} == crossing
    assert len({link.id for link in view.links}) == len(view.links)


def test_deep_and_long_graphs():
    x = leaf([1.0], "x")
    with scope(*(f"m{i}: M" for i in range(1500))):
        y = x * 2.0
    assert len(View(Graph(y.sum()), depth=3).shown) == 3
    assert len(View(Graph(chain(10_000))).shown) < 10


def test_joint_rms():
    arrays = [np.array([3.0, 4.0]), np.array([[0.0]]), np.zeros(0)]
    assert joint_rms(arrays) == pytest.approx(np.sqrt(25 / 3))
    assert joint_rms([np.array([1e300]), np.array([1e300])]) == pytest.approx(1e300)
    assert joint_rms([np.zeros(2)]) == 0.0
    assert joint_rms([]) == 0.0
    assert joint_rms([np.array([np.inf]), np.array([1.0])]) == np.inf
    assert np.isnan(joint_rms([np.array([np.nan]), np.array([1.0])]))


# -- definitions --------------------------------------------------------------------------------


def test_a_definition_stands_in_place_of_its_op_with_the_same_gradients():
    z = leaf([[1.0, 2.0, 0.0], [3.0, -1.0, 0.0]], "z")
    h = z * 2.0
    loss = sm.cross_entropy(h, np.array([1, 0])) * 3.0
    plain = Graph(loss)
    for words in (["cross_entropy"], ["cross_entropy", "log_softmax"]):
        (new,), used, _ = with_definitions([loss], words)
        graph = Graph(new)
        assert used == set(words)
        assert not [n for n in graph if n.op in words]
        np.testing.assert_allclose(graph.find("z")[0].grad, plain.find("z")[0].grad, rtol=1e-12)
        np.testing.assert_allclose(new.data, loss.data, rtol=1e-12)
        assert graph.find("sub" if len(words) > 1 else "log_softmax")[0].scope[0] == "cross_entropy"
    assert with_definitions([loss], ["softmax"]) == ([loss], set(), set())
    assert loss.args[0].op.name == "cross_entropy"  # nothing was changed


def test_a_definition_keeps_name_hooks_and_line():
    z = leaf([[1.0, 2.0]], "z")
    with sm.record():
        p = sm.softmax(z)
    p.name = "p"
    p.register_hook(lambda g: g * 0.0)
    (new,), used, words = with_definitions([(p * 2).sum()], ["p"])
    assert words == {"p"}
    node = Graph(new).find("p")[0]
    assert used == {"softmax"}
    assert node.op == "div"
    assert node.source.endswith("p = sm.softmax(z)")
    assert Graph(new).find("z")[0].grad.tolist() == [[0.0, 0.0]]


def test_the_name_of_a_tensor_and_of_a_variable_expand_it():
    z = leaf([[1.0, 2.0]], "z")
    with sm.record():
        p = sm.softmax(z)
        loss = (p * 2.0).sum()
    for word in ("p", "softmax"):
        assert "<B>div</B>" in sm.draw(loss, expand=word).dot
    with pytest.raises(ValueError, match=r"expand='z' is not a module, nor made by a fused op.*fused ops: softmax"):
        sm.draw(loss, expand="z")
    with pytest.raises(ValueError, match=r"expand='sofmax' names no module or fused op .*did you mean 'softmax'"):
        sm.draw(loss, expand="sofmax")
    with pytest.raises(ValueError, match=r"collapse='softmax' is an op or a tensor"):
        sm.draw(loss, collapse="softmax")


def test_attention_expands_into_a_visible_softmax():
    rng = np.random.default_rng(0)
    q, k, v = (leaf(rng.normal(size=(2, 3, 4)), n) for n in "qkv")
    y = sm.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    drawing = sm.draw((y * y).sum(), expand=["attention", "softmax"])
    assert "<B>attention</B>" in drawing.dot
    assert "<B>softmax</B>" in drawing.dot
    with pytest.raises(ValueError, match="needs the tensor, for a Graph keeps none"):
        sm.draw(Graph(y.sum()), expand="attention")


def test_replaced_data_is_not_expanded_wrongly():
    z = leaf([[1.0, 2.0]], "z")
    loss = sm.cross_entropy(z, np.array([0]))
    z.data = z.data + 1
    with pytest.raises(RuntimeError, match="was replaced"):
        sm.draw(loss, expand="cross_entropy")


def test_no_grad_around_draw_does_no_harm():
    z = leaf([[1.0, 2.0]], "z")
    loss = sm.cross_entropy(z, np.array([0]))
    with sm.no_grad():
        drawing = sm.draw(loss, expand="cross_entropy")
    assert "log_softmax" in drawing.dot
