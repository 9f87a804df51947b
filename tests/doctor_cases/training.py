"""Where the gradient goes, and training as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import nn, optim

from .case import Case, batch
from .healthy import net


def dead_layer() -> dict[str, Any]:
    x, y = batch()
    first, last = nn.Linear(8, 16), nn.Linear(16, 4)
    first.bias.data = np.full(16, -20.0, np.float32)
    h = first(x).relu()  # planted
    return {"loss": F.cross_entropy(last(h), y)}


def half_dead_maximum() -> dict[str, Any]:
    x, y = batch()
    first, last = nn.Linear(8, 16), nn.Linear(16, 4)
    first.bias.data = np.where(np.arange(16) < 12, -20.0, 0.0).astype(np.float32)
    h = sm.maximum(first(x), 0.0)  # planted
    return {"loss": F.cross_entropy(last(h), y)}


def rare_units() -> dict[str, Any]:
    """Units that fire seldom: most are 0 in all rows, but not far from firing."""
    x, y = batch()
    first, last = nn.Linear(8, 16), nn.Linear(16, 4)
    first.bias.data = np.full(16, -1.2, np.float32)
    return {"loss": F.cross_entropy(last(first(x).relu()), y)}


def chain(activation: Any, scale: float) -> dict[str, Any]:
    x, y = batch()
    layers = [nn.Linear(8, 8) for _ in range(10)]
    h = x
    for layer in layers:
        layer.weight.data *= np.float32(scale)
        h = activation(layer(h))  # planted
    return {"loss": F.cross_entropy(nn.Linear(8, 4)(h), y)}


def sigmoids() -> dict[str, Any]:
    return chain(sm.sigmoid, 1.0)


def tanhs() -> dict[str, Any]:
    return chain(sm.tanh, 1.5)


def growing() -> dict[str, Any]:
    return chain(lambda h: h, 20.0)


def steps_in_time(scale: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    w = sm.Tensor((rng.normal(size=(16, 16)) / 4 * scale).astype(np.float32), requires_grad=True)
    h = sm.Tensor(rng.normal(size=(4, 16)).astype(np.float32) * 1e-6)
    for _ in range(24):
        h = h @ w  # planted
    return {"loss": F.cross_entropy(nn.Linear(16, 4)(h), np.arange(4))}


def exploding_in_time() -> dict[str, Any]:
    return steps_in_time(3.0)


def steady_in_time() -> dict[str, Any]:
    return steps_in_time(1.0)


class TwoHeads(nn.Module):
    """One of the heads may be forgotten, or cut off."""

    def __init__(self, how: str) -> None:
        self.body, self.head, self.other = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 4)
        self.how = how

    def forward(self, x: Any) -> Any:
        h = self.body(x).relu()
        if self.how == "detached":
            h = h.detach()
        return self.head(h) + (self.other(h) if self.how != "unused" else 0.0)


def unused_head() -> dict[str, Any]:
    x, y = batch()
    model = TwoHeads("unused")
    return {"loss": F.cross_entropy(model(x), y), "model": model}


def detached_body() -> dict[str, Any]:
    x, y = batch()
    model = TwoHeads("detached")
    return {"loss": F.cross_entropy(model(x), y), "model": model}


def both_heads() -> dict[str, Any]:
    x, y = batch()
    model = TwoHeads("both")
    return {"loss": F.cross_entropy(model(x), y), "model": model, "inputs": x}


def frozen_body() -> dict[str, Any]:
    x, y = batch()
    model = TwoHeads("both")
    for p in model.body.parameters():
        p.requires_grad = False
    return {"loss": F.cross_entropy(model(x), y), "model": model, "inputs": x}


def body_under_no_grad(known: bool) -> dict[str, Any]:
    """A body that may be meant to be still: `optimizer` says whether it is."""
    x, y = batch()
    model = TwoHeads("both")
    with sm.no_grad():
        h = model.body(x).relu()
    loss = F.cross_entropy(model.head(h) + model.other(h), y)
    moved = [*model.head.parameters(), *model.other.parameters()] if known else model.parameters()
    return {"loss": loss, "model": model, "optimizer": optim.Adam(moved, lr=1e-3)}


def still_but_not_meant() -> dict[str, Any]:
    return body_under_no_grad(known=False)


def still_as_meant() -> dict[str, Any]:
    return body_under_no_grad(known=True)


def replaced(late: bool) -> dict[str, Any]:
    """A new last layer, of which an optimiser that was made before knows nothing."""
    x, y = batch()
    model = net(np.float32, 8, 16, 9)
    before = optim.Adam(model.parameters(), lr=1e-3)
    model.layers[-1] = nn.Linear(16, 4)
    optimizer = before if late else optim.Adam(model.parameters(), lr=1e-3)
    return {"loss": F.cross_entropy(model(x), y), "model": model, "optimizer": optimizer}


def layer_replaced_after() -> dict[str, Any]:
    return replaced(late=True)


def layer_replaced_before() -> dict[str, Any]:
    return replaced(late=False)


def loss_of_data() -> dict[str, Any]:
    x, y = batch()
    model = TwoHeads("both")
    return {"loss": F.cross_entropy(sm.Tensor(model(x).data), y), "model": model}


def loss_of_frozen() -> dict[str, Any]:
    x, y = batch()
    model = TwoHeads("both")
    for p in model.parameters():
        p.requires_grad = False
    return {"loss": F.cross_entropy(model(sm.Tensor(x)), y), "model": model}


def loss_under_no_grad() -> dict[str, Any]:
    x, y = batch()
    model = TwoHeads("both")
    with sm.no_grad():
        return {"loss": F.cross_entropy(model(x), y), "model": model}


class Constant(nn.Module):
    """Forgets its input."""

    def __init__(self) -> None:
        self.start, self.head = sm.Tensor(np.ones((64, 8), np.float32), requires_grad=True), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        return self.head(self.start)


def input_forgotten() -> dict[str, Any]:
    x, y = batch()
    z = Constant()(x)
    return {"loss": F.cross_entropy(z, y)}  # planted


def input_times_zero() -> dict[str, Any]:
    x, y = batch()
    model = TwoHeads("both")
    model.body.bias.data = np.full(16, -50.0, np.float32)
    loss = F.cross_entropy(model(x), y)  # planted
    return {"loss": loss, "model": model, "inputs": x, "silence": ["dead-relu"]}


def float64_data() -> dict[str, Any]:
    x, y = batch()
    z = nn.Linear(8, 4)(x.astype(np.float64))  # planted
    return {"loss": F.cross_entropy(z, y)}


def float64_target() -> dict[str, Any]:
    x, _ = batch()
    return {"loss": F.mse_loss(nn.Linear(8, 1)(x), np.zeros((64, 1)))}  # planted


def float32_data() -> dict[str, Any]:
    x, y = batch()
    return {"loss": F.cross_entropy(nn.Linear(8, 4)(x), y)}


def loss_in_float64_on_purpose() -> dict[str, Any]:
    x, y = batch()
    return {"loss": F.cross_entropy(nn.Linear(8, 4)(x).astype(np.float64), y)}


def stepping(make: Any) -> dict[str, Any]:
    x, y = batch()
    model = net(np.float32, 8, 16, 4)
    return {"loss": F.cross_entropy(model(x), y), "model": model, "optimizer": make(model.parameters())}


def steps_too_large() -> dict[str, Any]:
    return stepping(lambda p: optim.Adam(p, lr=1.0))


def steps_too_large_of_sgd() -> dict[str, Any]:
    return stepping(lambda p: optim.SGD(p, lr=300.0, momentum=0.9))


def steps_too_small() -> dict[str, Any]:
    return stepping(lambda p: optim.SGD(p, lr=1e-7))


def steps_of_divergence() -> dict[str, Any]:
    """After five steps that were far too large the tanh lets nothing pass, and the first layer has no gradient."""
    x, _ = batch()
    model = net(np.float32, 8, 16, 1, activation=nn.Tanh)
    optimizer = optim.SGD(model.parameters(), lr=100.0)
    for _ in range(6):
        loss = F.mse_loss(model(x), x[:, :1])
        if optimizer.steps < 5:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {"loss": loss, "model": model, "optimizer": optimizer}


def steps_from_zero() -> dict[str, Any]:
    """The second step of weights that began at 0 is larger than they are."""
    x, y = batch()
    w = sm.Tensor(np.zeros((8, 4), np.float32), requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    F.cross_entropy(x @ w, y).backward()
    optimizer.step()
    optimizer.zero_grad()
    return {"loss": F.cross_entropy(x @ w, y), "optimizer": optimizer}


def steps_of_a_thousandth() -> dict[str, Any]:
    return stepping(lambda p: optim.Adam(p, lr=1e-3))


def taught(smoothing: float, soft: bool) -> dict[str, Any]:
    x, y = batch(classes=6)
    teacher, student = net(np.float32, 8, 16, 6), net(np.float32, 8, 16, 6)
    with sm.no_grad():
        q = F.softmax(teacher(x) * 4)
    z = student(x)
    if soft:
        loss = F.cross_entropy(z, q, label_smoothing=smoothing)  # planted
        return {"loss": loss}
    hard = F.cross_entropy(z, y, label_smoothing=smoothing)  # planted
    return {"loss": hard + F.kl_div(F.log_softmax(z), q, reduction="batchmean")}


def smoothed_teacher() -> dict[str, Any]:
    return taught(0.1, soft=True)


def smoothing_beside_a_teacher() -> dict[str, Any]:
    return taught(0.1, soft=False)


def teacher_alone() -> dict[str, Any]:
    return taught(0.0, soft=False)


CASES = [
    Case("dead-relu", dead_layer, rare_units, "relu"),
    Case("dead-relu", half_dead_maximum, rare_units, "maximum"),
    Case("vanishing-gradient", sigmoids, tanhs, "linear"),
    Case("exploding-gradient", growing, tanhs, "linear"),
    Case("exploding-gradient", exploding_in_time, steady_in_time, "matmul"),
    Case("no-gradient", unused_head, both_heads, ""),
    Case("no-gradient", detached_body, frozen_body, ""),
    Case("no-gradient", still_but_not_meant, still_as_meant, ""),
    Case("no-gradient", layer_replaced_after, layer_replaced_before, "weight"),
    Case("detached-loss", loss_of_data, both_heads, "input"),
    Case("detached-loss", loss_of_frozen, both_heads, "input"),
    Case("detached-loss", loss_under_no_grad, both_heads, "input"),
    Case("detached-loss", input_forgotten, float32_data, "cross_entropy"),
    Case("detached-loss", input_times_zero, both_heads, "cross_entropy"),
    Case("float64-creep", float64_data, float32_data, "linear"),
    Case("float64-creep", float64_target, loss_in_float64_on_purpose, "sub"),
    Case("update-ratio", steps_too_large, steps_of_a_thousandth, "weight"),
    Case("update-ratio", steps_too_large_of_sgd, steps_of_a_thousandth, "weight"),
    Case("update-ratio", steps_of_divergence, steps_from_zero, "weight"),
    Case("update-ratio", steps_too_small, steps_of_a_thousandth, "weight"),
    Case("smoothing-with-distillation", smoothed_teacher, teacher_alone, "soft_cross_entropy"),
    Case("smoothing-with-distillation", smoothing_beside_a_teacher, teacher_alone, "cross_entropy"),
]
