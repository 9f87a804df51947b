"""Tensor: what it is made of, how it behaves as a Python object, and what it refuses."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import leaf

import tinygrad_sm as sm
from tinygrad_sm import Tensor


@pytest.fixture
def default_dtype() -> Iterator[None]:
    yield
    sm.set_default_dtype(np.float32)


DATA = [
    ("list", [1.0, 2.0], np.float32), ("nested list", [[1.0], [2.0]], np.float32), ("float", 1.5, np.float32),
    ("tuple", (1.0, 2), np.float32), ("integers", [1, 2], np.int64), ("bool", True, np.bool_), ("empty list", [],
     np.float32),
    ("float64 array", np.ones(2), np.float64), ("float16 array", np.ones(2, np.float16), np.float16),
    ("numpy scalar", np.float64(1), np.float64), ("uint8 array", np.ones(2, np.uint8), np.uint8),
    ("tensor", Tensor(np.ones(2)), np.float64), ("list of numpy scalars", [np.float64(1)], np.float32),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "dtype"), DATA, ids=[d[0] for d in DATA])
def test_dtype_of_what_it_is_made_from(name: str, data: Any, dtype: Any) -> None:
    t = Tensor(data)
    assert t.dtype == dtype
    assert np.array_equal(t.data, np.asarray(data))
    assert Tensor(data, dtype=np.float64).dtype == np.float64


def test_the_default_dtype_is_for_lists_and_scalars_only(default_dtype: None) -> None:
    sm.set_default_dtype(np.float64)
    assert Tensor([1.0]).dtype == np.float64
    assert Tensor(1.0).dtype == np.float64
    assert Tensor(np.ones(1, np.float32)).dtype == np.float32
    with pytest.raises(TypeError, match=r"floating dtype, such as np\.float64; got int64"):
        sm.set_default_dtype(int)
    assert Tensor([1.0]).dtype == np.float64


def test_an_array_is_used_without_a_copy() -> None:
    a = np.ones(3)
    t = Tensor(a)
    assert t.data is a
    assert t.numpy() is a
    assert t.detach().data is a
    assert Tensor(t).data is a


def test_attributes() -> None:
    t = Tensor(np.ones((2, 3), np.float32), requires_grad=True, name="w")
    assert (t.shape, t.ndim, t.size, t.dtype, t.name) == ((2, 3), 2, 6, np.float32, "w")
    assert (t.is_leaf, t.requires_grad, t.grad, t.op) == (True, True, None, None)
    y = t * 2
    assert (y.is_leaf, y.requires_grad, y.op.name) == (False, True, "mul")
    assert not (Tensor([1.0]) * 2).requires_grad
    assert t.T.shape == (3, 2)


def test_conversions() -> None:
    assert Tensor([[2.5]]).item() == 2.5
    assert isinstance(Tensor([[2.5]]).item(), float)
    assert Tensor([[1, 2]]).tolist() == [[1, 2]]
    assert float(Tensor([2.5])) == 2.5
    assert int(Tensor(2.5)) == 2
    assert bool(Tensor([0.0])) is False
    assert len(Tensor([[1.0], [2.0]])) == 2
    assert range(5)[Tensor(3)] == 3
    assert f"{Tensor(1.23456):.2f}" == "1.23"
    assert f"{Tensor(1.0)}" == "Tensor(1.)"


def test_repr_tells_what_is_not_obvious() -> None:
    x = Tensor(np.ones(1), requires_grad=True, name="x")
    assert repr(x) == "Tensor([1.], dtype=float64, requires_grad=True, name='x')"
    assert repr(Tensor([1.0])) == "Tensor([1.])"
    assert repr(Tensor([1, 2])) == "Tensor([1, 2])"
    assert repr(Tensor([1.0], requires_grad=True) * 2) == "Tensor([2.], op=mul)"


def test_equality_is_elementwise_and_hash_is_identity() -> None:
    a, b = Tensor([1.0, 2.0]), Tensor([1.0, 3.0])
    assert (a == b).tolist() == [True, False]
    assert (a != b).tolist() == [False, True]
    assert (a == 1.0).tolist() == [True, False]
    assert hash(a) != hash(Tensor([1.0, 2.0])) or a is not b
    table = {a: "a", b: "b"}
    assert (table[a], table[b]) == ("a", "b")
    assert Tensor([1.0, 2.0]) not in table
    assert len({a, b, a}) == 2


@pytest.mark.parametrize("op", [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow])
def test_augmented_assignment_makes_a_new_tensor(op: Any) -> None:
    x = leaf([2.0, 3.0])
    before = x
    x = op(x, 2.0)
    assert x is not before
    assert before.tolist() == [2.0, 3.0]
    assert x.op is not None
    x.sum().backward()
    assert before.grad is not None


def test_augmented_assignment_keeps_the_value_that_the_graph_saw() -> None:
    x = leaf([2.0])
    y = x * x
    x += 100.0
    y.backward()
    assert y.tolist() == [4.0]
    with pytest.raises(TypeError, match="not changed in place"):
        y[0] = 1.0


def test_detach_stops_the_gradient() -> None:
    x = leaf([2.0])
    (x * x.detach()).backward()
    assert x.grad.tolist() == [2.0]
    assert not x.detach().requires_grad


def test_copies_and_pickles_of_leaves_are_leaves() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    (x * 3.0).sum().backward()
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert y.tolist() == [1.0, 2.0]
        assert (y.requires_grad, y.name, y.is_leaf) == (True, "x", True)
        assert not np.shares_memory(y.data, x.data)
        (y * 2.0).sum().backward()
        assert x.grad.tolist() == [3.0, 3.0]


ERRORS = [
    ("text", lambda: Tensor("abc"), TypeError, "real numbers or bools, not dtype"),
    ("complex", lambda: Tensor(1j), TypeError, "real numbers or bools, not dtype complex128"),
    ("objects", lambda: Tensor([None]), TypeError, "not dtype object"),
    ("ragged", lambda: Tensor([[1.0], [1.0, 2.0]]), ValueError, "inhomogeneous"),
    ("tensors in a list", lambda: Tensor([Tensor(1.0)]), TypeError, r"join them with sm\.stack or sm\.concatenate"),
    ("integers with gradient", lambda: Tensor([1, 2], requires_grad=True), TypeError,
     r"only floats have gradients.*int64.*np\.float32"),
    ("item of many", lambda: Tensor([1.0, 2.0]).item(), ValueError, r"one element.*shape \(2,\)"),
    ("float of many", lambda: float(Tensor([1.0, 2.0])), ValueError, "one element"),
    ("truth of many", lambda: bool(Tensor([1.0, 2.0])), ValueError, r"shape \(2,\) is ambiguous: use \.data\.any"),
    ("length of a scalar", lambda: len(Tensor(1.0)), TypeError, "len"),
    ("iterating a scalar", lambda: iter(Tensor(1.0)), TypeError, "len"),
    ("float as index", lambda: [1, 2][Tensor(1.0)], TypeError, "integer"),
    ("item assignment", lambda: operator.setitem(Tensor([1.0]), 0, 2.0), TypeError, "not changed in place"),
    ("keeping no gradient", lambda: Tensor([1.0]).retain_grad(), ValueError, "requires no gradient"),
    ("hooking no gradient", lambda: Tensor([1.0]).register_hook(print), ValueError, "requires no gradient"),
    ("unknown attribute", lambda: Tensor([1.0]).cuda(), AttributeError, "cuda"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "f", "kind", "message"), ERRORS, ids=[e[0] for e in ERRORS])
def test_errors(name: str, f: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        f()


def test_an_update_in_place_that_would_be_lost_is_refused() -> None:
    """PyTorch's idiom under no_grad: here `p -= …` would give the name to a new tensor and train nothing."""
    p = Tensor([1.0], requires_grad=True)
    with sm.no_grad(), pytest.raises(TypeError, match=r"p\.data -= lr"):
        p -= 0.1
    before = p
    p -= 0.5  # recorded: a new tensor, as everywhere
    assert p is not before


def test_a_list_of_lists_of_tensors_is_refused() -> None:
    with pytest.raises(TypeError, match=r"sm\.stack"):
        Tensor([[Tensor(1.0), Tensor(2.0)]])


def test_float64_scalars_beside_a_tensor_are_weak() -> None:
    """As in attention's q·k / np.sqrt(d)."""
    t = Tensor(np.ones(2, np.float32), requires_grad=True)
    y = t / np.sqrt(64.0)
    assert y.dtype == np.float32
    assert sm.grad(y.sum(), t, create_graph=True)[0].dtype == np.float32
