"""The page of attention weights: its numbers, its text, and in a browser its clicks, keys and looks."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import launched
from test_draw import HOSTILE
from test_page import Page

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


def data(text: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found)


def codes(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<u2")


# -- without a browser --------------------------------------------------------------------------


def test_the_numbers_come_back() -> None:
    weights = random_weights(2, 3, T)
    held = data(sm.viz.attention_page(TOKENS, weights))
    assert (held["tokens"], held["heads"], held["causal"], held["kept"]) == (TOKENS, [3, 3], False, 0)
    for layer, w in zip(held["sides"][0]["layers"], weights, strict=True):
        np.testing.assert_allclose(codes(layer).reshape(w.shape) / 65534, w, rtol=0, atol=0.5001 / 65534)


def test_of_causal_weights_half_is_stored() -> None:
    weights = random_weights(1, 2, T, causal=True)
    held = data(sm.viz.attention_page(TOKENS, weights))
    assert held["causal"]
    triangle = codes(held["sides"][0]["layers"][0]).reshape(2, -1)
    rows, columns = np.tril_indices(T)
    np.testing.assert_allclose(triangle / 65534, weights[0][:, rows, columns], rtol=0, atol=0.5001 / 65534)


def test_layers_may_have_different_heads_and_tensors_are_arrays() -> None:
    weights = [*random_weights(1, 2, T), *random_weights(1, 4, T)]
    text = sm.viz.attention_page(TOKENS, weights)
    assert data(text)["heads"] == [2, 4]
    assert sm.viz.attention_page(TOKENS, [sm.Tensor(w, requires_grad=True) for w in weights]) == text
    assert sm.viz.attention_page(tuple(TOKENS), tuple(weights)) == text


@pytest.mark.parametrize("causal", [False, True])
def test_the_statistics_are_those_of_the_library(causal: bool) -> None:
    weights = random_weights(2, 3, T, causal=causal, spread=6)
    stats = data(sm.viz.attention_page(TOKENS, weights))["sides"][0]["stats"]
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
    assert len(sm.viz.attention_page(tokens, random_weights(6, 12, 40)).encode()) < 600_000


def test_of_too_many_weights_the_largest_of_each_row_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_weights, "BYTES", 4 * 2 * 3 * 40 * 10)  # ten of a row: two layers of 2 heads and mean
    weights = random_weights(2, 2, 40)
    text = sm.viz.attention_page([str(i) for i in range(40)], weights)
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
        sm.viz.attention_page([str(i) for i in range(40)], weights)
    sm.viz.attention_page([str(i) for i in range(40)], weights[:1])


def test_what_is_unusual_is_said() -> None:
    weights = random_weights(2, 2, T)
    weights[0][1, 3] *= 0.5
    weights[1][0, 2] = np.nan
    held = data(sm.viz.attention_page(TOKENS, weights))
    assert any("Rows of layer 0 head 1 do not sum to 1, but to 0.5 … 0.5" in note for note in held["notes"])
    assert any("Some weights of layer 1 head 0 are NaN" in note for note in held["notes"])
    assert any("##" in note for note in held["notes"])
    layer = codes(held["sides"][0]["layers"][1]).reshape(2, T, T)
    assert (layer[0, 2] == 65535).all()
    assert (layer == 65535).sum() == T
    rest = np.delete(weights[1][0], 2, axis=0)
    assert held["sides"][0]["stats"][1][0][0] == pytest.approx(attention_stats(rest)["entropy"], abs=1e-4)
    nothing = data(sm.viz.attention_page(["a", "b"], [np.full((1, 2, 2), np.nan)]))
    assert nothing["sides"][0]["stats"] == [[[None, None, None]]]
    assert data(sm.viz.attention_page(["a"], [np.ones((1, 1, 1))]))["sides"][0]["stats"] == [[[None, None, None]]]


def test_tokens_are_shown_visibly() -> None:
    held = data(
        sm.viz.attention_page(["a\n", "\x1b[31m", " ", " b  ", "", "Ġc", "\ud800", "x" * 999], random_weights(1, 1, 8))
    )
    assert held["tokens"][:7] == ["a\\n", "\\x1b[31m", "␣", "␣b␣␣", "(empty)", "Ġc", "\\ud800"]
    assert len(held["tokens"][7]) == 59
    assert held["notes"] == ["Ġ stands for the space before a word.", "␣ stands for a space."]


def test_the_page_is_one_file_that_names_no_other(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    text = sm.viz.attention_page(TOKENS, random_weights(1, 1, T), path, title="A & B")
    assert path.read_text(encoding="utf-8") == text
    assert "<title>A &amp; B</title>" in text
    assert re.findall(r"https?:", text) == []
    assert "default-src 'none'" in text
    assert not re.search(r"<(?:link|img|iframe|object|embed)\b|\bimport\(|@import|\bsrc=", text)
    with pytest.raises(FileNotFoundError, match="attention_page: there is no directory"):
        sm.viz.attention_page(TOKENS, random_weights(1, 1, T), tmp_path / "no" / "page.html")


@pytest.mark.parametrize("token", [*HOSTILE, "</script><img src=x onerror=document.title='owned'>", "{{data}}"])
def test_a_token_cannot_end_the_element_it_stands_in(token: str) -> None:
    w = random_weights(1, 1, 2)
    text = sm.viz.attention_page([token, token], w, title=token, before=w, labels=(token, token))
    assert len(re.findall(r"<script\b", text)) == len(re.findall(r"</script>", text)) == 2
    assert text.count("<!--") == 0
    assert "<img" not in text
    assert len(data(text)["tokens"]) == 2


W = np.full((2, 3, 3), 1 / 3)
WRONG = {
    "one str": ("the cat sat", [W], TypeError, "tokens is a list of str, not one str"),
    "no tokens": ([], [W], ValueError, "there are 0 tokens"),
    "long": (["a"] * 1025, [W], ValueError, "there are 1025 tokens; a page shows 1 to 1024"),
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
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str) -> None:
    tokens, weights, error, message = WRONG[case]
    tokens = list(tokens) if case not in ("one str", "long") else tokens
    with pytest.raises(error, match=f"attention_page: .*{message}"):
        sm.viz.attention_page(tokens, weights)


def test_wrong_before() -> None:
    with pytest.raises(ValueError, match="before has 1 layers of 2 heads, and weights 2 layers of 2 heads"):
        sm.viz.attention_page(list("abc"), [W, W], before=[W])
    with pytest.raises(ValueError, match=r"layer 0 of before has a batch axis.*for w in before"):
        sm.viz.attention_page(list("abc"), [W], before=[W[None]])
    with pytest.raises(ValueError, match="labels are two str"):
        sm.viz.attention_page(list("abc"), [W], before=[W], labels="ab")  # type: ignore[arg-type]


# -- in a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Open a page; at the end of the test nothing may have gone wrong in it."""
    opened: list[Page] = []

    def opening(text: str, width: int = 1360, dark: bool = False, at: str = "", **more: Any) -> Page:
        path = tmp_path / f"page{len(opened)}.html"
        path.write_text(text, encoding="utf-8")
        size, scheme = {"width": width, "height": 900}, "dark" if dark else "light"
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True, **more)
        opened.append(Page(context.new_page(), path))
        if at:
            opened[-1].page.goto("about:blank")
            opened[-1].page.goto(path.as_uri() + at)
        return opened[-1]

    yield opening
    wrong = [text for page in opened for text in page.wrong if text != "about:blank"]
    for page in opened:
        page.page.context.close()
    assert wrong == []


def a_page(**more: Any) -> str:
    return sm.viz.attention_page(TOKENS, random_weights(3, 4, T), **more)


def two() -> str:
    return a_page(before=random_weights(3, 4, T, spread=9))


def said(page: Page) -> str:
    return page.said().replace("\n", " ")


def address(page: Page) -> str:
    return page.run("location.hash")


def point(page: Page, row: int, column: int, click: bool = False) -> None:
    box = page.page.locator(".heat canvas").first.bounding_box()
    x, y = (box["x"] + box["width"] * (column + 0.5) / T, box["y"] + box["height"] * (row + 0.5) / T)
    (page.page.mouse.click if click else page.page.mouse.move)(x, y)


def test_the_maps_show_the_weights(show: Any) -> None:
    page, w = show(a_page()), random_weights(3, 4, T)[2][1]
    assert page.page.locator(".card").count() == 12
    card = page.page.locator('.card[data-layer="2"][data-head="1"]')
    known = attention_stats(w)
    assert card.inner_text().split("\n")[0] == "layer 2 head 1"
    assert f"entropy {known['entropy']:.2f} of log n, largest weight {known['largest']:.2f}" in card.get_attribute(
        "aria-label"
    )
    page.wait('document.querySelector(\'.card[data-layer="2"][data-head="3"] canvas\').width == 9')
    pixels = page.run(
        "(c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data])"
        '(document.querySelector(\'.card[data-layer="2"][data-head="1"] canvas\'))'
    )
    red = np.array(pixels).reshape(T, T, 4)[..., 0]
    order = np.argsort(w, axis=None)
    assert (np.diff(red.ravel()[order]) <= 0).all()  # the larger the darker


def test_click_opens_a_head_and_the_map_is_read(show: Any) -> None:
    page, w = show(a_page()), random_weights(3, 4, T)[1][2]
    page.click('.card[data-layer="1"][data-head="2"]')
    assert page.page.locator("#which").inner_text() == "Layer 1 head 2"
    assert not page.run("!!document.querySelector('#overview').offsetParent")
    assert address(page) == "#layer=1&head=2"
    point(page, 2, 5)
    assert said(page) == f"query 'bank' → key 'river': {w[2, 5]:#.2g}"
    point(page, 2, 5, click=True)
    assert address(page) == "#layer=1&head=2&query=2"
    page.page.locator(".chip").nth(7).hover()
    assert said(page).startswith("query 'bank' → key '##izer': 0.")
    page.page.mouse.move(3, 3)
    assert said(page).startswith("query 'bank' → key 'river'")  # what was clicked
    page.click("#clear")
    assert said(page).startswith("Choose a query")
    page.page.go_back()
    page.wait("document.querySelector('#one').hidden")


def test_a_query_colours_its_keys(show: Any) -> None:
    page, w = show(a_page(), at="#layer=0&head=3"), random_weights(3, 4, T)[0][3]
    assert page.page.locator(".chip small:visible").count() == 0
    page.page.locator(".chip").nth(4).click()
    page.page.mouse.move(3, 3)
    best = np.argsort(-w[4])[0]
    assert said(page).startswith(f"query 'the', most on '{TOKENS[best]}' 0.")
    page.page.locator("#numbers").check()
    numbers = page.run("[...document.querySelectorAll('.chip small')].map(e => e.textContent)")
    for x, number in zip(w[4], numbers, strict=True):
        assert (x < 0.005) if number == "<.01" else float(number) == pytest.approx(x, abs=0.006)
    reds = page.run(
        "[...document.querySelectorAll('.chip')].map(e => +getComputedStyle(e).backgroundColor.match(/\\d+/)[0])"
    )
    assert (np.diff(np.array(reds)[np.argsort(w[4])]) <= 0).all()
    assert page.page.locator(".chip[aria-pressed=true]").inner_text().startswith("the")
    assert page.page.locator(".queries .hot").inner_text() == "the"
    drawn = "(c => c.toDataURL().length)"
    one = page.run(f"{drawn}(document.querySelector('.wires canvas'))")
    page.keys("Escape")  # no query: lines of all
    assert 0 < one < page.run(f"{drawn}(document.querySelector('.wires canvas'))")


def test_by_keyboard_alone(show: Any) -> None:
    page = show(a_page())
    page.page.locator(".card").first.focus()
    page.keys("ArrowRight", "ArrowDown", "Enter")
    assert address(page) == "#layer=1&head=1"
    page.keys("ArrowRight", "ArrowUp")
    assert address(page) == "#layer=0&head=2"
    page.keys("ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert page.page.locator("#which").inner_text() == "Layer 0, mean of 4 heads"
    page.keys("ArrowRight", "ArrowRight")
    page.page.locator(".heat").focus()
    page.keys("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "Enter")
    assert said(page).startswith("query 'the' → key 'bank': ")
    assert address(page) == "#layer=0&head=1&query=1"
    page.page.locator(".chip").first.focus()
    page.keys("ArrowRight", "ArrowRight", "ArrowRight", "Enter")
    assert address(page) == "#layer=0&head=1&query=3"
    page.keys("Escape", "Escape")
    assert address(page) == ""
    assert page.run("document.activeElement.dataset.head") == "1"


def test_the_mean_over_heads(show: Any) -> None:
    page, w = show(a_page()), random_weights(3, 4, T)[0].mean(axis=0)
    page.click('.layer [data-head="mean"]')
    point(page, 3, 3)
    assert said(page) == f"query 'of' → key 'of': {w[3, 3]:#.2g}"


def test_two_settings(show: Any) -> None:
    page, w = show(two(), at="#layer=1&head=0&query=2"), random_weights(3, 4, T, spread=9)[1][0]
    assert page.page.locator(".heat").count() == 2
    point(page, 2, 0)
    assert re.fullmatch(r"query 'bank' → key '\[CLS\]': \S+.* with 1/√d_k, .* without", said(page))
    page.page.locator("#show button", has_text="without").click()
    assert address(page) == "#layer=1&head=0&query=2&show=1"
    assert page.page.locator(".heat").count() == 1
    best = w[2].argmax()
    assert f"'{TOKENS[best]}' {w[2, best]:.1f}"[:-1] in said(page)
    page.click("#back")
    assert address(page) == "#show=1"
    assert page.page.locator(".card canvas").count() == 12


def test_a_causal_model_and_a_page_of_the_largest(show: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = show(sm.viz.attention_page(TOKENS, random_weights(1, 2, T, causal=True)), at="#layer=0&head=1")
    point(page, 2, 5)
    assert said(page) == "query 'bank' → key 'river': hidden, a later token"
    weights = random_weights(1, 2, T)
    monkeypatch.setattr(attention_weights, "BYTES", 4 * 3 * T * 2)
    monkeypatch.setattr(attention_weights, "FEWEST", 2)
    text = sm.viz.attention_page(TOKENS, weights)
    assert data(text)["kept"] == 2
    for head, w in (("0", weights[0][0]), ("mean", weights[0].mean(axis=0))):
        page = show(text, at=f"#layer=0&head={head}")
        least = w[2].argmin()
        point(page, 2, least)
        second = np.sort(w[2])[-2]
        assert float(said(page).partition(": below ")[2]) == pytest.approx(second, rel=0.05)
        point(page, 2, w[2].argmax())
        assert float(said(page).rpartition(": ")[2]) == pytest.approx(w[2].max(), rel=0.05)


@pytest.mark.parametrize(
    "at", ["#layer=9&head=0", "#layer=0&head=-1", "#layer=x", "#%%%", "#layer=0&head=1e0", "#head=1"]
)
def test_a_wrong_address_shows_all_heads(show: Any, at: str) -> None:
    assert show(a_page(), at=at).page.locator(".card:visible").count() == 12


@pytest.mark.parametrize("token", ["</script><img src=x onerror=document.title='owned'>", "<b>", "\u202ex\n"])
def test_tokens_stay_text(show: Any, token: str) -> None:
    w = random_weights(1, 1, 3)
    page = show(
        sm.viz.attention_page([token, "ß", token], w, title="T", before=w, labels=(token, token)),
        at="#layer=0&head=0&query=0",
    )
    page.page.locator(".chip").nth(1).hover()
    assert page.run("document.querySelectorAll('img, .chip b').length") == 0
    assert "owned" not in page.run("document.title")
    assert "</script>" not in token or token in said(page)


CONTRAST = """(() => {
    const bytes = c => c.match(/[\\d.]+/g).map(Number);
    const linear = x => x <= 10.3 ? x / 255 / 12.92 : ((x / 255 + .055) / 1.055) ** 2.4;
    const light = c => bytes(c).slice(0, 3).reduce((sum, x, i) => sum + linear(x) * [.2126, .7152, .0722][i], 0);
    const look = e => getComputedStyle(e);
    const ground = e => bytes(look(e).backgroundColor)[3] === 0 ? ground(e.parentElement) : look(e).backgroundColor;
    return [...document.querySelectorAll('body *')].filter(e => e.offsetParent && look(e).visibility === 'visible' &&
        [...e.childNodes].some(node => node.nodeType === 3 && node.data.trim())).map(e => {
            const [p, q] = [look(e).color, ground(e)].map(light).sort((a, b) => b - a);
            return [(p + .05) / (q + .05), e.textContent.slice(0, 30), look(e).color, ground(e)];
        }).sort((a, b) => a[0] - b[0])[0];
})()"""


@pytest.mark.parametrize("width", [1360, 400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_contrast_and_nothing_is_too_wide(show: Any, dark: bool, width: int) -> None:
    for at in ("", "#layer=1&head=1", "#layer=1&head=2&query=2", "#layer=0&head=2&query=1&scale=linear"):
        page = show(two(), width, dark, at)
        if at:
            page.page.locator("#numbers").check()
            page.page.locator(".chip").nth(3).hover()
        worst = page.run(CONTRAST)
        assert worst[0] >= 4.5, worst
        assert page.run("document.documentElement.scrollWidth") <= width
        dim = page.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 128")
        assert dim == dark


def test_long_texts_and_names_have_room(show: Any) -> None:
    tokens = ["averyveryveryverylongtokenwithoutanyspace" * 2, *(f"Ġw{i}" for i in range(149))]
    text = sm.viz.attention_page(tokens, random_weights(1, 20, 150), title="x" * 190)
    for at in ("", "#layer=0&head=3&query=0"):
        page = show(text, 400, at=at)
        assert page.run("document.documentElement.scrollWidth") <= 400
    assert "Lines are left out above 128 tokens" in page.page.locator("#sides").inner_text()
    page.page.locator("#large").check()
    assert page.run("document.documentElement.scrollWidth") <= 400
    assert page.run("(f => f.scrollWidth > f.clientWidth)(document.querySelector('.frame'))")


def test_a_tap_reads_and_chooses(show: Any) -> None:
    page = show(a_page(), 400, at="#layer=0&head=0", has_touch=True, is_mobile=True)
    box = page.page.locator(".heat canvas").bounding_box()
    page.page.locator(".heat canvas").scroll_into_view_if_needed()
    box = page.page.locator(".heat canvas").bounding_box()
    page.page.touchscreen.tap(box["x"] + box["width"] * 5.5 / T, box["y"] + box["height"] * 2.5 / T)
    assert said(page).startswith("query 'bank' → key 'river': ")
    assert address(page) == "#layer=0&head=0&query=2"
    page.page.locator(".chip").nth(6).tap()
    assert address(page) == "#layer=0&head=0&query=6"
    assert said(page).startswith("query 'token', most on ")
