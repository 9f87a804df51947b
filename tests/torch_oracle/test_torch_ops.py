"""Every op that PyTorch has too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import normal

pytest.importorskip("torch")
import torch
import torch.nn.functional as TF
from oracle import same

import tinygrad_sm as sm
import tinygrad_sm.functional as F

pytestmark = pytest.mark.torch
A, B = normal(2, 3), normal(2, 3, seed=1)
P = np.abs(A) + 0.5
INDEX = np.array([[0, 2, 2], [1, 1, 0]])

OPS: dict[str, tuple[Any, Any, tuple[Any, ...]]] = {
    "add": (lambda a, b: a + b, lambda a, b: a + b, (A, B[0])),
    "sub": (lambda a, b: a - b, lambda a, b: a - b, (A[:, :1], B)),
    "mul": (lambda a, b: a * b, lambda a, b: a * b, (A, B)),
    "div": (lambda a, b: a / b, lambda a, b: a / b, (A, P)),
    "pow": (lambda a, b: a**b, lambda a, b: a**b, (P, B)),
    "square": (lambda a: a**2, lambda a: a**2, (A,)),
    "cube": (lambda a: a**3, lambda a: a**3, (A,)),
    "reciprocal": (lambda a: 1 / a, lambda a: 1 / a, (P,)),
    "exponential": (lambda a: 2**a, lambda a: 2**a, (A,)),
    "exp": (sm.exp, torch.exp, (A,)), "log": (sm.log, torch.log, (P,)), "log1p": (sm.log1p, torch.log1p, (P,)),
    "expm1": (sm.expm1, torch.expm1, (A,)), "sqrt": (sm.sqrt, torch.sqrt, (P,)), "abs": (sm.abs, torch.abs, (A,)),
    "sin": (sm.sin, torch.sin, (A,)), "cos": (sm.cos, torch.cos, (A,)), "tanh": (F.tanh, torch.tanh, (A,)),
    "sigmoid": (F.sigmoid, torch.sigmoid, (A,)), "logit": (F.logit, torch.logit, (P / 4,)),
    "relu": (F.relu, torch.relu, (A,)), "silu": (F.silu, TF.silu, (A,)),
    "gelu, tanh": (F.gelu, lambda a: TF.gelu(a, approximate="tanh"), (3 * A,)),
    "maximum": (sm.maximum, torch.maximum, (A, B)), "maximum of equals": (sm.maximum, torch.maximum, (A, A)),
    "minimum": (sm.minimum, torch.minimum, (A, B)),
    "clip": (lambda a: F.clip(a, -0.5, 0.5), lambda a: torch.clamp(a, -0.5, 0.5), (A,)),
    "clip at the bounds": (lambda a: F.clip(a, -1.0, 1.0), lambda a: torch.clamp(a, -1.0, 1.0), (np.array([-2.0, -1, 0,
     1, 2]),)),
    "abs at 0": (sm.abs, torch.abs, (np.zeros(3),)), "relu at 0": (F.relu, torch.relu, (np.zeros(3),)),
    "where": (lambda a, b: F.where(INDEX > 0, a, b), lambda a, b: torch.where(torch.tensor(INDEX > 0), a, b), (A, B)),
    "sum": (lambda a: a.sum(1), lambda a: a.sum(1), (A,)),
    "mean": (lambda a: a.mean((0, 1), keepdims=True), lambda a: a.mean((0, 1), keepdim=True), (A,)),
    "var": (lambda a: a.var(1, ddof=1), lambda a: a.var(1), (A,)),
    "std": (lambda a: a.std(1), lambda a: a.std(1, correction=0), (A,)),
    "max": (lambda a: a.max(1), lambda a: a.amax(1), (A,)),
    "max of equals": (lambda a: a.max(1), lambda a: a.amax(1), (np.ones((2, 3)),)),
    "min": (lambda a: a.min(), lambda a: a.amin(), (A,)),
    "prod": (lambda a: a.prod(1), lambda a: a.prod(1), (A,)),
    "prod with zeros": (lambda a: a.prod(1), lambda a: a.prod(1), (np.array([[0.0, 2, 3], [0, 0, 1.0]]),)),
    "cumsum": (lambda a: a.cumsum(1), lambda a: a.cumsum(1), (A,)),
    "logsumexp": (lambda a: F.logsumexp(a, (0, 1)), lambda a: torch.logsumexp(a, (0, 1)), (A,)),
    "softmax": (F.softmax, lambda a: torch.softmax(a, -1), (A,)),
    "log_softmax": (lambda a: F.log_softmax(a, 0), lambda a: torch.log_softmax(a, 0), (A,)),
    "softmax with temperature": (lambda a: F.softmax(a, temperature=0.3), lambda a: torch.softmax(a / 0.3, -1), (A,)),
    "reshape": (lambda a: a.reshape(3, 2), lambda a: a.reshape(3, 2), (A,)), "transpose": (lambda a: a.T,
     lambda a: a.T, (A,)),
    "moveaxis": (lambda a: F.moveaxis(a, 0, 1), lambda a: torch.moveaxis(a, 0, 1), (A,)),
    "squeeze": (lambda a: a[:, :1].squeeze(1), lambda a: a[:, :1].squeeze(1), (A,)),
    "broadcast_to": (lambda a: F.broadcast_to(a, (4, 2, 3)), lambda a: a.expand(4, 2, 3), (A,)),
    "concatenate": (lambda a, b: F.concatenate([a, b], 1), lambda a, b: torch.cat([a, b], 1), (A, B)),
    "stack": (lambda a, b: F.stack([a, b], 1), lambda a, b: torch.stack([a, b], 1), (A, B)),
    "split": (lambda a: F.split(a, [1], 1)[1], lambda a: torch.tensor_split(a, [1], 1)[1], (A,)),
    "pad": (lambda a: F.pad(a, ((1, 0), (0, 2))), lambda a: TF.pad(a, (0, 2, 1, 0)), (A,)),
    "flip": (lambda a: F.flip(a, 1), lambda a: torch.flip(a, (1,)), (A,)),
    "tril": (F.tril, torch.tril, (A,)), "triu": (lambda a: F.triu(a, 1), lambda a: torch.triu(a, 1), (A,)),
    "matmul": (lambda a, b: a @ b.T, lambda a, b: a @ b.T, (A, B)),
    "matmul, batches": (F.matmul, torch.matmul, (normal(2, 1, 3, 4), normal(5, 4, 2))),
    "matmul, vector": (F.matmul, torch.matmul, (normal(2, 3, 4), normal(4))),
    "linear": (F.linear, TF.linear, (normal(2, 3, 4), normal(5, 4), normal(5))),
    "einsum": (lambda a, b: F.einsum("ij,kj->ik", a, b), lambda a, b: torch.einsum("ij,kj->ik", a, b), (A, B)),
    "index": (lambda a: a[[0, 1, 0], 1:], lambda a: a[[0, 1, 0], 1:], (A,)),
    "mask": (lambda a: a[INDEX > 0], lambda a: a[torch.tensor(INDEX > 0)], (A,)),
    "take_along_axis": (lambda a: F.take_along_axis(a, INDEX, 1), lambda a: torch.take_along_dim(a,
     torch.tensor(INDEX), 1), (A,)),
    "embedding": (lambda w: F.embedding(INDEX, w), lambda w: TF.embedding(torch.tensor(INDEX), w), (normal(4, 2),)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, 3, w, b), lambda x, w, b: TF.layer_norm(x, (3,), w, b), (A, B[0],
     B[1])),
    "layer_norm over two axes": (lambda x: F.layer_norm(x, (2, 3), eps=0.1), lambda x: TF.layer_norm(x, (2, 3),
     eps=0.1), (A,)),
    "rms_norm": (lambda x, w: F.rms_norm(x, 3, w, eps=1e-3), lambda x, w: TF.rms_norm(x, (3,), w, eps=1e-3), (A, B[0])),
}  # fmt: skip
ONCE = {"relu at 0"}  # their second derivatives differ by convention only


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", OPS)
def test_value_gradients_and_dtype(name: str, dtype: Any) -> None:
    ours, theirs, arrays = OPS[name]
    same(ours, theirs, arrays, dtype)


@pytest.mark.parametrize("name", [name for name in OPS if name not in ONCE])
def test_second_derivatives(name: str) -> None:
    ours, theirs, arrays = OPS[name]

    def nonlinear(f: Any) -> Any:
        return lambda *xs: (lambda y: y * y)(f(*xs))

    same(nonlinear(ours), nonlinear(theirs), arrays, second=True)


def test_exact_gelu() -> None:
    pytest.importorskip("scipy")
    same(lambda a: F.gelu(a, approximate="none"), TF.gelu, (3 * A,), second=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, inside PyTorch
def test_function_transforms() -> None:
    a, v = normal(4), normal(4, seed=1)
    t, u = torch.tensor(a), torch.tensor(v)

    def ours(x: Any) -> Any:
        return (F.softmax(x) * x**3).sum()

    def theirs(x: Any) -> Any:
        return (torch.softmax(x, -1) * x**3).sum()

    np.testing.assert_allclose(sm.hessian(ours, a).data, torch.func.hessian(theirs)(t).numpy(), rtol=1e-9)
    np.testing.assert_allclose(sm.jacobian(F.softmax, a).data,
                               torch.func.jacrev(lambda x: torch.softmax(x, -1))(t).numpy(), rtol=1e-9)  # fmt: skip
    y, moved = sm.jvp(F.log_softmax, [a], [v])
    z, expected = torch.func.jvp(lambda x: torch.log_softmax(x, -1), (t,), (u,))
    np.testing.assert_allclose([y.data, moved.data], [z.numpy(), expected.numpy()], rtol=1e-9)
    product = torch.func.jvp(torch.func.grad(theirs), (t,), (u,))[1]
    np.testing.assert_allclose(sm.hvp(ours, a, v).data, product.numpy(), rtol=1e-9)
    _, pullback = sm.vjp(F.softmax, a)
    np.testing.assert_allclose(pullback(v)[0].data, torch.func.vjp(lambda x: torch.softmax(x, -1), t)[1](u)[0].numpy(),
                               rtol=1e-9)  # fmt: skip
