"""Showing what stands behind a fused op: its definition, in its place in the graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..checks import check_unchanged
from ..graph import history, variables
from ..mode import Call, within
from ..tensor import Tensor, wrap


def with_definitions(roots: Sequence[Tensor], words: Collection[str]) -> tuple[list[Tensor], set[str], set[str]]:
    """Return tensors like `roots` with the history in which fused ops are replaced; the ops that were; the words used.

    Replaced are those whose op, own name or variable is among the `words`, also inside the definitions of others. The
    simple ops of a definition stand in a scope with the name of the op, and at its place in the order of creation.
    Nothing that exists is changed: what comes after a replaced tensor is copied, with the arrays that it has.

    >>> import numpy as np, tinygrad_sm as sm
    >>> z = sm.Tensor([[1.0, 2.0]], requires_grad=True)
    >>> (loss,), ops, words = with_definitions([sm.cross_entropy(z, np.array([0]))], ["cross_entropy"])
    >>> loss.op.name, loss.args[0].op.name, ops
    ('nll_loss', 'log_softmax', {'cross_entropy'})
    """
    ops: set[str] = set()
    used: set[str] = set()
    found: list[Tensor] | None = list(roots)
    while found is not None:
        roots = found
        found = _replaced(roots, set(words), ops, used)
    return list(roots), ops, used


def _replaced(roots: Sequence[Tensor], words: set[str], ops: set[str], used: set[str]) -> list[Tensor] | None:
    """Do it once, without looking into the definitions; return None if there is nothing to replace."""
    new: dict[Tensor, Tensor] = {}
    tensors, before = history(roots), -1.0
    names = variables(tensors)
    for t in tensors:
        if t.op is not None:
            args = tuple(new.get(a, a) if isinstance(a, Tensor) else a for a in t.args)
            meant = words & {t.op.name, str(t.name), names.get(id(t), t.op.name)}
            if t.op.definition is not None and meant:
                check_unchanged(t)
                ops.add(t.op.name)
                used |= meant
                new[t] = _defined(t, args, before)
            elif any(a is not b for a, b in zip(args, t.args, strict=True)):
                new[t] = _copy(t, args)
        before = t.order
    return [new.get(root, root) for root in roots] if new else None


def _defined(t: Tensor, args: tuple[Any, ...], before: float) -> Tensor:
    """Compute the definition of a fused op, recorded under its name, at its place: between `before` and `t`."""
    assert t.op is not None
    assert t.op.definition is not None
    start = wrap(np.zeros(())).order
    with within(grad=True, scope=(*t.scope, Call(t.op.name)), watch=None):
        y: Tensor = t.op.definition(*args, **t.kwargs)
    made = [m for m in history([y], start) if m.order > start]  # none, if the definition returns an argument
    for i, m in enumerate(made, 1):
        m.order = before + (t.order - before) * i / len(made)  # type: ignore[assignment]  # a fraction sorts as well
        m.note = t.note if m.note is None else m.note
    if made:
        y.name, y.hooks = t.name, t.hooks
    return y


def _copy(t: Tensor, args: tuple[Any, ...]) -> Tensor:
    """Return a tensor made by the same op of other arguments, which have the same values."""
    copy = wrap(t.data)
    for slot in ("requires_grad", "op", "kwargs", "raw", "out", "need", "scope", "hooks", "note", "name", "order"):
        setattr(copy, slot, getattr(t, slot))
    copy.args, copy.residual = args, []
    return copy
