"""Saying in a few words how an op was called: "mul 2", "axis=1", and what variable got the result."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from typing import Any

import numpy as np

from .op import Op
from .tensor import Tensor


@cache
def signature(op: Op) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the names of the positional arguments of an op, and its defaults; nothing for NumPy's ufuncs."""
    try:
        parameters = [] if isinstance(op.forward, np.ufunc) else inspect.signature(op.forward).parameters.values()
    except (TypeError, ValueError):
        parameters = []
    names = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    return names, {p.name: p.default for p in parameters if p.default is not p.empty}


def op_label(t: Tensor) -> str:
    """Return the name of the op with the numbers among its arguments: "mul 2" is x·2, and "2 div" is 2 / x."""
    assert t.op is not None
    before: list[str] = []
    after: list[str] = []
    seen = False
    for a in t.args:
        if isinstance(a, (Tensor, np.ndarray)):
            seen = True
        elif a is not None:
            (after if seen else before).append(brief(a))
    return " ".join([*before, t.op.name, *after])


def op_options(t: Tensor) -> str:
    """Return the keyword arguments of an op that are not at their defaults: "axis=0, keepdims=True"."""
    assert t.op is not None
    if not t.kwargs:
        return ""
    defaults = signature(t.op)[1]
    plain = (bool, int, float, str, type(None))
    known = {k for k, v in t.kwargs.items() if isinstance(v, plain) and k in defaults and v == defaults[k]} | {"shape"}
    return ", ".join(f"{k}={brief(v)}" for k, v in t.kwargs.items() if k not in known)


def brief(value: Any, depth: int = 2) -> str:
    """Write an argument in a few characters; arrays by dtype and shape, long sequences by their beginning.

    >>> brief((0, slice(None, 3), np.zeros((4, 5)), 0.123456))
    '(0, :3, float64(4, 5), 0.1235)'
    """
    if isinstance(value, (np.ndarray, Tensor)):
        return f"{value.dtype}{value.shape}"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    if isinstance(value, str):
        return value if len(value) <= 24 else value[:21] + "..."
    if isinstance(value, slice):
        ends = [value.start, value.stop] + [value.step] * (value.step is not None)
        return ":".join("" if end is None else brief(end, 0) for end in ends)
    if isinstance(value, (tuple, list)):
        shown = [brief(item, depth - 1) for item in value[:6]] if depth else []
        text = ", ".join(shown + ["..."] * (len(shown) < len(value)))
        return f"({text}{',' if len(value) == 1 else ''})" if isinstance(value, tuple) else f"[{text}]"
    if isinstance(value, (bool, int, np.integer, np.bool_, type(None), np.dtype)):
        return str(value)
    return "..." if value is Ellipsis else getattr(value, "__name__", type(value).__name__)


def assigned(line: str) -> str | None:
    """Return the one variable that a line of Python assigns, or None.

    >>> assigned("self.logits = x @ w"), assigned("p: Tensor = z.exp()"), assigned("h = f("), assigned("y //= 2")
    ('logits', 'p', 'h', 'y')
    >>> assigned("a, b = x"), assigned("f(x == y)"), assigned("else: y = x"), assigned("a = x; b = a")
    (None, None, None, None)
    """
    try:
        statements = ast.parse(line).body
    except (SyntaxError, ValueError):  # the first line of several
        match = re.match(r"(?:[^\W\d]\w*\.)*([^\W\d]\w*) = ", line)
        return match[1] if match else None
    if len(statements) != 1 or not isinstance(statements[0], (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        return None
    targets = getattr(statements[0], "targets", None) or [statements[0].target]  # type: ignore[union-attr]
    name = getattr(targets[0], "id", None) or getattr(targets[0], "attr", None)
    return name if len(targets) == 1 else None
