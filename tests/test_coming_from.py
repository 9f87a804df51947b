"""Each row of the tables of docs/coming-from.md runs on both sides, and gives the same numbers."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import nn, optim

PAGE = Path(__file__).parent.parent / "docs/coming-from.md"
ROW = re.compile(r"^\| `(.+?)` \| `(.+?)` \|", re.M)
X = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
RNG = np.random.default_rng(0)
A, INDEX, TARGET, SOFT = np.arange(6.0), np.array([[2], [0]]), np.array([2, 0]), np.full((2, 3), 1 / 3, np.float32)
Z, T = RNG.normal(size=(2, 4, 5)), RNG.integers(0, 5, (2, 4))
Q, M = RNG.normal(size=(2, 3, 4)), np.array([[True, False, False], [True, True, False], [False, True, True]])
INPUTS = np.ones((2, 3), np.float32)


def rows(start: str, end: str) -> list[tuple[str, str]]:
    """Return the pairs of code between two headings."""
    text = PAGE.read_text(encoding="utf-8")
    return ROW.findall(text[text.index(f"\n{start}\n") : text.index(f"\n{end}\n") if end else None])


def run(code: str, names: dict[str, Any]) -> Any:
    """Return the value of an expression; of a statement None."""
    try:
        return eval(code, names)
    except SyntaxError:
        exec(code, names)
        return None


def plain(value: Any) -> Any:
    """Return what can be compared: names as a list, numbers as an array, and None for all else."""
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return value
    value = getattr(value, "data", value) if type(value).__name__ == "Value" else value
    value = value.detach() if hasattr(value, "detach") else value
    value = getattr(value, "data") if type(value).__name__ == "Tensor" else value  # noqa: B009
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # a list of modules or parameters
        return None
    return array if array.dtype.kind in "fiub" else None


def compare(pairs: list[tuple[str, str]], there: Any, here: Any) -> int:
    """Run both sides of each row in new names; return how many rows had numbers to compare."""
    compared = 0
    for theirs, ours in pairs:
        sides = there(), here()
        values = [plain(run(code, names)) for code, names in zip((theirs, ours), sides, strict=True)]
        if all(value is None for value in values):  # a statement: what has it done to the gradient?
            values = [plain(getattr(names.get("w"), "grad", None)) for names in sides]
        expected, found = values
        if isinstance(expected, list):
            assert expected == found, theirs
        elif expected is not None and found is not None:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=f"{theirs} | {ours}")
            compared += 1
    return compared


def ours() -> dict[str, Any]:
    """Return the names of this library's side."""
    x, w = sm.Tensor(X, requires_grad=True), sm.Tensor([1.0, 2.0], requires_grad=True)
    layer = nn.Linear(3, 2)
    loss = (w * w).sum()
    loss.backward()
    layer(INPUTS).sum().backward()
    ps = layer.parameters()
    sm.save("layer.npz", layer)
    return {
        "sm": sm, "np": np, "F": F, "nn": nn, "optim": optim, "x": x, "a": A, "index": INDEX, "w": w, "loss": loss,
        "f": lambda t: (t**3).sum(), "g": lambda t: t**2, "v": np.array([1.0, -1.0], np.float32), "target": TARGET,
        "soft": SOFT, "z": Z, "t": T, "q": Q, "m": M, "layer": layer, "ps": ps, "opt": optim.SGD(ps), "inputs": INPUTS,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # those of PyTorch
def test_the_rows_of_pytorch(tmp_path, monkeypatch):
    """The tables of PyTorch."""
    torch = pytest.importorskip("torch")
    data = import_module("torch.utils.data")
    monkeypatch.chdir(tmp_path)

    def theirs() -> dict[str, Any]:
        x, w = torch.tensor(X, requires_grad=True), torch.tensor([1.0, 2.0], requires_grad=True)
        layer = torch.nn.Linear(3, 2)
        layer(torch.ones(2, 3)).sum().backward()
        loss = (w * w).sum()
        loss.backward(retain_graph=True)
        ps = list(layer.parameters())
        torch.save(layer.state_dict(), "layer.pt")
        arrays = {"index": INDEX, "target": TARGET, "soft": SOFT, "z": Z, "t": T, "q": Q, "m": M, "inputs": INPUTS}
        return {
            "torch": torch, "F": torch.nn.functional, "nn": torch.nn, "x": x, "a": A, "w": w, "loss": loss,
            "f": lambda t: (t**3).sum(), "g": lambda t: t**2, "v": torch.tensor([1.0, -1.0]), "layer": layer, "ps": ps,
            "opt": torch.optim.SGD(ps), "DataLoader": data.DataLoader, "TensorDataset": data.TensorDataset,
            **{name: torch.tensor(array) for name, array in arrays.items()},
        }  # fmt: skip

    assert compare(rows("## From PyTorch", "## From HIPS autograd"), theirs, ours) > 50


@pytest.mark.usefixtures("registry")
def test_the_rows_of_autograd():
    """The table of HIPS autograd, whose users have arrays of float64."""
    autograd = pytest.importorskip("autograd")
    anp, extend = import_module("autograd.numpy"), import_module("autograd.extend")
    operators = import_module("autograd.differential_operators")
    check_grads = import_module("autograd.test_util").check_grads
    common = {"x": np.array([0.5, -1.0, 2.0]), "v": np.array([1.0, 0.0, -2.0]), "h": np.square}

    def names(np: Any) -> dict[str, Any]:
        return {"np": np, "f": lambda x: np.sum(np.sin(x) ** 2), "g": lambda x: np.tanh(x) * x, **common}

    def theirs() -> dict[str, Any]:
        some = {name: getattr(operators, name) for name in ("make_hvp", "make_jvp", "hessian", "jacobian")}
        some |= {name: getattr(autograd, name) for name in ("grad", "value_and_grad", "elementwise_grad", "make_vjp")}
        some |= {"check_grads": check_grads, "primitive": extend.primitive, "defvjp": extend.defvjp}
        return names(anp) | some

    assert compare(rows("## From HIPS autograd", "## From micrograd"), theirs, lambda: {"sm": sm, **names(np)}) >= 8


def test_the_rows_of_micrograd():
    """The table of micrograd."""
    Value = pytest.importorskip("micrograd.engine").Value
    pairs = rows("## From micrograd", "## From MyGrad")
    here = {"sm": sm, "v": sm.Tensor(2.0, requires_grad=True)}
    assert compare(pairs, lambda: {"Value": Value, "v": Value(2.0)}, lambda: here) >= 1


def test_the_rows_of_mygrad():
    """The table of MyGrad."""
    mg = pytest.importorskip("mygrad")
    softmax = import_module("mygrad.nnet.activations").softmax
    softmax_crossentropy = import_module("mygrad.nnet.losses").softmax_crossentropy
    common = {"np": np, "target": np.array([2])}

    def theirs() -> dict[str, Any]:
        more = {"mg": mg, "softmax": softmax, "softmax_crossentropy": softmax_crossentropy}
        return common | more | {"x": mg.tensor(X[:1])}

    def here() -> dict[str, Any]:
        return common | {"sm": sm, "x": sm.Tensor(X[:1], requires_grad=True)}

    assert compare(rows("## From MyGrad", ""), theirs, here) >= 5
