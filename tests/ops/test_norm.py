"""Normalization over the last axes, with and without scale and shift, in every precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor
from tinygrad_sm.ops import blocked


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


def both(x: Any, w: Any, b: Any) -> list[tuple[Any, Any]]:
    """Return outputs, and functions of the same in simple ops."""
    centred = x - x.mean(axis=-1, keepdims=True)
    plain = centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-5)
    rms = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
    n = x.shape[-1]
    return [
        (F.layer_norm(x, n), plain),
        (F.layer_norm(x, n, w, b), plain * w + b),
        (F.layer_norm(x, n, None, b), plain + b),
        (F.rms_norm(x, n), rms),
        (F.rms_norm(x, n, w), rms * w),
    ]


# More numbers than BLAS takes in one thread; rows of more; few.
@pytest.mark.parametrize("shape", [(40, 300), (3, 8300), (2, 7, 5)], ids=str)
@pytest.mark.parametrize("block", [1, 16 * 300, 1 << 20])
def test_blocks_of_rows_are_right_and_the_same_for_any_number_of_threads(
    shape: tuple[int, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked, "BLOCK_BYTES", block)
    x, w, b = leaf(5 + normal(*shape)), leaf(normal(shape[-1], seed=1)), leaf(normal(shape[-1], seed=2))
    c, found = normal(*shape, seed=3), []
    threads = sm.get_num_threads()
    try:
        for n in (1, 3):
            sm.set_num_threads(n)
            results = []
            for y, expected in both(x, w, b):
                gradients = sm.grad(y, [x, w, b], c, allow_unused=True)
                close(y, expected, rtol=1e-11, atol=1e-12)
                for g, e in zip(gradients, sm.grad(expected, [x, w, b], c, allow_unused=True), strict=True):
                    assert (g is None) == (e is None)
                    if e is not None:
                        close(g, e, rtol=1e-9, atol=1e-11)
                results += [t.data for t in (y, *gradients) if t is not None]
            found.append(results)
    finally:
        sm.set_num_threads(threads)
    assert all(np.array_equal(one, three) for one, three in zip(*found, strict=True))


def test_nothing_given_is_written_to() -> None:
    x, w, b, c = normal(6, 5), normal(5, seed=1), normal(5, seed=2), normal(6, 5, seed=3)
    arrays = [x, w, b, c]
    before = [a.copy() for a in arrays]
    for y, _ in both(leaf(x), leaf(w), leaf(b)):
        y.backward(Tensor(c))
        assert all(np.array_equal(a, old) for a, old in zip(arrays, before, strict=True))


@pytest.mark.parametrize("f", [F.layer_norm, F.rms_norm], ids=lambda f: f.__name__)
def test_what_is_kept_for_the_gradient_is_two_numbers_a_row(f: Any) -> None:
    y = f(leaf(normal(30, 40)), 40, leaf(normal(40, seed=1)))
    kept = [a for block in y.residual[0] for a in block if a is not None]
    assert 30 <= sum(a.size for a in kept) <= 2 * 30


@pytest.mark.parametrize("f", [F.layer_norm, F.rms_norm], ids=lambda f: f.__name__)
def test_half_precision_sums_a_long_row_in_single(f: Any) -> None:
    x, c = normal(2, 5000).astype(np.float16), (100 + normal(2, 5000, seed=1)).astype(np.float16)
    (g,) = sm.grad(f(t := leaf(x, np.float16), 5000), t, c)
    (expected,) = sm.grad(f(t := leaf(x.astype(np.float64)), 5000), t, c.astype(np.float64))
    close(g, expected, rtol=2e-3, atol=2e-2)


def test_a_large_mean_costs_no_more_digits_than_rounding_the_input_does() -> None:
    x = (1000 + normal(50, 300)).astype(np.float32)  # E[x²] − mean² would be off by 0.1
    y = F.layer_norm(x, 300)
    close(y, F.layer_norm(x.astype(np.float64), 300), atol=3e-4)


@pytest.mark.parametrize(("x", "w", "result"), [("f4", "f8", "f8"), ("f8", "f4", "f8"), ("f2", "f4", "f4")])
@pytest.mark.parametrize("f", [F.layer_norm, F.rms_norm], ids=lambda f: f.__name__)
def test_dtypes_are_mixed_as_in_the_definition(f: Any, x: str, w: str, result: str) -> None:
    a, b = normal(2, 5).astype(x), normal(5, seed=1).astype(w)
    leaves, c = [leaf(a, x), leaf(b, w)], normal(2, 5, seed=2).astype(result)
    exact = [leaf(a.astype(np.float64)), leaf(b.astype(np.float64))]
    y, expected = f(leaves[0], 5, leaves[1]), f(exact[0], 5, exact[1])
    assert y.dtype == result
    close(y, expected, rtol=1e-12 if result == "f8" else 1e-5)
    for create_graph in (False, True):
        gradients = sm.grad(y, leaves, c, create_graph=create_graph)
        assert [g.dtype for g in gradients] == [x, w]
        close(gradients, sm.grad(expected, exact, c.astype(np.float64)), rtol=1e-2, atol=5e-3)


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
