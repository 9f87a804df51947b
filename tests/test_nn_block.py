"""The parts of Llama and BERT: grouped queries, rotary positions, SwiGLU, norms before and after, the encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, differences, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor, nn

B, T, D, H, V, C = 2, 5, 8, 4, 11, 7
X = normal(B, T, D)
LLAMA: dict[str, Any] = {
    "norm": "rms", "feed_forward": "swiglu", "n_kv_heads": 2, "rotary_base": 100.0, "bias": False, "d_ff": 12,
}  # fmt: skip
TOKENS = np.random.default_rng(0).integers(0, V, (B, T))


def drawn(module: Any, std: float = 0.6) -> Any:
    """Return a module in float64, with weights large enough that attention is far from uniform."""
    rng = np.random.default_rng(0)
    for p in module.parameters():
        p.data = rng.normal(size=p.shape) * std
    return module


# -- grouped-query attention ----------------------------------------------------------------------

MASKS: dict[str, Any] = {
    "none": None,
    "padding": (np.arange(T) < np.array([[T], [3]]))[:, None, None, :],
    "heads": np.random.default_rng(1).random((B, H, T, T)) > 0.3,
    "float": normal(T, T, seed=5),
    "one row": np.array([True] * (T - 1) + [False]),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shared", [1, 2, 4])
def test_grouped_queries_are_heads_that_share_keys_and_values(shared: int, causal: bool, mask: str) -> None:
    arrays = [normal(B, h, T, 3, seed=i) for i, h in enumerate((H, shared, shared))]
    leaves, cotangent = [leaf(a) for a in arrays], normal(B, H, T, 3, seed=9)
    options: Any = {"mask": MASKS[mask], "is_causal": causal}
    y = F.scaled_dot_product_attention(*leaves, **options, enable_gqa=True)
    whole = [leaves[0], *(F.concatenate([t[:, [h // (H // shared)]] for h in range(H)], axis=1) for t in leaves[1:])]
    expected, weights = F.scaled_dot_product_attention(*whole, **options, return_weights=True)
    close(y, expected.data)
    close(sm.grad(y, leaves, cotangent), sm.grad(expected, leaves, cotangent))
    again, same = F.scaled_dot_product_attention(*leaves, **options, enable_gqa=True, return_weights=True)
    close(again, expected.data)
    close(same, weights.data)


@pytest.mark.parametrize("mask", [None, np.ones((B, 1, 1, T), bool), np.arange(T) > 1, MASKS["heads"][:, :, :1]])
def test_one_query_of_each_group(mask: Any) -> None:
    q, k, v = (normal(B, h, t, 3, seed=h) for h, t in ((H, 1), (2, T), (2, T)))
    whole = [q, np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1)]
    for causal in (False, True):
        options: Any = {"mask": mask, "is_causal": causal}
        close(F.scaled_dot_product_attention(q, k, v, **options, enable_gqa=True),
              F.scaled_dot_product_attention(*whole, **options))  # fmt: skip


def test_grouped_queries_broadcast_the_axes_before_the_heads() -> None:
    q, k, v = normal(H, 3, 4), normal(B, 2, T, 4, seed=1), normal(B, 2, T, 4, seed=2)
    whole, mask = [q, np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1)], np.random.default_rng(3).random((B, 1, 3, T))
    for m in (None, mask > 0.3, mask):
        close(F.scaled_dot_product_attention(q, k, v, mask=m, enable_gqa=True),
              F.scaled_dot_product_attention(*whole, mask=m))  # fmt: skip
    none = F.scaled_dot_product_attention(q[:0], k, v, mask=mask[:, :0], enable_gqa=True)
    assert none.shape == (B, 0, 3, 4)


@pytest.mark.torch
@pytest.mark.parametrize("causal", [False, True])
def test_grouped_queries_like_torch(causal: bool) -> None:
    torch = pytest.importorskip("torch")
    arrays = [normal(B, h, T, 4, seed=i) for i, h in enumerate((6, 2, 2))]
    leaves, theirs = [leaf(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y = F.scaled_dot_product_attention(*leaves, is_causal=causal, enable_gqa=True)
    z = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=causal, enable_gqa=True)
    close(y, z.detach())
    c = normal(*y.shape, seed=7)
    close(sm.grad(y, leaves, c), [g.numpy() for g in torch.autograd.grad(z, theirs, torch.tensor(c))])


# -- rotary positions -----------------------------------------------------------------------------


def test_rotary_by_complex_numbers() -> None:
    x, positions = normal(2, 3, 6), np.array([4, 0, 1000])
    angles = positions[:, None] * 50.0 ** (-np.arange(3) / 3)
    z = (x[..., :3] + 1j * x[..., 3:]) * np.exp(1j * angles)
    close(F.rotary(x, positions, base=50), np.concatenate([z.real, z.imag], axis=-1), rtol=1e-12)
    close(F.rotary(x, positions[None, :], base=50), F.rotary(x, positions, base=50))
    close(F.rotary(Tensor(x.astype(np.float32)), [3]), F.rotary(x.astype(np.float32), [3, 3, 3]), rtol=0)


def test_rotary_keeps_products_of_equal_distance() -> None:
    q, k = normal(1, 8), normal(1, 8, seed=1)
    close([(F.rotary(q, [t]) @ F.rotary(k, [t + 7]).T)[0, 0] for t in (0, 1, 50)], [(q @ F.rotary(k, [7]).T)[0, 0]] * 3)
    close(F.rotary(q, [0]), q)


@pytest.mark.parametrize(
    ("x", "options", "kind", "message"),
    [
        (np.ones((3, 5)), {}, ValueError, r"even d, not \(3, 5\)"),
        (np.ones(4), {}, ValueError, r"\(…, T, d\)"),
        (np.ones((3, 4), int), {}, TypeError, "must hold floats, not int64"),
        (np.ones((3, 4)), {"positions": [1, 2]}, ValueError, r"positions of shape \(2,\) do not fit x \(3, 4\)"),
        (np.ones((3, 4)), {"positions": np.ones((2, 3))}, ValueError, r"shape \(2, 3\)"),
        (np.ones((3, 4)), {"positions": 3}, ValueError, r"shape \(\)"),
        (np.ones((2, 3, 4)), {"positions": np.ones((5, 3))}, ValueError, r"shape \(5, 3\)"),
        (np.ones((3, 4)), {"positions": ["a", "b", "c"]}, TypeError, "positions must be numbers"),
        (np.ones((3, 4)), {"base": 0}, ValueError, "base must be a finite number above 0"),
    ],
)
def test_rotary_refuses(x: Any, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^rotary: .*{message}"):
        F.rotary(x, **options)


# -- modules --------------------------------------------------------------------------------------


def test_swiglu_by_definition() -> None:
    m, x = drawn(nn.SwiGLU(D, 3, bias=True)), normal(2, D)
    gate, up = np.split(x @ m.gate_up.weight.data.T + m.gate_up.bias.data, 2, axis=-1)
    close(m(x), (gate / (1 + np.exp(-gate)) * up) @ m.down.weight.data.T + m.down.bias.data)


def parts(block: Any, x: Any) -> Any:
    """Compute a Llama or BERT block from the weights, head by head."""
    a = block.attn
    size, (q, k, v) = (
        D // H,
        np.split(block.ln1(x).data @ a.qkv.weight.data.T, np.cumsum([D, a.n_kv_heads * (D // H)]), axis=-1),
    )
    heads = []
    for h in range(H):
        own, at = slice(h * size, (h + 1) * size), h // (H // a.n_kv_heads)
        shared = slice(at * size, (at + 1) * size)
        turned = [F.rotary(t, base=a.rotary_base) for t in (q[..., own], k[..., shared])]
        scores = turned[0] @ turned[1].swapaxes(1, 2) / np.sqrt(size)
        heads.append(F.softmax(np.where(np.tri(x.shape[1]), scores, -np.inf)) @ v[..., shared])
    x = x + np.concatenate(heads, axis=-1) @ a.proj.weight.data.T
    return x + block.mlp(block.ln2(x)).data


def test_a_llama_block_head_by_head() -> None:
    block = drawn(nn.TransformerBlock(D, H, **LLAMA))
    close(block(X), parts(block, X))


def test_a_block_that_normalizes_after() -> None:
    block = drawn(nn.TransformerBlock(D, H, causal=False, norm_first=False, feed_forward="relu", eps=0.1))
    h = block.ln1(X + block.attn(X).data).data
    close(block(X), block.ln2(h + block.mlp(h).data).data)


@pytest.mark.parametrize("options", [LLAMA, {"norm_first": False}, {"feed_forward": "relu", "norm": "rms", "eps": 0.1}])
def test_gradients_of_blocks_by_differences(options: Any) -> None:
    block, c = drawn(nn.TransformerBlock(D, H, **options)), normal(B, T, D, seed=3)
    x = leaf(X)
    actual = sm.grad(block(x), x, c)
    close(actual, differences(lambda a: float((block(a).data * c).sum()), [X], [0]), rtol=1e-5, atol=1e-6)
    loss = (block(x) * c).sum()
    for name, p in block.named_parameters():
        g, step = sm.grad(loss, p)[0].data, normal(*p.shape, seed=8)
        before, values = p.data, []
        for h in (1e-5, -1e-5):
            p.data = before + h * step
            values.append(float((block(X).data * c).sum()))
        p.data = before
        assert (g * step).sum() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("shared", [1, 2, 4])
def test_the_cache_of_shared_heads_with_rotary_positions(shared: int) -> None:
    lm = drawn(nn.TransformerLM(V, d_model=D, n_heads=H, n_layers=2, context=C, **(LLAMA | {"n_kv_heads": shared})))
    tokens = np.random.default_rng(1).integers(0, V, (3, C))
    whole = lm(tokens).data
    for first in (1, 3):
        caches = [nn.Cache(C) for _ in lm.blocks]
        with sm.no_grad():
            found = [lm(tokens[:, :first], caches=caches).data]
            found += [lm(tokens[:, i : i + 1], caches=caches).data for i in range(first, C)]
        close(np.concatenate(found, axis=1), whole, rtol=1e-9)
        assert caches[0].k.shape == (3, shared, C, D // H)


def test_caches_are_one_for_each_block() -> None:
    lm = nn.TransformerLM(V, d_model=D, n_heads=H, n_layers=2, context=C)
    for n in (0, 1, 3):
        with pytest.raises(ValueError, match=f"there are {n} caches for 2 blocks"):
            lm(TOKENS, caches=[nn.Cache(C) for _ in range(n)])


def test_a_language_model_learns_in_the_shape_of_llama() -> None:
    sm.manual_seed(0)
    lm = nn.TransformerLM(V, d_model=16, n_heads=H, n_layers=1, context=C, init="unit", tied=False, **LLAMA)
    qkv = lm.blocks[0].attn.qkv.weight.data
    assert qkv[:24].std() == pytest.approx(1 / 4, rel=0.1)
    assert qkv[24:].std() == pytest.approx(0.02, rel=0.2)
    assert lm.head.weight.shape == (V, 16)
    optimizer = sm.optim.AdamW(lm.parameters(), lr=1e-2)
    losses, tokens = [], np.array([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]])
    for _ in range(100):
        loss = F.cross_entropy(lm(tokens[:, :-1]), tokens[:, 1:], axis=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(V), rel=0.1)
    assert losses[-1] < 0.2


# -- the encoder ----------------------------------------------------------------------------------


def encoder(**options: Any) -> Any:
    return drawn(nn.TransformerEncoder(V, **({"d_model": D, "n_heads": H, "n_layers": 2, "context": C} | options)))


@pytest.mark.parametrize("options", [{}, {"norm_first": True, "norm": "rms"}, {"types": 2, "feed_forward": "relu"}])
def test_padding_changes_nothing(options: Any) -> None:
    m, real = encoder(**options), np.arange(T) < np.array([[T], [3]])
    h = m(TOKENS, real).data
    close(h[0], m(TOKENS[:1]).data[0])
    close(h[1, :3], m(TOKENS[1:, :3]).data[0])
    close(h[1, :3], m(np.where(real, TOKENS, 1), real).data[1, :3])


def test_the_encoder_from_its_parts() -> None:
    m, types = encoder(types=2), np.array([[0, 0, 1, 1, 1]] * B)
    x = m.ln(m.tokens.weight.data[TOKENS] + m.positions.weight.data[:T] + m.types.weight.data[types])
    for block in m.blocks:
        x = block(x)
    close(m(TOKENS, types=types), x.data)
    close(m(TOKENS, types=np.zeros_like(types)), m(TOKENS))
    m = encoder(norm_first=True)
    x = m.tokens.weight.data[TOKENS] + m.positions.weight.data[:T]
    for block in m.blocks:
        x = block(x)
    close(m(TOKENS), m.ln(x))


def test_an_encoder_with_rotary_positions_has_no_others() -> None:
    m = encoder(rotary_base=100.0, types=2)
    assert not any(name.startswith("positions") for name, _ in m.named_parameters())
    x = m.ln(m.tokens.weight.data[TOKENS] + m.types.weight.data[0])
    for block in m.blocks:
        x = block(x)
    close(m(TOKENS), x)
    assert np.abs(m(TOKENS[:, ::-1]).data[:, ::-1] - m(TOKENS).data).max() > 0.01  # it knows the order


def test_attention_weights_of_the_encoder() -> None:
    m, real = encoder(dropout=0.5), np.arange(T) < np.array([[T], [3]])
    weights = m.attention_weights(TOKENS, real)
    assert [w.shape for w in weights] == [(B, H, T, T)] * 2
    assert not weights[1][1, :, :, 3:].any()
    close(weights[0].sum(axis=-1), np.ones((B, H, T)))
    assert m.training
    m.eval()
    x = m.ln(m.tokens.weight.data[TOKENS] + m.positions.weight.data[:T])
    close(weights[0], m.blocks[0].attn(x, real[:, None, None, :], return_weights=True)[1])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: nn.MultiHeadAttention(8, 4, n_kv_heads=3), ValueError, "n_kv_heads=3 must divide n_heads=4"),
        (lambda: nn.MultiHeadAttention(8, 4, n_kv_heads=0), ValueError, "n_kv_heads must be at least 1"),
        (lambda: nn.MultiHeadAttention(12, 4, rotary_base=1e4), ValueError, r"d_head = 12/4 = 3 is odd"),
        (lambda: nn.MultiHeadAttention(8, 4, rotary_base=-1), ValueError, "rotary_base must be a finite number above"),
        (
            lambda: nn.TransformerBlock(8, 4, norm="batch"),
            ValueError,
            "norm must be one of 'layer', 'rms', not",
        ),
        (lambda: nn.TransformerBlock(8, 4, feed_forward="silu"), ValueError, "feed_forward must be one of 'gelu', "),
        (lambda: nn.TransformerBlock(8, 4, norm_first=1), TypeError, "norm_first"),
        (lambda: encoder(norm="batch"), ValueError, "^TransformerEncoder: norm must be one of 'layer', 'rms'"),
        (lambda: nn.SwiGLU(8, 0), ValueError, "SwiGLU: d_ff must be at least 1"),
        (lambda: encoder()(TOKENS[0]), ValueError, r"must be \(batch, time ≤ 7\), not \(5,\); use tokens\[None\]"),
        (lambda: encoder()(np.zeros((1, 8), int)), ValueError, r"not \(1, 8\)"),
        (lambda: encoder()(TOKENS, np.ones((B, T), int)), ValueError, r"mask must be bools .* use mask.astype\(bool\)"),
        (lambda: encoder()(TOKENS, np.ones(T, bool)), ValueError, r"of the shape of tokens \(2, 5\), not bool\(5,\)"),
        (lambda: encoder()(TOKENS, types=TOKENS), ValueError, "make it with types=2"),
        (lambda: encoder(types=-1), ValueError, "types must be at least 0"),
    ],
)
def test_bad_input(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
