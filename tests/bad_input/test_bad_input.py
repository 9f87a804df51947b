"""Every bad input in the table is refused: by the right kind of error, with a message that helps."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from row import Row

TABLES = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
ROWS = [(table.removeprefix("cases_"), row) for table in TABLES for row in import_module(table).ROWS]


@pytest.mark.parametrize("row", [row for _, row in ROWS], ids=[f"{table}: {row.name}" for table, row in ROWS])
def test_bad_input(row: Row) -> None:
    with pytest.raises(row.kind, match=row.message) as caught:
        row.call()
    assert type(caught.value) is row.kind
