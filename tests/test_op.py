"""Op: recording, the registry, ops of one's own, and errors that name the op and what came in."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Op, Tensor
from tinygrad_sm.mode import MODE
from tinygrad_sm.op import REGISTRY
from tinygrad_sm.ops.arithmetic import add, exp, mul


def test_names_are_unique_and_lead_to_the_op() -> None:
    for name, op in REGISTRY.items():
        assert op.name == op.__name__ == name
        assert name in repr(op)
        assert pickle.loads(pickle.dumps(op)) is op


def test_a_recorded_result_knows_how_it_was_made() -> None:
    a, b = leaf([1.0]), Tensor([2.0])
    y = add(a, b)
    assert (y.op, y.args, y.need, y.kwargs) == (add, (a, b), [True, False], {})
    assert [r is t.data for r, t in zip(y.raw, (a, b), strict=True)] == [True, True]
    assert y.order > b.order > a.order


def test_nothing_is_recorded_that_nobody_can_ask_for() -> None:
    assert (Tensor([1.0]) * 2.0).op is None
    assert (leaf([1.0]) > 0).op is None
    with sm.no_grad():
        y = leaf([1.0]) * 2.0
    assert (y.op, y.args, y.requires_grad) == (None, (), False)


def test_recording_is_switched_by_context_and_decorator() -> None:
    x = leaf([1.0])

    @sm.no_grad()
    def silent() -> Tensor:
        return x * 2

    @sm.enable_grad()
    def loud() -> Tensor:
        return x * 2

    assert not silent().requires_grad
    with sm.no_grad():
        assert not (x * 2).requires_grad
        with sm.enable_grad():
            assert (x * 2).requires_grad
            with sm.no_grad():
                assert not (x * 2).requires_grad
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
        assert loud().requires_grad
    assert (x * 2).requires_grad
    assert not silent().requires_grad  # a decorator works more than once
    assert (x * 2).requires_grad


def test_recording_comes_back_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="on purpose"), sm.no_grad():
        raise RuntimeError("on purpose")
    assert MODE.get().grad
    assert (leaf([1.0]) * 2).requires_grad


def test_no_grad_does_not_stop_a_backward_pass() -> None:
    x = leaf([3.0])
    y = x * x
    with sm.no_grad():
        y.backward()
        (g,) = sm.grad(y, x)
    assert x.grad.tolist() == g.tolist() == [6.0]


@pytest.mark.parametrize("f", [lambda x: x * x, lambda x: x**2, lambda x: (x * np.ones((2, 1))).sum() * x.sum() / 2,
                               lambda x: F.softmax(x) * x], ids=["x·x", "x²", "broadcast", "fused"])  # fmt: skip
def test_create_graph_records_also_under_no_grad(f: Any) -> None:
    x = leaf([3.0, 1.0])
    y = f(x).sum()
    (expected,) = sm.grad(sm.grad(y, x, create_graph=True)[0].sum(), x)
    with sm.no_grad():
        (g,) = sm.grad(y, x, create_graph=True)
        y.backward(create_graph=True)
    for slope in (g, x.grad):
        assert slope.requires_grad
        close(sm.grad(slope.sum(), x), [expected], rtol=1e-12)


def test_an_op_of_ones_own_with_rules_true_for_tensors(registry: Any) -> None:
    cube = Op(lambda x: x**3, (lambda g, y, x: g * 3 * x**2,), name="cube", formula="x³", gradient="g·3x²")
    assert registry["cube"] is cube
    assert cube(np.array([2.0])).tolist() == [8.0]
    close(sm.jacobian(cube, np.array([2.0])), [[12.0]])
    close(sm.hessian(lambda x: cube(x).sum(), np.array([2.0])), [[12.0]])
    third = sm.jacobian(lambda x: sm.jacobian(lambda u: sm.jacobian(cube, u, create_graph=True), x, create_graph=True),
                        leaf([2.0]))  # fmt: skip
    close(third.reshape(()), 6.0)


def test_a_fused_op_of_ones_own_moves_its_residual(registry: Any) -> None:
    made = []

    def forward(x: Any) -> Any:
        e = np.exp(x)
        made.append(e)
        return e.copy(), e

    def vjp(g: Any, y: Any, residual: Any, x: Any) -> Any:
        residual *= g  # a rule may overwrite what it was left
        return (residual,)

    fast = Op(forward, vjp, name="fast_exp", definition=lambda x: exp(x), formula="eˣ", gradient="g·y")
    x = leaf([0.5, 1.0])
    y = fast(x)
    assert len(made) == 1
    first = sm.grad(y, x, np.full(2, 3.0))[0]
    assert len(made) == 1  # the residual of the forward pass was used ...
    again = sm.grad(y, x, np.full(2, 3.0))[0]
    assert len(made) == 2  # ... and made again, since the first pass overwrote it
    close([first, again], [3 * np.exp(x.data)] * 2, rtol=1e-15)
    close(sm.grad(y, x, np.full(2, 3.0), create_graph=True), [3 * np.exp(x.data)], rtol=1e-15)
    assert fast(x.data).tolist() == y.tolist()


def test_one_rule_for_any_number_of_arguments(registry: Any) -> None:
    total = Op(lambda *xs, power: sum(x**power for x in xs),
               lambda g, y, residual, *xs, power: [g * power * x ** (power - 1) for x in xs],
                name="power_sum")  # fmt: skip
    leaves = [leaf([float(i)]) for i in range(1, 5)]
    close(sm.grad(total(*leaves, power=3), leaves), [[3.0], [12.0], [27.0], [48.0]])
    (g,) = sm.grad(total(*leaves, power=3), leaves[1], create_graph=True)
    close(sm.grad(g, leaves[1]), [[12.0]])


def test_numpy_functions_can_be_taken_over(registry: Any) -> None:
    from tinygrad_sm.tensor import UFUNCS

    Op(np.cbrt, (lambda g, y, x: g / (3 * y * y),), name="cube_root", numpy=[np.cbrt])
    try:
        x = leaf([8.0])
        close(sm.grad(np.cbrt(x), x), [[1 / 12]])
    finally:
        del UFUNCS[np.cbrt]


def test_a_rule_of_the_wrong_shape_is_named(registry: Any) -> None:
    wrong = Op(lambda x: x.sum(), (lambda g, y, x: np.ones(5) * g,), name="wrong_rule")
    with pytest.raises(RuntimeError, match=r"wrong_rule.*shape \(5,\) for shape \(3,\)"):
        wrong(leaf([1.0, 2.0, 3.0])).backward()


@pytest.mark.parametrize("kind", [ValueError, TypeError, IndexError])
def test_errors_of_a_forward_pass_are_named_and_keep_their_kind(kind: Any, registry: Any) -> None:
    def forward(x: Any, y: Any) -> Any:
        raise kind("went wrong")

    broken = Op(forward, None, name="broken")
    with pytest.raises(kind, match=r"^broken\(float32\[2, 1\], 'text'\): went wrong$") as caught:
        broken(np.ones((2, 1), np.float32), "text")
    assert isinstance(caught.value.__cause__, kind)


def test_replaced_data_is_noticed_where_it_would_mix_values() -> None:
    for f in (lambda x: x * x, F.softmax, F.gelu):
        x = leaf(normal(3))
        y = f(x)
        before = sm.grad(y, x, np.ones(3))[0].tolist()
        x.data = x.data + 1.0
        assert sm.grad(y, x, np.ones(3))[0].tolist() == before  # the raw pass uses the arrays that the op saw
        with pytest.raises(RuntimeError, match=r"\.data of argument 0 was replaced"):
            sm.grad(y, x, np.ones(3), create_graph=True)


def test_calls_on_arrays_make_no_tensors() -> None:
    assert isinstance(mul(np.ones(2), 2.0), np.ndarray)
    assert isinstance(F.softmax(np.ones(2)), np.ndarray)
    assert isinstance(F.cross_entropy(np.ones((2, 2)), np.array([0, 1])), np.ndarray)


# -- what the constructor fills in ----------------------------------------------------------------


def test_an_op_says_what_it_does(registry: Any) -> None:
    assert sm.exp.__doc__ == "exp: eˣ\n\nBackward: g·y.\n"
    assert "piecewise constant" in sm.op.REGISTRY["sign"].__doc__

    def _doubled_(x: Any) -> Any:
        return x * 2

    plain = sm.Op(_doubled_, (lambda g, y, x: g * 2,))
    assert plain.name == plain.__name__ == "doubled"
    assert (plain.formula, plain.gradient, plain.latex, plain.samples) == ("", "", ("", ""), ())
    assert plain.domain == (-2.0, 2.0)


@pytest.mark.parametrize("other", [[3.0, 4.0], (3.0, 4.0)], ids=["list", "tuple"])
def test_lists_beside_a_tensor_are_arrays(other: Any) -> None:
    x = leaf([1.0, 2.0])
    for y in (x * other, other * x, x @ other, (x**other).sum()):
        y.backward(np.ones(y.shape))
    assert x.grad.tolist() == [3 + 3 + 3 + 3.0, 4 + 4 + 4 + 32.0]


def test_looking_at_a_graph_leaves_the_residuals_to_the_backward_pass() -> None:
    loss = sm.cross_entropy(leaf([[1.0, 2.0]]), [0])
    sm.Graph(loss)
    assert len(loss.residual) == 1
    loss.backward()
    assert loss.residual == []
