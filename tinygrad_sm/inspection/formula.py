"""The formulas of the registry as data: read from Unicode text, with other names put in, written as text or LaTeX.

A formula is a nested tuple, whose first entry says what it is:

    ("num", "2")  ("name", "x", "ᵢ")  ("grad", "x", "")  ("neg", a)  ("+", a, b)  ("−", a, b)  ("·", a, b)  ("∘", a, b)
    ("", a, b): 2x  ("/", a, b)  ("^", a, b)  ("ᵀ", a)  ("call", "log", a, ...)  ("at", a, i): z[y]  ("if", c): [x > 0]
    ("abs", a)  ("big", "Σ", "ⱼ≥ᵢ", a)  ("rel", a, "≤", b, ...)  ("not", c)  ("where", a, c, b or None)  ("or 0", a)

`tests/formulas.py` gives them their meaning on arrays, and compares it with the rules of the ops.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

Term = tuple[Any, ...]
SUPER = dict(zip("0123456789+−nxbijk", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣᵇⁱʲᵏ", strict=True))
PLAIN = {high: low for low, high in SUPER.items()}
SUBSCRIPTS = "ᵢⱼₙₖ"
FUNCTIONS = {
    "log", "exp", "sin", "cos", "tanh", "sign", "erf", "mean", "var", "max", "min", "softmax", "diag", "tril", "triu",
    "flip", "reshape", "Φ", "φ", "σ",
}  # fmt: skip
SPOKEN = {"log", "sin", "cos", "tanh", "sign", "erf", "mean", "var", "max", "min"}  # written without parentheses
ALWAYS_CALLED = {"Φ", "φ", "σ"}  # as names they stand for themselves; called, they have parentheses
RELATIONS = "=≠<>≤≥"
_NAME = r"[A-Za-zα-ωΦΔℓ∂][\u0302-\u0304]?(?:[A-Za-z0-9_α-ωΦΔℓ][\u0302-\u0304]?)*′?"
_TOKEN = re.compile(
    rf"\s*(?:(?P<num>\d+(?:\.\d+)?|½)|(?P<big>[ΣΠ](?:[{SUBSCRIPTS}](?:[≠≤≥<>][{SUBSCRIPTS}])?)?)"
    rf"|(?P<name>{_NAME})(?P<sub>[{SUBSCRIPTS}₀-₉]*)|(?P<super>[{''.join(PLAIN)}]+|ᵀ)"
    rf"|(?P<sign>[-−+·∘/^(),\[\]|√{RELATIONS}]))"
)


class FormulaError(ValueError):
    """Text that is no formula, as the words "g, cut into the parts"."""


# -- reading ------------------------------------------------------------------------------------


def clauses(text: str) -> list[tuple[str, str]]:
    """Cut a text at its commas into formulas, each with the name that it defines, or "".

    >>> clauses("dz·W, Σₙ dz, with dz = g·(p − y)/N")
    [('', 'dz·W'), ('', 'Σₙ dz'), ('dz', 'g·(p − y)/N')]
    >>> clauses("g where x > 0, else 0")
    [('', 'g where x > 0, else 0')]
    """
    found = []
    for part in cut(text, ","):
        part = part.strip().removeprefix("with ")
        head = re.match(rf"({_NAME})[{SUBSCRIPTS}]*\s+=\s+", part)
        found.append((head[1], part[head.end() :]) if head else ("", part))
    return found


def cut(text: str, sign: str) -> list[str]:
    """Cut a text at a sign where it stands outside all brackets; a comma before "else" is none.

    >>> cut("Jᵢⱼ = [i = j] − pⱼ", " = "), cut("x where x > 0, else 0", ", ")
    (['Jᵢⱼ', '[i = j] − pⱼ'], ['x where x > 0, else 0'])
    """
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([") - (c in ")]")
        if not depth and i >= start and text.startswith(sign, i) and not text.startswith(", else ", i):
            parts.append(text[start:i])
            start = i + len(sign)
    return [*parts, text[start:]]


@cache
def parse(text: str) -> Term:
    """Read one formula; a remark in words, in parentheses at its end, is left out.

    >>> parse("−g·y/b")
    ('neg', ('/', ('·', ('name', 'g', ''), ('name', 'y', '')), ('name', 'b', '')))

    Raises
    ------
    FormulaError
        For text that is none.
    """
    kept = re.sub(r" \((?!0 at 0)[a-z][a-z ]+\)$", "", text)
    body = kept.removesuffix(" (0 at 0)")
    reader = _Reader(body)
    term = reader.piece()
    if reader.kind != "end":
        raise FormulaError(f"no formula: {text!r}, at {reader.value!r}")
    return ("or 0", term) if body != kept else term


def parsed(text: str) -> Term | None:
    """Read one formula; None for text that is none."""
    try:
        return parse(text)
    except FormulaError:
        return None


class _Reader:
    """Recursive descent over the tokens of one formula; `kind` and `value` are those of the next token."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.advance()

    def advance(self) -> str:
        before = getattr(self, "value", "")
        self.start = self.at
        match = _TOKEN.match(self.text, self.at)
        if self.text[self.at :].strip() == "":
            self.kind, self.value, self.sub = "end", "", ""
        elif match is None:
            raise FormulaError(f"no formula: {self.text!r}, at {self.text[self.at :]!r}")
        else:
            self.kind = str(match.lastgroup) if match.lastgroup != "sub" else "name"
            self.value, self.sub = match[self.kind], match["sub"] or ""
            self.spaced = self.text[self.at] == " "
            self.at = match.end()
        return before

    def take(self, value: str) -> None:
        if self.value != value:
            raise FormulaError(f"no formula: {self.text!r} lacks {value!r} at {self.text[self.start :]!r}")
        self.advance()

    def piece(self) -> Term:
        term = self.sum()
        if self.value != "where":
            return term
        self.advance()
        condition = self.condition()
        if self.value != ",":
            return ("where", term, condition, None)
        self.take(",")
        self.take("else")
        return ("where", term, condition, self.sum())

    def condition(self) -> Term:
        if self.value == "not":
            self.advance()
            return ("not", self.condition())
        parts: list[Any] = [self.sum()]
        while self.kind == "sign" and self.value in RELATIONS:
            parts += [self.advance(), self.sum()]
        return parts[0] if len(parts) == 1 else ("rel", *parts)

    def sum(self) -> Term:
        term = self.signed()
        while self.kind == "sign" and self.value in "+−-":
            term = (self.advance().replace("-", "−"), term, self.product())
        return term

    def signed(self) -> Term:
        if self.kind == "sign" and self.value in "−-":
            self.advance()
            return ("neg", self.product())
        return self.product()

    def product(self) -> Term:
        term = self.factor()
        while self.kind == "sign" and self.value in "·∘/":
            term = (self.advance(), term, self.factor())
        return term

    def factor(self) -> Term:
        term = self.power()
        if term[0] == "num" and self.value not in ("where", "else") and (self.kind == "name" or self.value == "("):
            return ("", term, self.power())  # 2x, 2(x + 1); two names side by side are words
        return term

    def power(self) -> Term:
        term = self.atom()
        while True:
            if self.kind == "super":
                high = self.advance()
                term = ("ᵀ", term) if high == "ᵀ" else ("^", term, parse("".join(PLAIN[c] for c in high)))
            elif self.value == "^":
                self.advance()
                term = ("^", term, self.atom())
            elif self.value == "[" and not self.spaced:
                self.advance()
                term = ("at", term, self.sum())
                self.take("]")
            else:
                return term

    def atom(self) -> Term:
        if self.kind == "num":
            return ("num", self.advance())
        if self.kind == "big":
            sign = self.advance()
            return ("big", sign[0], sign[1:], self.product())
        if self.kind == "name":
            sub = self.sub
            name = self.advance()
            called = self.value == "(" and not self.spaced
            if name in FUNCTIONS and (called or name not in ALWAYS_CALLED):
                return ("call", name, *(self.arguments() if called else (self.power(),)))
            return ("name", name, sub)
        if self.value == "√":
            self.advance()
            return ("call", "√", self.power())
        return self.bracket()

    def arguments(self) -> list[Term]:
        self.take("(")
        found = [self.sum()]
        while self.value == ",":
            self.advance()
            found.append(self.sum())
        self.take(")")
        return found

    def bracket(self) -> Term:
        ends = {"(": ")", "[": "]", "|": "|"}
        if self.value not in ends or self.kind != "sign":
            raise FormulaError(f"no formula: {self.text!r}, at {self.text[self.start :]!r}")
        opening = self.advance()
        inside = self.condition() if opening == "[" else self.sum()
        self.take(ends[opening])
        return {"(": inside, "[": ("if", inside), "|": ("abs", inside)}[opening]


# -- putting names in ---------------------------------------------------------------------------


def substitute(term: Term, names: Mapping[str, Term]) -> Term:
    """Put other terms in place of names, and work out what has only numbers in it.

    >>> g, x, two = ("grad", "h", ""), ("name", "x", ""), ("num", "2")
    >>> as_text(substitute(parse("g·b·aᵇ⁻¹"), {"g": g, "a": x, "b": two}))
    'dh·2·x'
    """
    if term[0] == "name":
        new = names.get(term[1], term)
        return (*new[:2], new[2] + term[2]) if new is not term and new[0] in ("name", "grad") else new
    if (
        term[0] == "at" and f"[{term[2][1]}]" in names
    ):  # z[y], where y stands for the index, and not for the one-hot row
        return ("at", substitute(term[1], names), names[f"[{term[2][1]}]"])
    return _folded(tuple(substitute(part, names) if isinstance(part, tuple) else part for part in term))


def _folded(term: Term) -> Term:
    numbers = [part[1] for part in term[1:] if isinstance(part, tuple) and part[0] == "num"]
    if term[0] in ("^", "/") and term[2] == ("num", "1"):
        return term[1]
    if term[0] in ("·", "∘") and ("num", "1") in term[1:]:
        return term[1] if term[2] == ("num", "1") else term[2]
    if term[0] in ("+", "−") and term[2] == ("num", "0"):
        return term[1]
    if term[0] in ("+", "−") and len(numbers) == 2 and "½" not in numbers:
        a, b = map(float, numbers)
        value = a + b if term[0] == "+" else a - b
        return ("num", f"{value:g}") if value >= 0 else ("neg", ("num", f"{-value:g}"))
    return term


def free_index(term: Term) -> str:
    """Return the subscript that a formula leaves open, as in each entry of a row; "" if there is none.

    >>> free_index(parse("pᵢ·(gᵢ − Σⱼ gⱼ·pⱼ)")), free_index(parse("[j = y]")), free_index(parse("Σⱼ qⱼ"))
    ('ᵢ', 'ⱼ', '')
    """
    return next((c for c in "ᵢⱼ" if c in _open(term)), "")


def _open(term: Term) -> set[str]:
    if term[0] in ("name", "grad"):
        return {"ⱼ"} if term[1] == "j" else set(term[2])
    found = {c for part in term if isinstance(part, tuple) for c in _open(part)}
    return (found | set(term[2])) - {term[2][:1]} if term[0] == "big" else found


def names_in(term: Term) -> set[str]:
    """Return the names that occur in a formula."""
    if term[0] == "name":
        return {term[1]}
    return {name for part in term if isinstance(part, tuple) for name in names_in(part)}


# -- writing ------------------------------------------------------------------------------------

_RANK = {"+": 1, "−": 1, "neg": 1, "where": 0, "rel": 0, "not": 0, "big": 2, "·": 2, "∘": 2, "": 3, "/": 2, "^": 4,
         "ᵀ": 4, "at": 4, "or 0": 0}  # fmt: skip
CODE = re.compile(r"[^\W\d]\w{0,11}$")


def gradient_name(name: str) -> str:
    """Return what stands for ∂L/∂name: "dx"; of what is no short name, "d[fc.weight]"."""
    return f"d{name}" if CODE.match(name) else f"d[{name}]"


def as_text(term: Term, least: int = 0) -> str:
    """Write a formula as Unicode text, in parentheses if it binds less than `least`.

    >>> as_text(parse("g·(1 − y²)")), as_text(parse("−(g/b)·Σⱼ xⱼ"))
    ('g·(1 − y²)', '−g/b·Σⱼ xⱼ')
    """
    text = _TEXT.get(term[0], _call_text)(term)
    return f"({text})" if _RANK.get(term[0], 5) < least else text


def _power_text(term: Term) -> str:
    _, base, exponent = term
    high = as_text(exponent).replace(" ", "")
    if high and all(c in SUPER for c in high):
        return as_text(base, 5) + "".join(SUPER[c] for c in high)
    return f"exp({as_text(exponent)})" if base == ("name", "e", "") else f"{as_text(base, 5)}^{as_text(exponent, 5)}"


def _product_text(term: Term) -> str:
    sign, a, b = term
    right = as_text(b, 2 if b[0] == "big" else 4 if sign == "" else 3)
    glued = sign == "" and (right[0] == "(" or right[0].isalpha())
    left = f"({as_text(a)})" if a[0] == "big" else as_text(a, 2)
    return f"{left}{sign if sign else '' if glued else '·'}{right}"


def _call_text(term: Term) -> str:
    _, name, *arguments = term
    if name == "√":
        return f"√{as_text(arguments[0], 5)}"
    spoken = ("name", "big", "at", "grad") if name == "log" else ("name", "grad")
    if name in SPOKEN and len(arguments) == 1 and arguments[0][0] in spoken:
        return f"{name} {as_text(arguments[0])}"
    return f"{name}({', '.join(map(as_text, arguments))})"


def _where_text(term: Term) -> str:
    _, value, condition, other = term
    return f"{as_text(value)} where {as_text(condition)}" + (f", else {as_text(other)}" if other else "")


_TEXT: dict[str, Callable[[Term], str]] = {
    "num": lambda t: t[1],
    "name": lambda t: t[1] + t[2],
    "grad": lambda t: gradient_name(t[1]) + t[2],
    "neg": lambda t: "−" + as_text(t[1], 2),
    "+": lambda t: f"{as_text(t[1], 1)} + {as_text(t[2], 2)}",
    "−": lambda t: f"{as_text(t[1], 1)} − {as_text(t[2], 2)}",
    "·": _product_text, "∘": _product_text, "": _product_text, "/": _product_text,
    "^": _power_text,
    "ᵀ": lambda t: as_text(t[1], 5) + "ᵀ",
    "at": lambda t: f"{as_text(t[1], 5)}[{as_text(t[2])}]",
    "if": lambda t: f"[{as_text(t[1])}]",
    "abs": lambda t: f"|{as_text(t[1])}|",
    "big": lambda t: f"{t[1]}{t[2]} {as_text(t[3], 2)}",
    "rel": lambda t: " ".join(part if isinstance(part, str) else as_text(part, 1) for part in t[1:]),
    "not": lambda t: f"not {as_text(t[1], 1)}",
    "where": _where_text,
    "or 0": lambda t: f"{as_text(t[1])} (0 at 0)",
}  # fmt: skip
