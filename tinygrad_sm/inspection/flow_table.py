"""Statistics of gradients as a table to read, and what is wrong with a gradient."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Mapping, Sequence

from ..text import visible
from ..viz.states import EXPLODING, VANISHING

WIDTH = 100  # of a printed table
ALL = "(all)"  # the name of the whole model
SHOWN = 20  # names in a line that lists parameters


class Rows(dict[str, dict[str, float]]):
    """Rows of statistics by name: a dict that prints as a table, in a notebook too."""

    def __init__(self) -> None:
        super().__init__()
        self.heading = ""
        self.column, self.shapes = "shape", dict[str, str]()  # what stands beside a name
        self.total: dict[str, float] | None = None  # the last line
        self.notes: list[str] = []  # lines below
        self.first = True  # whether nothing was measured before, so that there is no update yet

    def __repr__(self) -> str:
        lines = self._cells()
        rest = [list(column) for column in zip(*(cells for _, cells in lines), strict=True)]
        widths = [max(map(len, column)) for column in rest]
        used = [i for i, width in enumerate(widths) if width]  # no mark, no column for it
        room = max(WIDTH - sum(widths[i] + 2 for i in used), 20)
        names = [visible(name, limit=room) for name, _ in lines]
        first = max(map(len, names))
        body = [
            "  ".join([name.ljust(first), *(cells[i].rjust(widths[i]) for i in used)])
            for name, (_, cells) in zip(names, lines, strict=True)
        ]
        notes = [textwrap.fill(note, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for note in self.notes]
        return "\n".join(line.rstrip() for line in [self.heading, *(body if len(self) else []), *notes])

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        head, *lines = (
            [html.escape(visible(name, limit=60)), *map(html.escape, cells)] for name, cells in self._cells()
        )
        look = "text-align:{};font-family:monospace;white-space:pre"
        sides = ["left", *["right"] * (len(head) - 2), "left"]

        def row(cells: Sequence[str], tag: str, more: str = "") -> str:
            inside = (f'<{tag} style="{look.format(s)}{more}">{c}</{tag}>' for s, c in zip(sides, cells, strict=True))
            return f"<tr>{''.join(inside)}</tr>"

        body = "".join(row(cells, "td", ";font-weight:bold" if cells[-1] else "") for cells in lines)
        table = f"<table><thead>{row(head, 'th')}</thead><tbody>{body}</tbody></table>" if len(self) else ""
        return "".join(
            [f"<p>{html.escape(self.heading)}</p>", table, *(f"<p>{html.escape(n)}</p>" for n in self.notes)]
        )

    def _cells(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the lines of the table as text: the header, a line for each row, and the total."""
        rows = [*self.items(), *([("", self.total)] if self.total and len(self) > 1 else [])]
        header = (self.column, "mean", "rms", "max", "zeros", "ratio", "update", "")
        return [("", header), *((name or ALL, self._line(self.shapes.get(name, ""), row)) for name, row in rows)]

    def _line(self, shape: str, row: Mapping[str, float]) -> tuple[str, ...]:
        zeros = 0.1 * math.floor(1000 * row["zeros"])  # 100 % means all
        update = "-" if self.first else _brief(row["update"])
        return (
            shape, *(_brief(row[what]) for what in ("mean", "rms", "max")), f"{zeros:.3g} %", _brief(row["ratio"]),
            update, mark(row),
        )  # fmt: skip


def mark(row: Mapping[str, float]) -> str:
    """Say what is wrong with a gradient: "NaN", "inf", "all 0", "vanishing", "exploding"; "" for nothing.

    >>> mark({"rms": 1e-9, "zeros": 0.0}), mark({"rms": 1.0, "zeros": 0.5})
    ('vanishing', '')
    """
    rms = row["rms"]
    if not math.isfinite(rms):
        return "NaN" if math.isnan(rms) else "inf"
    if row["zeros"] == 1:
        return "all 0"
    return "vanishing" if rms < VANISHING else "exploding" if rms > EXPLODING else ""


def _brief(x: float) -> str:
    """Write a number with two digits and its exponent, so that a column shows orders of magnitude: "1.2e-3"."""
    if not math.isfinite(x):
        return "NaN" if math.isnan(x) else f"{x:.0f}"
    digits, exponent = f"{x:.1e}".split("e")
    return f"{digits}e{int(exponent)}" if x else "0"


def listed(names: Sequence[str]) -> str:
    """Return names for a line of text, the first of many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(visible(name, limit=60) for name in names[:SHOWN]) + more
