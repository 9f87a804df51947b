"""The backward pass.

`sweep` is the whole of reverse-mode differentiation: it visits what made the outputs, newest first,
and hands each tensor's gradient on to its arguments. `backward`, the derivatives of `derivatives.py` and every
picture of a gradient are loops over it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from .checks import check_definition, check_no_more, check_share, check_start, check_unchanged, named_rule
from .mode import MODE, grad_mode
from .tensor import Tensor, as_array, attach, wrap

Cotangent = Any  # an array in a raw pass, a Tensor in a recorded one
_deposit_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child must not wait for a thread that only its parent has
    os.register_at_fork(after_in_child=_deposit_lock._at_fork_reinit)  # type: ignore[attr-defined]


def ancestors(roots: Collection[Tensor], stop: Collection[Tensor] = ()) -> list[Tensor]:
    """Return what a gradient can reach from `roots`, newest first; what made a tensor in `stop` is left out."""
    seen, stack = set(roots), list(roots)
    while stack:
        t = stack.pop()
        if t.op is not None and t not in stop:
            for a, needed in zip(t.args, t.need):  # noqa: B905 (quicker so)
                if needed and a not in seen:
                    seen.add(a)
                    stack.append(a)
    return sorted(seen, key=attrgetter("order"), reverse=True)


def sweep(
    seeds: dict[Tensor, Cotangent],
    *,
    create_graph: bool = False,
    wanted: Collection[Tensor] | None = None,
    stop: Collection[Tensor] = frozenset(),
    consume: bool = True,
) -> Iterator[tuple[Tensor, Cotangent, Sequence[Cotangent | None]]]:
    """Walk the graph backwards from `seeds`; yield each tensor, its gradient, and what it gives its arguments.

    When a tensor's turn comes, all that was made from it has had its turn, being newer; so its gradient
    is complete. `create_graph` runs the rules recorded, on Tensors, so that the gradients can be
    differentiated again. `wanted` limits who gets a gradient; nothing behind a tensor in `stop` is
    visited; `consume` lets rules overwrite the residuals of the forward pass.
    """
    gradients, watch = dict(seeds), MODE.get().watch
    own = set()  # tensors whose gradient is a buffer made here, so that adding in place is safe
    for t in ancestors(seeds, stop):
        g = gradients.pop(t, None)
        if g is None:
            continue
        for hook in tuple(t.hooks) if t.hooks and t not in stop else ():
            new = hook(g if create_graph else Tensor(np.array(g)))
            if new is not None:
                g = start(t, new if create_graph else np.array(new), create_graph, f"a hook's replacement, {hook!r}")
        shares: Sequence[Cotangent | None] = ()
        if t.op is not None and t not in stop:
            need = t.need if wanted is None else [n and a in wanted for a, n in zip(t.args, t.need, strict=True)]
            shares = _shares(t, g, need, create_graph, consume)
        if watch:
            watch.pulled(t, g, shares)
        yield t, g, shares
        for a, share in zip(t.args, shares):  # noqa: B905
            if share is None:
                continue
            if a not in gradients:
                gradients[a] = share  # may be a view, or another tensor's gradient too: not ours to write to
            elif a in own:
                gradients[a] += share
            else:
                gradients[a] = gradients[a] + share
                if isinstance(gradients[a], np.ndarray):
                    own.add(a)


def _shares(t: Tensor, g: Cotangent, need: list[bool], create_graph: bool, consume: bool) -> list[Cotangent | None]:
    """Return what `t`, whose gradient is `g`, gives each of its arguments."""
    assert t.op is not None
    if create_graph:
        check_unchanged(t)
    try:
        fused = create_graph and t.op.definition is not None
        shares = _pull_definition(t, g, need) if fused else t.op.pull(t, g, need, consume)
    except (ValueError, TypeError, IndexError) as error:
        raise named_rule(error, t) from error
    fitted: list[Cotangent | None] = []
    for share, a, n in zip(shares, t.args, need):  # noqa: B905 (quicker so)
        if not n or share is None:
            fitted.append(None)
        elif type(share) is np.ndarray and share.shape == a.data.shape and share.dtype == a.data.dtype:
            fitted.append(share)
        else:
            fitted.append(_fitted(share, a, t))
    return fitted


def _pull_definition(t: Tensor, g: Tensor, need: list[bool]) -> list[Tensor | None]:
    """Differentiate a fused op through its definition, recorded."""
    assert t.op is not None
    assert t.op.definition is not None
    inputs = {a for a in t.args if isinstance(a, Tensor)}
    y = check_definition(t.op.definition(*t.args, **t.kwargs), t)
    found = {a: share for a, share, _ in sweep({y: g}, create_graph=True, stop=inputs) if a in inputs}
    return [found.pop(a, None) if n else None for a, n in zip(t.args, need, strict=True)]


def _fitted(share: Cotangent, a: Tensor, t: Tensor) -> Cotangent:
    """Bring a rule's result to the shape and dtype of the argument: undo broadcasting, once, for every op."""
    share = np.asarray(share) if isinstance(share, (float, int, list)) else share
    check_share(share, a, t)
    if share.shape != a.shape:
        extra = share.ndim - a.ndim
        # In the forward pass axes were added in front and axes of length 1 stretched, so now each is summed.
        stretched = [i + extra for i, n in enumerate(a.shape) if n == 1 and share.shape[i + extra] != 1]
        share = share.astype(np.float32) if share.dtype == np.float16 else share  # to sum in
        share = share.sum(axis=(*range(extra), *stretched)).reshape(a.shape)
    return share if share.dtype == a.dtype else share.astype(a.dtype)


def start(output: Tensor, gradient: Any, create_graph: bool, caller: str) -> Cotangent:
    """Check one output and the gradient to start from, which is 1 for a scalar."""
    check_start(output, gradient, caller)
    if create_graph and isinstance(gradient, Tensor):
        return gradient
    if gradient is None:
        array = np.ones(output.shape, output.dtype)
    else:
        array = as_array(gradient).astype(output.dtype, copy=False).reshape(output.shape)
    return Tensor(array) if create_graph else array


def backward(tensor: Tensor, gradient: Any = None, *, create_graph: bool = False, **other: Any) -> None:
    """Compute the gradient with respect to every leaf that this tensor came from, and add it to their `.grad`.

    A tensor that is not a scalar needs the `gradient` to start from, of its shape. With `create_graph` the
    pass itself is recorded. Calling it twice adds twice, as one wants for micro-batches; `.grad = None` or
    `zero_grad()` starts anew. Raises ValueError if nothing requires a gradient, or for a misshapen `gradient`.

    >>> import tinygrad_sm as sm
    >>> w = sm.Tensor(3.0, requires_grad=True)
    >>> (w * w).backward()
    >>> w.grad
    Tensor(6.)
    """
    check_no_more(other, "backward()")
    seed = start(tensor, gradient, create_graph, "backward()")
    given = {id(seed), id(gradient)}  # buffers that a leaf must not share: the caller's, and other leaves'
    with grad_mode(create_graph):
        steps = sweep({tensor: seed}, create_graph=create_graph)
        for t, g in [(t, g) for t, g, _ in steps if t.op is None or t.retains]:  # none is set if a rule fails
            _deposit(t, g, given)


def _deposit(t: Tensor, g: Cotangent, given: set[int]) -> None:
    """Set `t.grad`, or add to that of a leaf; always in a buffer of its own, since gradients may alias."""
    with _deposit_lock:  # two threads may train the same leaf
        if t.op is None and t._grad is not None:
            t._grad = t._grad + g
        elif isinstance(g, Tensor):
            t._grad = g.astype(g.dtype)  # a recorded copy
        else:
            shared = t.hooks or g.base is not None or id(g) in given
            t._grad = wrap(g.copy() if shared else g)
            given.add(id(g))


attach(backward=backward)
