"""Every loss with every option, and attention, beside PyTorch's."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers import normal

pytest.importorskip("torch")
import torch
import torch.nn.functional as TF
from oracle import same

import tinygrad_sm.functional as F

pytestmark = pytest.mark.torch
Z = normal(4, 5, 3)  # (batch, classes, positions)
TARGET = np.random.default_rng(0).integers(0, 5, (4, 3))
SOFT = np.random.default_rng(1).dirichlet(np.ones(5), (4, 3))
WEIGHT = np.array([1.0, 0.5, 2.0, 0.25, 3.0])
REDUCTIONS = ["mean", "sum", "none"]
OPTIONS = list(product(REDUCTIONS, [None, WEIGHT], [-100, 2], [0.0, 0.1, 1.0], [1, -1]))


def laid_out(array: Any, axis: int) -> Any:
    """Return an array with the classes on axis 1 as one with them on `axis`."""
    return np.moveaxis(array, 1, axis)


def theirs(f: Any, axis: int, dtype: Any, target: Any, **options: Any) -> Any:
    weight = options.pop("weight", None)
    kind = torch.tensor(target if target.dtype.kind == "i" else target.astype(dtype))
    tensor = None if weight is None else torch.tensor(weight.astype(dtype))
    return lambda z: f(torch.movedim(z, axis, 1), kind, weight=tensor, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize(("reduction", "weight", "ignore", "smoothing", "axis"), OPTIONS, ids=str)
def test_cross_entropy_of_indices(
    reduction: str, weight: Any, ignore: int, smoothing: float, axis: int, dtype: Any
) -> None:
    options = {"weight": weight, "ignore_index": ignore, "label_smoothing": smoothing, "reduction": reduction}
    same(lambda z: F.cross_entropy(z, TARGET, axis=axis, **options),
         theirs(TF.cross_entropy, axis, dtype, TARGET, **options), [laid_out(Z, axis)], dtype,
          second=dtype is np.float64)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize(("reduction", "weight", "smoothing", "axis"),
                         list(product(REDUCTIONS, [None, WEIGHT], [0.0, 0.1], [1, -1])), ids=str)  # fmt: skip
def test_cross_entropy_of_probabilities(reduction: str, weight: Any, smoothing: float, axis: int, dtype: Any) -> None:
    options = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}
    q = np.moveaxis(SOFT, -1, 1)
    tensor = None if weight is None else torch.tensor(weight.astype(dtype))
    for learned in (False, True):
        if not learned:
            same(lambda z: F.cross_entropy(z, laid_out(q, axis), axis=axis, **options),
                 theirs(TF.cross_entropy, axis, dtype, q, **options), [laid_out(Z, axis)], dtype,
                  second=True)  # fmt: skip
            continue
        same(lambda z, t: F.cross_entropy(z, t, axis=axis, **options),
             lambda z, t: TF.cross_entropy(z.movedim(axis, 1), t.movedim(axis, 1), **{**options, "weight": tensor}),
             [laid_out(Z, axis), laid_out(q, axis)], dtype, second=True)  # fmt: skip


@pytest.mark.parametrize(("reduction", "weight", "ignore", "axis"),
                         list(product(REDUCTIONS, [None, WEIGHT], [-100, 2], [1, -1])), ids=str)  # fmt: skip
def test_nll_loss(reduction: str, weight: Any, ignore: int, axis: int) -> None:
    options = {"weight": weight, "ignore_index": ignore, "reduction": reduction}
    for dtype in (np.float32, np.float64):
        same(lambda z: F.nll_loss(z, TARGET, axis=axis, **options), theirs(TF.nll_loss, axis, dtype, TARGET, **options),
             [laid_out(Z, axis)], dtype)  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
def test_kl_div(reduction: str, log_target: bool) -> None:
    options = {"reduction": reduction, "log_target": log_target}
    target = np.log(SOFT) if log_target else SOFT
    for dtype in (np.float32, np.float64):
        same(lambda p, q: F.kl_div(p, q, **options), lambda p, q: TF.kl_div(p, q, **options),
             [np.log(SOFT[::-1]), target], dtype)  # fmt: skip


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_of_differences(name: str, reduction: str) -> None:
    for dtype in (np.float32, np.float64):
        same(lambda a, b: getattr(F, name)(a, b, reduction=reduction),
             lambda a, b: getattr(TF, name)(a, b, reduction=reduction), [Z, Z[::-1]], dtype)  # fmt: skip


MASKS = {
    "none": None, "bool": np.array([[True, False, True, True], [True, True, False, False], [False, True, True, True]]),
    "float": normal(3, 4), "float per head": normal(2, 1, 3, 4),
    "hiding": np.where(normal(3, 4) > 0.5, -np.inf, 0.3),
}  # fmt: skip


@pytest.mark.parametrize("scale", [None, 1.0, 0.2])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_attention(mask: Any, scale: Any, dtype: Any) -> None:
    arrays = [normal(2, 2, 3, 5), normal(2, 2, 4, 5, seed=1), normal(2, 2, 4, 6, seed=2)]
    tensor = None if mask is None else torch.tensor(mask if mask.dtype == bool else mask.astype(dtype))
    same(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask=mask, scale=scale),
         lambda q, k, v: TF.scaled_dot_product_attention(q, k, v, attn_mask=tensor, scale=scale), arrays,
          dtype)  # fmt: skip
    if dtype is np.float64:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the one that goes to second order
            same(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask=mask, scale=scale),
                 lambda q, k, v: TF.scaled_dot_product_attention(q, k, v, attn_mask=tensor, scale=scale), arrays,
                 second=True)  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (5, 3)], ids=str)
def test_causal_attention(shape: tuple[int, int]) -> None:
    t, s = shape
    arrays = [normal(2, t, 4), normal(2, s, 4, seed=1), normal(2, s, 4, seed=2)]
    for dtype in (np.float32, np.float64):
        same(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
             lambda q, k, v: TF.scaled_dot_product_attention(q, k, v, is_causal=True), arrays, dtype)  # fmt: skip


def test_a_learned_mask() -> None:
    arrays = [normal(2, 3, 4), normal(2, 5, 4, seed=1), normal(2, 5, 4, seed=2), normal(3, 5, seed=3)]
    same(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, mask=m),
         lambda q, k, v, m: TF.scaled_dot_product_attention(q, k, v, attn_mask=m), arrays)  # fmt: skip
