"""What softmax, log_softmax and logsumexp refuse, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from row import Row

import tinygrad_sm.functional as F
from tinygrad_sm import Tensor

X = Tensor([[1.0, 2.0]])
Case = tuple[str, Any, dict[str, Any], type[Exception], str]

ALL: list[Case] = [
    ("integers", np.array([1, 2]), {}, TypeError, r"must be floats, not int64; use .astype\(np.float32\)"),
    ("a list of integers", [1, 2], {}, TypeError, "must be floats, not int64; .* write 1.0 for 1 in a list"),
    ("bools", np.array([True]), {}, TypeError, "must be floats, not bool"),
    ("complex", np.array([1j]), {}, TypeError, "must be floats, not complex128"),
    ("objects", np.array([1.0, None]), {}, TypeError, "must be floats, not object"),
    ("nothing", None, {}, TypeError, "the input: .*NoneType"),
    ("text", "logits", {}, TypeError, "the input: .*str"),
    ("ragged", [[1.0], [1.0, 2.0]], {}, ValueError, "the input: "),
    ("list of Tensors", [X, X], {}, TypeError, "the input: .*sm.stack"),
    ("0-d", Tensor(1.0), {}, ValueError, r"a scalar has no axis to normalize over; reshape it to \(1,\)"),
    ("a number", 1.0, {}, ValueError, "a scalar has no axis"),
    ("axis too large", X, {"axis": 2}, IndexError, "axis 2 is out of range for a tensor with 2 axes"),
    ("axis too small", X, {"axis": -3}, IndexError, "axis -3 is out of range for a tensor with 2 axes"),
    ("axis a float", X, {"axis": 1.0}, TypeError, "axis must be .*, not 1.0"),
    ("axis a bool", X, {"axis": True}, TypeError, "axis must be .*, not True"),
    ("axis NumPy's bool", X, {"axis": np.True_}, TypeError, "axis must be .*, not .*True"),
    ("axis text", X, {"axis": "1"}, TypeError, "axis must be .*, not '1'"),
    ("axis a list", X, {"axis": [0]}, TypeError, r"axis must be .*, not \[0\]"),
    ("temperature 0", X, {"temperature": 0}, ValueError, "temperature must be a finite number above 0, not 0.0"),
    ("temperature −1", X, {"temperature": -1.0}, ValueError, "not -1.0"),
    ("temperature NaN", X, {"temperature": np.nan}, ValueError, "not nan"),
    ("temperature ∞", X, {"temperature": np.inf}, ValueError, "not inf"),
    ("temperature True", X, {"temperature": True}, TypeError, "temperature must be one number, not True"),
    ("temperature text", X, {"temperature": "hot"}, TypeError, "temperature must be one number, not 'hot'"),
    ("temperature None", X, {"temperature": None}, TypeError, "temperature must be one number, not None"),
    ("temperature per row", X, {"temperature": np.ones((1, 1))}, TypeError, r"for one per row.*\(x / temperature\)"),
    ("temperature learned", X, {"temperature": Tensor(1.0, requires_grad=True)}, TypeError,
     r"temperature is a constant and gets no gradient; .*to learn it, write .*\(x / temperature\)"),
    ("dim", X, {"dim": 1}, TypeError, "there is no argument 'dim'; here it is axis; it takes x, axis"),
    ("dtype", X, {"dtype": np.float64}, TypeError, "there is no argument 'dtype'; it takes x, axis"),
]  # fmt: skip
ONE_AXIS: list[Case] = [
    ("axis None", X, {"axis": None}, TypeError, "axis must be one integer, not None"),
    ("two axes", X, {"axis": (0, 1)}, TypeError, r"axis must be one integer, not \(0, 1\)"),
    ("keepdim", X, {"keepdim": True}, TypeError, "there is no argument 'keepdim'; it takes x, axis, temperature$"),
]
LOGSUMEXP: list[Case] = [
    ("an axis twice", X, {"axis": (0, -2)}, ValueError, "an axis is given twice"),
    ("an axis of two out of range", X, {"axis": (0, 2)}, IndexError, "axis 2 is out of range"),
    ("keepdim", X, {"keepdim": True}, TypeError, "here it is keepdims"),
]


def rows(f: Callable[..., Any], cases: list[Case]) -> list[Row]:
    return [
        Row(f"{f.__name__}: {name}", partial(f, x, **kwargs), kind, f"^{f.__name__}: .*{message}")
        for name, x, kwargs, kind, message in cases
    ]


ROWS = [
    *rows(F.softmax, [*ALL, *ONE_AXIS]),
    *rows(F.log_softmax, [*ALL, *ONE_AXIS]),
    *rows(F.logsumexp, [*ALL, *LOGSUMEXP]),
    Row("softmax: the method, with dim", partial(X.softmax, dim=1), TypeError, "^softmax: .*here it is axis"),
    Row("softmax: input by PyTorch's name", partial(F.softmax, input=X), TypeError, "softmax.* 'x'"),
    Row(
        "max of an empty axis", partial(Tensor(np.zeros((2, 0))).max, axis=1), ValueError, r"^max\(float64\[2, 0\]\): "
    ),
]
