"""Showing what stands behind a fused op: its definition, in its place in the graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..checks import check_unchanged
from ..graph import history
from ..mode import MODE
from ..tensor import Tensor, wrap


def with_definitions(roots: Sequence[Tensor], words: Collection[str]) -> tuple[list[Tensor], set[str]]:
    """Return tensors like `roots` with the history in which fused ops are replaced, and the ops that were.

    Replaced are those whose op or whose own name is among the `words`, also inside the definitions of others. The
    simple ops of a definition stand in a scope with the name of the op. Nothing that exists is changed: what comes
    after a replaced tensor is copied, with the arrays that it has.

    >>> import numpy as np, tinygrad_sm as sm
    >>> z = sm.Tensor([[1.0, 2.0]], requires_grad=True)
    >>> (loss,), ops = with_definitions([sm.cross_entropy(z, np.array([0]))], ["cross_entropy"])
    >>> loss.op.name, loss.args[0].op.name, ops
    ('nll_loss', 'log_softmax', {'cross_entropy'})
    """
    replaced: set[str] = set()
    found = _replaced(roots, words, replaced)
    while found is not None:
        roots = found
        found = _replaced(roots, words, replaced)
    return list(roots), replaced


def _replaced(roots: Sequence[Tensor], words: Collection[str], replaced: set[str]) -> list[Tensor] | None:
    """Do it once, without looking into the definitions; return None if there is nothing to replace."""
    new: dict[Tensor, Tensor] = {}
    for t in history(roots):
        if t.op is None:
            continue
        args = tuple(new.get(a, a) if isinstance(a, Tensor) else a for a in t.args)
        if t.op.definition is not None and (t.op.name in words or t.name in words):
            check_unchanged(t)
            replaced.add(t.op.name)
            new[t] = _defined(t, args)
        elif any(a is not b for a, b in zip(args, t.args, strict=True)):
            new[t] = _copy(t, args)
    return [new.get(root, root) for root in roots] if new else None


def _defined(t: Tensor, args: tuple[object, ...]) -> Tensor:
    """Compute the definition of a fused op, recorded under its name."""
    assert t.op is not None
    assert t.op.definition is not None
    before = MODE.get()
    try:
        MODE.set(before._replace(grad=True, scope=(*t.scope, t.op.name), watch=None))
        y: Tensor = t.op.definition(*args, **t.kwargs)
    finally:
        MODE.set(before)
    if not any(y is a for a in args):
        y.name, y.hooks = t.name, t.hooks
    for made in history([y]):
        if made.order > t.order and made.note is None:
            made.note = t.note
    return y


def _copy(t: Tensor, args: tuple[object, ...]) -> Tensor:
    """Return a tensor made by the same op of other arguments, which have the same values."""
    copy = wrap(t.data)
    for slot in ("requires_grad", "op", "kwargs", "raw", "out", "need", "scope", "hooks", "note", "name"):
        setattr(copy, slot, getattr(t, slot))
    copy.args, copy.residual = args, []
    return copy
