"""What the losses refuse, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from row import Row

import tinygrad_sm.functional as F
from tinygrad_sm import Tensor
from tinygrad_sm.ops.loss import check_probabilities

Z = Tensor(np.zeros((2, 3)))
IMAGE = np.zeros((2, 3, 4))
Y = np.array([0, 1])
Q = np.full((2, 3), 1 / 3)
ONE_HOT = np.eye(3, dtype=int)[Y]
WANTS_GRADIENT = Tensor(np.ones(3), requires_grad=True)
Case = tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], str]

INDEXED: list[Case] = [
    # class indices
    ("class too large", (Z, [0, 3]), {}, IndexError, r"class 3 at position \(1,\) is not in 0 … 2; .*count from 0"),
    ("class negative", (Z, [-1, 0]), {}, IndexError,
     r"class -1 at position \(0,\) is not in 0 … 2; ignore_index=-1 would ignore it"),
    ("class negative, another ignored", (Z, [-1, -2]), {"ignore_index": -1}, IndexError, r"class -2 .*\(1,\)"),
    ("the default ignore_index is not ignored", (Z, [-100, -1]), {"ignore_index": -1}, IndexError, "class -100 at"),
    ("class of a 1-d input", (Tensor([1.0, 2.0, 3.0]), 7), {}, IndexError, "class 7 is not in 0 … 2"),
    ("uint64 that wraps to −100", (Z, np.array([0, 2**64 - 100], np.uint64)), {}, IndexError,
     "class 18446744073709551516 at"),
    ("uint8 beyond its ignore_index", (Z, np.array([0, 255], np.uint8)), {}, IndexError, "class 255 at"),
    ("float classes", (Z, [0.0, 1.0]), {}, TypeError,
     r"class indices must be integers, not float32 of shape \(2,\); use target.astype\(int\)"),
    ("one float for a 1-d input", (Tensor([1.0, 2.0]), 1.0), {}, TypeError, "class indices must be integers"),
    ("bools", (Z, [True, False]), {}, TypeError, "class indices must be integers, not bool"),
    ("one-hot integers", (Z, ONE_HOT), {}, TypeError,
     r"give class indices, target.argmax\(1\). Got int64 of the logits' shape \(2, 3\)"),
    ("one-hot integers on axis 1", (IMAGE, IMAGE.astype(int)), {"axis": 1}, TypeError, r"target.argmax\(1\)"),
    ("one-hot bools", (Z, ONE_HOT.astype(bool)), {}, TypeError, r"target.argmax\(1\). Got bool"),
    # shapes
    ("too many targets", (Z, [0, 1, 2]), {}, ValueError,
     r"targets of shape \(3,\) do not fit logits of shape \(2, 3\) with classes along axis 1; expected \(2,\)$"),
    ("no targets", (Z, []), {}, ValueError, r"targets of shape \(0,\) do not fit .*expected \(2,\)$"),
    ("a column of targets", (Z, Y[:, None]), {}, ValueError, r"expected \(2,\); use np.squeeze\(target, -1\)$"),
    ("a list for a 1-d input", (Tensor([1.0, 2.0]), [1]), {}, ValueError, r"expected \(\); use np.squeeze"),
    ("wrong axis", (Z, Y), {"axis": 0}, ValueError,
     r"targets of shape \(2,\) do not fit logits of shape \(2, 3\) .*axis 0; expected \(3,\); .*pass axis=1$"),
    ("PyTorch's layout", (IMAGE, IMAGE[:, 0].astype(int)), {}, ValueError, r"expected \(2, 3\); .*pass axis=1$"),
    ("axis out of range", (Z, Y), {"axis": 2}, IndexError, "axis 2 is out of range"),
    ("axis None", (Z, Y), {"axis": None}, TypeError, "axis must be one integer, not None"),
    ("axis of bool", (Z, Y), {"axis": True}, TypeError, "axis must be one integer, not True"),
    ("0-d input", (Tensor(1.0), 0), {}, ValueError, r"a scalar has no axis .*reshape it to \(1,\)"),
    ("no classes", (np.zeros((2, 0)), Y), {}, ValueError, r"shape \(2, 0\) has no classes along axis -1"),
    ("no classes, all ignored", (np.zeros((2, 0)), [-100, -100]), {}, ValueError, "has no classes"),
    ("no classes, no rows", (np.zeros((0, 0)), []), {}, ValueError, "has no classes"),
    # kinds
    ("integer input", (np.zeros((2, 3), int), Y), {}, TypeError,
     r"the input must be floats, not int64; use .astype\(np.float32\)"),
    ("complex input", (np.zeros((2, 3), complex), Y), {}, TypeError, "must be floats, not complex128"),
    ("swapped", (Y, Z), {}, TypeError,
     r"int64 of shape \(2,\) came first and float64 of shape \(2, 3\) second; are they swapped\?"),
    ("swapped lists on axis 1", ([[0, 1]], [[[0.0, 1.0], [2.0, 3.0]]]), {"axis": 1}, TypeError, "are they swapped"),
    ("swapped floats", (Q[:, 0], Z), {}, ValueError, "are they swapped"),
    ("names of classes", (Z, ["cat", "dog"]), {}, TypeError, r"the target: .*np.unique\(labels, return_inverse=True\)"),
    ("array of names", (Z, np.array(["cat", "dog"])), {}, TypeError, "the target has dtype <U3; .*np.unique"),
    ("no target", (Z, None), {}, TypeError, "the target: .*pass class indices"),
    ("ragged target", (Z, [[0], [1, 2]]), {}, ValueError, "the target: .*pass class indices"),
    ("list of Tensors as target", (Z, [Tensor(0), Tensor(1)]), {}, TypeError, "the target: .*sm.stack"),
    ("no input", (None, Y), {}, TypeError, "the input: .*NoneType"),
    # options
    ("reduction", (Z, Y), {"reduction": "avg"}, ValueError, "must be one of 'mean', 'sum', 'none', not 'avg'"),
    ("reduction None", (Z, Y), {"reduction": None}, ValueError, "reduction must be one of .*, not None"),
    ("reduction batchmean", (Z, Y), {"reduction": "batchmean"}, ValueError, "not 'batchmean'"),
    ("reduction of arrays", (Z, Y), {"reduction": np.zeros(2)}, ValueError, r"not array\(\[0., 0.\]\)"),
    ("ignore_index None", (Z, Y), {"ignore_index": None}, TypeError, "ignore_index must be an integer, not None; -100"),
    ("ignore_index 1.0", (Z, Y), {"ignore_index": 1.0}, TypeError, "ignore_index must be an integer, not 1.0"),
    ("ignore_index True", (Z, Y), {"ignore_index": True}, TypeError, "ignore_index must be an integer, not True"),
    ("ignore_index 2⁶⁴ − 1", (Z, Y.astype(np.uint64)), {"ignore_index": 2**64 - 1}, ValueError, "64 bits with a sign"),
    ("dim", (Z, Y), {"dim": 1}, TypeError, "there is no argument 'dim'; here it is axis; it takes .*target, weight"),
    ("size_average", (Z, Y), {"size_average": True}, TypeError, "here it is reduction"),
    ("unknown name", (Z, Y), {"wieght": [1, 2, 3]}, TypeError, "there is no argument 'wieght'; it takes .*weight"),
    # class weights
    ("weight's length", (Z, Y), {"weight": [1.0, 2.0]}, ValueError, r"weight must be 3 numbers.*got shape \(2,\)"),
    ("weight a number", (Z, Y), {"weight": 2.0}, ValueError, r"weight must be 3 numbers.*got shape \(\)"),
    ("weight of 2 axes", (Z, Y), {"weight": [[1, 2, 3]]}, ValueError, r"got shape \(1, 3\)"),
    ("weight for another axis", (IMAGE, IMAGE[:, 0].astype(int)), {"axis": 1, "weight": np.ones(4)}, ValueError,
     "weight must be 3 numbers"),
    ("weight negative", (Z, Y), {"weight": [1.0, -2.0, 1.0]}, ValueError, "finite and ≥ 0; got -2.0 for class 1"),
    ("weight NaN", (Z, Y), {"weight": [1.0, 1.0, np.nan]}, ValueError, "got nan for class 2"),
    ("weight infinite", (Z, Y), {"weight": [np.inf, 1.0, 1.0]}, ValueError, "got inf for class 0"),
    ("weight in words", (Z, Y), {"weight": "balanced"}, TypeError, "weight: .*<U8"),
    ("weight a dict", (Z, Y), {"weight": {0: 1.0}}, TypeError, "weight: .*dict"),
    ("weight that wants a gradient", (Z, Y), {"weight": WANTS_GRADIENT}, TypeError, r"pass weight.detach\(\)"),
]  # fmt: skip
SOFT: list[Case] = [
    ("one-hot integers say what floats are", (Z, ONE_HOT), {}, TypeError,
     r"one-hot targets must be floats, target.astype\(np.float32\); or give class indices"),
    ("one-hot bools say what floats are", (Z, ONE_HOT.astype(bool)), {}, TypeError, "one-hot targets must be floats"),
    ("float classes say what floats are", (Z, [0.0, 1.0]), {}, TypeError, r"probabilities have .*shape \(2, 3\)"),
    ("probabilities of another shape", (Z, Q[:, :2]), {}, ValueError,
     r"float targets are probabilities, of the logits' shape \(2, 3\), not \(2, 2\); class indices are integers"),
    ("probabilities of another batch", (Z, np.full((4, 3), 1 / 3)), {}, ValueError, r"not \(4, 3\)"),
    ("probabilities on another axis", (IMAGE, np.zeros((2, 4, 3))), {"axis": 1}, ValueError,
     r"shape \(2, 3, 4\), not \(2, 4, 3\)"),
    ("probabilities, no classes", (np.zeros((2, 0)), np.zeros((2, 0))), {}, ValueError, "has no classes"),
    ("probabilities with ignore_index", (Z, Q), {"ignore_index": 0}, ValueError,
     "ignore_index=0 is for class indices; with probabilities, leave rows out"),
    ("probabilities with ignore_index None", (Z, Q), {"ignore_index": None}, ValueError, "ignore_index=None is for"),
    ("smoothing above 1", (Z, Y), {"label_smoothing": 1.5}, ValueError,
     r"label_smoothing must be in \[0, 1\], not 1.5"),
    ("smoothing below 0", (Z, Y), {"label_smoothing": -0.1}, ValueError, "not -0.1"),
    ("smoothing NaN", (Z, Y), {"label_smoothing": np.nan}, ValueError, "not nan"),
    ("smoothing NaN with probabilities", (Z, Q), {"label_smoothing": np.nan}, ValueError, "not nan"),
    ("smoothing True", (Z, Y), {"label_smoothing": True}, TypeError, "label_smoothing must be one number, not True"),
    ("smoothing None", (Z, Y), {"label_smoothing": None}, TypeError, "must be one number, not None"),
    ("smoothing in words", (Z, Y), {"label_smoothing": "0.1"}, TypeError, "must be one number, not '0.1'"),
    ("smoothing per class", (Z, Y), {"label_smoothing": np.zeros(3)}, TypeError, "must be one number, not array"),
    ("smoothing learned", (Z, Y), {"label_smoothing": Tensor(0.1, requires_grad=True)}, TypeError, "no gradient"),
]  # fmt: skip
PAIRED: list[Case] = [
    ("shapes", (Z, np.zeros((3, 3))), {}, ValueError,
     r"input of shape \(2, 3\) and target of shape \(3, 3\) must have the same shape$"),
    ("broadcastable shapes", (Z, np.zeros(3)), {}, ValueError, "must have the same shape"),
    ("a column and a row", (np.zeros((3, 1)), np.zeros(3)), {}, ValueError, r"target.reshape\(3, 1\) would fit"),
    ("integers", (np.array([0, 1], np.uint8), np.array([1, 0], np.uint8)), {}, TypeError,
     r"must be floats, not uint8 and uint8; use .astype\(np.float32\)"),
    ("bools", ([True], [False]), {}, TypeError, "must be floats, not bool and bool"),
    ("complex", (np.zeros(2, complex), np.zeros(2)), {}, TypeError, "must be floats, not complex128 and float64"),
    ("no target", (Z, None), {}, TypeError, "the target: .*NoneType"),
    ("no input", ("a", Z), {}, TypeError, "the input: .*str"),
    ("reduction", (Z, Z), {"reduction": "total"}, ValueError, "reduction must be one of .*, not 'total'"),
    ("reduction None", (Z, Z), {"reduction": None}, ValueError, "reduction must be one of .*, not None"),
]  # fmt: skip
PROBABILITIES: list[Case] = [
    ("sum above 1", (np.array([[0.5, 0.5], [0.5, 0.6]]), "f"), {}, ValueError,
     r"the probabilities of row \(1,\) sum to 1.1, not 1; divide by target.sum\(-1, keepdims=True\)"),
    ("sum below 1", (np.array([[[0.5, 0.4], [0.5, 0.5]]], np.float32), "f"), {}, ValueError, r"\(0, 0\) sum to 0.9"),
    ("first of many", (np.array([[1, 0.1], [0.5, 0.5], [-1, 2]]), "f"), {}, ValueError, r"row \(0,\) sum to 1.1"),
    ("negative", (Tensor([[0.5, 0.5], [-0.5, 1.5]]), "f"), {}, ValueError,
     r"row \(1,\) go down to -0.5; are they logits\? Then pass softmax\(target\)"),
    ("zeros", (np.zeros((1, 3)), "f"), {}, ValueError, "sum to 0, not 1"),
    ("NaN", (np.array([0.5, np.nan]), "f"), {}, ValueError, "the probabilities sum to nan, not 1"),
    ("infinite", (np.array([0.5, np.inf]), "f"), {}, ValueError, "sum to inf"),
]  # fmt: skip


def rows(f: Callable[..., Any], cases: list[Case], caller: str = "") -> list[Row]:
    caller = caller or f.__name__
    return [
        Row(f"{f.__name__}: {name}", partial(f, *args, **kwargs), kind, f"^{caller}: .*{message}")
        for name, args, kwargs, kind, message in cases
    ]


ROWS = [
    *rows(F.nll_loss, INDEXED),
    *rows(F.cross_entropy, [*INDEXED, *SOFT]),
    *rows(F.mse_loss, PAIRED),
    *rows(F.l1_loss, PAIRED),
    *rows(F.kl_div, PAIRED),
    *rows(F.nll_loss, [("one-hot floats", (Z, Q), {}, TypeError, r"give class indices, .*argmax\(1\). Got float")]),
    *rows(F.mse_loss, [("batchmean", (Z, Z), {"reduction": "batchmean"}, ValueError, "reduction must be one of")]),
    *rows(F.kl_div, [("batchmean of a scalar", (0.0, 1.0), {"reduction": "batchmean"}, ValueError, "a scalar has none"),
                     ("class indices", (Z, Y), {}, ValueError, r"target of shape \(2,\) must have the same")]),
    *rows(check_probabilities, PROBABILITIES, "f"),
    Row("cross_entropy: input and target by PyTorch's names", partial(F.cross_entropy, input=Z, target=Y), TypeError,
        "cross_entropy.* 'logits'"),
    Row("cross_entropy: weight by position", partial(F.cross_entropy, Z, Y, [1.0, 2.0, 3.0]), TypeError,
        "cross_entropy.* positional"),
]  # fmt: skip
