"""Is a gradient right? Every entry of it beside differences of the function, at any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..derivatives import grad
from ..mode import enable_grad
from ..nn.module import Module
from ..random import get_state, set_state
from ..tensor import Array, Tensor
from .differences import Evaluate, careful, slopes
from .gradcheck_report import GradcheckError, GradcheckReport, GradcheckRow


class _Options(NamedTuple):
    eps: float
    atol: float
    rtol: float


def gradcheck(
    f: Callable[..., Any], inputs: Any = (), *, eps: float = 1e-6, atol: float = 1e-12, rtol: float = 1e-6,
    order: int = 1, raise_exception: bool = True, seed: int = 0,
) -> GradcheckReport:  # fmt: skip
    """Compare the gradient of `f` with differences of `f`, entry by entry, in float64.

    For each output y, Σ y·c with random c is differentiated by the backward pass, and by (f(x + ε) − f(x − ε)) / 2ε in
    every entry of every input. Where the two disagree, better differences decide (see `differences.py`), so that a
    large f raises no false alarm. A rule that is wrong by a ten-thousandth is found.

    Parameters
    ----------
    f : callable or nn.Module
        Takes the inputs as Tensors and returns a Tensor or several, of any shape. The parameters of a module are
        checked too: they are float64 copies meanwhile, and come back as they were.
    inputs : Tensor, array, list of numbers, or several of these in a tuple (or list)
        Where to check. Copied to float64; the originals are neither changed nor recorded. A module may also be
        given integers or bools, such as tokens, which have no gradient.
    eps : float
        The step, times max(1, |x|).
    atol, rtol : float
        An entry is right if |analytic − numeric| ≤ atol + rtol·max(|analytic|, |numeric|) + the uncertainty of numeric.
    order : int
        2 checks the derivative of the gradient with respect to the inputs and to c too, recorded with
        `create_graph=True`; 3 the next. An order is checked if those below are right.
    raise_exception : bool
        Whether to raise if something is wrong, or only to return the report, which is then false.
    seed : int
        Of the random c. The generator of `sm.manual_seed` is left as it was.

    Returns
    -------
    GradcheckReport
        With `rows`, one per output and input, and `failures`. It prints as a table.

    Raises
    ------
    GradcheckError
        An AssertionError with the rows that are wrong, and `.report`.
    TypeError
        For integer inputs, and for an f that returns anything but Tensors of float64.
    ValueError
        If f is not deterministic (dropout), gives NaN or infinity, or nothing is there to check; for bad options.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> bool(sm.gradcheck(lambda z: sm.softmax(z), [1.0, 2.0, 3.0], order=2))
    True
    >>> wrong = sm.Op(lambda x: x**3, (lambda g, y, x: g * 2 * x**2,), name="wrong_cube")
    >>> report = sm.gradcheck(wrong, [2.0], raise_exception=False)
    >>> bool(report), round(report.failures[0].analytic / report.failures[0].numeric, 6)
    (False, 0.666667)
    >>> del sm.op.REGISTRY["wrong_cube"]
    """
    options = _Options(eps, atol, rtol)
    if not callable(f):
        raise TypeError(f"gradcheck: the first argument is the function to check, not {type(f).__name__}")
    if not (1e-12 <= eps <= 0.1 and atol >= 0 and rtol >= 0):
        raise ValueError(f"gradcheck: eps must be in [1e-12, 0.1], atol and rtol 0 or more; not {eps}, {atol}, {rtol}")
    check_order(order, seed, "gradcheck")
    name = getattr(f, "__name__", type(f).__name__)
    generator = get_state()
    try:
        with enable_grad(), np.errstate(all="ignore"), _in_float64(f) as parameters:
            args = _arguments(f, inputs, parameters)
            leaves = {a.name or "": a for a in args if isinstance(a, Tensor) and a.requires_grad} | parameters
            if not leaves:
                raise ValueError("gradcheck: there is nothing to check: no float input and no parameter")
            names, tensors = list(leaves), list(leaves.values())
            report = GradcheckReport(name, tuple(_orders(lambda: _outputs(f(*args)), names, tensors, order, options,
                                                         np.random.default_rng(seed))))  # fmt: skip
    finally:
        set_state(generator)
    if raise_exception and not report:
        raise GradcheckError(report)
    return report


def check_order(order: Any, seed: Any, caller: str) -> None:
    """Refuse an order or a seed that is not a number to count with."""
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueError(f"{caller}: order must be 1, 2, ..., not {order!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"{caller}: seed must be 0, 1, 2, ..., not {seed!r}")


# -- what is checked -------------------------------------------------------------------------


@contextmanager
def _in_float64(f: Any) -> Iterator[dict[str, Tensor]]:
    """Give a module float64 copies of its parameters, without hooks; yield those that want a gradient, by path."""
    kept = [(p, p.data, p.hooks) for p in f.parameters()] if isinstance(f, Module) else []
    try:
        for p, data, _ in kept:
            p.data, p.hooks = data.astype(np.float64) if data.dtype.kind == "f" else data, None
        yield {path: p for path, p in f.named_parameters() if p.requires_grad} if isinstance(f, Module) else {}
    finally:
        for p, data, hooks in kept:
            p.data, p.hooks = data, hooks


def _arguments(f: Any, inputs: Any, parameters: dict[str, Tensor]) -> list[Any]:
    """Return the arguments of f: fresh float64 leaves, and integers as they are for a module."""
    several = isinstance(inputs, tuple) or (
        isinstance(inputs, list) and any(isinstance(x, (Tensor, np.ndarray)) for x in inputs)
    )
    args: list[Any] = []
    for i, x in enumerate(inputs if several else (inputs,)):
        array = x.data if isinstance(x, Tensor) else np.asarray(x)
        if array.dtype.kind == "f":
            if not np.isfinite(array).all():
                where = np.argwhere(~np.isfinite(array))[0].tolist()
                raise ValueError(f"gradcheck: input {i} is {array[tuple(where)]} at {where}; choose finite numbers")
            name = getattr(x, "name", None)
            taken = {a.name for a in args if isinstance(a, Tensor)} | {*parameters, None}
            args.append(
                Tensor(array.astype(np.float64), requires_grad=True, name=f"input {i}" if name in taken else name)
            )
        elif isinstance(f, Module) and array.dtype.kind in "iub":
            args.append(x)
        else:
            raise TypeError(
                f"gradcheck: input {i} is of {array.dtype}, which has no gradient; pass floats (1.0 for 1), and what "
                "is fixed, such as indices or masks, inside f: lambda x: f(x, indices)"
            )
    return args


def _outputs(returned: Any) -> tuple[Tensor, ...]:
    """Return what f returned as a tuple of Tensors of float64, or say what is wrong with it."""
    outputs = tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
    for i, y in enumerate(outputs):
        if not isinstance(y, Tensor):
            raise TypeError(
                f"gradcheck: f must return a Tensor or several; output {i} is of {type(y).__name__}, which carries no "
                "history: leave out .data, .item(), .numpy() and np.asarray"
            )
        if y.dtype.kind != "f":
            raise TypeError(f"gradcheck: output {i} is of {y.dtype}, which has no gradient; return the others only")
        if y.dtype != np.float64:
            raise TypeError(
                f"gradcheck: output {i} is of {y.dtype} although the inputs are float64: f computes in a narrower "
                "dtype (an .astype, or an op whose forward makes one), which is too coarse to check"
            )
    return outputs


def _check_repeatable(evaluate: Evaluate, names: list[str], leaves: list[Tensor]) -> None:
    """Refuse an f that changes its inputs, is not finite here, or gives another value when called again."""
    before = [x.data.copy() for x in leaves]
    first = [y.data for y in evaluate()]
    for name, x, array in zip(names, leaves, before, strict=True):
        if not np.array_equal(x.data, array, equal_nan=True):
            raise ValueError(
                f"gradcheck: f, or an op in it, writes into {name}: x = x + 1 makes a new array, x += 1 does not"
            )
    if not first:
        raise ValueError("gradcheck: f returns no output")
    for i, y in enumerate(first):
        if not np.isfinite(y).all():
            where = np.argwhere(~np.isfinite(y))[0].tolist()
            raise ValueError(f"gradcheck: output {i} is {y[tuple(where)]} at {where}; choose inputs where f is finite")
    for _ in range(2):
        again = [y.data for y in evaluate()]
        if [y.shape for y in again] != [y.shape for y in first]:
            raise ValueError("gradcheck: f returns other shapes when it is called again")
        for i, (a, b) in enumerate(zip(first, again, strict=True)):
            gap = float(np.abs(a - b).max(initial=0.0))
            if gap > 1e-10 * float(np.abs(a).max(initial=0.0)):
                raise ValueError(
                    f"gradcheck: f is not deterministic: called again with the same inputs, output {i} differs by "
                    f"{gap:.2g}. If it draws random numbers, such as dropout: call module.eval(), or start a generator "
                    "anew inside f (rng=np.random.default_rng(0))"
                )


# -- the comparison --------------------------------------------------------------------------


def _orders(
    evaluate: Evaluate, names: list[str], leaves: list[Tensor], order: int, options: _Options, rng: np.random.Generator
) -> Iterator[GradcheckRow]:
    """Yield the rows of order 1, 2, ..., each the first order of what the one below computed."""
    _check_repeatable(evaluate, names, leaves)
    raw = recorded = evaluate
    outputs = [f"output {i}" for i in range(len(evaluate()))]
    for level in range(1, order + 1):
        # No entry of c is nearly 0, which would hide an output.
        shapes = [y.shape for y in raw()]
        cotangents = [rng.uniform(0.5, 1.5, s) * rng.choice([-1.0, 1.0], s) for s in shapes]
        rows = list(_compare(raw, recorded, names, outputs, leaves, cotangents, level, options))
        yield from rows
        if not all(row.ok for row in rows):
            return
        seeds = [Tensor(c, requires_grad=True) for c in cotangents]
        raw, recorded = (_differentiated(recorded, leaves, seeds, on) for on in (False, True))
        cs = [f"c of {name}" for name in outputs]
        outputs, names, leaves = [f"∇ {name}" for name in names], [*names, *cs], [*leaves, *seeds]


def _differentiated(f: Evaluate, leaves: list[Tensor], seeds: list[Tensor], create_graph: bool) -> Evaluate:
    """Return the function that gives the gradients of Σ f·seeds with respect to the leaves."""
    return lambda: _pulled(f(), leaves, seeds, create_graph)


def _pulled(ys: Sequence[Tensor], leaves: list[Tensor], cs: Sequence[Any], create_graph: bool) -> list[Tensor]:
    """Return the gradients of Σ y·c, zeros where nothing depends on a leaf."""
    pairs = [(y, c) for y, c in zip(ys, cs, strict=True) if y.requires_grad]
    found: Sequence[Any] = [None] * len(leaves)
    if pairs:
        outputs, starts = zip(*pairs, strict=True)
        found = grad(outputs, leaves, starts, create_graph=create_graph, allow_unused=True)
    return [Tensor(np.zeros(x.shape)) if g is None else g for g, x in zip(found, leaves, strict=True)]


def _compare(
    raw: Evaluate, recorded: Evaluate, names: list[str], outputs: list[str], leaves: list[Tensor],
    cotangents: list[Array], level: int, options: _Options,
) -> Iterator[GradcheckRow]:  # fmt: skip
    """Yield a row for each output and leaf: gradients of what was recorded, differences of the raw function."""
    ys = recorded()
    analytic = [[g.data for g in _pulled([y], leaves, [c], False)] for y, c in zip(ys, cotangents, strict=True)]
    for i, leaf in enumerate(leaves):
        columns = [slopes(raw, leaf, index, options.eps, cotangents) for index in np.ndindex(*leaf.shape)]
        for k, c in enumerate(cotangents):
            numeric = np.array([column[k] for column in columns]).reshape(leaf.shape)
            found = _worst(raw, leaf, k, c, analytic[k][i], numeric, options)
            yield GradcheckRow(level, outputs[k], names[i], leaf.shape, *found)


def _worst(
    raw: Evaluate, leaf: Tensor, output: int, cotangent: Array, analytic: Array, numeric: Array, options: _Options
) -> tuple[Any, ...]:
    """Return the worst entry: its index, both values, tolerance, the largest entry, ok, and a note.

    Entries that disagree get careful differences, the worst first, until one is worst even so.
    """
    largest = float(np.abs(analytic).max(initial=0.0))
    if not leaf.size:
        return (), 0.0, 0.0, options.atol, largest, True, ""
    tolerance = np.asarray(options.atol + options.rtol * np.maximum(np.abs(analytic), np.abs(numeric)))
    seen: dict[tuple[int, ...], Any] = {}
    while True:
        error = np.abs(analytic - numeric)
        ratio = np.where(error == 0, 0.0, np.nan_to_num(error / tolerance, nan=np.inf, posinf=np.inf))
        index = tuple(int(j) for j in np.unravel_index(int(ratio.argmax()), leaf.shape))
        if ratio[index] <= 1 or index in seen:
            break
        estimate = seen[index] = careful(raw, leaf, index, options.eps, output, cotangent)
        numeric[index] = estimate.value
        tolerance[index] = estimate.uncertainty + options.atol
        tolerance[index] += options.rtol * max(abs(analytic[index]), abs(estimate.value))
    a, n = float(analytic[index]), float(numeric[index])
    ok = bool(ratio[index] <= 1)
    note = "" if ok else _explained(a, n, not analytic.any(), seen[index].left, seen[index].right)
    if ok and tolerance[index] > 1e-5 * largest > 0:
        note = (
            f"errors below {tolerance[index]:.1g} cannot be seen here: f is large beside its slope, or that is small "
            "beside atol; scale f, or pass a smaller atol"
        )
    return index, a, n, float(tolerance[index]), max(largest, abs(n)), ok, note


def _explained(analytic: float, numeric: float, unreached: bool, left: float, right: float) -> str:
    """Say what may have gone wrong at the worst entry."""
    if np.isnan(analytic):
        return "the gradient is NaN where f is finite"
    if np.isnan(numeric):
        return (
            "f is not finite one step away, so this is the edge of where it is defined: move it, or pass a smaller eps"
        )
    if abs(left - right) > 0.01 * max(abs(left), abs(right)):
        return (
            f"a kink at this point? From the left the slope is {left:.6g}, from the right {right:.6g}; if f is smooth "
            "here, pass a smaller eps"
        )
    if unreached:
        return (
            "the gradient does not reach this input: does f, or a rule, use .data, .detach() or np.asarray, or does a "
            "rule return None?"
        )
    return ""
