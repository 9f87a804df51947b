"""What the formulas of the registry mean: an evaluator on arrays for the terms of `inspection/formula.py`.

Names are looked up among the arguments of a sample call, the output y, the cotangent g, and the names that the
formula itself defines. `Σ` alone sums over the axes of the op, `Σₙ` over rows, `Σⱼ` over the last axis; with letters
i and j, `xᵢ` and `xⱼ` stand along two different axes, so that exchanging them is seen. `·` is the matrix product of
two matrices in an op whose formulas have a ᵀ, else elementwise, as `∘` always is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_sm import Op
from tinygrad_sm.inspection.formula import Term, clauses, names_in, parse
from tinygrad_sm.inspection.op_names import NO_GRADIENT, arguments_of
from tinygrad_sm.ops.sample import Sample

CONSTANTS = {"π": math.pi, "e": math.e}
RELATIONS = {"=": np.equal, "≠": np.not_equal, "<": np.less, ">": np.greater, "≤": np.less_equal, "≥": np.greater_equal}


class Scope(NamedTuple):
    """Where a formula is evaluated."""

    names: dict[str, Any]  # values, and terms that are evaluated when they are asked for
    axes: tuple[int, ...]  # what Σ alone, mean and var are taken over
    matrices: bool  # whether · is the matrix product
    indexed: bool  # whether the letters i and j stand along two axes
    one_hot: tuple[str, ...] = ()  # class indices that stand for one-hot rows, except in z[y]


def softmax(z: Any) -> Any:
    """Return softmax over the last axis; 0 for a row of −inf only, as attention has it."""
    with np.errstate(invalid="ignore"):
        e = np.exp(z - np.max(z, axis=-1, keepdims=True))
        return np.nan_to_num(e / e.sum(axis=-1, keepdims=True))


def _phi(x: Any) -> Any:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _normal(x: Any) -> Any:
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


CALLS: dict[str, Callable[..., Any]] = {
    "log": np.log, "exp": np.exp, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "sign": np.sign, "√": np.sqrt,
    "erf": np.vectorize(math.erf, otypes=[float]), "softmax": softmax, "σ": lambda x: 1 / (1 + np.exp(-x)),
    "Φ": _normal, "φ": _phi, "tril": np.tril, "triu": np.triu,
    "diag": np.diagflat,
}  # fmt: skip


def evaluate(term: Term, scope: Scope) -> Any:
    """Return the value of a term."""
    return globals()[f"_{KINDS[term[0]]}"](scope, *term[1:])


KINDS = {
    "num": "num", "name": "name", "grad": "grad", "neg": "neg", "+": "add", "−": "sub", "·": "mul",
    "∘": "elementwise", "": "mul", "/": "div", "^": "pow", "ᵀ": "transposed", "call": "call", "at": "at",
    "if": "iverson", "abs": "abs", "big": "big", "rel": "rel", "not": "no", "where": "where", "or 0": "or_0",
}  # fmt: skip


def _num(scope: Scope, text: str) -> float:
    return 0.5 if text == "½" else float(text)


def _name(scope: Scope, name: str, sub: str) -> Any:
    if name in CONSTANTS and name not in scope.names:
        return CONSTANTS[name]
    if name == "j" and name not in scope.names:  # [j = y]: the number of the class, along the last axis
        return np.arange(scope.names["classes"])
    value = scope.names[name]
    if isinstance(value, tuple) and name not in ("shape of x",):
        value = evaluate(value, scope._replace(indexed=False))
    value = np.asarray(value)
    if name in scope.one_hot:
        value = np.eye(scope.names["classes"])[value]
    if not scope.indexed or not value.ndim:
        return value
    return value[..., None, :] if sub == "ⱼ" else value[..., :, None]


def _grad(scope: Scope, name: str, sub: str) -> Any:
    return _name(scope, f"d{name}", sub)


def _neg(scope: Scope, a: Term) -> Any:
    return -evaluate(a, scope)


def _add(scope: Scope, a: Term, b: Term) -> Any:
    return evaluate(a, scope) + evaluate(b, scope)


def _sub(scope: Scope, a: Term, b: Term) -> Any:
    return evaluate(a, scope) - evaluate(b, scope)


def _mul(scope: Scope, a: Term, b: Term) -> Any:
    left, right = np.asarray(evaluate(a, scope)), np.asarray(evaluate(b, scope))
    return left @ right if scope.matrices and left.ndim > 1 and right.ndim > 1 else left * right


def _elementwise(scope: Scope, a: Term, b: Term) -> Any:
    return evaluate(a, scope) * evaluate(b, scope)


def _div(scope: Scope, a: Term, b: Term) -> Any:
    return evaluate(a, scope) / evaluate(b, scope)


def _pow(scope: Scope, a: Term, b: Term) -> Any:
    return evaluate(a, scope) ** evaluate(b, scope)


def _transposed(scope: Scope, a: Term) -> Any:
    value, order = evaluate(a, scope), scope.names.get("axes")
    return np.swapaxes(value, -1, -2) if order is None else np.transpose(value, np.argsort(order))  # the way back


def _call(scope: Scope, name: str, *arguments: Term) -> Any:
    values = [np.asarray(evaluate(a, scope)) for a in arguments]
    if name in ("mean", "var", "max", "min") and len(values) == 1:
        return getattr(np, name)(values[0], axis=scope.axes, keepdims=True)
    if name in ("max", "min"):
        return {"max": np.maximum, "min": np.minimum}[name](*values)
    if name in ("tril", "triu"):
        return CALLS[name](values[0], int(values[1]))
    if name == "flip":
        return np.flip(values[0], scope.axes)
    if name == "reshape":
        return values[0].reshape(scope.names["shape of x"])
    return CALLS[name](*values)


def _at(scope: Scope, a: Term, index: Term) -> Any:
    return evaluate(a, scope)[scope.names[index[1]]]


def _iverson(scope: Scope, condition: Term) -> Any:
    plain = scope._replace(one_hot=())
    if condition[0] == "rel" and condition[1] == ("name", "j", ""):
        target = np.asarray(scope.names[condition[3][1]])
        target = target if target.shape[-1:] == (1,) and target.ndim > 1 else target[..., None]  # a column already
        return RELATIONS[condition[2]](np.arange(scope.names["classes"]), target) * 1.0
    return np.asarray(evaluate(condition, plain)) * 1.0


def _abs(scope: Scope, a: Term) -> Any:
    return np.abs(evaluate(a, scope))


def _big(scope: Scope, sign: str, index: str, body: Term) -> Any:
    value = np.asarray(evaluate(body, scope))
    if scope.indexed:
        reduce = {"Σ": np.sum, "Π": np.prod}[sign]
        if len(index) == 3:  # Σⱼ≥ᵢ: among all j those beside which i stands so
            n = scope.names["classes"]
            i, j = np.arange(n)[:, None], np.arange(n)[None, :]
            letters = {"ᵢ": i, "ⱼ": j}
            keep = RELATIONS[index[1]](letters[index[0]], letters[index[2]])
            value = np.where(keep, value, 0.0 if sign == "Σ" else 1.0)
        return reduce(value, axis=-1, keepdims=True)
    if index == "ₙ":
        return value.sum(axis=tuple(range(value.ndim - 1)))
    axes = (-1,) if index else scope.axes
    return {"Σ": np.sum, "Π": np.prod}[sign](value, axis=axes, keepdims=True)


def _rel(scope: Scope, *parts: Any) -> Any:
    holds: Any = True
    for left, sign, right in zip(parts[::2], parts[1::2], parts[2::2], strict=False):
        values = [evaluate(side, scope) for side in (left, right)]
        if not any(v is None or v.dtype == object for v in map(np.asarray, values)):  # an open side holds
            holds = holds & RELATIONS[sign](*values)
    return holds


def _no(scope: Scope, a: Term) -> Any:
    return np.logical_not(evaluate(a, scope))


def _where(scope: Scope, value: Term, condition: Term, other: Term | None) -> Any:
    return np.where(evaluate(condition, scope), evaluate(value, scope), evaluate(other, scope) if other else 0.0)


def _or_0(scope: Scope, a: Term) -> Any:
    with np.errstate(invalid="ignore", divide="ignore"):
        value = evaluate(a, scope)
    return np.where(np.isfinite(value), value, 0.0)


# -- one op on one sample -----------------------------------------------------------------------


def summed_to(value: Any, shape: tuple[int, ...]) -> Any:
    """Undo broadcasting, as the engine does for every rule; and spread what a formula leaves smaller."""
    value = np.asarray(value, float)
    value = value if value.ndim >= len(shape) else np.broadcast_to(value, shape)
    extra = value.ndim - len(shape)
    stretched = [i + extra for i, n in enumerate(shape) if n == 1 and value.shape[i + extra] != 1]
    return np.broadcast_to(value.sum(axis=(*range(extra), *stretched)).reshape([
        n if value.shape[i + extra] != 1 else 1 for i, n in enumerate(shape)
    ]), shape)  # fmt: skip


def read(op: Op) -> list[tuple[str, Term]]:
    """Return the clauses of the gradient, parsed, and those of the formula that define a name which these use."""
    terms = [(name, parse(text)) for name, text in clauses(op.gradient)]
    for name, text in clauses(op.formula)[1:]:
        if name not in dict(terms) and any(name in names_in(term) for _, term in terms):
            terms.append((name, parse(text)))
    return terms


def gradients(op: Op, sample: Sample, args: list[Any], y: Any, g: Any, terms: list[tuple[str, Term]]) -> list[Any]:
    """Return the gradients of the arguments as the formula has them; None for those of which it has none."""
    layout = Layout.of(op, sample, args, y, g)
    defined = {name: term for name, term in terms if name}
    scope, plain = layout.scope(defined), iter(term for name, term in terms if not name)
    result: list[Any] = []
    for name, a in zip(arguments_of(op), args, strict=False):
        differs = name not in NO_GRADIENT.get(op.name, "")
        term = (defined.get(f"d{name}") or next(plain, None)) if differs else None
        floats = isinstance(a, np.ndarray) and a.dtype.kind == "f"
        if term is None or not floats:
            result.append(None)
        else:
            shape = np.shape(layout.names[name]) if op.name in ("matmul", *ROWS) else a.shape
            result.append(np.reshape(layout.restored(evaluate(term, scope), shape), a.shape))
    return result


ONE_HOT = {"cross_entropy": ("y",), "linear_cross_entropy": ("y",)}
ROWS = ("linear", "linear_cross_entropy")  # x (…, n) is a matrix (N, n) in their formulas


class Layout(NamedTuple):
    """How the arrays of a sample call stand in the formula, and how its result comes back."""

    names: dict[str, Any]
    axes: tuple[int, ...]
    matrices: bool
    indexed: bool
    moved: tuple[int, ...] | None  # axes that became the last one
    one_hot: tuple[str, ...]

    @classmethod
    def of(cls, op: Op, sample: Sample, args: list[Any], y: Any, g: Any) -> Layout:
        kwargs = sample.kwargs
        text = op.formula + op.gradient
        ndim = np.ndim(args[0])
        axes = _axes(op, kwargs, ndim)
        names = dict(zip(arguments_of(op), args, strict=False)) | {"g": g, "y": y} | _options(op, args, kwargs, axes)
        names |= {n: a for n, a in zip(arguments_of(op), args, strict=False) if n == "y"}  # there y is the target
        matrices, indexed = "ᵀ" in text, any(c in text for c in "ᵢ≤≥≠") and any(c in text for c in "ᵢ")
        if head := clauses(op.formula)[0][0]:
            names[head] = y
        names["shape of x"] = np.shape(args[0])
        if not matrices and op.name not in ("put", "embedding_rows"):
            names["g"], names["y"] = (
                v if n in arguments_of(op) else _kept(v, np.shape(args[0]), axes, op)
                for n, v in (("g", g), ("y", names["y"]))
            )
        if op.name in ROWS:
            names["x"] = np.reshape(args[0], (-1, np.shape(args[0])[-1]))
            names["y"] = np.reshape(names["y"], -1) if op.name == "linear_cross_entropy" else names["y"]
            names["g"] = np.reshape(g, (-1, np.shape(g)[-1])) if op.name == "linear" else g
        if op.name == "matmul":  # a vector on the left is a row, on the right a column
            a, b = args
            names["A"] = a[None] if a.ndim == 1 else a
            names["B"] = b[:, None] if b.ndim == 1 else b
            names["g"] = np.reshape(g, np.matmul(names["A"], names["B"]).shape)
        moved = None
        if indexed:
            moved = tuple(a % ndim for a in axes) if ndim else ()
            names = {
                n: _to_end(v, moved) if isinstance(v, np.ndarray) and v.ndim == ndim and ndim else v
                for n, v in names.items()
            }
            first = next(v for n, v in names.items() if n in arguments_of(op))
            names["classes"] = np.shape(first)[-1] if np.ndim(first) else 1
        return cls(names, axes, matrices, indexed, moved, ONE_HOT.get(op.name, ()))

    def scope(self, defined: dict[str, Term]) -> Scope:
        return Scope({**defined, **self.names}, self.axes, self.matrices, self.indexed, self.one_hot)

    def restored(self, value: Any, shape: tuple[int, ...]) -> Any:
        if self.indexed and np.ndim(value):
            value = np.broadcast_to(value, np.broadcast_shapes(np.shape(value), (1, 1)))[..., 0]
            rest = [i for i in range(len(shape)) if i not in self.moved]
            order = [*rest, *self.moved]
            full = np.broadcast_to(value, [*(shape[i] for i in rest), math.prod(shape[i] for i in self.moved)])
            return np.moveaxis(full.reshape([shape[i] for i in order]), range(len(shape)), order)
        return summed_to(value, shape)


def _axes(op: Op, kwargs: dict[str, Any], ndim: int) -> tuple[int, ...]:
    default: Any = -1 if op.name.endswith(("softmax", "norm")) and op.name != "norm" else None
    axis = kwargs.get("axis", () if op.name == "broadcast_to" else default)  # there `summed_to` undoes the stretching
    if op.name == "logsumexp":
        axis = -1
    return tuple(range(ndim)) if axis is None else tuple(axis) if isinstance(axis, tuple) else (axis,)


def _kept(value: Any, shape: tuple[int, ...], axes: tuple[int, ...], op: Op) -> Any:
    """Give a reduced array its lost axes back."""
    reduced = tuple(1 if i in {a % len(shape) for a in axes} else n for i, n in enumerate(shape))
    return np.reshape(value, reduced) if np.size(value) == math.prod(reduced) and op.name in REDUCTIONS else value


REDUCTIONS = ("sum", "mean", "var", "std", "max", "min", "prod", "norm", "logsumexp")


def _to_end(value: Any, axes: tuple[int, ...]) -> Any:
    rest = [i for i in range(value.ndim) if i not in axes]
    moved = np.transpose(value, [*rest, *axes])
    return moved.reshape(*(value.shape[i] for i in rest), math.prod(value.shape[i] for i in axes))


def _options(op: Op, args: list[Any], kwargs: dict[str, Any], axes: tuple[int, ...]) -> dict[str, Any]:
    """Return the names of a formula that come from the options of the call."""
    shape = np.shape(args[0])
    found = {
        "T": kwargs.get("temperature", 1.0), "ddof": kwargs.get("ddof", 0), "low": kwargs.get("low"),
        "high": kwargs.get("high"), "scale": kwargs.get("scale", 1.0), "ε": kwargs.get("eps"), "k": kwargs.get("k", 0),
        "axes": kwargs.get("axes"), "n": math.prod(shape[a] for a in axes),
        "i": kwargs.get("index", args[1] if len(args) > 1 else None),
    }  # fmt: skip
    found |= {n: default for n, default in (("w", 1.0), ("b", 0.0)) if n in arguments_of(op) and _lacks(op, args, n)}
    if op.name == "attention":
        found["k"] = args[1]
        found["mask"] = additive_mask(np.shape(args[0])[-2], np.shape(args[1])[-2], kwargs)
    if "cross_entropy" in op.name or op.name == "nll_loss":
        found["classes"] = np.shape(args[1])[0] if op.name == "linear_cross_entropy" else shape[-1]
        found["N"] = math.prod(shape[:-1])
    return {n: v for n, v in found.items() if n not in arguments_of(op) or _lacks(op, args, n)}


def _lacks(op: Op, args: list[Any], name: str) -> bool:
    """Tell whether an optional argument is None."""
    return dict(zip(arguments_of(op), args, strict=False)).get(name) is None


def additive_mask(t: int, s: int, kwargs: dict[str, Any]) -> Any:
    """Return the masks of attention as numbers that are added to the scores."""
    mask = np.zeros((t, s))
    given = kwargs.get("mask")
    if given is not None:
        mask = np.where(given, 0.0, -np.inf) if given.dtype == bool else given
    return np.where(np.tri(t, s, dtype=bool), mask, -np.inf) if kwargs.get("causal") else mask
