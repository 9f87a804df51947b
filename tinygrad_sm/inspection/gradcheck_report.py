"""What `gradcheck` reports: rows of numbers, a table to read, and the error that carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..text import visible


@dataclass(frozen=True)
class GradcheckRow:
    """The gradient of one output with respect to one input, at its worst entry.

    Errors are measured against `tolerance` = atol + rtol·max(|analytic|, |numeric|) + what the numeric value may be
    wrong by itself; `largest` is the largest magnitude of the whole gradient.
    """

    order: int
    output: str
    input: str
    shape: tuple[int, ...]
    index: tuple[int, ...]
    analytic: float
    numeric: float
    tolerance: float
    largest: float
    ok: bool
    note: str = ""

    @property
    def error(self) -> float:
        """|analytic − numeric|."""
        return abs(self.analytic - self.numeric)

    @property
    def ratio(self) -> float:
        """The error over the tolerance: 1 at most where the gradient is right."""
        return (
            0.0
            if self.error == 0
            else float(np.nan_to_num(self.error / self.tolerance if self.tolerance else np.inf, nan=np.inf))
        )

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        place = ", ".join(map(str, self.index))
        return (
            str(self.order), self.output, self.input, str(self.shape), f"[{place}]", f"{self.analytic:.9g}",
            f"{self.numeric:.9g}", f"{self.ratio:.2g}", "yes" if self.ok else "NO",
        )  # fmt: skip


HEADER = ("order", "output", "input", "shape", "worst entry", "analytic", "numeric", "error/tolerance", "ok")


@dataclass(frozen=True, repr=False)
class GradcheckReport:
    """What `gradcheck` found: a row per output and input. It is true if every row is ok, and prints as a table.

    >>> import tinygrad_sm as sm
    >>> report = sm.gradcheck(lambda x: x * x, sm.Tensor([1.0, 2.0], requires_grad=True, dtype="float64"))
    >>> bool(report), report.failures
    (True, ())
    """

    name: str
    rows: tuple[GradcheckRow, ...]

    @property
    def failures(self) -> tuple[GradcheckRow, ...]:
        """The rows that are not ok."""
        return tuple(row for row in self.rows if not row.ok)

    @property
    def error(self) -> float:
        """The largest error, as a share of the largest entry of any gradient (of 1e-8, if all are but rounding)."""
        return max(row.error for row in self.rows) / max(1e-8, *(row.largest for row in self.rows))

    def __bool__(self) -> bool:
        return not self.failures

    def __repr__(self) -> str:
        result = f"{len(self.failures)} of {len(self.rows)} wrong" if self.failures else f"{len(self.rows)} right"
        return "\n".join([f"gradcheck of {self.name}: {result}", table(HEADER, self.rows), *_notes(self.rows)])


class GradcheckError(AssertionError):
    """A gradient is wrong; `report` is the whole report.

    >>> import tinygrad_sm as sm
    >>> issubclass(sm.inspection.GradcheckError, AssertionError)
    True
    """

    def __init__(self, report: GradcheckReport) -> None:
        bad = report.failures
        head = (
            f"gradcheck of {report.name}: {len(bad)} of {len(report.rows)} gradients of Σ y·c, with random c, are wrong"
        )
        super().__init__("\n".join([head, table(HEADER, bad), *(_notes(bad) or [RULE])]))
        self.report = report

    def __reduce__(self) -> Any:
        return GradcheckError, (self.report,)


RULE = "hint: the rule of an op on the way is wrong; sm.ops.check() checks each op by itself"


def table(header: Sequence[str], rows: Sequence[Any]) -> str:
    """Return rows, which know their `cells()`, as aligned text."""
    lines = [[visible(cell) for cell in line] for line in (header, *(row.cells() for row in rows))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _notes(rows: Sequence[GradcheckRow]) -> list[str]:
    return [visible(f"{row.output}, {row.input}: {row.note}") for row in rows if row.note]
