r"""LaTeX as MathML, which browsers typeset without fetching anything.

It reads the LaTeX that this package writes (formula_latex.py, arrays.py, the registry), and raises on any other
command: so what it reads is also what KaTeX, MathJax and amsmath know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import escape

SIGNS = {
    "cdot": "·", "circ": "∘", "ne": "≠", "le": "≤", "ge": "≥", "lt": "<", "gt": ">", "to": "→", "times": "×",
    "neg": "¬", "sim": "∼", "lvert": "|", "rvert": "|", "vert": "|", "top": "⊤", "sum": "∑", "prod": "∏", "surd": "√",
    "odot": "⊙", "mid": "|", "dots": "…", "dotsc": "…", "ldots": "…", "cdots": "⋯", "lfloor": "⌊", "rfloor": "⌋",
    "left": "", "right": "", "backslash": "\\",
}  # fmt: skip
LETTERS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "Delta": "Δ", "epsilon": "ϵ", "varepsilon": "ε",
    "lambda": "λ", "mu": "μ", "pi": "π", "sigma": "σ", "Sigma": "Σ", "tau": "τ", "phi": "ϕ", "varphi": "φ", "Phi": "Φ",
    "ell": "ℓ", "partial": "∂", "infty": "∞",
}  # fmt: skip
FUNCTIONS = ("log", "exp", "sin", "cos", "tanh", "max", "min", "det", "lim")
THIN = '<mspace width=".17em"></mspace>'
SPACES = {",": ".17em", ";": ".28em", " ": ".33em", "quad": "1em", "!": "0"}
NOTHING = ("textstyle", "displaystyle")
ACCENTS = {"hat": "^", "tilde": "~"}
TEXTS = {
    "textbackslash": "\\", "textasciicircum": "^", "textasciitilde": "~", "textless": "<", "textgreater": ">",
    "dots": "…",
}  # fmt: skip
_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|(?<=frac)\d|(?<=frac\d)\d|\d+(?:\.\d+)?|\s+|.", re.S)  # \tfrac12 is 1 and 2


def mathml(latex: str, *, block: bool = False) -> str:
    r"""Write a formula as a `math` element.

    >>> print(mathml(r"\frac{p_{i}}{2}"))
    <math><mfrac><msub><mi>p</mi><mi>i</mi></msub><mn>2</mn></mfrac></math>

    Raises
    ------
    ValueError
        For a command that this package never writes, or braces that do not match.
    """
    reader = _Reader(latex)
    inside = "".join(reader.items(()))
    if reader.token:
        raise ValueError(f"mathml: {reader.token!r} too many in {latex!r}")
    how = ' display="block"' if block else ""
    return f"<math{how}>{inside}</math>"


class _Reader:
    """Recursive descent over the tokens of one formula; `token` is the next one, "" at the end."""

    def __init__(self, latex: str) -> None:
        self.latex = latex
        self.tokens = [t for t in _TOKEN.findall(latex) if t.strip()]
        self.raw = _TOKEN.findall(latex)  # with the blanks, which count in \text
        self.at = 0

    @property
    def token(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.token
        if not token or (wanted and token != wanted):
            raise ValueError(f"mathml: {wanted or 'something'!r} is missing in {self.latex!r}")
        self.at += 1
        return token

    def items(self, ends: tuple[str, ...]) -> list[str]:
        """Read up to one of these tokens, or the end; each item with its scripts."""
        found: list[str] = []
        while self.token and self.token not in ends and self.token != "}":
            opens = not found or (
                found[-1].startswith("<mo") and not found[-1].endswith((")</mo>", "]</mo>", "|</mo>"))
            )
            function = self.token[1:] in FUNCTIONS
            if function and not opens and not found[-1].startswith("<mspace"):
                found.append(THIN)
            found.append(self.scripts(self.atom(opens)))
            if function and found[-1].startswith("<msu") and self.token not in ("", "(", *ends):
                found.append(THIN)
        return [item for item in found if item]

    def scripts(self, base: str) -> str:
        low = high = ""
        while self.token in ("_", "^", "'"):
            sign = self.take()
            if (sign == "_" and low) or (sign == "^" and high):
                raise ValueError(f"mathml: a second {sign!r} in {self.latex!r}")
            if sign == "'":
                high += "<mo>′</mo>"
            elif sign == "_":
                low = self.argument()
            else:
                high = self.argument()
        if low and high:
            return f"<msubsup>{base}{low}{high}</msubsup>"
        return f"<msub>{base}{low}</msub>" if low else f"<msup>{base}{high}</msup>" if high else base

    def argument(self) -> str:
        """Read what a command or a script is applied to: a group, a command or one character."""
        if self.token == "{":
            return self.group()
        return self.atom(True)

    def group(self, wrap: str = "mrow") -> str:
        self.take("{")
        inside = self.items(())
        self.take("}")
        return inside[0] if len(inside) == 1 and wrap == "mrow" else f"<{wrap}>{''.join(inside)}</{wrap}>"

    def words(self) -> str:
        """Read a group as text."""
        self.take("{")
        depth, parts = 1, list[str]()
        for part in self.blanks():
            depth += (part == "{") - (part == "}")
            if not depth:
                return "".join(parts)
            parts.append(part)
        raise ValueError(f"mathml: '}}' is missing in {self.latex!r}")

    def blanks(self) -> Iterator[str]:
        """Yield the tokens from here on with the blanks between them, and go along."""
        seen = 0
        for part in self.raw:
            if seen >= self.at:
                self.at += bool(part.strip())
                yield part
            seen += bool(part.strip())

    def atom(self, first: bool) -> str:
        token = self.token
        if token == "{":
            return self.group()
        self.take()
        if token.startswith("\\"):
            return self.command(token[1:])
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token.isalpha():
            return f"<mi>{token}</mi>"
        return _sign({"-": "−"}.get(token, token), ' form="prefix"' if token == "-" and first else "")

    def command(self, name: str) -> str:
        if name in SPACES:
            return f'<mspace width="{SPACES[name]}"></mspace>'
        if name in NOTHING:
            return ""
        if name in SIGNS:
            return _sign(SIGNS[name]) if SIGNS[name] else ""
        if name in LETTERS:
            return f"<mi>{LETTERS[name]}</mi>"
        if name in FUNCTIONS:
            gap = "" if self.token in ("(", "_", "^") else THIN
            return f"<mi>{name}</mi>{gap}"
        if name in ACCENTS:
            return f'<mover accent="true">{self.argument()}<mo stretchy="false">{ACCENTS[name]}</mo></mover>'
        if not name[0].isalpha():  # \_ or \{
            return _sign(name)
        if name not in _COMMANDS:
            raise ValueError(f"mathml: unknown command \\{name} in {self.latex!r}")
        return _COMMANDS[name](self)

    def matrix(self) -> str:
        for part in "{bmatrix}":
            self.take(part)
        rows, cells = list[str](), list[str]()
        while True:
            cells.append(f"<mtd>{''.join(self.items(('&', chr(92) * 2, chr(92) + 'end')))}</mtd>")
            end = self.take()
            if end != "&":
                rows.append(f"<mtr>{''.join(cells)}</mtr>")
                cells = []
            if end == r"\end":
                break
        for part in "{bmatrix}":
            self.take(part)
        return f'<mtable class="matrix">{"".join(rows)}</mtable>'


def _sign(text: str, more: str = "") -> str:
    fixed = ' stretchy="false"' if text in "()[]|⌊⌋" else ' largeop="false"' if text in "∑∏" else ""
    tight = ' lspace="0" rspace="0"' if text in "¬" else ""
    return f"<mo{fixed}{tight}{more}>{escape(text)}</mo>"


def _fraction(reader: _Reader) -> str:
    return f"<mfrac>{reader.argument()}{reader.argument()}</mfrac>"


def _bar(reader: _Reader) -> str:
    return f'<mrow class="bar">{reader.argument()}</mrow>'


def _relation(reader: _Reader) -> str:
    sign = reader.words()
    if reader.token == "=":
        sign += reader.take()
    return f'<mo lspace=".28em" rspace=".28em">{escape(sign)}</mo>'


def _text(reader: _Reader) -> str:
    """Write words; between dollars in them stand formulas."""
    pieces = re.split(r"(?<!\\)\$", reader.words())
    written = [mathml(p)[6:-7] if i % 2 else f"<mtext>{_unescaped(p)}</mtext>" for i, p in enumerate(pieces) if p]
    return written[0] if len(written) == 1 else f"<mrow>{''.join(written)}</mrow>"


def _unescaped(text: str) -> str:
    text = re.sub(r"\\([a-zA-Z]+)(?:\{\})?", lambda m: TEXTS.get(m[1], m[1]), text)
    text = re.sub(r"\\(.)", r"\1", text)
    return escape(re.sub(r"^ | $", "\u00a0", text))


def _upright(reader: _Reader) -> str:
    word = _unescaped(reader.words())
    return f'<mi mathvariant="normal">{word}</mi>' if len(word) == 1 else f"<mi>{word}</mi>"


_COMMANDS: dict[str, Callable[[_Reader], str]] = {
    "frac": _fraction, "tfrac": _fraction, "sqrt": lambda reader: f"<msqrt>{reader.argument()}</msqrt>",
    "bar": _bar, "overline": _bar, "mathrm": _upright, "text": _text, "mathrel": _relation,
    "mathbf": lambda reader: f'<mrow class="bold">{reader.argument()}</mrow>', "begin": _Reader.matrix,
    "operatorname": _upright,
}  # fmt: skip
