"""Losses of PyTorch: read into a Graph, examined and drawn from the outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_sm as sm
from tinygrad_sm import functional as ours
from tinygrad_sm.interop import torch as interop

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
nn, F = torch.nn, torch.nn.functional

X, Y = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 4
TOKENS = torch.randint(0, 20, (4, 13), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _torch_seeded() -> None:
    torch.manual_seed(0)


def mlp(activation: Any = None, depth: int = 1) -> Any:
    """Return linear layers with an activation between."""
    inner: list[Any] = []
    for _ in range(depth):
        inner += [nn.Linear(8, 8), activation or nn.ReLU()]
    return nn.Sequential(*inner, nn.Linear(8, 4))


class Two(nn.Module):
    """Has a layer that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        return self.used(x)


class Lm(nn.Module):
    """PyTorch's Transformer, with or without a mask."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=dropout)
        self.tokens, self.body, self.head = nn.Embedding(20, 16), nn.TransformerEncoder(layer, 2), nn.Linear(16, 20)

    def forward(self, x: Any, causal: bool) -> Any:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if causal else None
        return self.head(self.body(self.tokens(x), mask=mask))


def lm_loss(causal: bool, dropout: float = 0.0) -> tuple[Any, Any]:
    model = Lm(dropout)
    z = model(TOKENS[:, :-1], causal)
    return F.cross_entropy(z.transpose(1, 2), TOKENS[:, 1:]), model


def qkv() -> Any:
    return [torch.randn(2, 3, 12, 32, requires_grad=True) for _ in range(3)]


def by_hand(scale: float) -> Any:
    q, k, v = qkv()
    return (torch.softmax(q @ k.transpose(-1, -2) * scale, -1) @ v).pow(2).mean()


def naive(z: Any) -> Any:
    e = z.exp()
    return e / e.sum(1, keepdim=True)


def unused() -> tuple[Any, Any]:
    model = Two()
    return F.cross_entropy(model(X), Y), model


def under_no_grad() -> Any:
    with torch.no_grad():
        return F.cross_entropy(mlp()(X), Y)


WRONG: dict[str, tuple[Callable[[], Any], str, str]] = {
    "softmax twice": (
        lambda: F.cross_entropy(F.softmax(mlp()(X), -1), Y),
        "softmax-before-cross-entropy", "cross_entropy",
    ),
    "softmax twice in a module": (
        lambda: nn.CrossEntropyLoss()(nn.Softmax(1)(mlp()(X)), Y),
        "softmax-before-cross-entropy", "cross_entropy",
    ),
    "sigmoid": (
        lambda: F.cross_entropy(torch.sigmoid(mlp()(X)), Y),
        "softmax-before-cross-entropy", "cross_entropy",
    ),
    "log_softmax of softmax": (
        lambda: F.nll_loss(F.log_softmax(F.softmax(mlp()(X), 1), 1), Y),
        "softmax-before-cross-entropy", "cross_entropy",
    ),
    "softmax twice over sequences": (
        lambda: F.cross_entropy(F.softmax(mlp()(X.reshape(8, 8, 8)), -1).transpose(1, 2), Y.reshape(8, 8)),
        "softmax-before-cross-entropy", "cross_entropy",
    ),
    "soft targets": (
        lambda: F.cross_entropy(F.softmax(mlp()(X), 1), F.softmax(torch.randn(64, 4), 1)),
        "softmax-before-cross-entropy", "log_softmax",
    ),
    "nll of probabilities": (lambda: F.nll_loss(F.softmax(mlp()(X), 1), Y), "nll-on-probabilities", "nll_loss"),
    "kl_div of probabilities": (
        lambda: F.kl_div(F.softmax(mlp()(X), 1), F.softmax(torch.randn(64, 4), 1), reduction="batchmean"),
        "nll-on-probabilities", "sub",
    ),
    "sigmoid twice": (
        lambda: F.binary_cross_entropy_with_logits(torch.sigmoid(mlp()(X)[:, 0]), (Y > 1).float()),
        "softmax-before-cross-entropy", "binarycrossentropywithlogits",
    ),
    "nll of logits": (lambda: F.nll_loss(mlp()(X), Y), "nll-on-logits", "nll_loss"),
    "log of softmax": (lambda: -F.softmax(mlp()(X), -1).log()[torch.arange(64), Y].mean(), "log-of-softmax", "log"),
    "log of softmax and ε": (
        lambda: -torch.log(F.softmax(mlp()(X), 1) + 1e-8)[torch.arange(64), Y].mean(),
        "log-of-softmax", "log",
    ),
    "softmax by hand": (lambda: naive(mlp()(X)).pow(2).mean(), "unstable-softmax", "exp"),
    "softmax over the batch": (
        lambda: F.nll_loss(F.log_softmax(mlp()(X), 0), Y),
        "softmax-over-batch", "log_softmax",
    ),
    "wrong axis": (
        lambda: F.cross_entropy(nn.Linear(8, 5)(torch.randn(6, 5, 8)), torch.arange(30).reshape(6, 5) % 5),
        "wrong-class-axis", "cross_entropy",
    ),
    "one class": (lambda: F.cross_entropy(mlp()(X), Y * 0), "degenerate-targets", "cross_entropy"),
    "mean twice": (lambda: F.cross_entropy(mlp()(X), Y) / 64, "double-mean", "div"),
    "unscaled": (
        lambda: F.scaled_dot_product_attention(*qkv(), scale=1.0).pow(2).mean(),
        "unscaled-attention", "attention",
    ),
    "unscaled by hand": (lambda: by_hand(1.0), "unscaled-attention", "softmax"),
    "sigmoids": (lambda: F.cross_entropy(mlp(nn.Sigmoid(), 10)(X), Y), "vanishing-gradient", "linear"),
    "unused layer": (unused, "no-gradient", ""),
    "no history": (under_no_grad, "detached-loss", "loss"),
    "the future": (lambda: lm_loss(causal=False), "missing-causal-mask", "attention"),
    "the future, with dropout": (lambda: lm_loss(causal=False, dropout=0.1), "missing-causal-mask", "softmax"),
}  # fmt: skip


def lstm() -> Any:
    model = nn.LSTM(8, 16, batch_first=True)
    return model(X.reshape(8, 8, 8))[0].pow(2).mean(), model


def convolution() -> Any:
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4)
    model = nn.Sequential(*layers)
    return F.cross_entropy(model(torch.randn(64, 1, 8, 8)), Y), model


def with_model(make: Callable[[Any], Any]) -> Any:
    model = mlp()
    return make(model), model


RIGHT: dict[str, Callable[[], Any]] = {
    "classifier": lambda: with_model(lambda m: F.cross_entropy(m(X), Y)),
    "classifier with smoothing and weights": lambda: with_model(
        lambda m: F.cross_entropy(m(X), Y, weight=torch.ones(4), label_smoothing=0.1)
    ),
    "soft targets": lambda: with_model(lambda m: F.cross_entropy(m(X), F.softmax(torch.randn(64, 4), 1))),
    "nll of log_softmax": lambda: with_model(lambda m: F.nll_loss(F.log_softmax(m(X), 1), Y)),
    "double precision": lambda: F.cross_entropy(mlp().double()(X.double()), Y),
    "bfloat16": lambda: F.cross_entropy(mlp().bfloat16()(X.bfloat16()).float(), Y),
    "regression": lambda: F.mse_loss(mlp()(X), torch.randn(64, 4)),
    "binary": lambda: F.binary_cross_entropy_with_logits(mlp()(X)[:, 0], (Y > 1).float()),
    "binary by hand": lambda: F.binary_cross_entropy(torch.sigmoid(mlp()(X)[:, 0]), (Y > 1).float()),
    "distillation": lambda: F.kl_div(
        F.log_softmax(mlp()(X) / 4, 1), F.softmax(torch.randn(64, 4), 1), reduction="batchmean"
    ),
    "language model": lambda: lm_loss(causal=True),
    "language model with dropout": lambda: lm_loss(causal=True, dropout=0.1),
    "attention": lambda: F.scaled_dot_product_attention(*qkv()).pow(2).mean(),
    "attention by hand": lambda: by_hand(32**-0.5),
    "positions as many as classes": lambda: F.cross_entropy(
        nn.Linear(8, 5)(torch.randn(6, 5, 8)).transpose(1, 2), torch.arange(30).reshape(6, 5) % 5
    ),
    "recurrent": lstm,
    "convolutions": convolution,
    "six layers of tanh": lambda: F.cross_entropy(mlp(nn.Tanh(), 6)(X), Y),
    "micro-batches": lambda: F.cross_entropy(mlp()(X), Y) / 4,
    "log of one more than a softmax": lambda: torch.log(F.softmax(mlp()(X), 1) + 1.0).mean(),
    "a parameter alone": lambda: torch.ones(3, requires_grad=True).sum(),
    "shared and used twice": lambda: (lambda w: (w * w + w).sum())(torch.ones(3, requires_grad=True)),
}


def examined(made: Any) -> Any:
    return sm.doctor(*made) if isinstance(made, tuple) else sm.doctor(made)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str) -> None:
    make, rule, op = WRONG[name]
    report = examined(make())
    assert {found.rule for found in report} == {rule}, report
    assert report[0].op == op
    assert rule in str(report)


@pytest.mark.parametrize("name", RIGHT)
def test_healthy_programs(name: str) -> None:
    report = examined(RIGHT[name]())
    assert not report, report
    assert report.unchecked["update-ratio"] == "not for losses of PyTorch"


def test_the_unused_layer_is_named() -> None:
    (found,) = examined(unused())
    assert (found.module, found.evidence["names"]) == ("unused", ["unused.weight", "unused.bias"])


def test_modules_and_names_come_from_the_model() -> None:
    model = mlp()
    graph = interop.graph(F.cross_entropy(model(X), Y), model)
    assert {node.name for node in graph.find(role="parameter")} == {name for name, _ in model.named_parameters()}
    assert [node.scope for node in graph.find("linear")] == [
        ("Sequential", "0: Linear"), ("Sequential", "2: Linear"),
    ]  # fmt: skip


def test_lines_are_known_under_detect_anomaly() -> None:
    with pytest.warns(UserWarning, match="Anomaly"), torch.autograd.detect_anomaly(check_nan=False):
        loss = F.cross_entropy(F.softmax(mlp()(X), 1), Y)  # here
    (found,) = sm.doctor(loss)
    assert found.source.startswith("test_interop_torch.py:")
    assert found.source.endswith("# here")


def test_values_and_gradients_are_those_of_pytorch() -> None:
    w = torch.randn(8, 4, requires_grad=True)
    z = X @ w
    p = F.softmax(z, 1)
    loss = F.cross_entropy(p, Y)
    graph = interop.graph(loss)
    expected = torch.autograd.grad(loss, [w, z, p], retain_graph=True)
    nodes = [graph.find(role="parameter")[0], graph.find("matmul")[0], graph.find("softmax")[0]]
    for node, gradient in zip(nodes, expected, strict=True):
        assert np.allclose(node.grad, gradient.numpy())
    assert np.array_equal(nodes[2].value, p.detach().numpy())
    assert not nodes[1].known
    assert graph.roots[0].value == loss.item()
    assert w.grad is None


def test_it_says_the_same_of_the_same_program() -> None:
    w = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    theirs = sm.doctor(F.cross_entropy(F.softmax(X @ torch.tensor(w, requires_grad=True), 1), Y))
    own = sm.doctor(ours.cross_entropy(ours.softmax(X.numpy() @ sm.Tensor(w, requires_grad=True)), Y.numpy()))
    assert [(found.rule, found.op, found.message) for found in theirs] == [
        (found.rule, found.op, found.message) for found in own
    ]


def test_backward_works_afterwards_and_is_the_same() -> None:
    model = mlp()
    loss = F.cross_entropy(model(X), Y)
    sm.doctor(loss, model)
    sm.draw(loss, model)
    assert all(p.grad is None for p in model.parameters())
    loss.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    F.cross_entropy(model(X), Y).backward()
    assert all(torch.equal(g, p.grad) for g, p in zip(gradients, model.parameters(), strict=True))


def test_it_is_drawn(tmp_path: Path) -> None:
    model = mlp()
    drawing = sm.draw(F.cross_entropy(model(X), Y), model)
    assert drawing.alt.startswith("Computation graph of cross_entropy: ")
    for kind in ("svg", "html", "json", "dot"):
        assert drawing.save(tmp_path / f"graph.{kind}").stat().st_size > 100
    text = (tmp_path / "graph.dot").read_text(encoding="utf-8")
    assert "not kept" in text
    assert "0: Linear" in text


def test_a_deep_graph_is_read() -> None:
    x = torch.ones(2, requires_grad=True)
    y = x
    for _ in range(3000):
        y = y * 1.0
    assert len(interop.graph(y.sum())) == 3002


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: sm.doctor(torch.ones(2, requires_grad=True) * 2), ValueError, r"one number, not of shape \(2,\)"),
        (lambda: sm.doctor(torch.ones(1, requires_grad=True).sum(), sm.nn.Linear(2, 2)), TypeError, "torch.nn.Module"),
        (lambda: sm.doctor(torch.ones(1).sum(), optimizer=3), TypeError, "leave them out for PyTorch's"),
        (lambda: sm.draw(torch.ones(1, requires_grad=True).sum(), 3), TypeError, "torch.nn.Module, not with a int"),
    ],
)
def test_what_it_refuses(call: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_after_backward_the_graph_is_gone() -> None:
    model = mlp()
    loss = F.cross_entropy(model(X), Y)
    loss.backward()
    with pytest.raises(ValueError, match=r"backward\(\) frees it, so call this before"):
        sm.doctor(loss, model)


def test_pytorch_is_not_imported_for_our_own() -> None:
    code = "import sys, tinygrad_sm as sm; t = sm.Tensor([1.0], requires_grad=True).sum(); sm.doctor(t); sm.draw(t); "
    run = subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], capture_output=True)
    assert run.returncode == 0, run.stderr
