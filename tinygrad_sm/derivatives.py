"""Derivatives made of the backward pass: grad, vjp, jvp, jacobian, hessian, hvp."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np

from .autograd import Cotangent, ancestors, start, sweep
from .checks import check_no_more
from .mode import enable_grad, grad_mode
from .tensor import Tensor


def between(seeds: Collection[Tensor], inputs: Collection[Tensor]) -> set[Tensor]:
    """Return the tensors through which a gradient flows on its way from `seeds` to `inputs`."""
    wanted = set(inputs)
    for t in reversed(ancestors(seeds)):
        if t.op is not None and any(n and a in wanted for a, n in zip(t.args, t.need, strict=True)):
            wanted.add(t)
    return wanted


def as_tuple(x: Any) -> tuple[Any, ...]:
    """Return what can be iterated over as a tuple, and a Tensor, an array or a number as a tuple of one."""
    return (x,) if isinstance(x, (Tensor, np.ndarray)) or not isinstance(x, Iterable) else tuple(x)


def grad(
    outputs: Any, inputs: Any, grad_outputs: Any = None, *, create_graph: bool = False, allow_unused: bool = False,
    **other: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return the gradient of `outputs` (one tensor, or several, added) for each of `inputs`; touch no `.grad`.

    `grad_outputs` are the gradients to start from, 1 for scalars; `create_graph` makes results that can be
    differentiated again; `allow_unused` gives None for an input that the outputs don't depend on, where a
    ValueError is the default. Raises as `backward` does. Results may share memory; copy one before you change it.

    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor(2.0, requires_grad=True)
    >>> (slope,) = sm.grad(x**3, x, create_graph=True)
    >>> slope.item(), sm.grad(slope, x)[0].item()
    (12.0, 12.0)
    """
    check_no_more(other, "grad")
    outputs, inputs = as_tuple(outputs), as_tuple(inputs)
    starts = as_tuple(grad_outputs) if grad_outputs is not None else (None,) * len(outputs)
    if len(starts) != len(outputs):
        hint = "; a list has one for each output: write [g] for the start of one" if len(outputs) == 1 else ""
        raise ValueError(f"grad: {len(outputs)} outputs, but {len(starts)} grad_outputs{hint}")
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor) or not x.requires_grad:
            what = "requires no gradient" if isinstance(x, Tensor) else f"is a {type(x).__name__}, not a Tensor"
            raise ValueError(f"grad: input {i} {what}")
    seeds: dict[Tensor, Cotangent] = {}
    for y, first in zip(outputs, starts, strict=True):
        g = start(y, first, create_graph, "grad")
        seeds[y] = seeds[y] + g if y in seeds else g
    found: dict[Tensor, Any] = dict.fromkeys(inputs)
    with grad_mode(create_graph):
        for t, g, _ in sweep(seeds, create_graph=create_graph, wanted=between(seeds, inputs)):
            if t in found:
                found[t] = g if isinstance(g, Tensor) else Tensor(np.asarray(g))
    missing = [i for i, x in enumerate(inputs) if found[x] is None]
    if missing and not allow_unused:
        raise ValueError(f"grad: the outputs don't depend on input(s) {missing}; allow_unused=True gives None for them")
    return tuple(found[x] for x in inputs)


def _fresh(x: Any) -> Tensor:
    """Return a new leaf with the value of `x`, so that nothing leaks into the graph that `x` belongs to."""
    return Tensor(x, requires_grad=True)


def _outputs(y: Any) -> tuple[Tensor, ...]:
    for out in as_tuple(y):
        if not isinstance(out, Tensor):
            raise TypeError(f"the function must return Tensors, not {type(out).__name__}")
    return as_tuple(y)


def _grads(outputs: Any, inputs: Sequence[Tensor], cotangents: Any, create_graph: bool = False) -> tuple[Tensor, ...]:
    """Do what `grad` does, but give zeros where an output does not depend on an input."""
    pairs = [(y, c) for y, c in zip(outputs, cotangents, strict=True) if y.requires_grad]
    if not pairs:
        return tuple(Tensor(np.zeros_like(x.data)) for x in inputs)
    ys, cs = zip(*pairs, strict=True)
    found = grad(ys, inputs, cs, create_graph=create_graph, allow_unused=True)
    return tuple(Tensor(np.zeros_like(x.data)) if g is None else g for g, x in zip(found, inputs, strict=True))


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """Return f(*primals) and the function that takes a cotangent of the output back to the inputs: c ↦ Jᵀ·c.

    `f` takes Tensors, made of `primals`, and returns one, or a tuple; the function takes a cotangent for each, of its
    shape, and returns a tuple with a gradient for each primal. Raises TypeError if `f` returns anything else,
    ValueError for a cotangent of another shape.

    >>> import tinygrad_sm as sm
    >>> y, pullback = sm.vjp(lambda x: x**2, sm.Tensor([1.0, 2.0]))
    >>> pullback([1.0, 10.0])
    (Tensor([ 2., 40.]),)
    """
    inputs = [_fresh(x) for x in primals]
    with enable_grad():
        y = f(*inputs)
    outputs = _outputs(y)

    def pullback(*cotangents: Any) -> tuple[Tensor, ...]:
        if len(cotangents) != len(outputs):
            raise ValueError(f"vjp: {len(outputs)} outputs, but {len(cotangents)} cotangents")
        return _grads(outputs, inputs, cotangents)

    return y, pullback


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Return f(*primals) and how it changes when the inputs move along `tangents`: J·t.

    The pullback c ↦ Jᵀ·c is linear in c, so *its* pullback is t ↦ J·t: two backward passes make one forward.

    Raises ValueError unless there is a tangent for each primal, of its shape.

    >>> import tinygrad_sm as sm
    >>> y, tangent = sm.jvp(lambda x: x**2, [sm.Tensor([1.0, 2.0])], [[1.0, 10.0]])
    >>> tangent
    Tensor([ 2., 40.])
    """
    if isinstance(primals, (Tensor, np.ndarray)):
        primals, tangents = (primals,), (tangents,)
    if len(primals) != len(tangents):
        raise ValueError(f"jvp: {len(primals)} primals, but {len(tangents)} tangents")
    inputs = [_fresh(x) for x in primals]
    with enable_grad():
        y = f(*inputs)
        outputs = _outputs(y)
        probes = [_fresh(np.ones_like(out.data)) for out in outputs]  # any: the pullback is linear
        pulled = _grads(outputs, inputs, probes, create_graph=True)
    moved = _grads(pulled, probes, [np.asarray(t, x.dtype) for t, x in zip(tangents, inputs, strict=True)])
    return y, moved if isinstance(y, (tuple, list)) else moved[0]


def jacobian(f: Callable[[Tensor], Tensor], x: Any, *, create_graph: bool = False) -> Tensor:
    """Return ∂f(x)ᵢ/∂xⱼ, of shape (*f(x).shape, *x.shape), a row at a time.

    With `create_graph` it can be differentiated again. Costs a backward pass for each element of f(x). Raises
    TypeError if `f` returns no Tensor.

    >>> import tinygrad_sm as sm
    >>> sm.jacobian(lambda z: sm.softmax(z), sm.Tensor([0.0, 0.0]))
    Tensor([[ 0.25, -0.25],
            [-0.25,  0.25]])
    """
    x = x if create_graph and isinstance(x, Tensor) and x.requires_grad else _fresh(x)
    with enable_grad():
        (y,) = _outputs(f(x))
    rows: list[Tensor] = []
    for i in range(y.size):
        unit = np.zeros(y.size, y.dtype)
        unit[i] = 1
        rows += _grads([y], [x], [unit.reshape(y.shape)], create_graph)
    if not rows:
        return Tensor(np.zeros(y.shape + x.shape, x.dtype))
    stacked: Any = np.stack(rows)
    result: Tensor = stacked.reshape(y.shape + x.shape)
    return result


def hessian(f: Callable[[Tensor], Tensor], x: Any) -> Tensor:
    """Return the second derivatives of a scalar function, of shape (*x.shape, *x.shape).

    It is the Jacobian of the gradient. Raises ValueError if `f` does not return a scalar.

    >>> import tinygrad_sm as sm
    >>> sm.hessian(lambda x: (x**3).sum(), sm.Tensor([1.0, 2.0]))
    Tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacobian(_slope(f, "hessian"), x)


def hvp(f: Callable[[Tensor], Tensor], x: Any, v: Any) -> Tensor:
    """Return the Hessian of a scalar function times a vector of the shape of x, without making the Hessian.

    Costs about two gradients (Pearlmutter 1994). Raises ValueError if `f` does not return a scalar, or for a `v` of
    another shape.

    >>> import tinygrad_sm as sm
    >>> sm.hvp(lambda x: (x**3).sum(), sm.Tensor([1.0, 2.0]), [1.0, 1.0])
    Tensor([ 6., 12.])
    """
    x = _fresh(x)
    v = np.asarray(v, x.dtype)
    if v.shape != x.shape:
        raise ValueError(f"hvp: v of shape {v.shape} must have the shape of x, {x.shape}")
    with enable_grad():
        slope = _slope(f, "hvp")(x)
    return _grads([slope], [x], [v])[0]


def _slope(f: Callable[[Tensor], Tensor], caller: str) -> Callable[[Tensor], Tensor]:
    """Return the function x ↦ ∇f(x), whose results can be differentiated."""

    def slope(x: Tensor) -> Tensor:
        (y,) = _outputs(f(x))
        if y.size != 1:
            raise ValueError(f"{caller}: the function must return a scalar, not shape {y.shape}")
        return _grads([y], [x], [np.ones(y.shape, y.dtype)], create_graph=True)[0]

    return slope
