"""What the engine refuses, and how it says so: the function, the shapes or values at fault, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .tensor import Tensor


def named(error: Exception, name: str, raw: Sequence[Any]) -> Exception:
    """Return the error that NumPy or Python raised, saying which op it was and what came in."""
    text = re.sub(r"\S*<lambda>\(\)", f"{name}()", str(error)).removeprefix(f"{name}: ")
    seen = ", ".join(f"{a.dtype}{list(a.shape)}" if isinstance(a, np.ndarray) else repr(a)[:60] for a in raw)
    kind = next(k for k in (TypeError, IndexError, ValueError) if isinstance(error, k))
    if "read-only" in text:  # as gradients are that an op of this engine only looks at
        text += "; an op writes into none of g, y and its arguments: g = g * 2 makes a new array, g *= 2 does not"
    return kind(f"{name}({seen}): {text}")


def named_rule(error: Exception, t: Tensor) -> Exception:
    """Return the error that a rule of `t`'s op raised; of one that could not even be called, with what rules get."""
    assert t.op is not None
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    called = frame is not None and frame.tb_frame.f_code is not type(t.op).pull.__code__
    if not called and re.search(r"(positional|keyword) argument", str(error)):
        count = f"{len(t.args)} argument{'s' if len(t.args) > 1 else ''}"
        count += "".join(f", {name}=" for name in t.kwargs)
        if isinstance(t.op.vjp, tuple):
            error = TypeError(f"{error}; a rule is called with g, y and the op's {count}")
        else:
            error = TypeError(
                f"{error}; one rule for all is called with g, y, the residual and the op's {count}; rules for one "
                "argument each stand in a tuple, as (rule,)"
            )
    return named(error, f"the gradient of {t.op.name}", t.raw)


def check_start(output: Any, gradient: Any, caller: str) -> None:
    """Refuse to start a backward pass from what has no history, or with a gradient that does not fit."""
    if not isinstance(output, Tensor):
        raise TypeError(f"{caller} differentiates Tensors, not {type(output).__name__}")
    if not output.requires_grad:
        why = output.note or "no leaf has requires_grad=True, or detach(), .data or sm.no_grad() cut the history"
        raise ValueError(f"{caller}: nothing in this tensor's history requires a gradient: {why}")
    if gradient is None:
        if output.size != 1:
            raise ValueError(
                f"{caller}: only a scalar has one gradient, not shape {output.shape}; use .sum() or .mean() first, or "
                "pass the gradient to start from"
            )
    elif np.shape(gradient) != output.shape:
        raise ValueError(f"{caller}: the gradient given has shape {np.shape(gradient)}, the tensor {output.shape}")
    elif np.asarray(gradient).dtype.kind not in "fiub":
        raise TypeError(f"{caller}: the gradient given is of {np.asarray(gradient).dtype}; it must hold real numbers")


def check_no_more(other: dict[str, Any], caller: str) -> None:
    """Refuse options that there are not, as PyTorch's retain_graph."""
    for name in other:
        why = "; leave it out: a graph lives as long as its loss" if name == "retain_graph" else ""
        raise TypeError(f"{caller}: there is no argument {name!r}{why}")


def check_unchanged(t: Tensor) -> None:
    """Refuse a recorded pass, whose rules read Tensors, where some `.data` is no longer what the op saw."""
    seen = [(f"argument {i}", a, raw) for i, (a, raw) in enumerate(zip(t.args, t.raw, strict=True))]
    for what, a, array in [*seen, ("the result", t, t.out)]:
        if isinstance(a, Tensor) and a.data is not array:
            raise RuntimeError(f"{_name(t)}: the .data of {what} was replaced; run the forward pass again first")


def _name(t: Tensor) -> str:
    return t.op.name if t.op is not None else "leaf"


def check_pair(out: Any, name: str) -> Any:
    """Return what the forward of a fused op returned, if it is an output and a residual."""
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError(f"{name}: the forward of an op with a definition returns (output, residual)")
    return out


def check_output(out: Any, name: str) -> Any:
    """Return what a forward returned, if it is one array."""
    if out is None:
        raise TypeError(f"{name}: the forward returned None; it must return an array")
    if type(out) is tuple:
        raise TypeError(f"{name}: the forward returned a tuple; only that of an op with a definition has a residual")
    return out


def check_definition(y: Any, t: Tensor) -> Tensor:
    """Return what the definition of a fused op made, if a gradient can go through it."""
    if not isinstance(y, Tensor) or y.shape != t.shape:
        found = f"of shape {y.shape}" if isinstance(y, Tensor) else f"of type {type(y).__name__}"
        raise TypeError(
            f"the definition of {_name(t)} must make a Tensor of shape {t.shape}, as the forward does, of its "
            f"arguments by operators, NumPy's functions and ops; it returned something {found}"
        )
    return y


def check_shares(shares: Any, t: Tensor) -> Sequence[Any]:
    """Return what one rule for all arguments returned, if it is a gradient (or None) for each."""
    if not isinstance(shares, (tuple, list)) or len(shares) != len(t.args):
        found = len(shares) if isinstance(shares, (tuple, list)) else f"a {type(shares).__name__}"
        raise TypeError(f"the rule of {_name(t)} must return {len(t.args)} gradients in a tuple, not {found}")
    return shares


def check_share(share: Any, a: Tensor, t: Tensor) -> None:
    """Refuse a gradient that a rule returned for the argument `a` of `t`, if summing cannot bring it to its shape."""
    if a.dtype.kind != "f":
        raise TypeError(f"{_name(t)}: only floats have gradients; an argument of {a.dtype} has requires_grad=True")
    extra = share.ndim - a.ndim
    if extra >= 0 and share.shape[extra:] == a.shape:
        return
    if extra < 0 or any(n not in (1, m) for n, m in zip(a.shape, share.shape[extra:], strict=True)):
        raise RuntimeError(
            f"the rule of {_name(t)} returned a gradient of shape {share.shape} for shape {a.shape}; it must have "
            "this shape, or one to which that was broadcast. Where the op sums over an axis, the rule spreads g: "
            "np.expand_dims(g, axis) * np.ones(x.shape)"
        )


def check_op(op: Any, namesake: Any) -> None:
    """Refuse an op that is put together wrongly, or has the name of another module's: ops are found by name."""
    if not (op.vjp is None or callable(op.vjp) or isinstance(op.vjp, tuple)):
        raise TypeError(f"Op: vjp is a tuple of rules, (rule,), or one callable, not a {type(op.vjp).__name__}")
    if not isinstance(op.samples, (list, tuple)) or not all(hasattr(s, "draw") for s in op.samples):
        raise TypeError("Op: samples is a list of calls: samples=[call((2, 3))], with tinygrad_sm.ops.sample.call")
    for text in (op.name, op.formula, op.gradient):
        if not text.isprintable():
            raise ValueError(f"Op: {text!r} holds characters that cannot be printed; they would spoil messages")
    if op.name == "<lambda>":
        raise ValueError("Op: this function has no name to register; pass name=")
    if namesake is not None and namesake.home != op.home:
        raise ValueError(f"Op: the name {op.name!r} is taken, by an op of {namesake.home}; pass another name=")
