"""Op: a function on arrays with its gradient rule beside it, and the recording of what was called.

An op called on arrays computes and returns an array. Called on Tensors it returns a Tensor and, if a
gradient may be asked for, records how that Tensor was made. So a rule written once, as plain NumPy
text, runs *raw* on arrays (fast, the default) and *recorded* on Tensors (`create_graph=True`), which
gives derivatives of any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from .tensor import FUNCTIONS, UFUNCS, Array, Tensor, wrap

REGISTRY: dict[str, Op] = {}


class Mode(NamedTuple):
    """What holds for the ops called in this context (thread or task): are they recorded, and where."""

    grad: bool = True
    scope: tuple[str, ...] = ()


MODE: ContextVar[Mode] = ContextVar("tinygrad_sm_mode", default=Mode())  # noqa: B039 (a NamedTuple is immutable)


@contextmanager
def _grad_mode(on: bool) -> Iterator[None]:
    token = MODE.set(MODE.get()._replace(grad=on))
    try:
        yield
    finally:
        MODE.reset(token)


def no_grad() -> Any:
    """Context manager and decorator: record nothing inside, so that no memory is kept for gradients.

    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor([1.0], requires_grad=True)
    >>> with sm.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    return _grad_mode(False)


def enable_grad() -> Any:
    """Context manager and decorator: record again, inside a `no_grad` block."""
    return _grad_mode(True)


Rule = Callable[..., Any]


class Op:
    """A differentiable function.

    `forward(*arrays, **kwargs)` returns an array; that of a fused op `(array, residual)`.

    `vjp` says how a cotangent `g`, the gradient of the loss with respect to the output `y`, goes back:

    - a tuple has one rule `(g, y, *args, **kwargs) -> gradient` per argument, in text that is true for
      arrays and for Tensors: operators, NumPy's functions, ops;
    - one callable `(g, y, residual, *args, **kwargs)` returns the gradients of all arguments;
    - None: the output is piecewise constant and carries no gradient (comparisons, `sign`).

    `definition`, which makes an op *fused*, is the same function composed of simple ops: it is what
    `create_graph=True` differentiates and what tests compare with, so that `vjp` runs on arrays only and may
    overwrite the residual. `formula`, `gradient` and `latex` (both as LaTeX) serve pictures and documents;
    `samples`, with arrays drawn from `domain`, serve tests; `numpy` lists the NumPy functions that this op
    stands for when they are called on Tensors. An op of one's own takes a few lines:

    >>> import tinygrad_sm as sm
    >>> cube = sm.Op(lambda x: x**3, (lambda g, y, x: g * 3 * x**2,), name="cube", formula="x³", gradient="g·3x²")
    >>> x = sm.Tensor([1.0, 2.0], requires_grad=True)
    >>> cube(x).sum().backward()
    >>> x.grad
    Tensor([ 3., 12.])
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        vjp: tuple[Rule, ...] | Rule | None,
        *,
        name: str = "",
        definition: Callable[..., Any] | None = None,
        formula: str = "",
        gradient: str = "",
        latex: tuple[str, str] = ("", ""),
        samples: Sequence[Any] = (),
        domain: tuple[float, float] = (-2.0, 2.0),
        numpy: Sequence[Any] = (),
    ) -> None:
        self.forward, self.vjp, self.definition = forward, vjp, definition
        self.name = name or forward.__name__.strip("_")
        self.formula, self.gradient, self.latex = formula, gradient, latex
        self.samples, self.domain = samples, domain
        self.__name__ = self.name
        self.__doc__ = forward.__doc__ if not isinstance(forward, np.ufunc) and forward.__doc__ else (
            f"{self.name}: {formula}\n\nBackward: {gradient or 'none, the output is piecewise constant'}.\n"
        )
        REGISTRY[self.name] = self
        for function in numpy:
            if isinstance(function, np.ufunc):
                UFUNCS[function] = self
            else:
                FUNCTIONS[function] = self

    def __repr__(self) -> str:
        return f"<op {self.name}: {self.formula}>"

    def __reduce__(self) -> Any:
        return REGISTRY.__getitem__, (self.name,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 (the class says it)
        raw, need, boxed = [], [], False
        for a in args:
            if isinstance(a, Tensor):
                boxed = True
                raw.append(a.data)
                need.append(a.requires_grad)
            else:
                raw.append(a)
                need.append(False)
        try:
            out = self.forward(*raw, **kwargs)
        except (ValueError, TypeError, IndexError) as error:
            raise _named(error, self.name, raw) from error
        residual = []
        if self.definition is not None:
            out, *residual = out
        if not boxed:
            return out
        tensor = wrap(out)
        if self.vjp is not None and True in need and (mode := MODE.get()).grad:
            tensor.requires_grad, tensor.op, tensor.args, tensor.raw = True, self, args, raw
            tensor.need, tensor.kwargs, tensor.residual, tensor.scope = need, kwargs, residual, mode.scope
        return tensor

    def pull(self, t: Tensor, g: Array, need: list[bool], consume: bool) -> Sequence[Any]:
        """Return the gradients of the arguments of `t` for the cotangent `g`, all on arrays."""
        assert self.vjp is not None
        if isinstance(self.vjp, tuple):
            rules = zip(self.vjp, need, strict=False)  # trailing arguments without a rule are constants
            return [rule(g, t.data, *t.raw, **t.kwargs) if n else None for rule, n in rules]
        residual = None
        if self.definition is not None:
            # The residual is moved to the one pass that consumes it, which may overwrite it. `pop` is
            # atomic, so that of two threads one gets it; later passes compute it again.
            with suppress(IndexError):
                residual = t.residual.pop() if consume else None
            if residual is None:
                residual = self.forward(*t.raw, **t.kwargs)[1]
        return self.vjp(g, t.data, residual, *t.raw, **t.kwargs)

    def pull_recorded(self, t: Tensor, g: Tensor, need: list[bool]) -> Sequence[Any]:
        """Do what `pull` does on Tensors, so that the result can be differentiated again."""
        assert self.vjp is not None
        for i, (a, seen) in enumerate(zip(t.args, t.raw, strict=True)):
            if isinstance(a, Tensor) and a.data is not seen:
                raise RuntimeError(
                    f"{self.name}: the .data of argument {i} was replaced after the forward pass, so a recorded "
                    "backward pass would mix old and new values. Run the forward pass again first"
                )
        with enable_grad():
            if isinstance(self.vjp, tuple):
                rules = zip(self.vjp, need, strict=False)
                return [rule(g, t, *t.args, **t.kwargs) if n else None for rule, n in rules]
            return self.vjp(g, t, None, *t.args, **t.kwargs)


def _named(error: Exception, name: str, raw: Sequence[Any]) -> Exception:
    """Return the error that NumPy raised, saying which op it was and what came in."""
    if str(error).startswith(name):
        return error
    seen = ", ".join(f"{a.dtype}{list(a.shape)}" if isinstance(a, np.ndarray) else repr(a)[:60] for a in raw)
    kind = next(k for k in (TypeError, IndexError, ValueError) if isinstance(error, k))
    return kind(f"{name}({seen}): {error}")
