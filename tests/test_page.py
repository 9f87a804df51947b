"""The interactive page, in a real browser: clicks, keys, steps, folding, search, looks; and it asks for nothing."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from browser import launched
from test_draw import HOSTILE, deep, logits, trouble
from test_graph import leaf, scope

import tinygrad_sm as sm
from tinygrad_sm import autograd
from tinygrad_sm.viz.page import page as make_page

SIZES = [(1360, 960), (400, 800)]


# -- without a browser --------------------------------------------------------------------------


def test_the_page_is_one_file_that_names_no_other():
    text = sm.draw(logits(), title="T").html()
    assert text.lower().startswith("<!doctype html>")
    assert re.findall(r"https?://[^\s\"'<]+", text.replace("http://www.w3.org/2000/svg", "")) == []
    assert "default-src 'none'" in text
    assert not re.search(r"<(?:link|img|iframe|object|embed)\b|\bimport\(|@import|\bsrc=", text)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_cannot_end_the_element_it_stands_in(name):
    a = leaf([1.0, 2.0], name)
    with scope(str(name)):
        y = a * 2
    text = sm.draw(y.sum(), title=str(name)).html()
    assert len(re.findall(r"<script\b", text)) == len(re.findall(r"</script>", text)) == 3
    assert text.count("<!--") == 0
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert json.loads(data)["nodes"]["n0"]["name"] == str(name)


def test_placeholders_in_names_are_no_placeholders():
    text = make_page({"title": "{{data}} {{css}}", "alt": "{{script}}", "nodes": {"n0": {"name": "{{layout}}"}}})
    assert "<title>{{data}} {{css}}</title>" in text


def test_the_page_of_a_small_graph_is_small():
    assert len(sm.draw(logits()).html()) < 100_000


def test_a_notebook_gets_a_frame():
    shown = sm.draw(logits()).interactive(height=500)
    frame = shown._repr_html_()
    assert frame.startswith('<iframe title="Computation graph of')
    assert 'sandbox="allow-scripts"' in frame
    assert "height:500px" in frame
    (inner,) = re.findall(r'srcdoc="([^"]*)"', frame)
    assert html.unescape(inner) == shown.html == sm.draw(logits()).html()
    with pytest.raises(ValueError, match="height"):
        sm.draw(logits()).interactive(height=0)


# -- in a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


class Page:
    """A page that is open, and what went wrong in it."""

    def __init__(self, page: Any, path: Any) -> None:
        self.page, self.wrong = page, []
        page.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or self.wrong.append(request.url))
        page.goto(path.as_uri())

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)

    def wait(self, condition: str) -> None:
        """Wait until a condition holds (the page's policy does not allow the browser's own way to do so)."""
        for _ in range(100):
            if self.run(condition):
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"{condition} did not come true in five seconds")

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def click(self, selector: str) -> None:
        """Click in the middle of what a selector finds, as a mouse does."""
        box = self.page.locator(selector).first.bounding_box()
        self.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def panel(self) -> str:
        self.wait("!showing")
        return self.page.locator("#panel").inner_text()

    def said(self) -> str:
        return self.page.locator("#say").inner_text()


@pytest.fixture
def show(browser, tmp_path):
    """Open a drawing; at the end of the test nothing may have gone wrong in it."""
    opened: list[Page] = []
    contexts = []

    def opening(
        drawing: Any, size: tuple[int, int] = SIZES[0], dark: bool = False, reduced_motion: str = "reduce", **more: Any
    ) -> Page:
        path = drawing.save(tmp_path / f"page{len(opened)}.html")
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion=reduced_motion,
            offline=True,
            **more,
        )
        contexts.append(context)
        opened.append(Page(context.new_page(), path))
        return opened[-1]

    yield opening
    wrong = [text for page in opened for text in page.wrong]
    for context in contexts:
        context.close()
    assert wrong == []


def joined() -> sm.Tensor:
    """A graph in which two ways join, so that there are partial sums."""
    a = leaf([[1.0, -2.0, 0.5]], "a")
    with sm.record():
        e = a.exp()
        total = (e * a).sum()
    total.name = "total"
    return total


def test_a_click_shows_what_is_known_of_a_node(show):
    page = show(sm.draw(joined()))
    page.click("#n1")
    text = page.panel()
    for part in ("exp", "shape (1, 3)", "eˣ", "g·y", "2.718", "0.1353", "e = a.exp()", "Contributions", "Inputs"):
        assert part in text, part
    page.click("#n0")
    assert "param" in page.panel()
    assert page.run("document.querySelectorAll('.sel').length") == 1
    page.keys("Escape")
    assert "How to read this" in page.panel()


def test_the_keyboard_reaches_everything(show):
    page = show(sm.draw(joined()))
    page.page.locator("#n2").focus()
    page.keys("Enter")
    assert "mul" in page.panel()
    page.keys("/")
    page.page.keyboard.type("exp")
    page.keys("Enter")
    assert page.run("selected") == "n1"
    assert page.run("document.activeElement.id") == "n1"  # and the keyboard goes on from there
    order = [page.run("document.activeElement.id") for _ in range(1)]
    for _ in range(40):
        page.keys("Tab")
        order.append(page.run("document.activeElement.id"))
    assert {"turn", "fit", "theme", "n0", "n1", "n2", "n3", "panel", "prev", "play", "next", "bar"} <= set(order)
    for selector in ("#fit", "#n2", "#find", "#bar"):
        page.page.locator(selector).focus()
        page.keys("Shift")  # the keyboard is in use
        style = "getComputedStyle(document.activeElement)"
        assert page.run(f"[{style}.outlineStyle, parseFloat({style}.outlineWidth) >= 2]") == ["solid", True], selector
    for id in ("n0", "n3"):
        assert page.run(f"document.getElementById('{id}').getAttribute('role')") == "button"
        assert "shape" in page.run(f"document.getElementById('{id}').getAttribute('aria-label')")


def test_steps_come_in_the_order_of_the_engine_with_partial_sums(show):
    for loss in (joined(), logits(), deep(2)):
        page = show(sm.draw(loss))
        engine = [t.op.name if t.op else None for t, _, _ in autograd.sweep({loss: np.ones(())}, consume=False)]
        page.keys("Home")
        assert page.run("step") == 0
        seen = []
        for _ in engine:
            page.keys("ArrowRight")
            seen += page.run("[...document.querySelectorAll('.now')].map(card => card.id)")
            assert page.said().startswith(f"Step {len(seen)}: ")
        assert [page.run(f"N['{id}'].op") for id in seen] == engine
        assert page.run("document.querySelectorAll('.off, .wait').length") == 0
        page.keys("ArrowRight")
        assert "complete" in page.said()
        assert page.run("document.querySelectorAll('.now, .flow').length") == 0
        page.keys("ArrowLeft", "ArrowLeft")
        assert page.run("step") == len(engine) - 1


def test_partial_sums_of_a_gradient(show):
    page = show(sm.draw(joined()))
    page.click("#n0")
    full = page.panel()
    page.keys("Home")
    assert "not reached yet" in page.panel()
    page.keys("ArrowRight", "ArrowRight")  # total, mul: one of two shares has come
    assert "1 of 2 contributions so far" in page.panel()
    assert "2.718" in page.panel()  # exp(1), the share of mul alone
    page.keys("ArrowRight")
    assert "contributions so far" not in page.panel()
    assert "5.437" in page.panel()  # exp(1)·(1 + 1)
    assert "5.437" in full


def test_what_is_not_reached_is_dim_and_its_gradient_hidden(show):
    page = show(sm.draw(joined()))
    page.keys("Home", "ArrowRight")
    state = page.run("Object.fromEntries(Object.entries(cards).map(([id, card]) => [id, [...card.classList]]))")
    assert "off" in state["n0"]
    assert "wait" in state["n0"]
    assert "now" in state["n3"]
    assert "off" not in state["n2"]
    hidden = page.run("[...document.querySelectorAll('#n0 .g')].map(part => getComputedStyle(part).visibility)")
    assert hidden
    assert set(hidden) == {"hidden"}
    flowing = page.run("[...document.querySelectorAll('.flow')].map(edge => edge.id)")
    assert flowing == ["e_n2_n3"]


def test_the_slider_and_the_buttons_walk_too(show):
    page = show(sm.draw(deep(2)))
    page.run("document.querySelector('#bar').value = 3")
    page.page.locator("#bar").dispatch_event("input")
    assert page.run("step") == 3
    page.click("#next")
    assert page.run("step") == 4
    page.click("#prev")
    page.click("#prev")
    assert page.run("step") == 2
    page.click("#last")
    assert page.run("step === end")
    page.click("#first")
    assert page.run("step") == 0


def test_play_runs_and_stops(show):
    page = show(sm.draw(joined()))
    page.keys(" ")
    assert page.page.locator("#play").inner_text() == "Pause"
    page.wait("step >= 1")
    page.keys(" ")
    assert page.page.locator("#play").inner_text() == "Play"


def test_any_jump_leaves_the_picture_as_step_by_step_does(show):
    page = show(sm.draw(deep(3), depth=2, expand="blocks.1"))
    classes = (
        "JSON.stringify(Object.entries(cards).concat(Object.entries(lines).map(([id, line]) => [id, line.element]))"
    )
    classes += ".map(([id, element]) => [id, [...element.classList].sort().join(' ')]).concat(ring.outerHTML))"
    n = page.run("order.length")
    for step in (1, 4, n - 1, n, n + 1):
        page.run("go(0)")
        for _ in range(step):
            page.run("go(step + 1)")
        slow = page.run(classes)
        page.run("go(end)")
        page.run(f"go({step})")
        assert page.run(classes) == slow


def test_modules_fold_and_open(show):
    page = show(sm.draw(deep(12), depth=2))
    (repeat,) = [id for id, box in page.run("B").items() if box["times"] == 12]
    before = set(page.run("Object.keys(cards)"))
    assert repeat in before
    page.click(f"[data-toggle={repeat}]")
    assert page.run(f"isOpen['{repeat}']")
    after = set(page.run("Object.keys(cards)"))
    assert len(after) == len(before) + 11
    assert page.run(f"document.querySelector('[data-toggle={repeat}]').getAttribute('aria-expanded')") == "true"
    assert page.run("document.activeElement.dataset.toggle") == repeat  # the keyboard stays where it was
    page.keys("Enter")
    assert set(page.run("Object.keys(cards)")) == before
    page.page.select_option("#depth", "1")
    assert len(page.run("Object.keys(cards)")) == 2
    page.page.select_option("#depth", "all")
    assert len(page.run("Object.keys(cards)")) == len(page.run("Object.keys(N)"))
    page.page.select_option("#depth", "start")
    assert set(page.run("Object.keys(cards)")) == before


def test_what_is_folded_stays_where_it_was_on_the_screen(show):
    page = show(sm.draw(deep(6), max_nodes=1000))
    box = next(id for id, b in page.run("B").items() if b["label"].startswith("blocks.2"))
    page.run(f"zoomTo('{box}')")
    button = f"(r => [r.x, r.y])(document.querySelector('[data-toggle={box}] circle').getBoundingClientRect())"
    before = page.run(button)
    page.click(f"[data-toggle={box}]")
    assert not page.run(f"isOpen['{box}']")
    assert page.run(button) == pytest.approx(before, abs=0.5)
    page.page.mouse.dblclick(*page.run(f"(r => [r.x + 90, r.y + 8])(cards['{box}'].getBoundingClientRect())"))
    assert page.run(f"isOpen['{box}']")
    assert page.run(button) == pytest.approx(before, abs=0.5)
    page.page.mouse.dblclick(*page.run(f"(r => [r.x + r.width - 9, r.y + 9])(frames['{box}'].getBoundingClientRect())"))
    assert not page.run(f"isOpen['{box}']")
    node = page.run("order[0]")
    page.run(f"select('{node}', true)")
    spot = f"(r => [r.x, r.y])(cards['{node}'].getBoundingClientRect())"
    before = page.run(spot)
    page.page.select_option("#depth", "3")
    assert page.run(spot) == pytest.approx(before, abs=0.5)


def test_arrows_of_folded_modules_carry_the_sum(show):
    x = leaf([3.0, -1.0], "x")
    with scope("m: M"):
        y = x * x.exp()
    page = show(sm.draw(y.sum(), depth=1))
    gradient = np.exp(x.data) * (1 + x.data)  # of both uses together: no mean of what comes back along the two edges
    assert page.run("lines['e_n0_n1'].link.size") == pytest.approx(np.sqrt(np.mean(gradient**2)), rel=1e-4)
    assert page.run("lines['e_n0_n1'].link === lines['e_n0_n2'].link")


def test_search_finds_by_name_op_module_and_line_and_opens_what_is_folded(show):
    page = show(sm.draw(deep(12), depth=2))
    page.keys("/")
    page.page.keyboard.type("blocks.7 relu")
    assert "relu" in page.page.locator("#found").inner_text()
    page.keys("Enter")
    found = page.run("selected")
    assert page.run(f"N['{found}'].op") == "relu"
    assert "blocks.7" in page.run(f"N['{found}'].scope")
    assert page.run(f"'{found}' in cards")
    assert page.page.locator("#found").is_hidden()
    r = page.run(f"(r => [r.x, r.y, r.right, r.bottom])(cards['{found}'].getBoundingClientRect())")
    assert 0 <= r[0] < r[2] <= 1360
    page.page.locator("#find").fill("no such thing")
    assert "nothing found" in page.page.locator("#found").inner_text()
    page.page.locator("#find").fill("blocks.3")
    page.keys("ArrowDown")
    second = page.run("results[1]")
    assert page.run("document.querySelector('[aria-selected=true]').dataset.id") == second
    page.click("#r1")
    assert page.run("selected") == second
    page.page.locator("#find").focus()
    assert page.page.locator("#found").is_visible()
    page.click("h1")
    assert page.page.locator("#found").is_hidden()


def test_zoom_to_a_module_and_back(show):
    page = show(sm.draw(deep(6), max_nodes=1000))
    box = next(id for id, b in page.run("B").items() if b["label"].startswith("blocks.4"))
    page.run(f"reveal('{page.run(f'inside[`{box}`][0]')}')")
    page.page.locator(f"[data-zoom={box}]").focus()
    page.keys("Enter")
    r = page.run(f"(r => [r.x, r.y, r.right, r.bottom])(document.querySelector('#{box} rect').getBoundingClientRect())")
    assert r[2] - r[0] > 300 or r[3] - r[1] > 500
    assert "nodes" in page.panel()
    page.keys("f")
    whole = page.run("(r => [r.width, r.height])(scene.getBoundingClientRect())")
    assert whole[0] <= 1360
    assert whole[1] <= 960


def test_the_panel_follows_the_steps_unless_a_node_is_selected(show):
    page = show(sm.draw(joined()))
    page.keys("ArrowRight", "ArrowRight")
    assert "a·b" in page.panel()  # mul
    page.keys("ArrowRight")
    assert "eˣ" in page.panel()
    page.click("#n3")
    page.keys("ArrowLeft")
    assert "Σ" in page.panel()
    page.keys("Escape")
    assert "a·b" in page.panel()


def test_a_step_inside_a_folded_module_says_how_far_it_is(show):
    page = show(sm.draw(deep(12), depth=2))
    (repeat,) = [id for id, box in page.run("B").items() if box["times"] == 12]
    inside = page.run(f"inside['{repeat}'].filter(id => id in position).length")
    at = page.run(f"Math.min(...inside['{repeat}'].filter(id => id in position).map(id => position[id]))")
    page.keys("Home")
    for _ in range(at + 3):
        page.keys("ArrowRight")
    assert page.run("document.querySelector('.now').id") == repeat
    assert page.run("document.querySelector('#ring text').textContent") == f"3 of {inside} inside"
    assert f"3 of {inside} inside" in page.said()


def test_partial_sums_with_inf_and_nan(show):
    page = show(sm.draw(joined()))
    sums = page.run("[plus(1, 'inf'), plus('-inf', 2), plus('inf', '-inf'), plus('NaN', 1), plus(1, 2)]")
    assert sums == ["inf", "-inf", "NaN", "NaN", 3]


def test_a_link_in_the_panel_shows_its_card(show):
    page = show(sm.draw(joined()))
    page.click("#n2")
    page.page.locator("[data-go=n1]").hover()
    assert page.run("[...document.querySelectorAll('.hint')].map(card => card.id)") == ["n1"]
    page.page.locator("[data-go=n1]").click()
    assert page.run("selected") == "n1"
    page.page.mouse.move(5, 300)
    assert page.run("document.querySelectorAll('.hint').length") == 0


def test_where_nan_starts_stands_first(show):
    page = show(sm.draw(trouble()))
    first = page.page.locator("#panel .warn").first.inner_text()
    assert "starts here" in first or "start here" in first
    page.page.locator("#panel [data-go]").first.click()
    assert page.run("N[selected].state.kind") == "first"


def test_no_button_stands_in_another(show):
    page = show(sm.draw(deep(12), depth=2))
    buttons = "button, [role=button], select, input"
    nested = f"b => b.querySelector('{buttons}')"
    unnamed = "b => !(b.getAttribute('aria-label') || b.textContent.trim() || b.closest('label'))"
    for wrong in (nested, unnamed):
        assert page.run(f"[...document.querySelectorAll('{buttons}')].filter({wrong}).length") == 0


def test_fingers_move_and_zoom(show):
    page = show(sm.draw(deep(2)), SIZES[1], has_touch=True, is_mobile=True)
    page.page.touchscreen.tap(*page.run("(r => [r.x + 60, r.y + 20])(cards[order[0]].getBoundingClientRect())"))
    assert page.run("selected === order[0]")
    session = page.page.context.new_cdp_session(page.page)

    def touch(kind: str, *points: tuple[int, int]) -> None:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    x, y, k = page.run("[view.x, view.y, view.k]")
    touch("touchStart", (200, 200))
    touch("touchMove", (210, 220))
    touch("touchMove", (230, 260))
    touch("touchEnd")
    assert page.run("[view.x, view.y]") == pytest.approx([x + 30, y + 60], abs=1)
    touch("touchStart", (150, 200), (250, 200))
    touch("touchMove", (140, 200), (260, 200))
    touch("touchMove", (100, 200), (300, 200))
    touch("touchEnd")
    assert page.run("view.k") == pytest.approx(2 * k, rel=0.1)
    assert page.run("selected === order[0]")
    assert page.run("document.documentElement.scrollWidth") <= 400


def test_the_picture_glides_where_motion_is_welcome(show):
    page = show(sm.draw(deep(6), max_nodes=1000), reduced_motion="no-preference")
    page.keys("f")
    page.wait("goal === null")
    assert page.run("view.k - fitScale()") == pytest.approx(0, abs=0.05)
    page.run("select(Object.keys(N)[0])")
    page.run("zoomTo(selected)")
    assert page.run("goal !== null")
    page.wait("goal === null")
    assert page.run("view.k") == pytest.approx(1.6, abs=0.7)


def test_the_first_view_follows_the_window_until_the_reader_chooses_another(show):
    page = show(sm.draw(logits()))
    first = page.run("view.k")
    page.page.set_viewport_size({"width": 800, "height": 700})
    page.wait(f"view.k < {first}")
    page.keys("+")
    own = page.run("view.k")
    page.page.set_viewport_size({"width": 1360, "height": 960})
    page.page.wait_for_timeout(100)
    assert page.run("view.k") == own


def test_on_paper_stands_the_graph_alone_and_light(show):
    page = show(sm.draw(deep(6), max_nodes=1000), dark=True)
    page.keys("f")
    page.page.emulate_media(media="print")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert not page.run("dark()")
    assert page.page.locator("#panel").is_hidden()
    assert page.page.locator("footer").is_hidden()
    assert page.run("getComputedStyle(scene).transform") == "none"
    assert page.page.locator("#scene text").first.is_visible()
    assert page.run("scene.getBoundingClientRect().height") > 900
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("dark()")


def test_dragging_and_the_wheel_move_the_picture(show):
    page = show(sm.draw(deep(2)))
    x, y, k = page.run("[view.x, view.y, view.k]")
    page.page.mouse.move(60, 300)
    page.page.mouse.down()
    page.page.mouse.move(90, 340, steps=4)
    page.page.mouse.up()
    assert page.run("[view.x, view.y]") == pytest.approx([x + 30, y + 40])
    page.page.mouse.wheel(0, -300)
    page.wait(f"view.k > {k}")
    page.keys("+", "-", "f", "t")
    assert page.run("direction") == "LR"


def texts_outside(page: Page) -> list[Any]:
    """Return the texts of cards that reach over the border of their card."""
    return page.run("""Object.values(cards).flatMap(card => {
        const border = card.querySelector('.card').getBBox();
        return [...card.querySelectorAll('text:not(.big)')].map(text => [card.id, text.textContent, text.getBBox()])
            .filter(([, , b]) => b.x < border.x - .5 || b.x + b.width > border.x + border.width + .5 ||
                                 b.y < border.y - 1 || b.y + b.height > border.y + border.height + 1);
    })""")


PICTURES = {
    "deep": lambda: sm.draw(deep(3), title="Three blocks"),
    "folded": lambda: sm.draw(deep(12), depth=2),
    "trouble": lambda: sm.draw(trouble(), title="Trouble"),
    "definition": lambda: sm.draw(logits(), expand=["cross_entropy", "log_softmax"]),
    "compare": lambda: sm.compare(logits(), logits() * 2, names=("once", "twice")),
}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=["wide", "phone"])
@pytest.mark.parametrize("name", PICTURES)
def test_no_text_stands_outside_its_box(show, name, size, dark):
    page = show(PICTURES[name](), size, dark)
    assert texts_outside(page) == []
    assert page.run("document.documentElement.scrollWidth") <= size[0]
    for id in page.run("Object.keys(N).slice(0, 6)"):
        page.run(f"select('{id}')")
        assert page.run("[document.querySelector('#panel').scrollWidth, document.querySelector('#panel').clientWidth]")
        wide = page.run("document.querySelector('#panel').scrollWidth - document.querySelector('#panel').clientWidth")
        assert wide <= 0, id
    for selector in ("#prev", "#play", "#next", "#bar", "#fit", "#theme", "#find"):
        r = page.page.locator(selector).bounding_box()
        assert r["x"] >= 0, selector
        assert r["x"] + r["width"] <= size[0], selector
        assert r["y"] + r["height"] <= size[1], selector


@pytest.mark.parametrize("size", SIZES, ids=["wide", "phone"])
def test_the_first_view_can_be_read(show, size):
    for drawing in (sm.draw(deep(12), max_nodes=1000), sm.draw(logits())):
        page = show(drawing, size)
        assert page.run("view.k") >= 1
        sizes = page.run("[...scene.querySelectorAll('.node text')].map(t => t.getAttribute('font-size') * view.k)")
        assert max(sizes) >= 11
        loss = page.run("order[0]")
        r = page.run(f"(r => [r.x, r.y, r.right, r.bottom])(cards['{loss}'].getBoundingClientRect())")
        s = page.run("(r => [r.x, r.y, r.right, r.bottom])(stage.getBoundingClientRect())")
        assert s[0] <= r[0]
        assert s[1] <= r[1]
        assert r[3] <= s[3]


CONTRAST = """(() => {
    const linear = x => x <= 10.3 ? x / 255 / 12.92 : ((x / 255 + .055) / 1.055) ** 2.4;
    const parts = c => c.match(/[\\d.]+/g).slice(0, 3).map(linear);
    const light = c => parts(c).reduce((sum, x, i) => sum + x * [.2126, .7152, .0722][i], 0);
    const found = [];
    for (const card of Object.values(cards)) for (const text of card.querySelectorAll('text:not(.big)')) {
        const b = text.getBBox(), [x, y] = [b.x + b.width / 2, b.y + b.height / 2], word = text.textContent.trim();
        const below = [...card.querySelectorAll('rect')].filter(r => { const o = r.getBBox();
            return o.x <= x && x <= o.x + o.width && o.y <= y && y <= o.y + o.height; }).pop();
        if (!word || '×∞'.includes(word)) continue;
        const colors = [text, below].map(element => getComputedStyle(element).fill);
        const [p, q] = colors.map(light).sort((a, b) => b - a);
        found.push([(p + .05) / (q + .05), card.id, word, ...colors]);
    }
    return found.sort((a, b) => a[0] - b[0])[0];
})()"""


CONTRAST_OF_WORDS = """(() => {
    const pen = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const bytes = color => {
        pen.clearRect(0, 0, 1, 1); pen.fillStyle = color; pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const linear = x => x <= 10.3 ? x / 255 / 12.92 : ((x / 255 + .055) / 1.055) ** 2.4;
    const light = c => bytes(c).slice(0, 3).reduce((sum, x, i) => sum + linear(x) * [.2126, .7152, .0722][i], 0);
    const look = e => getComputedStyle(e), ground = e => bytes(look(e).backgroundColor)[3] ? look(e).backgroundColor
        : ground(e.parentElement);
    const words = [...document.querySelectorAll('header *, nav *, aside *, footer *')].filter(e =>
        e.offsetParent && [...e.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
    const pairs = words.map(e => [e.textContent, look(e).color, ground(e)]);
    const frame = document.querySelector('.cluster > rect'), tag = document.querySelector('.tag');
    for (const e of document.querySelectorAll('.rms, .cluster > text'))
        for (const paper of [look(stage).backgroundColor, frame ? look(frame).fill : '#fff'].slice(0, frame ? 2 : 1))
            pairs.push([e.textContent, look(e).fill, paper]);
    if (tag) pairs.push(['tag', look(document.querySelector('#ring text')).fill, look(tag).fill]);
    const found = pairs.map(([word, ink, paper]) => {
        const [p, q] = [ink, paper].map(light).sort((a, b) => b - a);
        return [(p + .05) / (q + .05), word.slice(0, 30), ink, paper];
    });
    return found.sort((a, b) => a[0] - b[0])[0];
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_words_beside_and_between_the_cards_have_contrast_enough(show, dark):
    for drawing, shown in ((sm.draw(deep(12), depth=2), "b0"), (sm.draw(trouble()), "n0"), (sm.draw(logits()), "n1")):
        page = show(drawing, dark=dark)
        page.keys("/")
        page.page.keyboard.type("n")
        for _ in range(3):
            worst = page.run(CONTRAST_OF_WORDS)
            assert worst[0] >= 4.5, worst
            page.run(f"select('{shown}')")
            page.run("go(8)")
            page.wait("!showing")


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_on_cards_has_contrast_enough(show, name, dark):
    worst = show(PICTURES[name](), dark=dark).run(CONTRAST)
    assert worst[0] >= 4.5, worst


def test_the_theme_follows_the_system_and_the_button(show):
    page = show(sm.draw(logits()), dark=True)
    dark = page.run("getComputedStyle(document.body).backgroundColor")
    assert page.run("dark()")
    page.click("#theme")
    assert not page.run("dark()")
    assert page.run("getComputedStyle(document.body).backgroundColor") != dark
    assert page.page.locator("#theme").inner_text() == "Dark"


def test_less_motion_for_those_who_ask_for_it(show):
    for motion, animation in (("reduce", "none"), ("no-preference", "flow")):
        page = show(sm.draw(joined()), reduced_motion=motion)
        page.keys("Home", "ArrowRight")
        assert page.run("getComputedStyle(document.querySelector('.flow path')).animationName") == animation


def test_hostile_names_are_text(show):
    tensors = []
    for name in HOSTILE:
        a = leaf([1.0], name)
        with scope(str(name)):
            tensors.append((a * 2).sum())
    page = show(sm.draw(tensors, title="".join(map(str, HOSTILE[:-4])), max_nodes=1000))
    assert page.run("document.scripts.length") == 3
    for id in page.run("Object.keys(N).concat(Object.keys(B))"):
        page.run(f"select('{id}')")
    assert texts_outside(page) == []
    assert page.run("document.querySelectorAll('#panel script, #panel b, #panel img').length") == 0
    assert page.run("document.querySelector('#panel').scrollWidth <= document.querySelector('#panel').clientWidth")


def test_without_gradients_there_is_nothing_to_step(show):
    page = show(sm.draw(leaf([1.0, 2.0], "a") * 2))
    assert "Backward has not run" in page.said()
    page.keys("ArrowRight", " ", "Home", "End")
    page.click("#n0")
    assert "backward has not run" in page.panel()


def test_the_page_works_in_a_frame_of_a_notebook(browser):
    context = browser.new_context(viewport={"width": 1000, "height": 800}, offline=True)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.set_content(f"<body>{sm.draw(logits()).interactive()._repr_html_()}</body>")
    frame = page.frame_locator("iframe")
    frame.locator("#next").click()
    assert frame.locator("#say").inner_text().startswith("Step 1")
    assert wrong == []
    context.close()


def test_a_large_graph_is_drawn_in_the_page_too(show):
    sm.manual_seed(0)
    model = sm.nn.TransformerLM(20, d_model=8, n_heads=2, n_layers=6, context=8)
    tokens = np.arange(9)[None] % 7
    page = show(sm.draw(sm.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]), max_nodes=1000))
    assert len(page.run("Object.keys(cards)")) == len(page.run("Object.keys(N)")) > 180
    page.run("fit()")
    assert page.run("stage.classList.contains('far')")
    page.keys("Home", "ArrowRight", "End")


# -- what a first reader found ------------------------------------------------------------------


def all_links(page: Page) -> dict[str, Any]:
    return page.run("Object.fromEntries(Object.values(lines).map(line => [line.link.id, line.link.size]))")


def uneven(a: sm.Tensor, b: sm.Tensor) -> tuple[sm.Tensor, sm.Tensor]:
    """Return two results of one module, of different sizes."""
    with scope("m: M"):
        return a.exp(), b.exp()


@pytest.mark.parametrize("case", ["twice", "one to many", "two sizes", "folded", "compare"])
def test_numbers_on_arrows_are_those_of_the_picture(show, case):
    x, y = leaf(np.linspace(0, 2, 50), "x"), leaf([2.0], "y")
    if case == "twice":
        p, _ = uneven(x, y)
        drawing = sm.draw((p * p).sum(), depth=1)
    elif case == "one to many":
        with scope("m: M"):
            p = x + x + x + x
        drawing = sm.draw(p.sum(), depth=1)
    elif case == "two sizes":
        p, q = uneven(x, y)
        drawing = sm.draw((p * q).sum(), depth=1)
    elif case == "folded":
        drawing = sm.draw(deep(12), depth=2)
    else:
        drawing = sm.compare(logits(), logits() * 2)
    page = show(drawing)
    letters = ["a_", "b_"] if case == "compare" else [""]
    expected = {
        letter + link.id.replace("_n", f"_{letter}n").replace("_b", f"_{letter}b") if letter else link.id: link.size
        for letter, part in zip(letters, drawing.parts, strict=True)
        for link in part.view.links
    }
    found = all_links(page)
    sizes = sorted(size for size in expected.values() if size is not None)
    assert sorted(size for size in found.values() if size is not None) == pytest.approx(sizes, rel=1e-4)
    if case != "compare":
        assert set(found) == set(expected)
    widths = page.run("[...scene.querySelectorAll('.edge path')].map(path => getComputedStyle(path).stroke)")
    assert "none" not in widths


def test_the_boxes_of_two_graphs_stay_open(show):
    page = show(sm.compare(logits(), logits() * 2, names=("once", "twice")))
    assert page.run("document.querySelector('[data-toggle=a]')") is None
    page.run("select('a')")
    assert "graph" in page.panel()
    page.run("zoomTo('b')")
    page.keys("Escape")
    assert "thick blue border: in this graph only" in page.panel()
    assert "in twice" in page.panel()


def test_colours_and_what_is_shown_reach_the_page(show):
    page = show(sm.draw(logits(), color_by=lambda node: "#FFDDAA", show="shape"))
    assert set(page.run("[...scene.querySelectorAll('.card')].map(c => c.getAttribute('fill'))")) == {"#FFDDAA"}
    assert page.run("scene.querySelectorAll('image').length") == 0
    page = show(sm.draw(logits(), color_by="grad"))
    assert "card colour: gradient RMS" in page.panel()


def test_a_tensor_named_grad_keeps_its_name(show):
    page = show(sm.draw((leaf([1.0, 2.0], "grad") * 2).sum()))
    page.keys("Home")
    hidden = page.run("[...document.querySelectorAll('#n0 .g')].map(part => part.textContent)")
    seen = page.run("[...document.querySelectorAll('#n0 > :not(.g)')].map(part => part.textContent)")
    assert "grad" in hidden
    assert "(2,)" in seen


def test_partial_sums_know_seeds_infinities_and_hooks(show):
    total = (leaf([1.0], "x") * 2.0).sum()
    total.name = "total"
    page = show(sm.draw((total, total * 2)))
    node = page.run("Object.keys(N).find(id => N[id].name === 'total')")
    page.run(f"select('{node}')")
    page.keys("Home")
    assert "1 of 2 contributions so far" in page.panel()
    assert "what backward starts with here: 1" in page.panel()
    x = leaf([0.0, 1.0], "x")
    with np.errstate(all="ignore"):
        y = (x * 2.0 + x**0.5 + x**0.25).sum()
    page = show(sm.draw(y))
    page.click("#n0")
    for _ in page.run("order"):
        page.keys("ArrowRight")
        if "2 of 3 contributions" in page.panel():
            assert "∞" in page.panel()
            assert "NaN" not in page.panel()
    hooked = leaf([1.0], "h")
    hooked.register_hook(lambda g: g * 10)
    page = show(sm.draw((hooked * 3.0).sum()))
    page.click("#n0")
    assert "a hook was here" in page.panel()


def test_the_focus_is_not_lost(show):
    page = show(sm.draw(deep(12), depth=2))
    page.page.locator("#n0").focus()
    page.keys("t")
    assert page.run("document.activeElement.id") == "n0"
    (repeat,) = [id for id, box in page.run("B").items() if box["times"] == 12]
    page.run(f"select('{repeat}')")
    page.page.locator("#panel [data-toggle]").focus()
    page.keys("Enter")
    assert page.run("document.activeElement.closest('#panel') && document.activeElement.dataset.toggle") == repeat
    assert page.run(f"isOpen['{repeat}']")
    page.page.locator("#panel [data-go]").first.focus()
    page.keys("Home", "ArrowRight")
    assert page.run("document.activeElement !== document.body")


def test_what_the_keyboard_reaches_is_moved_into_sight(show):
    page = show(sm.draw(deep(12), max_nodes=1000), SIZES[1])
    page.page.locator("#in").focus()
    for _ in range(12):
        page.keys("Shift+Tab")
    page.page.wait_for_timeout(400)
    focused = page.run("scene.contains(document.activeElement)")
    r = page.run("(r => [r.x + r.width / 2, r.y + r.height / 2])(document.activeElement.getBoundingClientRect())")
    s = page.run("(r => [r.x, r.y, r.right, r.bottom])(stage.getBoundingClientRect())")
    assert not focused or (s[0] <= r[0] <= s[2] and s[1] <= r[1] <= s[3])


def test_one_card_at_most_is_selected_whatever_is_folded(show):
    page = show(sm.draw(deep(3)))
    box = page.run("N.n6.box")
    page.run(f"select('n6'); setOpen({{'{box}': false}}); select('n0'); setOpen({{'{box}': true}})")
    assert page.run("[...document.querySelectorAll('.sel')].map(card => card.id)") == ["n0"]


def test_a_large_graph_is_opened_only_if_asked_twice(show):
    y = leaf([1.0], "x")
    with scope("m: M"):
        for _ in range(800):
            y = y * 0.5 - 1.0
    page = show(sm.draw(y.sum(), max_nodes=100))
    before = page.run("Object.keys(cards).length")
    page.page.select_option("#depth", "all")
    assert "once more" in page.said()
    assert page.run("Object.keys(cards).length") == before
