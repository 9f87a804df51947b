r"""Reading the LaTeX of the registry as a formula, so that it can be compared with the rule as well.

Only what the registry uses is known: `\bar x` is dx, a space or `\,` between two things is a product.
"""

from __future__ import annotations

import re

WORDS = {
    r"\textstyle": "", r"\mathbf 1": "1", r"\tfrac12": "½", r"\tfrac{2}{\sqrt\pi}": "(2/√π)", r"\sqrt\pi": "√π",
    r"\sigma": "σ", r"\epsilon": "ε", r"\varphi": "φ", r"\Phi": "Φ", r"\pi": "π", r"\ell": "ℓ", r"\circ": "∘",
    r"\cdot": "·", r"\le": "≤", r"\ge": "≥", r"\ne": "≠", r"\log": "log ", r"\cos": "cos ", r"\sin": "sin ",
    r"\tanh": "tanh ", r"\neg": "not ", r"\hat x": "x\u0302", "^\\top": "ᵀ", "u'": "u′", "-": "−",
}  # fmt: skip
LOW = {"i": "ᵢ", "j": "ⱼ", "n": "ₙ"}
SPOKEN = ("log", "cos", "sin", "tanh", "not", "sign")


def as_formula(latex: str) -> str:
    r"""Return a formula in the language of the registry.

    >>> as_formula(r"\bar a = g\,b,\; \bar b = -g\,y / b")
    'da = g·b, db = −g·y/b'
    >>> as_formula(r"p_i\,(g_i - \textstyle\sum_j g_j p_j)/T")
    'pᵢ·(gᵢ − Σⱼ gⱼ·pⱼ)/T'
    """
    text = latex.replace(r",\;", ",")
    text = re.sub(r"\\mathrm\{(\w+)\}", r"\1", text)
    text = re.sub(r"\\sqrt\{([^{}]*)\}", r"√(\1)", text)
    text = re.sub(r"\\bar (\w)", r"d\1", text)
    text = re.sub(r"\\(sum|prod)(?:_(\w)|_\{(\w) (\\\w+) (\w)\})?", _big, text)
    for word, meant in sorted(WORDS.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(word, meant)
    text = re.sub(r"_([ijn])\b", lambda m: LOW[m[1]], text)
    text = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text).replace("^2)", "²)").replace("^2", "²").replace(r"\,", " ")
    text = re.sub(r" ?/ ?", "/", text)
    text = re.sub(r"\s+", " ", text)
    return re.sub(r"(?<=[^\s(,+−=<>≤≥≠∘·/]) (?=[^\s)+−=<>≤≥≠∘·/])", _product, text)


def _big(match: re.Match[str]) -> str:
    sign = {"sum": "Σ", "prod": "Π"}[match[1]]
    if match[3]:
        relation = {r"\ge": "≥", r"\le": "≤", r"\ne": "≠"}[match[4]]
        return f"{sign}{LOW[match[3]]}{relation}{LOW[match[5]]}"
    return sign + LOW.get(match[2] or "", "")


def _product(match: re.Match[str]) -> str:
    """Tell whether a space is a product: not after a function or the index of a sum."""
    before = match.string[: match.start()]
    spoken = before.endswith(SPOKEN) or re.search(r"[ΣΠ][ᵢⱼₙ≤≥≠]*$", before)
    return " " if spoken else "·"
