"""grad, vjp, jvp, jacobian, hessian, hvp: any order, any number of inputs and outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor

# -- grad ---------------------------------------------------------------------------------------


def test_grad_touches_no_grad_attribute() -> None:
    x = leaf([1.0, 2.0])
    y = x * 2
    y.retain_grad()
    (g,) = sm.grad((y * y).sum(), x)
    assert g.tolist() == [8.0, 16.0]
    assert x.grad is None
    assert y.grad is None


def test_grad_of_several_outputs_is_their_sum() -> None:
    x = leaf([1.0, 2.0])
    a, b = (x * x).sum(), x * 3
    (g,) = sm.grad([a, b], x, [None, np.array([1.0, 10.0])])
    assert g.tolist() == [5.0, 34.0]
    (g,) = sm.grad((a, a), x)
    assert g.tolist() == [4.0, 8.0]
    (g,) = sm.grad([a, x], x, [2.0, np.ones(2)])  # an output that is the input
    assert g.tolist() == [5.0, 9.0]


def test_an_output_that_made_another_output() -> None:
    x = leaf(3.0)
    a = x * x
    b = a * a
    for create_graph in (False, True):
        assert sm.grad([a, b], x, create_graph=create_graph)[0].item() == 6.0 + 108.0


def test_grad_for_inner_tensors_and_for_ancestors_of_other_inputs() -> None:
    x = leaf(2.0)
    y = x * x
    z = y * y * x
    for create_graph in (False, True):
        gx, gy, gz = sm.grad(z, [x, y, z], create_graph=create_graph)
        assert (gx.item(), gy.item(), gz.item()) == (2 * 4 * 2 * 4 + 16, 16.0, 1.0)


def test_an_input_given_twice() -> None:
    x = leaf(2.0)
    assert [g.item() for g in sm.grad(x * x, [x, x])] == [4.0, 4.0]


def test_inputs_may_come_from_a_generator() -> None:
    leaves = [leaf(1.0), leaf(2.0)]
    y = leaves[0] * leaves[1]
    assert [g.item() for g in sm.grad(y, (x for x in leaves))] == [2.0, 1.0]
    assert [g.item() for g in sm.grad(y, {"a": leaves[0], "b": leaves[1]}.values())] == [2.0, 1.0]


def test_unused_inputs() -> None:
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(ValueError, match=r"depend on input\(s\) \[1\]; allow_unused=True"):
        sm.grad(x * 2, [x, y])
    g, none = sm.grad(x * 2, [x, y], allow_unused=True)
    assert (g.item(), none) == (2.0, None)


def test_work_is_done_only_on_the_way_to_the_inputs() -> None:
    x, y = leaf([1.0]), leaf([2.0])
    seen = []
    a, b = x * 2, y * 3
    b.register_hook(lambda g: seen.append("b"))
    a.register_hook(lambda g: seen.append("a"))
    sm.grad(a * b, x)
    assert seen == ["a"]


def test_grad_outputs_that_are_differentiated() -> None:
    x, c = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (g,) = sm.grad(x**2, x, c, create_graph=True)
    close(sm.grad(g.sum(), [x, c]), [2 * c.data, 2 * x.data])


FUNCTIONS = [
    ("polynomial", lambda x: x**4 + 2 * x**3, [lambda v: 4 * v**3 + 6 * v**2, lambda v: 12 * v**2 + 12 * v,
     lambda v: 24 * v + 12]),
    ("exp sin", lambda x: (x.sin()).exp(), [lambda v: np.cos(v) * np.exp(np.sin(v)),
     lambda v: (np.cos(v) ** 2 - np.sin(v)) * np.exp(np.sin(v)),
     lambda v: (np.cos(v) ** 3 - 3 * np.sin(v) * np.cos(v) - np.cos(v)) * np.exp(np.sin(v))]),
    ("1/x", lambda x: 1 / x, [lambda v: -1 / v**2, lambda v: 2 / v**3, lambda v: -6 / v**4]),
    ("log", lambda x: x.log(), [lambda v: 1 / v, lambda v: -1 / v**2, lambda v: 2 / v**3]),
    ("sigmoid", lambda x: x.sigmoid(), [lambda v: s(v) * (1 - s(v)), lambda v: s(v) * (1 - s(v)) * (1 - 2 * s(v)),
     lambda v: s(v) * (1 - s(v)) * (1 - 6 * s(v) + 6 * s(v) ** 2)]),
    ("softmax of (x, 0)", lambda x: F.softmax(F.stack([x, x * 0], -1))[:, 0], [lambda v: s(v) * (1 - s(v)),
     lambda v: s(v) * (1 - s(v)) * (1 - 2 * s(v)), lambda v: s(v) * (1 - s(v)) * (1 - 6 * s(v) + 6 * s(v) ** 2)]),
]  # fmt: skip


def s(v: Any) -> Any:
    return 1 / (1 + np.exp(-v))


@pytest.mark.parametrize(("name", "f", "expected"), FUNCTIONS, ids=[f[0] for f in FUNCTIONS])
def test_derivatives_up_to_the_third(name: str, f: Any, expected: Any) -> None:
    v = np.array([0.5, 1.0, 1.7])
    x = leaf(v)
    y = f(x)
    for formula in expected:
        (y,) = sm.grad(y, x, np.ones(3), create_graph=True)
        close(y, formula(v), rtol=1e-10, atol=1e-12)


def test_a_gradient_penalty_trains() -> None:
    x, w = leaf(normal(4, 3)), leaf(normal(3, seed=1))
    (g,) = sm.grad(F.gelu(x @ w).sum(), x, create_graph=True)
    penalty = (g * g).sum()
    (to_w,) = sm.grad(penalty, w)
    for i in range(3):
        values = []
        for step in (1e-6, -1e-6):
            moved = leaf(w.data + step * np.eye(3)[i])
            (g,) = sm.grad(F.gelu(x @ moved).sum(), x)
            values.append((g.data**2).sum())
        assert to_w.data[i] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


# -- vjp, jvp, jacobian, hessian, hvp -----------------------------------------------------------


def two(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a * b.sum(), (a * a).sum()


def test_vjp_of_several_inputs_and_outputs() -> None:
    a, b = normal(3), normal(2, seed=1)
    (y, z), pullback = sm.vjp(two, a, b)
    close([y, z], [a * b.sum(), (a * a).sum()])
    cy, cz = normal(3, seed=2), np.array(0.5)
    for _ in range(2):  # a pullback works more than once
        close(pullback(cy, cz), [b.sum() * cy + 2 * a * cz, np.full(2, (a * cy).sum())])


def test_jvp_of_several_inputs_and_outputs() -> None:
    a, b, da, db = (normal(n, seed=i) for i, n in enumerate((3, 2, 3, 2)))
    outputs, moved = sm.jvp(two, [a, b], [da, db])
    close(outputs, [a * b.sum(), (a * a).sum()])
    close(moved, [da * b.sum() + a * db.sum(), 2 * (a * da).sum()])
    y, dy = sm.jvp(F.softmax, [a], [da])
    p = F.softmax(a)
    close(y, p)
    close(dy, p * (da - (p * da).sum()))


def test_outputs_that_do_not_depend_on_an_input_have_zero_derivatives() -> None:
    a, b = normal(2), normal(3)
    _, pullback = sm.vjp(lambda x, y: x * 2, a, b)
    close(pullback(np.ones(2)), [[2.0, 2.0], np.zeros(3)])
    (_, constant), moved = sm.jvp(lambda x: (x * 2, Tensor([1.0, 2.0])), [a], [np.ones(2)])
    assert constant.tolist() == [1.0, 2.0]
    close(moved, [[2.0, 2.0], np.zeros(2)])
    assert sm.jacobian(lambda x: Tensor(np.ones(3)), a).tolist() == np.zeros((3, 2)).tolist()
    assert sm.hessian(lambda x: x.sum(), a).tolist() == np.zeros((2, 2)).tolist()
    assert sm.hvp(lambda x: x.sum(), a, b[:2]).tolist() == [0.0, 0.0]
    close(sm.jvp(lambda x: x, [a], [b[:2]])[1], b[:2])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)], ids=str)
def test_jacobian_has_the_axes_of_output_and_input(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    j = sm.jacobian(lambda t: F.stack([t * t, t * 3]), x)
    assert j.shape == (2, *shape, *shape)
    n = x.size
    close(j.reshape(2, n, n), np.stack([np.diag(2 * x.ravel()), 3 * np.eye(n)]) if n else np.zeros((2, 0, 0)))


def test_hessian_of_a_quadratic_form() -> None:
    a, x, v = normal(3, 3), normal(3, seed=1), normal(3, seed=2)

    def f(t: Tensor) -> Tensor:
        return t @ a @ t

    close(sm.hessian(f, x), a + a.T)
    close(sm.hvp(f, x, v), (a + a.T) @ v)
    b = normal(2, 2)
    h = sm.hessian(lambda t: (t**3).sum() + (t * t.T).sum(), b)
    assert h.shape == (2, 2, 2, 2)
    for i in np.ndindex(2, 2):
        step = np.zeros((2, 2))
        step[i] = 1
        close(h.data[i], 6 * b * step + 2 * step.T)


def test_jacobian_with_create_graph_reaches_the_argument() -> None:
    x = leaf(normal(3))
    j = sm.jacobian(lambda t: t**3, x, create_graph=True)
    (g,) = sm.grad(j.sum(), x)
    close(g, 6 * x.data)


def test_derivatives_leave_the_graph_of_their_argument_alone() -> None:
    x = leaf(normal(3))
    y = x * 2
    y.retain_grad()
    sm.jacobian(F.softmax, y)
    sm.hessian(lambda t: (t**3).sum(), y)
    sm.hvp(lambda t: (t**3).sum(), y, np.ones(3))
    sm.jvp(F.softmax, [y], [np.ones(3)])
    sm.vjp(F.softmax, y)[1](np.ones(3))
    assert x.grad is None
    assert y.grad is None


def test_derivatives_work_under_no_grad_and_keep_float32() -> None:
    x = normal(3, dtype=np.float32)
    with sm.no_grad():
        results = [
            sm.jacobian(F.softmax, x), sm.hessian(F.logsumexp, x), sm.hvp(F.logsumexp, x, np.ones(3)),
            sm.jvp(F.softmax, [x], [np.ones(3)])[1], sm.vjp(F.softmax, x)[1](np.ones(3))[0],
        ]  # fmt: skip
    p = F.softmax(x)
    full = np.diag(p) - np.outer(p, p)
    close(results[0], full, rtol=1e-5, atol=1e-7)
    close(results[1], full, rtol=1e-5, atol=1e-7)
    for r in results[2:]:
        close(r, np.zeros(3), atol=1e-6)
    assert {r.dtype for r in results} == {np.dtype(np.float32)}


ERRORS = [
    ("grad, not a tensor", lambda: sm.grad(1.0, leaf(1.0)), TypeError, "grad differentiates Tensors, not float"),
    ("grad, input is a list", lambda: sm.grad(leaf(1.0), [[leaf(1.0)]]), (TypeError, ValueError), "input 0 is a list"),
    ("grad, input without gradient", lambda: sm.grad(leaf(1.0), [leaf(1.0), Tensor(1.0)]), ValueError,
     "input 1 requires no"),
    ("grad, no scalar", lambda: sm.grad(leaf([1.0, 2.0]), leaf(1.0)), ValueError, "only a scalar has one gradient"),
    ("grad, a list as the start", lambda: sm.grad(leaf([1.0, 2.0]) * 2, leaf([1.0, 2.0]), [1.0, 1.0]), ValueError,
     r"1 outputs, but 2 grad_outputs; a list has one for each output: write \[g\]"),
    ("grad, counts", lambda: sm.grad([leaf(1.0)] * 2, leaf(1.0), [1.0]), ValueError, "2 outputs, but 1 grad_outputs"),
    ("grad, shape", lambda: sm.grad(leaf([1.0, 2.0]), leaf(1.0), np.ones(3)), ValueError,
     r"shape \(3,\), the tensor \(2,\)"),
    ("grad, unused", lambda: sm.grad(leaf(1.0), leaf(1.0)), ValueError, "depend on input"),
    ("vjp, cotangents", lambda: sm.vjp(two, [1.0], [2.0])[1]([1.0]), ValueError, "cotangent|vjp"),
    ("vjp, not a tensor", lambda: sm.vjp(lambda x: x.data, [1.0]), TypeError, "must return Tensors, not ndarray"),
    ("vjp, integers", lambda: sm.vjp(lambda x: x, [1]), TypeError, "only floats have gradients"),
    ("jvp, counts", lambda: sm.jvp(two, [[1.0]], [[1.0], [1.0]]), ValueError, "jvp: 1 primals, but 2 tangents"),
    ("jvp, shape", lambda: sm.jvp(F.softmax, [[1.0, 2.0]], [[1.0]]), ValueError, r"shape"),
    ("hessian, no scalar", lambda: sm.hessian(lambda x: x, [1.0, 2.0]), ValueError,
     r"hessian: .*scalar, not shape \(2,\)"),
    ("hvp, no scalar", lambda: sm.hvp(lambda x: x, [1.0, 2.0], [1.0, 1.0]), ValueError,
     r"hvp: .*scalar, not shape \(2,\)"),
    ("hvp, shape", lambda: sm.hvp(lambda x: (x * x).sum(), [1.0, 2.0], [1.0]), ValueError, "shape"),
    ("jacobian, not a tensor", lambda: sm.jacobian(lambda x: 1.0, [1.0]), TypeError, "must return Tensors, not float"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "f", "kind", "message"), ERRORS, ids=[e[0] for e in ERRORS])
def test_errors(name: str, f: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        f()
