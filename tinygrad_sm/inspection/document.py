"""A small document model: blocks that become text for a terminal, Markdown, HTML or LaTeX.

In prose, what stands between backticks is a formula, or a name if it cannot be read as one.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from .arrays import FULL, array_latex, array_text
from .formula import FormulaError, parse
from .formula_latex import as_latex, tex

WIDTH = 100  # columns of a terminal

Kind = Literal["title", "heading", "text", "item", "equation", "table"]


class Block(NamedTuple):
    """A piece of an explanation; `text` is prose, a formula or a heading."""

    kind: Kind
    text: str = ""
    latex: str = ""  # of an equation
    value: Any = None  # an array to which the equation comes
    label: str = ""  # "comes in"
    rows: tuple[tuple[str, ...], ...] = ()  # of a table, the head first
    brief: bool = False  # of a larger array, shape and size only


def equation(text: str, value: Any = None, *, label: str = "", latex: str | None = None) -> Block:
    """Return an equation; of several formulas joined by " = " the LaTeX is made, unless it is given."""
    return Block("equation", text, formula_latex(text) if latex is None else latex, value, label)


def formula_latex(text: str) -> str:
    r"""Write a chain of formulas, "a = b = c", or several after commas, as LaTeX; what is none, upright.

    >>> print(formula_latex("pᵢ = exp(zᵢ)/s"))
    p_{i} = \frac{e^{z_{i}}}{s}
    """
    return r",\; ".join(" = ".join(map(_one_latex, part.split(" = "))) for part in re.split(r", (?!else)", text))


def _one_latex(text: str) -> str:
    words = re.match(r"(with |where )", text)
    rest = text[words.end() :] if words else text
    before = rf"\text{{{words[1]}}}" if words else ""
    try:
        return before + as_latex(parse(rest))
    except FormulaError:
        return before + rf"\text{{{tex(rest)}}}"


# -- a terminal ---------------------------------------------------------------------------------


def to_text(blocks: Iterable[Block], full: int = FULL) -> str:
    """Write blocks for a terminal."""
    lines: list[str] = []
    for block in blocks:
        lines += _TEXT[block.kind](block, full)
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _title_text(block: Block, full: int) -> list[str]:
    text = _plain(block.text)
    return [text, "=" * min(len(text), WIDTH)]


def _heading_text(block: Block, full: int) -> list[str]:
    lines = _wrapped(_plain(block.text), "")
    return ["", *lines, *(["  " + block.label] if block.label else [])]


def _prose_text(block: Block, full: int) -> list[str]:
    return ["", *_wrapped(_plain(block.text), "  " if block.label else "")]


def _equation_text(block: Block, full: int) -> list[str]:
    before = f"  {block.label:<12}" if block.label else "    "
    value = array_text(block.value, full, block.brief).split("\n") if block.value is not None and full else None
    text = before + block.text
    if value is None:
        return _wrapped(text, "", " " * (len(before) + 4))
    joined = f"{text} = {value[0]}"
    if len(value) == 1 and len(joined) <= WIDTH:
        return [joined]
    if len(value) > 1 and max(map(len, value)) + len(text) + 3 <= WIDTH - 20:
        return [joined, *(" " * (len(text) + 3) + line for line in value[1:])]
    lines = _wrapped(f"{text} =", "", " " * (len(before) + 4))
    pad = " " * (len(before) + 4)
    return [
        *lines,
        *(part for line in value for part in (_wrapped(pad + line, "", pad) if len(value) == 1 else [pad + line])),
    ]


def _table_text(block: Block, full: int) -> list[str]:
    rows = [[_plain(cell) for cell in row] for row in block.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["", *("  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)]


def _wrapped(text: str, indent: str, rest: str | None = None) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent if rest is None else rest,
        break_long_words=False, break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False,
    ) or [""]  # fmt: skip


def _plain(text: str) -> str:
    return text.replace("`", "")


_TEXT: dict[str, Callable[[Block, int], list[str]]] = {
    "item": lambda block, full: _wrapped(f"  - {_plain(block.text)}", "", "    "), "title": _title_text,
    "heading": _heading_text, "text": _prose_text, "equation": _equation_text,
    "table": _table_text,
}  # fmt: skip


# -- Markdown -----------------------------------------------------------------------------------


def to_markdown(blocks: Iterable[Block], full: int = FULL) -> str:
    """Write blocks as Markdown, with formulas between dollar signs."""
    parts: list[str] = []
    for block in blocks:
        if block.kind in ("title", "heading"):
            mark = "##" if block.kind == "title" else "####"
            parts.append(f"{mark} {_inline(block.text, _span_markdown, _escape_markdown)}")
            parts += [_span_code(block.label)] if block.label else []
        elif block.kind in ("text", "item"):
            parts.append("- " * (block.kind == "item") + _inline(block.text, _span_markdown, _escape_markdown))
        elif block.kind == "equation":
            label = f"*{block.label}*\n\n" if block.label else ""
            parts.append(f"{label}$$\n{_whole_latex(block, full)}\n$$")
        else:
            head, *rows = ["| " + " | ".join(_cell(c) for c in row) + " |" for row in block.rows]
            parts.append("\n".join([head, "|" + "---|" * len(block.rows[0]), *rows]))
    return "\n\n".join(parts) + "\n"


def _whole_latex(block: Block, full: int) -> str:
    has = block.value is not None and full
    return f"{block.latex} = {array_latex(block.value, full, block.brief)}" if has else block.latex


def _inline(text: str, span: Callable[[str], str], rest: Callable[[str], str]) -> str:
    return "".join(span(part) if i % 2 else rest(part) for i, part in enumerate(text.split("`")))


def _span_markdown(text: str) -> str:
    return f"${formula_latex(text)}$" if _is_formula(text) else _span_code(text)


def _span_code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\*_\[\]<>&$|#])", r"\\\1", text)


def _cell(text: str) -> str:
    return _inline(text, _span_code, _escape_markdown).replace("\n", " ")


def _is_formula(text: str) -> bool:
    try:
        for part in re.split(r" = |, (?!else)", text):
            parse(part)
    except FormulaError:
        return False
    return True


# -- HTML ---------------------------------------------------------------------------------------

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1F2933}"
    "pre{font:14px/1.35 ui-monospace,monospace;background:#F5F7FA;padding:.5em .8em;border-radius:6px;overflow-x:auto;"
    "margin:.3em 0}h1{font-size:1.5em}h2{font-size:1.1em;margin:1.6em 0 .3em}small{color:#52606D}"
    "td,th{text-align:left;padding:.15em .8em;border-bottom:1px solid #DDE3EA}code{background:#F5F7FA}"
)


def to_html(blocks: Sequence[Block], full: int = FULL) -> str:
    """Write blocks as a page of HTML that asks for nothing from anywhere; formulas stand in it as text."""
    title = html.escape(_plain(next((b.text for b in blocks if b.kind == "title"), "explain")))
    parts = [block_html(block, full) for block in blocks]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"</head><body>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def block_html(block: Block, full: int) -> str:
    """Write one block as HTML."""
    inline = _inline(block.text, lambda s: f"<code>{html.escape(s)}</code>", html.escape)
    if block.kind in ("title", "heading"):
        tag = "h1" if block.kind == "title" else "h2"
        return f"<{tag}>{inline}</{tag}>" + (
            f"<small><code>{html.escape(block.label)}</code></small>" * bool(block.label)
        )
    if block.kind in ("text", "item"):
        return f"<p>{'• ' * (block.kind == 'item')}{inline}</p>"
    if block.kind == "equation":
        return f"<pre>{html.escape(chr(10).join(line.rstrip() for line in _equation_text(block, full)))}</pre>"
    head, *rows = (["".join(f"<{{0}}>{html.escape(_plain(c))}</{{0}}>" for c in row)] for row in block.rows)
    lines = [head[0].replace("{0}", "th"), *(row[0].replace("{0}", "td") for row in rows)]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


# -- LaTeX --------------------------------------------------------------------------------------

PREAMBLE = "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{amsmath,amssymb}\n\\begin{document}\n"


def to_latex(blocks: Iterable[Block], full: int = FULL, *, whole: bool = False) -> str:
    """Write blocks as LaTeX; with `whole`, as a document that stands alone."""
    parts = []
    for block in blocks:
        inline = _inline(
            block.text, lambda s: f"${formula_latex(s)}$" if _is_formula(s) else rf"\texttt{{{tex(s)}}}", tex
        )
        if block.kind == "title":
            parts.append(rf"\section*{{{inline}}}")
        elif block.kind == "heading":
            parts.append(rf"\subsection*{{{inline}}}" + (rf"\texttt{{{tex(block.label)}}}" if block.label else ""))
        elif block.kind in ("text", "item"):
            parts.append("$\\bullet$ " * (block.kind == "item") + inline)
        elif block.kind == "equation":
            label = rf"\text{{{tex(block.label)}:}}\quad " if block.label else ""
            parts.append(f"\\[\n{label}{_whole_latex(block, full)}\n\\]")
        else:
            rows = (r" \\ ".join(" & ".join(tex(_plain(c)) for c in row) for row in block.rows),)
            parts.append(rf"\begin{{tabular}}{{{'l' * len(block.rows[0])}}} {rows[0]} \end{{tabular}}")
    body = "\n\n".join(parts) + "\n"
    return f"{PREAMBLE}{body}\\end{{document}}\n" if whole else body
