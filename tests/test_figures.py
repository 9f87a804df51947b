"""Figures of what a softmax does, of Jacobians and of gradients: the numbers in them, and what they refuse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor, nn

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def matplotlib() -> Any:
    return pytest.importorskip("matplotlib")


def weights(*shape: int, seed: int = 0) -> Any:
    return F.softmax(np.random.default_rng(seed).normal(size=shape))


def visible(figure: Any) -> list[Any]:
    return [ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"]


def texts(axis: Any) -> list[str]:
    return [text.get_text() for text in axis.get_ticklabels()]


def test_attention_has_a_map_for_each_head_on_one_scale() -> None:
    w = weights(5, 3, 3)
    plot = sm.viz.attention(sm.Tensor(w), ["a", "b", "c"], title="heads")
    maps = visible(plot.figure)
    assert len(maps) == 5
    for h, ax in enumerate(maps):
        [image] = ax.get_images()
        np.testing.assert_array_equal(image.get_array(), w[h])
        assert image.get_clim() == (0, w.max())
        entropy = -(w[h] * np.log(w[h])).sum(axis=1).mean()
        assert ax.get_title() == f"head {h}: {entropy:.2f} nats"
        assert texts(ax.xaxis) == texts(ax.yaxis) == ["a", "b", "c"]
    assert plot.alt == "attention weights of 5 heads, 3 queries, 3 keys"
    assert plot.figure.get_suptitle() == "heads"


def test_attention_of_other_queries_and_of_one_head() -> None:
    [ax] = visible(sm.viz.attention(weights(2, 3), ["a", "b", "c"], queries=["x", "y"]).figure)
    assert (texts(ax.xaxis), texts(ax.yaxis)) == (["a", "b", "c"], ["x", "y"])
    [ax] = visible(sm.viz.attention(weights(2, 3), ["a", "b", "c"]).figure)
    assert texts(ax.yaxis) == ["0", "1"]


def test_of_many_tokens_some_are_labelled() -> None:
    [ax] = visible(sm.viz.attention(weights(100, 100), [f"t{i}" for i in range(100)]).figure)
    assert texts(ax.xaxis) == [f"t{i}" for i in range(0, 100, 5)]


def test_attention_with_nothing_or_nan_in_it_is_drawn(tmp_path: Path) -> None:
    for w in (np.zeros((2, 2)), np.array([[np.nan, 1.0], [0.5, 0.5]])):
        assert sm.viz.attention(w).save(tmp_path / "x.png").read_bytes()[:8] == PNG


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    names = ["$x^2$", "_a", "<b>\n", "\\frac", "猫" * 40]
    sm.viz.attention(weights(5, 5), names, title="$").save(tmp_path / "x.png")
    sm.viz.distribution(np.arange(5.0), names, title="$\\").save(tmp_path / "x.svg")
    assert "$x^2$" in texts(visible(sm.viz.attention(weights(5, 5), names).figure)[0].xaxis)


def test_distribution_shows_logits_and_their_softmax() -> None:
    z = np.array([1.0, 2.0, 3.0])
    plot = sm.viz.distribution(z, ["cat", "dog", "horse"], temperature=[1.0, 0.5])
    left, right = visible(plot.figure)
    assert [bar.get_height() for bar in left.patches] == [1, 2, 3]
    heights = np.array([bar.get_height() for bar in right.patches]).reshape(2, 3)
    np.testing.assert_allclose(heights, [F.softmax(z), F.softmax(z, temperature=0.5)])
    assert {"0.090", "0.245", "0.665"} <= {t.get_text() for t in right.texts}  # the article's
    assert [t.get_text() for t in right.get_legend().get_texts()] == ["T = 1", "T = 0.5"]
    assert texts(left.xaxis) == ["cat", "dog", "horse"]
    assert len({bar.get_hatch() for bar in right.patches}) == 2  # grey prints tell them apart


def test_the_contour_lines_are_straight_and_where_they_belong() -> None:
    [ax] = visible(sm.viz.softmax_contour(temperature=2.0).figure)
    filled, lines = ax.collections
    assert list(filled.levels) == pytest.approx(np.linspace(0, 1, 11))
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        z1, z2 = path.vertices.T
        np.testing.assert_allclose(z1 - z2, 2.0 * np.log(level / (1 - level)), atol=0.02)


def written(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_jacobian_of_softmax_with_its_numbers() -> None:
    z = Tensor([1.0, 2.0, 3.0])
    plot = sm.viz.jacobian(sm.jacobian(sm.softmax, z), ["p1", "p2", "p3"], ["z1", "z2", "z3"], title="softmax")
    [ax] = visible(plot.figure)
    [image] = ax.get_images()
    p = sm.softmax(z).data
    np.testing.assert_allclose(image.get_array(), np.diag(p) - np.outer(p, p), rtol=1e-5)
    low, high = image.get_clim()
    assert -low == high == np.abs(image.get_array()).max()
    assert written(ax) == ["0.0819", "−0.022", "−0.0599", "−0.022", "0.185", "−0.163", "−0.0599", "−0.163", "0.223"]
    assert (texts(ax.yaxis), texts(ax.xaxis)) == (["p1", "p2", "p3"], ["z1", "z2", "z3"])
    assert (ax.get_ylabel(), ax.get_xlabel(), plot.figure.get_suptitle()) == ("output", "input", "softmax")


def test_jacobian_of_any_number_of_axes() -> None:
    J = np.arange(-12.0, 12.0).reshape(2, 3, 4)
    for outputs, shape in ((0, (1, 24)), (1, (2, 12)), (2, (6, 4)), (3, (24, 1))):
        plot = sm.viz.jacobian(J, outputs=outputs)
        [image] = visible(plot.figure)[0].get_images()
        np.testing.assert_array_equal(image.get_array(), J.reshape(shape))
    [ax] = visible(sm.viz.jacobian(J, outputs=2).figure)
    assert texts(ax.yaxis) == ["0,0", "0,1", "0,2", "1,0", "1,1", "1,2"]
    assert sm.viz.jacobian([1.0, 2.0]).alt == "Jacobian of 1 output, 2 inputs"
    assert sm.viz.jacobian(3.0).alt == "Jacobian of 1 output, 1 input"


def test_a_large_jacobian_shows_signs_and_a_larger_one_colours() -> None:
    J = np.random.default_rng(0).normal(size=(20, 13))
    [ax] = visible(sm.viz.jacobian(J).figure)
    [minus] = ax.collections
    assert (len(minus.get_offsets()), written(ax)) == ((J < 0).sum(), [])
    [ax] = visible(sm.viz.jacobian(np.ones((61, 300))).figure)
    assert (len(ax.collections), written(ax)) == (0, [])


def test_jacobian_with_odd_numbers_is_drawn(tmp_path: Path) -> None:
    plot = sm.viz.jacobian(np.array([[np.nan, np.inf, -np.inf], [1.5e-7, -2e30, 0]]), ["$a$", "_b"], title="$")
    [ax] = visible(plot.figure)
    assert written(ax) == ["NaN", "∞", "−∞", "1.50e-7".replace("-", "−"), "−2e30", "0"]
    assert plot.save(tmp_path / "x.png").read_bytes()[:8] == PNG
    sm.viz.jacobian(np.zeros((2, 2), np.float16)).save(tmp_path / "x.png")
    sm.viz.jacobian(np.full((20, 20), np.nan)).save(tmp_path / "x.png")


def model(*gradients: Any) -> Any:
    """Two layers whose four gradients are these numbers, repeated; None for none."""
    sm.manual_seed(0)
    m = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    for p, g in zip(m.parameters(), gradients, strict=True):
        p.grad = None if g is None else Tensor(np.full(p.shape, g, np.float32))
    return m


PATHS = ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]


def test_bars_of_a_flow(tmp_path: Path) -> None:
    plot = sm.gradient_flow(model(1e-9, 0.5, 0.0, np.nan)).plot(title="one step")
    [ax] = visible(plot.figure)
    assert texts(ax.yaxis) == PATHS
    bottom, top = ax.get_ylim()
    assert bottom > top  # the first layer is on top
    assert ax.get_xscale() == "log"
    low, _ = ax.get_xlim()
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([1e-9, 0.5, low, low])
    assert [bool(bar.get_hatch()) for bar in ax.patches] == [True, False, True, True]
    assert written(ax) == ["0 %", "vanishing", "0 %", "100 %", "all 0", "0 %", "NaN", "zeros"]
    assert ax.get_xlabel() == "rms of the gradient"
    assert plot.save(tmp_path / "x.png").read_bytes()[:8] == PNG


@pytest.mark.parametrize("what", ["mean", "norm", "rms", "max", "zeros", "ratio"])
def test_bars_of_each_statistic_by_module(what: str) -> None:
    flow = sm.gradient_flow(model(-1.0, 2.0, 3.0, 4.0))
    [ax] = visible(flow.plot(by="module", what=what).figure)
    assert texts(ax.yaxis) == ["Sequential (all)", "layers.0", "layers.1"]
    low, _ = ax.get_xlim()
    expected = [max(abs(row[what]), low) for row in flow.modules.values()]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(expected)


def followed(steps: int, m: Any) -> Any:
    flow = None
    for i in range(steps):
        for p in m.parameters():
            p.data = p.data * np.float32(0.5)
        m.layers[0].weight.grad = Tensor(np.full((3, 2), i + 1, np.float32))
        flow = sm.gradient_flow(m, since=flow)
    return flow


def test_map_of_a_flow_over_steps(tmp_path: Path) -> None:
    m = model(1.0, 0.0, np.nan, None)
    flow = followed(3, m)
    plot = flow.plot(title="steps")
    [ax] = visible(plot.figure)
    [image] = ax.get_images()
    assert texts(ax.yaxis) == PATHS[:3]
    np.testing.assert_allclose(image.get_array()[0], [1, 2, 3])
    assert image.get_array().mask.tolist() == [[False] * 3, [True] * 3, [True] * 3]
    [nan] = ax.collections
    assert nan.get_offsets().tolist() == [[0, 2], [1, 2], [2, 2]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["NaN"]
    assert plot.save(tmp_path / "x.png").read_bytes()[:8] == PNG
    assert image.get_extent() == [-0.5, 2.5, 2.5, -0.5]
    assert "3 rows over 3 steps" in plot.alt


def test_map_of_updates_begins_at_the_second_step() -> None:
    [ax] = visible(followed(3, model(1.0, 1.0, 1.0, 1.0)).plot(what="update", by="module").figure)
    [image] = ax.get_images()
    np.testing.assert_allclose(image.get_array(), np.ones((3, 2)))  # all are halved
    assert image.get_extent() == [0.5, 2.5, 2.5, -0.5]


def test_map_of_many_steps_shows_the_largest() -> None:
    flow = followed(301, model(None, None, None, None))
    [ax] = visible(flow.plot().figure)
    [image] = ax.get_images()
    np.testing.assert_allclose(image.get_array()[0], [*range(3, 302, 3), 301])
    assert ax.get_xlabel() == "step (each column: the largest of 3)"


def test_figures_of_hostile_and_of_many_names(tmp_path: Path) -> None:
    m = nn.Module()
    m.table = {name: Tensor([1.0], requires_grad=True) for name in ["$x^2$", "\x1b[31m\n", "\\frac", "猫" * 90, "$"]}
    for p in m.parameters():
        p.grad = Tensor([1.0])
    for flow in (sm.gradient_flow(m), sm.gradient_flow(m, since=sm.gradient_flow(m))):
        assert flow.plot(title="$").save(tmp_path / "x.png").read_bytes()[:8] == PNG
    m.table = {str(i): Tensor([1.0], requires_grad=True) for i in range(200)}
    for p in m.parameters():
        p.grad = Tensor([1.0])
    [ax] = visible(sm.gradient_flow(m).plot().figure)
    assert texts(ax.yaxis) == [f"table.{i}" for i in range(0, 200, 2)]


def test_a_plot_is_saved_and_shown_in_a_notebook(tmp_path: Path, matplotlib: Any) -> None:
    before = dict(matplotlib.rcParams)
    plot = sm.viz.softmax_contour()
    assert plot._repr_png_()[:8] == PNG
    for suffix, start in ((".png", PNG[:4]), (".svg", b"<?xm"), (".pdf", b"%PDF")):
        path = plot.save(str(tmp_path / f"x{suffix}"))
        assert path.read_bytes()[:4] == start
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sm.viz.attention(np.ones((2, 3, 4, 4))), r"attention: weights must .* weights\[0\]; got float64 of"),
        (lambda: sm.viz.attention(np.ones((0, 3))), "attention: weights must be"),
        (lambda: sm.viz.attention(np.ones((3, 3)), ["a"]), "attention: there are 1 tokens for 3 entries"),
        (lambda: sm.viz.attention(np.ones((2, 3)), queries="abc"), "attention: there are 3 queries for 2 entries"),
        (lambda: sm.viz.distribution(np.ones((2, 3))), r"distribution: logits must be one row .* logits\[0\]"),
        (lambda: sm.viz.distribution([1.0], ["a", "b"]), "distribution: there are 2 labels for 1 entries"),
        (lambda: sm.viz.distribution([1.0], temperature=0), "distribution: temperature must be a finite number"),
        (lambda: sm.viz.distribution([1.0], temperature=[]), "distribution: there is room for 1 to 4 .*, not 0"),
        (lambda: sm.viz.jacobian(sm.softmax), "jacobian: J must be the numbers that sm.jacobian"),
        (lambda: sm.viz.jacobian(np.ones((0, 3))), r"jacobian: J must be .* shape \(0, 3\)"),
        (lambda: sm.viz.jacobian(np.ones((2, 3, 4))), r"shape \(2, 3, 4\); say .* outputs=f\(x\).ndim"),
        (lambda: sm.viz.jacobian(np.ones((2, 3)), outputs=3), "jacobian: outputs=3, but J has 2 axes"),
        (lambda: sm.viz.jacobian(np.ones((2, 3)), outputs=-1), "jacobian: outputs must be at least 0, not -1"),
        (lambda: sm.viz.jacobian(np.ones((2, 3)), ["a"]), "jacobian: there are 1 rows for 2 entries"),
        (lambda: sm.viz.jacobian(np.ones((2, 3)), columns=["a"]), "jacobian: there are 1 columns for 3 entries"),
        (lambda: sm.gradient_flow(nn.Linear(1, 1)).plot(), "plot: there is nothing to draw: no gradient: call"),
        (lambda: sm.gradient_flow(nn.ReLU()).plot(), "plot: there is nothing to draw: no parameters"),
        (lambda: sm.viz.softmax_contour(low=1.0, high=1.0), "softmax_contour: low=1.0 must be below high=1.0"),
        (lambda: sm.viz.softmax_contour(temperature=-1.0), "softmax_contour: temperature must be"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        sm.viz.softmax_contour()


# -- a beam search -------------------------------------------------------------------------------

TABLE = np.log([[0.1, 0.3, 0.5, 0.1], [0.1, 0.1, 0.1, 0.7], [0.2, 0.3, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]])


def stepping(tokens: Any, state: Any) -> Any:
    return TABLE[tokens], state


def test_a_beam_shows_what_won_and_what_was_not_followed() -> None:
    options: Any = {"end": 3, "max_length": 5, "width": 2}
    plot = sm.viz.beam(stepping, None, 0, names=["start", "a", "b", "$"], title="$", **options)
    (ax,) = plot.figure.axes
    labels = {text.get_text(): text.get_color() for text in ax.texts}
    assert labels["$  −1.56"] == labels["a  −1.20"] == labels["start"]
    assert labels["b  −0.69"] != labels["a  −1.20"]
    assert labels["start  −2.30"] != labels["b  −0.69"]
    assert plot.alt.endswith("a $, with log-probability -1.56, wins among 8")


def test_the_trace_of_a_beam_is_the_search() -> None:
    from tinygrad_sm.viz.beam import placed, traced

    for width in (1, 2, 5):
        options: Any = {"end": 3, "max_length": 4, "width": width, "length_penalty": 1.0}
        trace = traced(stepping, None, 0, **options)
        ((best, *_),) = sm.decoding.beam_search(stepping, None, [0], **options)
        assert trace.best == best
        winner = (0, *best.tokens, 3)
        assert trace.sums[winner] == pytest.approx(best.log_prob)
        assert all(winner[:n] in trace.kept for n in range(1, len(winner) + 1))
        for length in range(2, 5):
            assert sum(len(prefix) == length for prefix in trace.kept) <= width
        lines = placed(trace.sums)
        leaves = [prefix for prefix in lines if not any(p[:-1] == prefix for p in lines)]
        assert sorted(lines[prefix] for prefix in leaves) == list(range(len(leaves)))


def test_a_beam_of_what_never_ends(tmp_path: Path) -> None:
    never = np.log(np.array([[0.5, 0.5, 1e-300]] * 3))
    plot = sm.viz.beam(lambda t, s: (sm.Tensor(never[t]), s), None, 0, end=2, max_length=3, width=1)
    assert plot.save(tmp_path / "x.png").read_bytes()[:8] == PNG
