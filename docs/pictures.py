"""Pictures of the site: each is a link to itself, and scrolls sideways where it would be too small to read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

HERE = Path(__file__).parent
IMAGE = re.compile(r'<img src="(?!_static|data:|https?:)([^"]+)" alt="([^"]*)"(?: width="(\d+)(%?)")?[^>]*>')
LEAST = 0.52  # of its own size, below which the letters in a picture cannot be read
DOTS = 120  # to an inch, in PNG files of this package


def show(text: str, root: Path, address: str) -> str:
    """Replace the pictures of a page, whose files lie in `root` and are served at `address`."""

    def shown(found: re.Match[str]) -> str:
        file, alt, width, share = root / found[1], found[2], found[3], found[4]
        own = size(file)
        wide = f"{width}%" if share else f"{max(int(width or own), round(own * LEAST))}px"
        style = f"width: {wide}; min-width: {round(own * LEAST)}px"
        link = address + found[1]
        html = f'<p class="picture"><a href="{link}"><img src="{link}" alt="{alt}" style="{style}"></a></p>'
        return f"\n```{{raw}} html\n{html}\n```\n"

    return IMAGE.sub(shown, text)


def size(file: Path) -> int:
    """Return the width of a picture at its own size, in pixels of the screen."""
    if file.suffix == ".png":
        return round(int.from_bytes(file.read_bytes()[16:20], "big") * 96 / DOTS)
    found = re.search(r'<svg[^>]*?\bwidth="([\d.]+)pt"', file.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{file.name}: an SVG file without a width in points")
    return round(float(found[1]) * 96 / 72)


def serve(folder: str) -> None:
    """Copy the pictures of a folder to where the site serves them."""
    shutil.copytree(
        HERE / folder, HERE / "_static/pictures" / folder, dirs_exist_ok=True, ignore=lambda _, names: _others(names)
    )


def _others(names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith((".svg", ".png"))]
