"""What the losses refuse, and what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_sm.functional as F
from tinygrad_sm import Tensor

Z = Tensor(np.zeros((2, 3)))
Y = np.array([0, 1])
Q = np.full((2, 3), 1 / 3)
INDEXED = [
    ("class too large", (Z, [0, 3]), {}, IndexError, r"class 3 at position \(1,\) is not in 0 … 2"),
    ("class negative", (Z, [-1, 0]), {}, IndexError, r"class -1 at position \(0,\) is not in 0 … 2"),
    ("float classes", (Z, [0.0, 1.0]), {}, TypeError, "integers"),
    ("bools", (Z, [True, False]), {}, TypeError, "class indices must be integers, not bool"),
    ("too many targets", (Z, [0, 1, 2]), {}, ValueError,
     r"targets of shape \(3,\) do not fit logits of shape \(2, 3\)"),
    ("integer one-hot", (Z, np.eye(3, dtype=int)[Y]), {}, TypeError, "One-hot targets must be floats"),
    ("wrong axis", (Z, Y), {"axis": 0}, ValueError, r"targets of shape \(2,\) do not fit"),
    ("axis out of range", (Z, Y), {"axis": 2}, IndexError, "axis 2 is out of range"),
    ("reduction", (Z, Y), {"reduction": "avg"}, ValueError,
     "reduction must be one of 'mean', 'sum', 'none', not 'avg'"),
    ("weight's shape", (Z, Y), {"weight": [1.0, 2.0]}, ValueError, r"weight must be 3 numbers ≥ 0.*got shape \(2,\)"),
    ("negative weight", (Z, Y), {"weight": [1.0, -2.0, 1.0]}, ValueError, "with smallest -2"),
    ("NaN weight", (Z, Y), {"weight": [1.0, np.nan, 1.0]}, ValueError, "weight must be 3 numbers"),
    ("integer logits", (np.zeros((2, 3), int), Y), {}, TypeError, "the input must be floats, not int64"),
    ("scalar", (Tensor(1.0), 0), {}, ValueError, "a scalar has no axis"),
]  # fmt: skip
SOFT = [
    ("smoothing above 1", (Z, Y), {"label_smoothing": 1.5}, ValueError,
     r"label_smoothing must be in \[0, 1\], not 1.5"),
    ("smoothing below 0", (Z, Y), {"label_smoothing": -0.1}, ValueError, "not -0.1"),
    ("smoothing NaN", (Z, Y), {"label_smoothing": np.nan}, ValueError, "not nan"),
    ("probabilities of another shape", (Z, Q[:, :2]), {}, ValueError,
     r"probabilities of shape \(2, 2\) for .*\(2, 3\)"),
    ("float indices", (Z, Y.astype(float)), {}, TypeError, "class indices must be integers"),
    ("ignore_index", (Z, Q), {"ignore_index": 0}, ValueError, "ignore_index is for class indices"),
]  # fmt: skip
PAIRED = [
    ("shapes", (Z, np.zeros((3, 2))), {}, ValueError, r"input of shape \(2, 3\) and target of shape \(3, 2\)"),
    ("broadcastable shapes", (Z, np.zeros(3)), {}, ValueError, r"must have the same shape"),
    ("reduction", (Z, Z), {"reduction": "total"}, ValueError, "reduction must be one of .*, not 'total'"),
]
TABLE = [
    *(("nll_loss", *row) for row in INDEXED),
    *(("cross_entropy", *row) for row in (*INDEXED, *SOFT)),
    *((name, *row) for name in ("mse_loss", "l1_loss", "kl_div") for row in PAIRED),
    ("mse_loss", "batchmean", (Z, Z), {"reduction": "batchmean"}, ValueError, "reduction must be one of"),
]


@pytest.mark.parametrize(("f", "name", "args", "kwargs", "kind", "message"), TABLE,
                         ids=[f"{row[0]}: {row[1]}" for row in TABLE])  # fmt: skip
def test_errors(f: str, name: str, args: Any, kwargs: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=f"^{f}: .*{message}"):
        getattr(F, f)(*args, **kwargs)
