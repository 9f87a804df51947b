"""The backward pass: graphs that trip engines, what accumulates, hooks, and whose memory it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, graph_of, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor


def test_a_tensor_used_twice() -> None:
    a = leaf(3.0)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad.item() == 4.0


def test_a_tensor_used_twice_in_ops_of_different_depth() -> None:
    a, b = leaf(-2.0), leaf(3.0)
    d, e = a * b, a + b
    f = d * e
    f.backward()
    assert (a.grad.item(), b.grad.item()) == (-3.0, -8.0)


def test_a_larger_expression_of_scalars() -> None:
    a, b = leaf(-4.0), leaf(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    g.backward()
    close(g, 24.70408163265306)
    close(a.grad, 138.83381924198252)
    close(b.grad, 645.5772594752186)


def test_diamonds_in_a_row_cost_no_more_than_their_length() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(200):  # 2²⁰⁰ paths
        y = y * 0.5 + y * 0.5
    y.backward()
    assert x.grad.item() == 1.0


def test_a_late_use_of_an_early_tensor() -> None:
    x = leaf(2.0)
    early = x * 3
    late = early
    for _ in range(5):
        late = late * 1.0
    (late * early).backward()
    assert x.grad.item() == 36.0


def test_leaves_accumulate_and_inner_tensors_do_not() -> None:
    x = leaf([1.0, 2.0])
    y = x * 3
    y.retain_grad()
    z = (y * y).sum()
    z.backward()
    first = (x.grad.tolist(), y.grad.tolist())
    z.backward()
    assert x.grad.tolist() == [2 * g for g in first[0]]
    assert y.grad.tolist() == first[1] == [6.0, 12.0]
    x.grad = None
    z.backward()
    assert x.grad.tolist() == first[0]


def test_two_losses_that_share_a_graph() -> None:
    x = leaf([1.0, 2.0])
    shared = F.softmax(x)
    a, b = shared[0], shared[1] * 2
    a.backward()
    b.backward()
    both = leaf([1.0, 2.0])
    p = F.softmax(both)
    (p[0] + p[1] * 2).backward()
    close(x.grad, both.grad, rtol=1e-14)


def test_inner_tensors_keep_no_gradient_unless_asked() -> None:
    x = leaf([1.0])
    y = x * 2
    y.backward()
    with pytest.warns(UserWarning, match=r"only leaves keep their .grad: call .retain_grad\(\)") as seen:
        assert y.grad is None
    assert seen[0].filename == __file__
    assert x.grad.tolist() == [2.0]


def test_a_gradient_may_be_assigned() -> None:
    x = leaf([1.0, 2.0])
    x.grad = np.array([3.0, 4.0])
    x.sum().backward()
    assert x.grad.tolist() == [4.0, 5.0]
    x.grad = None
    assert x.grad is None


def test_an_unused_input_may_be_allowed() -> None:
    x, y = leaf([1.0]), leaf([2.0])
    assert sm.grad(x.sum(), [y, x], allow_unused=True)[0] is None


@pytest.mark.parametrize(
    ("f", "message"), [(lambda x: x / 0, "divide by zero"), (lambda x: (-x).log(), "invalid value")]
)
def test_numpys_error_state_holds(f: Any, message: str) -> None:
    x = leaf([1.0])
    with pytest.warns(RuntimeWarning, match=message):
        f(x)
    with np.errstate(all="ignore"):
        f(x)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match=message):
        f(x)


def test_numpys_error_state_holds_in_the_backward_pass() -> None:
    x = leaf([0.0])
    y = x.sqrt()
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        y.backward()
    with np.errstate(all="ignore"):
        y.backward()
    assert x.grad.item() == np.inf
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="divide by zero"):
        y.backward()


def test_a_leaf_has_the_gradient_of_itself() -> None:
    x = leaf(3.0)
    x.backward()
    assert x.grad.item() == 1.0
    y = leaf([1.0, 2.0])
    y.backward([5.0, 6.0])
    assert y.grad.tolist() == [5.0, 6.0]


STARTS = {
    "list": [1.0, 2.0], "tuple": (1.0, 2.0), "integers": np.array([1, 2]), "tensor": Tensor([1.0, 2.0]),
    "float32": np.array([1.0, 2.0], np.float32),
}  # fmt: skip


@pytest.mark.parametrize("gradient", STARTS.values(), ids=STARTS.keys())
@pytest.mark.parametrize("create_graph", [False, True])
def test_the_gradient_to_start_from_comes_in_any_form(gradient: Any, create_graph: bool) -> None:
    x = leaf([3.0, 4.0])
    (x * x).backward(gradient, create_graph=create_graph)
    assert x.grad.tolist() == [6.0, 16.0]
    assert x.grad.dtype == np.float64


def test_backward_with_create_graph_can_go_on() -> None:
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    slope = x.grad
    assert slope.item() == 12.0
    x.grad = None
    slope.backward()
    assert x.grad.item() == 12.0
    (x**3).backward(create_graph=True)  # adds to what is there
    assert x.grad.item() == 24.0


# -- whose memory it is -------------------------------------------------------------------------


@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_changing_a_gradient_in_place_changes_nothing_else(create_graph: bool) -> None:
    a, b, x = leaf([1.0, 2.0]), leaf([3.0, 4.0]), leaf([[5.0, 6.0]])
    start = Tensor(np.array([[1.0, 1.0]]))
    y = (a + b) + x
    y.retain_grad()
    y.backward(start, create_graph=create_graph)
    for t in (a, b, x, y):
        t.grad.data *= 10.0
    assert [t.grad.data.ravel().tolist() for t in (a, b, x, y)] == [[10.0, 10.0]] * 4
    assert start.tolist() == [[1.0, 1.0]]


def test_leaves_that_get_one_array_do_not_share_it() -> None:
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    ((a + b) * 3).sum().backward()
    a.grad.data *= 10.0
    assert b.grad.tolist() == [3.0, 3.0]


def test_a_leaf_does_not_share_what_it_was_given_a_view_of() -> None:
    x, seed = leaf([[1.0, 2.0]]), np.ones(2)
    x.reshape(2).backward(seed)
    x.grad.data *= 10.0
    assert seed.tolist() == [1.0, 1.0]


def test_a_leaf_does_not_share_what_a_hook_returned() -> None:
    x, mine = leaf([1.0, 2.0]), np.ones(2)
    y = x + 1.0
    y.register_hook(lambda g: mine)
    y.sum().backward()
    x.grad.data *= 10.0
    assert mine.tolist() == [1.0, 1.0]


def test_broadcasting_is_undone_in_front_and_within() -> None:
    a = leaf(np.ones((1, 3)))
    (np.ones((4, 5, 3)) * a).sum().backward()
    assert a.grad.tolist() == [[20.0, 20.0, 20.0]]


def test_gradients_that_are_recorded_twice_can_be_differentiated() -> None:
    x = leaf([2.0])
    for _ in range(2):
        (x**3).sum().backward(create_graph=True)
    assert sm.grad(x.grad.sum(), x)[0].tolist() == [2 * 12.0]


def test_what_a_hook_saw_is_not_changed_by_an_optimiser() -> None:
    x, seen = leaf([1.0, 2.0]), []
    x.register_hook(seen.append)
    (x * x).sum().backward()
    x.grad.data *= 0.0
    assert seen[0].tolist() == [2.0, 4.0]


@pytest.mark.parametrize("hooked", ["leaf", "inner"])
def test_what_a_hook_returned_is_not_changed_by_an_optimiser(hooked: str) -> None:
    x, buffer = leaf([1.0, 2.0]), Tensor(np.array([7.0, 8.0]))
    y = x + np.ones(2)  # hands the gradient on as it is
    (x if hooked == "leaf" else y).register_hook(lambda g: buffer)
    y.sum().backward()
    x.grad.data *= 0.0
    assert buffer.tolist() == [7.0, 8.0]


def test_a_gradient_that_was_kept_is_not_added_to() -> None:
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward()
    kept = x.grad
    y.backward()
    assert kept.tolist() == [2.0, 4.0]
    assert x.grad.tolist() == [4.0, 8.0]


# -- hooks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_hooks_replace_in_their_order(create_graph: bool) -> None:
    x = leaf([1.0, 2.0])
    y = x * 3
    order: list[str] = []
    y.register_hook(lambda g: order.append("first") or g + 1)  # type: ignore[func-returns-value]
    y.register_hook(lambda g: order.append("second") or g * 10)  # type: ignore[func-returns-value]
    x.register_hook(lambda g: order.append("leaf"))
    y.sum().backward(create_graph=create_graph)
    assert order == ["first", "second", "leaf"]
    assert x.grad.tolist() == [60.0, 60.0]


def test_a_hook_sees_the_complete_gradient_once() -> None:
    x, seen = leaf([1.0]), []
    y = x * 2
    y.register_hook(lambda g: seen.append(g.tolist()))
    (y * 3 + y * 4 + y.sum()).backward()
    assert seen == [[8.0]]
    (y * 3).backward()
    assert seen == [[8.0], [3.0]]


def test_a_hook_may_return_a_tensor_an_array_or_a_number() -> None:
    for new in (Tensor([5.0]), np.array([5.0]), np.array([5.0], np.float32), [5.0]):
        x = Tensor(np.ones(1, np.float32), requires_grad=True)
        x.register_hook(lambda g, new=new: new)
        (x * x).backward()
        assert x.grad.tolist() == [5.0]
        assert x.grad.dtype == np.float32
    x = leaf(1.0)
    x.register_hook(lambda g: 5.0)
    (x * x).backward()
    assert x.grad.item() == 5.0


def test_a_hook_can_be_removed_also_twice_and_while_it_runs() -> None:
    x, calls = leaf([1.0]), []
    first = x.register_hook(lambda g: (calls.append("first"), first.remove())[0])
    second = x.register_hook(lambda g: calls.append("second"))
    (x * 2).backward()
    assert calls == ["first", "second"]
    (x * 2).backward()
    assert calls == ["first", "second", "second"]
    second.remove()
    second.remove()
    (x * 2).backward()
    assert len(calls) == 3


def test_one_function_hooked_twice_runs_twice_and_each_handle_removes_one() -> None:
    def double(g: Tensor) -> Tensor:
        return g * 2

    x = leaf([1.0])
    handles = [x.register_hook(double), x.register_hook(double)]
    assert sm.grad(x * 1.0, x)[0].tolist() == [4.0]
    handles[0].remove()
    assert sm.grad(x * 1.0, x)[0].tolist() == [2.0]
    handles[1].remove()
    assert sm.grad(x * 1.0, x)[0].tolist() == [1.0]


def test_a_hook_of_the_wrong_shape_is_an_error() -> None:
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match=r"a hook.*shape \(\).*\(2,\)"):
        (x * 2).sum().backward()


def test_a_retained_gradient_is_what_the_hook_made_of_it() -> None:
    x = leaf([1.0])
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 7)
    y.backward()
    assert (y.grad.tolist(), x.grad.tolist()) == ([7.0], [14.0])


# -- dtype --------------------------------------------------------------------------------------


@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_mixed_precision_gives_each_leaf_its_own(create_graph: bool) -> None:
    half, single, double = (Tensor(np.ones(3, d), requires_grad=True) for d in (np.float16, np.float32, np.float64))
    y = (half * single * double + np.ones((2, 1)) * half).sum()
    assert y.dtype == np.float64
    y.backward(create_graph=create_graph)
    assert [t.grad.dtype for t in (half, single, double)] == [np.float16, np.float32, np.float64]
    y.backward()
    assert half.grad.dtype == np.float16
    assert half.grad.tolist() == [8.0] * 3


def test_a_small_net_stays_single_throughout() -> None:
    w, b = (Tensor(normal(*s, dtype=np.float32), requires_grad=True) for s in ((4, 3), (3,)))
    x = Tensor(normal(5, 4, dtype=np.float32))
    h = F.layer_norm(F.gelu(x @ w + b), 3)
    loss = F.cross_entropy(h * 2.0, [0, 1, 2, 0, 1], label_smoothing=0.1, weight=[1.0, 2.0, 3.0])
    assert {t.dtype for t in graph_of(loss)} == {np.dtype(np.float32)}
    (g,) = sm.grad(loss, w, create_graph=True)
    assert {t.dtype for t in graph_of((g * g).sum()) if t.dtype.kind == "f"} == {np.dtype(np.float32)}


def test_half_precision_sums_in_single() -> None:
    """5000 ones are 5000, and not the 2048 at which float16 stops to count."""
    bias = Tensor(np.zeros(2, np.float16), requires_grad=True)
    weight = Tensor(np.ones((2, 1), np.float16))
    F.linear(Tensor(np.ones((5000, 1), np.float16)), weight, bias).backward(np.ones((5000, 2), np.float16))
    assert bias.grad.tolist() == [5000.0, 5000.0]
    assert Tensor(np.ones((5000, 2), np.float16)).sum(axis=0).tolist() == [5000.0, 5000.0]


@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_a_pass_visits_only_the_way_to_the_inputs(create_graph: bool) -> None:
    q, k = leaf([[1.0, 2.0]]), leaf([[3.0, 4.0]])
    calls = []
    key = k * 2
    key.register_hook(calls.append)
    y = F.scaled_dot_product_attention(q, key, key).sum()
    sm.grad(y, q, create_graph=create_graph)
    assert calls == []


def test_an_op_with_too_few_rules_says_so() -> None:
    half = sm.Op(lambda a, b: a * b, (lambda g, y, a, b: g * b,), name="half a product")
    try:
        with pytest.raises(TypeError, match="1 rules"):
            half(leaf([1.0]), leaf([1.0])).backward()
    finally:
        del sm.op.REGISTRY["half a product"]
