"""Figures of what a softmax does: the numbers in them, and what they refuse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_sm as sm
import tinygrad_sm.functional as F

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
