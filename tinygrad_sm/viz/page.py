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
        "data": inert(data),
        "css": file("page.css"),
        **{name: script(f"{name}.js") for name in ("layout", "page", "panel", "controls")},
    }
    return filled("page.html", parts)


def filled(template: str, parts: dict[str, str]) -> str:
    """Return a template, a file of this folder, with its parts; what looks like a placeholder in one stays as it is."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], file(template))


def inert(data: Any) -> str:
    """Write JSON, which is ASCII, so that no name in it can end the element it stands in, or open a comment there."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def script(name: str) -> str:
    """Return a script without its indentation and its lines of comment, a tenth of it."""
    return re.sub(r"^[ \t]*(?://.*\n)?", "", file(name), flags=re.MULTILINE)


def file(name: str) -> str:
    """Return the text of a file of this folder."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
