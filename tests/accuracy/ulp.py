"""Errors in units in the last place (ulp): 1 is the gap between neighbouring floats at the right result."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import mpmath
import numpy as np
from exact import Row, results
from rows import Case, cases


def of_itself(quantity: str) -> bool:
    """Tell whether errors are in ulp of the right result itself; otherwise they are in ulp of the row's largest."""
    return quantity.startswith(("log_softmax", "logsumexp", "cross_entropy", "p_y"))


class Right(NamedTuple):
    """Exact results of one quantity for one row, as sums of two float64, and which entries they are."""

    high: Any  # (M,) float64, correctly rounded
    low: Any  # (M,) what is missing
    seen: Any  # (M,) entries of the row

    def errors(self, got: Any, dtype: Any) -> tuple[float, float]:
        """Return the worst error in ulp of the right entry, and in ulp of the largest right entry of the row."""
        got = np.asarray(got, np.float64)
        with np.errstate(invalid="ignore"):
            off = np.abs((got - self.high) - self.low)
        off = np.where(got == self.high, np.abs(self.low), off)  # both may be infinite
        off = np.where(np.isnan(off), np.inf, off)
        size = np.abs(self.high)
        return float((off / _gap(size, dtype)).max()), float((off / _gap(size.max(), dtype)).max())


def _gap(x: Any, dtype: Any) -> Any:
    x = np.minimum(x, np.finfo(dtype).max / 2).astype(dtype)  # an infinite result is right or has an infinite error
    return np.spacing(x).astype(np.float64)


def _split(values: Sequence[Any], seen: Any) -> Right:
    high = np.array([float(v) for v in values])
    low = [float(v - mpmath.mpf(h)) if np.isfinite(h) else 0.0 for v, h in zip(values, high.tolist(), strict=True)]
    return Right(high, np.array(low), seen)


@cache
def right(dtype: Any, every: bool = False) -> list[tuple[Case, list[dict[str, Right]]]]:
    """Return each case with the right results of each of its rows. Takes seconds, once."""
    found = []
    for case in cases(dtype, every):
        rows = []
        for z, y, g, q in zip(case.z, case.y.tolist(), case.g, case.q, strict=True):
            row = Row(z, y)
            exact = results(row, g, q, case.weight)
            rows.append({quantity: _split(values, row.seen) for quantity, values in exact.items()})
        found.append((case, rows))
    return found


def errors(case: Case, rows: list[dict[str, Right]], quantity: str, results: Any) -> tuple[float, float]:
    """Return the worst errors over the rows of a case: in ulp of each entry, and of the largest of its row."""
    dtype, entry, row_scaled = case.z.dtype, 0.0, 0.0
    for n, (row, result) in enumerate(zip(rows, results, strict=True)):
        expected = row[quantity]
        got = result[expected.seen] if np.ndim(result) else np.array([result])
        if quantity == "p_y - 1":
            got = result[case.y[n : n + 1]]
        a, b = expected.errors(got, dtype)
        entry, row_scaled = max(entry, a), max(row_scaled, b)
    return entry, row_scaled
