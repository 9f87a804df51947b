"""The encoder-decoder Transformer: cross-attention by loops, blocks against PyTorch, gradients, padding, caches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, differences, graph_of, normal

import tinygrad_sm as sm
from tinygrad_sm import Tensor, nn

B, T, S, D, H, V, W = 2, 4, 5, 8, 2, 7, 9
X, MEMORY = normal(B, T, D), normal(B, S, D, seed=1)
REAL = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], bool)  # which source positions hold a token
SOURCE = np.random.default_rng(2).integers(1, V, (B, S)) * REAL
TARGET = np.random.default_rng(3).integers(0, W, (B, T))


def wild(module: nn.Module, seed: int = 0) -> Any:
    """Draw all parameters anew, in float64 and large, so that nothing is nearly uniform or nearly linear."""
    rng = np.random.default_rng(seed)
    for name, p in module.named_parameters():
        p.data = rng.normal(size=p.shape) * 0.5 + ("ln" in name and "weight" in name)
    return module


def model(**options: Any) -> nn.Transformer:
    return wild(nn.Transformer(V, W, d_model=D, n_heads=H, n_layers=2, context=6, **options))


# -- cross-attention ---------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_cross_attention_by_loops(padded: bool, scaled: bool) -> None:
    m = wild(nn.CrossAttention(D, H, scaled=scaled))
    mask = REAL[:, None, None, :] if padded else None
    out, weights = m(X, MEMORY, mask, return_weights=True)
    size, joined = D // H, np.zeros((B, T, D))
    q = X @ m.q.weight.data.T + m.q.bias.data
    kv = MEMORY @ m.kv.weight.data.T + m.kv.bias.data
    for b, h, t in np.ndindex(B, H, T):
        columns = slice(h * size, (h + 1) * size)
        keys, values = kv[b, :, :D][:, columns], kv[b, :, D:][:, columns]
        scores = keys @ q[b, t, columns] / (np.sqrt(size) if scaled else 1)
        e = np.exp(scores - scores.max()) * (REAL[b] if padded else 1)
        close(weights.data[b, h, t], e / e.sum())
        joined[b, t, columns] = e / e.sum() @ values
    close(out, joined @ m.proj.weight.data.T + m.proj.bias.data)
    close(m(X, MEMORY, mask), out)  # the fused way


def test_cross_attention_projects_the_memory_once() -> None:
    m, cache = wild(nn.CrossAttention(D, H)), nn.Cache(S)
    parts = [m(X[:, :1], MEMORY, cache=cache)] + [m(X[:, t : t + 1], None, cache=cache) for t in range(1, T)]
    assert cache.length == S
    close(np.concatenate([p.data for p in parts], axis=1), m(X, MEMORY))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(X[0], MEMORY), ValueError, r"x must be \(batch, time, 8\), not \(4, 8\); use x\[None\]"),
        (lambda m: m(X, MEMORY[0]), ValueError, r"memory must be .* use memory\[None\]"),
        (lambda m: m(X, MEMORY[:1]), ValueError, "x .* has a batch of 2, and the memory one of 1"),
        (lambda m: m(X, MEMORY, REAL), ValueError, r"a padding mask \(batch, S\) goes as mask\[:, None, None, :\]"),
        (lambda m: m(X, SOURCE), ValueError, "memory must be"),
        (lambda m: m(X, MEMORY, key_padding_mask=REAL), TypeError, "here it is mask"),
        (lambda m: nn.CrossAttention(8, 3), ValueError, "CrossAttention: n_heads=3 must divide d_model=8"),
        (lambda m: nn.CrossAttention(8, 2, scaled=0.5), TypeError, "CrossAttention: scaled must be True or False"),
    ],
)
def test_cross_attention_says_what_is_wrong(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call(nn.CrossAttention(D, H))


# -- blocks ------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("padded", [True, False])
def test_decoder_block_like_torch(padded: bool) -> None:
    torch = pytest.importorskip("torch")
    block = wild(nn.TransformerDecoderBlock(D, H))
    other = torch.nn.TransformerDecoderLayer(
        D, H, 4 * D, dropout=0.0, norm_first=True, batch_first=True, dtype=torch.float64,
        activation=lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    )  # fmt: skip

    def pair(layer: Any) -> list[Any]:
        return [layer.weight, layer.bias]

    own, cross = other.self_attn, other.multihead_attn
    ours = {**dict(block.named_parameters())}
    theirs = {"ln1": pair(other.norm1), "attn.qkv": [own.in_proj_weight, own.in_proj_bias],
              "attn.proj": pair(own.out_proj), "ln2": pair(other.norm2), "cross.proj": pair(cross.out_proj),
              "ln3": pair(other.norm3), "mlp.layers.0": pair(other.linear1),
              "mlp.layers.2": pair(other.linear2)}  # fmt: skip
    for name, (weight, bias) in theirs.items():
        weight.data, bias.data = (torch.tensor(ours[f"{name}.{part}"].data) for part in ("weight", "bias"))
    for part, joined in (("weight", cross.in_proj_weight), ("bias", cross.in_proj_bias)):
        joined.data = torch.tensor(np.concatenate([ours[f"cross.q.{part}"].data, ours[f"cross.kv.{part}"].data]))

    x, memory = Tensor(X, requires_grad=True), Tensor(MEMORY, requires_grad=True)
    z, z_memory = (torch.tensor(a, requires_grad=True) for a in (X, MEMORY))
    y = block(x, memory, REAL[:, None, None, :] if padded else None)
    y_t = other(
        z, z_memory, tgt_mask=torch.ones(T, T).triu(1).bool(),
        memory_key_padding_mask=torch.tensor(~REAL) if padded else None,
    )  # fmt: skip
    close(y, y_t.detach())
    c = normal(B, T, D, seed=3)
    y.backward(c)
    y_t.backward(torch.tensor(c))
    close(x.grad, z.grad)
    close(memory.grad, z_memory.grad)
    for name, (weight, bias) in theirs.items():
        close(ours[f"{name}.weight"].grad, weight.grad)
        close(ours[f"{name}.bias"].grad, bias.grad)
    joined_grad = np.concatenate([ours["cross.q.weight"].grad.data, ours["cross.kv.weight"].grad.data])
    close(joined_grad, cross.in_proj_weight.grad)


@pytest.mark.parametrize("options", [{}, {"scaled": False}])
def test_gradients_by_differences(options: dict[str, Any]) -> None:
    block = wild(nn.TransformerDecoderBlock(D, H, d_ff=3, **options))
    leaves = [
        Tensor(X, requires_grad=True),
        Tensor(MEMORY, requires_grad=True),
        block.cross.q.bias,
        block.cross.kv.weight,
    ]
    c, mask = normal(B, T, D, seed=3), REAL[:, None, None, :]
    actual = sm.grad(block(*leaves[:2], mask), leaves, c)

    def f(*arrays: Any) -> float:
        block.cross.q.bias.data, block.cross.kv.weight.data = arrays[2:]
        return float((block(arrays[0], arrays[1], mask).data * c).sum())

    arrays = [t.data.copy() for t in leaves]
    for i in range(len(arrays)):
        close(actual[i], differences(f, arrays, [i])[0], rtol=1e-5, atol=1e-7)


# -- the model ---------------------------------------------------------------------------------


def test_every_parameter_gets_a_gradient_and_a_scope() -> None:
    m = model()
    logits = m(SOURCE, TARGET, REAL)
    assert logits.shape == (B, T, W)
    sm.cross_entropy(logits, TARGET).backward()
    assert [name for name, p in m.named_parameters() if p.grad is None or not np.any(p.grad.data)] == []
    scopes = {
        " ".join(call.label if hasattr(call, "label") else str(call) for call in t.scope) for t in graph_of(logits)
    }
    assert any("decoder.1" in scope and "cross" in scope for scope in scopes)


def test_the_model_is_its_parts() -> None:
    m = model()
    close(m(SOURCE, TARGET, REAL), m.decode(TARGET, m.encode(SOURCE, REAL), REAL))


def test_padding_does_not_matter() -> None:
    m, other = model(), SOURCE.copy()
    other[~REAL] = 3
    close(m(other, TARGET, REAL), m(SOURCE, TARGET, REAL), rtol=1e-12)
    close(m(SOURCE[1:, :2], TARGET[1:]), m(SOURCE, TARGET, REAL).data[1:])


def test_no_later_target_token_matters() -> None:
    m, changed = model(), TARGET.copy()
    changed[:, 2:] = (changed[:, 2:] + 1) % W
    close(m(SOURCE, changed, REAL).data[:, :2], m(SOURCE, TARGET, REAL).data[:, :2], rtol=1e-12, atol=1e-12)


def test_the_toggle_reaches_every_head() -> None:
    m = model(scaled=False)
    found = [x.scaled for _, x in m.named_modules() if isinstance(x, (nn.MultiHeadAttention, nn.CrossAttention))]
    assert found == [False] * 6


def test_steps_equal_the_teacher_forced_whole() -> None:
    m = model(dropout=0.5)
    assert m.training
    state = m.start(SOURCE, REAL)
    with m.evaluating():
        expected = sm.log_softmax(m(SOURCE, TARGET, REAL)).data
    for t in range(T):
        log_probs, state = m.step(TARGET[:, t], state)
        close(log_probs, expected[:, t])
    assert m.training


def test_reordered_caches_follow_their_rows() -> None:
    m = model()
    rows = [1, 0, 1]
    state = m.start(SOURCE, REAL)
    for t in range(2):
        _, state = m.step(TARGET[:, t], state)
    before = state["caches"][0][0].k.copy()
    state = sm.decoding.reorder(state, np.array(rows))
    after, _ = m.step(np.array([4, 5, 6]), state)
    changed = np.concatenate([TARGET[rows, :2], [[4], [5], [6]]], axis=1)
    close(after, sm.log_softmax(m(SOURCE[rows], changed, REAL[rows])).data[:, -1])
    assert (before[rows][:, :, :2] == state["caches"][0][0].k[:, :, :2]).all()


def test_cross_weights_are_the_decoders() -> None:
    m = model()
    weights = m.cross_weights(SOURCE, TARGET, REAL)
    assert [w.shape for w in weights] == [(B, H, T, S)] * 2
    close(weights[0].sum(axis=-1), np.ones((B, H, T)))
    assert (weights[1][1, :, :, 2:] == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(SOURCE[0], TARGET), r"source must be \(batch, time ≤ 6\), not \(5,\); use source\[None\]"),
        (lambda m: m(SOURCE, np.zeros((2, 7), int)), r"target must be \(batch, time ≤ 6\), not \(2, 7\)"),
        (lambda m: m(SOURCE, TARGET, REAL[:, :3]), r"source_mask must be bool.*shape \(2, 5\) as the source"),
        (lambda m: m(SOURCE, TARGET, REAL.astype(int)), "source_mask must be bool"),
        (
            lambda m: nn.Transformer(0, 3, d_model=8, n_heads=2, n_layers=1, context=3),
            "source_vocab must be at least 1",
        ),
    ],
)
def test_the_model_says_what_is_wrong(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(model())


def test_a_target_longer_than_the_context_says_so() -> None:
    m = model()
    state = m.start(SOURCE, REAL)
    for _ in range(6):
        _, state = m.step(np.zeros(B, int), state)
    with pytest.raises(ValueError, match=r"target must be \(batch, time ≤ 6\), not \(2, 1\) after 6"):
        m.step(np.zeros(B, int), state)


def test_the_gradient_of_the_whole_by_differences() -> None:
    m, rng = model(), np.random.default_rng(7)

    def loss() -> Any:
        return sm.cross_entropy(m(SOURCE, TARGET[:, :-1], REAL), TARGET[:, 1:], label_smoothing=0.1)

    loss().backward()
    for name, p in m.named_parameters():
        direction, before, gradient = rng.normal(size=p.shape), p.data, p.grad.data
        ends = []
        for sign in (1, -1):
            p.data = before + sign * 1e-5 * direction
            ends.append(loss().item())
        p.data = before
        slope = (ends[0] - ends[1]) / 2e-5
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-8), name
