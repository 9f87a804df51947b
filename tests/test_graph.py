"""Graph: roles, values, gradients and shares; and that taking a snapshot leaves no trace."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import op
from tinygrad_sm.call import assigned, brief
from tinygrad_sm.graph import Graph, rms


@contextmanager
def scope(*labels: str) -> Iterator[None]:
    """Record what is computed inside as the work of a module."""
    token = op.MODE.set(op.MODE.get()._replace(scope=(*op.MODE.get().scope, *labels)))
    try:
        yield
    finally:
        op.MODE.reset(token)


def leaf(data, name=None, owner=()):
    t = sm.Tensor(np.asarray(data, np.float64), requires_grad=True, name=name)
    t.scope = owner
    return t


def layer():
    """Return x, W, b and the cross-entropy of a linear layer."""
    x, w, b = leaf([[1, 2], [3, -4]], "x"), leaf([[0.5, -1], [2, 1]], "W", ("Linear",)), leaf([0, 1], "b", ("Linear",))
    with scope("fc: Linear"):
        logits = x @ w + b
    return x, w, b, F.cross_entropy(logits, np.array([0, 1]))


def test_ids_follow_creation_order_and_roles_are_told_apart():
    *_, loss = layer()
    graph = Graph(loss)
    assert [(n.id, n.role, n.label, n.name) for n in graph] == [
        ("n0", "input", "input", "x"),
        ("n1", "parameter", "parameter", "fc.W"),
        ("n2", "parameter", "parameter", "fc.b"),
        ("n3", "op", "matmul", None),
        ("n4", "op", "add", None),
        ("n5", "constant", "constant", "target"),
        ("n6", "loss", "cross_entropy", None),
    ]
    assert [e.id for e in graph.edges] == ["e_n0_n3", "e_n1_n3", "e_n3_n4", "e_n2_n4", "e_n4_n6", "e_n5_n6"]
    assert [e.position for e in graph.edges] == [0, 1, 0, 1, 0, 1]
    assert graph.roots == (graph["n6"],)
    assert [n.scope for n in graph] == [(), *[("fc: Linear",)] * 4, (), ()]
    assert repr(graph) == "<Graph of cross_entropy: 7 nodes, 6 edges>"


def test_leaves_without_owner_are_parameters_if_no_leaf_has_one():
    a, b = leaf([1.0], "a"), sm.Tensor([2.0], name="b")
    i, flag = sm.Tensor([3], name="i"), sm.Tensor([True], name="flag")
    roles = {n.name: n.role for n in Graph(F.where(flag, a * b, a * i).sum()) if n.name}
    assert roles == {"a": "parameter", "b": "input", "i": "constant", "flag": "constant"}


def test_what_a_module_owns_without_gradient_is_a_constant_inside_it():
    w, shift = leaf([1.0], "w", ("M",)), sm.Tensor([2.0], name="shift")
    shift.scope = ("M",)
    with scope("M"):
        y = w + shift
    node = Graph(y).find("shift")[0]
    assert (node.role, node.scope) == ("constant", ("M",))


def test_a_shared_parameter_stands_where_it_is_first_used():
    w = leaf([2.0], "w", ("M",))
    with scope("first"):
        y = w * 3
    with scope("second"):
        y = y * w
    assert Graph(y).find("w")[0].scope == ("first",)


def test_values_gradients_and_formulas():
    x, w, b, loss = layer()
    graph = Graph(loss)
    expected = sm.grad(loss, [x, w, b])
    for name, tensor, gradient in zip("xWb", (x, w, b), expected, strict=True):
        (node,) = graph.find(name)
        np.testing.assert_allclose(node.grad, gradient.data, rtol=1e-12)
        assert node.value is tensor.data
        assert (node.shape, node.dtype) == (tensor.shape, np.float64)
    assert graph["n6"].grad == 1
    assert graph["n5"].grad is None
    assert (graph["n6"].formula, graph["n6"].gradient) == (
        "mean(log Σⱼ exp(zⱼ) − z[y])",
        "g·(p − y)/N, with p = softmax(z)",
    )


def test_shares_add_up_to_the_gradient():
    a = leaf([1.0, -2.0, 0.5], "a")
    graph = Graph((a.exp() * a + a / (1 + a * a) + (a + a)).sum())
    assert len(graph.edges_from(graph.find("a")[0])) == 7
    for node in graph:
        edges = graph.edges_from(node)
        assert node in graph.roots or edges
        if edges:
            np.testing.assert_allclose(sum(e.share for e in edges), node.grad, rtol=1e-12)


def test_the_same_tensor_twice_gives_two_edges_with_ids_of_their_own():
    a = leaf([1.0, 2.0])
    graph = Graph((a + a).sum())
    assert [(e.id, e.position) for e in graph.edges] == [("e_n0_n1", 0), ("e_n0_n1_2", 1), ("e_n1_n2", 0)]
    assert [e.id for e in graph.edges_into(graph["n1"])] == ["e_n0_n1", "e_n0_n1_2"]
    assert graph["n0"].grad.tolist() == [2.0, 2.0]


def test_an_array_used_twice_is_one_node_and_plain_numbers_are_none():
    mask = np.array([1.0, 0.0])
    a = leaf([1.0, 2.0])
    graph = Graph((((2 - a) * mask + 3) ** 2 * mask).sum(axis=0, keepdims=True))
    assert [n.label for n in graph] == ["parameter", "2 sub", "constant", "mul", "add 3", "pow 2", "mul", "sum"]
    assert graph.find("sum")[0].options == "axis=0, keepdims=True"
    assert len(graph.edges_from(graph["n2"])) == 2
    assert all(e.share is None for e in graph.edges_from(graph["n2"]))


def test_nothing_is_touched_and_a_later_backward_pass_gives_the_same():
    x, w, b, loss = layer()
    residual = loss.residual[0].copy()
    Graph(loss)
    assert (x.grad, w.grad, b.grad) == (None, None, None)
    assert len(loss.residual) == 1
    np.testing.assert_array_equal(loss.residual[0], residual)
    loss.backward()
    first = [t.grad.data.copy() for t in (x, w, b)]
    graph = Graph(loss)  # also after backward, which took the residual
    for t, g in zip((x, w, b), first, strict=True):
        np.testing.assert_array_equal(t.grad.data, g)
        np.testing.assert_array_equal(graph.find(t.name)[0].grad, g)


def test_a_hook_s_gradient_is_shown():
    x = leaf([1.0, 2.0], "x")
    x.register_hook(lambda g: g * 10)
    assert Graph((x * 3).sum()).find("x")[0].grad.tolist() == [30.0, 30.0]


def test_no_tensor_is_kept_alive():
    x = leaf([1.0])
    alive = weakref.ref(x)
    graph = Graph((x * 2).sum())
    gc.disable()
    try:
        del x
        assert alive() is None
    finally:
        gc.enable()
    assert graph["n0"].value.tolist() == [1.0]


def test_values_are_those_that_the_op_saw():
    w = leaf([1.0], "w")
    y = (w * 3).sum()
    w.data = np.array([100.0])  # as an optimiser does
    assert Graph(y)["n0"].value.tolist() == [1.0]


def test_a_gradient_that_is_zero_differs_from_none():
    a = leaf([1.0, 2.0], "a")
    zero = Graph((a * 0.0).sum())
    assert zero["n0"].grad.tolist() == [0.0, 0.0]
    none = Graph([(a * 2).sum(), leaf([1.0, 1.0], "c") * 2])  # nothing starts at the second
    assert none.has_gradients
    assert none.find("c")[0].requires_grad
    assert none.find("c")[0].grad is None


def test_several_outputs_add_up():
    a = leaf([1.0, 2.0], "a")
    z = a * 3
    graph = Graph([z, z.sum()], gradient=[[10.0, 20.0], 1.0])
    assert graph.find("a")[0].grad.tolist() == [33.0, 63.0]
    assert [n.role for n in graph.roots] == ["op", "loss"]
    s = a.sum()
    assert Graph([s, s]).find("a")[0].grad.tolist() == [2.0, 2.0]


def test_without_a_scalar_backward_has_not_run_unless_a_gradient_is_given():
    a = leaf([1.0, 2.0])
    graph = Graph(a * 3)
    assert not graph.has_gradients
    assert all(n.grad is None for n in graph)
    assert [n.role for n in graph] == ["parameter", "op"]
    assert Graph(a * 3, gradient=[1.0, -1.0])["n0"].grad.tolist() == [3.0, -3.0]


def test_values_alone_where_nothing_requires_a_gradient():
    graph = Graph(sm.Tensor([1.0, 2.0]) * 3)
    assert [(n.role, n.value.tolist(), n.grad) for n in graph] == [("input", [3.0, 6.0], None)]
    assert not graph.has_gradients


@pytest.mark.parametrize(
    ("outputs", "gradient", "error", "said"),
    [
        ([], None, ValueError, "no tensor"),
        (np.ones(2), None, TypeError, "ndarray"),
        ([sm.Tensor([1.0]), 2.0], None, TypeError, "float"),
        (sm.Tensor([1.0]), [1.0], ValueError, "requires a gradient"),
        (sm.Tensor([1.0, 2.0], requires_grad=True), [1.0], ValueError, r"shape \(1,\)"),
        ([sm.Tensor([1.0], requires_grad=True)] * 2, [1.0], ValueError, "2 outputs, but 1"),
    ],
)
def test_errors_say_what_is_wrong(outputs, gradient, error, said):
    with pytest.raises(error, match=said):
        Graph(outputs, gradient)


def test_find_takes_names_ops_roles_and_scopes():
    x = leaf([1.0, 2.0], "x")
    with scope("net: Net", "blocks.0: Block"):
        y = (x * 2).exp()
    graph = Graph(y.sum())
    assert [n.id for n in graph.find("exp")] == ["n2"]
    assert [n.id for n in graph.find("x")] == ["n0"]
    assert [n.id for n in graph.find(scope="blocks.0")] == ["n1", "n2"]  # x belongs to no module
    assert [n.id for n in graph.find(role="op", scope="net: Net")] == ["n1", "n2"]
    assert graph.find("nothing") == []
    assert len(graph.find()) == len(graph) == 4
    with pytest.raises(KeyError, match="'n0' to 'n3'"):
        graph["n4"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_where_nan_and_inf_start():
    z = leaf([[1000.0, 0.0]], "z")
    e = z.exp()  # inf
    p = e / e.sum(axis=1, keepdims=True)  # inf / inf is NaN
    graph = Graph(p.log().sum())
    assert {graph[i].label: what for i, what in graph.first_nonfinite().items()} == {"exp": "value"}
    x = leaf([0.0, 4.0], "x")
    with np.errstate(all="raise"):  # the private pass warns of nothing
        graph = Graph((x**0.5).sum())
    assert graph.first_nonfinite() == {"n0": "grad"}
    assert Graph((leaf([1.0]) * 2).sum()).first_nonfinite() == {}


def test_minus_infinity_that_a_softmax_absorbs_is_no_trouble():
    scores = leaf([[1.0, 2.0], [3.0, 4.0]], "scores")
    masked = F.where(np.tril(np.ones((2, 2), bool)), scores, -np.inf)
    graph = Graph((masked * 1.0).softmax()[1].sum())
    assert graph.first_nonfinite() == {}
    assert all(graph.is_finite(node) for node in graph)
    with np.errstate(all="ignore"):
        for bad in (masked.sum(), (masked * 0.0).softmax().sum(), masked):
            found = {graph[i].label for graph in [Graph(bad)] for i in graph.first_nonfinite()}
            assert found == {"where -inf"}


def test_a_deep_chain():
    y = x = leaf([1.0])
    for _ in range(20_000):
        y = y + 1.0
    graph = Graph(y)
    assert (len(graph), len(graph.edges), graph["n0"].grad.tolist()) == (20_001, 20_000, [1.0])
    assert graph["n0"].value is x.data


def test_many_arguments_and_options():
    parts = [leaf([float(i)]) for i in range(3)]
    graph = Graph(sm.concatenate([*parts, parts[0]], axis=0).sum())
    assert [e.id for e in graph.edges[:4]] == ["e_n0_n3", "e_n1_n3", "e_n2_n3", "e_n0_n3_2"]
    q = leaf(np.ones((2, 4)), "q")
    out = F.scaled_dot_product_attention(q, q, q, mask=np.ones((2, 2), bool))
    assert Graph(out).find("attention")[0].options == "mask=bool(2, 2), scale=0.5"
    assert Graph(q.reshape(8)).find("reshape")[0].options == ""  # the shape is told anyway
    assert Graph(q[0, ::2]).find("getitem")[0].options == "index=(0, ::2)"


def test_an_op_whose_signature_python_cannot_tell(monkeypatch):
    monkeypatch.setattr(op, "REGISTRY", {})
    largest = op.Op(max, (lambda g, y, x, default: g * np.equal(x, y),), name="largest")
    graph = Graph(largest(leaf([1.0, 3.0]), default=0.0))
    assert [(n.label, n.options) for n in graph] == [("parameter", ""), ("largest", "default=0")]
    assert graph["n0"].grad.tolist() == [0.0, 1.0]


def test_an_argument_left_out_is_no_node():
    graph = Graph(F.linear(leaf([[1.0, 2.0]]), leaf([[3.0, 4.0]])))
    assert [n.label for n in graph] == ["parameter", "parameter", "linear"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.125, "0.125"), (np.float32(1 / 3), "0.3333"), (True, "True"), (None, "None"), (np.int64(7), "7"),
        ("a" * 99, "a" * 21 + "..."), (slice(1, None, 2), "1::2"), (list(range(99)), "[0, 1, 2, 3, 4, 5, ...]"),
        ((1,), "(1,)"), (((((1,),),),), "(((...,),),)"), (np.dtype("f4"), "float32"), (np.float32, "float32"),
        (np.ones((2, 3)), "float64(2, 3)"), (sm.Tensor([1.0]), "float32(1,)"), (..., "..."), (object(), "object"),
    ],
)  # fmt: skip
def test_arguments_in_brief(value, text):
    assert brief(value) == text


@pytest.mark.parametrize(
    ("array", "size"),
    [
        (np.array([3.0, 4.0]), 12.5**0.5), (np.full(4, 1e30, np.float32), 1e30), (np.full(4, 1e-30, np.float32), 1e-30),
        (np.full(2, 1e300), 1e300), (np.array([-128, 0], np.int8), 128 / 2**0.5), (np.array([True, True]), 1.0),
        (np.zeros((0, 3)), 0.0), (np.zeros(3), 0.0), (np.array([1.0, -np.inf]), np.inf),
        (np.array([np.nan, np.inf]), np.nan),
    ],
)  # fmt: skip
def test_rms_is_safe_at_any_scale(array, size):
    np.testing.assert_allclose(rms(array), size, rtol=1e-6)


# -- under sm.record() --------------------------------------------------------------------------


def test_names_and_lines_of_variables():
    x = leaf([1.0, 2.0], "x")
    with sm.record():
        shifted = x - 1
        p: sm.Tensor = (shifted * 2).exp()
        mine = p / 2
        mine.name = "a name"
        a, b = p * 3, p + mine
        total = a.sum() + b.sum()
    graph = Graph(total)
    assert [(n.op, n.name) for n in graph if n.op] == [
        ("sub", "shifted"), ("mul", None), ("exp", "p"), ("div", "a name"), ("mul", None), ("add", None),
        ("sum", None), ("sum", None), ("add", "total"),
    ]  # fmt: skip
    assert graph.find("shifted")[0].source.endswith(": shifted = x - 1")
    assert graph.find("x")[0].source == ""


def test_of_a_loop_the_last_round_has_the_name_and_of_a_module_its_result():
    model = sm.nn.Sequential(sm.nn.Linear(2, 2), sm.nn.ReLU())
    h = leaf(np.ones((1, 2)))
    with sm.record():
        for _ in range(3):
            h = h.tanh()
        out = model(h)
    names = [(n.op, n.name) for n in Graph(out) if n.op]
    assert names == [("tanh", None), ("tanh", None), ("tanh", "h"), ("linear", None), ("relu", "out")]


def test_without_record_nothing_is_read_from_the_source():
    y = leaf([1.0]) * 2
    assert [(n.name, n.source) for n in Graph(y)] == [(None, ""), (None, "")]


@pytest.mark.parametrize(
    ("line", "name"),
    [("x = 1", "x"), ("x=f(a=1)", "x"), ("x += y", "x"), ("x **= 2", "x"),
     ("self.h: Tensor = g(x)", "h"), ("größe = 1", "größe"),
     ("x, y = z", None), ("x[0] = y", None), ("x == y", None), ("f(x=1)", None), ("return x", None), ("", None),
     ("if x != y:", None), ("x <= y", None), ("lambda: x", None)],
)  # fmt: skip
def test_assigned(line, name):
    assert assigned(line) == name
