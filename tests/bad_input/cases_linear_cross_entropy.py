"""What linear_cross_entropy refuses, and what it says."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from row import Row

import tinygrad_sm.functional as F
from tinygrad_sm import Tensor

X = Tensor(np.zeros((2, 4)))
W = Tensor(np.zeros((3, 4)))
Y = np.array([0, 1])
WANTS_GRADIENT = Tensor(np.ones(3), requires_grad=True)

CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    # shapes
    ("W transposed", (X, np.zeros((4, 3)), Y), {}, ValueError,
     r"x of shape \(2, 4\) and weight of shape \(4, 3\) do not fit; x must be \(…, d\) and weight \(V, d\)"),
    ("a weight of one axis", (X, np.zeros(4), Y), {}, ValueError, r"weight of shape \(4,\) do not fit"),
    ("a scalar x", (Tensor(1.0), W, 0), {}, ValueError, r"x of shape \(\) and weight of shape \(3, 4\) do not fit"),
    ("no classes", (X, np.zeros((0, 4)), Y), {}, ValueError, r"a weight of shape \(0, 4\) has no classes"),
    ("bias of another length", (X, W, Y), {"bias": np.zeros(4)}, ValueError,
     r"bias of shape \(4,\) for weight of shape \(3, 4\); it must be \(V,\)"),
    ("a row as bias", (X, W, Y), {"bias": np.zeros((1, 3))}, ValueError, r"bias of shape \(1, 3\)"),
    ("too many targets", (X, W, [0, 1, 2]), {}, ValueError,
     r"targets of shape \(3,\) do not fit logits of shape \(2, 3\) .*expected \(2,\)$"),
    ("a column of targets", (X, W, Y[:, None]), {}, ValueError, r"expected \(2,\); use np.squeeze\(target, -1\)$"),
    # kinds
    ("integer x", (np.zeros((2, 4), int), W, Y), {}, TypeError, r"x must hold floats, not int64; use .astype"),
    ("integer weight", (X, np.zeros((3, 4), int), Y), {}, TypeError, "weight must hold floats, not int64"),
    ("integer bias", (X, W, Y), {"bias": [0, 1, 2]}, TypeError, "bias must hold floats, not int64"),
    ("x of text", ("text", W, Y), {}, TypeError, "x: a Tensor holds real numbers or bools"),
    ("no weight", (X, None, Y), {}, TypeError, "weight: a Tensor holds real numbers or bools"),
    ("target and weight swapped", (X, Y, W), {}, TypeError, "weight must hold floats, not int64"),
    ("probabilities", (X, W, np.full((2, 3), 1 / 3)), {}, TypeError, r"give class indices, target.argmax\(1\)"),
    ("one-hot integers", (X, W, np.eye(3, dtype=int)[Y]), {}, TypeError, r"give class indices, target.argmax\(1\)"),
    ("float classes", (X, W, [0.0, 1.0]), {}, TypeError, "class indices must be integers, not float32"),
    ("targets of text", (X, W, ["a", "b"]), {}, TypeError, "the target: "),
    # options
    ("class too large", (X, W, [0, 3]), {}, IndexError, r"class 3 at position \(1,\) is not in 0 … 2"),
    ("class negative", (X, W, [-1, 0]), {}, IndexError, "class -1 .*ignore_index=-1 would ignore it"),
    ("ignore_index of float", (X, W, Y), {"ignore_index": 1.0}, TypeError, "ignore_index must be an integer, not 1.0"),
    ("smoothing above 1", (X, W, Y), {"label_smoothing": 1.5}, ValueError, r"must be in \[0, 1\], not 1.5"),
    ("smoothing below 0", (X, W, Y), {"label_smoothing": -0.1}, ValueError, r"must be in \[0, 1\], not -0.1"),
    ("smoothing NaN", (X, W, Y), {"label_smoothing": float("nan")}, ValueError, "label_smoothing must be in .* nan"),
    ("smoothing True", (X, W, Y), {"label_smoothing": True}, TypeError, "label_smoothing must be one number, not True"),
    ("reduction", (X, W, Y), {"reduction": "batchmean"}, ValueError, "reduction must be one of .*not 'batchmean'"),
    ("class weights of another length", (X, W, Y), {"class_weight": [1.0, 2.0]}, ValueError,
     r"class_weight must be 3 numbers, one per class; got shape \(2,\)"),
    ("negative class weight", (X, W, Y), {"class_weight": [1.0, -2.0, 1.0]}, ValueError,
     "class_weight must be finite and ≥ 0; got -2.0 for class 1"),
    ("learned class weights", (X, W, Y), {"class_weight": WANTS_GRADIENT}, TypeError,
     "class_weight is a constant"),
    ("another name", (X, W, Y), {"axis": 1}, TypeError, "there is no argument .axis.; it takes x, weight, target"),
]  # fmt: skip

ROWS = [
    *(
        Row(name, partial(F.linear_cross_entropy, *args, **kwargs), kind, f"^linear_cross_entropy: .*{message}")
        for name, args, kwargs, kind, message in CASES
    ),
    Row("bias by position", partial(F.linear_cross_entropy, X, W, Y, np.zeros(3)), TypeError, "positional"),
]  # fmt: skip
