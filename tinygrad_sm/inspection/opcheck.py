"""Is every registered op right? The check that `sm.ops.check()` and `tinygrad-sm check` run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from ..derivatives import grad
from ..mode import enable_grad
from ..op import REGISTRY, Op
from ..ops.sample import Sample
from ..tensor import Array, Tensor
from ..text import visible
from .gradcheck import check_order, gradcheck
from .gradcheck_report import RULE, table

HOW_TO_SAMPLE = (
    "give the op samples=[call((2, 3))], a random array of that shape (from tinygrad_sm.ops.sample import call)"
)


@dataclass(frozen=True)
class OpRow:
    """What the check of one op found.

    `status` is "ok", "FAILED", "skipped" (an extra is missing), "no samples" or "no gradient" (piecewise constant);
    `error` is the worst error of a gradient beside differences, as a share of its largest entry; `note` says more.
    """

    name: str
    formula: str
    samples: int
    error: float
    status: str
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the row as text; the formula last, since its letters may be wider than they count."""
        error = f"{self.error:.1e}" if self.status == "ok" else "-"
        return self.name, str(self.samples), error, self.status, self.formula


@dataclass(frozen=True, repr=False)
class OpsReport:
    """What `check` found: a row per op. It is true if some were checked and none failed, and prints as a table.

    >>> import tinygrad_sm as sm
    >>> report = sm.ops.check("exp")
    >>> bool(report), report.failures
    (True, ())
    """

    rows: tuple[OpRow, ...]

    @property
    def failures(self) -> tuple[OpRow, ...]:
        """The rows of the ops that failed."""
        return tuple(row for row in self.rows if row.status == "FAILED")

    def __bool__(self) -> bool:
        return not self.failures and any(row.status in ("ok", "skipped") for row in self.rows)

    def __repr__(self) -> str:
        found = [row.status for row in self.rows]
        counts = ", ".join(f"{found.count(status)} {status}" for status in dict.fromkeys(found))
        notes = [visible(f"\n{row.name}: {row.note}", keep="\n") for row in self.rows if row.note]
        head = table(("op", "samples", "worst error", "result", "formula"), self.rows)
        return "\n".join([head, *notes, f"\n{len(self.rows)} ops: {counts}"])


def check_ops(names: Any = None, *, order: int = 2, seed: int = 0) -> OpsReport:
    """Do what `sm.ops.check` says."""
    check_order(order, seed, "check")
    return OpsReport(tuple(_row(op, order, seed) for op in _chosen(names)))


def _chosen(names: Any) -> list[Op]:
    """Return the ops of these names, or all that have a gradient."""
    if names is None:
        return [op for op in REGISTRY.values() if op.vjp is not None]
    chosen = []
    for name in [names] if isinstance(names, (str, Op)) or not isinstance(names, Iterable) else names:
        op = name if isinstance(name, Op) else REGISTRY.get(name)
        if op is None:
            near = get_close_matches(str(name), REGISTRY, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "sm.op.REGISTRY lists all"
            raise ValueError(f"check: there is no op {name!r}; {hint}")
        chosen.append(op)
    return chosen


def _row(op: Op, order: int, seed: int) -> OpRow:
    """Check one op on all its samples, up to the first that fails."""

    def row(status: str, note: str = "", error: float = 0.0) -> OpRow:
        return OpRow(op.name, op.formula, len(op.samples), error, status, note)

    if op.vjp is None:
        return row("no gradient")
    if not op.samples:
        return row("no samples", f"nothing was checked; {HOW_TO_SAMPLE}")
    errors = []
    for number, sample in enumerate(op.samples):
        try:
            errors.append(_check(op, sample, order, seed))
        except ImportError as error:
            return row("skipped", str(error))
        except AssertionError as error:
            return row("FAILED", f"sample {number}, {_shown(sample)}: {str(error).removesuffix(RULE).rstrip()}")
        except Exception as error:  # a rule may raise anything, and the other ops are to be checked nevertheless
            return row("FAILED", f"sample {number}, {_shown(sample)}: {type(error).__name__}: {error}")
    return row("ok", error=max(errors))


def _shown(sample: Sample) -> str:
    shapes = [str(a) if type(a) is tuple else f"{type(a).__name__}" for a in sample.args]
    return f"call({', '.join([*shapes, *(f'{k}={v!r}'[:60] for k, v in sample.kwargs.items())])})"


def _check(op: Op, sample: Sample, order: int, seed: int) -> float:
    """Raise an AssertionError if anything is wrong with the op on this sample; return the worst error."""
    args = sample.draw(op.domain, seed)
    wanted = sample.wanted

    def on(f: Any, values: Any) -> Any:
        given = dict(zip(wanted, values, strict=True))
        return f(*(given.get(i, a) for i, a in enumerate(args)), **sample.kwargs)

    points = [_locked(np.array(args[i], np.float64)) for i in wanted]

    def f(*xs: Any) -> Any:
        return on(op, xs)

    f.__name__ = op.name
    named = tuple(Tensor(a, name=f"argument {i}") for i, a in zip(wanted, points, strict=True))
    with enable_grad():
        leaves = [Tensor(a, requires_grad=True) for a in points]
        y = on(op, leaves)
        c = _locked(np.array(np.random.default_rng(seed).normal(size=y.shape)))
        _agree(y, on(op, points), "the value on Tensors", "on arrays", 0)
        if op.definition is not None:
            _agree(y, on(op.definition, leaves), "the value", "of the definition", 1e-11)
        raw = grad(y, leaves, c, allow_unused=True)
    report = gradcheck(f, named, order=order, seed=seed)
    with enable_grad():
        recorded = grad(y, leaves, c, create_graph=True, allow_unused=True)  # of a fused op: through its definition
        other = "recorded" if op.definition is None else "of the definition"
        for i, g, h in zip(wanted, raw, recorded, strict=True):
            _agree(g, h, f"the gradient of argument {i}", other, 1e-9)
        single = on(op, [Tensor(a.astype(np.float32), requires_grad=True) for a in points])
    if single.dtype != np.float32 and "dtype" not in sample.kwargs:
        raise AssertionError(
            f"float32 arguments give {single.dtype}; the forward must keep the dtype. np.log(2) is of float64 and "
            "np.arange(3) of int64, which widen float32: write float(np.log(2)), np.arange(3, dtype=x.dtype)"
        )
    _agree(single, y, "the value in float32", "in float64", 1e-3)
    return report.error


def _locked(array: Array) -> Array:
    """Return the array, closed to writing: no forward and no rule changes what it is given."""
    array.flags.writeable = False
    return array


def _agree(a: Any, b: Any, what: str, other: str, tolerance: float) -> None:
    """Raise an AssertionError if two arrays differ by more than a share of their largest entry."""
    a, b = (np.zeros(()) if t is None else np.asarray(t) for t in (a, b))
    if a.shape != b.shape and a.ndim and b.ndim:
        raise AssertionError(f"{what} has shape {a.shape}, that {other} {b.shape}")
    a, b = np.broadcast_arrays(a, b)
    gap = np.abs(a - b)
    if not (gap <= tolerance * max(1e-3, np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))).all():
        where = tuple(int(i) for i in np.unravel_index(int(np.nan_to_num(gap, nan=np.inf).argmax()), gap.shape))
        place = f" at {list(where)}" if where else ""
        raise AssertionError(f"{what} is {a[where]:.9g}{place}, but {b[where]:.9g} {other}")
