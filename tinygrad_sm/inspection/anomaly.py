"""`detect_anomaly`: stop at the first NaN or inf, and say where it began."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..mode import MODE
from ..op import Op
from ..tensor import Array, Tensor
from .watch import Note, Recorder, part, place, source_line, watched

TESTS: dict[str, Any] = {"NaN": np.isnan, "inf": np.isposinf, "-inf": np.isneginf}


class AnomalyError(FloatingPointError):
    """The first NaN or inf, under `detect_anomaly`.

    >>> import tinygrad_sm as sm
    >>> issubclass(sm.inspection.AnomalyError, FloatingPointError)
    True
    """


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Context manager: raise at the first NaN or inf, in a forward or a backward pass.

    The error names the op, its modules, the source line, the shapes and the offending values. An op is not blamed for
    what it was given: NaN or inf in a leaf is reported as such. −inf in an argument is no anomaly, since masks are made
    of it; an op that makes −inf of finite numbers is. NumPy's own warnings are off inside. `cross_entropy` refuses
    target probabilities that are negative or don't sum to 1. All that `record` does is done too. Only this thread is
    watched, and tasks started from it.

    Raises
    ------
    AnomalyError
        At the first NaN or inf. It is a FloatingPointError.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> p = sm.Tensor([0.5, 0.0], requires_grad=True, name="p")
    >>> with sm.detect_anomaly():
    ...     loss = -p.log().mean()
    Traceback (most recent call last):
    tinygrad_sm.inspection.anomaly.AnomalyError: log made -inf: 1 of 2 entries, the first at (1,)
      line: <doctest tinygrad_sm.inspection.anomaly.detect_anomaly[2]>:2: loss = -p.log().mean()
      argument 0 'p': float32[2], 0.0 at (1,)
      the result: float32[2], -inf at (1,)
    """
    with watched(Detector()), np.errstate(all="ignore"):
        yield


class Detector(Recorder):
    """What `detect_anomaly` does."""

    strict = True

    def made(self, t: Tensor, op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Refuse a NaN or inf in what `op` made, or was given."""
        super().made(t, op, args, kwargs)
        raw = [a.data if isinstance(a, Tensor) else a for a in args]

        def where() -> str:
            return place(Note(*source_line()), MODE.get().scope)

        for i, array in enumerate([*raw, *kwargs.values()]):
            if isinstance(array, np.ndarray) and (bad := _kinds(array) - {"-inf"}):
                leaf = i < len(args) and isinstance(args[i], Tensor) and args[i].op is None
                hint = ", a leaf: look at the data, or at the update before" if leaf else ""
                raise AnomalyError(
                    f"{op.name} was given {_counted(array, bad)}, in {part(args, kwargs, i)}{hint}{where()}"
                )
        made = _kinds(t.data)
        if bad := made.difference(*map(_kinds, (*raw, *kwargs.values()))) | made & {"NaN"}:
            seen = _parts(args, kwargs, [*raw, *kwargs.values(), t.data])
            raise AnomalyError(f"{op.name} made {_counted(t.data, bad)}{where()}{_shown(seen, t.data, bad)}")

    def pulled(self, t: Tensor, g: Any, shares: Sequence[Any]) -> None:
        """Refuse a NaN or inf in the gradient of `t`, or in what it gives its arguments."""
        super().pulled(t, g, shares)
        g = np.asarray(g)
        if bad := _kinds(g):
            raise AnomalyError(f"the gradient of {_named(t)}, {_shape(g)}, has {_counted(g, bad)}{_made_at(t)}")
        for i, share in enumerate(np.asarray(s) if s is not None else None for s in shares):
            if share is not None and (bad := _kinds(share).difference(*map(_kinds, t.raw))):
                seen = {"the gradient that came in": g}
                seen |= _parts(t.args, t.kwargs, [*t.raw, *t.kwargs.values(), t.out])
                raise AnomalyError(
                    f"the backward pass of {_named(t)} made {_counted(share, bad)}, for {part(t.args, t.kwargs, i)}"
                    f"{_made_at(t)}{_shown(seen, share, bad)}"
                )


def _named(t: Tensor) -> str:
    return f"{t.op.name if t.op else 'a leaf'}{f' {t.name!r}' if t.name else ''}"


def _made_at(t: Tensor) -> str:
    return place(t.note if isinstance(t.note, Note) else None, t.scope)


def _parts(args: Sequence[Any], kwargs: dict[str, Any], values: Sequence[Any]) -> dict[str, Any]:
    """Return what stands in a call by its name: all arguments, and options that are arrays."""
    shown = [i < len(args) or isinstance(value, np.ndarray) for i, value in enumerate(values)]
    return {part(args, kwargs, i): value for i, value in enumerate(values) if shown[i]}


def _kinds(x: Any) -> set[str]:
    """Return which of NaN, inf and -inf an array or a number holds."""
    x = np.asarray(x) if isinstance(x, (float, np.floating, np.ndarray)) else np.zeros(())
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return set()
    return {kind for kind, test in TESTS.items() if test(x).any()}


def _bad(x: Array, kinds: set[str]) -> Array:
    return np.logical_or.reduce([TESTS[kind](x) for kind in kinds])


def _counted(x: Array, kinds: set[str]) -> str:
    """Say how many entries are of these kinds, and where the first is: "NaN: 2 of 12 entries, the first at (0, 3)"."""
    bad = _bad(x, kinds)
    text = " and ".join(kind for kind in TESTS if kind in kinds)
    return f"{text}: {bad.sum()} of {x.size} entries, the first at {_first(bad)}" if x.ndim else text


def _first(bad: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def _shape(x: Array) -> str:
    return f"{x.dtype}{list(x.shape)}"


def _shown(parts: dict[str, Any], x: Array, kinds: set[str]) -> str:
    """Return a line for each array: dtype, shape, and its value where `x` first is of these kinds, or its range."""
    at, lines = _first(_bad(x, kinds)), []
    for name, a in parts.items():
        text = repr(a)[:60]
        if isinstance(a, np.ndarray):
            try:
                text = f"{_shape(a)}, {np.broadcast_to(a, x.shape)[at]!s}{f' at {at}' if at else ''}"
            except ValueError:  # of another shape
                text = f"{_shape(a)}, from {a.min()!s} to {a.max()!s}" if a.size else _shape(a)
        lines.append(f"\n  {name}: {text}")
    return "".join(lines)
