"""Arithmetic and elementary functions, elementwise and with broadcasting.

The rules are plain NumPy text, true for arrays and Tensors alike; the engine undoes broadcasting.
In each, `g` is the gradient of the loss with respect to the output `y`.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..mode import MODE
from ..op import REGISTRY, Op
from ..tensor import FUNCTIONS, Tensor, attach
from .kinks import kept, only_where_needed, quotient, steep
from .sample import call


def strict(f: Any) -> Any:
    """Return a ufunc that takes its operands and nothing else: a further one would be an array to write into."""
    forward = (lambda a, b: f(a, b)) if f.nin == 2 else (lambda x: f(x))
    forward.__name__ = forward.__qualname__ = f.__name__  # for messages
    return forward


PAIRS = (call((2, 3), (2, 3)), call((2, 3), (3,)), call((2, 1), (1, 3)), call((), (2, 3)), call((2, 3), 1.5))

add = Op(
    np.add,
    (lambda g, y, a, b: g, lambda g, y, a, b: g),
    formula="a + b",
    gradient="g, g",
    latex=(r"a + b", r"\bar a = g,\; \bar b = g"),
    samples=PAIRS,
    numpy=[np.add],
)
sub = Op(
    np.subtract,
    (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    name="sub",
    formula="a − b",
    gradient="g, −g",
    latex=(r"a - b", r"\bar a = g,\; \bar b = -g"),
    samples=PAIRS,
    numpy=[np.subtract],
)
mul = Op(
    np.multiply,
    (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    name="mul",
    formula="a·b",
    gradient="g·b, g·a",
    latex=(r"a\,b", r"\bar a = g\,b,\; \bar b = g\,a"),
    samples=PAIRS,
    numpy=[np.multiply],
)


def _numerator(g: Any, y: Any, a: Any, b: Any) -> Any:
    return g / b if type(b) is float and b else quotient(g, b)


div = Op(
    np.true_divide,
    (_numerator, steep(lambda g, y, a, b: -(g / b) * y)),
    name="div",
    formula="a / b",
    gradient="g/b, −g·y/b",
    latex=(r"a / b", r"\bar a = g / b,\; \bar b = -g\,y / b"),
    samples=PAIRS,
    domain=(0.5, 2.0),
    numpy=[np.true_divide],
)
neg = Op(
    np.negative,
    (lambda g, y, x: -g,),
    name="neg",
    formula="−x",
    gradient="−g",
    latex=("-x", "-g"),
    samples=[call((2, 3))],
    numpy=[np.negative],
)


def _pow_base(g: Any, y: Any, a: Any, b: Any) -> Any:
    if not isinstance(b, (int, float)):
        return _any_power(g, a, b)
    if b == 0:
        return kept(g, False)  # x**0 is 1 everywhere, at 0 too
    return g * (b * a ** (b - 1)) if b >= 1 and b == int(b) else _fixed_power(g, a, b)


_fixed_power = steep(lambda g, a, b: g * (b * a ** (b - 1)))
_any_power = steep(lambda g, a, b: g * b * np.where(np.equal(b, 0), 1, a) ** (b - 1))


def _pow_exponent(g: Any, y: Any, a: Any, b: Any) -> Any:
    at_zero = np.equal(a, 0) & np.greater_equal(b, 0)  # there 0, the limit for b > 0
    return g * y * np.log(np.where(at_zero, 1, a))


pow = Op(
    operator.pow,  # and not np.power: the operator knows short cuts for x**2 and x**0.5
    (_pow_base, steep(_pow_exponent)),
    formula="aᵇ",
    gradient="g·b·aᵇ⁻¹, g·y·log a",
    latex=(r"a^b", r"\bar a = g\,b\,a^{b-1},\; \bar b = g\,y \log a"),
    samples=[*PAIRS, call((2, 3), 3), call((2, 3), 0), call((2, 3), -0.5), call(2.0, (2, 3))],
    domain=(0.5, 2.0),
    numpy=[np.power],
)
square = Op(
    np.square,
    (lambda g, y, x: g * 2 * x,),
    formula="x²",
    gradient="g·2x",
    latex=(r"x^2", r"2\,g\,x"),
    samples=[call((2, 3))],
    numpy=[np.square],
)
exp = Op(
    strict(np.exp),
    (steep(lambda g, y, x: g * y),),
    formula="eˣ",
    gradient="g·y",
    latex=(r"e^x", r"g\,y"),
    samples=[call((2, 3)), call(())],
    numpy=[np.exp],
)
expm1 = Op(
    strict(np.expm1),
    (steep(lambda g, y, x: g * (y + 1)),),
    formula="eˣ − 1",
    gradient="g·(y + 1)",
    latex=(r"e^x - 1", r"g\,(y + 1)"),
    samples=[call((2, 3))],
    numpy=[np.expm1],
)
log = Op(
    strict(np.log),
    (lambda g, y, x: quotient(g, x),),
    formula="log x",
    gradient="g/x",
    latex=(r"\log x", r"g / x"),
    samples=[call((2, 3))],
    domain=(0.5, 3.0),
    numpy=[np.log],
)
log1p = Op(
    strict(np.log1p),
    (lambda g, y, x: quotient(g, 1 + x),),
    formula="log(1 + x)",
    gradient="g/(1 + x)",
    latex=(r"\log(1 + x)", r"g / (1 + x)"),
    samples=[call((2, 3))],
    domain=(-0.5, 2.0),
    numpy=[np.log1p],
)


def _sqrt_rule(g: Any, y: Any, x: Any) -> Any:
    if np.min(y.data if isinstance(y, Tensor) else y, initial=1) > 0:
        return g / (2 * y)
    return only_where_needed(lambda g, y: g / (2 * y), g, y)  # a root of 0, or NaN from a negative number


sqrt = Op(
    strict(np.sqrt),
    (_sqrt_rule,),
    formula="√x",
    gradient="g/(2y)",
    latex=(r"\sqrt{x}", r"g / (2y)"),
    samples=[call((2, 3))],
    domain=(0.5, 3.0),
    numpy=[np.sqrt],
)
sin = Op(
    strict(np.sin),
    (lambda g, y, x: g * np.cos(x),),
    formula="sin x",
    gradient="g·cos x",
    latex=(r"\sin x", r"g \cos x"),
    samples=[call((2, 3))],
    numpy=[np.sin],
)
cos = Op(
    strict(np.cos),
    (lambda g, y, x: -g * np.sin(x),),
    formula="cos x",
    gradient="−g·sin x",
    latex=(r"\cos x", r"-g \sin x"),
    samples=[call((2, 3))],
    numpy=[np.cos],
)
abs = Op(
    strict(np.absolute),
    (lambda g, y, x: g * np.sign(x),),
    name="abs",
    formula="|x|",
    gradient="g·sign x (0 at 0)",
    latex=(r"|x|", r"g\,\mathrm{sign}(x)"),
    samples=[call((2, 3))],
    numpy=[np.absolute, np.fabs],
)


maximum = Op(
    strict(np.maximum),
    (
        lambda g, y, a, b: kept(g, np.greater(a, b)) + kept(g / 2, np.equal(a, b)),
        lambda g, y, a, b: kept(g, np.greater(b, a)) + kept(g / 2, np.equal(a, b)),
    ),
    formula="max(a, b)",
    gradient="g·[a > b] + ½g·[a = b], g·[b > a] + ½g·[a = b]",
    latex=(r"\max(a, b)", r"\bar a = g\,[a > b] + \tfrac12 g\,[a = b],\; \bar b = g\,[b > a] + \tfrac12 g\,[a = b]"),
    samples=PAIRS,
    numpy=[np.maximum],
)
minimum = Op(
    strict(np.minimum),
    (
        lambda g, y, a, b: kept(g, np.less(a, b)) + kept(g / 2, np.equal(a, b)),
        lambda g, y, a, b: kept(g, np.less(b, a)) + kept(g / 2, np.equal(a, b)),
    ),
    formula="min(a, b)",
    gradient="g·[a < b] + ½g·[a = b], g·[b < a] + ½g·[a = b]",
    latex=(r"\min(a, b)", r"\bar a = g\,[a < b] + \tfrac12 g\,[a = b],\; \bar b = g\,[b < a] + \tfrac12 g\,[a = b]"),
    samples=PAIRS,
    numpy=[np.minimum],
)
_clip = Op(
    lambda x, low=None, high=None: np.clip(x, low, high),
    (lambda g, y, x, low=None, high=None: kept(g, np.equal(y, x)),),
    name="clip",
    formula="min(max(x, low), high)",
    gradient="g where low ≤ x ≤ high, else 0",
    latex=(r"\min(\max(x, \mathrm{low}), \mathrm{high})", r"g\,[\mathrm{low} \le x \le \mathrm{high}]"),
    samples=[call((2, 3), low=-1.0, high=1.0), call((2, 3), low=0.3), call((2, 3), high=0.3)],
)


def clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    """Limit `x` to the interval [a_min, a_max]; None leaves a side open. At a bound the gradient passes.

    `min` and `max` are PyTorch's names for the bounds. Raises ValueError if neither is given.

    >>> import tinygrad_sm as sm
    >>> sm.clip(sm.Tensor([-2.0, 0.5, 2.0]), -1.0, 1.0)
    Tensor([-1. ,  0.5,  1. ])
    """
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is None and high is None:
        raise ValueError("clip: give a lower bound, an upper bound or both")
    if isinstance(low, Tensor) or isinstance(high, Tensor):  # bounds with gradients of their own
        x = x if low is None else maximum(x, low)
        return x if high is None else minimum(x, high)
    return _clip(x, low=low, high=high)


FUNCTIONS[np.clip] = clip
attach(clip=clip)


def _where(condition: Any, *branches: Any) -> Any:
    if len(branches) != 2:
        raise TypeError("where takes a condition and two alternatives; for the places where it holds, use np.nonzero")
    return np.where(condition, *branches)


where = Op(
    _where,
    (
        lambda g, y, condition, a, b: None,
        lambda g, y, condition, a, b: kept(g, np.not_equal(condition, False)),
        lambda g, y, condition, a, b: kept(g, np.equal(condition, False)),
    ),
    name="where",
    formula="a where c, else b",
    gradient="g where c, g where not c",
    latex=(r"a\,[c] + b\,[\neg c]", r"\bar a = g\,[c],\; \bar b = g\,[\neg c]"),
    samples=[
        call(np.array([[True, False, True], [False, False, True]]), (2, 3), (2, 3)),
        call(np.array([True, False, True]), (2, 1), (3,)),
        call(np.array([True, False, True]), (2, 3), 0.5),
    ],
    numpy=[np.where],
)

# Piecewise constant: computed, not recorded, since their gradient is 0 wherever it exists.
equal, not_equal, less, less_equal, greater, greater_equal = (
    Op(f, None, formula=f"a {sign} b", numpy=[f])
    for f, sign in [
        (np.equal, "="), (np.not_equal, "≠"), (np.less, "<"), (np.less_equal, "≤"),
        (np.greater, ">"), (np.greater_equal, "≥"),
    ]
)  # fmt: skip
for _f in (
    np.sign, np.floor, np.ceil, np.rint, np.trunc, np.isnan, np.isinf, np.isfinite, np.signbit,
    np.logical_and, np.logical_or, np.logical_xor, np.logical_not,
    np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert,
):  # fmt: skip
    Op(_f, None, formula=f"{_f.__name__}(x)", numpy=[_f])


for _name, _op in {"add": add, "sub": sub, "mul": mul, "truediv": div, "pow": pow}.items():
    attach(**{f"__{_name}__": lambda a, b, op=_op: op(a, b)})
    attach(**{f"__r{_name}__": lambda a, b, op=_op: op(b, a)})
for _name, _op in {
    "eq": equal, "ne": not_equal, "lt": less, "le": less_equal, "gt": greater, "ge": greater_equal,
}.items():  # fmt: skip
    attach(**{f"__{_name}__": lambda a, b, op=_op: op(a, b)})
for _name in ("and", "or", "xor"):
    _op = REGISTRY[f"bitwise_{_name}"]
    attach(**{f"__{_name}__": lambda a, b, op=_op: op(a, b), f"__r{_name}__": lambda a, b, op=_op: op(b, a)})
attach(__pos__=lambda t: t)


def _in_place(op: Op) -> Any:
    """Make `x += y`, which gives x's name to a new tensor; where that would silently lose an update, say so."""

    def rebind(a: Any, b: Any) -> Any:
        if a.is_leaf and a.requires_grad and not MODE.get().grad:
            raise TypeError(
                f"{op.name}: a Tensor is not changed in place, so this would leave the parameter as it is; "
                "write p.data -= lr * p.grad.data, or use an optimiser"
            )
        return op(a, b)

    return rebind


for _name, _op in {"iadd": add, "isub": sub, "imul": mul, "itruediv": div}.items():
    attach(**{f"__{_name}__": _in_place(_op)})
for _name, _op in {"neg": neg, "abs": abs, "invert": REGISTRY["invert"]}.items():
    attach(**{f"__{_name}__": lambda a, op=_op: op(a)})
for _op in (exp, expm1, log, log1p, sqrt, sin, cos, abs):
    attach(**{_op.__name__: lambda t, *args, op=_op, **kwargs: op(t, *args, **kwargs)})
