"""Softmax itself."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import naive, nn

from .case import Case, batch, normal


def log_of_softmax() -> dict[str, Any]:
    x, y = batch()
    log_p = F.softmax(nn.Linear(8, 4)(x)).log()  # planted
    return {"loss": -log_p[np.arange(64), y].mean()}


def log_of_softmax_with_epsilon() -> dict[str, Any]:
    x, y = batch()
    p = F.softmax(nn.Linear(8, 4)(x))
    return {"loss": -(p[np.arange(64), y] + 1e-9).log().mean()}  # planted


def log_of_stable_softmax_by_hand() -> dict[str, Any]:
    x, y = batch()
    return {"loss": naive.cross_entropy(nn.Linear(8, 4)(x), y)}  # planted


def log_softmax() -> dict[str, Any]:
    x, y = batch()
    log_p = F.log_softmax(nn.Linear(8, 4)(x))
    return {"loss": -log_p[np.arange(64), y].mean()}


def softmax_without_maximum() -> dict[str, Any]:
    x, y = batch()
    e = nn.Linear(8, 4)(x).exp()  # planted
    p = e / e.sum(axis=1, keepdims=True)
    return {"loss": ((p - np.eye(4, dtype=np.float32)[y]) ** 2).mean()}


def logsumexp_without_maximum() -> dict[str, Any]:
    x, y = batch()
    z = nn.Linear(8, 4)(x)
    log_p = z - z.exp().sum(axis=1, keepdims=True).log()  # planted
    return {"loss": -log_p[np.arange(64), y].mean()}


def softmax_with_maximum() -> dict[str, Any]:
    x, y = batch()
    z = nn.Linear(8, 4)(x)
    e = (z - z.data.max(axis=1, keepdims=True)).exp()
    p = e / e.sum(axis=1, keepdims=True)
    return {"loss": ((p - np.eye(4, dtype=np.float32)[y]) ** 2).mean()}


def log_of_zero() -> dict[str, Any]:
    x = sm.Tensor([0.0, 0.5, 2.0], requires_grad=True, name="x")
    return {"loss": x.log().mean()}  # planted


def log_of_clipped() -> dict[str, Any]:
    x = sm.Tensor([0.0, 0.5, 2.0], requires_grad=True, name="x")
    return {"loss": x.clip(1e-6, None).log().mean()}


def exp_that_overflows() -> dict[str, Any]:
    x = sm.Tensor([0.0, 0.5, 200.0], requires_grad=True, name="x")
    return {"loss": x.exp().mean()}  # planted


def slope_of_a_root_at_zero() -> dict[str, Any]:
    x = sm.Tensor([0.0, 4.0], requires_grad=True, name="x")
    squares = x * 1.0  # planted
    return {"loss": squares.sqrt().mean()}


def root_away_from_zero() -> dict[str, Any]:
    x = sm.Tensor([0.0, 4.0], requires_grad=True, name="x")
    return {"loss": (x * 1.0 + 1e-6).sqrt().mean()}


def softmax_over_the_batch() -> dict[str, Any]:
    x, y = batch()
    p = F.softmax(nn.Linear(8, 4)(x), axis=0)  # planted
    return {"loss": ((p - np.eye(4, dtype=np.float32)[y]) ** 2).mean()}


def log_softmax_over_the_batch() -> dict[str, Any]:
    x, y = batch()
    log_p = F.log_softmax(nn.Linear(8, 4)(x), axis=0)  # planted
    return {"loss": -log_p[np.arange(64), y].mean()}


def softmax_over_the_classes() -> dict[str, Any]:
    x, y = batch()
    p = F.softmax(nn.Linear(8, 4)(x))
    return {"loss": ((p - np.eye(4, dtype=np.float32)[y]) ** 2).mean()}


def saturated() -> dict[str, Any]:
    x, y = batch()
    p = F.softmax(nn.Linear(8, 4)(x) * 200.0)  # planted
    return {"loss": ((p - np.eye(4, dtype=np.float32)[y]) ** 2).mean()}


def saturated_and_right() -> dict[str, Any]:
    _, y = batch()
    p = F.softmax(normal(64, 4) * 0.1 + 200 * np.eye(4, dtype=np.float32)[y])
    return {"loss": ((p - np.eye(4, dtype=np.float32)[y]) ** 2).mean()}


CASES = [
    Case("log-of-softmax", log_of_softmax, log_softmax, "log"),
    Case("log-of-softmax", log_of_softmax_with_epsilon, log_softmax, "log"),
    Case("log-of-softmax", log_of_stable_softmax_by_hand, log_softmax, "log"),
    Case("unstable-softmax", softmax_without_maximum, softmax_with_maximum, "exp"),
    Case("unstable-softmax", logsumexp_without_maximum, log_softmax, "exp"),
    Case("non-finite", log_of_zero, log_of_clipped, "log"),
    Case("non-finite", exp_that_overflows, log_of_clipped, "exp"),
    Case("non-finite", slope_of_a_root_at_zero, root_away_from_zero, "mul"),
    Case("softmax-over-batch", softmax_over_the_batch, softmax_over_the_classes, "softmax"),
    Case("softmax-over-batch", log_softmax_over_the_batch, log_softmax, "log_softmax"),
    Case("saturated-softmax", saturated, saturated_and_right, "softmax"),
]
