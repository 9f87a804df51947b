"""The runnable example of an op: code that calls it as users do, with what it prints; run when the site is built."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from tinygrad_sm.inspection.op_card import _arguments
from tinygrad_sm.inspection.op_names import NO_GRADIENT, arguments_of
from tinygrad_sm.op import Op

CALLS = {  # where it is not sm.name(arguments)
    "add": "a + b", "sub": "a - b", "mul": "a * b", "div": "a / b", "neg": "-x", "pow": "a**b",
    "square": "np.square(x)", "norm": "np.linalg.norm(x)",
    "clip": "x.clip(-1.0, 1.0)", "gelu_exact": 'sm.gelu(x, approximate="none")',
    "gelu": 'sm.gelu(x, approximate="tanh")', "erf": "erf(x)",
    "reshape": "x.reshape(3, 2)", "transpose": "x.T", "broadcast_to": "sm.broadcast_to(x, (2, 3))",
    "flip": "sm.flip(x, axis=1)", "astype": "x.astype(np.float64)", "cumsum": "x.cumsum(axis=1)",
    "pad": "sm.pad(x, ((1, 0), (0, 2)), constant_values=0.5)", "concatenate": "sm.concatenate([a, b], axis=0)",
    "getitem": "x[1]", "put": "put(x, index=np.array([0, 2, 2]), shape=(4,))", "embedding": "F.embedding(i, W)",
    "embedding_rows": "embedding_rows(x, i, n=5)", "einsum": 'sm.einsum("ij,jk->ik", a, b)',
    "linear": "F.linear(x, W, b)", "layer_norm": "F.layer_norm(x, x.shape[-1], w, b)",
    "rms_norm": "F.rms_norm(x, x.shape[-1], w)", "rotary": "F.rotary(x)",
    "attention": "F.scaled_dot_product_attention(q, k, v)", "nll_loss": "sm.nll_loss(log_p, y)",
    "soft_cross_entropy": "sm.cross_entropy(z, q)", "linear_cross_entropy": "sm.linear_cross_entropy(x, W, y, bias=b)",
}  # fmt: skip
NO_NAME = ("erf", "put", "embedding_rows")  # ops that others are made of
LETTERS = {"ℓ": "log_p"}


def example(op: Op) -> tuple[str, str] | None:
    """Return code that calls an op and differentiates it, and what this prints; None without samples."""
    found = _arguments(op)
    if found is None:
        return None
    args, _, g = found
    letters = [LETTERS.get(letter, letter) for letter in arguments_of(op)]
    constant = NO_GRADIENT.get(op.name, "")
    lines, leaves = [], []
    for letter, a in zip(letters, args, strict=True):
        if a is None:
            continue
        if letter in constant:
            lines.append(f"{letter} = {_written(a, 'np.array')}")
        else:
            lines.append(f"{letter} = {_written(a, 'sm.Tensor', ', requires_grad=True')}")
            leaves.append(letter)
    call = CALLS.get(op.name, f"sm.{op.name}({', '.join(letters)})")
    result = "out" if "y" in letters else "y"
    lines.append(f"{result} = {call}")
    head = _head(op, "\n".join(lines))
    namespace = _run(head + lines, [])[0]
    shape = namespace[result].shape
    if shape:
        start = np.resize([1.0, -1.0, 2.0], shape) if g is None else np.broadcast_to(g, shape)
        lines.append(f"{result}.backward({np.asarray(start, float).tolist()})")
    else:
        lines.append(f"{result}.backward()")
    shows = [f"print({result}.data)", *(f"print({leaf}.grad.data)" for leaf in leaves)]
    return "\n".join([*head, "", *lines, *shows]) + "\n", _run(head + lines, shows)[1]


def _head(op: Op, code: str) -> list[str]:
    head = ["import numpy as np", "import tinygrad_sm as sm"]
    if "F." in code:
        head.append("import tinygrad_sm.functional as F")
    if op.name in NO_NAME:
        head.append(f'{op.name} = sm.op.REGISTRY["{op.name}"]  # an op that others are made of')
    return [*head, "np.set_printoptions(precision=4, suppress=True)"]


def _written(a: Any, maker: str, more: str = "") -> str:
    """Write an array as Python text."""
    return f"{maker}({np.asarray(a).tolist()}{more})"


def _run(lines: list[str], shows: list[str]) -> tuple[dict[str, Any], str]:
    """Run code; return its names and what it prints."""
    namespace: dict[str, Any] = {}
    out = io.StringIO()
    with np.printoptions(), contextlib.redirect_stdout(out):
        exec("\n".join([*lines, *shows]), namespace)
    return namespace, out.getvalue()
