"""The plain layers, against formulas in NumPy, differences, and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import pytest
from helpers import close, differences, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor, nn


@pytest.fixture
def torch() -> Any:
    module = pytest.importorskip("torch", minversion="2.4")  # the first with RMSNorm
    module.set_num_threads(1)
    return module


def doubled(module: nn.Module, seed: int = 0) -> Any:
    """Turn the parameters to float64, and away from their symmetric start of ones and zeros."""
    rng = np.random.default_rng(seed)
    for p in module.parameters():
        p.data = p.data + 0.1 * rng.normal(size=p.shape)
    return module


def normed(x: Any, axes: tuple[int, ...], eps: float) -> Any:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


TOKENS = np.array([[0, 4, 4], [2, 0, 1]])
# A layer, an input, its formula in NumPy on the parameters in order, and its name and arguments in PyTorch
LAYERS: dict[str, tuple[Callable[[], Any], Any, Callable[..., Any], tuple[Any, ...]]] = {
    "linear": (lambda: nn.Linear(4, 3), normal(2, 5, 4), lambda x, w, b: x @ w.T + b, ("Linear", 4, 3)),
    "linear-plain": (
        lambda: nn.Linear(4, 3, bias=False), normal(4), lambda x, w: x @ w.T, ("Linear", 4, 3, False),
    ),
    "embedding": (lambda: nn.Embedding(5, 3), TOKENS, lambda i, w: w[i], ("Embedding", 5, 3)),
    "layer_norm": (
        lambda: nn.LayerNorm(4), normal(3, 4), lambda x, w, b: normed(x, (-1,), 1e-5) * w + b, ("LayerNorm", 4),
    ),
    "layer_norm-2d": (
        lambda: nn.LayerNorm((3, 4), eps=0.1), normal(2, 3, 4),
        lambda x, w, b: normed(x, (-2, -1), 0.1) * w + b, ("LayerNorm", (3, 4), 0.1),
    ),
    "layer_norm-plain": (
        lambda: nn.LayerNorm(4, bias=False), normal(3, 4), lambda x, w: normed(x, (-1,), 1e-5) * w,
        ("LayerNorm", 4, 1e-5, True, False),
    ),
    "rms_norm": (
        lambda: nn.RMSNorm(4, eps=0.01), normal(3, 4),
        lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + 0.01) * w, ("RMSNorm", 4, 0.01),
    ),
    "rms_norm-2d": (
        lambda: nn.RMSNorm((3, 4)), normal(2, 3, 4),
        lambda x, w: x / np.sqrt((x * x).mean((-2, -1), keepdims=True) + 1e-5) * w, ("RMSNorm", (3, 4), 1e-5),
    ),
    "relu": (lambda: nn.ReLU(), normal(3, 4), lambda x: np.maximum(x, 0), ("ReLU",)),
    "gelu": (
        lambda: nn.GELU(), normal(3, 4),
        lambda x: x / 2 * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))), ("GELU", "tanh"),
    ),
    "silu": (lambda: nn.SiLU(), normal(3, 4), lambda x: x / (1 + np.exp(-x)), ("SiLU",)),
    "tanh": (lambda: nn.Tanh(), normal(3, 4), np.tanh, ("Tanh",)),
    "sigmoid": (lambda: nn.Sigmoid(), normal(3, 4), lambda x: 1 / (1 + np.exp(-x)), ("Sigmoid",)),
    "softmax": (
        lambda: nn.Softmax(0), normal(3, 4), lambda x: np.exp(x) / np.exp(x).sum(0), ("Softmax", 0),
    ),
    "log_softmax": (
        lambda: nn.LogSoftmax(-1), normal(3, 4), lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
        ("LogSoftmax", -1),
    ),
}  # fmt: skip
each_layer = pytest.mark.parametrize("name", LAYERS)


@each_layer
def test_value(name: str) -> None:
    make, x, formula, _ = LAYERS[name]
    layer = doubled(make())
    close(layer(x), formula(x, *(p.data for p in layer.parameters())))
    close(layer(Tensor(x)), layer(x))


@each_layer
def test_gradients_by_differences(name: str) -> None:
    make, x, formula, _ = LAYERS[name]
    layer = doubled(make())
    values = [p.data for p in layer.parameters()]
    inputs = Tensor(x, requires_grad=x.dtype.kind == "f")
    y = layer(inputs)
    c = normal(*y.shape, seed=3)
    y_leaves = [t for t in (inputs, *layer.parameters()) if t.requires_grad]
    first = 0 if inputs.requires_grad else 1
    expected = differences(lambda *args: (formula(*args) * c).sum(), [x, *values], range(first, len(values) + 1))
    close(sm.grad(y, y_leaves, c), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.torch
@each_layer
def test_like_torch(name: str, torch: Any) -> None:
    make, x, _, (kind, *args) = LAYERS[name]
    layer = doubled(make())
    other = getattr(torch.nn, kind)(*args).double()
    for p, q in zip(layer.parameters(), other.parameters(), strict=True):
        assert p.shape == tuple(q.shape)
        q.data = torch.tensor(p.data)
    inputs, theirs = Tensor(x, requires_grad=x.dtype.kind == "f"), torch.tensor(x)
    theirs.requires_grad = inputs.requires_grad
    y, z = layer(inputs), other(theirs)
    close(y, z.detach())
    c = normal(*y.shape, seed=3)
    if not y.requires_grad:
        return
    y.backward(c)
    z.backward(torch.tensor(c))
    pairs = [*zip(layer.parameters(), other.parameters(), strict=True), (inputs, theirs)]
    for p, q in pairs:
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            close(p.grad, q.grad)


@each_layer
def test_float32_stays(name: str) -> None:
    make, x, _, _ = LAYERS[name]
    layer = make()
    x = Tensor(x.astype(np.float32), requires_grad=True) if x.dtype.kind == "f" else x
    y = layer(x)
    assert y.dtype == np.float32
    y.sum().backward()
    wanted = [*layer.parameters(), *([x] if isinstance(x, Tensor) else [])]
    assert {p.grad.dtype for p in wanted if p.grad is not None} == {np.dtype(np.float32)}


# -- how parameters start ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "stds", "bound"),
    [
        (lambda rng: nn.Linear(100, 500, rng=rng), [0.1 / sqrt(3), 0.1 / sqrt(3)], 0.1),
        (lambda rng: nn.Embedding(200, 100, rng=rng), [1.0], None),
        (lambda rng: nn.LayerNorm(7), [0.0, 0.0], None),
        (lambda rng: nn.RMSNorm((2, 3)), [0.0], None),
    ],
)
def test_start(make: Any, stds: list[float], bound: float | None) -> None:
    a, b, c = (make(np.random.default_rng(seed)) for seed in (0, 0, 1))
    for p, q, r, std in zip(a.parameters(), b.parameters(), c.parameters(), stds, strict=True):
        assert p.requires_grad
        assert p.dtype == np.float32
        assert (p.data == q.data).all()
        assert (p.data == r.data).all() == (std == 0)
        assert p.data.std() == pytest.approx(std, rel=0.1)
        assert bound is None or 0.9 * bound < np.abs(p.data).max() <= bound


def test_start_uses_the_seeded_generator() -> None:
    sm.manual_seed(3)
    a = nn.Linear(3, 3).weight.tolist()
    assert nn.Linear(3, 3).weight.tolist() != a
    sm.manual_seed(3)
    assert nn.Linear(3, 3).weight.tolist() == a


# -- dropout, sequences, losses ----------------------------------------------------------------


def test_dropout_in_training_and_evaluation() -> None:
    layer, x = nn.Dropout(0.25), Tensor(np.ones(10_000), requires_grad=True)
    y = layer(x)
    assert set(np.unique(y.data)) == {0, 1 / 0.75}
    assert (y.data == 0).mean() == pytest.approx(0.25, abs=0.02)
    y.sum().backward()
    assert (x.grad.data == y.data).all()  # dropped elements have no gradient, the others that of the scaling
    assert (layer(x).data != y.data).any()
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x


@pytest.mark.parametrize("p", [-0.1, 1.0, 2, float("nan")])
def test_dropout_refuses(p: float) -> None:
    with pytest.raises(ValueError, match=r"Dropout: p must be in \[0, 1\)"):
        nn.Dropout(p)


def test_sequential() -> None:
    a, b = nn.Linear(2, 3), nn.Linear(3, 1)
    model = nn.Sequential(a, np.tanh, b)
    x = normal(4, 2, dtype=np.float32)
    close(model(x), b(np.tanh(a(x))))
    assert (len(model), model[0], model[-1]) == (3, a, b)
    assert [name for name, _ in model.named_parameters()] == [
        "layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias",
    ]  # fmt: skip
    assert nn.Sequential()(x) is x


Z, Y = normal(4, 3), np.array([0, 2, 1, 2])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (nn.CrossEntropyLoss(), F.cross_entropy(Z, Y)),
        (nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=2, reduction="sum", weight=[1, 2, 3]),
         F.cross_entropy(Z, Y, label_smoothing=0.1, ignore_index=2, reduction="sum", weight=[1, 2, 3])),
        (nn.NLLLoss(reduction="none"), F.nll_loss(Z, Y, reduction="none")),
        (nn.CrossEntropyLoss(reduction="none"), -np.log(np.exp(Z) / np.exp(Z).sum(1, keepdims=True))[range(4), Y]),
    ],
)  # fmt: skip
def test_losses_keep_their_options(loss: Any, expected: Any) -> None:
    close(loss(Z, Y), expected)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("mean", ((Z - 1) ** 2).mean()), ("sum", ((Z - 1) ** 2).sum()), ("none", (Z - 1) ** 2)],
)
def test_mse_loss(reduction: str, expected: Any) -> None:
    close(nn.MSELoss(reduction)(Z, np.ones_like(Z)), expected)


def test_temperature_of_softmax_modules() -> None:
    close(nn.Softmax(temperature=2.0)(Z), F.softmax(Z / 2))
    close(nn.LogSoftmax(temperature=2.0)(Z), F.log_softmax(Z / 2))


def test_module_losses_differentiate() -> None:
    z = Tensor(Z, requires_grad=True)
    nn.CrossEntropyLoss()(z, Y).backward()
    close(z.grad, (F.softmax(Z) - np.eye(3)[Y]) / 4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nn.Linear(4, 3)(normal(2, 3)), ValueError, ["Linear(4, 3)", "(2, 3)", "(3, 4)"]),
        (lambda: nn.Embedding(5, 3)([5]), IndexError, ["embedding", "5", "0 … 4"]),
        (lambda: nn.Embedding(5, 3)([0.0]), TypeError, ["embedding", "integers"]),
        (lambda: nn.LayerNorm(4)(normal(2, 3)), ValueError, ["layer_norm", "(4,)", "(2, 3)"]),
        (lambda: nn.RMSNorm(4)(normal(2, 3)), ValueError, ["rms_norm", "(4,)", "(2, 3)"]),
        (lambda: nn.GELU("exact")(Z), ValueError, ["gelu", "exact", "tanh"]),
        (lambda: nn.CrossEntropyLoss(reduction="avg")(Z, Y), ValueError, ["cross_entropy", "avg"]),
    ],
)
def test_errors_name_function_and_shapes(call: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words)
