"""Formulas in LaTeX compile, and browsers get them as MathML: each is read by a parser that knows no other command."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import launched
from helpers import NEEDS_SCIPY
from test_explain import EVERYTHING, HOSTILE, named

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm.inspection.document import formula_latex
from tinygrad_sm.inspection.mathml import mathml
from tinygrad_sm.op import REGISTRY

MORE: list[Callable[[], Any]] = [
    lambda: F.cross_entropy(
        named("z", [[2.0, 1.0, 0.0]] * 2), [0, -100], weight=[1.0, 2.0, 0.5], label_smoothing=0.1, reduction="sum"
    ),
    lambda: F.nll_loss(F.log_softmax(named("z", [[2.0, 1.0, 0.0]])), [0], weight=[1.0, 2.0, 0.5]),
    lambda: F.linear_cross_entropy(named("x", [[1.0, 2.0]]), named("W", [[1.0, 2.0], [3.0, 4.0]]), [1]),
    lambda: (named("a", [1e-8, np.inf, np.nan]) * 1e30).sum(),
]


def formulas(explanation: Any) -> list[str]:
    """Return the formulas of an explanation: those on lines of their own, and those in prose."""
    markdown = explanation.markdown()
    own = re.findall(r"\$\$\n(.*?)\n\$\$", markdown, re.S)
    prose = re.sub(r"\$\$\n.*?\n\$\$|`[^`]*`|\\\$", "", markdown, flags=re.S)
    return own + re.findall(r"\$([^$]+)\$", prose)


def check(latex: str) -> None:
    tree = ElementTree.fromstring(mathml(latex))
    for fixed, count in (("mfrac", 2), ("msub", 2), ("msup", 2), ("msubsup", 3), ("mover", 2)):
        assert all(len(node) == count for node in tree.iter(fixed)), latex


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_the_latex_of_a_card_is_read(name: str) -> None:
    if name in NEEDS_SCIPY:
        pytest.importorskip("scipy")
    found = [*formulas(sm.explain(name)), *filter(None, REGISTRY[name].latex)]
    for latex in found:
        assert latex.isascii(), latex
        check(latex)


@pytest.mark.parametrize("make", [*EVERYTHING, *MORE])
def test_the_latex_of_a_backward_pass_is_read(make: Any) -> None:
    explanation = sm.explain(make())
    for latex in formulas(explanation):
        assert latex.isascii(), latex
        check(latex)
    assert explanation.latex().isascii()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_words(name: str) -> None:
    x = named(name, [1.0, 2.0])
    h = x * x
    h.name = name
    for latex in formulas(sm.explain((h * h).sum())):
        check(latex)
    assert "<script" not in mathml(rf"\text{{{formula_latex(name)}}}")


@pytest.mark.parametrize(
    "wrong", [r"\unknown x", "{x", "x}", r"h_{2}_{j}", r"\frac{1}", r"\text{x", r"\begin{bmatrix} 1 & 2"]
)
def test_what_would_not_compile_raises(wrong: str) -> None:
    with pytest.raises(ValueError, match="mathml"):
        mathml(wrong)


def test_an_equation_is_cut_outside_brackets_only() -> None:
    assert formula_latex("Jᵢⱼ = pᵢ·([i = j] − pⱼ)") == r"J_{ij} = p_{i}\,([i = j] - p_{j})"
    assert formula_latex("a ≠ b") == r"a \ne b"


def test_a_rare_letter_is_declared_for_pdflatex(tmp_path: Any) -> None:
    path = sm.explain((named("权", [1.0]) * 2.0).sum()).save(tmp_path / "x.tex")
    assert r"\DeclareUnicodeCharacter{6743}{[U+6743]}" in path.read_text(encoding="utf-8")
    assert "Declare" not in sm.explain("softmax").save(path).read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [400, 1360])
def test_a_page_is_typeset_and_fits_its_window(width: int, tmp_path: Any) -> None:
    path = sm.explain(EVERYTHING[4]()).save(tmp_path / "x.html")
    with launched() as browser:
        page = browser.new_page(viewport={"width": width, "height": 800})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        matrix = page.locator("mtable.matrix").first
        assert matrix.bounding_box()["height"] > 30  # rows stand below each other
        assert page.locator("merror").count() == 0
        assert asked == [path.as_uri()]


def test_a_gradient_whose_name_is_a_sign_has_its_bar() -> None:
    assert "\\mathrm{d" not in sm.explain(F.nll_loss).markdown()


def test_a_function_keeps_its_distance() -> None:
    gap = '<mspace width=".17em"></mspace>'
    assert mathml(r"g\cos x") == f"<math><mi>g</mi>{gap}<mi>cos</mi>{gap}<mi>x</mi></math>"
    assert mathml(r"\max_{i} x") == f"<math><msub><mi>max</mi><mi>i</mi></msub>{gap}<mi>x</mi></math>"
    assert mathml(r"-\log(x)").startswith('<math><mo form="prefix">−</mo><mi>log</mi><mo')
