"""LoRA: its value, its gradients, what stays frozen, merging, saving, and where it stands in models."""

from __future__ import annotations

import tracemalloc
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import close, differences, graph_of, normal

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import nn


def linear(n_in: int = 5, n_out: int = 4, bias: bool = True) -> nn.Linear:
    """Return a layer of float64."""
    layer = nn.Linear(n_in, n_out, bias)
    for p in layer.parameters():
        p.data = p.data.astype(np.float64)
    return layer


def adapted(**options: Any) -> nn.LoRA:
    """Return a layer of float64 with an adapter that has learned something."""
    layer = nn.LoRA(linear(), 2, **options)
    layer.b.data = normal(4, 2, seed=1)
    return layer


def model(**options: Any) -> nn.TransformerEncoder:
    return nn.TransformerEncoder(11, d_model=8, n_heads=2, n_layers=2, context=6, **options)


TOKENS = np.array([[1, 2, 3], [4, 5, 0]])
REAL = TOKENS > 0


def learned(module: nn.Module) -> None:
    """Give all B inside other numbers than 0."""
    for i, (_, m) in enumerate(module.named_modules()):
        if isinstance(m, nn.LoRA):
            m.b.data = normal(*m.b.shape, seed=i, dtype=m.b.dtype)


# -- the layer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [None, 2, 16.0])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_value_is_that_of_the_definition(alpha: float | None, lead: tuple[int, ...]) -> None:
    layer, x = adapted(alpha=alpha), normal(*lead, 5)
    factor = 1.0 if alpha is None else alpha / 2
    w, b = layer.linear.weight.data, layer.linear.bias
    assert b is not None
    close(layer(x), x @ w.T + b.data + factor * (x @ layer.a.data.T) @ layer.b.data.T)


def test_nothing_changes_at_first() -> None:
    layer, x = linear(), normal(3, 5)
    before = layer(x).data
    np.testing.assert_array_equal(nn.LoRA(layer, 3)(x).data, before)


@pytest.mark.parametrize("alpha", [None, 5])
def test_gradients_are_those_of_differences(alpha: float | None) -> None:
    layer, x, g = adapted(alpha=alpha), normal(3, 5), normal(3, 4, seed=2)
    factor, (w, b) = 1.0 if alpha is None else alpha / 2, (p.data for p in layer.linear.parameters())
    x_in = sm.Tensor(x, requires_grad=True)
    found = sm.grad(layer(x_in), [x_in, layer.a, layer.b], g)
    f = lambda x, a, low: float((g * (x @ w.T + b + factor * x @ a.T @ low.T)).sum())  # noqa: E731
    close(list(found), differences(f, [x, layer.a.data, layer.b.data], [0, 1, 2]), rtol=1e-6, atol=1e-8)


def test_gradcheck_of_second_order() -> None:
    layer = adapted(alpha=3.0)
    sm.gradcheck(lambda x, a, b: F.tanh(_with(layer, a, b)(x)), [normal(2, 5), normal(2, 5), normal(4, 2)], order=2)


def _with(layer: nn.LoRA, a: Any, b: Any) -> nn.LoRA:
    layer.__dict__["a"], layer.__dict__["b"] = a, b
    return layer


def test_the_gradient_of_a_is_zero_while_b_is() -> None:
    layer = nn.LoRA(linear(), 2)
    (layer(normal(3, 5)) ** 2).sum().backward()
    assert layer.a.grad is not None
    assert layer.b.grad is not None
    assert not layer.a.grad.data.any()
    assert layer.b.grad.data.all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_that_of_the_weight(dtype: Any) -> None:
    layer = nn.Linear(5, 4)
    for p in layer.parameters():
        p.data = p.data.astype(dtype)
    lora = nn.LoRA(layer, 2, alpha=3)
    assert {p.dtype for p in lora.parameters()} == {np.dtype(dtype)}
    assert lora(normal(3, 5, dtype=dtype)).dtype == dtype
    assert lora.merged().weight.dtype == dtype


def test_without_bias() -> None:
    layer = nn.LoRA(linear(bias=False), 2)
    assert layer.bias is None
    assert [path for path, _ in layer.named_parameters()] == ["a", "b", "linear.weight"]
    assert layer.merged().bias is None


def test_a_is_drawn_by_the_generator_as_the_weight_of_a_linear() -> None:
    one, two = (nn.LoRA(linear(100, 50), 8, rng=np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one.a.data, two.a.data)
    assert np.abs(one.a.data).max() <= 0.1
    assert one.a.data.std() == pytest.approx(0.1 / 3**0.5, rel=0.1)


def test_dropout_acts_before_a_only_and_in_training_only() -> None:
    layer = adapted(dropout=0.5)
    layer.linear.weight.data = np.zeros_like(layer.linear.weight.data)
    x = np.ones((2000, 5))
    out = layer(x).data
    assert len(np.unique(out.round(9), axis=0)) == 2**5  # each of the five numbers there or not
    layer.eval()
    assert len(np.unique(layer(x).data.round(9), axis=0)) == 1
    assert not nn.LoRA(linear().eval(), 2).training  # type: ignore[arg-type]


# -- frozen --------------------------------------------------------------------------------------


def test_frozen_weights_get_no_gradient_and_do_not_move() -> None:
    encoder = model()
    adapters = nn.add_lora(encoder, 2)
    before = {path: data.copy() for path, data in encoder.state_dict().items()}
    optimizer = sm.optim.AdamW(encoder.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        encoder.zero_grad()
        (encoder(TOKENS, REAL)[0, 0] ** 3).sum().backward()
        optimizer.step()
    assert list(adapters) == ["blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.1.attn.qkv", "blocks.1.attn.proj"]
    for path, p in encoder.named_parameters():
        free = path.endswith((".a", ".b"))
        assert p.requires_grad == free == (p.grad is not None), path
        assert (p.data != before[path]).any() == free, path


def test_what_stands_before_the_first_adapter_is_not_recorded() -> None:
    encoder = model()
    nn.add_lora(encoder, 2, to=["blocks.1.attn.qkv"])
    nodes = list(graph_of(encoder(TOKENS, REAL)))
    assert not [t for t in nodes if any("blocks.0" in str(call) for call in t.scope)]
    assert [t for t in nodes if any("blocks.1" in str(call) for call in t.scope)]


def test_a_frozen_weight_costs_no_memory() -> None:
    """The gradient of the weight would have 4 MB, and those of both adapters have 33 kB."""
    layer, x = nn.Linear(1024, 1024), np.ones((1, 1024), np.float32)

    def peak(module: Any) -> int:
        module(x).sum().backward()
        module.zero_grad()
        tracemalloc.start()
        module(x).sum().backward()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(layer) > 4e6
    assert peak(nn.LoRA(layer, 4)) < 1e5


# -- in models -----------------------------------------------------------------------------------


def test_merged_acts_as_before() -> None:
    layer, x = adapted(alpha=3), normal(3, 5)
    plain = layer.merged()
    assert type(plain) is nn.Linear
    close(plain(x), layer(x))
    close(layer.weight, plain.weight)
    assert layer.bias is layer.linear.bias
    assert plain.bias is not layer.bias
    assert [p.requires_grad for p in plain.parameters()] == [False, False]
    assert sorted(plain.state_dict()) == ["bias", "weight"]


@pytest.mark.parametrize("bias", [True, False])
def test_attention_with_adapters_is_attention_with_their_weights(bias: bool) -> None:
    attend, x = nn.MultiHeadAttention(8, 2, causal=True, bias=bias), normal(2, 3, 8)
    for p in attend.parameters():
        p.data = p.data.astype(np.float64)
    nn.add_lora(attend, 2, alpha=4)
    learned(attend)
    before, weights = attend(x, return_weights=True)
    qkv = attend.qkv
    assert isinstance(qkv, nn.LoRA)
    assert qkv.weight.shape == (24, 8)  # what reads the weight gets the one by which the layer acts
    assert nn.merge_lora(attend) == ["qkv", "proj"]
    after, same = attend(x, return_weights=True)
    close([after, same], [before, weights])
    assert type(attend.qkv) is type(attend.proj) is nn.Linear
    assert repr(attend).count("qkv: Linear") == 1


@pytest.mark.parametrize("options", [{}, {"norm": "rms", "feed_forward": "swiglu", "n_kv_heads": 1, "bias": False}])
def test_block_in_every_linear(options: dict[str, Any]) -> None:
    block, x = nn.TransformerBlock(8, 2, **options), normal(2, 3, 8, dtype=np.float32)
    to = ["qkv", "proj", *(["gate_up", "down"] if options else ["mlp.layers.0", "mlp.layers.2"])]
    before = block(x).data
    assert len(nn.add_lora(block, 2, to=to)) == 4
    np.testing.assert_array_equal(block(x).data, before)
    learned(block)
    changed = block(x).data
    assert np.abs(changed - before).max() > 0.1
    names = list(block.state_dict())
    nn.merge_lora(block)
    close(block(x), changed, rtol=1e-4, atol=1e-4)
    assert len(block.state_dict()) == len(names) - 8
    assert sum(isinstance(m, nn.Linear) for _, m in block.named_modules()) == 4


def test_generation_with_a_cache_goes_through_adapters() -> None:
    lm = nn.TransformerLM(11, d_model=8, n_heads=2, n_layers=1, context=8)
    nn.add_lora(lm, 2)
    learned(lm)
    found = lm.generate([1, 2], 4, temperature=0)
    nn.merge_lora(lm)
    np.testing.assert_array_equal(lm.generate([1, 2], 4, temperature=0), found)


class Pair(NamedTuple):
    layer: Any
    name: str


def test_modules_in_lists_tuples_and_dicts_and_one_that_stands_twice() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            self.one = linear()
            self.again = self.one
            self.some = {"a": [linear()], 3: (linear(), "text")}
            self.pair = Pair(linear(), "text")

        def forward(self, x: Any) -> Any:
            return self.one(x) + self.again(x) + self.some["a"][0](x) + self.some[3][0](x) + self.pair.layer(x)  # type: ignore[index]

    odd, x = Odd(), normal(2, 5)
    paths = ["one", "some.a.0", "some.3.0", "pair.0"]
    assert list(nn.add_lora(odd, 2, to=(end for end in ["one", "a.0", "some.3.0", "pair.0"]))) == paths
    assert isinstance(odd.pair.layer, nn.LoRA)
    learned(odd)
    assert odd.one is odd.again
    before = odd(x)
    assert nn.merge_lora(odd) == paths
    assert odd.one is odd.again
    assert type(odd.some[3]) is tuple
    assert type(odd.pair) is Pair
    close(odd(x), before)


def test_a_head_made_free_again_learns_too() -> None:
    mlp = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    nn.add_lora(mlp, 2, to=["layers.0"])
    for p in mlp[2].parameters():
        p.requires_grad = True
    free = [path for path, p in mlp.named_parameters() if p.requires_grad]
    assert free == ["layers.0.a", "layers.0.b", "layers.2.weight", "layers.2.bias"]


# -- saved ---------------------------------------------------------------------------------------


def test_state_goes_to_a_file_and_back(tmp_path: Any) -> None:
    one, two = model(), model()
    frozen = one.state_dict()
    two.load_state_dict(frozen)
    for encoder in (one, two):
        nn.add_lora(encoder, 2, alpha=4)
    learned(one)
    whole = one.state_dict()
    assert len(whole) == len(frozen) + 8
    adapters = {path: p.data for path, p in one.named_parameters() if p.requires_grad}
    assert len(adapters) == 8
    sm.save(tmp_path / "adapters.npz", adapters)
    two.load_state_dict(two.state_dict() | sm.load(tmp_path / "adapters.npz"))
    np.testing.assert_array_equal(two(TOKENS, REAL).data, one(TOKENS, REAL).data)
    three = model()
    nn.add_lora(three, 2, alpha=4)
    three.load_state_dict(whole)
    np.testing.assert_array_equal(three(TOKENS, REAL).data, one(TOKENS, REAL).data)
    with pytest.raises(ValueError, match=r"attn\.qkv\.a"):
        model().load_state_dict(whole)


def test_gradient_flow_knows_the_adapters() -> None:
    encoder = model()
    nn.add_lora(encoder, 2)
    (encoder(TOKENS, REAL)[0, 0] ** 3).sum().backward()
    flow = sm.gradient_flow(encoder)
    assert len(flow) == 8
    assert flow["blocks.0.attn.qkv.a"]["zeros"] == 1
    assert flow["blocks.0.attn.qkv.b"]["rms"] > 0


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"rank": 0}, ValueError, "rank must be at least 1"),
        ({"rank": 2.0}, TypeError, "rank must be an integer"),
        ({"rank": 5}, ValueError, r"a rank of 5 is more than a Linear\(5, 4\)"),
        ({"rank": 2, "alpha": 0}, ValueError, "alpha"),
        ({"rank": 2, "alpha": float("nan")}, ValueError, "alpha"),
        ({"rank": 2, "alpha": "16"}, TypeError, "alpha"),
        ({"rank": 2, "dropout": 1.0}, ValueError, "p"),
    ],
)
def test_wrong_options_change_nothing(options: dict[str, Any], error: type[Exception], words: str) -> None:
    layer = linear()
    with pytest.raises(error, match=words):
        nn.LoRA(layer, **options)
    assert layer.weight.requires_grad
    mlp = nn.Sequential(linear(7, 7), layer)
    with pytest.raises(error, match=words):
        nn.add_lora(mlp, to=["layers.0", "layers.1"], **options)
    assert all(p.requires_grad for p in mlp.parameters())
    assert mlp[1] is layer


def test_what_is_no_linear() -> None:
    for wrong in (nn.ReLU(), nn.LoRA(linear(), 2), np.ones((2, 2)), nn.Linear):
        with pytest.raises(TypeError, match="LoRA adapts a Linear, not a"):
            nn.LoRA(wrong, 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"LoRA\(linear, rank\) adapts one"):
        nn.add_lora(linear(), 2)
    with pytest.raises(TypeError, match="not a list"):
        nn.add_lora([linear()], 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"use its merged\(\)"):
        nn.merge_lora(nn.LoRA(linear(), 2))


def test_errors_of_add_lora_say_what_is_there() -> None:
    encoder = model()
    with pytest.raises(ValueError, match=r"ends in 'query' or 'kv'; the Linear layers are blocks\.0\.attn\.qkv, .*"):
        nn.add_lora(encoder, 2, to=("query", "kv"))
    with pytest.raises(ValueError, match="ends in nothing"):
        nn.add_lora(encoder, 2, to=())
    with pytest.raises(ValueError, match="there is no Linear layer"):
        nn.add_lora(nn.Sequential(nn.ReLU()), 2)
    with pytest.raises(TypeError, match=r"not 'qkv'; use \['qkv'\]"):
        nn.add_lora(encoder, 2, to="qkv")
    with pytest.raises(TypeError, match="a list of names"):
        nn.add_lora(encoder, 2, to=[1])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="to is a list of names, not 3"):
        nn.add_lora(encoder, 2, to=3)  # type: ignore[arg-type]
    assert all(p.requires_grad for p in encoder.parameters())
    nn.add_lora(encoder, 2, to=["qkv"])
    for to in ("qkv", "proj"):
        with pytest.raises(ValueError, match=r"adapters already, at blocks\.0\.attn\.qkv, .*merge_lora"):
            nn.add_lora(encoder, 2, to=[to])
    with pytest.raises(ValueError, match="no adapters in this TransformerEncoder"):
        nn.merge_lora(model())


def test_a_wrong_input_is_named() -> None:
    layer = nn.Sequential(linear())
    nn.add_lora(layer, 2, to=["layers.0"])
    with pytest.raises(ValueError, match=r"takes x of shape \(…, 5\), not \(3, 4\)"):
        layer(normal(3, 4))
