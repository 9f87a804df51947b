"""Gradient statistics by parameter and by layer, and attention statistics, worked out by hand."""

from __future__ import annotations

from math import inf, isnan, log, sqrt
from typing import Any

import numpy as np
import pytest
from helpers import leaf

import tinygrad_sm as sm
from tinygrad_sm import Tensor, nn
from tinygrad_sm.inspection import attention_stats, gradient_flow, layer_norms


class Model(nn.Module):
    """Parameters with gradients that are easy to work with; whatever is not given has none."""

    def __init__(self) -> None:
        self.head = leaf([1.0, -7.0])
        self.zero = leaf([0.0, 0.0])
        self.silent = leaf([1.0])
        self.empty = leaf(np.zeros((0, 2)))
        self.blocks = [nn.Linear(2, 2), nn.Sequential(nn.Linear(1, 1))]
        self.last = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        self.table = {"a": nn.Linear(1, 1, bias=False)}


def model() -> Any:
    m = Model()
    for path, g in {
        "head": [3.0, -4.0], "zero": [0.0, 6.0], "empty": np.zeros((0, 2)),
        "blocks.0.weight": [[0.0, 2.0], [0.0, 0.0]], "blocks.0.bias": [1.0, 2.0],
        "blocks.1.layers.0.weight": [[5.0]], "blocks.1.layers.0.bias": [12.0],
        "last.layers.0.weight": [[8.0]], "last.layers.1.bias": [-6.0], "table.a.weight": [[1e-3]],
    }.items():  # fmt: skip
        dict(m.named_parameters())[path].grad = Tensor(np.array(g))
    return m


def test_gradient_flow_by_hand() -> None:
    flow = sm.gradient_flow(model())
    assert set(flow) == {
        "head", "zero", "blocks.0.weight", "blocks.0.bias", "blocks.1.layers.0.weight", "blocks.1.layers.0.bias",
        "last.layers.0.weight", "last.layers.1.bias", "table.a.weight",
    }  # fmt: skip
    assert flow["head"] == pytest.approx(
        {"norm": 5, "rms": 5 / sqrt(2), "max": 4, "zeros": 0, "ratio": 1 / sqrt(2)}  # the value has rms 5
    )
    assert flow["zero"] == pytest.approx({"norm": 6, "rms": 6 / sqrt(2), "max": 6, "zeros": 0.5, "ratio": inf})
    row = flow["blocks.0.weight"]
    assert (row["norm"], row["rms"], row["max"], row["zeros"]) == (2, 1, 2, 0.75)


def test_gradient_flow_in_half_precision_and_with_large_numbers() -> None:
    w = leaf([1.0, 1.0], np.float16)
    w.grad = Tensor(np.array([300.0, 400.0], np.float16))  # their squares overflow float16
    m = nn.Module()
    m.w = w
    assert gradient_flow(m)["w"]["norm"] == 500


def test_gradient_flow_shows_nan() -> None:
    m = nn.Module()
    m.w = leaf([1.0, 1.0])
    m.w.grad = Tensor([np.nan, 1.0])
    assert isnan(gradient_flow(m)["w"]["norm"])


def test_no_gradients_no_rows() -> None:
    assert gradient_flow(nn.Linear(2, 2)) == {}
    assert layer_norms(nn.Linear(2, 2)) == {}


def test_layer_norms_by_hand() -> None:
    expected = {"head": 5, "zero": 6, "blocks.0": 3, "blocks.1": 13, "last": 10, "table": 1e-3}
    m = model()
    assert layer_norms(m) == pytest.approx(expected)
    assert layer_norms(m, gradient_flow(m)) == pytest.approx(expected)


def test_layers_of_a_transformer() -> None:
    lm = nn.TransformerLM(5, d_model=4, n_heads=1, n_layers=2, context=3)
    sm.cross_entropy(lm(np.array([[0, 1, 2]])), np.array([[1, 2, 3]])).backward()
    norms = layer_norms(lm)
    assert sorted(norms) == ["blocks.0", "blocks.1", "ln", "positions", "tokens"]
    total = sqrt(sum(float((p.grad.data.astype(float) ** 2).sum()) for p in lm.parameters()))
    assert sqrt(sum(n**2 for n in norms.values())) == pytest.approx(total)


H3 = (0.5 * log(2) + 2 * 0.25 * log(4)) / log(3)  # of (½, ¼, ¼), as a share of log 3


@pytest.mark.parametrize(
    ("weights", "causal", "entropy", "largest"),
    [
        (np.full((2, 4), 0.25), False, 1, 0.25),
        (np.eye(3), False, 0, 1),
        ([[0.5, 0.25, 0.25], [1, 0, 0]], False, H3 / 2, 0.75),
        ([[1, 0, 0], [0.5, 0.5, 0], [0.5, 0.25, 0.25]], True, (1 + H3) / 2, 0.5),  # row 0 has no choice
        ([[1, 0, 0], [1, 0, 0], [1, 0, 0]], True, 0, 1),
        ([[[[1, 0], [0.5, 0.5]]], [[[1, 0], [1, 0]]]], True, 0.5, 0.75),  # (B, H, T, S)
        ([[0, 0]], False, 0, 0),  # a row that attends to nothing
    ],
)
def test_attention_stats_by_hand(weights: Any, causal: bool, entropy: float, largest: float) -> None:
    for dtype in (np.float64, np.float32):
        stats = attention_stats(np.array(weights, dtype), causal=causal)
        assert stats == pytest.approx({"entropy": entropy, "largest": largest}, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("weights", "causal"), [([[1.0]], True), ([[1.0], [1.0]], False)])
def test_attention_with_no_choice_has_no_statistics(weights: Any, causal: bool) -> None:
    assert all(isnan(v) for v in attention_stats(np.array(weights), causal=causal).values())
