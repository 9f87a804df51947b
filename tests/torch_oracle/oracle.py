"""The same computation in PyTorch: values, gradients and dtypes side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from helpers import close, normal

import tinygrad_sm as sm
from tinygrad_sm import Tensor

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # small arrays: threads would only wait for each other
TOLERANCE = {np.float32: {"rtol": 2e-5, "atol": 2e-6}, np.float64: {"rtol": 1e-9, "atol": 1e-11}}


def same(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    arrays: Sequence[Any],
    dtype: Any = np.float64,
    *,
    second: bool = False,
) -> None:
    """Assert that both functions give the same value and gradients, of one dtype; to second order if asked."""
    mine = [Tensor(np.array(a, dtype), requires_grad=True) for a in arrays]
    other = [torch.tensor(np.array(a, dtype), requires_grad=True) for a in arrays]
    y, z = ours(*mine), theirs(*other)
    tolerance = TOLERANCE[dtype]
    assert y.dtype == dtype == z.detach().numpy().dtype
    close(y, z.detach().numpy(), **tolerance)
    c = normal(*y.shape, seed=11, dtype=dtype)
    gradients = sm.grad(y, mine, c, create_graph=second)
    expected = torch.autograd.grad(z, other, torch.tensor(c), create_graph=second)
    for g, e in zip(gradients, expected, strict=True):
        assert g.dtype == dtype
        close(g, e.detach().numpy(), **tolerance)
    if not second:
        return
    probes = [normal(*g.shape, seed=i, dtype=dtype) for i, g in enumerate(gradients)]
    slope = sum((g * k).sum() for g, k in zip(gradients, probes, strict=True))
    curve = sum((e * torch.tensor(k)).sum() for e, k in zip(expected, probes, strict=True))
    found = sm.grad(slope, mine, allow_unused=True)
    wanted = torch.autograd.grad(curve, other, allow_unused=True)
    for g, e in zip(found, wanted, strict=True):
        zero = np.zeros(1, dtype)
        close((zero if g is None else g.data) + zero, (zero if e is None else e.numpy()) + zero, **tolerance)
