"""Ops that move numbers without changing them: their gradients move back the same way."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..op import Op
from ..tensor import FUNCTIONS, Tensor, attach
from .arguments import normalize_axis, operand
from .options import count, refuse
from .sample import call

_reshape = Op(
    lambda x, shape: np.reshape(x, shape),
    (lambda g, y, x, shape: g.reshape(x.shape),),
    name="reshape",
    formula="reshape(x)",
    gradient="reshape(g) (to the shape of x)",
    latex=(r"\mathrm{reshape}(x)", r"\mathrm{reshape}(g)"),
    samples=[call((2, 3), shape=(3, 2)), call((2, 3), shape=(-1,)), call((), shape=(1, 1))],
)
_transpose = Op(
    lambda x, axes: np.transpose(x, axes),
    (lambda g, y, x, axes: np.transpose(g, tuple(np.argsort(axes))),),
    name="transpose",
    formula="xᵀ",
    gradient="gᵀ",
    latex=(r"x^\top", r"g^\top"),
    samples=[call((2, 3), axes=(1, 0)), call((2, 3, 4), axes=(1, 2, 0))],
)
_broadcast_to = Op(
    lambda x, shape: np.broadcast_to(x, shape),
    (lambda g, y, x, shape: g,),  # the engine sums over the stretched axes
    name="broadcast_to",
    formula="x (stretched)",
    gradient="Σ g (over the stretched axes)",
    latex=(r"x\,\mathbf 1^\top", r"\textstyle\sum g"),
    samples=[call((3,), shape=(2, 3)), call((2, 1), shape=(4, 2, 3)), call((), shape=(2,))],
)
_flip = Op(
    lambda x, axis: np.flip(x, axis),
    (lambda g, y, x, axis: np.flip(g, axis),),
    name="flip",
    formula="flip(x)",
    gradient="flip(g)",
    latex=(r"\mathrm{flip}(x)", r"\mathrm{flip}(g)"),
    samples=[call((2, 3), axis=1), call((2, 3), axis=(0, 1))],
)


def _matrix(x: Any, caller: str) -> Any:
    if np.ndim(x) < 2:
        raise ValueError(f"{caller} takes a matrix, or matrices along the last two axes, not shape {np.shape(x)}")
    return x


_tril = Op(
    lambda x, k=0: np.tril(_matrix(x, "tril"), operator.index(k)),
    (lambda g, y, x, k=0: np.tril(g, k),),
    name="tril",
    formula="tril(x, k)",
    gradient="tril(g, k)",
    latex=(r"\mathrm{tril}(x, k)", r"\mathrm{tril}(g, k)"),
    samples=[call((3, 3)), call((2, 3, 4), k=1)],
)
_triu = Op(
    lambda x, k=0: np.triu(_matrix(x, "triu"), operator.index(k)),
    (lambda g, y, x, k=0: np.triu(g, k),),
    name="triu",
    formula="triu(x, k)",
    gradient="triu(g, k)",
    latex=(r"\mathrm{triu}(x, k)", r"\mathrm{triu}(g, k)"),
    samples=[call((3, 3)), call((2, 3, 4), k=1)],
)
_astype = Op(
    lambda x, dtype: x.astype(dtype),
    (lambda g, y, x, dtype: g,),  # the engine brings it to the dtype of x
    name="astype",
    formula="x (as another dtype)",
    gradient="g (as the dtype of x)",
    latex=(r"x", r"g"),
    samples=[call((2, 3), dtype=np.float64)],
)
_pad = Op(
    lambda x, widths, value: np.pad(x, widths, constant_values=value),
    (lambda g, y, x, widths, value: g[tuple(slice(a, a + n) for (a, _), n in zip(widths, x.shape, strict=True))],),
    name="pad",
    formula="x with a border",
    gradient="g without the border",
    latex=(r"\mathrm{pad}(x)", r"g_{\mathrm{inside}}"),
    samples=[call((2, 3), widths=((1, 0), (0, 2)), value=0.5)],
)


def _concatenate_rule(g: Any, y: Any, residual: None, *xs: Any, axis: int) -> list[Any]:
    parts, start = [], 0
    for x in xs:
        index = [slice(None)] * g.ndim
        index[axis] = slice(start, start := start + x.shape[axis])
        parts.append(g[tuple(index)])
    return parts


_concatenate = Op(
    lambda *xs, axis: np.concatenate(xs, axis=axis),
    _concatenate_rule,
    name="concatenate",
    formula="[a, b, …]",
    gradient="g cut into the parts",
    latex=(r"[a, b, \dots]", r"\bar a = g_{:n},\; \bar b = g_{n:}"),
    samples=[call((2, 3), (1, 3), axis=0), call((2, 1), (2, 3), (2, 2), axis=-1)],
)


def reshape(x: Any, *shape: Any) -> Any:
    """Return the same elements in another shape; one length may be −1.

    `shape` is one integer per axis, or one tuple. Raises ValueError if the elements don't fill it.

    >>> import tinygrad_sm as sm
    >>> sm.Tensor([1.0, 2.0, 3.0, 4.0]).reshape(2, -1).shape
    (2, 2)
    """
    return _reshape(x, shape=shape[0] if len(shape) == 1 else shape)


def ravel(x: Any) -> Any:
    """Return the same elements along one axis.

    >>> import tinygrad_sm as sm
    >>> sm.Tensor([[1.0, 2.0], [3.0, 4.0]]).ravel()
    Tensor([1., 2., 3., 4.])
    """
    return _reshape(x, shape=(-1,))


def transpose(x: Any, *axes: Any) -> Any:
    """Permute the axes: reversed by default, else in the order given, as `np.transpose` does.

    PyTorch's `x.transpose(1, 2)`, which exchanges two axes, is `x.swapaxes(1, 2)` here.

    `axes` are integers, or one tuple. Raises ValueError unless each axis is named once, IndexError out of range.

    >>> import tinygrad_sm as sm
    >>> sm.transpose(sm.Tensor([[1.0, 2.0], [3.0, 4.0]]))
    Tensor([[1., 3.],
            [2., 4.]])
    """
    x = operand(x)
    order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
    if not order:
        order = tuple(range(x.ndim))[::-1]
    if len(order) != x.ndim:
        hint = f"; to exchange two axes use swapaxes{tuple(order)}" if len(order) == 2 else ""
        raise ValueError(f"transpose: {len(order)} axes given for a tensor with {x.ndim}{hint}")
    return _transpose(x, axes=normalize_axis(tuple(order), x.ndim, "transpose"))


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Exchange two axes.

    `axis1` and `axis2` may be negative, counted from the end. Raises IndexError for an axis that is not there.

    >>> import tinygrad_sm as sm
    >>> sm.swapaxes(sm.Tensor([[1.0, 2.0]]), 0, 1).shape
    (2, 1)
    """
    x = operand(x)
    i, j = normalize_axis((axis1,), x.ndim, "swapaxes") + normalize_axis((axis2,), x.ndim, "swapaxes")
    axes = list(range(x.ndim))
    axes[i], axes[j] = j, i
    return _transpose(x, axes=tuple(axes))


def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Move axes to other positions; the others keep their order.

    `source` and `destination` are integers, or tuples of one length. Raises ValueError for an axis given twice,
    IndexError for one that is not there.

    >>> import tinygrad_sm as sm
    >>> sm.moveaxis(sm.Tensor([[[1.0], [2.0]]]), 0, -1).shape
    (2, 1, 1)
    """
    x = operand(x)
    sources, targets = (normalize_axis(a, x.ndim, "moveaxis") for a in (source, destination))
    if len(sources) != len(targets):
        raise ValueError(f"moveaxis: source {source} and destination {destination} differ in length")
    axes = [i for i in range(x.ndim) if i not in sources]
    for to, a in sorted(zip(targets, sources, strict=True)):
        axes.insert(to, a)
    return _transpose(x, axes=tuple(axes))


def expand_dims(x: Any, axis: Any) -> Any:
    """Insert an axis of length 1 at each position of `axis`.

    `axis` is an integer or a tuple, counted in the result. Raises IndexError for one out of its range.

    >>> import tinygrad_sm as sm
    >>> sm.expand_dims(sm.Tensor([1.0, 2.0]), 0).shape
    (1, 2)
    """
    x = operand(x)
    if axis is None:
        raise TypeError("expand_dims: axis must be an int or a tuple of ints, not None")
    ndim = x.ndim + (len(axis) if isinstance(axis, tuple) else 1)
    axes = normalize_axis(axis, ndim, "expand_dims")
    lengths = iter(x.shape)
    return _reshape(x, shape=tuple(1 if i in axes else next(lengths) for i in range(ndim)))


def squeeze(x: Any, axis: Any = None, **other: Any) -> Any:
    """Remove axes of length 1: all, or those named.

    `axis` is an integer or a tuple. Raises ValueError for an axis of another length.

    >>> import tinygrad_sm as sm
    >>> sm.squeeze(sm.Tensor([[1.0, 2.0]]))
    Tensor([1., 2.])
    """
    refuse(other, squeeze, "squeeze")
    x = operand(x)
    if axis is None:
        axes = tuple(i for i, n in enumerate(x.shape) if n == 1)
    else:
        axes = normalize_axis(axis, x.ndim, "squeeze")
        if any(x.shape[i] != 1 for i in axes):
            raise ValueError(f"squeeze: axis {axis} of shape {x.shape} is not of length 1")
    return _reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


def broadcast_to(x: Any, shape: Any) -> Any:
    """Stretch axes of length 1, and add axes in front, to reach `shape`.

    Backward: the sum over what was stretched. Raises ValueError for a shape that cannot be reached.

    >>> import tinygrad_sm as sm
    >>> sm.broadcast_to(sm.Tensor([1.0, 2.0]), (2, 2))
    Tensor([[1., 2.],
            [1., 2.]])
    """
    x = operand(x)
    try:
        return _broadcast_to(x, shape=shape)
    except ValueError:
        raise ValueError(
            f"broadcast_to: shape {x.shape} does not stretch to {shape}; from the right, each of its lengths must be "
            "1 or the same"
        ) from None


def flip(x: Any, axis: Any = None) -> Any:
    """Reverse the order of the elements along the axes (all by default).

    `axis` is an integer or a tuple. Raises IndexError for an axis that is not there.

    >>> import tinygrad_sm as sm
    >>> sm.flip(sm.Tensor([1.0, 2.0, 3.0]))
    Tensor([3., 2., 1.])
    """
    return _flip(x, axis=axis)


def tril(x: Any, k: int = 0) -> Any:
    """Set what is above the k-th diagonal of the last two axes to zero.

    `k` counts diagonals from the main one, upwards. Raises ValueError for fewer than two axes.

    >>> import tinygrad_sm as sm
    >>> sm.tril(sm.Tensor([[1.0, 2.0], [3.0, 4.0]]))
    Tensor([[1., 0.],
            [3., 4.]])
    """
    return _tril(x, k=k)


def triu(x: Any, k: int = 0) -> Any:
    """Set what is below the k-th diagonal of the last two axes to zero.

    `k` counts diagonals from the main one, upwards. Raises ValueError for fewer than two axes.

    >>> import tinygrad_sm as sm
    >>> sm.triu(sm.Tensor([[1.0, 2.0], [3.0, 4.0]]), 1)
    Tensor([[0., 2.],
            [0., 0.]])
    """
    return _triu(x, k=k)


def astype(x: Any, dtype: Any) -> Any:
    """Convert to another dtype; the gradient comes back in the old one. To integers or bools, none does.

    >>> import tinygrad_sm as sm
    >>> sm.Tensor([1.5, 2.0]).astype(int)
    Tensor([1, 2])
    """
    if isinstance(x, Tensor) and np.dtype(dtype).kind != "f":
        return Tensor(x.data.astype(dtype))
    return _astype(x, dtype=dtype)


def pad(x: Any, pad_width: Any, mode: str = "constant", *, constant_values: float = 0.0) -> Any:
    """Add a border of constants: `pad_width` is (before, after) per axis, as in `np.pad`.

    One number stands for all sides, one pair for all axes. `constant_values` fills the border. Raises ValueError for
    widths that do not fit or are negative, and for any `mode` but "constant".

    >>> import tinygrad_sm as sm
    >>> sm.pad(sm.Tensor([1.0, 2.0]), (1, 2))
    Tensor([0., 1., 2., 0., 0.])
    """
    if mode != "constant":
        raise ValueError(f"pad: only mode='constant' has a gradient here, not {mode!r}")
    x = operand(x)
    try:
        widths = np.broadcast_to(pad_width, (x.ndim, 2))
    except ValueError:
        raise ValueError(f"pad: pad_width {pad_width} is not (before, after) for each of {x.ndim} axes") from None
    if widths.dtype.kind not in "iu":
        raise TypeError(f"pad: pad_width must be made of integers, not {pad_width!r:.60}")
    if np.any(widths < 0):
        raise ValueError(f"pad: pad_width must be 0 or more, not {pad_width}; to cut a border off, use x[1:-1]")
    return _pad(x, widths=tuple((int(a), int(b)) for a, b in widths), value=constant_values)


def concatenate(tensors: Sequence[Any], axis: int | None = 0, **other: Any) -> Any:
    """Join tensors along an axis that they have; with None, all their elements along one axis.

    `tensors` have equal lengths along the other axes. Raises ValueError if not, or if there are none; IndexError for
    an axis that is not there.

    >>> import tinygrad_sm as sm
    >>> sm.concatenate([sm.Tensor([1.0]), sm.Tensor([2.0, 3.0])])
    Tensor([1., 2., 3.])
    """
    _check_sequence(tensors, axis, other, "concatenate")
    if axis is None:
        tensors, axis = [ravel(operand(t)) for t in tensors], 0
    try:
        return _concatenate(*tensors, axis=axis)
    except ValueError:
        shapes = [np.shape(t) for t in tensors]
        if () in shapes:
            raise ValueError("concatenate: a scalar has no axis to join along; use stack") from None
        raise ValueError(
            f"concatenate: all lengths but that of axis {axis} must be equal; the shapes are {shapes}"
        ) from None


def _check_sequence(tensors: Any, axis: Any, other: dict[str, Any], caller: str) -> None:
    refuse(other, ("tensors", "axis"), caller)
    if isinstance(axis, (Tensor, np.ndarray)) or not hasattr(tensors, "__len__") or isinstance(tensors, (str, dict)):
        raise TypeError(f"{caller}: the tensors come in one list, as in {caller}([a, b], axis=0)")
    if not len(tensors):
        raise ValueError(f"{caller}: needs at least one tensor")


def stack(tensors: Sequence[Any], axis: int = 0, **other: Any) -> Any:
    """Join tensors of one shape along a new axis.

    `axis` is where the new one stands in the result. Raises ValueError if the shapes differ, or there are none.

    >>> import tinygrad_sm as sm
    >>> sm.stack([sm.Tensor([1.0, 2.0]), sm.Tensor([3.0, 4.0])], axis=1)
    Tensor([[1., 3.],
            [2., 4.]])
    """
    _check_sequence(tensors, axis, other, "stack")
    if len({np.shape(t) for t in tensors}) > 1:
        raise ValueError(f"stack: the shapes differ: {[np.shape(t) for t in tensors]}")
    (axis,) = normalize_axis((axis,), np.ndim(tensors[0]) + 1, "stack")
    return concatenate([expand_dims(operand(t), axis) for t in tensors], axis)


def split(x: Any, indices_or_sections: Any, axis: int = 0, **other: Any) -> list[Any]:
    """Cut along an axis, into equal parts (an int) or at the indices given; as `np.split`.

    `indices_or_sections` is that integer or those indices. Returns a list. Raises ValueError if the length does not
    divide, IndexError for an axis that is not there.

    >>> import tinygrad_sm as sm
    >>> sm.split(sm.Tensor([1.0, 2.0, 3.0]), [2])
    [Tensor([1., 2.]), Tensor([3.])]
    """
    refuse(other, split, "split")
    x = operand(x)
    (axis,) = normalize_axis((axis,), x.ndim, "split")
    n = x.shape[axis]
    if not np.iterable(indices_or_sections):
        count(indices_or_sections, "the number of parts", "split")
        if n % indices_or_sections:
            raise ValueError(f"split: axis {axis} of length {n} does not divide into {indices_or_sections} equal parts")
        indices_or_sections = range(0, n, n // indices_or_sections)[1:] if n else []
    try:
        cuts = [0, *map(operator.index, indices_or_sections), n]
    except TypeError:
        raise TypeError(f"split: the places to cut must be integers, not {indices_or_sections!r:.60}") from None
    before = (slice(None),) * axis
    return [x[(*before, slice(a, b))] for a, b in itertools.pairwise(cuts)]


for _f in (
    swapaxes, moveaxis, expand_dims, squeeze, broadcast_to, flip, tril, triu, pad,
    concatenate, stack, split,
):  # fmt: skip
    FUNCTIONS[getattr(np, _f.__name__)] = _f
FUNCTIONS[np.reshape] = lambda x, shape: reshape(x, shape)
FUNCTIONS[np.transpose] = lambda x, axes=None: transpose(x, *(() if axes is None else axes))
FUNCTIONS[np.ravel] = ravel
attach(reshape=reshape, transpose=transpose, swapaxes=swapaxes, squeeze=squeeze, astype=astype, ravel=ravel)
attach(flatten=ravel, T=property(transpose))
FUNCTIONS.update({np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim, np.size: lambda x: x.size})
