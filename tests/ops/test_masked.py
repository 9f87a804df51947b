"""Attention where something is hidden: rows that see nothing, padding, and what hidden keys may hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor, nn

sdpa = F.scaled_dot_product_attention
B, H, T = 2, 2, 4
SEES = np.array(
    [[True, True, False, True], [False] * 4, [False, True, False, True], [False] * 4]
)  # rows 1 and 3 nothing
LATER = np.triu(np.ones((T, T), bool), 1)  # causal: hidden
CASES: dict[str, dict[str, Any]] = {
    "bool": {"mask": SEES},
    "float": {"mask": np.where(SEES, normal(T, T, seed=9), -np.inf)},
    "a Tensor of floats": {"mask": Tensor(np.where(SEES, 0.5, -np.inf))},
    "causal and bool": {"mask": SEES | LATER, "is_causal": True},
    "causal and float": {"mask": np.where(SEES | LATER, 0.5, -np.inf), "is_causal": True},
    "per head": {"mask": np.broadcast_to(SEES, (B, H, T, T))},
}
PATHS: dict[str, dict[str, Any]] = {"fused": {}, "weights": {"return_weights": True}, "dropout": {"dropout_p": 0.25}}


def run(q: Any, k: Any, v: Any, **options: Any) -> Any:
    """Return the output alone, with the same dropout each time."""
    out = sdpa(q, k, v, rng=np.random.default_rng(3), **options)
    return out[0] if options.get("return_weights") else out


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_a_row_that_sees_nothing_gives_and_gets_nothing(case: str, path: str, create_graph: bool) -> None:
    options = CASES[case] | PATHS[path]
    q, k, v = (leaf(normal(B, H, T, 3, seed=i)) for i in range(3))
    out = run(q, k, v, **options)
    assert (out.data[:, :, [1, 3]] == 0).all()
    assert path == "dropout" or (out.data[:, :, [0, 2]] != 0).all()
    c = normal(*out.shape, seed=5)
    dq, dk, dv = sm.grad(out, [q, k, v], c, create_graph=create_graph)
    assert (dq.data[:, :, [1, 3]] == 0).all()
    others = np.where(np.arange(T)[:, None] % 2, -7.0, c)  # what arrives at these rows goes nowhere
    for a, b in zip((dq, dk, dv), sm.grad(run(q, k, v, **options), [q, k, v], others), strict=True):
        assert np.isfinite(a.data).all()
        close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", PATHS)
def test_second_derivatives_with_rows_that_see_nothing(case: str, path: str) -> None:
    q, k, v = (leaf(normal(1, 1, T, 2, seed=i)) for i in range(3))
    options = CASES[case] | PATHS[path]
    if case == "per head":
        options["mask"] = SEES

    def f(*arrays: Any) -> Any:
        return (run(*arrays, **options) ** 2).sum()

    first = sm.grad(f(q, k, v), [q, k, v], create_graph=True)
    s = sum((g * g).sum() for g in first)
    second = sm.grad(s, [q, k, v])
    assert all(np.isfinite(g.data).all() for g in second)
    assert (second[0].data[:, :, [1, 3]] == 0).all()
    # by differences, of the first derivative along one direction
    t, eps = [normal(1, 1, T, 2, seed=7 + i) for i in range(3)], 1e-6
    ends = []
    for sign in (eps, -eps):
        moved = [leaf(x.data + sign * d) for x, d in zip((q, k, v), t, strict=True)]
        ends.append(sum((g.data**2).sum() for g in sm.grad(f(*moved), moved)))
    slope = sum((g.data * d).sum() for g, d in zip(second, t, strict=True))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * eps), rel=1e-5)


def test_a_learned_mask_gets_no_gradient_where_it_hides() -> None:
    q, k, v = (leaf(normal(T, 3, seed=i)) for i in range(3))
    mask = leaf(np.where(SEES, 0.5, -np.inf))
    out = sdpa(q, k, v, mask=mask)
    assert (out.data[[1, 3]] == 0).all()
    gradients = sm.grad((out * out).sum(), [mask, q, k, v], create_graph=True)
    assert (gradients[0].data[~SEES] == 0).all()
    assert (gradients[0].data[SEES] != 0).all()
    for g in sm.grad(sum((g * g).sum() for g in gradients), [mask, q, k, v]):
        assert np.isfinite(g.data).all()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_mask_and_is_causal_are_combined(path: str, kind: str) -> None:
    q, k, v = (normal(B, T, 3, seed=i) for i in range(3))
    both = SEES & ~LATER
    mask, combined = (SEES, both) if kind == "bool" else (np.where(SEES, 0.3, -np.inf), np.where(both, 0.3, -np.inf))
    close(run(q, k, v, mask=mask, is_causal=True, **PATHS[path]), run(q, k, v, mask=combined, **PATHS[path]))


@pytest.mark.parametrize("path", PATHS)
def test_numbers_too_low_for_the_precision_hide(path: str) -> None:
    q, k, v = (normal(T, 3, seed=i, dtype=np.float32) for i in range(3))
    low = np.where(SEES, 0.0, np.finfo(np.float64).min)
    out = run(q, k, v, mask=low, **PATHS[path])
    assert out.dtype == np.float32
    close(out, run(q, k, v, mask=SEES, **PATHS[path]))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_scores_that_overflow_do_no_harm_where_all_is_hidden(path: str, create_graph: bool) -> None:
    q, k, v = (normal(T, 3, seed=i, dtype=np.float32) for i in range(3))
    q[[1, 3]], k = 3e38, 10 * k
    leaves = [Tensor(a, requires_grad=True) for a in (q, k, v)]
    with np.errstate(over="ignore", invalid="ignore"):
        out = run(*leaves, mask=SEES, **PATHS[path])
        gradients = sm.grad(out.sum(), leaves, create_graph=create_graph)
    assert not out.data[[1, 3]].any()
    assert not gradients[0].data[[1, 3]].any()
    assert all(np.isfinite(g.data).all() for g in gradients)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_hidden_values_must_be_finite_or_cleared(path: str, bad: float) -> None:
    # 0·NaN is NaN, as in PyTorch: what is hidden has weight 0, but it is still multiplied.
    q, k, v = (normal(T, 3, seed=i) for i in range(3))
    seen = np.array([True, True, True, False])
    expected = run(q, k, v, mask=seen, **PATHS[path])
    v[3, 0] = bad
    with np.errstate(invalid="ignore"):
        out = run(q, k, v, mask=seen, **PATHS[path])
    assert np.isnan(out[:, 0]).all()
    close(out[:, 1:], expected[:, 1:])
    close(run(q, k, F.where(seen[:, None], v, 0.0), mask=seen, **PATHS[path]), expected)


def test_no_features_weigh_all_keys_alike() -> None:
    v = normal(T, 3)
    close(sdpa(np.zeros((2, 0)), np.zeros((T, 0)), v), np.broadcast_to(v.mean(axis=0), (2, 3)))


@pytest.mark.parametrize("half", [0.5, np.float32(0.5), np.array(0.5), Tensor(0.5)], ids=lambda s: type(s).__name__)
def test_scale_and_dropout_are_any_one_number(half: Any) -> None:
    q, k, v = (normal(T, 3, seed=i) for i in range(3))
    options = {"scale": half, "dropout_p": half}
    close(run(q, k, v, **options), run(q, k, v, scale=0.5, dropout_p=0.5))


# -- through MultiHeadAttention ----------------------------------------------------------------------

LENGTHS = np.array([5, 3, 0])
PADDING = np.arange(5) < LENGTHS[:, None]  # (B, S): True where there is a token


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_padding_is_as_if_it_were_not_there(causal: bool, kind: str, dropout: float) -> None:
    attend = nn.MultiHeadAttention(8, 2, causal=causal, dropout=dropout)
    x = leaf(normal(3, 5, 8), np.float32)
    mask = PADDING[:, None, None, :]
    mask = mask if kind == "bool" else np.where(mask, 0.0, -np.inf)
    with attend.evaluating():
        out, weights = attend(x, mask, return_weights=True)
        close(attend(x, mask), out, rtol=1e-5, atol=1e-6)
        for i, n in enumerate(LENGTHS[:2]):
            close(out.data[i, :n], attend(x[i : i + 1, :n]).data[0], rtol=1e-5, atol=1e-6)
    close(out.data[2], np.broadcast_to(attend.proj.bias.data, (5, 8)))
    assert not weights.data[2].any()
    assert not weights.data[1, :, :, 3:].any()
    leaves = [x, *attend.parameters()]
    for return_weights in (False, True):
        out = attend(x, mask, return_weights=return_weights)
        out = out[0] if return_weights else out
        first = sm.grad((out * out).sum(), leaves, create_graph=True)
        second = sm.grad(sum((g * g).sum() for g in first), leaves)
        for g in (*first, *second):
            assert np.isfinite(g.data).all()
        assert not first[0].data[2].any()
        assert not second[0].data[2].any()


def test_a_float_mask_continues_in_a_cache() -> None:
    attend, cache = nn.MultiHeadAttention(8, 2, causal=True).eval(), nn.attention.Cache(5)
    x, mask = normal(3, 5, 8, dtype=np.float32), np.where(PADDING, 0.0, -np.inf)[:, None, None, :]
    with sm.no_grad():
        whole = attend(x, mask)
        parts = [attend(x[:, :2], mask[..., :2], cache=cache), attend(x[:, 2:], mask, cache=cache)]
    close(np.concatenate([p.data for p in parts], axis=1), whole, rtol=1e-5, atol=1e-6)
