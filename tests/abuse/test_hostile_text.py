"""Names and text that mean harm, in DOT, SVG, HTML and figures: nothing injected, nothing broken.

The pictures are drawn by a real program. What a name may become there is what `plain` makes of it, on one line.
"""

from __future__ import annotations

import base64
import html
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hostile import HOSTILE
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_graph import leaf, scope

import tinygrad_sm as sm
from tinygrad_sm.viz import plot
from tinygrad_sm.viz.cards import plain
from tinygrad_sm.viz.draw import Drawing, draw
from tinygrad_sm.viz.render import programs

needs_renderer = pytest.mark.skipif(not list(programs()), reason="no program to draw with")

ELEMENTS = {"svg", "g", "a", "title", "text", "path", "polygon", "polyline", "ellipse"}
ATTRIBUTES = {
    "id", "class", "transform", "width", "height", "viewBox", "fill", "stroke", "stroke-width", "stroke-dasharray", "d",
    "points", "text-anchor", "x", "y", "font-family", "font-size", "font-weight", "space", "opacity", "fill-opacity",
    "stroke-opacity", "cx", "cy", "rx", "ry", "title", "preserve", "style", "baseline-shift", "textLength",
    "lengthAdjust",
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("registry")


def drawing(names: list[str]) -> Drawing:
    """Draw a graph in which each name is a tensor's, a module's, an op's, an option's and a formula."""
    ends = []
    for i, name in enumerate(names):
        user = sm.Op(lambda x, how="": x * 1, (lambda g, y, x, how="": g,), name=f"op {i}")
        user.name, user.formula, user.gradient = f"{name} {i}", name, name  # Op itself refuses what cannot be printed
        a = leaf([1.0, 2.0], name)
        with scope(name, f"{name}: {name}"):
            y = user(a, how=name).sum()
        y.name = name
        ends.append(y)
    return draw(ends, title=names[0], max_nodes=1000)


def check_dot(dot: str, names: list[str]) -> None:
    """Check that the statements are those of the graph alone, and that no name has reached the language."""
    assert dot.isascii()
    assert "\\" not in dot
    assert all(int(code) <= 0xFFFF for code in re.findall(r"&#(\d+);", dot))  # Graphviz knows no others
    assert all(c.isprintable() or c in "\n\t" for c in dot)
    assert not re.search(r"\b(href|URL|SRC|image|shapefile|target)\s*=", re.sub(r'"[^"]*"|>[^<>]*<', "", dot))
    statements = re.findall(r"^\s*(n\d+|n\d+ -> n\d+) \[", dot, re.MULTILINE)
    assert len(statements) == 5 * len(names)
    assert max(map(len, dot.splitlines())) < 5000


def check_svg(svg: str) -> ElementTree.Element:
    """Check that a picture holds only what draws, and nothing that runs or leads elsewhere."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        assert element.tag.rpartition("}")[2] in ELEMENTS
        for name, value in element.attrib.items():
            bare = name.rpartition("}")[2]
            assert bare in ATTRIBUTES, bare
            assert bare in ("title", "id", "class") or not re.search(r"url|script|:", value, re.IGNORECASE)
    assert all(c.isprintable() or c == "\n" for c in svg)
    return root


def shown(root: ElementTree.Element) -> set[str]:
    """Return the words of a picture, and its tooltips."""
    words = {" ".join("".join(e.itertext()).split()) for e in root.iter() if e.tag.endswith("}text")}
    return words | {value for e in root.iter() for name, value in e.attrib.items() if name.endswith("}title")}


# -- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_the_dot_text_holds_the_graph_and_no_more(name: str) -> None:
    picture = drawing([name])
    check_dot(picture.dot, [name])
    assert all(c.isprintable() for c in picture.alt)
    assert all(c.isprintable() for c in repr(picture))
    assert len(picture.alt) < 500


@needs_renderer
def test_the_picture_shows_every_name_as_text() -> None:
    root = check_svg(drawing(HOSTILE).svg())
    words = shown(root)
    tooltips = " ".join(words)
    for name in HOSTILE:
        assert not plain(name, 28) or plain(name, 28) in words, name  # on the card
        assert plain(name, 120) in tooltips
    assert {f"n{i}" for i in range(3 * len(HOSTILE))} <= {e.get("id") for e in root.iter()}


@needs_renderer
@pytest.mark.parametrize("name", ["<<TABLE>", "\\", "&#0;", "x" * 100_000, "\ud800\x1b", "]]>--><script>"])
def test_each_alone_is_drawn_too(name: str, tmp_path: Path) -> None:
    picture = drawing([name])
    check_svg(picture.svg())
    for suffix in ("svg", "png", "dot"):
        assert picture.save(tmp_path / f"x.{suffix}").stat().st_size > 100
    shows = picture._repr_html_()
    image = re.fullmatch(
        r'<img alt="([^"]*)" style="max-width:100%" src="data:image/svg\+xml;base64,([\w+/=]+)">', shows
    )
    assert image is not None
    assert "<" not in image[1]
    assert html.unescape(image[1]) == picture.alt
    check_svg(base64.b64decode(image[2]).decode())


@settings(max_examples=25)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=8))
@example(["<", "&", "\\"])
@needs_renderer
def test_any_text_can_be_drawn(names: list[str]) -> None:
    picture = drawing(names)
    check_dot(picture.dot, names)
    words = shown(check_svg(picture.svg()))
    for name in names:
        assert not plain(name, 28) or plain(name, 28) in words


@given(st.text(), st.integers(8, 60))
def test_plain_is_one_short_printable_line(text: str, limit: int) -> None:
    line = plain(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
    assert "\\" not in line
    assert line == " ".join(line.split())
    if text.isascii() and text.isprintable() and "\\" not in text and len(text) <= limit:
        assert line == " ".join(text.split())


def test_the_built_in_layout_takes_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinygrad_sm.viz.render.programs", lambda: iter([("<b>", "no-such\x1b[31m-program")]))
    for name in HOSTILE:
        picture = drawing([name])
        tags = {e.tag.rpartition("}")[2] for e in ElementTree.fromstring(picture.svg()).iter()}
        assert not tags & {"script", "a", "image", "foreignObject", "style"}
        assert "\x1b" not in picture.svg()
        assert re.findall(r"<(?!img )[^>]*>", picture._repr_html_()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names of files")
def test_names_of_pictures_are_shown_without_escape_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinygrad_sm.viz.render.programs", lambda: iter(()))
    with pytest.raises(RuntimeError, match=r"a\\x1b\[31m\.png is not written") as caught:
        draw(leaf([1.0])).save(tmp_path / "a\x1b[31m.png")
    assert "\x1b" not in str(caught.value)
    with pytest.raises(ValueError, match=r"a\\x1b\[31m\.gif") as caught_too:
        draw(leaf([1.0])).save(tmp_path / "a\x1b[31m.gif")
    assert "\x1b" not in str(caught_too.value)


# -- figures ------------------------------------------------------------------------------------


def metrics(layers: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "step": i, "train_loss": 3.0, "held_out_loss": 3.1, "grad_norms": {layer: 1.0 + i for layer in layers},
            "attention": [{"entropy": 0.5, "largest": 0.3}],
        }
        for i in (1, 2)
    ]  # fmt: skip


def test_figures_show_names_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    texts: list[str] = []
    save = Figure.savefig

    def kept(figure: Any, *args: Any, **kwargs: Any) -> None:
        legends = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None]
        texts.extend(text.get_text() for legend in legends for text in legend.get_texts())
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", kept)
    names = [name for name in HOSTILE if set(name) & {"$", "_", "\x1b"}] + HOSTILE[::7] + ["\u4e2d\u6587"]
    plot.curve(metrics(names), tmp_path / "curve.png")
    plot.compare({name: metrics(["blocks.0"]) for name in names[:20]}, tmp_path / "x.png", "".join(names))
    plot.compare({"$": metrics(["blocks.0"])}, tmp_path / "x.png", "$\\frac{$")
    assert {"<script>alert(1)</script>", "$x^2$", "$\\frac{", " _hidden", "\\x1b[31mred\\x1b[0m"} <= set(texts)
    assert all(text.isprintable() and len(text) <= 41 for text in texts)
