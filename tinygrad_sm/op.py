"""Op: a function on arrays with its gradient rule beside it, and the recording of what was called.

An op called on arrays computes and returns an array. Called on Tensors it returns a Tensor and, if a
gradient may be asked for, records how that Tensor was made. So a rule written once, as plain NumPy
text, runs *raw* on arrays (fast, the default) and *recorded* on Tensors (`create_graph=True`), which
gives derivatives of any order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .checks import check_op, check_output, check_pair, check_shares, named
from .mode import MODE
from .tensor import FUNCTIONS, UFUNCS, Tensor, as_array, wrap

REGISTRY: dict[str, Op] = {}
PLAIN = {np.ndarray, float, int}  # what most arguments are that are not Tensors


def registered(name: str) -> Op:
    """Return the op of this name."""
    return REGISTRY[name]


Rule = Callable[..., Any]


class Op:
    """A differentiable function.

    `forward(*arrays, **kwargs)` returns an array; that of a fused op `(array, residual)`.

    `vjp` says how a cotangent `g`, the gradient of the loss with respect to the output `y`, goes back:

    - a tuple has one rule `(g, y, *args, **kwargs) -> gradient` per argument, in text that is true for
      arrays and for Tensors: operators, NumPy's functions, ops;
    - one callable `(g, y, residual, *args, **kwargs)` returns the gradients of all arguments;
    - None: the output is piecewise constant and carries no gradient (comparisons, `sign`).

    `definition`, which makes an op *fused*, is the same function composed of simple ops: what `create_graph=True`
    differentiates and tests compare with, so that `vjp` runs on arrays only and may overwrite the residual.
    `name`, `formula`, `gradient` and `latex` (both) serve pictures and pages, `samples` from `domain` serve tests, and
    `numpy` lists the NumPy functions that this op stands for on Tensors. An op of one's own:

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
        vjp: tuple[Rule, ...] | Callable[..., Sequence[Any]] | None,
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
        self.name = name or getattr(forward, "__name__", "<lambda>").strip("_")
        self.formula, self.gradient, self.latex = formula, gradient, latex
        self.samples, self.domain = samples, domain
        self.__name__ = self.name
        self.__doc__ = f"{self.name}: {formula}\n\nBackward: {gradient or 'none, for it is piecewise constant'}.\n"
        self.home = sys._getframe(1).f_globals.get("__name__")  # the module that registers it
        check_op(self, REGISTRY.get(self.name))
        REGISTRY[self.name] = self
        for function in numpy:
            (UFUNCS if isinstance(function, np.ufunc) else FUNCTIONS)[function] = self

    def __repr__(self) -> str:
        return f"<op {self.name}: {self.formula}>"

    def __reduce__(self) -> Any:
        return registered, (self.name,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 (the class says it)
        raw, need, boxed = [], [], False
        for a in args:
            if isinstance(a, Tensor):
                boxed = True
                raw.append(a.data)
                need.append(a.requires_grad)
            elif type(a) in PLAIN:
                raw.append(a)
                need.append(False)
            elif isinstance(a, (list, tuple)):
                return self(*(as_array(b) if isinstance(b, (list, tuple)) else b for b in args), **kwargs)
            elif isinstance(a, np.float64) and any(isinstance(b, Tensor) for b in args):
                # x / np.sqrt(64): beside a Tensor such a scalar is meant as a number, and weak as Python's are.
                return self(*(float(b) if isinstance(b, np.float64) else b for b in args), **kwargs)
            else:
                raw.append(a)
                need.append(False)
        try:
            out = self.forward(*raw, **kwargs)
        except (ValueError, TypeError, IndexError) as error:
            raise named(error, self.name, raw) from error
        residual: Any = ()
        if self.definition is not None:
            out, *residual = check_pair(out, self.name)
        if not boxed or out is None or type(out) is tuple:
            return check_output(out, self.name)
        tensor, mode = wrap(out), MODE.get()
        if True in need and mode.grad and self.vjp is not None:
            tensor.requires_grad = True
            tensor.op = self
            tensor.args = args
            tensor.raw = raw
            tensor.need = need
            tensor.kwargs = kwargs
            tensor.residual = residual
            tensor.scope = mode.scope
            tensor.out = tensor.data
        elif True in need:
            tensor.note = "it was computed under sm.no_grad()" if self.vjp else f"{self.name} is piecewise constant"
        elif not mode.grad:  # of what follows there, too, it is known why it has no history
            tensor.note = next((a.note for a in args if isinstance(a, Tensor) and isinstance(a.note, str)), None)
        if mode.watch:
            mode.watch.made(tensor, self, args, kwargs)
        return tensor

    def pull(self, t: Tensor, g: Any, need: list[bool], consume: bool) -> Sequence[Any]:
        """Return the gradients of the arguments of `t` for the cotangent `g`: on arrays, or recorded on Tensors."""
        assert self.vjp is not None
        y, args, kwargs = (t, t.args, t.kwargs) if isinstance(g, Tensor) else (t.out, t.raw, t.kwargs)
        if isinstance(self.vjp, tuple):
            if len(need) > len(self.vjp) and True in need[len(self.vjp) :]:  # arguments without a rule are constants
                raise TypeError(f"{self.name} has {len(self.vjp)} rules, but a later argument requires a gradient")
            shares = []
            for rule, n in zip(self.vjp, need):  # noqa: B905 (quicker so, as is the plain loop)
                shares.append(rule(g, y, *args, **kwargs) if n else None)
            return shares
        residual = None
        if self.definition is not None:
            # The residual is moved to the one pass that consumes it, which may overwrite it. `pop` is
            # atomic, so that of two threads one gets it; later passes compute it again.
            try:
                residual = t.residual.pop() if consume else None
            except IndexError:
                residual = None
            if residual is None:
                residual = self.forward(*t.raw, **t.kwargs)[1]
        return check_shares(self.vjp(g, y, residual, *args, **kwargs), t)
