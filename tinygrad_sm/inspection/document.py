"""A small document model: blocks that become text for a terminal, Markdown or LaTeX, and HTML in document_html.py.

In prose, what stands between backticks is a formula, or a name if it cannot be read as one; `d|x` is the gradient of x.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from .arrays import FULL, array_latex, array_text, is_written
from .formula import FormulaError, cut, gradient_name, parse
from .formula_latex import SUBS, as_latex, tex

WIDTH = 100  # columns of a terminal
SUM = "Σ[ᵢⱼₙₖ]"  # the sign alone

Kind = Literal["title", "heading", "text", "item", "equation", "line", "table"]  # a line is words with a label


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
    return r",\; ".join(" = ".join(map(_one_latex, cut(part, " = "))) for part in cut(text, ", "))


def _one_latex(text: str) -> str:
    words = re.match(r"(with |where )", text)
    rest = text[words.end() :] if words else text
    before = rf"\text{{{words[1]}}}" if words else ""
    for read in (parse, lambda text: parse(f"[{text}]")[1]):  # a formula, or a condition such as a ≠ b
        with suppress(FormulaError):
            return before + as_latex(read(rest))
    return before + rf"\text{{{tex(rest)}}}"


# -- a terminal ---------------------------------------------------------------------------------


def to_text(blocks: Iterable[Block], full: int = FULL) -> str:
    """Write blocks for a terminal."""
    lines: list[str] = []
    for block in blocks:
        lines += _TEXT[block.kind](block, full)
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _title_text(block: Block, full: int) -> list[str]:
    text = plain(block.text)
    return [text, "=" * min(len(text), WIDTH)]


def _heading_text(block: Block, full: int) -> list[str]:
    lines = _wrapped(_glued(block.text), "")
    return ["", *lines, *(["  " + block.label] if block.label else [])]


def _prose_text(block: Block, full: int) -> list[str]:
    return ["", *_wrapped(_glued(block.text), "  " if block.label else "")]


def _equation_text(block: Block, full: int) -> list[str]:
    before = f"  {block.label:<12}" if block.label else "    "
    value = array_text(block.value, full, block.brief).split("\n") if block.value is not None and full else None
    text = before + block.text
    if value is None:
        return _wrapped(text, "", " " * (len(before) + 4))
    sign = " =" if is_written(block.value, full) else ":"
    joined = f"{text}{sign} {value[0]}"
    if len(value) == 1 and len(joined) <= WIDTH:
        return [joined]
    if len(value) > 1 and max(map(len, value)) + len(text) + 3 <= WIDTH - 20:
        return [joined, *(" " * (len(text) + 3) + line for line in value[1:])]
    lines = _wrapped(f"{text}{sign}", "", " " * (len(before) + 4))
    pad = " " * (len(before) + 4)
    return [
        *lines,
        *(part for line in value for part in (_wrapped(pad + line, "", pad) if len(value) == 1 else [pad + line])),
    ]


def _table_text(block: Block, full: int) -> list[str]:
    rows = [[plain(cell) for cell in row] for row in block.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["", *("  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)]


def _wrapped(text: str, indent: str, rest: str | None = None) -> list[str]:
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent if rest is None else rest,
        break_long_words=False, break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False,
    )  # fmt: skip
    return [line.replace("\u00a0", " ") for line in lines] or [""]


def gradient_span(name: str) -> str:
    """Return the gradient of a tensor for prose: dx for a terminal, an x with a bar where formulas are typeset."""
    return f"`d|{name}`"


def plain(text: str) -> str:
    """Leave out the backticks."""
    return re.sub(r"`d\|([^`]+)`", lambda m: gradient_name(m[1]), text).replace("`", "")


def _glued(text: str) -> str:
    """Keep a short formula on one line."""
    return plain(re.sub(r"`([^`]{1,40})`", lambda m: m[0].replace(" ", "\u00a0"), text))


_TEXT: dict[str, Callable[[Block, int], list[str]]] = {
    "item": lambda block, full: _wrapped(f"  - {_glued(block.text)}", "", "    "), "title": _title_text,
    "heading": _heading_text, "text": _prose_text, "equation": _equation_text,
    "table": _table_text, "line": lambda block, full: _equation_text(block._replace(text=plain(block.text)), full),
}  # fmt: skip


# -- Markdown -----------------------------------------------------------------------------------


def to_markdown(blocks: Iterable[Block], full: int = FULL) -> str:
    """Write blocks as Markdown, with formulas between dollar signs."""
    parts: list[str] = []
    for block in blocks:
        if block.kind in ("title", "heading"):
            mark = "##" if block.kind == "title" else "####"
            parts.append(f"{mark} {inline(block.text, _span_markdown, _escape_markdown)}")
            parts += [_span_code(block.label)] if block.label else []
        elif block.kind in ("text", "item"):
            parts.append("- " * (block.kind == "item") + inline(block.text, _span_markdown, _escape_markdown))
        elif block.kind == "line":
            parts.append(f"*{block.label}*: {inline(block.text, _span_markdown, _escape_markdown)}")
        elif block.kind == "equation":
            label = f"*{block.label}*\n\n" if block.label else ""
            parts.append(f"{label}$$\n{whole_latex(block, full)}\n$$")
        else:
            head, *rows = ["| " + " | ".join(_cell(c) for c in row) + " |" for row in block.rows]
            parts.append("\n".join([head, "|" + "---|" * len(block.rows[0]), *rows]))
    return "\n\n".join(parts) + "\n"


def whole_latex(block: Block, full: int) -> str:
    """Write an equation with the numbers to which it comes."""
    has = block.value is not None and full
    sign = " = " if has and is_written(block.value, full) else r":\; "
    return f"{block.latex}{sign}{array_latex(block.value, full, block.brief)}" if has else block.latex


def inline(text: str, span: Callable[[str], str], rest: Callable[[str], str]) -> str:
    """Write prose, and with `span` what stands between backticks."""
    return "".join(span(part) if i % 2 else rest(part) for i, part in enumerate(text.split("`")))


def _span_markdown(text: str) -> str:
    return f"${span_latex(text)}$" if is_formula(text) else _span_code(text)


def _span_code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\*_\[\]<>&$|#])", r"\\\1", text)


def _cell(text: str) -> str:
    return inline(text, _span_markdown, _escape_markdown).replace("\n", " ")


def span_latex(text: str) -> str:
    """Write a formula in prose."""
    if text.startswith("d|"):
        return as_latex(("grad", text[2:], ""))
    return rf"\textstyle\sum_{{{SUBS[text[1]]}}}" if re.fullmatch(SUM, text) else formula_latex(text)


def is_formula(text: str) -> bool:
    """Tell whether a text can be read as formulas, not only as words."""
    if text.startswith("d|") or re.fullmatch(SUM, text):
        return True
    try:
        for part in cut(text, ", "):
            for side in cut(part, " = "):
                parse(side)
    except FormulaError:
        return False
    return True


# -- LaTeX --------------------------------------------------------------------------------------

PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{amsmath,amssymb}
\usepackage[margin=2.5cm]{geometry}
\sloppy
"""


def to_latex(blocks: Iterable[Block], full: int = FULL, *, whole: bool = False) -> str:
    """Write blocks as LaTeX; with `whole`, as a document that stands alone."""
    parts = []
    for block in blocks:
        prose = inline(block.text, _span_latex, tex)
        if block.kind == "title":
            parts.append(rf"\section*{{{prose}}}")
        elif block.kind == "heading":
            parts.append(rf"\subsection*{{{prose}}}" + (rf"\texttt{{{tex(block.label)}}}" if block.label else ""))
        elif block.kind in ("text", "item"):
            parts.append("$\\bullet$ " * (block.kind == "item") + prose)
        elif block.kind == "line":
            parts.append(f"{tex(block.label)}: {prose}")
        elif block.kind == "equation":
            label = rf"\text{{{tex(block.label)}:}}\quad " if block.label else ""
            parts.append(f"\\[\n{label}{whole_latex(block, full)}\n\\]")
        else:
            rows = (r" \\ ".join(" & ".join(inline(c, _span_latex, tex) for c in row) for row in block.rows),)
            parts.append(rf"\begin{{tabular}}{{{'l' * len(block.rows[0])}}} {rows[0]} \end{{tabular}}")
    body = "\n\n".join(parts) + "\n"
    return f"{PREAMBLE}{_declared(body)}\\begin{{document}}\n{body}\\end{{document}}\n" if whole else body


def _span_latex(text: str) -> str:
    return f"${span_latex(text)}$" if is_formula(text) else rf"\texttt{{{tex(text)}}}"


def _declared(body: str) -> str:
    """Say how pdflatex shows letters that its fonts lack, as in a user's names; XeLaTeX and LuaLaTeX have them."""
    rare = sorted({c for c in body if ord(c) > 0xFF})
    lines = [rf"\DeclareUnicodeCharacter{{{ord(c):04X}}}{{[U+{ord(c):04X}]}}" for c in rare]
    return "\n".join([r"\ifdefined\DeclareUnicodeCharacter", *lines, r"\fi", ""]) if lines else ""
