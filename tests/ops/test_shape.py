"""Ops that move numbers. Each is linear, so its gradient is its adjoint: ⟨f(x), c⟩ = ⟨x, ∇⟨f, c⟩⟩."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor
from tinygrad_sm.ops import shape as ops

shapes = npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3)


def counted(shape: tuple[int, ...], start: int = 1) -> Any:
    return np.arange(start, start + prod(shape), dtype=float).reshape(shape)


def moves_like(f: Callable[..., Any], numpy: Callable[..., Any], *arrays: Any) -> None:
    """Assert that f on tensors moves numbers as NumPy's function does on arrays, and back in the gradient."""
    leaves = [leaf(a) for a in arrays]
    y, expected = f(*leaves), numpy(*arrays)
    assert y.shape == expected.shape
    assert y.dtype == expected.dtype
    assert np.array_equal(y.data, expected)
    cotangent = counted(y.shape, 100)
    # Row i of the Jacobian is where element i went, so that numbering the inputs finds each one's gradient.
    numbered, start = [], 0
    for a in arrays:
        numbered.append(counted(a.shape, start))
        start += a.size
    sources = numpy(*numbered).astype(int).ravel()
    gradient = np.bincount(sources, cotangent.ravel(), minlength=start)
    split = np.split(gradient, np.cumsum([a.size for a in arrays])[:-1])
    for create_graph in (False, True):
        for g, a, e in zip(sm.grad(y, leaves, cotangent, create_graph=create_graph), arrays, split, strict=True):
            assert np.array_equal(g.data, e.reshape(a.shape))


@given(shape=shapes, data=st.data())
def test_reshape(shape: tuple[int, ...], data: Any) -> None:
    size = prod(shape)
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    n = data.draw(st.sampled_from(divisors)) if size else 1
    for target in ((n, size // n), (size // n, 1, n), (-1,), (n, -1) if size else (0,)):
        moves_like(lambda x, to=target: x.reshape(to), lambda x, to=target: np.reshape(x, to), counted(shape))
        moves_like(lambda x, to=target: x.reshape(*to), lambda x, to=target: np.reshape(x, to), counted(shape))
        moves_like(lambda x, to=target: np.reshape(x, to), lambda x, to=target: np.reshape(x, to), counted(shape))
    moves_like(lambda x: x.ravel(), np.ravel, counted(shape))
    moves_like(lambda x: x.flatten(), np.ravel, counted(shape))


@given(shape=shapes, data=st.data())
def test_transpose_swapaxes_moveaxis_flip(shape: tuple[int, ...], data: Any) -> None:
    n, x = len(shape), counted(shape)
    order = tuple(a - n * data.draw(st.booleans()) for a in data.draw(st.permutations(range(n))))
    i, j = (data.draw(st.integers(-n, n - 1)) for _ in range(2))
    moves_like(lambda t: t.transpose(*order), lambda a: a.transpose(order), x)
    moves_like(lambda t: np.transpose(t, order), lambda a: a.transpose(order), x)
    moves_like(lambda t: t.transpose(), np.transpose, x)
    moves_like(lambda t: t.T, np.transpose, x)
    moves_like(lambda t: t.swapaxes(i, j), lambda a: a.swapaxes(i, j), x)
    moves_like(lambda t: F.moveaxis(t, i, j), lambda a: np.moveaxis(a, i, j), x)
    to = tuple(data.draw(st.permutations(range(n))))
    k = data.draw(st.integers(0, n))
    moves_like(lambda t: np.moveaxis(t, order[:k], to[:k]), lambda a: np.moveaxis(a, order[:k], to[:k]), x)
    axes = data.draw(st.none() | npst.valid_tuple_axes(n) | st.integers(-n, n - 1))
    moves_like(lambda t: F.flip(t, axes), lambda a: np.flip(a, axes), x)


@given(shape=shapes, data=st.data())
def test_expand_dims_and_squeeze(shape: tuple[int, ...], data: Any) -> None:
    x = counted(shape)
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    moves_like(lambda t: np.expand_dims(t, axis), lambda a: np.expand_dims(a, axis), x)
    moves_like(lambda t: np.expand_dims(t, (0, -1)), lambda a: np.expand_dims(a, (0, -1)), x)
    wide = np.expand_dims(x, axis)
    moves_like(lambda t: t.squeeze(), np.squeeze, wide)
    moves_like(lambda t: t.squeeze(axis), lambda a: np.squeeze(a, axis), wide)
    moves_like(lambda t: np.squeeze(t, (axis,)), lambda a: np.squeeze(a, (axis,)), wide)


@given(shapes=npst.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3))
def test_broadcast_to(shapes: Any) -> None:
    shape, target = shapes.input_shapes[0], shapes.result_shape
    moves_like(lambda t: F.broadcast_to(t, target), lambda a: np.broadcast_to(a, target), counted(shape))
    moves_like(lambda t: np.broadcast_to(t, target), lambda a: np.broadcast_to(a, target), counted(shape))


@given(shape=shapes, lengths=st.lists(st.integers(0, 3), min_size=1, max_size=4), data=st.data())
def test_concatenate_and_stack(shape: tuple[int, ...], lengths: list[int], data: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for n in lengths:
        part = list(shape)
        part[axis] = n
        parts.append(counted(tuple(part)))
    moves_like(lambda *ts: F.concatenate(ts, axis), lambda *a: np.concatenate(a, axis), *parts)
    moves_like(lambda *ts: np.concatenate(list(ts), axis=axis), lambda *a: np.concatenate(a, axis), *parts)
    same = [counted(shape) for _ in lengths]
    at = data.draw(st.integers(-len(shape) - 1, len(shape)))
    moves_like(lambda *ts: F.stack(ts, at), lambda *a: np.stack(a, at), *same)
    moves_like(lambda *ts: np.stack(ts, axis=at), lambda *a: np.stack(a, at), *same)


def test_concatenate_without_axis_flattens_as_numpy_does_or_is_refused() -> None:
    a, b = leaf(counted((2, 2))), leaf(counted((3,)))
    try:
        y = np.concatenate([a, b], axis=None)
    except (TypeError, ValueError) as error:
        assert "concatenate" in str(error)  # noqa: PT017
        return
    g, _ = sm.grad(y, [a, b], counted((7,)))
    assert g.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_concatenate_mixes_tensors_and_arrays() -> None:
    t = leaf([1.0])
    y = np.concatenate([np.array([5.0]), t, np.array([6.0])])
    assert y.tolist() == [5.0, 1.0, 6.0]
    assert sm.grad(y, t, np.array([1.0, 2.0, 3.0]))[0].tolist() == [2.0]


@given(shape=shapes, data=st.data())
def test_split(shape: tuple[int, ...], data: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n, x = shape[axis], counted(shape)
    sections = data.draw(st.sampled_from([k for k in range(1, n + 1) if n % k == 0])) if n else 1
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    for how in (sections, cuts, tuple(cuts), np.array(cuts, int)):
        expected = np.split(x, how, axis)
        assert len(F.split(Tensor(x), how, axis)) == len(np.split(Tensor(x), how, axis)) == len(expected)
        for i in range(len(expected)):
            moves_like(lambda t, k=i, h=how: F.split(t, h, axis)[k], lambda a, k=i, h=how: np.split(a, h, axis)[k], x)


@given(shape=shapes, data=st.data())
def test_pad(shape: tuple[int, ...], data: Any) -> None:
    widths = data.draw(st.lists(st.tuples(*[st.integers(0, 2)] * 2), min_size=len(shape), max_size=len(shape)))
    x, c = leaf(counted(shape)), -1.5
    for how in (widths, 1, (1, 2)):
        y = F.pad(x, how, constant_values=c)
        assert np.array_equal(y.data, np.pad(x.data, how, constant_values=c))
        assert np.array_equal(np.pad(x, how).data, np.pad(x.data, how))
        g = normal(*y.shape)
        inside = np.pad(np.ones(shape, bool), how)
        for create_graph in (False, True):
            (found,) = sm.grad(y, x, g, create_graph=create_graph)
            assert np.array_equal(found.data, g[inside].reshape(shape))


@pytest.mark.parametrize("k", [-5, -1, 0, 2, 5])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (2, 3, 2), (0, 3)], ids=str)
def test_triangles(shape: tuple[int, ...], k: int) -> None:
    for ours, numpy in ((F.tril, np.tril), (F.triu, np.triu), (np.tril, np.tril), (np.triu, np.triu)):
        x, c = leaf(counted(shape)), counted(shape, 50)
        y = ours(x, k)
        assert np.array_equal(y.data, numpy(x.data, k))
        assert np.array_equal(sm.grad(y, x, c)[0].data, numpy(c, k))


def test_astype_brings_the_gradient_back() -> None:
    x = Tensor(np.array([1.5, 2.5], np.float32), requires_grad=True)
    y = x.astype(np.float64)
    assert y.dtype == np.float64
    (g,) = sm.grad(y * y, x, np.ones(2), create_graph=True)
    assert g.dtype == np.float32
    (h,) = sm.grad(g, x, np.ones(2))
    assert h.dtype == np.float32
    close(h, [2, 2])
    assert x.astype(int).dtype == np.dtype(int)
    assert not x.astype(bool).requires_grad
    assert Tensor([1, 2]).astype(np.float16).dtype == np.float16


def test_shape_functions_of_numpy() -> None:
    x = leaf(np.ones((2, 3)))
    assert (np.shape(x), np.ndim(x), np.size(x)) == ((2, 3), 2, 6)


X = Tensor(np.ones((2, 3)))
ERRORS = [
    ("reshape", lambda: X.reshape(4, 2), ValueError, r"^reshape\(float64\[2, 3\]\): cannot reshape"),
    ("transpose, too few axes", lambda: np.ones((2, 3, 4)) @ Tensor(np.ones((2, 3, 4))).transpose(0, 1), ValueError,
     "swapaxes"),
    ("transpose, out of range", lambda: X.transpose(0, 5), IndexError, "transpose.*5"),
    ("transpose, axis twice", lambda: X.transpose(0, 0), ValueError, "transpose"),
    ("swapaxes", lambda: X.swapaxes(0, 2), IndexError, "swapaxes: axis 2 is out of range"),
    ("moveaxis", lambda: F.moveaxis(X, 0, 3), IndexError, "moveaxis: axis 3 is out of range"),
    ("moveaxis, lengths", lambda: F.moveaxis(X, (0, 1), (0,)), ValueError, "moveaxis"),
    ("moveaxis, twice", lambda: F.moveaxis(X, (0, 0), (0, 1)), ValueError, "moveaxis: an axis is given twice"),
    ("squeeze", lambda: X.squeeze(1), ValueError, r"squeeze: axis 1 of shape \(2, 3\) is not of length 1"),
    ("expand_dims", lambda: ops.expand_dims(X, 4), IndexError, "expand_dims: axis 4 is out of range"),
    ("broadcast_to", lambda: F.broadcast_to(X, (2, 4)), ValueError, r"^broadcast_to: shape \(2, 3\) does not stretch"),
    ("flip", lambda: F.flip(X, 2), IndexError, r"^flip\(float64\[2, 3\]\)"),
    ("pad, mode", lambda: F.pad(X, 1, mode="edge"), ValueError, "pad: only mode='constant'.*'edge'"),
    ("pad, widths", lambda: F.pad(X, [(1, 2, 3)]), ValueError, "pad"),
    ("concatenate, none", lambda: F.concatenate([]), ValueError, "concatenate: needs at least one"),
    ("concatenate, shapes", lambda: F.concatenate([X, Tensor(np.ones((2, 4)))]), ValueError,
     r"^concatenate: .* axis 0 .* \[\(2, 3\), \(2, 4\)\]"),
    ("stack", lambda: F.stack([X, Tensor([1.0])]), ValueError, r"stack: the shapes differ: \[\(2, 3\), \(1,\)\]"),
    ("stack, none", lambda: F.stack([]), ValueError, "at least one"),
    ("split", lambda: F.split(X, 2, axis=1), ValueError, "split: axis 1 of length 3 does not divide into 2"),
    ("split, zero", lambda: F.split(X, 0), ValueError, "split"),
    ("split, axis", lambda: F.split(X, 1, axis=2), IndexError, "split: axis 2 is out of range"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "f", "kind", "message"), ERRORS, ids=[e[0] for e in ERRORS])
def test_errors(name: str, f: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        f()
