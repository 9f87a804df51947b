"""Blocks as a page of HTML that asks for nothing from anywhere: formulas are MathML, which browsers typeset."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .arrays import FULL
from .document import Block, inline, is_formula, plain, span_latex, whole_latex
from .mathml import mathml

# Of a page that sets --soft, the colour of labels. Brackets and bars are drawn: not every system has a font for them.
FORMULAS = """
.eq{display:grid;grid-template-columns:7em 1fr;align-items:center;padding:.25em 0}
.eq>span{color:var(--soft);font-size:.875em}.eq>div{overflow-x:auto;padding:.15em .1em}
math{font-size:1.06em}math[display=block]{margin:0;text-align:left;width:max-content;line-height:1.2}
mtable.matrix{margin:.2em;padding:.05em .3em;border:solid currentColor;border-width:0 1px;
background:linear-gradient(currentColor,currentColor) 0 0,linear-gradient(currentColor,currentColor) 100% 0,
linear-gradient(currentColor,currentColor) 0 100%,linear-gradient(currentColor,currentColor) 100% 100%;
background-size:.3em 1px;background-repeat:no-repeat}
mtable.matrix mtd{text-align:right;text-align:-webkit-right;padding:.22em .4em;font-variant-numeric:tabular-nums}
mrow.bar{border-top:1px solid;padding-top:.08em}mrow.bold{font-weight:bold}
@media(max-width:40em){.eq{grid-template-columns:1fr}}
"""
STYLE = """
:root{color-scheme:light dark;--ink:#1f2933;--paper:#fff;--soft:#52606d;--line:#dde3ea;--field:#f5f7fa}
@media(prefers-color-scheme:dark){:root{--ink:#e4e7eb;--paper:#12171d;--soft:#9aa5b1;--line:#323f4b;--field:#1b232c}}
body{font:16px/1.5 system-ui,sans-serif;max-width:56em;margin:2em auto;padding:0 1em;color:var(--ink);
background:var(--paper)}
h1{font-size:1.5em;line-height:1.25}h2{font-size:1.1em;margin:2em 0 .3em;padding-top:.8em;
border-top:1px solid var(--line)}
small{color:var(--soft);overflow-wrap:anywhere}p{margin:.7em 0}ul{margin:.4em 0;padding-left:1.2em}
.rows{overflow-x:auto}table{border-collapse:collapse}
td,th{text-align:left;padding:.2em 1.2em .2em 0;border-bottom:1px solid var(--line)}
code{background:var(--field);padding:.05em .25em;border-radius:3px;overflow-wrap:anywhere}
@media(max-width:40em){body{margin:1em auto}}
"""


def to_html(blocks: Sequence[Block], full: int = FULL) -> str:
    """Write blocks as a page of HTML that asks for nothing from anywhere."""
    title = escape(plain(next((b.text for b in blocks if b.kind == "title"), "explain")))
    parts = [block_html(block, full) for block in blocks]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}{FORMULAS}</style></head><body>\n{chr(10).join(parts)}\n</body></html>\n"
    ).replace("</ul>\n<ul>", "")


def block_html(block: Block, full: int) -> str:
    """Write one block as HTML; the page needs the style `FORMULAS`."""
    text = inline(block.text, _span, escape)
    if block.kind == "title":
        return f"<h1>{text}</h1>"
    if block.kind == "heading":
        return f"<h2>{text}</h2>" + f"<small><code>{escape(block.label)}</code></small>" * bool(block.label)
    if block.kind == "text":
        return f"<p>{text}</p>"
    if block.kind == "item":
        return f"<ul><li>{text}</li></ul>"
    if block.kind == "line":
        return f'<div class="eq"><span>{escape(block.label)}</span><div>{text}</div></div>'
    if block.kind == "equation":
        formula = mathml(whole_latex(block, full), block=True)
        return f'<div class="eq"><span>{escape(block.label)}</span><div>{formula}</div></div>'
    head, *rows = (["".join(f"<td>{inline(c, _span, escape)}</td>" for c in row)] for row in block.rows)
    lines = [head[0].replace("td>", "th>"), *(row[0] for row in rows)]
    return f'<div class="rows"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def _span(text: str) -> str:
    return mathml(span_latex(text)) if is_formula(text) else f"<code>{escape(text)}</code>"
