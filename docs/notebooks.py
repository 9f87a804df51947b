"""The pages as notebooks that stand alone: pictures are inside, and links lead to other notebooks."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nbformat

HERE = Path(__file__).parent
NEEDS = 'This notebook needs tinygrad_sm: `pip install -e ".[all]"` in a clone of its repository.'
PICTURE = re.compile(r'(?<=<img src=")([\w/.-]+\.svg)(?=")')
LINK = re.compile(r"\[([^\]]+)\]\(((?!https?:)[\w./-]+\.(?:md|html|json|py)(?:#[\w-]+)?)\)")  # to a file
COMMENT = re.compile(r"^<!--.*?-->\n*", re.M)


def write(name: str, text: str, block: re.Pattern[str], folder: Path) -> None:
    """Write a page as a notebook without outputs; `block` finds its Python."""
    make, cells, end = nbformat.v4, [], 0
    title, _, rest = text.partition("\n")
    text = f"{title}\n\n{NEEDS}\n{rest}"
    for found in block.finditer(text):
        cells += [make.new_markdown_cell(prose(text[end : found.start()])), make.new_code_cell(found[1].strip())]
        end = found.end()
    cells.append(make.new_markdown_cell(prose(text[end:])))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    notebook = make.new_notebook(cells=[cell for cell in cells if cell["source"]])
    nbformat.validate(notebook)
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")


def prose(text: str) -> str:
    """Return Markdown that shows the same away from the repository."""
    return LINK.sub(_linked, PICTURE.sub(_embedded, COMMENT.sub("", text))).strip()


def _embedded(found: re.Match[str]) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode((HERE / found[1]).read_bytes()).decode()}"


def _linked(found: re.Match[str]) -> str:
    page, _, section = found[2].partition("#")
    other = HERE / page
    if other.suffix != ".md" or other.parent != HERE or not re.search("^```python$", other.read_text("utf-8"), re.M):
        return found[1]
    return f"[{found[1]}]({other.stem}.ipynb{section and '#' + section})"
