"""Pictures: the DOT text against golden files, hostile names, the choice of a renderer, and what a notebook shows.

`GOLDEN=write python -m pytest tests/test_draw.py` writes the golden files anew. Look at what changed
(`git diff tests/golden`, and the pictures) before you commit it.
"""

from __future__ import annotations

import base64
import os
import re
import stat
import sys
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from test_graph import leaf, scope

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm.graph import Graph
from tinygrad_sm.viz import render as renderers
from tinygrad_sm.viz.cards import cells, color, number, plain
from tinygrad_sm.viz.draw import draw
from tinygrad_sm.viz.render import NoRenderer, programs, render
from tinygrad_sm.viz.states import VANISHING, states

GOLDEN = Path(__file__).parent / "golden"
needs_renderer = pytest.mark.skipif(not list(programs()), reason="no program to draw with")
SVG = '<?xml version="1.0"?><!-- made by a fake --><svg xmlns="http://www.w3.org/2000/svg"></svg>'
HOSTILE = [
    "", " ", "\n\x00\x1b[31m", "a<b>&c", '"quoted"', "ends with \\", "\\N \\G \\", "]; n9 -> n8 [label=x",
    "<b>bold</b>", "</script><script>alert(1)</script>", "&foo; &#0; &amp;", "naïve λ \u202e\ud800 😀", "x" * 10_000,
    "--> <!-- ]]>", "{|}", 3,
]  # fmt: skip


# -- the graphs of the golden files: numbers that every machine computes alike ------------------


def linear() -> Graph:
    """Input, parameters, constants, modules, and a loss."""
    x = leaf([[1, 2, -1], [0, 1, 3]], "x")
    w, b = leaf([[1, 0, -2], [3, 1, 0], [0, -1, 1]], "W", ("Linear",)), leaf([0.5, 0, -0.5], "b", ("Linear",))
    with scope("net: MLP", "fc: Linear"):
        logits = x @ w + b
        logits.name = "logits"
    with scope("net: MLP"):
        h = sm.relu(logits)
    loss = ((h - np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])) ** 2).mean()
    loss.name = "loss"
    return Graph(loss)


def trouble() -> Graph:
    """NaN and inf, exploding, vanishing, zero and missing gradients."""
    x, scale, gain = leaf([0.0, 4.0, 1.0], "x"), leaf([1.0, 2.0], "scale"), leaf([1.0, 1.0], "gain")
    unused = leaf([1.0, 1.0], "unused")
    with np.errstate(divide="ignore", invalid="ignore"):
        y = (1 / x).sum() + (scale * 2.0**-40).sum() + (gain * 4096.0).sum() + (gain * 0.0).sum()
    return Graph([y, unused * 3])


def plain_values() -> Graph:
    """No scalar to start from; 13 by 20 numbers in strips of 6 by 8; an empty array."""
    big = leaf(np.arange(260.0).reshape(13, 20), "big")
    return Graph(sm.concatenate([big, leaf(np.zeros((0, 20)), "empty")], axis=0)[:, 2:])


def deep(blocks: int = 12) -> sm.Tensor:
    """Equal blocks of two modules each, between two other layers."""
    x = leaf([[1, -1], [2, 0.5]], "x")
    with scope("net: Net", "first: Scale"):
        h = x * leaf([1, 2], "gain", ("Scale",))
    for i in range(blocks):
        with scope("net: Net", f"blocks.{i}: Block"):
            with scope("up: Scale"):
                u = h * leaf([0.5, 0.25], "gain", ("Scale",))
            with scope("act: ReLU"):
                u = sm.relu(u)
            h = h + u
    with scope("net: Net", "last: Mean"):
        return h.mean()


def logits() -> sm.Tensor:
    """A cross-entropy, with something before and after it."""
    z = leaf([[1, 2, 0], [3, -1, 0]], "z")
    loss = F.cross_entropy(z * 2.0, np.array([1, 0]))
    loss.name = "nll"
    return loss + 1.0


def stuck() -> sm.Tensor:
    """A softmax that is all but certain, a ReLU with dead units, and one that is dead altogether."""
    h = sm.relu(leaf(np.arange(-32.0, 32.0).reshape(16, 4) * np.array([1, -1e-3, 1, 1]) - np.array([0, 9, 0, 0]), "h"))
    p = F.softmax(leaf([[50, 0, 0], [0, 50, 0]], "scores"))
    return h.sum() + p[0, 0] + sm.relu(leaf([-1, -2], "low")).sum()


def size(node) -> float:
    """Return how many elements a node has, as a measure to colour by."""
    return node.value.size


PICTURES = {
    "linear": lambda: draw(linear(), title="A linear layer & its loss"),
    "trouble": lambda: draw(trouble(), direction="LR"),
    "values": lambda: draw(plain_values(), show=("value", "grad")),
    "depth": lambda: draw(linear(), depth=1),
    "collapse": lambda: draw(deep(2), collapse="blocks.*"),
    "repeats": lambda: draw(deep(), depth=2, title="Twelve equal blocks"),
    "expand": lambda: draw(deep(4), depth=2, expand=["blocks.1", "last"]),
    "definition": lambda: draw(logits(), expand=["cross_entropy", "log_softmax"]),
    "by_itself": lambda: draw(deep(), max_nodes=30),
    "chain": lambda: draw(chain(100, 1.5), max_nodes=50),
    "color_by_grad": lambda: draw(linear(), color_by="grad", show="shape"),
    "color_by_function": lambda: draw(deep(3), color_by=size, depth=2),
    "states": lambda: draw(stuck()),
    "one_line": lambda: draw(deep(40), max_nodes=1000),
    "compare": lambda: sm.compare(logits(), logits() * 2, names=("once", "twice"), title="Two losses"),
}


def chain(n: int, factor: float = 0.5) -> sm.Tensor:
    """Many ops without a module."""
    y = leaf([1.0, 2.0], "a")
    for _ in range(n):
        y = y * factor - 1.0
    return y.sum()


@pytest.mark.parametrize("name", PICTURES)
def test_dot_text_is_as_it_was(name):
    dot, path = PICTURES[name]().dot, GOLDEN / f"{name}.dot"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(dot, encoding="ascii")
    assert dot == path.read_text(encoding="ascii")


def test_dot_text_keeps_to_what_all_engines_share():
    for make in PICTURES.values():
        dot = make().dot
        assert dot.isascii()
        assert not re.search(r"record|newrank|ortho|constraint", dot)
        fonts = re.findall(r'fontname=("[^"]*"|\S+)|FACE="([^"]*)"', dot)
        assert {a or b for a, b in fonts} <= {"Arial", "Courier"}


def test_ids_in_the_text_are_those_of_the_graph():
    graph = linear()
    dot = draw(graph).dot
    assert set(re.findall(r"\bid=(n\d+)", dot)) == {n.id for n in graph}
    assert set(re.findall(r"\bid=(e_\w+)", dot)) == {e.id for e in graph.edges}


# -- what the cards say -------------------------------------------------------------------------


def node_text(dot: str, id: str) -> str:
    """Return the text that stands on a card, words separated by single spaces."""
    (label,) = re.findall(rf"^\s*{id} \[label=<(.*)> class=", dot, re.MULTILINE)
    return " ".join(re.sub(r"<[^>]*>", " ", label).split())


def test_cards_say_role_name_shape_and_numbers():
    a = leaf([2.0], "a")
    loss = (a * 3 - 0.5).sum(axis=0)
    dot = draw(loss).dot
    assert node_text(dot, "n0") == "param a (1,) val 2 grad 3"
    assert node_text(dot, "n1") == "mul 3 (1,) val 6 grad 1"
    assert node_text(dot, "n3") == "sum loss axis=0 () val 5.5 grad 1"
    assert node_text(draw(loss, show="shape").dot, "n0") == "param a (1,)"
    assert node_text(draw(loss, show=["value"]).dot, "n0") == "param a val 2"
    assert node_text(draw(loss, show=()).dot, "n0") == "param a"


def test_not_run_none_and_zero_are_told_apart():
    a = leaf([2.0, 1.0], "a")
    assert node_text(draw(a * 2).dot, "n0").endswith("grad not run")
    assert "backward not run" in draw(a * 2).dot
    assert node_text(draw([(a * 2).sum(), leaf([1.0, 1.0]) * 2]).dot, "n3").endswith("grad none")
    assert node_text(draw((a * 0.0).sum()).dot, "n0").endswith("grad all 0")
    assert node_text(draw((a * 1e-30).sum()).dot, "n0").endswith("~ vanishing 1e-30")
    assert "nothing here requires a gradient" in draw(sm.Tensor([1.0])).dot


def test_states():
    graph = trouble()
    found = {graph[i].name or graph[i].label: (s.kind, s.text) for i, s in states(graph).items()}
    assert found == {
        "x": ("first", "! 1 inf starts here (grad)"),
        "1 div": ("first", "! 1 inf starts here (value)"),
        "sum": ("later", ""),
        "add": ("later", ""),
        "scale": ("vanishing", "~ vanishing 9e-13"),
        "gain": ("exploding", "! exploding 4e+03"),
    }
    assert "1 div: 1 inf starts here (value)." in draw(graph).alt


def test_the_legend_explains_what_is_there():
    a = leaf([2.0, 1.0])
    assert "NaN or inf starts here" not in draw((a * 2).sum()).dot
    assert "NaN or inf starts here" in draw(trouble()).dot
    assert "each strip" not in draw((a * 2).sum(), show="shape").dot
    assert "RMS gradient" not in draw((a * 2).sum(), show="shape").dot


def test_arrows_carry_the_share_of_the_gradient():
    a = leaf([3.0, 4.0], "a")
    dot = draw((a * sm.Tensor([3.0, 4.0], name="k")).sum()).dot
    (used,) = re.findall(r"n0 -> n2 \[(.*)\]", dot)
    (free,) = re.findall(r"n1 -> n2 \[(.*)\]", dot)
    assert ">  3.5<" in used
    assert "penwidth=3.8" in used
    assert "style=dashed" in free
    assert 'tooltip="no gradient"' in free


def test_large_graphs_have_cards_of_one_line_if_one_asks_for_all():
    y = leaf([1.0, 2.0], "a")
    for _ in range(160):
        y = y * 10.0
    dot = draw(y.sum(), max_nodes=1000).dot
    assert node_text(dot, "n100") == "mul 10 ! 1e+60 (2,)"
    assert "each strip" not in dot


def test_what_cannot_be_folded_is_refused():
    many = [leaf([1.0]) for _ in range(200)]
    with pytest.raises(ValueError, match=r"201 nodes.*cannot be folded.*max_nodes=150.*pass max_nodes=20"):
        draw(sm.concatenate(many))
    assert len(draw(sm.concatenate(many), max_nodes=201).picture.cards) == 201


@pytest.mark.parametrize(
    ("options", "said"), [({"show": ["colour"]}, "'colour'"), ({"direction": "up"}, "'up'"), ({"show": "val"}, "'val'")]
)
def test_unknown_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        draw(leaf([1.0]), **options)


def test_strips_hold_means_of_blocks():
    x = np.arange(12 * 16, dtype=float).reshape(12, 16)
    np.testing.assert_array_equal(cells(x), x.reshape(6, 2, 8, 2).mean(axis=(1, 3)))
    assert cells(np.ones((3, 4, 5, 100))).shape == (6, 8)
    assert cells(np.float32(3)).tolist() == [[3.0]]
    assert cells(np.full((20, 20), 1e308)).tolist() == [[1e308] * 8] * 6
    bad = np.ones((12, 16))
    bad[0, 0], bad[0, 1], bad[11, 15] = np.nan, np.inf, -np.inf
    found = cells(bad)
    assert np.isnan(found[0, 0])
    assert found[5, 7] == np.inf
    assert np.isfinite(found).sum() == 46


def test_colours_and_numbers():
    assert [color(x) for x in (-1.0, 0.0, 1.0)] == ["#2662A8", "#F5F6F8", "#DD6B20"]
    texts = ["6.234", "1e-09", "NaN", "-inf", "1234", "0"]
    assert [number(x) for x in (6.2341, 1e-9, np.nan, -np.inf, 1234.0, 0.0)] == texts


def test_gradients_that_vanish_at_the_border():
    a = leaf([1.0, 1.0], "a")
    assert [s.kind for s in states(Graph((a * VANISHING).sum())).values()] == []
    assert [s.kind for s in states(Graph((a * (VANISHING * 0.99)).sum())).values()] == ["vanishing"]


# -- names that mean harm -----------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_do_no_harm(name):
    a = leaf([1.0, 2.0], name)
    with scope(str(name), "inner"):
        y = (a * 2).sum()
    y.name = name
    drawing = draw(y, title=str(name))
    assert drawing.dot.isascii()
    assert "\\" not in drawing.dot
    statements = re.findall(r"^\s*(n\d+|n\d+ -> n\d+) \[", drawing.dot, re.MULTILINE)
    assert sorted(statements) == ["n0", "n0 -> n1", "n1", "n1 -> n2", "n2"]
    assert drawing._repr_html_().count("<script") == 0


@needs_renderer
def test_hostile_names_do_not_break_the_svg():
    tensors = []
    for name in HOSTILE:
        a = leaf([1.0], name)
        with scope(str(name)):
            tensors.append((a * 2).sum())
    svg = draw(tensors, title="".join(map(str, HOSTILE[:-4]))).svg()
    root = ElementTree.fromstring(svg)
    tags = {e.tag.rpartition("}")[2] for e in root.iter()}
    assert tags <= {"svg", "g", "a", "title", "text", "path", "polygon", "polyline"}
    ids = {e.get("id") for e in root.iter()}
    assert {f"n{i}" for i in range(len(HOSTILE) * 3)} <= ids


def test_plain_text():
    assert plain("a\tb\n c\x00\x7fd\u200be") == "a b cde"
    assert plain("C:\\new") == "C:/new"
    assert plain("x" * 99, 20) == "xxxxxxxxxx...xxxxxxx"
    assert plain(None) == "None"


# -- renderers ----------------------------------------------------------------------------------


def program(folder: Path, name: str, body: str) -> Path:
    """Write a program, in Python, that stands for a renderer."""
    path = folder / name
    start = "import sys\nread, out = sys.stdin.buffer.read(), sys.stdout.buffer"
    path.write_text(f"#!{sys.executable}\n{start}\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Hide what this machine has to draw with; return an empty folder that is the whole PATH."""
    monkeypatch.delenv("TINYGRAD_SM_DOT", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(renderers, "WHEEL", "no-such-wheel")
    return tmp_path


fakes = pytest.mark.skipif(os.name == "nt", reason="the fake programs start by #!")
DRAWS = f"out.write(({SVG!r}).replace('fake', sys.argv[0]).encode())"


@fakes
def test_the_named_program_comes_before_dot_on_the_path(alone, monkeypatch):
    program(alone, "dot", DRAWS)
    assert b"/dot" in render("digraph {}", "svg")
    mine = program(alone, "mine", DRAWS)
    for named in ("mine", str(mine)):
        monkeypatch.setenv("TINYGRAD_SM_DOT", named)
        assert b"/mine" in render("digraph {}", "svg")
    assert [path for _, path in programs()] == [str(mine), str(alone / "dot")]


@fakes
@pytest.mark.parametrize(
    "body",
    [
        "", "sys.exit(3)", "out.write(b'no picture')", "out.write(b'<svg'); sys.exit(1)",
        "sys.stderr.write('bad syntax'); sys.exit(1)",
    ],
)  # fmt: skip
def test_a_program_that_fails_makes_way_for_the_next(alone, monkeypatch, body):
    monkeypatch.setenv("TINYGRAD_SM_DOT", str(program(alone, "broken", body)))
    with pytest.raises(NoRenderer, match=r"TINYGRAD_SM_DOT: exit code \d, \d+ bytes: "):
        render("digraph {}", "svg")
    program(alone, "dot", DRAWS)
    assert b"/dot" in render("digraph {}", "svg")


@fakes
def test_a_program_that_takes_too_long_makes_way_too(alone, monkeypatch):
    monkeypatch.setenv("TINYGRAD_SM_DOT", str(program(alone, "slow", "import time; time.sleep(600)")))
    program(alone, "dot", DRAWS)
    assert b"/dot" in render("digraph {}", "svg", timeout=3.0)


@fakes
def test_a_program_gets_the_text_and_the_format(alone, monkeypatch):
    program(alone, "dot", "out.write(b'\\x89PNG\\r\\n\\x1a\\n' + read + repr(sys.argv[1:]).encode())")
    assert render("digraph {}", "png").endswith(b"digraph {}['-Tpng', '-Gdpi=144']")


def test_without_a_program_the_built_in_layout_draws_the_same_cards(alone):
    for make in PICTURES.values():
        drawing = make()
        root = ElementTree.fromstring(drawing.save(alone / "x.svg").read_text(encoding="utf-8"))
        ids = {e.get("id") for e in root.iter()}
        assert {c.id for c in drawing.picture.cards} | {a.id for a in drawing.picture.arrows} <= ids
        assert {b.id for b in drawing.picture.boxes} <= ids
        texts = "".join(root.itertext())
        assert all(text in texts for text in re.findall(r"<B>(\w+)</B>", drawing.dot))


@pytest.mark.parametrize("kind", [".png", ".pdf"])
def test_without_a_program_png_and_pdf_say_what_to_install(alone, monkeypatch, kind):
    drawing = draw(leaf([1.0, 2.0], "a").sum())
    with pytest.raises(RuntimeError, match=r"is not written, but the same picture is, to .*x\.svg: no program") as told:
        drawing.save(alone / f"x{kind}")
    for text in ("pip install graphviz-pure", "package graphviz", "TINYGRAD_SM_DOT"):
        assert text in str(told.value)
    assert (alone / "x.svg").read_text(encoding="utf-8") == drawing.svg()
    assert not (alone / f"x{kind}").exists()
    monkeypatch.setenv("TINYGRAD_SM_DOT", "no-such-program")
    with pytest.raises(NoRenderer, match=r"\$TINYGRAD_SM_DOT: .*no-such-program"):
        drawing.save(alone / f"x{kind}")


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="'gif'"):
        render("digraph {}", "gif")


def test_the_wheel_is_found_by_its_metadata(alone, monkeypatch):
    try:
        metadata.distribution("graphviz-pure")
    except metadata.PackageNotFoundError:
        pytest.skip("graphviz-pure is not installed")
    monkeypatch.setattr(renderers, "WHEEL", "graphviz-pure")
    ((origin, path),) = programs()
    assert origin == "the wheel graphviz-pure"
    assert Path(path).is_file()
    assert b"<svg" in render("digraph {a -> b}", "svg")


# -- what comes out -----------------------------------------------------------------------------


@needs_renderer
def test_svg_is_well_formed_and_the_same_each_time():
    graph = linear()
    svg = draw(graph, title="T").svg()
    assert svg.startswith("<svg")
    ids = {e.get("id") for e in ElementTree.fromstring(svg).iter()}
    assert {n.id for n in graph} | {e.id for e in graph.edges} | {"b0", "b1"} <= ids
    assert svg == draw(linear(), title="T").svg()


@needs_renderer
def test_all_directions_and_roles_are_drawn():
    for direction in ("TB", "LR", "BT", "RL"):
        for make in (linear, trouble, plain_values):
            ElementTree.fromstring(draw(make(), direction=direction).svg())


@needs_renderer
@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<svg"), (".PNG", b"\x89PNG"), (".dot", b"digraph")])
def test_save_writes_what_the_name_says(tmp_path, suffix, start):
    path = draw(linear()).save(str(tmp_path / f"picture{suffix}"))
    assert path == tmp_path / f"picture{suffix}"
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["x.gif", "x", "x.svg.gz"])
def test_save_refuses_other_endings(tmp_path, name):
    with pytest.raises(ValueError, match=r"\.svg, \.png, \.pdf, \.html, \.dot, \.json"):
        draw(linear()).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@fakes
def test_a_pdf_is_asked_for_and_written_as_it_comes(alone):
    program(alone, "dot", "assert sys.argv[1:] == ['-Tpdf']\nout.write(b'%PDF-1.5 a page')")
    assert draw(linear()).save(alone / "x.pdf").read_bytes() == b"%PDF-1.5 a page"
    program(alone, "dot", DRAWS)  # a program that does not know the format and draws another one
    with pytest.raises(NoRenderer, match="no pdf in it"):
        draw(linear()).save(alone / "y.pdf")


@fakes
def test_open_shows_a_file_that_stays(alone, monkeypatch):
    program(alone, "dot", DRAWS)
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    path = draw(linear()).open()
    assert shown == [path.as_uri()]
    assert path.read_text(encoding="utf-8").startswith("<svg")
    path.unlink()


def test_a_module_is_drawn_applied_to_its_inputs():
    model = sm.nn.Sequential(sm.nn.Linear(3, 4), sm.nn.ReLU())
    x = sm.Tensor(np.ones((2, 3), np.float32), name="x")
    assert draw(model, x, title="a model").dot == draw(model(x), title="a model").dot
    attend = sm.nn.MultiHeadAttention(4, 2)
    x, mask = sm.Tensor(np.ones((1, 3, 4), np.float32)), np.tril(np.ones((3, 3), bool))
    assert draw(attend, x, mask).dot == draw(attend(x, mask)).dot


def test_under_record_cards_have_the_names_of_variables_and_tooltips_the_lines():
    x = leaf([1.0, 2.0], "x")
    with sm.record():
        logits = x * 3
        loss = -logits.log_softmax().mean()
    dot = draw(loss).dot
    assert "<B>logits</B>" in dot
    assert "test_draw.py:" in dot
    assert "logits = x * 3" in dot


@fakes
def test_a_notebook_shows_an_image_with_a_text_for_those_who_cannot_see_it(alone):
    program(alone, "dot", DRAWS)
    a = leaf([1.0, 2.0], 'a "b"')
    html = draw(a * 2)._repr_html_()
    image = ElementTree.fromstring(html.replace("<img ", "<img x='' ").removesuffix(">") + "/>")
    assert image.get("alt") == "Computation graph of mul 2: 2 nodes (1 parameter, 1 op), 1 edge."
    kind, _, data = image.get("src").partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data).startswith(b"<svg")
    assert "&quot;b&quot;" in draw(a)._repr_html_()


def test_a_notebook_without_renderer_shows_the_picture_too(alone):
    (code,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', draw(leaf([1.0], "<script>") * 2)._repr_html_())
    assert base64.b64decode(code).startswith(b"<svg")
