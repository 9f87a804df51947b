"""Taking elements by position. Going back, elements that were taken more than once add up."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Op
from ..tensor import FUNCTIONS, Array, Tensor, as_array, attach
from .arguments import normalize_axis, operand, single
from .options import count
from .sample import call
from .shape import broadcast_to


def _is_basic(index: Any) -> bool:
    """Tell whether an index takes each element at most once (integers, slices, None, ..., masks)."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(not isinstance(p, np.ndarray) or p.dtype == bool for p in parts)


def _scatter(g: Array, index: Any, shape: tuple[int, ...]) -> Array:
    out = np.zeros(shape, g.dtype)
    if _is_basic(index):
        out[index] = g
    else:
        np.add.at(out, index, g)
    return out


# The two are each other's gradient.
_getitem = Op(
    lambda x, index: x[index],
    (lambda g, y, x, index: _put(g, index=index, shape=x.shape),),
    name="getitem",
    formula="x[i]",
    gradient="g added into zeros at i",
    latex=(r"x_i", r"\textstyle\sum_i g_i\, e_i"),
    samples=[
        call((3, 4), index=1), call((3, 4), index=(slice(None), slice(0, 3, 2))), call((3, 4), index=(..., None, 2)),
        call((3, 4), index=np.array([0, 2, 2])), call((3, 4), index=(np.array([0, 0]), np.array([1, 1]))),
        call((3, 4), index=np.eye(3, 4, dtype=bool)),
    ],
)  # fmt: skip
_put: Op = Op(
    _scatter,
    (lambda g, y, x, index, shape: g[index],),
    name="put",
    formula="x added into zeros at i",
    gradient="g[i]",
    latex=(r"\textstyle\sum_i x_i\, e_i", r"g[i]"),
    samples=[call((3,), index=np.array([0, 2, 2]), shape=(4,)), call((2,), index=1, shape=(3, 2))],
)


def getitem(x: Any, index: Any) -> Any:
    """Return `x[index]`, for every index that NumPy knows.

    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x[[0, 0, 2]].sum().backward()
    >>> x.grad
    Tensor([2., 0., 1.])
    """
    parts = tuple(_plain(p) for p in (index if isinstance(index, tuple) else (index,)))
    return _getitem(x, index=parts if isinstance(index, tuple) else parts[0])


def _plain(part: Any) -> Any:
    """Copy what is not a plain integer, slice, None or ... to an array, and refuse floats."""
    if part is None or part is ... or isinstance(part, (int, np.integer, slice)):
        return part
    try:
        array = np.array(part, dtype=int if isinstance(part, (list, tuple)) and not part else None)
    except ValueError:  # lists of different lengths
        raise ValueError(f"getitem: the index {part!r:.60} is no array, for its rows differ in length") from None
    if array.dtype.kind not in "iub":
        hint = "; use .astype(int)" if array.dtype.kind == "f" else ""
        raise TypeError(f"getitem: an index is made of integers or bools, not {part!r:.60} ({array.dtype}){hint}")
    return array


def _along(indices: Array, axis: int) -> tuple[Any, ...]:
    """Return the full index that `take_along_axis` stands for."""
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = indices
    return tuple(grid)


def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Any:
    """Take, for each row along `axis`, the elements at `indices`, which has as many axes as `x`.

    The result has the shape of `indices`. Raises ValueError for another number of axes, IndexError for an index out of
    range, TypeError for indices that are not integers.

    >>> import numpy as np, tinygrad_sm as sm
    >>> log_probs = sm.Tensor([[-0.1, -2.3], [-1.2, -0.4]])
    >>> sm.take_along_axis(log_probs, np.array([[0], [1]]))
    Tensor([[-0.1],
            [-0.4]])
    """
    x, indices = operand(x), as_array(indices)
    (axis,) = normalize_axis((axis,), x.ndim, "take_along_axis")
    if indices.dtype.kind not in "iu":
        raise TypeError(f"take_along_axis: indices must be integers, not {indices.dtype}; use .astype(int)")
    if indices.ndim != x.ndim:
        raise ValueError(
            f"take_along_axis: indices of shape {indices.shape} need as many axes as x, of shape {x.shape}; "
            "to take one element of each row, use indices[:, None]"
        )
    beside = [1 if i == axis else n for i, n in enumerate(x.shape)]
    try:
        shape = np.broadcast_shapes(beside, indices.shape)
        x = broadcast_to(x, [x.shape[axis] if i == axis else n for i, n in enumerate(shape)])
    except ValueError:
        raise ValueError(
            f"take_along_axis: indices of shape {indices.shape} do not fit x of shape {x.shape}; "
            f"all axes but {axis} must be equal or 1"
        ) from None
    try:
        return _getitem(x, index=_along(np.broadcast_to(indices, shape), axis))
    except IndexError:
        n = x.shape[axis]
        wrong = indices[(indices < -n) | (indices >= n)].flat[0]
        raise IndexError(f"take_along_axis: index {wrong} is out of range for axis {axis} of length {n}") from None


def _sum_rows(g: Array, indices: Array, n: int) -> Array:
    """Add up the rows of `g` that belong to the same index."""
    dtype, g, indices = g.dtype, single(g.reshape(indices.size, g.shape[-1])), indices.reshape(-1)
    out = np.zeros((n, g.shape[-1]), g.dtype)
    if g.size <= 1024:
        np.add.at(out, indices, g)  # slow, but begins at once
    else:
        out[indices] = g  # right where an index comes once
        _sum_repeated(out, indices, g)
    return out.astype(dtype, copy=False)


def _sum_repeated(out: Array, indices: Array, g: Array) -> None:
    """Write the sums of those rows of `g` whose index comes more than once: of pairs, then of pairs of pairs …."""
    order = indices.argsort(kind="stable")
    ordered = indices[order]
    first = np.ones(len(order) + 1, bool)  # of its index; after the end there is a new one, too
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:-1])
    again = np.flatnonzero(~(first[:-1] & first[1:]))
    ordered, first, sums = ordered[again], first[again], g[order[again]]
    number = np.arange(len(again))
    place = number - np.maximum.accumulate(number * first)  # 0, 1, … among those of the same index
    step = 1
    while len(pair := np.flatnonzero((ordered[:-step] == ordered[step:]) & (place[:-step] % (2 * step) == 0))):
        sums[pair] += sums[pair + step]
        step *= 2
    out[ordered[first]] = sums[first]


_embedding = Op(
    lambda weight, indices: weight[indices],
    (lambda g, y, weight, indices: _embedding_rows(g, indices, n=weight.shape[0]), lambda *_: None),
    name="embedding",
    formula="rows i of W",
    gradient="g added into zeros at rows i",
    latex=(r"W_i", r"\textstyle\sum_i e_i\, g_i^\top"),
    samples=[call((4, 3), np.array([[0, 3], [3, 1]]))],
)
_embedding_rows: Op = Op(
    lambda g, indices, n: _sum_rows(g, indices, n),
    (lambda g, y, x, indices, n: _embedding(g, indices), lambda *_, **__: None),
    name="embedding_rows",
    formula="rows added into zeros at i",
    gradient="g[i]",
    latex=(r"\textstyle\sum_i e_i\, x_i^\top", r"g[i]"),
    samples=[call((2, 2, 3), np.array([[0, 3], [3, 1]]), n=5)],
)


def embedding(indices: Any, weight: Any) -> Any:
    """Look up rows of `weight` (V, d) by integers of any shape; the result has shape (*indices.shape, d).

    The gradient costs work in the rows looked up, not in V times their number, as a one-hot product would.

    Raises
    ------
    IndexError
        If an index is not in 0 … V − 1.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.functional.embedding([1, 0, 1], sm.Tensor([[1.0, 2.0], [3.0, 4.0]]))
    Tensor([[3., 4.],
            [1., 2.],
            [3., 4.]])
    """
    indices, weight = as_array(indices), operand(weight)
    if indices.dtype.kind not in "iu":
        raise TypeError(
            f"embedding: indices must be integers, not {indices.dtype}; they come first: F.embedding(indices, weight)"
        )
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight must be (V, d), not of shape {weight.shape}")
    n = weight.shape[0]
    if indices.size and (indices.min() < 0 or indices.max() >= n):
        raise IndexError(f"embedding: index {_first_bad(indices, n)} is not in 0 … {n - 1}, the rows of weight")
    return _embedding(weight, indices)


def _first_bad(indices: Array, n: int) -> int:
    return int(indices[(indices < 0) | (indices >= n)].flat[0])


def one_hot(indices: Any, num_classes: int, *, dtype: Any = None) -> Tensor:
    """Return rows that are 1 at the index and 0 elsewhere: shape (*indices.shape, num_classes), float32.

    `dtype` is that of the result. It carries no gradient. Raises IndexError for an index that is not in
    0 … num_classes − 1, TypeError for indices that are not integers.

    >>> import tinygrad_sm as sm
    >>> sm.functional.one_hot([2, 0], 3)
    Tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    indices = as_array(indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"one_hot: indices must be integers, not {indices.dtype}")
    count(num_classes, "num_classes", "one_hot")
    if indices.size and (indices.min() < 0 or indices.max() >= num_classes):
        raise IndexError(f"one_hot: class {_first_bad(indices, num_classes)} is not in 0 … {num_classes - 1}")
    return Tensor(np.equal(indices[..., None], np.arange(num_classes)).astype(dtype or np.float32))


attach(__getitem__=getitem)
FUNCTIONS[np.take_along_axis] = take_along_axis
