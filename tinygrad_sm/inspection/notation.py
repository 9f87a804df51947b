"""What the signs in formulas mean, said once at the head of an explanation; only those that occur."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..op import REGISTRY
from .document import Block


def signs(blocks: Iterable[Block], ops: Iterable[str]) -> str:
    """Return a sentence each on the sums, brackets and products in the formulas of these ops, or ""."""
    text = "\n".join(b.text for b in blocks if b.kind in ("equation", "heading"))
    said = []
    if "Σₙ" in text:
        within = "`Σⱼ` is the sum over the entries of a row, and " if "Σⱼ" in text else ""
        said.append(f"{within}`Σₙ` {'that' if within else 'is the sum'} over the rows.")
    if bracket := re.search(r"(?<![\w\]ᵢⱼ])\[[^\W\d_] [=≠<>≤≥] [^\]]+\]", text):
        said.append(f"A bracket such as `{bracket[0]}` is 1 where it holds, else 0.")
    names = list(dict.fromkeys(op for op in ops if op in REGISTRY))
    matrices = [op for op in names if "ᵀ" in REGISTRY[op].gradient and op != "transpose"]
    if matrices and "·" in text:
        where = f"In {listed(matrices)}, a" if len(names) > len(matrices) else "A"
        by_elements = ", and `∘` goes element by element" if "∘" in text else ", not element by element"
        said.append(f"{where} product of two matrices is the matrix product{by_elements}.")
    return " ".join(said)


def listed(words: list[str]) -> str:
    """Join words as in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
