"""An autograd engine on single numbers: slow, naive and small enough to trust. The property tests believe it.

It shares no code and no idea of arrays with the package. A `Number` remembers the numbers that it was computed
from, and the derivative with respect to each. `gradients` walks back over them.

Arrays of Numbers are NumPy's object arrays: `np.exp(a) @ b` calls `exp`, `*` and `+` of each element. So a program
written with NumPy runs on floats, on Tensors and here. To differentiate twice, put a `Dual` into the Numbers:

>>> x = Number(Dual(2.0, 1.0))  # 2 + ε, with ε² = 0
>>> (slope,) = gradients(x * x * x, [x])
>>> slope.real, slope.dual  # 3x², and its derivative 6x
(12.0, 12.0)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# What each function's derivative is at x. It is written with the functions themselves, so that it can be
# computed on floats and on Duals.
SLOPES: dict[str, Callable[[Any], Any]] = {
    "exp": lambda x: apply("exp", x),
    "log": lambda x: 1.0 / x,
    "sqrt": lambda x: 0.5 / apply("sqrt", x),
    "sin": lambda x: apply("cos", x),
    "cos": lambda x: -apply("sin", x),
    "tanh": lambda x: 1.0 - apply("tanh", x) * apply("tanh", x),
}


def apply(name: str, x: Any) -> Any:
    """Compute the function of this name of a float, a Dual or a Number."""
    return x.chain(apply(name, x.inside), SLOPES[name](x.inside)) if isinstance(x, Smooth) else getattr(math, name)(x)


class Smooth:
    """What Dual and Number have in common: operators, which need only `chain`, the rule for a function of this."""

    inside: Any  # the number without its derivative

    def __init_subclass__(cls) -> None:
        for name in SLOPES:  # NumPy calls x.exp() for each element x of an object array
            setattr(cls, name, lambda self, name=name: apply(name, self))

    def chain(self, value: Any, slope: Any) -> Any:
        """Return f(self), given f and f′ at what is inside."""
        raise NotImplementedError

    def combine(self, value: Any, slope: Any, other: Any, other_slope: Any) -> Any:
        """Return f(self, other), given f and both partial derivatives."""
        raise NotImplementedError

    def __add__(self, b: Any) -> Any:
        if isinstance(b, np.ndarray):
            return NotImplemented  # NumPy takes the elements one by one
        return (
            self.combine(self.inside + b.inside, 1.0, b, 1.0) if self.is_like(b) else self.chain(self.inside + b, 1.0)
        )

    def __mul__(self, b: Any) -> Any:
        if isinstance(b, np.ndarray):
            return NotImplemented
        if self.is_like(b):
            return self.combine(self.inside * b.inside, b.inside, b, self.inside)
        return self.chain(self.inside * b, b)

    def is_like(self, b: Any) -> bool:
        """Tell whether `b` carries derivatives of the same kind; anything else is a constant."""
        return type(b) is type(self)

    def reciprocal(self) -> Any:
        """Return 1/x, whose derivative is −1/x²."""
        y = 1.0 / self.inside
        return self.chain(y, -(y * y))

    def __truediv__(self, b: Any) -> Any:
        return NotImplemented if isinstance(b, np.ndarray) else self * (b.reciprocal() if self.is_like(b) else 1.0 / b)

    __radd__ = __add__
    __rmul__ = __mul__
    __neg__ = lambda self: self * -1.0  # noqa: E731
    __sub__ = lambda self, b: self + -b  # noqa: E731
    __rsub__ = lambda self, b: -self + b  # noqa: E731
    __rtruediv__ = lambda self, b: self.reciprocal() * b  # noqa: E731
    __abs__ = lambda self: -self if self < 0.0 else self  # noqa: E731
    __float__ = lambda self: float(self.inside)  # noqa: E731
    __lt__ = lambda self, b: float(self) < float(b)  # noqa: E731
    __le__ = lambda self, b: float(self) <= float(b)  # noqa: E731
    __gt__ = lambda self, b: float(self) > float(b)  # noqa: E731
    __ge__ = lambda self, b: float(self) >= float(b)  # noqa: E731


class Dual(Smooth):
    """real + dual·ε with ε² = 0: f(a + b·ε) is f(a) + f′(a)·b·ε. Derivatives go forward with the values."""

    def __init__(self, real: float, dual: float = 0.0) -> None:
        self.inside = self.real = real
        self.dual = dual

    def chain(self, value: Any, slope: Any) -> Dual:
        return Dual(value, slope * self.dual)

    def combine(self, value: Any, slope: Any, other: Any, other_slope: Any) -> Dual:
        return Dual(value, slope * self.dual + other_slope * other.dual)


class Number(Smooth):
    """A number that remembers what it was computed from, and how fast it changes with each: [(number, slope)]."""

    born = itertools.count()

    def __init__(self, value: Any, made_from: Sequence[tuple[Number, Any]] = ()) -> None:
        self.inside, self.made_from, self.order = value, made_from, next(Number.born)

    def chain(self, value: Any, slope: Any) -> Number:
        return Number(value, [(self, slope)])

    def combine(self, value: Any, slope: Any, other: Any, other_slope: Any) -> Number:
        return Number(value, [(self, slope), (other, other_slope)])


def gradients(output: Number, inputs: Sequence[Number]) -> list[Any]:
    """Return ∂output/∂input for each input: the sum over all ways back of the products of the slopes on them."""
    reached, stack = {output}, [output]
    while stack:
        for parent, _ in stack.pop().made_from:
            if parent not in reached:
                reached.add(parent)
                stack.append(parent)
    found: dict[Number, Any] = {output: 1.0}
    for number in sorted(reached, key=lambda n: n.order, reverse=True):  # all users of a number are younger
        for parent, slope in number.made_from:
            found[parent] = found.get(parent, 0.0) + found[number] * slope
    return [found.get(x, 0.0) for x in inputs]


def numbers(array: Any, direction: Any = None) -> Any:
    """Return an object array of Numbers with these values; with a `direction`, of Numbers that hold Duals."""
    array = np.asarray(array, float)
    out = np.empty(array.shape, object)
    for i in np.ndindex(array.shape):
        value = float(array[i])
        out[i] = Number(value if direction is None else Dual(value, float(direction[i])))
    return out


def slopes(output: Any, *inputs: Any) -> list[Any]:
    """Return the gradients of a Number for object arrays of Numbers, as arrays of their shapes."""
    flat = iter(gradients(output, [x for a in inputs for x in a.flat]))
    return [np.array([next(flat) for _ in range(a.size)], object).reshape(a.shape) for a in inputs]
