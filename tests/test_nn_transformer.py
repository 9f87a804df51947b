"""The Transformer: block and model against NumPy and PyTorch, start values, the toggle."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest
from helpers import close, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor, nn

V, D, H, L, C = 11, 8, 2, 2, 6  # vocabulary, width, heads, layers, context
TOKENS = np.random.default_rng(5).integers(0, V, (3, C))


@pytest.fixture
def torch() -> Any:
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module


def wild(module: nn.Module, seed: int = 0) -> Any:
    """Draw all parameters anew, in float64 and large, so that nothing is nearly uniform or nearly linear."""
    rng = np.random.default_rng(seed)
    for name, p in module.named_parameters():
        p.data = rng.normal(size=p.shape) * 0.5 + ("ln" in name and "weight" in name)
    return module


def model(seed: int = 0, **options: Any) -> nn.TransformerLM:
    shape = {"d_model": D, "n_heads": H, "n_layers": L, "context": C} | options
    return wild(nn.TransformerLM(V, **shape), seed)


# -- the function ------------------------------------------------------------------------------


def norm(x: Any, ln: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * ln.weight.data + ln.bias.data


def block_by_hand(block: Any, x: Any) -> Any:
    x = x + block.attn(norm(x, block.ln1)).data  # tested by loops in test_nn_attention.py
    first, _, last = block.mlp
    u = norm(x, block.ln2) @ first.weight.data.T + first.bias.data
    u = u / 2 * (1 + np.tanh(sqrt(2 / np.pi) * (u + 0.044715 * u**3)))
    return x + u @ last.weight.data.T + last.bias.data


@pytest.mark.parametrize("options", [{}, {"causal": False}, {"scaled": False}, {"d_ff": 5}])
def test_block_by_hand(options: dict[str, Any]) -> None:
    block, x = wild(nn.TransformerBlock(D, H, **options)), normal(2, 5, D)
    close(block(x), block_by_hand(block, x))
    assert block.mlp[0].weight.shape == (options.get("d_ff", 4 * D), D)


def test_model_by_hand() -> None:
    lm = model()
    x = lm.tokens.weight.data[TOKENS] + lm.positions.weight.data[np.arange(C)]
    for block in lm.blocks:
        x = block_by_hand(block, x)
    close(lm.hidden(TOKENS), norm(x, lm.ln))
    close(lm(TOKENS), norm(x, lm.ln) @ lm.tokens.weight.data.T)
    close(lm(TOKENS[:, :2]), lm(TOKENS).data[:, :2], rtol=1e-11, atol=1e-12)  # causal: the past does not change


def test_block_takes_a_mask() -> None:
    block, x = wild(nn.TransformerBlock(D, H, causal=False)), normal(2, 5, D)
    causal = wild(nn.TransformerBlock(D, H))
    close(block(x, np.tril(np.ones((5, 5), bool))), causal(x))


def test_no_future_token_influences_the_past() -> None:
    lm, changed = model(), TOKENS.copy()
    changed[:, 3:] = (changed[:, 3:] + 1) % V
    close(lm(changed).data[:, :3], lm(TOKENS).data[:, :3], rtol=1e-12, atol=1e-12)
    lm(TOKENS)[:, 2].sum().backward()
    assert (lm.positions.weight.grad.data[3:] == 0).all()
    assert (lm.positions.weight.grad.data[:3] != 0).all()


@pytest.mark.torch
@pytest.mark.parametrize("causal", [True, False])
def test_block_like_torch(causal: bool, torch: Any) -> None:
    block = wild(nn.TransformerBlock(D, H, causal=causal))
    other = torch.nn.TransformerEncoderLayer(
        D, H, 4 * D, dropout=0.0, norm_first=True, batch_first=True, dtype=torch.float64,
        activation=lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    )  # fmt: skip
    attn = other.self_attn
    modules = [other.norm1, None, attn.out_proj, other.norm2, other.linear1, other.linear2]
    theirs = [p for m in modules for p in (
        (attn.in_proj_weight, attn.in_proj_bias) if m is None else (m.weight, m.bias)
    )]  # fmt: skip
    for p, q in zip(block.parameters(), theirs, strict=True):
        assert p.shape == tuple(q.shape)
        q.data = torch.tensor(p.data)
    x = normal(2, 5, D)
    ours, z = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y = block(ours)
    y_t = other(z, src_mask=torch.tensor(~np.tril(np.ones((5, 5), bool))) if causal else None)
    close(y, y_t.detach())
    c = normal(*y.shape, seed=3)
    y.backward(c)
    y_t.backward(torch.tensor(c))
    for p, q in zip([ours, *block.parameters()], [z, *theirs], strict=True):
        close(p.grad, q.grad)


def gpt_in_torch(torch: Any, w: dict[str, Any], tokens: Any, scaled: bool) -> Any:
    """Return the logits of the same model, written out in PyTorch on the same names."""
    tf = torch.nn.functional
    b, t = tokens.shape
    x = w["tokens.weight"][tokens] + w["positions.weight"][:t]
    for i in range(L):
        p = {name.removeprefix(f"blocks.{i}."): a for name, a in w.items() if name.startswith(f"blocks.{i}.")}
        h = tf.layer_norm(x, (D,), p["ln1.weight"], p["ln1.bias"])
        qkv = h @ p["attn.qkv.weight"].T + p["attn.qkv.bias"]
        q, k, v = (part.reshape(b, t, H, D // H).transpose(1, 2) for part in qkv.split(D, dim=-1))
        scores = q @ k.transpose(-1, -2) / (sqrt(D // H) if scaled else 1.0)
        scores = scores.masked_fill(torch.ones(t, t).triu(1).bool(), -torch.inf)
        h = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, D)
        x = x + h @ p["attn.proj.weight"].T + p["attn.proj.bias"]
        h = tf.layer_norm(x, (D,), p["ln2.weight"], p["ln2.bias"])
        h = tf.gelu(h @ p["mlp.layers.0.weight"].T + p["mlp.layers.0.bias"], approximate="tanh")
        x = x + h @ p["mlp.layers.2.weight"].T + p["mlp.layers.2.bias"]
    return tf.layer_norm(x, (D,), w["ln.weight"], w["ln.bias"]) @ w["tokens.weight"].T


@pytest.mark.torch
@pytest.mark.parametrize("scaled", [True, False])
def test_model_gradients_like_torch(scaled: bool, torch: Any) -> None:
    lm = model(scaled=scaled)
    w = {name: torch.tensor(a, requires_grad=True) for name, a in lm.state_dict().items()}
    logits = gpt_in_torch(torch, w, torch.tensor(TOKENS), scaled)
    target = (TOKENS + 1) % V
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.tensor(target).reshape(-1))
    expected.backward()
    loss = F.cross_entropy(lm(TOKENS), target)
    loss.backward()
    close(loss, expected.detach())
    for name, p in lm.named_parameters():
        close(p.grad, w[name].grad, rtol=1e-8, atol=1e-10)


# -- the toggle --------------------------------------------------------------------------------

MAKE: dict[str, Any] = {
    "MultiHeadAttention": lambda scaled: nn.MultiHeadAttention(D, H, causal=True, scaled=scaled),
    "TransformerBlock": lambda scaled: nn.TransformerBlock(D, H, scaled=scaled),
    "TransformerLM": lambda scaled: nn.TransformerLM(V, d_model=D, n_heads=H, n_layers=L, context=C, scaled=scaled),
}


@pytest.mark.parametrize("kind", MAKE)
def test_unscaled_is_scaled_with_queries_times_the_root_of_d_k(kind: str) -> None:
    on, off = wild(MAKE[kind](True)), wild(MAKE[kind](False))
    x = TOKENS if kind == "TransformerLM" else normal(3, C, D)
    assert np.abs(on(x).data - off(x).data).max() > 1e-3
    for name, p in on.named_parameters():
        if "qkv" in name:
            p.data[:D] *= sqrt(D // H)  # the first D rows make the queries
    close(on(x), off(x))


@pytest.mark.parametrize("scaled", [True, False])
def test_attention_weights_down_to_the_scores(scaled: bool) -> None:
    lm = model(scaled=scaled)
    found = lm.attention_weights(TOKENS)
    assert [w.shape for w in found] == [(3, H, C, C)] * L
    x = lm.tokens.weight.data[TOKENS] + lm.positions.weight.data
    for block, weights in zip(lm.blocks, found, strict=True):
        q, k, _ = (t.data for t in block.attn.split_heads(block.ln1(x)))
        scores = q @ k.swapaxes(-1, -2) / (sqrt(D // H) if scaled else 1)
        close(weights, F.softmax(np.where(np.tril(np.ones((C, C), bool)), scores, -np.inf)))
        x = block(x).data


# -- how it starts -----------------------------------------------------------------------------


def big(init: str, seed: int = 0) -> nn.TransformerLM:
    rng = np.random.default_rng(seed)
    return nn.TransformerLM(97, d_model=64, n_heads=1, n_layers=3, context=32, init=init, rng=rng)


def expected_std(name: str, init: str) -> float:
    if name.endswith("bias") or "ln" in name:
        return 0.0
    if name.endswith(("attn.proj.weight", "mlp.layers.2.weight")):
        return 0.02 / sqrt(2 * 3)  # 3 layers write to the residual stream twice each
    return 0.02


@pytest.mark.parametrize("init", ["gpt2", "unit"])
def test_start_values(init: str) -> None:
    for name, p in big(init).named_parameters():
        value = p.data[2 * 64 :] if init == "unit" and name.endswith("qkv.weight") else p.data
        assert value.std() == pytest.approx(expected_std(name, init), rel=0.1), name
        assert value.mean() == pytest.approx(1.0 if "ln" in name and name.endswith("weight") else 0.0, abs=2e-3), name
        assert p.dtype == np.float32
        assert p.requires_grad


def test_unit_gives_queries_and_keys_of_variance_1() -> None:
    rng, lm = np.random.default_rng(0), big("unit")
    for block in lm.blocks:
        q, k, v = block.attn.split_heads(block.ln1(rng.normal(size=(8, 32, 64)).astype(np.float32)))
        assert q.data.var() == pytest.approx(1, rel=0.1)
        assert k.data.var() == pytest.approx(1, rel=0.1)
        assert v.data.var() < 0.05
        assert (q.data @ k.data.swapaxes(-1, -2)).var() == pytest.approx(64, rel=0.2)  # d_k


@pytest.mark.parametrize("init", ["gpt2", "unit"])
def test_equal_seeds_give_equal_models(init: str) -> None:
    a, b, c = (big(init, seed).state_dict() for seed in (0, 0, 1))
    assert all((a[name] == b[name]).all() for name in a)
    assert (a["tokens.weight"] != c["tokens.weight"]).any()


def test_the_library_s_seed_gives_equal_models() -> None:
    def made() -> list[Any]:
        sm.manual_seed(4)
        lm = nn.TransformerLM(V, d_model=D, n_heads=H, n_layers=1, context=C)
        return [p.tolist() for p in lm.parameters()]

    assert made() == made()


def test_output_layer_is_tied_to_the_embedding() -> None:
    lm = model()
    tokens = np.array([[1]])
    assert sum("tokens" in name for name, _ in lm.named_parameters()) == 1
    assert lm(tokens).shape == (1, 1, V)
    before = lm(tokens).data
    lm.tokens.weight.data[5] *= 2  # token 5 is not in the input: only its logit changes
    close(lm(tokens), before * np.where(np.arange(V) == 5, 2, 1))
    F.cross_entropy(lm(tokens), np.array([[2]])).backward()
    assert (lm.tokens.weight.grad.data != 0).all()  # row 1 by both ways, the others by the output


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: model(init="zero"), ["TransformerLM", "init", "'gpt2'", "'unit'", "'zero'"]),
        (lambda: model(n_heads=3), ["n_heads=3", "d_model=8"]),
        (lambda: model()(TOKENS[0]), ["TransformerLM", "(batch, time ≤ 6)", "(6,)"]),
        (lambda: model()(np.zeros((1, 7), int)), ["(batch, time ≤ 6)", "(1, 7)"]),
    ],
)
def test_errors(call: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    assert all(word in str(caught.value) for word in words)


def test_caches_that_are_too_short() -> None:
    lm = model()
    caches = [nn.Cache(C) for _ in range(L)]
    lm(TOKENS[:, :4], caches=caches)
    with pytest.raises(ValueError, match=r"\(3, 3\) after 4"):
        lm(TOKENS[:, :3], caches=caches)
