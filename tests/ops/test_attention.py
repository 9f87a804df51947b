"""Attention: masks, causality, the √d_k toggle, blocks, dropout, returned weights, rows with nothing to see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, differences, leaf, normal
from hypothesis import given
from hypothesis import strategies as st
from references import attention as by_loops

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor
from tinygrad_sm.ops import attention as module
from tinygrad_sm.ops import blocked

sdpa = F.scaled_dot_product_attention


def qkv(*lead: int, t: int = 3, s: int = 4, d: int = 5, d_v: int = 2) -> list[Any]:
    """Return queries, keys and values."""
    return [normal(*lead, n, m, seed=i) for i, (n, m) in enumerate([(t, d), (s, d), (s, d_v)])]


@st.composite
def calls(draw: Any) -> tuple[list[Any], Any, bool, float | None]:
    """Draw arrays whose leading axes broadcast, and a mask of any kind that broadcasts to the scores."""
    t, s, d = (draw(st.integers(1, 4)) for _ in range(3))
    full = draw(st.lists(st.integers(1, 3), max_size=2))
    leads = [[n if draw(st.booleans()) else 1 for n in full][draw(st.integers(0, len(full))) :] for _ in range(3)]
    q, k, v = (
        normal(*lead, *shape, seed=i)
        for i, (lead, shape) in enumerate(zip(leads, [(t, d), (s, d), (s, 2)], strict=True))
    )
    lead = np.broadcast_shapes(*(x.shape[:-2] for x in (q, k, v)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shape = [n if draw(st.booleans()) else 1 for n in (*lead, t, s)][draw(st.integers(0, len(lead))) :]
    kind = draw(st.sampled_from(["none", "bool", "float", "hiding"]))
    mask = {
        "none": None, "bool": rng.random(shape) > 0.4, "float": rng.normal(size=shape),
        "hiding": np.where(rng.random(shape) > 0.4, rng.normal(size=shape), -np.inf),
    }[kind]  # fmt: skip
    return [q, k, v], mask, draw(st.booleans()), draw(st.sampled_from([None, 1.0, 0.3]))


@given(call=calls())
def test_any_shapes_mask_and_scale(call: Any) -> None:
    arrays, mask, causal, scale = call
    leaves = [leaf(a) for a in arrays]
    y = sdpa(*leaves, mask=mask, is_causal=causal, scale=scale)
    actual_scale = arrays[0].shape[-1] ** -0.5 if scale is None else scale
    close(y, by_loops(*arrays, mask=mask, causal=causal, scale=actual_scale), rtol=1e-11, atol=1e-13)
    also, weights = sdpa(*leaves, mask=mask, is_causal=causal, scale=scale, return_weights=True)
    close(also, y, rtol=1e-12, atol=1e-14)
    rows = weights.data.sum(axis=-1)
    assert np.all((np.abs(rows - 1) < 1e-12) | (rows == 0))
    c = normal(*y.shape, seed=7)
    fused, composed = sm.grad(y, leaves, c), sm.grad(also, leaves, c)
    close(fused, composed, rtol=1e-10, atol=1e-12)
    close(sm.grad(y, leaves, c, create_graph=True), fused, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("block_bytes", [8, 40, 100, 10_000])
@pytest.mark.parametrize("keep_bytes", [0, 1 << 20])
def test_blocks_change_nothing(
    causal: bool, block_bytes: int, keep_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = qkv(2, 3, t=5, s=4)
    masks = [None, np.random.default_rng(0).random((5, 4)) > 0.3, normal(2, 1, 5, 4), normal(1, 4), normal(3, 5, 1)]

    def everything() -> list[Any]:
        results = []
        for mask in masks:
            leaves = [leaf(a) for a in arrays]
            y = sdpa(*leaves, mask=mask, is_causal=causal)
            results += [y.data, *(g.data for g in sm.grad(y, leaves, normal(*y.shape)))]
        return results

    whole = everything()
    monkeypatch.setattr(blocked, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(module, "KEEP_BYTES", keep_bytes)
    close(everything(), whole, rtol=1e-12, atol=1e-14)


def test_the_toggle_of_the_scale() -> None:
    q, k, v = qkv()
    on, off, by_hand = sdpa(q, k, v), sdpa(q, k, v, scale=1.0), sdpa(q / np.sqrt(5), k, v, scale=1.0)
    close(on, by_hand, rtol=1e-13)
    assert np.abs(on - off).max() > 1e-3
    close(sdpa(q, k, v, scale=0.25), sdpa(q * 0.25, k, v, scale=1.0), rtol=1e-13)


@pytest.mark.parametrize("hidden", ["bool", "float", "causal and bool"])
def test_a_row_that_sees_nothing_is_zero_with_zero_gradient(hidden: str) -> None:
    arrays = qkv(2, t=3, s=3)
    seen = np.tril(np.ones((3, 3), bool))
    seen[1] = False
    if hidden == "causal and bool":
        mask, causal = np.array([[False, True, True], [True, True, True], [True, True, True]]), True
        empty = 0
    else:
        mask, causal, empty = seen if hidden == "bool" else np.where(seen, 0.0, -np.inf), False, 1
    for as_float_64 in (True, False):
        leaves = [leaf(a, np.float64 if as_float_64 else np.float32) for a in arrays]
        y = sdpa(*leaves, mask=mask, is_causal=causal)
        composed, weights = sdpa(*leaves, mask=mask, is_causal=causal, return_weights=True)
        for out in (y, composed):
            assert not out.data[:, empty].any()
            for create_graph in (False, True):
                gq, gk, gv = sm.grad(out, leaves, np.ones(y.shape, y.dtype), create_graph=create_graph)
                assert not gq.data[:, empty].any()
                assert all(np.isfinite(g.data).all() for g in (gq, gk, gv))
        assert not weights.data[:, empty].any()
    nothing = sdpa(*leaves, mask=np.zeros((3, 3), bool))
    assert not nothing.data.any()
    assert not any(g.data.any() for g in sm.grad(nothing.sum(), leaves))


def test_hidden_values_may_be_anything_finite() -> None:
    q, k, v = qkv(t=2, s=3)
    k[2], v[2] = 1e6, -1e6
    mask = np.array([True, True, False])
    close(sdpa(q, k, v, mask=mask), sdpa(q, k[:2], v[:2]), rtol=1e-13)


@pytest.mark.parametrize("create_graph", [False, True])
def test_self_attention_of_one_tensor(create_graph: bool) -> None:
    a = normal(2, 4, 3)
    x = leaf(a)
    y = sdpa(x, x, x, is_causal=True)
    c = normal(2, 4, 3, seed=1)
    expected = differences(lambda v: float((sdpa(v, v, v, is_causal=True) * c).sum()), [a], [0])
    close(sm.grad(y, x, c, create_graph=create_graph), expected, rtol=1e-6, atol=1e-8)
    parts = sm.grad(sdpa(*(p := [leaf(a) for _ in range(3)]), is_causal=True), p, c)
    close(sm.grad(y, x, c, create_graph=create_graph)[0], sum(g.data for g in parts), rtol=1e-12)


def test_hessian_of_self_attention() -> None:
    a = normal(3, 2)

    def loss(x: Tensor) -> Tensor:
        return (sdpa(x, x, x, is_causal=True) ** 2).sum()

    def slope(v: Any) -> Any:
        return sm.jacobian(loss, v).data

    hessian = sm.hessian(loss, a).data
    for i in np.ndindex(3, 2):
        step = np.zeros((3, 2))
        step[i] = 1e-6
        close(hessian[i], (slope(a + step) - slope(a - step)) / 2e-6, rtol=1e-5, atol=1e-7)


def test_arguments_may_depend_on_each_other() -> None:
    x, w = leaf(normal(4, 3)), leaf(normal(3, 3, seed=1))
    k = x @ w
    for create_graph in (False, True):
        y = sdpa(k, x, k * x)
        z, _ = sdpa(k, x, k * x, return_weights=True)
        c = normal(4, 3, seed=2)
        close(sm.grad(y, [x, w, k], c, create_graph=create_graph), sm.grad(z, [x, w, k], c), rtol=1e-11)


def test_a_mask_can_learn() -> None:
    arrays, bias = qkv(), normal(3, 4, seed=9)
    leaves, mask = [leaf(a) for a in arrays], leaf(bias)
    y = sdpa(*leaves, mask=mask)
    c = normal(*y.shape)
    expected = differences(lambda m: float((sdpa(*arrays, mask=m) * c).sum()), [bias], [0])
    for create_graph in (False, True):
        close(sm.grad(y, mask, c, create_graph=create_graph), expected, rtol=1e-6, atol=1e-8)
    constant = sdpa(*leaves, mask=Tensor(bias))
    close(constant, y, rtol=1e-13)
    hiding = leaf(np.where(bias > 0, bias, -np.inf))
    (g,) = sm.grad(sdpa(*leaves, mask=hiding), hiding, c)
    assert np.isfinite(g.data).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32], ids=lambda d: d.__name__)
@pytest.mark.parametrize(
    "mask", [None, np.array([True, True, False, True]), normal(3, 4)], ids=["none", "bool", "float64"]
)
@pytest.mark.parametrize("options", [{}, {"return_weights": True}, {"dropout_p": 0.5}], ids=str)
def test_dtype_is_kept_also_with_a_mask_of_another(dtype: Any, mask: Any, options: Any) -> None:
    leaves = [leaf(a, dtype) for a in qkv(2)]
    out = sdpa(*leaves, mask=mask, **options)
    for y in out if isinstance(out, tuple) else (out,):
        assert y.dtype == dtype
        for create_graph in (False, True):
            assert {g.dtype for g in sm.grad(y.sum(), leaves[:2], create_graph=create_graph)} == {np.dtype(dtype)}


@pytest.mark.parametrize("dtypes", ["f8 f8 f4", "f8 f4 f4", "f4 f8 f2", "f4 f4 f8", "f2 f2 f4", "f2 f4 f2"])
@pytest.mark.parametrize("mask", [None, normal(2, 3, 4)], ids=["none", "float64"])
def test_dtypes_are_mixed_as_in_the_composed_path(dtypes: str, mask: Any) -> None:
    leaves = [leaf(a, dtype) for a, dtype in zip(qkv(2), dtypes.split(), strict=True)]
    y, (composed, _) = sdpa(*leaves, mask=mask), sdpa(*leaves, mask=mask, return_weights=True)
    assert y.dtype == composed.dtype == np.result_type(*dtypes.split())
    close(y, composed, rtol=1e-2, atol=2e-3)
    c = normal(*y.shape).astype(y.dtype)
    fused = sm.grad(y, leaves, c)
    assert [g.dtype for g in fused] == dtypes.split()
    close(fused, sm.grad(composed, leaves, c), rtol=1e-2, atol=5e-3)


def test_large_scores_in_half_precision() -> None:
    q, k, v = ((100 * a).astype(np.float16) for a in qkv(d=64))  # scores that float16 cannot hold
    y = sdpa(Tensor(q), Tensor(k), Tensor(v))
    assert y.dtype == np.float16
    close(y, sdpa(*(x.astype(np.float64) for x in (q, k, v))), rtol=2e-3, atol=0.1)


def test_dropout_scales_up_what_it_keeps() -> None:
    q, k, v = qkv(t=50, s=60)
    leaves = [leaf(a) for a in (q, k, v)]
    y, dropped = sdpa(*leaves, dropout_p=0.25, return_weights=True, rng=np.random.default_rng(0))
    _, weights = sdpa(*leaves, return_weights=True)
    kept = dropped.data != 0
    assert 0.7 < kept.mean() < 0.8
    close(dropped.data[kept], weights.data[kept] / 0.75, rtol=1e-12)
    close(y, dropped.data @ v, rtol=1e-12)
    again = sdpa(*leaves, dropout_p=0.25, rng=np.random.default_rng(0))
    assert np.array_equal(again.data, y.data)
    sm.manual_seed(1)
    a = sdpa(q, k, v, dropout_p=0.5)
    sm.manual_seed(1)
    assert np.array_equal(a, sdpa(q, k, v, dropout_p=0.5))


@pytest.mark.parametrize("sizes", [{"t": 0}, {"s": 0}, {"d_v": 0}], ids=str)
def test_empty_axes(sizes: Any) -> None:
    leaves = [leaf(a) for a in qkv(2, **sizes)]
    y = sdpa(*leaves)
    assert not y.data.any()
    for create_graph in (False, True):
        gradients = sm.grad(y, leaves, np.ones(y.shape), create_graph=create_graph)
        assert [g.shape for g in gradients] == [x.shape for x in leaves]
        assert not any(g.data.any() for g in gradients)


def test_arrays_give_arrays_and_lists_are_taken() -> None:
    y = sdpa(*qkv())
    assert isinstance(y, np.ndarray)
    assert sdpa([[1.0]], [[1.0], [2.0]], [[3.0], [3.0]]).tolist() == [[3.0]]
