"""How the site is built (`make docs`). The pages are plain Markdown, which reads on GitHub too; here their code runs.

Before Sphinx reads a page its Python blocks become cells, and the output that stands below each of them, which
tests/test_docs.py compares, makes room for what the cell prints. Beside it the page is written as a notebook.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import myst_nb.core.render

import tinygrad_sm as sm
from tinygrad_sm.inspection.doctor import RULES
from tinygrad_sm.inspection.document_html import FORMULAS
from tinygrad_sm.inspection.mathml import mathml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import generate  # noqa: E402
import notebooks  # noqa: E402
import op_pages  # noqa: E402
import pictures  # noqa: E402

project = "tinygrad_sm"
author = "the tinygrad_sm contributors"
version = release = sm.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton"]
exclude_patterns = ["_build", "results"]
html_theme = "furo"
html_title = "tinygrad_sm"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["formulas.css", "site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
numpydoc_show_class_members = False
autodoc_typehints = "none"
default_role = "code"  # `x` in a docstring
highlight_language = "text"  # of a block that names no language: mostly what a program printed
pygments_dark_style = "github-dark"
os.environ["IPYKERNEL_CELL_NAME"] = "script.py"  # what messages call the file of a cell, as on the pages
copybutton_prompt_text = ">>> "

HEAD = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n.*?^```\n)?", re.S | re.M)
SAVES = re.compile(r"^(.*\.save\(.*\))( *#.*)?$(?=\n\Z)", re.M)
ROW = re.compile(r"^\|.*\|$", re.M)
MATH = re.compile(r"^\$\$(.*?)\$\$$", re.S | re.M)  # typeset without fetching a script
ELSEWHERE = {"../CONTRIBUTING.md": "contributing.md", "../examples/gallery/README.md": "gallery.md"}
LINK = '<p class="notebook"><a href="_static/notebooks/{}.ipynb" download>This page as a notebook</a></p>'
SLIDERS = re.compile(r"^.*\n\n<!-- sliders -->$", re.M)  # with the paragraph that stands there in their place
STEPPING = re.compile(r"^.*\n\n<!-- stepping -->$", re.M)
STEPS = "_static/gallery/14_step_through_backward.html"


def on_read(app: Any, name: str, source: list[str]) -> None:
    """Make cells of the Python blocks of a page, put figures in their place, and link to pages of the site."""
    text = source[0] if name != "gallery" else gallery()
    if "/" not in name and name != "gallery" and BLOCK.search(text):
        text = page(name, text)
    for path, other in ELSEWHERE.items():
        text = text.replace(f"]({path}", f"]({other}")
    folder = "ops/" if name.startswith("ops/") else ""
    text = pictures.show(text, HERE / folder, f"{'../' if folder else ''}_static/pictures/{folder}")
    text = ROW.sub(tidy, text) if "/" not in name else text
    source[0] = MATH.sub(lambda found: raw(mathml(found[1], block=True)), text)


def page(name: str, text: str) -> str:
    """Return a page whose code runs, with what only the site shows; and write its notebook."""
    title, _, rest = text.partition("\n")
    if name != "index":
        notebooks.write(name, text, BLOCK, HERE / "_static/notebooks")
        rest = raw(LINK.format(name)) + rest
    text = f"{HEAD}{title}\n{BLOCK.sub(cell, rest)}"
    widget = (Path(sm.__file__).parent / "primer/sliders.html").read_text(encoding="utf-8")
    move = "Move the logits, the temperature, and the smoothing of the target, which comes further down."
    text = SLIDERS.sub(lambda _: f"{move}\n{raw(widget)}", text)
    text = STEPPING.sub(lambda _: raw(stepping()), text)
    return text.replace("<!-- report -->", report()).replace("<!-- attention -->", attention())


def report() -> str:
    """Return a cell that keeps the report which the page has just written, and a link to it."""
    link = '<p><a href="_static/primer/index.html">The report, as it was written for this site</a></p>'
    return kept("copytree('runs/primer'", "primer", ", dirs_exist_ok=True") + raw(link)


def attention() -> str:
    """Return a cell that keeps the page of attention weights which the page has just written, and a frame with it."""
    shown = framed("_static/attention.html", "The attention weights of all layers and heads")
    return kept("copy('attention.html'", "attention.html") + raw(shown)


def kept(call: str, name: str, options: str = "") -> str:
    """Return a cell, which is not seen, that copies a file or a folder from where the page's code runs to `_static`."""
    code = f"import shutil\n\n_ = shutil.{call}, {str(HERE / '_static' / name)!r}{options})"
    return f"```{{code-cell}} python\n:tags: [remove-cell]\n\n{code}\n```\n"


def stepping() -> str:
    """Return the interactive page of a graph, in a frame."""
    return framed(STEPS, "The interactive page of a graph: step through its backward pass")


def framed(address: str, what: str) -> str:
    """Return a page in a frame, and a link to it."""
    frame = f'<iframe class="stepping" src="{address}" title="{what}"></iframe>'
    return f'{frame}\n<p><a href="{address}">The same by itself</a></p>'


def tidy(found: re.Match[str]) -> str:
    """Return a row of a table whose numbers keep their units and deviations, and have true minus signs."""
    row = found[0]
    if "`" in row:
        return row
    row = re.sub(r"([±→≤]) ", "\\1\u00a0", row)
    row = row.replace(" = ", "\u00a0=\u00a0")
    row = re.sub(r"(?<=\d) (?=(?:ms|µs|s|MB|[GT]B/s|G/s|GFLOP/s)\b)", "\u00a0", row)
    row = re.sub(r"(?<=\d)–(?=\d)", "–\u2060", row)
    return re.sub(r"(?<=[ |(])-(?=\d|inf)|(?<=\de)-0?(?=\d)", "−", row)


def cell(found: re.Match[str]) -> str:
    """Return a block of Python as a cell; a path that `save` returns at its end is no output to be shown."""
    return "```{code-cell} python\n" + SAVES.sub(r"\1;\2", found[1]) + "```\n"


def raw(html: str) -> str:
    """Return HTML as it stands in a page."""
    return f"\n```{{raw}} html\n{html}\n```\n"


def gallery() -> str:
    """Return the page of the gallery, with its files, which are copied, in `_static`."""
    folder, served = HERE.parent / "examples/gallery", "_static/gallery/"
    shutil.copytree(folder, HERE / served, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md", "__*"))
    text = (folder / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"^\[.*\.html\): .*$", lambda _: raw(stepping()), text, flags=re.M)
    text = re.sub(r"\[([^\]]+)\]\((\w+\.py)\)", rf'<a href="{served}\2">\1</a>', text)
    return pictures.show(text, folder, served)


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
        shown = "`rules`, `layer`, `logits` and what else is not defined here stands before it [on the doctor's page]"
        page = f"# {name}\n\nThe finding: {about}.\n\n{body.strip()}\n\n{shown}(../doctor.md#{name}).\n"
        (folder / f"{name}.md").write_text(page, encoding="utf-8")
        lines.append(f"- [{name}]({name}.md): {about}")
    lines.append("\n```{toctree}\n:hidden:\n\n" + "\n".join(name for name, _ in sections) + "\n```")
    (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def reference(app: Any) -> None:
    """Write the pages of the ops and of the API."""
    op_pages.ops(HERE / "ops")
    generate.api(HERE / "api")
    for folder in ("images", "results", "ops"):
        pictures.serve(folder)
    (HERE / "_static/formulas.css").write_text(FORMULAS, encoding="utf-8")


def on_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep stars, as in f(*x), from starting emphasis (*so* may), and bars, as in |x|, from naming a substitution."""
    for i, line in enumerate(lines):
        if ">>>" not in line and "..." not in line and not re.match(r"\s*\*", line):
            lines[i] = re.sub(r"(?<![*\w`])([*|])(?=\w)(?!\w+\*(?!\w))", r"\\\1", line)


def on_signature(app: Any, what: str, name: str, thing: Any, options: Any, args: str, returns: str) -> Any:
    """Write a method of Tensor that calls an op with the arguments of that op; leave out what only catches errors."""
    args = op_pages.method_options(thing) or args
    args = args and re.sub(r"(, )?\*\*other", "", args)
    return args and re.sub(r"=<[^=,]*>", "=...", args), returns  # <function <lambda>>, <factory>


def joined(outputs: list[Any]) -> list[Any]:
    """Join the pieces in which a kernel sends what a cell prints; myst_nb would begin a line with each."""
    found: dict[Any, Any] = {}
    for i, output in enumerate(outputs):
        key = output["name"] if output["output_type"] == "stream" else i
        if key in found:
            found[key]["text"] += output["text"]
        else:
            found[key] = output
    return list(found.values())


def setup(app: Any) -> None:
    """Register the hooks."""
    myst_nb.core.render.coalesce_streams = joined
    app.connect("builder-inited", rules)
    app.connect("builder-inited", reference)
    app.connect("source-read", on_read)
    app.connect("autodoc-process-signature", on_signature)
    app.connect("autodoc-process-docstring", on_docstring, priority=400)  # before numpydoc reads it
