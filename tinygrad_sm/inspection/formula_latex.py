"""Formulas as LaTeX, for notebooks and Markdown."""

from __future__ import annotations

import re

from .formula import Term

_SPECIAL = {
    "\\": r"\backslash ", "{": r"\{", "}": r"\}", "$": r"\$", "%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_",
    "^": r"\hat{\ }", "~": r"\sim ", "<": r"\lt ", ">": r"\gt ", "`": r"\text{‘}", "|": r"\vert ",
}  # fmt: skip
GREEK = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\epsilon", "λ": r"\lambda", "μ": r"\mu",
    "π": r"\pi", "σ": r"\sigma", "τ": r"\tau", "φ": r"\varphi", "Φ": r"\Phi", "ℓ": r"\ell", "∂": r"\partial ",
    "Δ": r"\Delta",
}  # fmt: skip
MARKS = {"\u0302": r"\hat", "\u0303": r"\tilde", "\u0304": r"\bar"}
SIGNS = {"=": "=", "≠": r"\ne", "<": "<", ">": ">", "≤": r"\le", "≥": r"\ge", "∘": r"\circ", "·": r"\,"}
SUBS = dict(zip("ᵢⱼₙₖ₀₁₂₃₄₅₆₇₈₉", "ijnk0123456789", strict=True))
_RANK = {"+": 1, "−": 1, "neg": 1, "where": 0, "rel": 0, "not": 0, "big": 2, "·": 2, "∘": 2, "": 3, "/": 5, "^": 4,
         "ᵀ": 4, "at": 4, "or 0": 0}  # fmt: skip


def escaped(text: str) -> str:
    r"""Write any text so that LaTeX shows it as it is, in mathematics.

    >>> print(escaped(r"a_b$\x"))
    a\_b\$\backslash x
    """
    return "".join(GREEK[c] + " " if c in GREEK else _SPECIAL.get(c, c) for c in text)


def number_latex(text: str) -> str:
    r"""Write a number, as Python prints it, in LaTeX.

    >>> print(number_latex("1.5e-05"), number_latex("1e+06"), number_latex("-inf"))
    1.5 \cdot 10^{-5} 10^{6} -\infty
    """
    match = re.fullmatch(r"(-?)([\d.]+)e([+-])0*(\d+)", text)
    if match:
        sign, digits, exponent_sign, exponent = match.groups()
        factor = "" if digits == "1" else rf"{digits} \cdot "
        return rf"{sign}{factor}10^{{{exponent_sign.replace('+', '')}{exponent}}}"
    return {"nan": r"\mathrm{NaN}", "inf": r"\infty", "-inf": r"-\infty"}.get(text, text)


def name_latex(name: str, sub: str = "") -> str:
    r"""Write a name: a letter in italics, a word upright.

    >>> print(name_latex("x̂", "ᵢ"), name_latex("logits"), name_latex("h2", "ⱼ"))
    \hat{x}_{i} \mathrm{logits} h_{2,j}
    """
    core = name.rstrip("′")
    prime = "'" * (len(name) - len(core))
    low = "".join(SUBS.get(c, c) for c in sub)
    if len(core) == 2 and core[1] in MARKS:
        text = f"{MARKS[core[1]]}{{{escaped(core[0]).strip()}}}"
    elif match := re.fullmatch(r"([^\W\d_])(\d+)", core):
        text, low = escaped(match[1]).strip(), f"{match[2]},{low}".rstrip(",")
    elif core.startswith("∂") and len(core) > 1:
        text = rf"\partial {name_latex(core[1:])}"
    else:
        text = escaped(core).strip() if len(core) == 1 else rf"\mathrm{{{escaped(core)}}}"
    return text + prime + (f"_{{{low}}}" if low else "")


def as_latex(term: Term, least: int = 0) -> str:
    r"""Write a formula as LaTeX.

    >>> from tinygrad_sm.inspection.formula import parse
    >>> print(as_latex(parse("pᵢ·(gᵢ − Σⱼ gⱼ·pⱼ)/T")))
    \frac{p_{i}\,(g_{i} - \textstyle\sum_{j} g_{j}\,p_{j})}{T}
    """
    text = _write(term)
    return f"({text})" if _RANK.get(term[0], 5) < least else text


def _write(term: Term) -> str:
    kind, *rest = term
    if kind == "num":
        return r"\tfrac12" if rest[0] == "½" else number_latex(str(rest[0]))
    if kind == "name":
        gradient = re.fullmatch(r"d([a-zA-Zℓ])", rest[0])  # "dq", as the registry writes it
        return _gradient(gradient[1], rest[1]) if gradient else name_latex(*rest)
    if kind == "grad":
        return _gradient(*rest)
    if kind in ("+", "−"):
        return f"{as_latex(rest[0], 1)} {'+' if kind == '+' else '-'} {as_latex(rest[1], 2)}"
    if kind in ("·", "∘", ""):
        return _product(kind, rest[0], rest[1])
    if kind == "/":
        return rf"\frac{{{as_latex(rest[0])}}}{{{as_latex(rest[1])}}}"
    if kind == "big":
        return _big(*rest)
    if kind == "rel":
        return " ".join(SIGNS[part] if isinstance(part, str) else as_latex(part, 1) for part in rest)
    if kind == "where":
        value, condition, other = rest
        more = rf",\; \text{{else }} {as_latex(other)}" if other else ""
        return rf"{as_latex(value)} \;\text{{where }} {as_latex(condition)}{more}"
    if kind == "call":
        return _call(rest[0], [as_latex(a) for a in rest[1:]])
    return {
        "neg": lambda: "-" + as_latex(rest[0], 2),
        "^": lambda: (
            f"{as_latex(rest[0], 5) if rest[0][0] != '/' else '(' + as_latex(rest[0]) + ')'}^{{{as_latex(rest[1])}}}"
        ),
        "ᵀ": lambda: as_latex(rest[0], 5) + r"^\top",
        "at": lambda: f"{as_latex(rest[0], 5)}[{as_latex(rest[1])}]",
        "if": lambda: f"[{as_latex(rest[0])}]",
        "abs": lambda: rf"\lvert {as_latex(rest[0])} \rvert",
        "not": lambda: rf"\neg {as_latex(rest[0], 1)}",
        "or 0": lambda: as_latex(rest[0]) + r"\; (0 \text{ at } 0)",
    }[kind]()


def _gradient(name: str, sub: str = "") -> str:
    low = "".join(SUBS.get(c, c) for c in sub)
    over = rf"\bar{{{name_latex(name)}}}" if len(name) == 1 else rf"\overline{{{name_latex(name)}}}"
    return over + (f"_{{{low}}}" if low else "")


def _product(sign: str, a: Term, b: Term) -> str:
    left = f"({as_latex(a)})" if a[0] == "big" else as_latex(a, 2)
    between = rf" {SIGNS['∘']} " if sign == "∘" else r" \cdot " if b[0] == "num" else SIGNS["·"]
    return f"{left}{between}{as_latex(b, 2 if b[0] == 'big' else 3)}"


def _big(sign: str, index: str, body: Term) -> str:
    low = "".join(SUBS.get(c, f" {SIGNS.get(c, c)} ") for c in index)
    word = r"\textstyle" + {"Σ": r"\sum", "Π": r"\prod"}[sign]
    return f"{word}{f'_{{{low}}}' if low else ''} {as_latex(body, 2)}"


def _call(name: str, arguments: list[str]) -> str:
    inside = ", ".join(arguments)
    if name == "√":
        return rf"\sqrt{{{inside}}}"
    if name == "exp" and len(inside) <= 12:
        return f"e^{{{inside}}}"
    known = {"log": r"\log", "exp": r"\exp", "sin": r"\sin", "cos": r"\cos", "tanh": r"\tanh", "max": r"\max",
             "min": r"\min", "Φ": r"\Phi", "φ": r"\varphi", "σ": r"\sigma"}  # fmt: skip
    word = known.get(name, rf"\mathrm{{{name}}}")
    return (
        f"{word} {inside}"
        if re.fullmatch(r"[a-z](_\{\w+\})?", inside) and name in ("log", "sin", "cos", "tanh")
        else f"{word}({inside})"
    )


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "−": "$-$",
    "·": r"$\cdot$", "√": r"$\surd$", "Σ": r"$\Sigma$", "…": r"\dots{}", "≠": r"$\ne$", "≤": r"$\le$", "≥": r"$\ge$",
    "×": r"$\times$", "→": r"$\to$", "∞": r"$\infty$", "²": "$^2$", "ᵀ": r"$^\top$", "`": "'",
    "½": r"$\tfrac12$", "¼": r"$\tfrac14$", "∘": r"$\circ$", "–": "--", "‘": "`", "’": "'",
} | {c: f"$_{low}$" for c, low in SUBS.items()}  # fmt: skip


def tex(text: str) -> str:
    r"""Write any text so that LaTeX shows it as it is.

    >>> print(tex("50 % of a_b, x̂ᵢ"))
    50 \% of a\_b, $\hat{x}$$_i$
    """
    marked = re.split(f"([a-zA-Z][{''.join(MARKS)}])", text)
    return "".join(f"${name_latex(part)}$" if i % 2 else _tex(part) for i, part in enumerate(marked))


def _tex(text: str) -> str:
    return "".join(_TEX.get(c) or (f"${GREEK[c].strip()}$" if c in GREEK else c) for c in text)
