"""The interactive page: one HTML file in which a reader steps through the backward pass. It asks for nothing."""

from __future__ import annotations

import html
import json
import os
import re
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..atomic import replacing


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


@dataclass(frozen=True)
class Interactive:
    """An interactive page, which a notebook shows in a frame `height` pixels high.

    >>> import tinygrad_sm as sm
    >>> page = sm.draw(sm.Tensor([1.0, 2.0], requires_grad=True).sum()).interactive(height=400)
    >>> page.height, page.html[:15]
    (400, '<!doctype html>')
    """

    html: str = field(repr=False)
    height: int
    alt: str

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, whatever its name ends in, and return its path.

        >>> import tempfile, tinygrad_sm as sm
        >>> page = sm.draw(sm.Tensor([1.0, 2.0], requires_grad=True).sum()).interactive()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(page.save(f"{folder}/sum.html").name)
        sum.html
        """
        with replacing(path, "save") as file:
            file.write(self.html.encode())
        return Path(path)

    def _repr_html_(self) -> str:
        looks = f"width:100%;height:{self.height}px;border:1px solid #DDE3EA;border-radius:8px"
        page, alt = html.escape(self.html), html.escape(self.alt)
        return f'<iframe title="{alt}" style="{looks}" sandbox="allow-scripts" srcdoc="{page}"></iframe>'
