"""Write the tables of a page again from the results that it names, so that no number is copied by hand.

    python examples/experiments/tables.py docs/calibration.md

A table stands between two comments. The first says from which file of docs/results, with how many decimals, which
columns with which heads, and if not all rows, which:

    <!-- table calibration 1: data; smoothing = ε; accuracy = accuracy, % | data=fashion; images=10000 -->
    <!-- end -->

A number is mean ± standard deviation over the seeds. `differences` after the name of the file takes that list instead
of `table`; there `mean` is mean ± standard error, and `across of` gives each value of `of` a column of its own.
`loss:.2g` writes a column in this format, in place of the decimals; two numbers, before and after, get an arrow.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "docs/results"
HEADS = {
    "ece": "ECE", "ece_classwise": "class-wise", "nll": "NLL", "ece_t": "ECE after T", "nll_t": "NLL after T",
}  # fmt: skip
TABLE = re.compile(r"(<!-- table (\S+)( differences)? (\d): (.*?)(?: \| (.*?))? -->\n).*?(<!-- end -->)", re.S)


def filled(text: str) -> str:
    """Return a page with its tables as the results have them."""
    return TABLE.sub(lambda found: f"{found[1]}{_table(*found.groups()[1:6])}\n{found[7]}", text)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def spread(value: dict[str, Any], form: str) -> str:
    """Return a mean with its deviation, if there is one, as `mean ± deviation`."""
    return f"{value['mean']:{form}}" + ("" if value["sd"] is None else f" ± {value['sd']:{form.lstrip('+')}}")


def _table(name: str, differences: str | None, digits: str, columns: str, which: str | None) -> str:
    content = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    pairs = [(c.partition("=")[0].strip(), (c.partition("=")[2] or c).strip()) for c in columns.split(";")]
    wanted = [w.partition("=")[::2] for w in (which or "").split(";") if w.strip()]
    rows = [
        row
        for row in content["differences" if differences else "table"]
        if all(str(row.get(key.strip())) in value.strip().split("/") for key, value in wanted)
    ]
    if not rows:
        raise ValueError(f"tables: {name}.json has no row with {which}")
    across = [key.split()[1] for key, _ in pairs if key.startswith("across ")]
    plain = [(key, head) for key, head in pairs if not key.startswith("across ")]
    if across:
        *plain, (number, _) = plain
        heads = list(dict.fromkeys(row[across[0]] for row in rows))
        grouped: dict[tuple[str, ...], list[str]] = {}
        for row in rows:
            start = tuple(_cell(row, key, int(digits)) for key, _ in plain)
            grouped.setdefault(start, [""] * len(heads))[heads.index(row[across[0]])] = _cell(row, number, int(digits))
        head = [name for _, name in plain]
        head += [f"{name:g}" if isinstance(name, float) else HEADS.get(name, name) for name in heads]
        body = [[*start, *cells] for start, cells in grouped.items()]
    else:
        head = [name for _, name in plain]
        body = [[_cell(row, key, int(digits)) for key, _ in plain] for row in rows]
    return markdown(head, body)


def _cell(row: dict[str, Any], key: str, digits: int) -> str:
    key, _, form = key.partition(":")
    value = row[key]
    if form:
        return " → ".join(f"{v:{form}}" for v in (value if isinstance(value, list) else [value])).replace("-", "−")
    if key == "mean":
        value = {"mean": value, "sd": row["se"]}
    if isinstance(value, dict):
        sign = "+" if key == "mean" else ""
        return spread(value, f"{sign}.{digits}f").replace("-", "−")
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
