"""The card of an op: what it computes, its gradient and Jacobian, what to mind, where it stands, an example."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from ..call import brief
from ..derivatives import grad, jacobian
from ..op import REGISTRY, Op
from ..tensor import FUNCTIONS, UFUNCS, Tensor
from ..text import visible
from .document import Block, equation, gradient_span
from .formula import as_text, clauses, free_index, parsed, substitute
from .notation import listed, signs
from .op_names import NO_GRADIENT, arguments_of
from .op_notes import ARTICLE, NOTES, Note

FOLDER = Path(__file__).parents[2]
ALIASES = {  # functions that call an op of another name
    "scaled_dot_product_attention": "attention", "swapaxes": "transpose", "moveaxis": "transpose",
    "stack": "concatenate", "squeeze": "reshape", "expand_dims": "reshape", "take_along_axis": "getitem",
    "split": "getitem",
}  # fmt: skip
COMPOSED = {  # functions made of several ops
    "mse_loss": "sub, square and mean", "l1_loss": "sub, abs and mean", "kl_div": "log, sub, mul and mean",
    "dropout": "mul", "one_hot": "no op with a gradient",
}  # fmt: skip
UNARY = [
    "neg", "square", "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "abs", "tanh", "sigmoid", "logit", "relu",
    "silu", "gelu", "gelu_exact", "erf", "clip",
]  # fmt: skip
BINARY = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"]
EXAMPLES: dict[str, tuple[tuple[Any, ...], dict[str, Any], Any]] = {  # arguments, options, incoming gradient
    "softmax": (([1.0, 2.0, 3.0],), {}, [1.0, 0.0, 0.0]),
    "log_softmax": (([1.0, 2.0, 3.0],), {}, [0.0, 0.0, -1.0]),
    "logsumexp": (([1.0, 2.0, 3.0],), {}, 1.0),
    "cross_entropy": (([[1.0, 2.0, 3.0]], np.array([2])), {}, 1.0),
    "soft_cross_entropy": (([[1.0, 2.0, 3.0]], np.array([[0.1, 0.2, 0.7]])), {}, 1.0),
    "nll_loss": (([[-2.0, -1.0, -0.5]], np.array([2])), {}, 1.0),
    "attention": (
        ([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], [[1.0], [2.0]]), {"scale": 0.7071}, [[1.0], [0.0]],
    ),
    "layer_norm": (([[1.0, 2.0, 6.0]], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]), {"eps": 1e-5}, [[1.0, 0.0, 0.0]]),
    "rms_norm": (([[1.0, 2.0, 2.0]], [1.0, 1.0, 1.0]), {"eps": 1e-5}, [[1.0, 0.0, 0.0]]),
    "rotary": (([[1.0, 0.0], [1.0, 0.0]],), {"angles": np.array([[0.0], [1.0]])}, [[1.0, 0.0], [1.0, 0.0]]),
    "matmul": (([[1.0, 2.0]], [[3.0, 0.0], [1.0, -1.0]]), {}, [[1.0, 2.0]]),
    "linear": (([[1.0, 2.0]], [[3.0, 0.0], [1.0, -1.0]], [0.5, 0.0]), {}, [[1.0, 2.0]]),
    "sum": (([1.0, 2.0, 3.0],), {}, 1.0), "mean": (([1.0, 2.0, 3.0],), {}, 1.0),
    "max": (([1.0, 3.0, 3.0],), {}, 1.0), "min": (([1.0, 1.0, 3.0],), {}, 1.0),
    "relu": (([-1.0, 0.0, 2.0],), {}, [1.0, 1.0, 1.0]),
}  # fmt: skip


# -- which op is meant ----------------------------------------------------------------------------


def find_op(what: Any) -> Op:
    """Return the op that a name, a function or an op means; say what to explain instead of other things."""
    if isinstance(what, Op):
        return what
    if isinstance(what, np.ndarray):
        raise TypeError(
            "explain: an array does not know what made it; explain the Tensor that an op on Tensors returned"
        )
    if hasattr(what, "parameters"):
        kind = what.__name__ if isinstance(what, type) else type(what).__name__
        raise TypeError(
            f"explain: a {kind} is explained by a loss made with it: explain(loss), or explain(model(x).sum())"
        )
    if isinstance(what, str):
        return _named(what)
    if isinstance(what, np.ufunc) and what in UFUNCS:
        return UFUNCS[what]  # type: ignore[return-value]
    if not callable(what):
        raise TypeError(
            f"explain takes a Tensor, a Graph, an op, its name or its function, not a {type(what).__name__}"
        )
    inner = FUNCTIONS.get(what, what)
    if isinstance(inner, Op):
        return inner
    defaults = [*(getattr(inner, "__kwdefaults__", None) or {}).values(), *(getattr(inner, "__defaults__", None) or ())]
    own = next((value for value in defaults if isinstance(value, Op)), None)  # a method that calls this op
    return own if own is not None else _named(getattr(inner, "__name__", type(what).__name__))


def _named(name: str) -> Op:
    op = REGISTRY.get(ALIASES.get(name, name))
    if op is not None:
        return op
    if name in COMPOSED:
        raise ValueError(
            f"explain: {name} is made of {COMPOSED[name]}; explain a loss that it made, or one of these ops"
        )
    near = get_close_matches(name, [*REGISTRY, *ALIASES], n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "sm.op.REGISTRY lists all"
    raise ValueError(f"explain: there is no op {visible(name, limit=60)!r}; {hint}")


# -- the card -------------------------------------------------------------------------------------


def card(op: Op) -> Iterator[Block]:
    """Yield the blocks of the card of an op."""
    note = NOTES.get(op.name, Note())
    yield Block("title", f"The op {visible(op.name, limit=60)}")
    formulas, jacobians = list(_formulas(op)), list(_jacobians(op, note))
    yield from formulas
    if said := " ".join(filter(None, [note.names, signs([*formulas, *jacobians], [op.name])])):
        yield Block("text", said)
    if op.vjp is None:
        yield Block(
            "text", "It is piecewise constant: its slope is 0 wherever there is one, so no gradient goes through it."
        )
    if note.why:
        yield Block("text", note.why)
    if jacobians:
        yield Block("heading", "Jacobian")
        yield from jacobians
    for title, lines in (("Pitfalls", note.pitfalls), ("Numerical care taken here", note.care)):
        if lines:
            yield Block("heading", title)
            yield from (Block("item", line) for line in lines)
    yield from _example(op)
    yield Block("heading", "Source")
    yield from (Block("item", line) for line in _sources(op, note))


def _formulas(op: Op) -> Iterator[Block]:
    letters = [c for c in arguments_of(op) if c not in NO_GRADIENT.get(op.name, "")]
    if op.formula:
        first = parsed(clauses(op.formula)[0][1])
        head = "" if clauses(op.formula)[0][0] else f"{_result(op)}{free_index(first) if first else ''} = "
        yield equation(f"{head}{op.formula}", label="forward")
    if op.gradient:
        yield from _gradients(op)
        gradients, arguments = listed([gradient_span(c) for c in letters]), listed([f"`{c}`" for c in letters])
        yield Block(
            "text",
            f"`g` is the gradient that comes back for the result, and {gradients} that of the loss with respect to "
            f"{arguments}.",
        )


def _result(op: Op) -> str:
    return "loss" if "y" in arguments_of(op) or op.name == "soft_cross_entropy" else "y"  # there y is the target


def _gradients(op: Op) -> Iterator[Block]:
    """Write one line for each argument, and one for each name that these use."""
    own = clauses(op.gradient)
    letters = iter(c for c in arguments_of(op) if c not in NO_GRADIENT.get(op.name, ""))
    for name, text in own:
        plain = next(letters, "") if not name else ""
        if name.startswith("d") and name[1:] in arguments_of(op):
            yield equation(f"{name} = {text}", label="backward")
        elif plain:
            yield equation(f"d{plain}{'ᵢ' if 'ᵢ' in text else ''} = {text}", label="backward")
        else:
            yield equation(f"{name} = {text}" if name else text, label="where")


def _jacobians(op: Op, note: Note) -> Iterator[Block]:
    if note.jacobian:
        yield from (equation(f"{n} = {t}" if n else t) for n, t in _split(note.jacobian))
    elif op.name in UNARY or op.name in BINARY:
        letters = arguments_of(op)
        for letter, (_, text) in zip(letters, [c for c in clauses(op.gradient) if not c[0]], strict=False):
            term = parsed(text)
            if term is None:
                return
            entries = {c: ("name", c, "ᵢ") for c in (*letters, "y")}
            slope = as_text(substitute(term, entries | {"g": ("num", "1")}))
            yield equation(f"∂yᵢ/∂{letter}ᵢ = {slope}")
        yield Block("text", "It is diagonal: each entry of the result depends on one entry of the argument.")


def _split(text: str) -> list[tuple[str, str]]:
    return [("", part) for part in text.split(", ")]


# -- where it stands ------------------------------------------------------------------------------


def _sources(op: Op, note: Note) -> Iterator[str]:
    rules = op.vjp if isinstance(op.vjp, tuple) else (op.vjp,) if op.vjp else ()
    yield f"forward: {_place(op.forward)}"
    places = list(dict.fromkeys(map(_place, rules)))
    if places:
        yield f"backward: {', '.join(places)}"
    if op.definition is not None:
        yield f"definition in simple ops: {_place(op.definition)}"
    if note.section:
        yield f'article: "{ARTICLE}", section {note.section}'


def _place(f: Callable[..., Any]) -> str:
    """Return file and line of a function, without the folders of this machine; NumPy's own by name."""
    f = _inner(f)
    if isinstance(f, np.ufunc) or not hasattr(f, "__code__"):
        return f"NumPy's {getattr(f, '__name__', 'function')}"
    file = Path(f.__code__.co_filename)
    shown = (
        file.relative_to(FOLDER).as_posix()
        if file.is_relative_to(FOLDER / "tinygrad_sm")
        else visible(file.name, limit=60)
    )
    return f"{shown}:{f.__code__.co_firstlineno}"


def _inner(f: Any) -> Any:
    """Return the function that a helper, such as `steep`, was given."""
    held = inspect.getclosurevars(f).nonlocals if hasattr(f, "__code__") and f.__closure__ else {}
    inside = next((held[name] for name in ("rule", "f") if callable(held.get(name))), None)
    return f if inside is None else _inner(inside)


# -- a worked example -----------------------------------------------------------------------------


def _example(op: Op) -> Iterator[Block]:
    found = _arguments(op)
    if found is None or op.vjp is None:
        return
    args, kwargs, g = found
    letters = [*arguments_of(op), *"cdefgh"]
    try:
        leaves = [
            Tensor(a, requires_grad=True)
            if isinstance(a, np.ndarray) and a.dtype.kind == "f" and not (op.name == "soft_cross_entropy" and i)
            else a
            for i, a in enumerate(args)
        ]
        y = op(*leaves, **kwargs)
        g = (
            np.broadcast_to(np.asarray(g, np.float64), y.shape)
            if g is not None
            else np.resize([1.0, -1.0, 2.0], y.shape)
        )
        wanted = [t for t in leaves if isinstance(t, Tensor)]
        shares = iter(grad(y, wanted, g, allow_unused=True))
    except ImportError as error:
        yield Block("text", f"No example: {error}.")
        return
    yield Block("heading", "A small example")
    for letter, a in zip(letters, args, strict=False):
        if isinstance(a, (np.ndarray, float, int)):
            yield equation(letter, np.asarray(a), label="given")
    if kwargs:
        options = ", ".join(f"{k}={brief(v)}" for k, v in kwargs.items())
        yield Block("line", options, label="options")
    yield equation(clauses(op.formula)[0][0] or _result(op), y.data, label="forward")
    yield equation("g", g, label="comes in")
    for letter, t in zip(letters, leaves, strict=False):
        share = next(shares) if isinstance(t, Tensor) else None
        if share is not None:
            yield equation(f"d{letter}", share.data, label="goes out")
    x = args[0]
    if len(wanted) == 1 and isinstance(x, np.ndarray) and x.ndim == 1 and y.ndim == 1 and x.size <= 4:
        yield equation("J", jacobian(lambda t: op(t, *args[1:], **kwargs), x).data, label="Jacobian")


def _arguments(op: Op) -> tuple[list[Any], dict[str, Any], Any] | None:
    """Return arguments and options of a small call, and a gradient to come in (None: any)."""
    if op.name in EXAMPLES:
        args, kwargs, g = EXAMPLES[op.name]
        return [np.asarray(a) for a in args], kwargs, g
    if not op.samples:
        return None
    if op.name in UNARY and op.name != "clip":
        low, high = op.domain
        return [np.linspace(low, high, 3) * (1 if op.domain != (-2.0, 2.0) else 0.5)], {}, None
    sample = op.samples[0]
    drawn = sample.draw(op.domain)
    rounded = [np.round(a, 1) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in drawn]
    return rounded, {k: v for k, v in sample.kwargs.items() if v is not None}, None
