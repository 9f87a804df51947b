"""Products of matrices."""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from ..op import Op
from ..tensor import FUNCTIONS, attach
from .arguments import count_rows, normalize_axis, operand, single
from .kinks import kept
from .reduction import AXES, broadcastable
from .sample import call


def rows(x: Any) -> Any:
    """Return x (…, n) as a matrix (N, n)."""
    return x if x.ndim == 2 else x.reshape((count_rows(x), x.shape[-1]))


def _matmul_left(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:  # a is (…, n), y is (…)
        return g[..., None] * b
    if a.ndim == 1:  # a stood for one row
        return (g[..., None, :] @ b.swapaxes(-1, -2))[..., 0, :]
    return g @ b.swapaxes(-1, -2)


def _matmul_right(g: Any, y: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return g * a if b.ndim == 1 else a[:, None] * g[..., None, :]
    if b.ndim == 1:  # b stood for one column
        return (a.swapaxes(-1, -2) @ g[..., None])[..., 0]
    if b.ndim == 2 and a.ndim > 2:  # one product over all batches at once, which sums them too
        return rows(a).swapaxes(0, 1) @ rows(g)
    return a.swapaxes(-1, -2) @ g


def _matmul(a: Any, b: Any) -> Any:
    try:
        return np.matmul(a, b)
    except ValueError:
        raise ValueError(_misfit(np.shape(a), np.shape(b))) from None


def _misfit(left: tuple[int, ...], right: tuple[int, ...]) -> str:
    """Say why two shapes have no matrix product."""
    if not left or not right:
        return "a scalar has no matrix product; use *"
    inner = right[-2] if len(right) > 1 else right[0]
    if left[-1] != inner:
        axis = "second to last" if len(right) > 1 else "only"
        return (
            f"the shapes {left} and {right} do not fit: the last axis of the first has length {left[-1]}, "
            f"and the {axis} axis of the second {inner}"
        )
    return f"the axes before the last two, {left[:-2]} of {left} and {right[:-2]} of {right}, do not broadcast"


matmul = Op(
    _matmul,
    (_matmul_left, _matmul_right),
    name="matmul",
    formula="A·B",
    gradient="g·Bᵀ, Aᵀ·g",
    latex=(r"A B", r"\bar A = g B^\top,\; \bar B = A^\top g"),
    samples=[
        call((2, 3), (3, 4)), call((3,), (3,)), call((2, 3), (3,)), call((3,), (3, 2)), call((2, 2, 3), (3, 4)),
        call((2, 2, 3), (2, 3, 1)), call((2, 1, 2, 3), (3, 3, 2)), call((3,), (2, 3, 4)), call((2, 4, 3), (3,)),
    ],
    numpy=[np.matmul],
)  # fmt: skip


def _linear_forward(x: Any, weight: Any, bias: Any = None) -> Any:
    out = rows(x) @ weight.T  # one product, however many batch axes x has
    if bias is not None:
        out += bias
    return out if x.ndim == 2 else out.reshape((*x.shape[:-1], weight.shape[0]))


_linear = Op(
    _linear_forward,
    (
        lambda g, y, x, weight, bias=None: g @ weight if x.ndim == 2 else (rows(g) @ weight).reshape(x.shape),
        lambda g, y, x, weight, bias=None: rows(g).swapaxes(0, 1) @ rows(x),
        lambda g, y, x, weight, bias=None: g,  # the engine sums over all axes but the last
    ),
    name="linear",
    formula="x·Wᵀ + b",
    gradient="g·W, gᵀ·x, Σₙ g",
    latex=(r"x W^\top + b", r"\bar x = g W,\; \bar W = g^\top x,\; \bar b = \textstyle\sum_n g"),
    samples=[call((2, 3), (4, 3), (4,)), call((2, 2, 3), (4, 3), None), call((3,), (4, 3), (4,))],
)


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """Return x·Wᵀ + b, for x (…, in), weight (out, in) and bias (out,); the result is (…, out).

    Raises ValueError, with the shapes, if they do not fit.

    >>> import tinygrad_sm as sm
    >>> sm.functional.linear(sm.Tensor([1.0, 2.0]), sm.Tensor([[1.0, 1.0], [0.0, 1.0]]), sm.Tensor([0.5, 0.5]))
    Tensor([3.5, 2.5])
    """
    x, weight, bias = operand(x), operand(weight), None if bias is None else operand(bias)
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: x of shape {x.shape} and weight of shape {weight.shape} do not fit; "
            "x must be (…, in) and weight (out, in)"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: bias of shape {bias.shape} for weight of shape {weight.shape}; it is (out,)")
    return _linear(x, weight, bias)


def _einsum_rule(g: Any, y: Any, residual: None, *xs: Any, spec: str) -> list[Any]:
    """For each operand, the sum over all others, with the output's indices now among the inputs."""
    inputs, output = spec.split("->")
    terms, spare = inputs.split(","), iter(c for c in string.ascii_letters if c not in spec)
    grads = []
    for i, term in enumerate(terms):
        others = [t for j, t in enumerate(terms) if j != i]
        arrays = [g, *(x for j, x in enumerate(xs) if j != i)]
        labels, target = [output, *others], ""
        for axis, letter in enumerate(term):
            n = xs[i].shape[axis]
            if letter in target:  # a diagonal: off it the gradient is 0
                fresh = next(spare)
                labels, arrays, target = [*labels, letter + fresh], [*arrays, np.eye(n, dtype=g.dtype)], target + fresh
                continue
            if not any(letter in label for label in labels):  # summed over here alone: spread g along it
                labels, arrays = [*labels, letter], [*arrays, np.ones(n, g.dtype)]
            target += letter
        share = _einsum(*arrays, spec=f"{','.join(labels)}->{target}")
        # Where another operand had length 1 along an index, every element along it gets the same.
        grads.append(np.broadcast_to(share, np.broadcast_shapes(share.shape, xs[i].shape)))
    return grads


_einsum = Op(
    lambda *xs, spec: np.einsum(spec, *xs, optimize=len(xs) > 2),
    _einsum_rule,
    name="einsum",
    formula="Σ a·b over shared indices",
    gradient="einsum of g and the others",
    latex=(r"\textstyle\sum_{jk} a_{ij} b_{jk}", r"\bar a_{ij} = \textstyle\sum_k g_{ik} b_{jk}"),
    samples=[
        call((2, 3), (3, 4), spec="ij,jk->ik"), call((3, 3), spec="ii->"), call((3, 3), spec="ii->i"),
        call((2, 3), spec="ij->j"), call((2, 3), (4,), spec="ij,k->ik"), call((2, 3), (3, 2), (2,), spec="ij,jk,k->i"),
    ],
)  # fmt: skip


def einsum(subscripts: str, *operands: Any) -> Any:
    """Sum products over the indices that are not in the output, as `np.einsum` does; `...` included.

    `subscripts` is such as "ij,jk->ik", and `operands` are Tensors or arrays, one for each term before the arrow. The
    gradient of one is the einsum of the incoming gradient and the others. Raises ValueError if the terms do not match
    the operands or their shapes.

    >>> import numpy as np, tinygrad_sm as sm
    >>> a, b = sm.Tensor(np.ones((2, 3))), sm.Tensor(np.ones((3, 4)))
    >>> sm.einsum("ij,jk->ik", a, b).shape
    (2, 4)
    """
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: first come the subscripts, a string such as 'ij,jk->ik'; got {subscripts!r:.60}")
    spec = _explicit(subscripts, [np.ndim(x) for x in operands])
    try:
        return _einsum(*operands, spec=spec)
    except ValueError:
        _check_lengths(subscripts, spec, [np.shape(x) for x in operands])
        raise


def _check_lengths(subscripts: str, spec: str, shapes: list[Any]) -> None:
    """Refuse an index that stands for axes of different lengths."""
    lengths: dict[str, set[int]] = {}
    for term, shape in zip(spec.partition("->")[0].split(","), shapes, strict=True):
        for letter, n in zip(term, shape, strict=True):
            lengths.setdefault(letter, set()).add(n)
    for letter, found in lengths.items():
        if len(found) > 1:
            given = ", ".join(map(str, shapes))
            raise ValueError(
                f"einsum: in {subscripts!r} the index {letter} has lengths {sorted(found)}; shapes {given}"
            )


def _explicit(subscripts: str, ndims: list[int]) -> str:
    """Write the output indices and the axes behind `...` out."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ndims):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, but {len(ndims)} are given")
    free = [c for c in string.ascii_letters if c not in subscripts]
    rest = [n - len(t.replace("...", "")) if "..." in t else 0 for t, n in zip(terms, ndims, strict=True)]
    if any(t.count("...") > 1 for t in terms):
        raise ValueError(f"einsum: {subscripts!r} has '...' twice for one operand")
    if any(n < 0 or ("..." not in t and len(t) != d) for n, t, d in zip(rest, terms, ndims, strict=True)):
        raise ValueError(f"einsum: the indices of {subscripts!r} do not fit operands with {ndims} axes")
    hidden = "".join(free[: max(rest)])
    if not arrow:
        once = sorted(c for c in set(inputs) - set(",.") if inputs.count(c) == 1)
        output = ("..." if "..." in inputs else "") + "".join(once)
    terms = [t.replace("...", hidden[len(hidden) - n :]) for t, n in zip(terms, rest, strict=True)]
    return f"{','.join(terms)}->{output.replace('...', hidden)}"


def _norm_rule(g: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    some = np.not_equal(y, 0)  # at 0 there is a cone: its gradient is 0, the middle of all slopes
    return broadcastable(kept(g / np.where(some, y, 1), some), x.shape, axis) * x


_norm = Op(
    lambda x, axis=None, keepdims=False: np.sqrt(np.sum(np.square(single(x)), axis=axis, keepdims=keepdims)).astype(
        x.dtype, copy=False
    ),
    (_norm_rule,),
    name="norm",
    formula="√Σ x²",
    gradient="g·x/y (0 at 0)",
    latex=(r"\sqrt{\textstyle\sum_i x_i^2}", r"g\,x / y"),
    samples=AXES[:5],
)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the Euclidean length √Σ x² over the axes (all by default), as `np.linalg.norm` does; its gradient is x/y.

    At 0, where it has a kink, the gradient is 0. `sqrt((x * x).sum())` would have NaN there.

    Raises
    ------
    ValueError
        If `ord` asks for another norm than this one.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> x = sm.Tensor([3.0, 4.0], requires_grad=True)
    >>> np.linalg.norm(x).backward()
    >>> x.grad
    Tensor([0.6, 0.8])
    """
    x = operand(x)
    axes = normalize_axis(axis, x.ndim, "norm")
    if ord is not None and (ord, len(axes)) not in ((2, 1), ("fro", 2)):
        raise ValueError(f"norm: only the Euclidean norm (ord=None) has a gradient here, not ord={ord!r}")
    return _norm(x, axis=axes, keepdims=keepdims)


FUNCTIONS[np.linalg.norm] = norm
FUNCTIONS[np.einsum] = einsum
attach(__matmul__=lambda a, b: matmul(a, b), __rmatmul__=lambda a, b: matmul(b, a))
