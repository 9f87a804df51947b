"""Normalization over the last axes, with and without scale and shift, in every precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor


def test_layer_norm_has_mean_0_and_variance_1() -> None:
    y = F.layer_norm(Tensor(3 + 10 * normal(4, 50)), 50, eps=0.0).data
    close(y.mean(axis=-1), np.zeros(4), atol=1e-14)
    close(y.var(axis=-1), np.ones(4), rtol=1e-13)


def test_rms_norm_has_mean_square_1() -> None:
    y = F.rms_norm(Tensor(3 + 10 * normal(4, 50)), 50, eps=0.0).data
    close((y * y).mean(axis=-1), np.ones(4), rtol=1e-13)


@pytest.mark.parametrize("shape", [3, (3,), (2, 3), (4, 2, 3)], ids=str)
@pytest.mark.parametrize("affine", ["none", "weight", "bias", "both"])
def test_over_several_axes_is_over_one_flattened(shape: Any, affine: str) -> None:
    full = (shape,) if isinstance(shape, int) else shape
    x, w, b = leaf(normal(4, 2, 3)), leaf(normal(*full, seed=1)), leaf(normal(*full, seed=2))
    weight = w if affine in ("weight", "both") else None
    bias = b if affine in ("bias", "both") else None
    y = F.layer_norm(x, shape, weight, bias)
    axes = tuple(range(-len(full), 0))
    centred = x - x.mean(axis=axes, keepdims=True)
    z = centred / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + 1e-5)
    z = z if weight is None else z * w
    z = z if bias is None else z + b
    leaves = [t for t in (x, weight, bias) if t is not None]
    close(y, z, rtol=1e-12, atol=1e-13)
    c = normal(*y.shape, seed=3)
    for create_graph in (False, True):
        close(sm.grad(y, leaves, c, create_graph=create_graph), sm.grad(z, leaves, c), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [3, (2, 3)], ids=str)
def test_rms_norm_over_several_axes(shape: Any) -> None:
    full = (shape,) if isinstance(shape, int) else shape
    x, w = leaf(normal(4, 2, 3)), leaf(normal(*full, seed=1))
    axes = tuple(range(-len(full), 0))
    y, z = F.rms_norm(x, shape, w, eps=1e-3), x / np.sqrt((x * x).mean(axis=axes, keepdims=True) + 1e-3) * w
    close(y, z, rtol=1e-12)
    c = normal(*y.shape, seed=3)
    close(sm.grad(y, [x, w], c), sm.grad(z, [x, w], c), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("f", [F.layer_norm, F.rms_norm], ids=lambda f: f.__name__)
def test_half_precision_computes_in_single(f: Any) -> None:
    x = (1000 * normal(2, 64)).astype(np.float16)  # squares that float16 cannot hold
    t = Tensor(x, requires_grad=True)
    y = f(t, 64)
    assert y.dtype == np.float16
    close(y, f(x.astype(np.float64), 64), rtol=2e-3, atol=2e-3)
    (g,) = sm.grad((y * y * y).sum(), t)
    assert g.dtype == np.float16
    assert np.isfinite(g.data).all()


@pytest.mark.parametrize("f", [F.layer_norm, F.rms_norm], ids=lambda f: f.__name__)
def test_constant_rows_are_finite(f: Any) -> None:
    x = leaf(np.zeros((2, 4)))
    y = f(x, 4)
    (g,) = sm.grad(y, x, np.ones((2, 4)))
    assert np.isfinite(y.data).all()
    assert np.isfinite(g.data).all()


@pytest.mark.parametrize("f", [F.layer_norm, F.rms_norm], ids=lambda f: f.__name__)
def test_no_rows_give_no_rows(f: Any) -> None:
    x, w = leaf(np.zeros((0, 4))), leaf(np.ones(4))
    y = f(x, 4, w)
    gx, gw = sm.grad(y, [x, w], np.zeros((0, 4)))
    assert gx.shape == (0, 4)
    assert gw.tolist() == [0, 0, 0, 0]


X = Tensor(np.ones((2, 3)))
ERRORS = [
    ("layer_norm", lambda: F.layer_norm(X, 4), r"normalized_shape \(4,\) is not how the shape of x \(2, 3\) ends"),
    ("layer_norm", lambda: F.layer_norm(X, ()), r"normalized_shape \(\)"),
    ("layer_norm", lambda: F.layer_norm(X, 3, Tensor(np.ones(2))),
     r"weight of shape \(2,\) must have normalized_shape \(3,\)"),
    ("layer_norm", lambda: F.layer_norm(X, 3, None, Tensor(np.ones((1, 3)))), r"bias of shape \(1, 3\)"),
    ("rms_norm", lambda: F.rms_norm(X, (3, 2)), r"normalized_shape \(3, 2\)"),
    ("rms_norm", lambda: F.rms_norm(X, 3, Tensor(np.ones(4))), r"weight of shape \(4,\)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "f", "message"), ERRORS)
def test_errors(name: str, f: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: {message}"):
        f()
