"""Taking elements: every index NumPy knows, and gradients that add up where an element was taken twice."""

from __future__ import annotations

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

SHAPE = (3, 4, 2)


def takes_like_numpy(shape: tuple[int, ...], index: Any, numpy_index: Any = None) -> None:
    """Assert that x[index] takes what NumPy takes, and that its gradient counts each element as often as taken."""
    cells = np.arange(prod(shape)).reshape(shape)
    taken = cells[index if numpy_index is None else numpy_index]
    x = leaf(cells)
    y = x[index]
    assert np.array_equal(y.data, taken)
    c = np.arange(1.0, 1 + taken.size).reshape(taken.shape)
    expected = np.bincount(taken.ravel(), c.ravel(), minlength=cells.size).reshape(shape)
    for create_graph in (False, True):
        (g,) = sm.grad(y, x, c, create_graph=create_graph)
        assert np.array_equal(g.data, expected)


@given(data=st.data())
def test_basic_indices(data: Any) -> None:
    shape = data.draw(npst.array_shapes(min_dims=1, max_dims=3, max_side=4))
    takes_like_numpy(shape, data.draw(npst.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)))


@given(data=st.data())
def test_integer_arrays(data: Any) -> None:
    shape = data.draw(npst.array_shapes(min_dims=1, max_dims=3, max_side=4))
    index = data.draw(npst.integer_array_indices(shape, result_shape=npst.array_shapes(min_dims=0, max_dims=2)))
    takes_like_numpy(shape, index)
    takes_like_numpy(shape, tuple(Tensor(i) for i in index), index)


MIXED = {
    "list": [0, 2, 2], "nested list": [[0, 1], [2, 2]], "empty list": [], "list of bools": [True, False, True],
    "row mask": np.array([True, False, True]), "full mask": np.arange(24).reshape(SHAPE) % 3 == 0,
    "nothing masked": np.zeros(SHAPE, bool), "true": True, "none": None, "ellipsis": ..., "negative": -1,
    "array and slice": (np.array([0, 0]), slice(None), 1), "slice and array": (slice(1, 3), [1, 1, 3]),
    "arrays apart": (np.array([0, 0]), slice(None), np.array([1, 1])), "grid": np.ix_([0, 2, 0], [1, 1], [0]),
    "mask and array": (np.array([True, False, True]), np.array([1, 1])), "mask and ellipsis": (..., np.array([True,
     False])),
    "array and none": (None, np.array([2, 2]), ..., None), "numpy integer": np.int64(1), "array of one": np.array(1),
    "range": range(2), "tuple of tuples": ((0, 0), (1, 1)), "tuple in front": ((0, 0, 1),),
     "range in a tuple": (range(2), 1),
    "lists in a tuple": ([0, 0], [1, 1]), "unsigned": np.array([1, 1], np.uint8), "backwards": slice(None, None, -1),
    "two masks": (np.array([True, False, True]), np.array([True, False, True, False])),
    "negative and positive twins": [0, -3],
}  # fmt: skip


@pytest.mark.parametrize("index", MIXED.values(), ids=MIXED.keys())
def test_mixed_indices(index: Any) -> None:
    takes_like_numpy(SHAPE, index)


def test_tensors_index_too() -> None:
    x = leaf([1.0, 2.0, 3.0])
    assert x[Tensor([2, 2])].tolist() == [3.0, 3.0]
    assert x[x > 1.5].tolist() == [2.0, 3.0]
    assert x[Tensor(1)].item() == 2.0
    assert ["a", "b", "c"][Tensor(2)] == "c"


def test_iterating_gives_rows_that_differentiate() -> None:
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    first, second = x
    (g,) = sm.grad((first * second).sum(), x)
    assert g.tolist() == [[3.0, 4.0], [1.0, 2.0]]


def test_second_derivative_through_repeated_indices() -> None:
    h = sm.hessian(lambda x: (x[[0, 0, 2]] ** 3).sum(), np.array([1.0, 2.0, 3.0]))
    close(h, np.diag([12.0, 0.0, 18.0]))


@given(data=st.data())
def test_take_along_axis(data: Any) -> None:
    shape = data.draw(npst.array_shapes(min_dims=1, max_dims=3, max_side=4))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    wanted = list(shape)
    wanted[axis] = data.draw(st.integers(0, 4))
    if len(shape) > 1 and data.draw(st.booleans()):
        wanted[(axis + 1) % len(shape)] = 1  # stretched
    n = shape[axis]
    indices = data.draw(npst.arrays(int, tuple(wanted), elements=st.integers(-n, n - 1)))
    cells = np.arange(prod(shape)).reshape(shape)
    taken = np.take_along_axis(cells, indices, axis)
    for ours in (F.take_along_axis, np.take_along_axis):
        x = leaf(cells)
        y = ours(x, indices, axis)
        assert np.array_equal(y.data, taken)
        c = np.arange(1.0, 1 + taken.size).reshape(taken.shape)
        expected = np.bincount(taken.ravel(), c.ravel(), minlength=cells.size).reshape(shape)
        assert np.array_equal(sm.grad(y, x, c)[0].data, expected)
    assert np.array_equal(F.take_along_axis(Tensor(cells), Tensor(indices), axis).data, taken)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("width", [1, 4, 0])
def test_embedding_is_indexing_of_rows(shape: tuple[int, ...], width: int) -> None:
    indices = np.random.default_rng(0).integers(0, 3, shape)
    for given_as in (indices, Tensor(indices), indices.astype(np.uint8), indices.tolist() if indices.size else indices):
        weight = leaf(normal(6, width))
        y, z = F.embedding(given_as, weight), weight[indices]
        assert np.array_equal(y.data, z.data)
        c = normal(*y.shape, seed=1)
        for create_graph in (False, True):
            close(sm.grad(y, weight, c, create_graph=create_graph), sm.grad(z, weight, c), rtol=1e-12)


def test_embedding_differentiates_its_gradient_by_the_cotangent() -> None:
    weight, c = leaf(normal(4, 2)), leaf(normal(3, 2, seed=1))
    (g,) = sm.grad(F.embedding([1, 1, 3], weight), weight, c, create_graph=True)
    k = normal(4, 2, seed=2)
    close(sm.grad(g, c, k), [k[[1, 1, 3]]])


def test_one_hot() -> None:
    assert F.one_hot([[2], [0]], 3).tolist() == [[[0, 0, 1]], [[1, 0, 0]]]
    assert F.one_hot(1, 2).tolist() == [0, 1]
    assert F.one_hot(np.array([], int), 2).shape == (0, 2)
    assert F.one_hot([1], 2).dtype == np.float32
    assert F.one_hot([1], 2, dtype=np.float64).dtype == np.float64


X = Tensor(np.ones(SHAPE))
ERRORS = [
    ("out of range", lambda: X[5], IndexError, r"getitem\(float64\[3, 4, 2\]\): index 5 is out of bounds"),
    ("too many", lambda: X[0, 0, 0, 0], IndexError, r"^getitem\(float64\[3, 4, 2\]\)"),
    ("float array", lambda: X[np.array([0.0])], TypeError, r"integers or bools, not .*float64\); use \.astype\(int\)"),
    ("float tensor", lambda: X[Tensor([0.0])], TypeError, "integers or bools, not .*float32"),
    ("float", lambda: X[1.0], TypeError, "an index is made of integers or bools"),
    ("text", lambda: X["a"], TypeError, "an index is made of integers or bools"),
    ("mask", lambda: X[np.ones(5, bool)], IndexError, r"^getitem\(float64\[3, 4, 2\]\): boolean index did not match"),
    ("shapes", lambda: X[[0, 1], [0, 1, 2]], IndexError, r"^getitem\(float64\[3, 4, 2\]\): shape mismatch"),
    ("take_along_axis", lambda: F.take_along_axis(X, np.array([0])), ValueError,
     r"indices of shape \(1,\) need as many axes as x"),
    ("take_along_axis, floats", lambda: F.take_along_axis(X, np.zeros(SHAPE)), TypeError, "must be integers"),
    ("take_along_axis, range", lambda: F.take_along_axis(X, np.full(SHAPE, 9)), IndexError,
     r"^getitem|^take_along_axis"),
    ("take_along_axis, axis", lambda: F.take_along_axis(X, np.zeros(SHAPE, int), 5), IndexError, "take_along_axis.*5"),
    ("take_along_axis, shape", lambda: F.take_along_axis(X, np.zeros((2, 4, 2), int)), (IndexError, ValueError),
     "take_along"),
    ("embedding, kind", lambda: F.embedding([0.5], X), TypeError, "embedding: indices must be integers, not float"),
    ("embedding, range", lambda: F.embedding([0, 7], np.ones((4, 2))), IndexError,
     "embedding: index 7 is not in 0 … 3"),
    ("embedding, negative", lambda: F.embedding([-1], np.ones((4, 2))), IndexError, "embedding: index -1"),
    ("embedding, weight", lambda: F.embedding([0], Tensor([1.0, 2.0])), ValueError, "embedding.*weight"),
    ("one_hot, kind", lambda: F.one_hot([0.5], 2), TypeError, "one_hot: indices must be integers"),
    ("one_hot, range", lambda: F.one_hot([0, 2], 2), IndexError, "one_hot: class 2 is not in 0 … 1"),
    ("in place", lambda: X.__setitem__(0, 1.0), TypeError, r"not changed in place.*sm\.where"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "f", "kind", "message"), ERRORS, ids=[e[0] for e in ERRORS])
def test_errors(name: str, f: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        f()


def drawn(rng: np.random.Generator, n: int) -> list[Any]:
    """Lists of n indices below 50: all equal, all different at first, drawn evenly, most of them small, in runs."""
    zipf = np.minimum(rng.zipf(1.5, n) - 1, 49)
    return [np.full(n, 3), np.arange(n) % 50, rng.integers(50, size=n), zipf, np.arange(n) * 50 // n]


@pytest.mark.parametrize("n", [0, 1, 2, 13, 50, 333])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8], ids=lambda d: d.__name__)
def test_the_gradient_of_an_embedding_adds_up_what_belongs_to_a_row(n: int, dtype: Any) -> None:
    rng = np.random.default_rng(n)
    for indices in drawn(rng, n):
        w, c = leaf(rng.normal(size=(50, 30))), rng.normal(size=(30, n)).T
        expected = np.zeros((50, 30))
        np.add.at(expected, indices, c)
        close(sm.grad(F.embedding(indices.astype(dtype), w), w, c)[0], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("d", [2, 400])
def test_the_gradient_of_a_half_precision_embedding_is_summed_in_single(d: int) -> None:
    w, c = leaf(np.zeros((2, d)), np.float16), np.random.default_rng(0).random((500, d)).astype(np.float16)
    (g,) = sm.grad(F.embedding(np.ones(500, int), w), w, c)
    assert g.dtype == np.float16
    assert np.array_equal(g.data[1], c.sum(axis=0, dtype=np.float64).astype(np.float16))
