"""What the engine refuses: Tensors, their gradients, and backward passes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from helpers import own_ops
from row import Row

import tinygrad_sm as sm
from tinygrad_sm import Op, Tensor


def leaf(*shape: int) -> Tensor:
    return Tensor(np.ones(shape, np.float32), requires_grad=True)


def without_recording() -> None:
    with sm.no_grad():
        loss = leaf(2).sum()
    loss.backward()


def marked_later() -> None:
    ids = Tensor([1, 2])
    ids.requires_grad = True
    (ids * leaf(2)).sum().backward()


def rule_that_fails() -> None:
    with own_ops():
        Op(lambda x: x * 2, (lambda g, y, x: g.reshape(7),), name="odd")(leaf(2, 3)).sum().backward()


def rule_of_the_wrong_shape() -> None:
    with own_ops():
        Op(lambda x: x * 2, (lambda g, y, x: g[:1],), name="odd")(leaf(2, 3)).sum().backward()


def taken_name() -> None:
    with own_ops():
        Op(lambda x: x, (lambda g, y, x: g,), name="exp")


def no_name() -> None:
    Op(lambda x: x, (lambda g, y, x: g,))


def plain(forward: Any, rule: Any, **options: Any) -> None:
    with own_ops():
        Op(forward, (rule,), name="odd")(leaf(2, 3), **options).sum().backward()


def fused(forward: Any, rule: Any) -> None:
    with own_ops():
        op = Op(forward, rule, name="odd", definition=lambda *args: args[0])
        op(*(leaf(2, 3) for _ in range(forward.__code__.co_argcount))).sum().backward()


def defined(definition: Any) -> None:
    with own_ops():
        x = leaf(2, 3)
        op = Op(lambda x: (x * 2, None), lambda g, y, r, x: (g * 2,), name="odd", definition=definition)
        sm.grad(op(x).sum(), x, create_graph=True)


def bare_rule() -> None:
    with own_ops():
        Op(lambda x: x * 2, lambda g, y, x: g * 2, name="odd")(leaf(2, 3)).sum().backward()


def doubles(g: Any, y: Any, x: Any) -> Any:
    g *= 2
    return g


def assigned() -> Tensor:
    p = leaf(2)
    p.data = p - 0.1  # type: ignore[assignment]
    return p


def assign(name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(leaf(2), name, value)


def put(index: Any, value: Any) -> Callable[[], None]:
    return lambda: operator.setitem(leaf(2), index, value)


HISTORY = "nothing in this tensor's history requires a gradient: "
BINARY = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "pow": operator.pow,
          "maximum": np.maximum, "minimum": np.minimum, "less": operator.lt, "equal": operator.eq}  # fmt: skip

ROWS = [
    # making a Tensor
    Row("integers that want a gradient", lambda: Tensor([1, 2], requires_grad=True), TypeError,
        "only floats have gradients, not int64: write 1.0 for 1, or pass dtype=np.float32"),
    Row("marked later", marked_later, TypeError, "mul.*only floats have gradients; .* int64 has requires_grad=True"),
    Row("text", lambda: Tensor(["a", "b"]), TypeError, "real numbers or bools, not dtype <U1"),
    Row("complex", lambda: Tensor([1j]), TypeError, "real numbers or bools, not dtype complex128"),
    Row("None", lambda: Tensor(None), TypeError, "not dtype object"),
    Row("ragged", lambda: Tensor([[1.0], [1.0, 2.0]]), ValueError, "inhomogeneous"),
    Row("a list of Tensors", lambda: Tensor([leaf(2), leaf(2)]), TypeError, "join them with sm.stack"),
    Row("default dtype", lambda: sm.set_default_dtype(int), TypeError, "takes a floating dtype, .* got int64"),
    # starting a backward pass
    Row("not a scalar", lambda: leaf(2, 3).exp().backward(), ValueError,
        r"backward\(\): only a scalar has one gradient, not shape \(2, 3\); use .sum\(\) or .mean\(\)"),
    Row("grad of many", lambda: sm.grad(leaf(2).exp(), leaf(2)), ValueError, "grad: only a scalar"),
    Row("gradient's shape", lambda: leaf(2).backward([1.0]), ValueError, r"has shape \(1,\), the tensor \(2,\)"),
    Row("gradient's shape, recorded", lambda: leaf(2).backward(leaf(1), create_graph=True), ValueError,
        r"has shape \(1,\), the tensor \(2,\)"),
    Row("complex gradient", lambda: leaf(2).backward([1j, 1j]), TypeError, "is of complex128; it must hold real"),
    Row("gradient of text", lambda: leaf(2).backward(["a", "b"]), TypeError, "is of <U1; it must hold real"),
    Row("not a Tensor", lambda: sm.grad(np.ones(()), leaf(2)), TypeError, "grad differentiates Tensors, not ndarray"),
    Row("no leaf", lambda: Tensor(1.0).exp().backward(), ValueError, HISTORY + "no leaf has requires_grad=True"),
    Row("detached", lambda: leaf(2).sum().detach().backward(), ValueError, HISTORY + r"detach\(\) cut"),
    Row("under no_grad", without_recording, ValueError, HISTORY + r"it was computed under sm\.no_grad\(\)"),
    Row("comparison", lambda: (leaf(1) > 0).backward(), ValueError, HISTORY + "greater is piecewise constant"),
    Row("argmax", lambda: leaf(3).argmax().backward(), ValueError, HISTORY + "argmax is piecewise constant"),
    Row("unused", lambda: sm.grad(leaf(2).sum(), leaf(2)), ValueError, r"don't depend on input\(s\) \[0\]; allow_unu"),
    Row("an input without gradient", lambda: sm.grad(leaf(2).sum(), Tensor([1.0])), ValueError,
        "grad: input 0 requires no gradient"),
    Row("an array as input", lambda: sm.grad(leaf(2).sum(), np.ones(2)), ValueError, "input 0 is a ndarray"),
    Row("too few gradients", lambda: sm.grad([leaf(2).sum(), leaf(2).sum()], leaf(2), [1.0]), ValueError,
        "grad: 2 outputs, but 1 grad_outputs"),
    Row("a hook's shape", lambda: hooked(lambda g: np.ones(3)), ValueError, r"a hook's replacement.*shape \(3,\)"),
    Row("a hook's kind", lambda: hooked(lambda g: "none"), ValueError, "a hook's replacement"),
    # gradients
    Row("hook on a constant", lambda: Tensor(1.0).register_hook(print), ValueError, "requires no gradient"),
    Row("retain_grad of a constant", lambda: Tensor(1.0).retain_grad(), ValueError, "requires no gradient"),
    Row("assigned gradient's shape", assign("grad", np.ones(3)), ValueError, r"tensor's shape \(2,\), not array"),
    Row("assigned number", assign("grad", 0.0), ValueError, r"\.grad is None or of the tensor's shape \(2,\), not 0"),
    # Python's protocols
    Row("bool", lambda: bool(leaf(2) > 0), ValueError, r"shape \(2,\) is ambiguous: use .data.any\(\)"),
    Row("float", lambda: float(leaf(2)), ValueError, r"one element, not of shape \(2,\)"),
    Row("int", lambda: int(leaf(2)), ValueError, r"one element, not of shape \(2,\)"),
    Row("item", lambda: leaf(2).item(), ValueError, r"not of shape \(2,\); use .tolist\(\)"),
    Row("format", lambda: f"{leaf(2):.2f}", ValueError, r"one element, not of shape \(2,\)"),
    Row("range", lambda: range(leaf()), TypeError, "cannot be interpreted as an integer"),
    Row("len of a scalar", lambda: len(leaf()), TypeError, "len"),
    Row("iteration over a scalar", lambda: list(leaf()), TypeError, "len|0-d|scalar"),
    Row("assignment", put(0, 1.0), TypeError, r"not changed in place.*sm\.where.*\.data"),
    Row("assignment by mask", put(np.array([True, False]), 0.0), TypeError, "not changed in place"),
    Row("ufunc without rule", lambda: np.arctan2(leaf(2), 1.0), TypeError, r"np.arctan2 has no gradient rule.*t\.data"),
    Row("ufunc's out", lambda: np.exp(leaf(2), out=np.ones(2)), TypeError, "np.exp with out= has no gradient rule"),
    Row("ufunc's reduce", lambda: np.add.reduce(leaf(2)), TypeError, r"np.add\.reduce has no gradient rule"),
    Row("function without rule", lambda: np.fft.fft(leaf(2)), TypeError, "np.fft.* has no gradient rule"),
    Row("no copy", lambda: np.array(leaf(2), dtype=int, copy=False), ValueError, "cannot become int64 without a copy"),
    # shapes: the op, and what came in
    *(Row(f"{name}'s shapes", lambda f=f: f(leaf(2, 3), leaf(4)), ValueError,
          rf"{name}\(float32\[2, 3\], float32\[4\]\): .*broadcast") for name, f in BINARY.items()),
    Row("matmul's shapes", lambda: leaf(2, 3) @ leaf(2, 3), ValueError, r"matmul\(float32\[2, 3\], float32\[2, 3\]\)"),
    Row("matmul of a scalar", lambda: leaf(2, 3) @ 2.0, ValueError, r"matmul\(float32\[2, 3\], 2\.0\)"),
    Row("an array on the left", lambda: np.ones((2, 3)) * leaf(4), ValueError, r"mul\(float64\[2, 3\], float32\[4\]\)"),
    # ops of one's own
    Row("rule that fails", rule_that_fails, ValueError,
        r"the gradient of odd\(float32\[2, 3\]\): cannot reshape array of size 6"),
    Row("rule of the wrong shape", rule_of_the_wrong_shape, RuntimeError,
        r"rule of odd returned a gradient of shape \(1, 3\) for shape \(2, 3\); it must have .* np.expand_dims"),
    Row("a name that is taken", taken_name, ValueError, "'exp' is taken, by an op of tinygrad_sm.ops.arithmetic; pass"),
    Row("a name that spoils a terminal", lambda: Op(np.exp, None, name="a\x1b[31m"), ValueError,
        r"Op: 'a\\x1b\[31m' holds characters that cannot be printed"),
    Row("no name", no_name, ValueError, "this function has no name to register; pass name="),
    Row("a list of rules", lambda: Op(np.exp, [lambda g, y, x: g], name="odd"), TypeError, r"\(rule,\).*not a list"),
    Row("samples that are none", lambda: Op(np.exp, None, name="odd", samples=[(2, 3)]), TypeError,
        r"samples=\[call\(\(2, 3\)\)\]"),
    Row("no residual", lambda: fused(lambda x: x * 2, lambda g, y, r, x: (g,)), TypeError,
        r"odd: the forward of an op with a definition returns \(output, residual\)"),
    Row("too few gradients of a fused op", lambda: fused(lambda a, b: (a * b, None), lambda g, y, r, a, b: (g,)),
        TypeError, "the rule of odd must return 2 gradients in a tuple, not 1"),
    Row("a bare gradient of a fused op", lambda: fused(lambda x: (x * 2, None), lambda g, y, r, x: g), TypeError,
        "the rule of odd must return 1 gradients in a tuple, not a ndarray"),
    Row("a rule that returns a number", lambda: plain(lambda x: x * 2, lambda g, y, x: 2.0), RuntimeError,
        r"the rule of odd returned a gradient of shape \(\) for shape \(2, 3\)"),
    Row("a forgotten comma", lambda: plain(lambda x: x * 2, lambda g, y: g), TypeError,
        r"^the gradient of odd\(float32\[2, 3\]\): the gradient of odd\(\) takes 2 positional|^the gradient of odd"),
    Row("a forward that returns nothing", lambda: plain(lambda x: None, lambda g, y, x: g), TypeError,
        "^odd: the forward returned None; it must return an array"),
    Row("a residual without a definition", lambda: plain(lambda x: (x, x), lambda g, y, x: g), TypeError,
        "^odd: the forward returned a tuple; only that of an op with a definition"),
    Row("a rule without y", lambda: plain(lambda x: x * 2, lambda g, x: g), TypeError,
        "takes 2 positional arguments but 3 were given; a rule is called with g, y and the op's 1 argument$"),
    Row("a rule without the option", lambda: plain(lambda x, k: x * k, lambda g, y, x: g, k=2.0), TypeError,
        "keyword argument 'k'; a rule is called with g, y and the op's 1 argument, k=$"),
    Row("a rule that is in no tuple", bare_rule, TypeError,
        r"; one rule for all is called with g, y, the residual and the op's 1 argument; .* in a tuple, as \(rule,\)"),
    Row("a definition that returns an array", lambda: defined(lambda x: x.data * 2), TypeError,
        r"the definition of odd must make a Tensor of shape \(2, 3\).*returned something of type ndarray"),
    Row("a definition that returns nothing", lambda: defined(lambda x: None), TypeError, "something of type NoneType"),
    Row("a definition of another shape", lambda: defined(lambda x: x.sum()), TypeError, r"something of shape \(\)"),
    Row("a rule that writes into g", lambda: plain(lambda x: x * 2, doubles), ValueError,
        r"read-only; an op writes into none of g, y and its arguments: g = g \* 2 makes"),
    Row("a Tensor as an option", lambda: plain(lambda x, s=1: x * s, lambda g, y, x, s=1: g, s=leaf(2, 3)), TypeError,
        "as an option"),
    Row("a Tensor as data", lambda: assigned().exp(), TypeError, r"write p\.data = \(\.\.\.\)\.data"),
    # derivatives
    Row("jvp's lengths", lambda: sm.jvp(lambda x: x, [leaf(2)], []), ValueError, "jvp: 1 primals, but 0 tangents"),
    Row("a function that returns arrays", lambda: sm.jacobian(lambda x: x.data, leaf(2)), TypeError,
        "must return Tensors, not ndarray"),
    Row("hessian of many", lambda: sm.hessian(lambda x: x, leaf(2)), ValueError,
        r"hessian: the function must return a scalar, not shape \(2,\)"),
    Row("pullback's arguments", lambda: sm.vjp(lambda x: x, leaf(2))[1](), ValueError, "vjp: 1 outputs, but 0 cotang"),
]  # fmt: skip


def hooked(hook: Any) -> None:
    x = leaf(2)
    x.register_hook(hook)
    x.sum().backward()
