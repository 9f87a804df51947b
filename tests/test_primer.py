"""The primer: each number of the article beside one that is computed here, the verdicts, and the report."""

from __future__ import annotations

import builtins
import json
import math
import re

import numpy as np
import pytest
from browser import launched

import tinygrad_sm as sm
from tinygrad_sm import cli, primer
from tinygrad_sm.primer import attention, confidence, loss, parts, report

TIMED = "log_softmax is faster"  # these verdicts depend on the machine


@pytest.fixture(scope="module")
def chapters():
    return primer.chapters()


@pytest.fixture(scope="module")
def claims(chapters):
    found = [one for chapter in chapters for one in chapter.claims]
    assert len({one.says for one in found}) == len(found)
    return {one.says: one for one in found}


# The article's printed numbers, and how to compute each without the library.
E = np.exp([1.0, 2.0, 3.0])
P99 = np.r_[0.99, np.full(999, 0.01 / 999)]
Q = np.r_[0.9 + 1e-4, np.full(999, 1e-4)]
PRINTED = {
    "the probabilities of cat, dog and horse, of logits 1, 2 and 3": ("0.0900, 0.2447, 0.6652", E / E.sum()),
    "their sum": ("1.0", [1.0]),
    "cat has 0.09 and horse 0.67": ("0.09, 0.67", (E / E.sum())[[0, 2]]),
    "horse is so many times as likely as cat": ("7.4", [math.e**2]),
    "softmax as written, of 1000, 1000, 1000": ("nan, nan, nan", [np.nan] * 3),
    "softmax as written, of −1000, −1000, −1000": ("nan, nan, nan", [np.nan] * 3),
    "with the maximum subtracted, of 1000, 1000, 1000": ("0.33333333, 0.33333333, 0.33333333", [1 / 3] * 3),
    "with the maximum subtracted, of −1000, …": ("0.33333333, 0.33333333, 0.33333333", [1 / 3] * 3),
    "the stable softmax of −1, 10, 5000": ("0, 0, 1", [0, 0, 1]),
    "its log": ("-inf, -inf, 0", [-np.inf, -np.inf, 0]),
    "exp of log_softmax": ("0, 0, 1", [0, 0, 1]),
    "cross-entropy of a prediction of 99 %": ("0.010", [-math.log(0.99)]),
    "the same with ε = 0.1 and 1000 classes": ("1.159", [-(Q * np.log(P99)).sum()]),
    "every class has a target of at least": ("0.0001", [0.1 / 1000]),
}


def test_every_printed_number_is_in_the_table(claims):
    assert {says for says, one in claims.items() if one.printed} == set(PRINTED)


@pytest.mark.parametrize("says", PRINTED)
def test_a_printed_number_is_found_again(claims, says):
    printed, expected = PRINTED[says]
    one = claims[says]
    assert (one.printed, one.verdict) == (printed, "holds")
    found = [float(x) for x in one.found.split(",")]
    digits = len(printed.split(",")[0].partition(".")[2])
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.5001 * 10.0**-digits)


VERDICTS = {
    "it is additive: softmax(zᵢ) + softmax(zⱼ) = softmax(zᵢ + zⱼ)": "fails",
    "the definition has softmax(xᵢ) on the left, and exp(zᵢ) on the right": "fails",
    "softmax amplifies the differences between the scores": "in part",
    "exp(Σ z) is an acceptable stand-in for Σ exp(z) when the scores are not far apart": "fails",
    "the stable code works: z = x − max(x), divided by the sum over axis 0": "fails",
    "the gradient of cross-entropy with respect to the logits is p − y": "holds",
    "the derivation shows it": "in part",
    "its last step, −yⱼ·(1 − pⱼ) = pⱼ − yⱼ, is an identity": "fails",
    "the loss yⱼ − pⱼ is the mean absolute error": "fails",
    "a model trained with it hardly changes when it is wrong": "holds",
    "with the log of softmax the gradient does not behave": "holds",
    "the mean of q·k is 1": "fails",
    "the variance of q·k is d_k": "holds",
    "Var(QKᵀ) = Var(Q)·Var(Kᵀ) = d_k·1² = d_k": "fails",
    "the article's second figure shows attention scaled by √d_k": "fails",
    "the figure of the derivative has z on its horizontal axis": "fails",
    "the titles of the two derivative figures give the smallest derivative": "fails",
    "1.159 against 0.010 shows how smoothing punishes overconfidence": "in part",
    "label smoothing bounds them": "holds",
    "perplexity is the exponential of the cross-entropy": "holds",
    "the chart shows a ResNet and a LeNet on CIFAR-100, from Guo et al., cited as [2]": "fails",
}


@pytest.mark.parametrize("says", VERDICTS)
def test_the_verdict_of_a_claim(claims, says):
    one = claims[says]
    assert one.verdict == VERDICTS[says]
    assert bool(one.right) == (one.verdict != "holds")


def test_every_claim_says_what_was_found(claims):
    for one in claims.values():
        assert one.found, one
        assert one.verdict in report.MARKS
        assert one.right or one.verdict == "holds", one


# -- the judges can fail --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "value", "verdict"),
    [
        ("0.67", 0.6652, "holds"), ("0.67", 0.6549, "fails"), ("7.4", 7.389, "holds"), ("7.5", 7.389, "fails"),
        ("nan", np.nan, "holds"), ("nan", 0.5, "fails"), ("0.5", np.nan, "fails"), ("-inf, 0", [-np.inf, 0], "holds"),
        ("-inf, 0", [np.inf, 0], "fails"), ("0.000", -1e-9, "holds"),
    ],
)  # fmt: skip
def test_same_compares_as_many_digits_as_are_printed(printed, value, verdict):
    assert parts.same("x", printed, value).verdict == verdict


def test_same_wants_as_many_numbers():
    with pytest.raises(ValueError, match=r"the article prints 2 numbers, '1, 2'; 3 were found"):
        parts.same("x", "1, 2", [1, 2, 3])


def test_a_wrong_gradient_would_be_found(monkeypatch):
    """The verdict on p − y comes from the engine's numbers."""
    monkeypatch.setattr(loss, "gradient", lambda f, z: np.zeros_like(z))
    monkeypatch.setattr(loss, "compare_losses", lambda: pytest.fail("not needed"))
    real = loss.grad
    monkeypatch.setattr(loss, "grad", lambda *a: tuple(sm.Tensor(g.data + 0.1) for g in real(*a)))
    chapter = loss.cross_entropy()
    assert chapter.claims[0].verdict == "fails"


# -- the numbers behind the figures ---------------------------------------------------------------


def test_the_norm_of_the_jacobian():
    w = np.random.default_rng(0).dirichlet(np.ones(6), size=5)
    expected = [np.linalg.norm(np.diag(p) - np.outer(p, p)) for p in w]
    np.testing.assert_allclose(attention.square_norms(w), expected, rtol=1e-12)


def test_the_three_ways_to_divide_are_of_the_same_scores():
    w = attention.weights()
    logs = {name: np.log(np.maximum(part, 1e-300)) for name, part in w.items()}
    gaps = {name: part[:, 0] - part[:, 1] for name, part in logs.items()}
    keep = np.abs(gaps["undivided"]) < 200  # the others have underflowed
    np.testing.assert_allclose((gaps["over √d_k"] * np.sqrt(512))[keep], gaps["undivided"][keep], rtol=1e-6)
    np.testing.assert_allclose((gaps["over d_k"] * 512)[keep], gaps["undivided"][keep], rtol=1e-6)


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.3])
def test_smoothing_stops_the_logits_where_theory_says(epsilon):
    gap = confidence.logit_gaps(epsilon, steps=5000)[-1]
    assert gap == pytest.approx(math.log((1 - epsilon + epsilon / 10) / (epsilon / 10)), abs=1e-5)


def test_mean_and_variance_of_products():
    for row in attention.products():
        assert abs(row["mean"]) < 4 * row["error"]
        assert row["variance"] == pytest.approx(row["d_k"], rel=0.05)


# -- the report -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory, chapters):
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("primer")
    patch = pytest.MonkeyPatch()
    patch.setattr(report, "chapters", lambda say: chapters)
    lines: list[str] = []
    page = primer.write(folder, lines.append)
    patch.undo()
    return page, lines


def test_the_page_asks_for_nothing_and_holds_all(written, chapters):
    page, lines = written
    text = page.read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert "http" not in re.sub(r'base64,[^"]+|http://www\.w3\.org/\S+', "", text)
    figures = [p for c in chapters for p in c.parts if isinstance(p, parts.Figure)]
    assert len(figures) >= 12
    assert text.count("<figure><img src=") == len(figures)
    for figure in figures:
        assert (page.parent / f"{figure.name}.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
    count = sum(len(chapter.claims) for chapter in chapters)
    assert lines[-1].startswith(f"{count} numbers and claims of the article")


def test_the_json_and_the_markdown_have_every_claim(written, claims):
    page, _ = written
    found = json.loads((page.parent / "primer.json").read_text(encoding="utf-8"))["claims"]
    assert {one["says"]: one["verdict"] for one in found} == {says: one.verdict for says, one in claims.items()}
    text = (page.parent / "primer.md").read_text(encoding="utf-8")
    for says in claims:
        assert says in text
    for name in re.findall(r"\]\((\w+)\.svg\)", text):
        assert (page.parent / f"{name}.svg").exists()


def test_code_in_the_report_runs_and_prints_what_stands_there(chapters):
    pieces = [part for chapter in chapters for part in chapter.parts if isinstance(part, parts.Code)]
    assert len(pieces) >= 9
    for piece in pieces:
        assert piece.output
        assert parts.run(piece.source) == piece


def test_without_matplotlib_the_report_is_written_and_says_what_is_missing(tmp_path, chapters, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **options):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(report, "chapters", lambda say: chapters)
    monkeypatch.setattr(builtins, "__import__", missing)
    lines: list[str] = []
    page = primer.write(tmp_path, lines.append)
    assert any("need matplotlib (pip install matplotlib)" in line for line in lines)
    text = page.read_text(encoding="utf-8")
    assert "A picture is left out, which needs matplotlib" in text
    assert (tmp_path / "overflow.svg").exists()  # drawn by the library itself
    assert not (tmp_path / "contour.svg").exists()
    assert "contour.svg" not in (tmp_path / "primer.md").read_text(encoding="utf-8")


def test_the_command(tmp_path, chapters, monkeypatch, capsys):
    monkeypatch.setattr(report, "chapters", lambda say: chapters)
    assert cli.main(["primer", "--out", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a/index.html").exists()
    assert "numbers and claims of the article" in capsys.readouterr().out
    (tmp_path / "file").write_text("")
    assert cli.main(["primer", "--out", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err


@pytest.mark.parametrize("width", [1360, 400])
def test_in_a_browser(written, width):
    page, _ = written
    with launched() as browser:
        tab = browser.new_page(viewport={"width": width, "height": 900})
        noise: list[str] = []
        tab.on("console", lambda message: noise.append(message.text))
        tab.on("pageerror", lambda error: noise.append(str(error)))
        tab.goto(page.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
        _move_the_sliders(tab)
        assert noise == []
        tab.close()


def _move_the_sliders(tab):
    """What the sliders show is what the library computes."""
    inputs = tab.locator(".sm-sliders input")
    for i, value in enumerate((-2.0, 0.5, 4.0, 2.0, 0.1)):  # logits, temperature, smoothing
        inputs.nth(i).evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", value)
    tab.locator(".sm-sliders tbody tr").nth(0).press("Enter")
    z = np.array([-2.0, 0.5, 4.0]) / 2.0
    q = 0.9 * np.eye(3)[0] + 0.1 / 3
    p = sm.softmax(z)
    rows = "[...document.querySelectorAll('.sm-sliders tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    cells = tab.evaluate(rows)
    shown = np.array([[float(c.replace("−", "-")) for c in row[2:]] for row in cells])
    np.testing.assert_allclose(shown, np.stack([p, q, p - q], axis=1), atol=6e-4)
    assert "cat (true)" in cells[0][0]
    total = float(sm.cross_entropy(z, 0, label_smoothing=0.1))
    assert f"cross-entropy {total:.4f} nats" in tab.locator(".sm-sliders .loss").inner_text()
