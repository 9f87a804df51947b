"""The examples in the docstrings of Tensor's methods: of those that are ops, and of `tensor.py`, which is kept short.

A method that is an op has the docstring of the op, its formula and gradient; what stands here follows it.
"""

from __future__ import annotations

AXIS = "`axis` is one or several, or None for all; `keepdims` leaves them with length 1."
TIES = f"{AXIS} Elements that tie share the gradient."
SPREAD = f"{AXIS} The sum of squares is divided by n − `ddof`."
ORDER = "`axis` is one, or None for all elements in order. The first of several that tie."

METHODS: dict[str, tuple[str, str]] = {  # what is to say besides, and the example
    "abs": ("", ">>> sm.Tensor([-2.0, 3.0]).abs()\nTensor([2., 3.])"),
    "cos": ("", ">>> sm.Tensor([0.0]).cos()\nTensor([1.])"),
    "exp": ("", ">>> sm.Tensor([0.0, 1.0]).exp().data.round(4)\narray([1.    , 2.7183], dtype=float32)"),
    "expm1": ("Near 0 it keeps the digits that exp(x) − 1 loses.", ">>> sm.Tensor([1e-8]).expm1()\nTensor([1.e-08])"),
    "log": ("", ">>> sm.Tensor([1.0, 2.0]).log().data.round(4)\narray([0.    , 0.6931], dtype=float32)"),
    "log1p": ("Near 0 it keeps the digits that log(1 + x) loses.", ">>> sm.Tensor([1e-8]).log1p()\nTensor([1.e-08])"),
    "relu": ("", ">>> sm.Tensor([-2.0, 3.0]).relu()\nTensor([0., 3.])"),
    "sigmoid": ("", ">>> sm.Tensor([0.0]).sigmoid()\nTensor([0.5])"),
    "sin": ("", ">>> sm.Tensor([0.0]).sin()\nTensor([0.])"),
    "sqrt": ("", ">>> sm.Tensor([4.0, 9.0]).sqrt()\nTensor([2., 3.])"),
    "tanh": ("", ">>> sm.Tensor([0.0]).tanh()\nTensor([0.])"),
    "sum": (AXIS, ">>> sm.Tensor([[1.0, 2.0], [3.0, 4.0]]).sum(axis=1)\nTensor([3., 7.])"),
    "mean": (AXIS, ">>> sm.Tensor([[1.0, 2.0], [3.0, 4.0]]).mean(axis=0)\nTensor([2., 3.])"),
    "prod": (AXIS, ">>> sm.Tensor([2.0, 3.0, 4.0]).prod()\nTensor(24.)"),
    "max": (TIES, ">>> sm.Tensor([[1.0, 2.0], [3.0, 4.0]]).max(axis=1, keepdims=True).tolist()\n[[2.0], [4.0]]"),
    "min": (TIES, ">>> sm.Tensor([[1.0, 2.0], [3.0, 4.0]]).min(axis=1)\nTensor([1., 3.])"),
    "var": (SPREAD, ">>> sm.Tensor([1.0, 3.0]).var(), sm.Tensor([1.0, 3.0]).var(ddof=1)\n(Tensor(1.), Tensor(2.))"),
    "std": (SPREAD, ">>> sm.Tensor([1.0, 3.0]).std()\nTensor(1.)"),
    "argmax": (f"The index of the largest. {ORDER}", ">>> sm.Tensor([1.0, 3.0, 2.0]).argmax()\nTensor(1)"),
    "argmin": (f"The index of the smallest. {ORDER}", ">>> sm.Tensor([1.0, 3.0, 2.0]).argmin()\nTensor(0)"),
    "argsort": (
        "The indices that sort along the last axis, or along `axis`.",
        ">>> sm.Tensor([1.0, 3.0, 2.0]).argsort()\nTensor([0, 2, 1])",
    ),
    "any": (f"Whether any element is not 0. {AXIS}", ">>> (sm.Tensor([1.0, 3.0]) > 2).any()\nTensor(True)"),
    "all": (f"Whether no element is 0. {AXIS}", ">>> (sm.Tensor([1.0, 3.0]) > 2).all()\nTensor(False)"),
    "count_nonzero": (
        f"The number of elements that are not 0. {AXIS}",
        ">>> (sm.Tensor([1.0, 3.0]) > 2).count_nonzero()\nTensor(1)",
    ),
    "numpy": ("", ">>> sm.Tensor([1.0, 2.0]).numpy()\narray([1., 2.], dtype=float32)"),
    "item": ("Raises ValueError if there are several.", ">>> sm.Tensor([2.0]).item()\n2.0"),
    "tolist": ("", ">>> sm.Tensor([[1.0], [2.0]]).tolist()\n[[1.0], [2.0]]"),
    "detach": (
        "", ">>> x = sm.Tensor(3.0, requires_grad=True)\n>>> (x * x.detach()).backward()\n>>> x.grad\nTensor(3.)",
    ),
    "retain_grad": (
        "",
        ">>> x = sm.Tensor(3.0, requires_grad=True)\n>>> y = x * x\n>>> y.retain_grad()\n"
        ">>> (y * 2).backward()\n>>> y.grad\nTensor(2.)",
    ),
    "register_hook": (
        "",
        ">>> x = sm.Tensor(3.0, requires_grad=True)\n>>> handle = x.register_hook(lambda g: g * 10)\n"
        ">>> (x * 2).backward()\n>>> x.grad\nTensor(20.)\n>>> handle.remove()",
    ),
}  # fmt: skip
__test__ = {
    name: f">>> import tinygrad_sm as sm\n{example}" for name, (_, example) in METHODS.items()
}  # doctest runs it


def described(name: str, doc: str) -> str:
    """Return the docstring of a method of Tensor: `doc`, what is to say besides, and the example."""
    return "\n\n".join(part for part in (doc.strip(), METHODS[name][0], __test__[name]) if part)
