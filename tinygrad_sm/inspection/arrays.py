"""Arrays in words: small ones in full, of larger ones shape, RMS and the first numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import rms
from ..tensor import Array
from .formula_latex import number_latex, tex

FULL = 24  # elements of an array that is shown in full
WIDEST = 8  # columns of a matrix that fits a terminal
CORNER = 3  # numbers that are shown of a row of a larger one


def number(x: Any) -> str:
    """Write a number with four digits that count.

    >>> number(0.30000001), number(123456.0), number(np.int64(3)), number(True)
    ('0.3', '1.235e+05', '3', 'True')
    """
    if isinstance(x, (bool, np.bool_, int, np.integer)):
        return str(x)
    return f"{float(x):.4g}" if abs(x) > 0 or np.isnan(x) else "0"


def is_full(a: Array, full: int) -> bool:
    """Tell whether an array is shown element by element."""
    fits = a.ndim < 2 or full > FULL or a.shape[-1] <= WIDEST
    return a.size <= full and a.ndim <= 3 and fits


def is_written(a: Any, full: int = FULL) -> bool:
    """Tell whether a value stands as numbers, and not as the size of an array."""
    a = np.asarray(a)
    return a.ndim == 0 or is_full(a, full)


def array_text(a: Any, full: int = FULL, brief: bool = False) -> str:
    """Write an array: a small one in full, of a larger one shape, RMS and the first numbers.

    >>> print(array_text(np.array([[1.0, -0.5], [0.25, 100.0]])))
    [[   1  -0.5]
     [0.25   100]]
    >>> print(array_text(np.arange(100.0).reshape(10, 10)))
    float64 (10, 10), RMS 57.3, begins [[0 1 2 …] [10 11 12 …] …]
    """
    a = np.asarray(a)
    if a.ndim == 0:
        return number(a[()])
    if is_full(a, full):
        return _whole(a)
    size = f"{a.shape}, RMS {number(rms(a))}"
    return size if brief else f"{a.dtype} {size}, begins {_corner(a)}"


def _whole(a: Array) -> str:
    cells = np.array([number(x) for x in a.reshape(-1)], dtype=object).reshape(a.shape)
    width = max((len(c) for c in cells.reshape(-1)), default=0)

    def write(part: Array, indent: int) -> str:
        if part.ndim == 1:
            return f"[{'  '.join(c.rjust(width) for c in part)}]"
        between = "\n" * (part.ndim - 1) + " " * (indent + 1)
        return f"[{between.join(write(row, indent + 1) for row in part)}]"

    return write(cells, 0)


def _corner(a: Array) -> str:
    if a.ndim == 0:
        return number(a[()])
    shown = a[: {1: CORNER, 2: 2}.get(a.ndim, 1)]
    more = " …" if len(a) > len(shown) else ""
    return f"[{' '.join(_corner(row) for row in shown)}{more}]"


def array_latex(a: Any, full: int = FULL, brief: bool = False) -> str:
    r"""Write an array as a LaTeX matrix; a larger one in words.

    >>> print(array_latex(np.array([1.0, 2.5])))
    \begin{bmatrix} 1 & 2.5 \end{bmatrix}
    """
    a = np.asarray(a)
    if a.ndim == 0:
        return number_latex(number(a[()]))
    if a.ndim > 2 or not is_full(a, full):
        return rf"\text{{{tex(_flat(array_text(a, full, brief)))}}}"
    lines = (" & ".join(number_latex(number(x)) for x in row) for row in a.reshape(-1, a.shape[-1]))
    inside = r" \\ ".join(lines)
    return rf"\begin{{bmatrix}} {inside} \end{{bmatrix}}"


def _flat(text: str) -> str:
    return " ".join(text.split())
