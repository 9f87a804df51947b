"""Gradient statistics by parameter and by layer, and attention statistics, worked out by hand."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from html.parser import HTMLParser
from math import inf, isnan, log, nan, sqrt
from typing import Any

import numpy as np
import pytest
from helpers import leaf

import tinygrad_sm as sm
from tinygrad_sm import Tensor, nn, optim
from tinygrad_sm.inspection import GradientFlow, attention_stats, gradient_flow, layer_norms


class Model(nn.Module):
    """Parameters with gradients that are easy to work with; whatever is not given has none."""

    def __init__(self) -> None:
        self.head = leaf([1.0, -7.0])
        self.zero = leaf([0.0, 0.0])
        self.silent = leaf([1.0])
        self.empty = leaf(np.zeros((0, 2)))
        self.blocks = [nn.Linear(2, 2), nn.Sequential(nn.Linear(1, 1))]
        self.last = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        self.table = {"a": nn.Linear(1, 1, bias=False)}


def model() -> Any:
    m = Model()
    for path, g in {
        "head": [3.0, -4.0], "zero": [0.0, 6.0], "empty": np.zeros((0, 2)),
        "blocks.0.weight": [[0.0, 2.0], [0.0, 0.0]], "blocks.0.bias": [1.0, 2.0],
        "blocks.1.layers.0.weight": [[5.0]], "blocks.1.layers.0.bias": [12.0],
        "last.layers.0.weight": [[8.0]], "last.layers.1.bias": [-6.0], "table.a.weight": [[1e-3]],
    }.items():  # fmt: skip
        dict(m.named_parameters())[path].grad = Tensor(np.array(g))
    return m


def test_gradient_flow_by_hand() -> None:
    flow = sm.gradient_flow(model())
    assert set(flow) == {
        "head", "zero", "blocks.0.weight", "blocks.0.bias", "blocks.1.layers.0.weight", "blocks.1.layers.0.bias",
        "last.layers.0.weight", "last.layers.1.bias", "table.a.weight",
    }  # fmt: skip
    assert flow["head"] == pytest.approx(
        {"mean": -0.5, "norm": 5, "rms": 5 / sqrt(2), "max": 4, "zeros": 0, "ratio": 1 / sqrt(2), "update": nan},
        nan_ok=True,  # the value has rms 5
    )
    assert flow["zero"] == pytest.approx(
        {"mean": 3, "norm": 6, "rms": 6 / sqrt(2), "max": 6, "zeros": 0.5, "ratio": inf, "update": nan}, nan_ok=True
    )
    row = flow["blocks.0.weight"]
    assert (row["norm"], row["rms"], row["max"], row["zeros"]) == (2, 1, 2, 0.75)


def test_gradient_flow_in_half_precision_and_with_large_numbers() -> None:
    w = leaf([1.0, 1.0], np.float16)
    w.grad = Tensor(np.array([300.0, 400.0], np.float16))  # their squares overflow float16
    m = nn.Module()
    m.w = w
    assert gradient_flow(m)["w"]["norm"] == 500


def test_gradient_flow_shows_nan() -> None:
    m = nn.Module()
    m.w = leaf([1.0, 1.0])
    m.w.grad = Tensor([np.nan, 1.0])
    assert isnan(gradient_flow(m)["w"]["norm"])


def test_no_gradients_no_rows() -> None:
    assert gradient_flow(nn.Linear(2, 2)) == {}
    assert layer_norms(nn.Linear(2, 2)) == {}


def bag(**members: Any) -> Any:
    m = nn.Module()
    for name, value in members.items():
        setattr(m, name, value)
    return m


def with_gradient(value: Any, gradient: Any, dtype: Any = np.float64) -> Tensor:
    p = leaf(value, dtype)
    p.grad = Tensor(np.array(gradient, dtype))
    return p


def net(seed: int = 0) -> Any:
    """Modules in modules, with gradients; a layer that is shared, and a bias that is frozen."""
    sm.manual_seed(seed)
    shared = nn.Linear(3, 3)
    m = bag(a=nn.Sequential(shared, nn.ReLU(), nn.Linear(3, 3)), b=bag(again=shared, own=nn.Linear(3, 2)))
    m.b.own.bias.requires_grad = False
    x = np.random.default_rng(seed).normal(size=(5, 3)).astype(np.float32)
    (m.b.own(m.b.again(m.a(x))) ** 2).sum().backward()
    return m


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_statistics_are_those_of_numpy(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    value, g = (rng.normal(size=(7, 5)).astype(dtype) for _ in range(2))
    g[rng.random(g.shape) < 0.3] = 0
    wide, w = g.astype(np.float64), value.astype(np.float64)
    assert gradient_flow(bag(w=with_gradient(value, g, dtype)))["w"] == pytest.approx(
        {
            "mean": wide.mean(), "norm": np.linalg.norm(wide), "rms": np.sqrt((wide**2).mean()),
            "max": np.abs(wide).max(), "zeros": (wide == 0).mean(), "update": nan,
            "ratio": np.sqrt((wide**2).mean() / (w**2).mean()),
        }, rel=1e-14, nan_ok=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (np.float16, 6e4), (np.float32, 3e38), (np.float64, 1e300),
        (np.float16, 6e-8), (np.float32, 1e-45), (np.float64, 5e-324),
    ],
)  # fmt: skip
def test_no_size_overflows_or_vanishes(dtype: Any, size: float) -> None:
    g = np.full(6, size, dtype)
    m = bag(a=bag(w=with_gradient(np.ones(6), g, dtype)), b=bag(w=with_gradient(np.ones(6), -g, dtype)))
    flow = gradient_flow(m)
    for row in (flow["a.w"], flow.modules["a"], flow.modules[""]):
        assert [row["rms"], row["max"], row["ratio"]] == pytest.approx([float(g[0])] * 3, rel=1e-15, abs=0)
    assert (flow["a.w"]["mean"], flow.modules[""]["mean"]) == (g[0], 0)
    assert layer_norms(m)["a"] == pytest.approx(float(g[0]) * sqrt(6), rel=1e-12, abs=5e-324)


def test_modules_are_statistics_of_all_their_elements() -> None:
    m = net()
    flow = gradient_flow(m)
    first = flow.modules
    assert list(first) == ["", "a", "a.layers.0", "a.layers.2", "b", "b.own"]
    optim.SGD(m.parameters(), lr=0.5).step()
    before = {id(p): p.data + 0.5 * p.grad.data for p in m.parameters() if p.grad is not None}
    flow = gradient_flow(m, since=flow)
    for path, module in m.named_modules():
        inside = [p for p in module.parameters() if p.grad is not None]
        if not inside:
            assert path not in flow.modules
            continue
        g, value, change = (
            np.concatenate([np.asarray(f(p), np.float64).ravel() for p in inside])
            for f in (lambda p: p.grad.data, lambda p: p.data, lambda p: p.data - before[id(p)])
        )
        size = sqrt((value**2).mean())
        assert flow.modules[path] == pytest.approx(
            {
                "mean": g.mean(), "norm": np.linalg.norm(g), "rms": sqrt((g**2).mean()), "max": np.abs(g).max(),
                "zeros": (g == 0).mean(), "ratio": sqrt((g**2).mean()) / size,
                "update": sqrt((change**2).mean()) / size,
            }, rel=1e-6, abs=1e-12,
        )  # fmt: skip
    assert np.concatenate([p.grad.data.ravel() for p in m.b.parameters() if p.grad is not None]).size == 3 * 3 + 3 + 6
    assert {"mean", "rms", "update"} <= set(first[""])


def test_history_and_updates_by_hand() -> None:
    p = leaf([3.0, -4.0])
    m = bag(w=p)
    optimizer = optim.SGD([p], lr=0.1)
    flow, values, rms = None, [p.data.copy()], []
    for _ in range(4):
        m.zero_grad()
        (p * p).sum().backward()  # the gradient is 2·w, so that each step takes 0.2 of it
        rms.append(sqrt((p.grad.data**2).mean()))
        flow = gradient_flow(m, since=flow)
        optimizer.step()
        values.append(p.data.copy())
    assert flow is not None
    assert flow.series("w", "rms") == flow.series("", "rms") == pytest.approx(rms)
    assert flow.series("w", "update") == pytest.approx([nan, 0.25, 0.25, 0.25], nan_ok=True)  # 0.2 / 0.8
    assert [step["step"] for step in flow.history] == [0, 1, 2, 3]
    assert flow.history[2]["rows"]["w"]["rms"] == pytest.approx(rms[2])
    assert flow.history[3]["rows"] == flow


def test_a_step_without_a_gradient_and_one_without_a_change() -> None:
    m = bag(a=with_gradient([1.0], [2.0]), b=with_gradient([0.0], [0.0]))
    flow = gradient_flow(m)
    m.a.grad = None
    flow = gradient_flow(m, since=flow)
    assert (list(flow), flow["b"]["update"], flow["b"]["ratio"]) == (["b"], 0, 0)
    m.a.grad = Tensor([3.0])
    m.a.data += 1.0  # in place: the flow has a copy
    flow = gradient_flow(m, since=flow)
    assert flow.series("a") == pytest.approx([2, nan, 3], nan_ok=True)
    assert flow["a"]["update"] == 0.5


def test_one_flow_can_be_followed_twice_and_none_is_kept_by_the_next() -> None:
    m = bag(w=with_gradient([2.0], [1.0]))
    first = gradient_flow(m)
    m.w.data = np.array([4.0])
    assert [gradient_flow(m, since=first)["w"]["update"] for _ in range(2)] == [0.5, 0.5]
    later, gone = gradient_flow(m, since=first), weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
    assert len(later.history) == 2


def test_a_flow_is_copied_and_pickled() -> None:
    m = bag(w=with_gradient([2.0], [1.0]))
    flow = gradient_flow(m, since=gradient_flow(m))
    for again in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert isinstance(again, GradientFlow)
        assert repr(again) == repr(flow)
        assert len(gradient_flow(m, since=again).history) == 3
        with pytest.raises(ValueError, match="flow of another model"):
            gradient_flow(bag(w=leaf([1.0, 2.0])), since=again)


def test_table() -> None:
    m = bag(
        tiny=with_gradient([[1.0, 2.0]], [[1e-9, -1e-9]]), huge=with_gradient(2.0, 5e4),
        zero=with_gradient([1.0], [0.0]), bad=with_gradient([1.0], [nan]),
        fine=with_gradient([1.0] * 8, [-0.5] * 7 + [0.0]), unused=leaf([1.0]), inf=with_gradient([1.0], [inf]),
    )  # fmt: skip
    m.frozen = leaf([1.0])
    m.frozen.requires_grad = False
    head, columns, *lines = str(gradient_flow(m)).splitlines()
    assert head == "gradient flow of Module at step 0: 5 marked"
    assert columns.split() == ["shape", "mean", "rms", "max", "zeros", "ratio", "update"]
    assert [line.split() for line in lines] == [
        ["tiny", "1×2", "0", "1.0e-9", "1.0e-9", "0", "%", "6.3e-10", "-", "vanishing"],
        ["huge", "()", "5.0e4", "5.0e4", "5.0e4", "0", "%", "2.5e4", "-", "exploding"],
        ["zero", "1", "0", "0", "0", "100", "%", "0", "-", "all", "0"],
        ["bad", "1", "NaN", "NaN", "NaN", "0", "%", "NaN", "-", "NaN"],
        ["fine", "8", "-4.4e-1", "4.7e-1", "5.0e-1", "12.5", "%", "4.7e-1", "-"],
        ["inf", "1", "inf", "inf", "inf", "0", "%", "inf", "-", "inf"],
        ["(all)", "NaN", "NaN", "NaN", "14.2", "%", "NaN", "-", "NaN"],
        ["no", "gradient", "reached:", "unused,", "frozen", "(frozen)"],
    ]
    assert len({line.index("%") for line in lines[:-1]}) == 1  # aligned


def test_tables_of_modules_and_of_a_later_step() -> None:
    m = net()
    flow = gradient_flow(m, since=gradient_flow(m))
    assert "at step 1" in str(flow)
    assert str(flow).splitlines()[2].split()[-1] == "0"  # no update, but measured
    lines = [line.split()[:2] for line in str(flow.modules).splitlines()]
    assert lines[1][0] == "numbers"
    assert lines[2:4] == [["(all)", "30"], ["a", "24"]]
    assert "no gradient reached: b.own.bias (frozen)" in str(flow.modules)


HOSTILE = ["\x1b[31mred\n", "\u202egnp", "<script>", "a" * 500, "$x$", "\ud800", "猫", "&amp;"]


def tags(page: str) -> list[str]:
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            found.append(tag)

    Parser().feed(page)
    return found


def test_hostile_names_are_harmless_and_the_table_fits_its_width() -> None:
    hostile = type("Evil\n\x1b[2J<b>", (nn.Module,), {})()
    hostile.table = {name: with_gradient([1.0] * 2, [1e-9, nan]) for name in HOSTILE}
    hostile.none = {name: leaf([1.0]) for name in HOSTILE}
    flow = gradient_flow(hostile)
    for text in (str(flow), str(flow.modules)):
        assert all(line.isprintable() and len(line) <= 100 for line in text.splitlines())
    assert len(str(flow).splitlines()) >= 2 + len(HOSTILE)
    for page in (flow._repr_html_(), flow.modules._repr_html_()):
        assert set(tags(page)) == {"p", "table", "thead", "tbody", "tr", "th", "td"}
        assert page.replace("\n", "").isprintable()


def test_before_backward_and_without_parameters() -> None:
    for m, text in ((nn.Linear(2, 2), "no gradient: call loss.backward() first"), (nn.ReLU(), "no parameters")):
        flow = gradient_flow(m)
        assert flow == flow.modules == {}
        assert str(flow).splitlines()[1:] == str(flow.modules).splitlines()[1:] == [text]
        assert text in flow._repr_html_()
        assert flow.history == [{"step": 0, "rows": {}}]
    late = nn.Linear(2, 2)
    flow = gradient_flow(late)
    late(np.ones((1, 2), np.float32)).sum().backward()
    flow = gradient_flow(late, since=flow)
    assert flow.series("weight", "rms") == pytest.approx([nan, 1], nan_ok=True)


def test_a_model_of_the_same_shapes_is_another_model() -> None:
    flow = gradient_flow(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"flow of another model, a Linear; begin each model's with since=None"):
        gradient_flow(nn.Linear(2, 2), since=flow)


def test_layer_norms_by_hand() -> None:
    expected = {"head": 5, "zero": 6, "blocks.0": 3, "blocks.1": 13, "last": 10, "table": 1e-3}
    m = model()
    assert layer_norms(m) == pytest.approx(expected)
    assert layer_norms(m, gradient_flow(m)) == pytest.approx(expected)


def test_layers_of_a_transformer() -> None:
    lm = nn.TransformerLM(5, d_model=4, n_heads=1, n_layers=2, context=3)
    sm.cross_entropy(lm(np.array([[0, 1, 2]])), np.array([[1, 2, 3]])).backward()
    norms = layer_norms(lm)
    assert sorted(norms) == ["blocks.0", "blocks.1", "ln", "positions", "tokens"]
    total = sqrt(sum(float((p.grad.data.astype(float) ** 2).sum()) for p in lm.parameters()))
    assert sqrt(sum(n**2 for n in norms.values())) == pytest.approx(total)


H3 = (0.5 * log(2) + 2 * 0.25 * log(4)) / log(3)  # of (½, ¼, ¼), as a share of log 3


@pytest.mark.parametrize(
    ("weights", "causal", "entropy", "largest"),
    [
        (np.full((2, 4), 0.25), False, 1, 0.25),
        (np.eye(3), False, 0, 1),
        ([[0.5, 0.25, 0.25], [1, 0, 0]], False, H3 / 2, 0.75),
        ([[1, 0, 0], [0.5, 0.5, 0], [0.5, 0.25, 0.25]], True, (1 + H3) / 2, 0.5),  # row 0 has no choice
        ([[1, 0, 0], [1, 0, 0], [1, 0, 0]], True, 0, 1),
        ([[[[1, 0], [0.5, 0.5]]], [[[1, 0], [1, 0]]]], True, 0.5, 0.75),  # (B, H, T, S)
        ([[0, 0]], False, 0, 0),  # a row that attends to nothing
    ],
)
def test_attention_stats_by_hand(weights: Any, causal: bool, entropy: float, largest: float) -> None:
    for dtype in (np.float64, np.float32):
        stats = attention_stats(np.array(weights, dtype), causal=causal)
        assert stats == pytest.approx({"entropy": entropy, "largest": largest}, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("weights", "causal"), [([[1.0]], True), ([[1.0], [1.0]], False)])
def test_attention_with_no_choice_has_no_statistics(weights: Any, causal: bool) -> None:
    assert all(isnan(v) for v in attention_stats(np.array(weights), causal=causal).values())
