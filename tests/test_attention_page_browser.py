"""The page of attention weights in a real browser: clicks, keys, touch, addresses, looks; and it asks for nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import launched
from test_attention_page import TOKENS, T, data, page_text, random_weights
from test_page import Page

from tinygrad_sm.inspection.flow import attention_stats
from tinygrad_sm.viz import attention_weights


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
    return page_text(TOKENS, random_weights(3, 4, T), **more)


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
    page = show(page_text(TOKENS, random_weights(1, 2, T, causal=True)), at="#layer=0&head=1")
    point(page, 2, 5)
    assert said(page) == "query 'bank' → key 'river': hidden, a later token"
    weights = random_weights(1, 2, T)
    monkeypatch.setattr(attention_weights, "BYTES", 4 * 3 * T * 2)
    monkeypatch.setattr(attention_weights, "FEWEST", 2)
    text = page_text(TOKENS, weights)
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
        page_text([token, "ß", token], w, title="T", before=w, labels=(token, token)),
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
    text = page_text(tokens, random_weights(1, 20, 150), title="x" * 190)
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
