"""Measure the accuracy of this library and of others, and write docs/accuracy.md.

Run `python tests/accuracy/measure.py`; it takes about half a minute. Libraries that are not installed are left out,
and the page says so.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from libraries import LIBRARIES  # noqa: E402 (after the path is set)
from ulp import errors, of_itself, right  # noqa: E402

MODULES = {"PyTorch": "torch", "SciPy": "scipy", "JAX": "jax"}
DETAILED = [
    "softmax", "log_softmax", "logsumexp", "cross_entropy", "p_y - 1", "gradient of cross_entropy",
    "gradient of softmax", "gradient of log_softmax, one-hot", "gradient of logsumexp",
]  # fmt: skip
BARS = {np.float32: 4, np.float64: 8}
PREFACE = """# Accuracy

Errors against mpmath at no fewer than 50 digits, in units in the last place (ulp): 1 is the gap between neighbouring
floats, and the best that rounding allows is 0.5. Written by `python tests/accuracy/measure.py`; `tests/accuracy/` holds
the rows and the tests.

- Inputs are taken exactly as the floats that they are. Each number is the worst over the entries and rows of a kind.
- log_softmax, logsumexp, the losses and p_y − 1 are measured in ulp of the right result itself. Softmax and gradients
  are measured in ulp of the largest right entry of their row.
- "gradient of f" is its vector-Jacobian product with a random cotangent, or with a one-hot one; that of a loss or of
  logsumexp, with 1. "smoothed" is label smoothing of 0.1; "weighted", class weights; "probabilities", targets that are
  distributions.
- 1e7 ulp of float32, or 1e15 of float64, means that no digit is right. `inf` is a NaN or an infinity that should be a
  number.
- Of rows of over 300 classes, about 300 entries are compared; sums are over all. JAX has no cross-entropy of its own:
  the usual `-sum(q * log_softmax(z))` stands for it. SciPy has no gradients.
"""
LIMITS = """## Where the aim is missed, or another library is nearer

The aim is 4 ulp in float32 and 8 in float64; what misses it is marked with `*`, and listed in the tests as expected to
fail. These are gradients whose two sides nearly agree in *every* entry of a row, so that the row's largest entry is
small too and the rounding of the sides shows beside it: label smoothing where the probabilities already agree with the
smoothed target, and a random cotangent of log_softmax that happens to be nearly proportional to p. Computing such rows
in wider floats helps: it is done for float32 where rows have at most 64 entries, and costs too much for longer ones.

Where another library is nearly right, it may be nearer by the rounding of one operation: the tests call it worse only
above 2.5 ulp in float32 and 4.5 in float64. Single entries are compared in the unit of their quantity, the worst of
each kind of row. Of float64 log-probabilities that sum to 1 up to rounding, and of n logits that all equal −log n, the
logsumexp is what rounding left over, and no library here can tell it.
"""


def _available() -> dict[str, Any]:
    return {name: make() for name, make in LIBRARIES.items() if name == "ours" or find_spec(MODULES[name])}


def _measured(dtype: Any, libraries: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the worst error by quantity, kind of row, and library."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for quantity in libraries["ours"]:
        unit = 0 if of_itself(quantity) else 1
        found[quantity] = {
            case.name: {
                name: errors(case, rows, quantity, library[quantity](case))[unit]
                for name, library in libraries.items()
                if quantity in library
            }
            for case, rows in right(dtype, every=True)
        }
    return found


def _cell(error: float | None, bar: float, mark: bool) -> str:
    if error is None:
        return ""
    text = f"{error:.2f}" if error < 100 else f"{error:.1e}".replace("e+0", "e").replace("e+", "e")
    return text + ("*" if mark and error > bar else "")


def _lines(head: str, rows: dict[str, dict[str, float]], names: list[str], bar: float) -> list[str]:
    lines = [f"| {head} | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for label, cells in rows.items():
        lines.append(f"| {label} | {' | '.join(_cell(cells.get(n), bar, n == 'ours') for n in names)} |")
    return [*lines, ""]


def page() -> str:
    """Return the page, with the tables measured here and now."""
    libraries = _available()
    names = list(libraries)
    versions = [f"Python {platform.python_version()}", f"NumPy {np.__version__}"]
    versions += [f"{name} {version(MODULES[name])}" for name in names if name != "ours"]
    missing = [name for name in LIBRARIES if name not in libraries]
    lines = [PREFACE, f"Measured with {', '.join(versions)}, on one {platform.machine()} core."]
    lines += [f"Not installed here, and so not measured: {', '.join(missing)}."] if missing else []
    lines += ["", LIMITS]
    for dtype, bar in BARS.items():
        measured = _measured(dtype, libraries)
        lines += [f"## {dtype.__name__}: the worst over all kinds of rows", ""]
        worst = {
            quantity: {n: max(cells[n] for cells in kinds.values()) for n in names if n in next(iter(kinds.values()))}
            for quantity, kinds in measured.items()
        }
        lines += _lines("", worst, names, bar)
        for quantity in DETAILED:
            unit = "itself" if of_itself(quantity) else "the row's largest"
            lines += [f"### {dtype.__name__} {quantity}, in ulp of {unit}", ""]
            lines += _lines("rows", measured[quantity], names, bar)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    text = page()
    (ROOT / "docs" / "accuracy.md").write_text(text, encoding="utf-8")
    print(text)
