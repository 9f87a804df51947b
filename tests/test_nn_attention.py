"""MultiHeadAttention: against loops and PyTorch, the √d_k toggle, masks, causality, the key-value cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, differences, normal

import tinygrad_sm as sm
from tinygrad_sm import Tensor, nn

B, T, D, H = 2, 5, 8, 2
X = normal(B, T, D)
NONE = np.ones((T, T), bool)
LOWER = np.tril(NONE)
PADDING = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], bool)  # which positions of each sequence are real
BIAS = normal(T, T, seed=5)
MASKS: dict[str, Any] = {
    "none": None,
    "padding": PADDING[:, None, None, :],
    "bool": np.random.default_rng(1).random((B, H, T, T)) > 0.3,
    "float": BIAS,
    "hiding": np.where(LOWER.T, BIAS, -np.inf),
    "nothing": np.zeros((T, T), bool),
}


def attention(seed: int = 0, **options: Any) -> Any:
    """Return a module in float64, with weights large enough that attention is far from uniform."""
    rng = np.random.default_rng(seed)
    module = nn.MultiHeadAttention(D, H, **options)
    for p in module.parameters():
        p.data = rng.normal(size=p.shape) * 0.6
    return module


def softmax(scores: Any) -> Any:
    e = np.exp(scores - scores.max())
    return e / e.sum()


def by_loops(m: Any, x: Any, mask: Any, *, causal: bool = False, scaled: bool = True) -> tuple[Any, Any]:
    """Multi-head attention for one head, query and key at a time: outputs (B, T, D), weights (B, H, T, T)."""
    w, b = m.qkv.weight.data, m.qkv.bias.data
    size, joined, weights = D // H, np.zeros(x.shape), np.zeros((B, H, T, T))
    full = np.broadcast_to(np.ones((T, T), bool) if mask is None else mask, weights.shape)
    for i, head, t in np.ndindex(B, H, T):
        rows = [slice(part * D + head * size, part * D + (head + 1) * size) for part in range(3)]
        q = w[rows[0]] @ x[i, t] + b[rows[0]]
        k, v = (x[i] @ w[r].T + b[r] for r in rows[1:])
        scores = k @ q / (np.sqrt(size) if scaled else 1)
        allowed = full[i, head, t] if full.dtype == bool else ~np.isneginf(full[i, head, t])
        allowed = allowed & (LOWER[t] if causal else True)
        if full.dtype != bool:
            scores = scores + full[i, head, t]
        if allowed.any():
            weights[i, head, t, allowed] = softmax(scores[allowed])
        joined[i, t, head * size : (head + 1) * size] = weights[i, head, t] @ v
    return joined @ m.proj.weight.data.T + m.proj.bias.data, weights


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", MASKS)
def test_output_and_weights_by_loops(mask: str, causal: bool, scaled: bool) -> None:
    m = attention(causal=causal, scaled=scaled)
    expected, expected_weights = by_loops(m, X, MASKS[mask], causal=causal, scaled=scaled)
    out, weights = m(X, MASKS[mask], return_weights=True)
    close(out, expected)
    close(weights, expected_weights)
    close(m(X, MASKS[mask]), expected)  # the fused way


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"scaled": False}, {"bias": False, "causal": True}])
@pytest.mark.parametrize("mask", ["none", "padding", "hiding"])
def test_gradients_by_differences(mask: str, options: dict[str, Any]) -> None:
    m = attention(**options)
    x, c = Tensor(X, requires_grad=True), normal(B, T, D, seed=3)
    y = m(x, MASKS[mask])
    leaves = [x, *m.parameters()]
    actual = sm.grad(y, leaves, c)

    def f(*arrays: Any) -> float:
        for p, a in zip(m.parameters(), arrays[1:], strict=True):
            p.data = a
        return float((m(arrays[0], MASKS[mask]).data * c).sum())

    arrays = [t.data.copy() for t in leaves]
    # a few entries of the input and all of the smaller parameters keep this quick
    for i, a in enumerate(arrays):
        if a.size <= 80:
            close(actual[i], differences(f, arrays, [i])[0], rtol=1e-5, atol=1e-7)


@pytest.mark.torch
@pytest.mark.parametrize("mask", ["none", "causal", "padding", "float", "both"])
def test_like_torch(mask: str) -> None:
    torch = pytest.importorskip("torch")
    m = attention()
    other = torch.nn.MultiheadAttention(D, H, batch_first=True, dtype=torch.float64)
    theirs = [other.in_proj_weight, other.in_proj_bias, other.out_proj.weight, other.out_proj.bias]
    for p, q in zip(m.parameters(), theirs, strict=True):
        q.data = torch.tensor(p.data)
    ours: Any = {"none": None, "causal": LOWER, "padding": MASKS["padding"], "float": BIAS,
                 "both": LOWER & MASKS["padding"]}[mask]  # fmt: skip
    options = {}
    if mask in ("causal", "both"):
        options["attn_mask"] = torch.tensor(~LOWER)  # there, True = hide
    if mask in ("padding", "both"):
        options["key_padding_mask"] = torch.tensor(~PADDING)
    if mask == "float":
        options["attn_mask"] = torch.tensor(BIAS)
    x, z = Tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    out, weights = m(x, ours, return_weights=True)
    out_t, weights_t = other(z, z, z, average_attn_weights=False, **options)
    close(out, out_t.detach())
    close(weights, weights_t.detach())
    c = normal(B, T, D, seed=3)
    m(x, ours).backward(c)
    out_t.backward(torch.tensor(c))
    for p, q in zip([x, *m.parameters()], [z, *theirs], strict=True):
        close(p.grad, q.grad)


# -- the toggle --------------------------------------------------------------------------------


def test_unscaled_weights_are_the_softmax_of_undivided_products() -> None:
    m = attention(scaled=False)
    q, k, _ = (t.data for t in m.split_heads(X))
    assert (q.shape, k.shape) == ((B, H, T, D // H),) * 2
    _, weights = m(X, return_weights=True)
    for i, head, t in np.ndindex(B, H, T):
        close(weights.data[i, head, t], softmax(k[i, head] @ q[i, head, t]))
    assert np.abs(weights.data - attention()(X, return_weights=True)[1].data).max() > 0.05


def test_the_toggle_can_be_flipped_afterwards() -> None:
    on, off = attention(), attention(scaled=False)
    assert (on.scaled, off.scaled) == (True, False)
    on.scaled = False
    assert on(X).tolist() == off(X).tolist()


# -- masks -------------------------------------------------------------------------------------


def test_fully_masked_rows_give_zeros_and_finite_gradients() -> None:
    mask = np.ones((B, 1, T, T), bool)
    mask[0, :, 2] = False  # one query sees nothing
    mask[1] = False  # one sequence sees nothing
    for scores in (mask, np.where(mask, 0.0, -np.inf)):
        m, x = attention(), Tensor(X, requires_grad=True)
        out, weights = m(x, scores, return_weights=True)
        assert (weights.data[0, :, 2] == 0).all()
        assert (weights.data[1] == 0).all()
        close(out.data[0, 2], m.proj.bias.data, rtol=0, atol=0)
        for y in (out, m(x, scores)):
            gradients = sm.grad(y.sum(), [x, *m.parameters()])
            assert all(np.isfinite(g.data).all() for g in gradients)
            assert (gradients[0].data[1] == 0).all()


def test_padding_does_not_influence_the_rest() -> None:
    m, other = attention(), X.copy()
    other[~PADDING] = 1e3
    a, b = (m(x, MASKS["padding"]).data[PADDING] for x in (X, other))
    close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mask", [None, np.ones((1, T), bool), BIAS], ids=["none", "bool", "float"])
def test_causal_means_that_no_future_position_matters(mask: Any) -> None:
    m, x = attention(causal=True), Tensor(X, requires_grad=True)
    y = m(x, mask)
    for t in range(T):
        c = np.zeros_like(X)
        c[:, t] = normal(B, D, seed=t)
        (g,) = sm.grad(y, [x], c)
        assert (g.data[:, t + 1 :] == 0).all()
        assert (g.data[:, : t + 1] != 0).all()
        changed = X.copy()
        changed[:, t + 1 :] += 100
        close(m(changed, mask).data[:, : t + 1], y.data[:, : t + 1], rtol=1e-12, atol=1e-12)


def test_dropout_in_training_only() -> None:
    m = attention(dropout=0.5)
    _, weights = m(X, return_weights=True)
    _, kept = m.eval()(X, return_weights=True)
    dropped = weights.data == 0
    assert 0.2 < dropped.mean() < 0.8
    close(weights.data[~dropped], 2 * kept.data[~dropped])
    assert m(X).tolist() == m(X).tolist()
    m.train()
    assert m(X).tolist() != m(X).tolist()


# -- the cache ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [[1, 2, 3, 4], [3], [2, 4], []])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(
    "mask", [None, np.array([True, False, True, True, True]), BIAS[-1]], ids=["none", "bool", "float"]
)
def test_pieces_with_a_cache_equal_the_whole(mask: Any, scaled: bool, cuts: list[int]) -> None:
    m = attention(causal=True, scaled=scaled)
    cache, parts = nn.Cache(T), []
    for a, b in zip([0, *cuts], [*cuts, T], strict=True):
        parts.append(m(X[:, a:b], mask if mask is None else mask[None, :b], cache=cache).data)
        assert cache.length == b
    close(np.concatenate(parts, axis=1), m(X, mask))


def test_a_cache_that_is_full_says_so_and_stays_as_it_was() -> None:
    m, cache = attention(causal=True), nn.Cache(T)
    m(X[:, :3], cache=cache)
    with pytest.raises(ValueError, match=r"cache holds 5 positions.* 6"):
        m(X[:, :3], cache=cache)
    assert cache.length == 3
    close(m(X[:, 3:], cache=cache), m(X).data[:, 3:])


def test_a_cache_of_another_batch_is_refused() -> None:
    m, cache = attention(causal=True), nn.Cache(T)
    m(X[:, :3], cache=cache)
    for other in (X[:1, 3:], np.concatenate([X, X])[:, 3:]):
        with pytest.raises(ValueError, match=r"cache holds keys of shape \(2, .*do not continue; reorder\(rows\)"):
            m(other, cache=cache)
    close(m(X[:, 3:], cache=cache), m(X).data[:, 3:])


# -- options ----------------------------------------------------------------------------------


def test_without_bias() -> None:
    m = nn.MultiHeadAttention(D, H, bias=False)
    assert [name for name, _ in m.named_parameters()] == ["qkv.weight", "proj.weight"]
    assert (m(np.zeros((1, 2, D))).data == 0).all()


@pytest.mark.parametrize("shape", [(0, 3, D), (2, 0, D)])
def test_empty_batches(shape: tuple[int, ...]) -> None:
    assert attention()(np.zeros(shape)).shape == shape
