"""How the site is built (`make docs`). The pages are plain Markdown, which reads on GitHub too; here their code runs.

Before Sphinx reads a page its Python blocks become cells, and the output that stands below each of them, which
tests/test_docs.py compares, makes room for what the cell prints. Beside it the page is written as a notebook.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat

import tinygrad_sm as sm
from tinygrad_sm.inspection.doctor import RULES
from tinygrad_sm.inspection.document_html import FORMULAS
from tinygrad_sm.inspection.mathml import mathml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import generate  # noqa: E402
import op_pages  # noqa: E402

NOTEBOOKS = HERE / "_static" / "notebooks"

project = "tinygrad_sm"
author = "the tinygrad_sm contributors"
version = release = sm.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton"]
exclude_patterns = ["_build", "results"]
html_theme = "furo"
html_title = "tinygrad_sm"
html_static_path = ["_static"]
html_css_files = ["formulas.css", "site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
numpydoc_show_class_members = False
autodoc_typehints = "none"
default_role = "code"  # `x` in a docstring
copybutton_prompt_text = ">>> "

HEAD = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n.*?^```\n)?", re.S | re.M)
SAVES = re.compile(r"^(.*\.save\(.*\))$(?=\n\Z)", re.M)
MATH = re.compile(r"^\$\$(.*?)\$\$$", re.S | re.M)  # typeset without fetching a script
ELSEWHERE = {"../CONTRIBUTING.md": "contributing.md", "../examples/gallery/README.md": "gallery.md"}
LINK = '<p class="download"><a href="_static/notebooks/{}.ipynb" download>This page as a notebook</a></p>'


def on_read(app: Any, name: str, source: list[str]) -> None:
    """Make cells of the Python blocks of a page, put the sliders in their place, and link to pages of the site."""
    text = source[0] if name != "gallery" else gallery()
    for path, page in ELSEWHERE.items():
        text = text.replace(f"]({path}", f"]({page}")
    if BLOCK.search(text) and "/" not in name and name != "gallery":
        write_notebook(name, text)
        title, _, rest = text.partition("\n")
        text = f"{HEAD}{title}\n{raw(LINK.format(name))}{rest}"
        text = BLOCK.sub(cell, text)
    text = MATH.sub(lambda found: raw(mathml(found[1], block=True)), text)
    widget = (Path(sm.__file__).parent / "primer/sliders.html").read_text(encoding="utf-8")
    link = '<p><a href="_static/primer/index.html">The report, as it was written for this site</a></p>'
    source[0] = text.replace("<!-- sliders -->", raw(widget)).replace("<!-- report -->", raw(link))


def cell(found: re.Match[str]) -> str:
    """Return a block of Python as a cell; a path that `save` returns at its end is no output to be shown."""
    return "```{code-cell} python\n" + SAVES.sub(r"\1;", found[1]) + "```\n"


def raw(html: str) -> str:
    """Return HTML as it stands in a page."""
    return f"\n```{{raw}} html\n{html}\n```\n"


def gallery() -> str:
    """Return the page of the gallery, with its files, which are copied, in `_static`."""
    folder = HERE.parent / "examples/gallery"
    shutil.copytree(folder, HERE / "_static/gallery", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md", "__*"))
    text = (folder / "README.md").read_text(encoding="utf-8").replace('src="', 'src="_static/gallery/')
    return re.sub(r"\[([^\]]+)\]\((\w+\.(?:py|html))\)", r'<a href="_static/gallery/\2">\1</a>', text)


def rules(app: Any) -> None:
    """Write a page for each rule of the doctor: its section of doctor.md, with what it shares with the others."""
    text = (HERE / "doctor.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### ([\w-]+)\n(.*?)(?=^##|\Z)", text, re.S | re.M)
    folder = HERE / "rules"
    folder.mkdir(exist_ok=True)
    lines = [
        "# The rules, one by one\n",
        "Each with code that fails and its repair; [the doctor](../doctor.md) runs it.\n",
    ]
    for name, body in sections:
        about = RULES[name].title
        shown = "`rules`, `layer`, `logits`, `x` and `y` are [defined above all rules](../doctor.md)."
        page = f"# {name}\n\nReports {about}.\n\n{body.strip()}\n\n{shown}\n"
        (folder / f"{name}.md").write_text(page, encoding="utf-8")
        lines.append(f"- [{name}]({name}.md): {about}")
    lines.append("\n```{toctree}\n:hidden:\n\n" + "\n".join(name for name, _ in sections) + "\n```")
    (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def reference(app: Any) -> None:
    """Write the pages of the ops and of the API."""
    op_pages.ops(HERE / "ops")
    generate.api(HERE / "api")
    (HERE / "_static/formulas.css").write_text(FORMULAS, encoding="utf-8")


def report(app: Any) -> None:
    """Write the report of the article's numbers and claims, to which pages link."""
    sm.primer.write(HERE / "_static/primer")


def write_notebook(name: str, text: str) -> None:
    """Write a page as a notebook without outputs; it shows the pictures that its own code has saved."""
    make, cells, end = nbformat.v4, [], 0
    for found in BLOCK.finditer(text):
        cells += [make.new_markdown_cell(text[end : found.start()].strip()), make.new_code_cell(found[1].strip())]
        end = found.end()
    cells.append(make.new_markdown_cell(text[end:].strip()))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
        if cell["cell_type"] == "markdown":
            cell["source"] = re.sub(r'src="images/([\w-]+\.svg)"', _own_picture(text), cell["source"])
    notebook = make.new_notebook(cells=[cell for cell in cells if cell["source"]])
    NOTEBOOKS.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, NOTEBOOKS / f"{name}.ipynb")


def _own_picture(text: str) -> Any:
    return lambda found: f'src="{found[1]}"' if f'"{found[1]}"' in text else found[0]


def on_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep stars in prose, as in f(*x), from starting emphasis, and bars, as in |x|, from naming a substitution."""
    for i, line in enumerate(lines):
        if ">>>" not in line and "..." not in line and not re.match(r"\s*\*", line):
            lines[i] = re.sub(r"(?<![*\w`])([*|])(?=\w)", r"\\\1", line)


def on_signature(app: Any, what: str, name: str, thing: Any, options: Any, args: str, returns: str) -> Any:
    """Write a method of Tensor that calls an op with the arguments of that op; leave out what only catches errors."""
    args = op_pages.method_options(thing) or args
    return args and re.sub(r"(, )?\*\*other", "", args), returns


def setup(app: Any) -> None:
    """Register the hooks."""
    app.connect("builder-inited", report)
    app.connect("builder-inited", rules)
    app.connect("builder-inited", reference)
    app.connect("source-read", on_read)
    app.connect("autodoc-process-signature", on_signature)
    app.connect("autodoc-process-docstring", on_docstring, priority=400)  # before numpydoc reads it
