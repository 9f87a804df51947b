"""NumPy's functions called on Tensors: they differentiate, or say what to use instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import Case, cases, close, leaf, normal

import tinygrad_sm as sm
from tinygrad_sm import Tensor
from tinygrad_sm.tensor import FUNCTIONS, UFUNCS

UNLIKE = {"float_power", "fmax", "fmin"}  # tested in ops/test_arithmetic.py


@pytest.mark.parametrize("case", cases(lambda op: op in UFUNCS.values()))
def test_a_ufunc_of_tensors_is_the_op(case: Case) -> None:
    args = case.arguments()
    for ufunc in [f for f, op in UFUNCS.items() if op is case.op and f.__name__ not in UNLIKE]:
        y = ufunc(*case.boxed(args)[0])
        assert isinstance(y, Tensor)
        assert y.op is case.op
        close(y, ufunc(*args), rtol=1e-15)


X = normal(3, 4)
CALLS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (np.sum, (X,), {"axis": 1}), (np.sum, (X, 0), {}), (np.mean, (X,), {"axis": (0, 1), "keepdims": True}),
    (np.max, (X,), {"axis": 0}), (np.min, (X, 1), {}), (np.amax, (X,), {}), (np.amin, (X,), {"axis": -1}),
    (np.prod, (X,), {"axis": 1}), (np.var, (X,), {"axis": 0, "ddof": 1}), (np.std, (X, 1), {"keepdims": True}),
    (np.linalg.norm, (X,), {}), (np.linalg.norm, (X,), {"axis": 1, "keepdims": True}),
    (np.cumsum, (X,), {}), (np.cumsum, (X, 1), {}), (np.argmax, (X,), {"axis": 1}), (np.argmin, (X,), {}),
    (np.any, (X > 0,), {"axis": 0}), (np.all, (X > 0,), {}), (np.count_nonzero, (X,), {}), (np.argsort, (X,),
     {"axis": 0}),
    (np.reshape, (X, (4, 3)), {}), (np.reshape, (X, -1), {}), (np.reshape, (X,), {"shape": (2, 6)}),
    (np.transpose, (X,), {}), (np.transpose, (X, (1, 0)), {}), (np.transpose, (X,), {"axes": (1, 0)}),
    (np.swapaxes, (X, 0, 1), {}), (np.moveaxis, (X, 0, -1), {}), (np.moveaxis, (X,), {"source": 1, "destination": 0}),
    (np.expand_dims, (X, 1), {}), (np.expand_dims, (X,), {"axis": (0, 3)}), (np.squeeze, (X[:1],), {}),
    (np.squeeze, (X[:1],), {"axis": 0}), (np.broadcast_to, (X, (2, 3, 4)), {}), (np.flip, (X,), {}),
    (np.flip, (X, 1), {}), (np.flip, (X,), {"axis": (0, 1)}), (np.tril, (X,), {}), (np.triu, (X,), {"k": 1}),
    (np.pad, (X, 1), {}), (np.pad, (X, ((1, 0), (0, 2))), {"mode": "constant", "constant_values": 3.0}),
    (np.ravel, (X,), {}), (np.split, (X, 2, 1), {}), (np.split, (X, [1, 2]), {"axis": 0}), (np.shape, (X,), {}),
    (np.ndim, (X,), {}), (np.size, (X,), {}), (np.clip, (X, -0.5, 0.5), {}), (np.clip, (X,), {"a_min": 0.0,
     "a_max": None}),
    (np.clip, (X,), {"min": -0.5, "max": 0.5}), (np.where, (X > 0, X, 0.0), {}), (np.einsum, ("ij,kj->ik", X, X), {}),
    (np.take_along_axis, (X, np.argsort(X, 1), 1), {}), (np.concatenate, ([X, X],), {}), (np.stack, ([X, X],),
     {"axis": 1}),
    (np.concatenate, ((X, X),), {"axis": 1}),
]  # fmt: skip
ON_ARRAYS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [  # what these answer has no gradient, and is an array
    (np.nonzero, (X > 0,), {}), (np.flatnonzero, (X > 0,), {}), (np.argwhere, (X > 0,), {}), (np.unique, (X,), {}),
    (np.unique, (X,), {"return_counts": True}), (np.isin, (X, X[0]), {}), (np.array_equal, (X, X), {}),
    (np.allclose, (X, X + 1e-12), {}), (np.isclose, (X, X + 0.5), {"atol": 0.6}), (np.zeros_like, (X,), {}),
    (np.ones_like, (X,), {"dtype": np.float32}), (np.full_like, (X, 2.0), {}), (np.empty_like, (X,), {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("f", "args", "kwargs"), CALLS, ids=[f"{f.__name__}{len(args)}{''.join(kwargs)}" for f, args, kwargs in CALLS]
)
def test_a_function_of_tensors_is_that_of_arrays(f: Any, args: Any, kwargs: Any) -> None:
    def boxed(a: Any) -> Any:
        if isinstance(a, list | tuple) and any(isinstance(item, np.ndarray) and item.ndim for item in a):
            return type(a)(map(boxed, a))
        return Tensor(a, requires_grad=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a

    if f is np.reshape and "shape" in kwargs and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("older NumPy calls it newshape")
    if f is np.clip and "min" in kwargs and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("older NumPy calls them a_min and a_max only")
    expected = f(*args, **kwargs)
    actual = f(*map(boxed, args), **kwargs)
    if isinstance(expected, list):
        close(actual, expected)
    else:
        close(actual, expected, rtol=1e-13)
        assert isinstance(actual, Tensor) or f in (np.shape, np.ndim, np.size)


@pytest.mark.parametrize(
    ("f", "args", "kwargs"),
    ON_ARRAYS,
    ids=[f"{f.__name__}{len(args)}{''.join(kwargs)}" for f, args, kwargs in ON_ARRAYS],
)
def test_a_function_without_gradient_answers_with_arrays(f: Any, args: Any, kwargs: Any) -> None:
    tensors = [Tensor(a) if isinstance(a, np.ndarray) else a for a in args]
    actual, expected = f(*tensors, **kwargs), f(*args, **kwargs)
    assert not isinstance(actual, Tensor)
    for a, e in zip(*(x if isinstance(x, tuple) else (x,) for x in (actual, expected)), strict=True):
        assert np.shape(a) == np.shape(e)
        assert np.asarray(a).dtype == np.asarray(e).dtype
        assert np.array_equal(a, e) or f is np.empty_like


def test_every_function_that_is_registered_is_in_a_table() -> None:
    called = {f for f, _, _ in CALLS + ON_ARRAYS}
    assert {f.__name__ for f in FUNCTIONS if f not in called} == set()


def test_what_numpy_computed_differentiates() -> None:
    t, u = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    y = np.sum(np.concatenate([np.exp(t) * u, np.maximum(t, 1.5)]) * np.float32(2) + np.ones(4))
    y.backward()
    close(t.grad, 2 * np.exp(t.data) * u.data + np.array([0, 2]))
    close(u.grad, 2 * np.exp(t.data))


def test_an_array_in_front_leaves_the_work_to_the_tensor() -> None:
    t, a = leaf([1.0, 2.0]), np.array([[10.0], [20.0]])
    y = a - t
    assert isinstance(y, Tensor)
    assert y.tolist() == [[9.0, 8.0], [19.0, 18.0]]
    assert sm.grad(y.sum(), t)[0].tolist() == [-2.0, -2.0]
    assert isinstance(np.float32(2) * t, Tensor)
    assert isinstance(np.ones((1, 2)) @ t, Tensor)


def test_asarray_shares_the_memory_and_array_copies() -> None:
    t = leaf(normal(3))
    assert np.asarray(t) is t.data
    assert np.shares_memory(np.asarray(t), t.data)
    assert not np.shares_memory(np.array(t), t.data)
    assert np.asarray(t, np.float32).dtype == np.float32
    assert np.array(t, dtype=np.float64).dtype == np.float64
    assert np.array([Tensor(1.0), Tensor(2.0)], np.float32).tolist() == [1.0, 2.0]
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        assert np.asarray(t, copy=False) is t.data
        with pytest.raises(ValueError, match=r"copy"):
            np.asarray(t, np.float32, copy=False)


T = leaf([1.0, 2.0])
REFUSED = [
    ("no rule", lambda: np.tan(T), r"np\.tan has no gradient rule.*np\.tan\(t\.data\)"),
    ("no rule for two", lambda: np.arctan2(T, 1.0), r"np\.arctan2 has no gradient rule"),
    ("reduce", lambda: np.add.reduce(T), r"np\.add\.reduce"),
    ("accumulate", lambda: np.multiply.accumulate(T), r"np\.multiply\.accumulate"),
    ("outer", lambda: np.multiply.outer(T, T), r"np\.multiply\.outer"),
    ("at", lambda: np.add.at(np.ones(2), [0], T), r"np\.add\.at"),
    ("out", lambda: np.add(T, 1.0, out=np.ones(2)), r"np\.add with out="),
    ("out tensor", lambda: np.add(np.ones(2), 1.0, out=T), r"np\.add with out="),
    ("where", lambda: np.exp(T, where=np.array([True, False])), r"np\.exp with where="),
    ("dtype", lambda: np.exp(T, dtype=np.float32), r"np\.exp with dtype="),
    ("function", lambda: np.median(T), r"np\.median has no gradient rule.*np\.median\(t\.data\)"),
    ("function of a list", lambda: np.vstack([T, T]), r"np\.vstack has no gradient rule"),
    ("function in a module", lambda: np.linalg.inv(T),
     r"np\.linalg\.inv has no gradient rule.*np\.linalg\.inv\(t\.data\)"),
    ("in place into an array", lambda: np.ones(2).__iadd__(T), r"np\.add with out="),
    ("sum out", lambda: np.sum(T, out=np.ones(())), "out"),
    ("sum where", lambda: np.sum(T, where=np.array([True, False])), "where"),
    ("modulo", lambda: T % 2, "remainder|unsupported"),
    ("floor division", lambda: T // 2, "floor_divide|unsupported"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "f", "message"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_has_no_rule_says_what_to_use(name: str, f: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        f()
