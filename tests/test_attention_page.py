"""The page of attention weights, without a browser: its numbers, its text, and wrong arguments."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_draw import HOSTILE

import tinygrad_sm as sm
from tinygrad_sm.inspection.flow import attention_stats
from tinygrad_sm.viz import attention_weights

TOKENS = ["[CLS]", "the", "bank", "of", "the", "river", "token", "##izer", "[SEP]"]
T = len(TOKENS)


def random_weights(layers: int, heads: int, n: int, *, causal: bool = False, spread: float = 2.0) -> list[np.ndarray]:
    scores = np.random.default_rng(0).normal(size=(layers, heads, n, n)) * spread
    if causal:
        scores[..., ~np.tril(np.ones((n, n), bool))] = -np.inf
    return [np.asarray(sm.softmax(layer)) for layer in scores]


def page_text(*args: Any, **more: Any) -> str:
    return sm.viz.attention_page(*args, **more).html


def data(text: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found)


def codes(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<u2")


def test_the_numbers_come_back() -> None:
    weights = random_weights(2, 3, T)
    held = data(page_text(TOKENS, weights))
    assert (held["tokens"], held["heads"], held["causal"], held["kept"]) == (TOKENS, [3, 3], False, 0)
    for layer, w in zip(held["sides"][0]["layers"], weights, strict=True):
        np.testing.assert_allclose(codes(layer).reshape(w.shape) / 65534, w, rtol=0, atol=0.5001 / 65534)


def test_of_causal_weights_half_is_stored() -> None:
    weights = random_weights(1, 2, T, causal=True)
    held = data(page_text(TOKENS, weights))
    assert held["causal"]
    triangle = codes(held["sides"][0]["layers"][0]).reshape(2, -1)
    rows, columns = np.tril_indices(T)
    np.testing.assert_allclose(triangle / 65534, weights[0][:, rows, columns], rtol=0, atol=0.5001 / 65534)


def test_layers_may_have_different_heads_and_tensors_are_arrays() -> None:
    weights = [*random_weights(1, 2, T), *random_weights(1, 4, T)]
    text = page_text(TOKENS, weights)
    assert data(text)["heads"] == [2, 4]
    assert page_text(TOKENS, [sm.Tensor(w, requires_grad=True) for w in weights]) == text
    assert page_text(tuple(TOKENS), tuple(weights)) == text
    hard = [page_text([1, 2, 3], [np.eye(3, dtype=kind)[None]]) for kind in (bool, int, "f2", "f8")]
    assert len(set(hard)) == 1


@pytest.mark.torch
def test_tensors_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    w = random_weights(1, 2, T)[0].astype(np.float32)
    given = torch.tensor(w, requires_grad=True)
    assert page_text(TOKENS, [given]) == page_text(TOKENS, [w])
    assert data(page_text(TOKENS, [given.bfloat16()]))["notes"][0].startswith("A piece")
    with pytest.raises(ValueError, match=r"batch axis: shape \(1, 2, 9, 9\); pass \[w\[0\] for w in weights\]"):
        page_text(TOKENS, (given[None],))


@pytest.mark.parametrize("causal", [False, True])
def test_the_statistics_are_those_of_the_library(causal: bool) -> None:
    weights = random_weights(2, 3, T, causal=causal, spread=6)
    stats = data(page_text(TOKENS, weights))["sides"][0]["stats"]
    for layer, heads in zip(weights, stats, strict=True):
        for w, (entropy, largest, sharp) in zip(layer, heads, strict=True):
            known = attention_stats(w, causal=causal)
            assert (entropy, largest) == (
                pytest.approx(known["entropy"], abs=1e-4),
                pytest.approx(known["largest"], abs=1e-4),
            )
            assert sharp == pytest.approx((w[causal:].max(axis=1) > 0.99).mean(), abs=1e-4)


def test_the_page_of_a_small_bert_is_below_600_kb() -> None:
    tokens = [f"token{i}" for i in range(40)]
    assert len(page_text(tokens, random_weights(6, 12, 40)).encode()) < 600_000


def test_of_too_many_weights_the_largest_of_each_row_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_weights, "BYTES", 4 * 2 * 3 * 40 * 10)  # ten of a row: two layers of 2 heads and mean
    weights = random_weights(2, 2, 40)
    text = page_text([str(i) for i in range(40)], weights)
    held = data(text)
    assert held["kept"] == 10
    assert "the 10 largest" in held["notes"][0]
    assert "of the 40 of each row the 10 largest are kept" in text
    for layer, w in zip(held["sides"][0]["layers"], weights, strict=True):
        places, kept = (codes(part).reshape(3, 40, 10) for part in layer)
        whole = np.concatenate([w, w.mean(axis=0, keepdims=True)])
        np.testing.assert_allclose(kept / 65534, np.take_along_axis(whole, places.astype(int), 2), rtol=0, atol=1e-5)
        np.testing.assert_allclose(np.sort(kept)[..., 0] / 65534, np.sort(whole)[..., -10], rtol=0, atol=1e-5)
    assert held["sides"][0]["stats"][0][0][0] == pytest.approx(attention_stats(weights[0][0])["entropy"], abs=1e-4)
    monkeypatch.setattr(attention_weights, "BYTES", 4 * 2 * 3 * 40 * 5)
    with pytest.raises(
        ValueError, match=r"attention_page: 240 rows of 40 weights .* holds 150; pass fewer .* weights\[:1\]"
    ):
        page_text([str(i) for i in range(40)], weights)
    page_text([str(i) for i in range(40)], weights[:1])


def test_what_is_unusual_is_said() -> None:
    weights = random_weights(2, 2, T)
    weights[0][1, 3] *= 0.5
    weights[1][0, 2] = np.nan
    held = data(page_text(TOKENS, weights))
    assert any("Rows of layer 0 head 1 do not sum to 1, but to 0.5 … 0.5" in note for note in held["notes"])
    assert any("Some weights of layer 1 head 0 are NaN" in note for note in held["notes"])
    assert any("##" in note for note in held["notes"])
    layer = codes(held["sides"][0]["layers"][1]).reshape(2, T, T)
    assert (layer[0, 2] == 65535).all()
    assert (layer == 65535).sum() == T
    rest = np.delete(weights[1][0], 2, axis=0)
    assert held["sides"][0]["stats"][1][0][0] == pytest.approx(attention_stats(rest)["entropy"], abs=1e-4)
    nothing = data(page_text(["a", "b"], [np.full((1, 2, 2), np.nan)]))
    assert nothing["sides"][0]["stats"] == [[[None, None, None]]]
    assert data(page_text(["a"], [np.ones((1, 1, 1))]))["sides"][0]["stats"] == [[[None, None, None]]]


def test_tokens_are_shown_visibly() -> None:
    held = data(page_text(["a\n", "\x1b[31m", " ", " b  ", "", "Ġc", "\ud800", "x" * 999], random_weights(1, 1, 8)))
    assert held["tokens"][:7] == ["a\\n", "\\x1b[31m", "␣", "␣b␣␣", "(empty)", "Ġc", "\\ud800"]
    assert len(held["tokens"][7]) == 59
    assert held["notes"] == ["Ġ stands for the space before a word.", "␣ stands for a space."]


def test_the_page_is_one_file_that_names_no_other(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    page = sm.viz.attention_page(TOKENS, random_weights(1, 1, T), title="A & B")
    assert page.save(path) == path
    text = page.html
    assert path.read_text(encoding="utf-8") == text
    assert repr(page) == "Interactive(height=800, alt='Attention weights of 1 layer for 9 tokens: A & B')"
    assert page._repr_html_().startswith('<iframe title="Attention weights of 1 layer for 9 tokens: A &amp; B"')
    assert "<title>A &amp; B</title>" in text
    assert re.findall(r"https?:", text) == []
    assert "default-src 'none'" in text
    assert not re.search(r"<(?:link|img|iframe|object|embed)\b|\bimport\(|@import|\bsrc=", text)
    with pytest.raises(FileNotFoundError, match="save: there is no directory"):
        page.save(tmp_path / "no" / "page.html")


@pytest.mark.parametrize("token", [*HOSTILE, "</script><img src=x onerror=document.title='owned'>", "{{data}}"])
def test_a_token_cannot_end_the_element_it_stands_in(token: str) -> None:
    w = random_weights(1, 1, 2)
    text = page_text([token, token], w, title=token, before=w, labels=(token, token))
    assert len(re.findall(r"<script\b", text)) == len(re.findall(r"</script>", text)) == 2
    assert text.count("<!--") == 0
    assert "<img" not in text
    assert len(data(text)["tokens"]) == 2


W = np.full((2, 3, 3), 1 / 3)
WRONG = {
    "one str": ("the cat sat", [W], TypeError, "tokens is a list of str, not one str"),
    "nothing": (None, [W], TypeError, "tokens is a list of str, not one NoneType"),
    "no tokens": ([], [W], ValueError, "there are 0 tokens"),
    "long": (["a"] * 1025, [W], ValueError, "there are 1,025 tokens; a page shows 1 to 1,024"),
    "one array": ("abc", W, TypeError, r"not one ndarray of shape \(2, 3, 3\); pass \[weights\]"),
    "one array of layers": ("abc", W[None], TypeError, r"pass list\(weights\) if its first axis is that of layers"),
    "one tensor": ("abc", sm.Tensor(W), TypeError, r"not one Tensor of shape \(2, 3, 3\); pass \[weights\]"),
    "none": ("abc", None, TypeError, r"not one NoneType; pass weights=\[layer 0"),
    "no layers": ("abc", [], ValueError, "weights holds no layer"),
    "batch": (
        "abc",
        [W[None]],
        ValueError,
        r"layer 0 of weights has a batch axis: shape \(1, 2, 3, 3\); pass \[w\[0\] for w",
    ),
    "batch of two": ("abc", [np.stack([W, W])], ValueError, r"pass those of one text, \[w\[0\] for w in weights\]"),
    "no heads": (
        "abc",
        [W, W[0]],
        ValueError,
        r"layer 1 .* without an axis of heads; pass \[w\[None\] for w in weights\]",
    ),
    "not square": ("abc", [W[:, :2]], ValueError, r"shape \(2, 2, 3\); it must be \(heads, 3, 3\)"),
    "other tokens": ("ab", [W], ValueError, r"there are 2 tokens, but layer 0 of weights has shape \(2, 3, 3\), for 3"),
    "scores": ("abc", [W, 9 * W - 4], ValueError, "layer 1 of weights goes from -1 to -1; weights lie in 0 … 1"),
    "inf": ("abc", [np.where(W > 1, W, np.inf)], ValueError, "goes from inf to inf"),
    "text": ("abc", [["a"]], TypeError, "layer 0 of weights must be an array of numbers"),
    "ragged": ("abc", [[[1.0, 0.0], [1.0]]], TypeError, r"layer 0 .* \(heads, T, T\), not a list \("),
    "no weights kept": ("abc", [W, None], TypeError, 'layer 1 of weights is None: .*attn_implementation="eager"'),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str) -> None:
    tokens, weights, error, message = WRONG[case]
    tokens = list(tokens) if case not in ("one str", "long", "nothing") else tokens
    with pytest.raises(error, match=f"attention_page: .*{message}"):
        page_text(tokens, weights)


def test_wrong_before() -> None:
    with pytest.raises(ValueError, match="before has 1 layers of 2 heads, and weights 2 layers of 2 heads"):
        page_text(list("abc"), [W, W], before=[W])
    with pytest.raises(ValueError, match=r"layer 0 of before has a batch axis.*for w in before"):
        page_text(list("abc"), [W], before=[W[None]])
    with pytest.raises(ValueError, match="labels are two str"):
        page_text(list("abc"), [W], before=[W], labels="ab")  # type: ignore[arg-type]
