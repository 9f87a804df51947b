"""The report: one page of HTML that asks for nothing from anywhere, the same as Markdown, and the claims as JSON."""

from __future__ import annotations

import base64
import html
import os
import time
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path

from .. import __version__
from ..atomic import replacing
from ..inspection.arrays import FULL
from ..inspection.document import to_markdown
from ..inspection.document_html import FORMULAS, block_html
from ..runs import write_json
from .attention import scaling
from .confidence import confidence
from .definition import definition, logits, soft_argmax
from .logarithm import log_softmax
from .loss import absolute_error, cross_entropy
from .parts import Block, Chapter, Claim, Code, Figure, Widget
from .stability import stability

TITLE = "Primer on Softmax, reproduced"
MARKS = {"holds": "✓", "in part": "~", "fails": "✗"}
CHAPTERS: tuple[Callable[[], Chapter], ...] = (
    definition, soft_argmax, logits, stability, cross_entropy, absolute_error, log_softmax, scaling, confidence,
)  # fmt: skip


def chapters(say: Callable[[str], object] = lambda line: None) -> list[Chapter]:
    """Compute all chapters; `say` is told which one is next.

    >>> from tinygrad_sm import primer
    >>> chapter = primer.report.definition()
    >>> chapter.title, chapter.claims[0].found, chapter.claims[0].verdict
    ('Softmax: scores become probabilities', '0.0900, 0.2447, 0.6652', 'holds')
    """
    found = []
    for number, make in enumerate(CHAPTERS, 1):
        say(f"chapter {number} of {len(CHAPTERS)}: {make.__name__.replace('_', ' ')}")
        found.append(make())
    return found


def write(folder: str | os.PathLike[str], say: Callable[[str], object] = lambda line: None) -> Path:
    """Reproduce the article into a folder: `index.html`, `primer.md`, `primer.json`, and the pictures as SVG files.

    Parameters
    ----------
    folder : path
        Is made if it is not there. Files of an earlier report are replaced.
    say : function, optional
        Is given a line of text for each step.

    Returns
    -------
    Path
        Of `index.html`, which holds all pictures itself. Without matplotlib those it draws are left out, and the page
        says so.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.primer.write("runs/primer", print)  # doctest: +SKIP
    """
    began, folder = time.perf_counter(), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = chapters(say)
    say("pictures")
    missing = [name for chapter in found for name in _save_pictures(chapter, folder)]
    if missing:
        say(f"{len(missing)} pictures are left out: they need matplotlib (pip install matplotlib)")
    seconds = time.perf_counter() - began
    with replacing(folder / "primer.md") as file:
        file.write(markdown(found, missing).encode())
    write_json(folder / "primer.json", {
        "version": __version__, "seconds": round(seconds, 1),
        "claims": [{"chapter": chapter.title, **one._asdict()} for chapter in found for one in chapter.claims],
    }, indent=1)  # fmt: skip
    page = folder / "index.html"
    with replacing(page) as file:
        file.write(_page(found, folder, missing).encode())
    say(f"{summary(found)}; {seconds:.0f} s")
    return page


def _save_pictures(chapter: Chapter, folder: Path) -> list[str]:
    """Draw the pictures of a chapter into files; return the names of those that need matplotlib, if it is not there."""
    missing = []
    for part in chapter.parts:
        if isinstance(part, Figure):
            try:
                part.draw().save(folder / f"{part.name}.svg")
            except ImportError:
                missing.append(part.name)
                (folder / f"{part.name}.svg").unlink(missing_ok=True)  # of an earlier report
    return missing


def summary(found: Iterable[Chapter]) -> str:
    """Count the verdicts, in words."""
    verdicts = [one.verdict for chapter in found for one in chapter.claims]
    holds, limited, fails = (verdicts.count(name) for name in MARKS)
    return f"{len(verdicts)} numbers and claims of the article: {holds} hold, {limited} in part, {fails} do not"


# -- Markdown -----------------------------------------------------------------------------------


def markdown(found: list[Chapter], missing: Iterable[str] = ()) -> str:
    """Write the chapters as Markdown; pictures are files beside it."""
    lines = [f"# {TITLE}", f"{summary(found)}."]
    for chapter in found:
        lines.append(f"## {chapter.title}")
        lines += [text for part in chapter.parts for text in _part_markdown(part, missing)]
    return "\n\n".join(lines) + "\n"


def _part_markdown(part: Block | Claim | Code | Figure | Widget, missing: Iterable[str]) -> list[str]:
    if isinstance(part, Claim):
        return [
            f"- {MARKS[part.verdict]} **{part.verdict}**: {_claim_line(part)}" + f" {part.right}" * bool(part.right)
        ]
    if isinstance(part, Code):
        return [f"```python\n{part.source}\n```", f"```\n{part.output}\n```"]
    if isinstance(part, Figure):
        return [f"![{part.caption}]({part.name}.svg)", f"*{part.caption}*"] if part.name not in missing else []
    return [to_markdown([part]).rstrip()] if isinstance(part, Block) else []


def _claim_line(part: Claim) -> str:
    printed = f" (the article: {part.printed})" if part.printed else ""
    return f"{part.says}{printed}. {part.found}."


# -- HTML ---------------------------------------------------------------------------------------


def _page(found: list[Chapter], folder: Path, missing: Iterable[str]) -> str:
    links = "".join(f'<li><a href="#c{i}">{html.escape(c.title)}</a></li>' for i, c in enumerate(found, 1))
    body = [
        f"<h1>{TITLE}</h1><p>Every number of the article computed again, every figure drawn, every claim judged, by "
        f"tinygrad_sm {__version__} alone. {html.escape(summary(found))}.</p>",
        f'<nav aria-label="Chapters"><ol>{links}<li><a href="#errata">Where the article errs</a></li></ol></nav>',
    ]
    for i, chapter in enumerate(found, 1):
        parts = "\n".join(_part_html(part, folder, missing) for part in chapter.parts)
        body.append(f'<section id="c{i}"><h2>{i}. {html.escape(chapter.title)}</h2>\n{parts}</section>')
    errata = "".join(
        f"<li>{_badge(one)} {html.escape(one.says)}. {html.escape(one.right)} <a href='#c{i}'>chapter {i}</a></li>"
        for i, chapter in enumerate(found, 1) for one in chapter.claims if one.verdict != "holds"
    )  # fmt: skip
    body.append(f'<section id="errata"><h2>Where the article errs</h2><ul class="errata">{errata}</ul></section>')
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{TITLE}</title>'
        f"<style>{_file('report.css')}{FORMULAS}</style></head><body>\n{chr(10).join(body)}\n</body></html>\n"
    )


def _part_html(part: Block | Claim | Code | Figure | Widget, folder: Path, missing: Iterable[str]) -> str:
    if isinstance(part, Block):
        return block_html(part, FULL).replace("h2>", "h3>")  # a heading of a chapter
    if isinstance(part, Code):
        return f'<pre class="code">{html.escape(part.source)}</pre><pre class="output">{html.escape(part.output)}</pre>'
    if isinstance(part, Claim):
        said = {"article": part.printed, "found": part.found, "rather": part.right}
        rows = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in said.items() if text)
        body = f"<div><p>{html.escape(part.says)}</p><dl>{rows}</dl></div>"
        return f'<div class="claim {_name(part)}">{_badge(part)}{body}</div>'
    caption = html.escape(part.caption.replace("`", ""))
    if isinstance(part, Widget):
        return f'<figure class="widget">{_file(f"{part.name}.html")}<figcaption>{caption}</figcaption></figure>'
    if part.name in missing:
        return f"<p><em>A picture is left out, which needs matplotlib: {caption}</em></p>"
    data = base64.b64encode((folder / f"{part.name}.svg").read_bytes()).decode()
    picture = f'<img src="data:image/svg+xml;base64,{data}" alt="{caption}">'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _badge(one: Claim) -> str:
    return f'<span class="badge {_name(one)}">{MARKS[one.verdict]} {one.verdict}</span>'


def _name(one: Claim) -> str:
    return one.verdict.replace(" ", "-")


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
