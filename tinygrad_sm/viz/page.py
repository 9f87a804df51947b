"""The interactive page: one HTML file in which a reader steps through the backward pass. It asks for nothing."""

from __future__ import annotations

import html
import json
import re
from importlib import resources
from typing import Any


def page(data: dict[str, Any]) -> str:
    r"""Return the page that shows the graph in `data`, which is as `viz.data.data` makes it.

    >>> text = page({"title": "</title><script>", "alt": "", "nodes": {"n0": {"name": "</script>"}}})
    >>> "</title><script>" in text, "u003c/script" in text
    (False, True)
    """
    title = " ".join("".join(c if c.isprintable() or c.isspace() else " " for c in data["title"]).split())[:200]
    parts = {
        "title": html.escape(title or "Computation graph"),
        "alt": html.escape(data["alt"]),
        "data": _inert(json.dumps(data, allow_nan=False, separators=(",", ":"))),
        "css": _file("page.css"),
        **{name: _script(f"{name}.js") for name in ("layout", "page", "panel", "controls")},
    }
    return re.sub(
        r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _file("page.html")
    )  # once: names are not looked into


def _inert(text: str) -> str:
    """Write JSON, which is ASCII, so that no name in it can end the element it stands in, or open a comment there."""
    return text.replace("<", "\\u003c")


def _script(name: str) -> str:
    """Return a script without its indentation and its lines of comment, a tenth of it."""
    return re.sub(r"^[ \t]*(?://.*\n)?", "", _file(name), flags=re.MULTILINE)


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
