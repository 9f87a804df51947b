"""Activation functions, elementwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..op import Op
from ..tensor import Array, attach
from . import blocked
from .arguments import floats, single
from .arithmetic import strict
from .blocked import each, row_blocks
from .kinks import kept, quotient
from .sample import call

tanh = Op(
    strict(np.tanh),
    (lambda g, y, x: g * (1 - y * y),),
    formula="tanh x",
    gradient="g·(1 − y²)",
    latex=(r"\tanh x", r"g\,(1 - y^2)"),
    samples=[call((2, 3))],
    numpy=[np.tanh],
)


def _sigmoid_forward(x: Any) -> Any:
    e = np.exp(-np.abs(x))  # ≤ 1: no overflow at either end, and no digit lost near 0
    return np.where(np.greater_equal(x, 0), 1, e) / (1 + e)


sigmoid = Op(
    _sigmoid_forward,
    (lambda g, y, x: g * y * (1 - y),),
    name="sigmoid",
    formula="1 / (1 + e⁻ˣ)",
    gradient="g·y·(1 − y)",
    latex=(r"1 / (1 + e^{-x})", r"g\,y\,(1 - y)"),
    samples=[call((2, 3))],
)
logit = Op(
    lambda p: np.log(p) - np.log1p(-p),
    (lambda g, y, p: quotient(g, p * (1 - p)),),
    name="logit",
    formula="log(p / (1 − p))",
    gradient="g / (p·(1 − p))",
    latex=(r"\log \tfrac{p}{1 - p}", r"g / (p\,(1 - p))"),
    samples=[call((2, 3))],
    domain=(0.1, 0.9),
)
relu = Op(
    lambda x: np.maximum(x, 0),
    (lambda g, y, x: kept(g, np.greater(x, 0)),),
    name="relu",
    formula="max(x, 0)",
    gradient="g where x > 0, else 0",
    latex=(r"\max(x, 0)", r"g\,[x > 0]"),
    samples=[call((2, 3))],
)


def _silu_rule(g: Any, y: Any, x: Any) -> Any:
    s = sigmoid(x)
    return g * (s + y * (1 - s))


silu = Op(
    lambda x: x * _sigmoid_forward(x),
    (_silu_rule,),
    name="silu",
    formula="x·σ(x)",
    gradient="g·(σ(x) + y·(1 − σ(x)))",
    latex=(r"x\,\sigma(x)", r"g\,(\sigma(x) + y\,(1 - \sigma(x)))"),
    samples=[call((2, 3))],
)

C, A = math.sqrt(2 / math.pi), 0.044715  # gelu's tanh form: ½x(1 + tanh u), u = C·(x + A·x³)


def _by_blocks(kernel: Callable[..., None], x: Array, *others: Array) -> Array:
    """Return what an elementwise kernel writes, of x and others of its shape; half in single, large ones in blocks."""
    z = single(x)
    out = np.empty(z.shape, z.dtype)
    flat = [a.reshape(-1) for a in (out, z, *others)]
    if out.nbytes <= blocked.BLOCK_BYTES:
        kernel(*flat)
    else:
        blocks = row_blocks(out.size, out.itemsize * 3)  # each thread has blocks of its own, too
        each(kernel, *([a[block] for block in blocks] for a in flat))
    return out


def _tanh_u(x: Array, square: Array) -> Array:
    t = square * (C * A)  # u = x·(C + C·A·x²)
    t += C
    t *= x
    return np.tanh(t, out=t)


def _gelu_kernel(out: Array, x: Array) -> None:
    t = _tanh_u(x, np.multiply(x, x, out=out))
    t += 1
    t *= 0.5
    np.multiply(x, t, out=out)


def _gelu_slope_kernel(out: Array, x: Array, y: Array, g: Array) -> None:
    # y' = ½(1 + t) + ½x(1 − t²)·u' = ½(1 + t) + y·(1 − t)·u' = 1 + (y·u' − ½)·(1 − t),  u' = C + 3·C·A·x²
    t = _tanh_u(x, np.multiply(x, x, out=out))
    np.subtract(1, t, out=t)
    out *= 3 * C * A
    out += C
    out *= y
    out -= 0.5
    out *= t
    out += 1
    out *= g


def _gelu_forward(x: Array) -> tuple[Array, tuple[()]]:
    return _by_blocks(_gelu_kernel, floats(x, "gelu")).astype(x.dtype, copy=False), ()


def _gelu_vjp(g: Array, y: Array, residual: Any, x: Array) -> tuple[Array]:
    # tanh u is computed again, for it would take as much memory as x does
    return (_by_blocks(_gelu_slope_kernel, x, y, g),)


_gelu_tanh = Op(
    _gelu_forward,
    _gelu_vjp,
    name="gelu",
    definition=lambda x: 0.5 * x * (1 + tanh(C * (x + A * (x * x * x)))),
    formula="½x·(1 + tanh u), with u = √(2/π)·(x + 0.044715x³)",
    gradient="g·(½(1 + t) + ½x·(1 − t²)·u′), with t = tanh u, u′ = √(2/π)·(1 + 3·0.044715x²)",
    latex=(r"\tfrac12 x\,(1 + \tanh u),\; u = \sqrt{2/\pi}\,(x + 0.044715\,x^3)",
           r"g\,(\tfrac12 (1 + t) + \tfrac12 x\,(1 - t^2)\,u'),\; t = \tanh u,\; "
           r"u' = \sqrt{2/\pi}\,(1 + 3 \cdot 0.044715\,x^2)"),
    samples=[call((2, 3)), call(())],
)  # fmt: skip


def _special() -> Any:
    try:
        import scipy.special as special
    except ImportError:
        raise ImportError(
            "gelu(approximate='none') in float64, and its second derivatives, need SciPy: pip install scipy, or use "
            "float32, or approximate='tanh'"
        ) from None
    return special


# Φ(−a) = ½·t·exp(P(t) − a²/2) for a ≥ 0, with t = 1/(1 + a/√8), the form of Hastings (1955). P interpolates at
# Chebyshev points of t in (0.1, 1) with an error of 8e-8, the rounding of float32. SciPy's erf takes six times as long.
TAIL = (
    0.17350003123283386, -0.8332668542861938, 1.507097601890564, -1.1499875783920288, 0.28322526812553406,
    -0.1847902089357376, 0.09518049657344818, 0.3745955526828766, 0.9999546408653259, -1.265508770942688 - math.log(2),
)  # fmt: skip
FAR = 40.0  # where Φ(−a) and a·φ(a) are 0, before a² overflows


def _tail(a: Array) -> Array:
    """Return Φ(−a) for a in [0, FAR]."""
    if a.dtype == np.float64:
        return np.asarray(_special().ndtr(-a))
    t = a * np.float32(math.sqrt(1 / 8))
    t += 1
    np.divide(1, t, out=t)
    p = t * np.float32(TAIL[0])
    p += TAIL[1]
    for coefficient in TAIL[2:]:
        p *= t
        p += coefficient
    square = a * a
    square *= 0.5
    p -= square
    np.exp(p, out=p)
    p *= t
    return p


def _gelu_exact_kernel(out: Array, x: Array) -> None:
    a = np.minimum(np.abs(x), FAR)
    a *= _tail(a)
    np.maximum(x, 0, out=out)
    out -= a  # x·Φ(x) = max(x, 0) − a·Φ(−a), with a = |x|


def _gelu_exact_slope_kernel(out: Array, x: Array, g: Array) -> None:
    a = np.minimum(np.abs(x), FAR)
    np.multiply(a, a, out=out)
    out *= -0.5
    np.exp(out, out=out)
    out *= a
    out *= -math.sqrt(0.5 / math.pi)
    out += _tail(a)  # Φ(−a) − a·φ(a) is y' at −a, and what is missing to 1 at a
    np.subtract(1, out, out=out, where=x >= 0)
    out *= g


def _gelu_exact_forward(x: Array) -> tuple[Array, tuple[()]]:
    return _by_blocks(_gelu_exact_kernel, floats(x, "gelu")).astype(x.dtype, copy=False), ()


def _gelu_exact_vjp(g: Array, y: Array, residual: Any, x: Array) -> tuple[Array]:
    return (_by_blocks(_gelu_exact_slope_kernel, x, g),)


erf: Op = Op(
    lambda x: np.asarray(_special().erf(x)).astype(x.dtype),
    (lambda g, y, x: g * np.exp(-x * x) * (2 / math.sqrt(math.pi)),),
    name="erf",
    formula="erf x",
    gradient="g·2/√π·e^(−x²)",
    latex=(r"\mathrm{erf}\,x", r"g\,\tfrac{2}{\sqrt\pi} e^{-x^2}"),
    samples=[call((2, 3))],
)
_gelu_exact = Op(
    _gelu_exact_forward,
    _gelu_exact_vjp,
    name="gelu_exact",
    definition=lambda x: x * (erf(x * math.sqrt(0.5)) + 1) * 0.5,
    formula="x·Φ(x)",
    gradient="g·(Φ(x) + x·φ(x))",
    latex=(r"x\,\Phi(x)", r"g\,(\Phi(x) + x\,\varphi(x))"),
    samples=[call((2, 3)), call(())],
)


def gelu(x: Any, approximate: str = "tanh") -> Any:
    """Gaussian error linear unit: x·Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016).

    `approximate="tanh"`, the default and what GPT-2 uses, needs NumPy only; "none" is exact, and needs
    SciPy in float64 and for second derivatives.

    Raises ValueError for another `approximate`, ImportError where "none" needs SciPy and does not find it.

    >>> import tinygrad_sm as sm
    >>> print(f"{sm.functional.gelu(sm.Tensor(1.0)):.4f}")
    0.8412
    """
    if approximate not in ("tanh", "none"):
        raise ValueError(f"gelu: approximate must be 'tanh' or 'none', not {approximate!r}")
    return (_gelu_tanh if approximate == "tanh" else _gelu_exact)(x)


for _op in (tanh, sigmoid, relu):
    attach(**{_op.name: lambda t, op=_op: op(t)})
