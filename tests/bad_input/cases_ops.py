"""Bad input to the ops: shapes, axes, kinds and keywords, by functions, methods and operators."""

from __future__ import annotations

from typing import Any

import numpy as np
from row import Row

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor


def ones(*shape: int) -> Tensor:
    return Tensor(np.ones(shape, np.float32), requires_grad=True)


def integers(*values: int) -> Tensor:
    return Tensor(np.array(values))


def shapes(left: str, right: str, op: str) -> str:
    return rf"^{op}\(float32\[{left}\], float32\[{right}\]\): "


def assign(x: Any) -> None:
    x[0] = 1.0


A, B = ones(2, 3), ones(2, 4)
X, Y = ones(2), ones(3)
V, K, I = ValueError, TypeError, IndexError  # noqa: E741

SHAPES = [
    Row("add", lambda: X + Y, V, shapes("2", "3", "add")),
    Row("sub", lambda: X - Y, V, shapes("2", "3", "sub")),
    Row("mul", lambda: X * Y, V, shapes("2", "3", "mul")),
    Row("div", lambda: X / Y, V, shapes("2", "3", "div")),
    Row("pow", lambda: X**Y, V, shapes("2", "3", "pow")),
    Row("maximum", lambda: sm.maximum(X, Y), V, shapes("2", "3", "maximum")),
    Row("minimum", lambda: sm.minimum(X, Y), V, shapes("2", "3", "minimum")),
    Row("comparison", lambda: X < Y, V, shapes("2", "3", "less")),
    Row("where", lambda: sm.where(np.ones(4, bool), X, Y), V, r"^where\(bool\[4\], float32\[2\], float32\[3\]\)"),
    Row("matmul", lambda: A @ A, V, r"^matmul.*\(2, 3\) and \(2, 3\).*last axis .* 3, .*second to last axis .* 2$"),
    Row("matmul, vectors", lambda: X @ Y, V, r"^matmul.*\(2,\) and \(3,\) do not fit.*only axis of the second 3"),
    Row("matmul, matrix and vector", lambda: A @ X, V, r"^matmul.*\(2, 3\) and \(2,\) do not fit"),
    Row("matmul, batches", lambda: ones(2, 3, 4) @ ones(3, 4, 5), V, r"^matmul.*\(2,\) of .* \(3,\) of .* broadcast"),
    Row("matmul, scalar", lambda: A @ 2.0, V, r"^matmul.*a scalar has no matrix product; use \*"),
    Row("concatenate", lambda: sm.concatenate([A, B]), V, r"^concatenate: .*axis 0.*\[\(2, 3\), \(2, 4\)\]"),
    Row("concatenate, axes", lambda: sm.concatenate([A, X]), V, r"^concatenate: .*\[\(2, 3\), \(2,\)\]"),
    Row("concatenate, scalars", lambda: sm.concatenate([ones(), ones()]), V, "^concatenate: a scalar .* use stack"),
    Row("concatenate, nothing", lambda: sm.concatenate([]), V, "^concatenate: needs at least one"),
    Row("stack", lambda: sm.stack([X, Y]), V, r"^stack: the shapes differ: \[\(2,\), \(3,\)\]"),
    Row("stack, nothing", lambda: sm.stack([]), V, "^stack: needs at least one"),
    Row("einsum", lambda: sm.einsum("ij,jk->ik", A, B), V, r"'ij,jk->ik' the index j has lengths \[2, 3\]; .*\(2, 4\)"),
    Row("einsum, diagonal", lambda: sm.einsum("ii->i", A), V, r"^einsum: in 'ii->i' the index i has lengths \[2, 3\]"),
    Row("einsum, operands", lambda: sm.einsum("ij,jk->ik", A), V, "^einsum: .* names 2 operands, but 1 are given"),
    Row("einsum, axes", lambda: sm.einsum("ij,jk->ik", A, X), V, r"^einsum: .* do not fit operands with \[2, 1\] axes"),
    Row("einsum, output", lambda: sm.einsum("ij->ik", A), V, r"^einsum\(float32\[2, 3\]\): .*output subscript 'k'"),
    Row("einsum, order", lambda: sm.einsum(A, "ij->ji"), K, "^einsum: first come the subscripts, a string"),
    Row("reshape", lambda: A.reshape(4, 2), V, r"^reshape\(float32\[2, 3\]\): .*size 6 into shape \(4, ?2\)"),
    Row("reshape, two unknown", lambda: A.reshape(-1, -1), V, r"^reshape\(float32\[2, 3\]\): .*one unknown"),
    Row("transpose", lambda: ones(2, 3, 4).transpose(1, 2), V, r"^transpose: 2 axes .* with 3; .* swapaxes\(1, 2\)"),
    Row("transpose, twice", lambda: A.transpose(0, 0), V, "^transpose: an axis is given twice"),
    Row("take_along_axis", lambda: sm.take_along_axis(A, np.zeros((5, 1), int)), V,
        r"^take_along_axis: indices of shape \(5, 1\) do not fit x of shape \(2, 3\)"),
    Row("take_along_axis, axes", lambda: sm.take_along_axis(A, np.zeros(2, int)), V,
        r"^take_along_axis: indices of shape \(2,\) need .* \(2, 3\); .*indices\[:, None\]"),
    Row("take_along_axis, range", lambda: sm.take_along_axis(A, np.full((2, 1), 7)), I,
        "^take_along_axis: index 7 is out of range for axis 1 of length 3"),
    Row("getitem, range", lambda: A[5], I, r"^getitem\(float32\[2, 3\]\): index 5"),
    Row("getitem, array", lambda: A[np.array([0, -7])], I, r"^getitem\(float32\[2, 3\]\): index -7"),
    Row("getitem, too many", lambda: A[0, 0, 0], I, r"^getitem\(float32\[2, 3\]\): too many indices"),
    Row("getitem, mask", lambda: A[np.ones(5, bool)], I, r"^getitem\(float32\[2, 3\]\): boolean index .* 2 .* 5"),
    Row("getitem, scalar", lambda: ones()[0], I, r"^getitem\(float32\[\]\): too many indices"),
    Row("getitem, ragged", lambda: A[[[0], [1, 2]]], V, r"^getitem: the index \[\[0\], \[1, 2\]\] .*differ in length"),
    Row("embedding", lambda: F.embedding([4], ones(4, 3)), I, "^embedding: index 4 is not in 0 … 3"),
    Row("embedding, negative", lambda: F.embedding([-1], ones(4, 3)), I, "^embedding: index -1 is not in 0 … 3"),
    Row("embedding, weight", lambda: F.embedding([0], X), V, r"^embedding: weight must be \(V, d\), not .*\(2,\)"),
    Row("linear", lambda: F.linear(A, ones(5, 4)), V, r"^linear: x of shape \(2, 3\) and weight of shape \(5, 4\)"),
    Row("linear, bias", lambda: F.linear(A, ones(5, 3), Y), V, r"^linear: bias of shape \(3,\) .*\(5, 3\); it is"),
    Row("linear, scalar", lambda: F.linear(ones(), ones(5, 3)), V, r"^linear: x of shape \(\) and weight"),
    Row("broadcast_to", lambda: sm.broadcast_to(Y, (2, 4)), V, r"^broadcast_to: shape \(3,\) .* \(2, 4\)"),
    Row("broadcast_to, fewer", lambda: sm.broadcast_to(A, (3,)), V, r"^broadcast_to: shape \(2, 3\) .* \(3,\)"),
    Row("squeeze", lambda: F.squeeze(A, 0), V, r"^squeeze: axis 0 of shape \(2, 3\) is not of length 1"),
    Row("split", lambda: sm.split(ones(7), 2), V, "^split: axis 0 of length 7 does not divide into 2"),
    Row("split, none", lambda: sm.split(ones(6), 0), V, "^split: the number of parts must be at least 1, not 0"),
    Row("pad", lambda: sm.pad(A, ((1, 0),) * 3), V, r"^pad: pad_width .* for each of 2 axes"),
    Row("pad, negative", lambda: sm.pad(A, -1), V, r"^pad: pad_width must be 0 or more, not -1; .*x\[1:-1\]"),
    Row("pad, mode", lambda: sm.pad(A, 1, mode="reflect"), V, "^pad: only mode='constant' .* not 'reflect'"),
    Row("tril", lambda: sm.tril(Y), V, r"^tril.*takes a matrix.* not shape \(3,\)"),
    Row("triu", lambda: sm.triu(ones()), V, r"^triu.*takes a matrix.* not shape \(\)"),
    Row("moveaxis", lambda: sm.moveaxis(A, (0, 1), 0), V, r"^moveaxis: source \(0, 1\) and destination 0 differ"),
    Row("layer_norm", lambda: F.layer_norm(A, 4), V, r"^layer_norm: normalized_shape \(4,\) .* \(2, 3\) ends"),
    Row("layer_norm, weight", lambda: F.layer_norm(A, 3, X), V, r"^layer_norm: weight of shape \(2,\) .* \(3,\)"),
    Row("rms_norm", lambda: F.rms_norm(A, (3, 2)), V, r"^rms_norm: normalized_shape \(3, 2\) .* \(2, 3\) ends"),
    Row("max of nothing", lambda: ones(0).max(), V, r"^max\(float32\[0\]\): zero-size"),
    Row("clip", lambda: sm.clip(X, np.zeros(3), None), V, r"^clip\(float32\[2\]\).*\(2,\) \(3,\)"),
    Row("clip without bounds", lambda: sm.clip(X), V, "^clip: give a lower bound, an upper bound or both"),
    Row("norm of another kind", lambda: np.linalg.norm(X, 1), V, "^norm: only the Euclidean .* not ord=1"),
]  # fmt: skip

AXES = [
    Row(f"{name}, axis", lambda f=f, args=args: f(A, *args), I, rf"^{name}.*axis \d")
    for name, f, args in [
        ("sum", sm.sum, (2,)), ("mean", sm.mean, (2,)), ("max", sm.max, (2,)), ("min", sm.min, (2,)),
        ("prod", sm.prod, (2,)), ("var", sm.var, (2,)), ("std", sm.std, (2,)), ("cumsum", F.cumsum, (2,)),
        ("flip", F.flip, (2,)), ("squeeze", F.squeeze, (5,)), ("expand_dims", F.expand_dims, (5,)),
        ("swapaxes", F.swapaxes, (0, 2)), ("transpose", F.transpose, (0, 2)), ("moveaxis", F.moveaxis, (0, 3)),
        ("split", F.split, (1, 2)), ("argmax", np.argmax, (2,)),
    ]
] + [
    Row("sum, negative axis", lambda: A.sum(axis=-3), I, r"^sum\(float32\[2, 3\].*axis -3"),
    Row("norm, axis", lambda: np.linalg.norm(A, axis=2), I, "^norm: axis 2 is out of range for a tensor with 2 axes"),
    Row("concatenate, axis", lambda: sm.concatenate([A, A], axis=2), I, r"^concatenate.*axis 2"),
    Row("stack, axis", lambda: sm.stack([X, X], axis=5), I, "^stack: axis 5 is out of range for a tensor with 2 axes"),
    Row("take_along_axis, axis", lambda: sm.take_along_axis(A, np.zeros((2, 1), int), 2), I, "^take_along_axis: axis"),
    Row("sum, float axis", lambda: A.sum(axis=1.0), K, "^sum.*axis must be an int, a tuple of ints or None, not 1.0"),
    Row("sum, list axis", lambda: A.sum(axis=[0, 1]), K, r"^sum.*axis must be .* a tuple of ints .* not \[0, 1\]"),
    Row("sum, bool axis", lambda: A.sum(True), K, "^sum.*axis must be an int.* not True"),
    Row("sum, axis twice", lambda: A.sum(axis=(0, 0)), V, r"^sum\(float32\[2, 3\].*duplicate"),
    Row("sum, keepdims", lambda: A.sum(keepdims="yes"), K, "^sum.*keepdims must be True or False, not 'yes'"),
    Row("max of two", lambda: sm.max(X, X), K, r"^max.*axis must be an int.* sm\.maximum\(a, b\)"),
    Row("min of two", lambda: sm.min(X, X), K, r"^min.*axis must be an int.* sm\.minimum\(a, b\)"),
    Row("expand_dims, None", lambda: F.expand_dims(X, None), K, "^expand_dims: axis must be an int or a tuple"),
    Row("swapaxes, float", lambda: A.swapaxes(0, 1.0), K, "^swapaxes: axis must be an int"),
]  # fmt: skip

KEYWORDS = [
    Row(f"{name}, {option}", lambda f=f, option=option: f(A, **{option: 0}), K, rf"^{name}.*no .* '{option}'.*axis")
    for name, f in [
        ("sum", sm.sum), ("mean", sm.mean), ("max", sm.max), ("min", sm.min), ("prod", sm.prod), ("var", sm.var),
        ("std", sm.std), ("sum", Tensor.sum), ("var", Tensor.var), ("cumsum", Tensor.cumsum), ("sum", np.sum),
    ]
    for option in ("dim", "keepdim", "dtype")
    if f is not np.sum or option == "dtype"
] + [
    Row("var, unbiased", lambda: A.var(unbiased=False), K, "^var.*no argument .unbiased.; .*ddof"),
    Row("squeeze, dim", lambda: ones(1, 2).squeeze(dim=0), K, "^squeeze: there is no argument .dim.; here it is axis"),
    Row("concatenate, dim", lambda: sm.concatenate([X], dim=0), K, "^concatenate: .* .dim.; here it is axis"),
    Row("stack, dim", lambda: sm.stack([X], dim=0), K, "^stack: there is no argument .dim.; here it is axis"),
    Row("split, dim", lambda: sm.split(X, 2, dim=0), K, "^split: there is no argument .dim.; here it is axis"),
    Row("concatenate, one by one", lambda: sm.concatenate(X, X), K, r"^concatenate: .* one list.*\[a, b\]"),
    Row("stack, one by one", lambda: sm.stack(X, X), K, r"^stack: .* one list.*\[a, b\]"),
    Row("exp of two", lambda: sm.exp(X, X), K, r"^exp.*1 positional argument but 2"),
    Row("maximum of three", lambda: sm.maximum(X, X, X), K, r"^maximum.*2 positional arguments but 3"),
    Row("exp, out", lambda: np.exp(X, out=np.ones(2)), K, "^np.exp with out= has no gradient rule"),
    Row("relu, inplace", lambda: F.relu(X, inplace=True), K, "^relu.*'inplace'"),
    Row("where, positions", lambda: sm.where(X > 0), K, "^where.*two alternatives; .*np.nonzero"),
    Row("where, one branch", lambda: sm.where(X > 0, X), K, "^where.*two alternatives"),
]  # fmt: skip

KINDS = [
    Row("add, text", lambda: X + "a", K, r"^add\(float32\[2\], 'a'\)"),
    Row("add, None", lambda: X + None, K, r"^add\(float32\[2\], None\)"),
    Row("add, list of tensors", lambda: X * [ones(1), ones(1)], K, r"sm\.stack or sm\.concatenate"),
    Row("exp, text", lambda: sm.exp("a"), K, r"^exp\('a'\)"),
    Row("sum, list of tensors", lambda: sm.sum([X, X]), K, r"sm\.stack or sm\.concatenate"),
    Row("reshape, float", lambda: A.reshape(3.0, 2), K, r"^reshape\(float32\[2, 3\]\): 'float'"),
    Row("broadcast_to, float", lambda: sm.broadcast_to(X, (2.0, 2)), K, r"^broadcast_to\(float32\[2\]\): 'float'"),
    Row("getitem, float", lambda: A[1.0], K, r"^getitem: an index .* not 1\.0 .*astype\(int\)"),
    Row("getitem, text", lambda: A["a"], K, "^getitem: an index is made of integers or bools, not 'a'"),
    Row("getitem, slice", lambda: A[0:1.5], K, r"^getitem\(float32\[2, 3\]\): slice indices must be integers"),
    Row("take_along_axis, floats", lambda: sm.take_along_axis(A, np.zeros((2, 1))), K, r"not float64; .*astype"),
    Row("embedding, floats", lambda: F.embedding([0.5], ones(4, 3)), K, "^embedding: indices must be integers"),
    Row("embedding, swapped", lambda: F.embedding(ones(4, 3), [0]), K, r"come first: F\.embedding\(indices, weight\)"),
    Row("embedding, bools", lambda: F.embedding([True], ones(4, 3)), K, "^embedding: .* not bool"),
    Row("one_hot, floats", lambda: F.one_hot([0.5], 3), K, "^one_hot: indices must be integers, not float32"),
    Row("one_hot, range", lambda: F.one_hot([3], 3), I, "^one_hot: class 3 is not in 0 … 2"),
    Row("one_hot, classes", lambda: F.one_hot([0], 2.5), K, "^one_hot: num_classes must be an integer, not 2.5"),
    Row("one_hot, no classes", lambda: F.one_hot([0], -1), V, "^one_hot: num_classes must be at least 1, not -1"),
    Row("split, float", lambda: sm.split(X, 2.0), K, "^split: the number of parts must be an integer, not 2.0"),
    Row("split, places", lambda: sm.split(X, [0.5]), K, r"^split: the places to cut must be integers, not \[0.5\]"),
    Row("pad, float", lambda: sm.pad(A, 1.5), K, "^pad: pad_width must be made of integers, not 1.5"),
    Row("tril, float", lambda: sm.tril(A, 1.5), K, "^tril.*'float'"),
    Row("clip, text", lambda: sm.clip(X, "a", None), K, r"^clip\(float32\[2\]\)"),
    Row("astype, unknown", lambda: X.astype("foo"), K, "foo"),
    Row("astype, complex", lambda: X.astype(complex), K, "real numbers or bools, not dtype complex128"),
    Row("layer_norm, float shape", lambda: F.layer_norm(A, 3.0), K, "^layer_norm: normalized_shape must be an integer"),
    Row("layer_norm, eps", lambda: F.layer_norm(A, 3, eps=-1.0), V, r"^layer_norm: eps must be in \[0, inf\), not -1"),
    Row("rms_norm, eps", lambda: F.rms_norm(A, 3, eps=np.nan), V, r"^rms_norm: eps must be in \[0, inf\), not nan"),
    Row("gelu, form", lambda: F.gelu(X, True), V, "^gelu: approximate must be 'tanh' or 'none', not True"),
    Row("gelu of integers", lambda: F.gelu(integers(1, 2)), K, r"gelu.*: x must hold floats, not int64; use .*astype"),
    Row("layer_norm, integers", lambda: F.layer_norm(integers(1, 2), 2), K, r"^layer_norm: .* not int64; use .*astype"),
    Row("rms_norm of integers", lambda: F.rms_norm(integers(1, 2), 2), K, r"^rms_norm: .* not int64; use .*astype"),
    Row("integers to a negative power", lambda: integers(1, 2) ** -1, V, r"^pow\(int64\[2\], -1\)"),
    Row("bools, negative", lambda: -Tensor([True]), K, r"^neg\(bool\[1\]\): .*`~`"),
]  # fmt: skip

PYTHON = [
    Row("t[i] = v", lambda: assign(ones(3)), K, r"not changed in place.*sm\.where\(mask, value, tensor\).*\.data"),
    Row("bool(t)", lambda: bool(X), V, r"truth of shape \(2,\) is ambiguous: use \.data\.any\(\) or \.data\.all\(\)"),
    Row("if a == b", lambda: 1 if X == X else 0, V, r"truth of shape \(2,\) is ambiguous"),
    Row("bool of nothing", lambda: bool(ones(0)), V, r"truth of shape \(0,\) is ambiguous"),
    Row("len of a scalar", lambda: len(ones()), K, "len|0-d|scalar"),
    Row("iterating over a scalar", lambda: list(ones()), K, "len|0-d|scalar|iterat"),
    Row("float of many", lambda: float(X), V, r"one element, not of shape \(2,\)"),
    Row("int of many", lambda: int(X), V, r"one element, not of shape \(2,\)"),
    Row("item of many", lambda: X.item(), V, r"one element, not of shape \(2,\); use \.tolist\(\)"),
    Row("range of a float", lambda: range(ones(1)), K, "'float' object cannot be interpreted as an integer"),
    Row("range of many", lambda: range(integers(1, 2)), V, r"one element, not of shape \(2,\)"),
    Row("format of many", lambda: f"{X:.3f}", V, r"one element, not of shape \(2,\)"),
    Row("x // 2", lambda: X // 2, K, "//"),
    Row("x % 2", lambda: X % 2, K, "%"),
    Row("floats & floats", lambda: X & X, K, r"^bitwise_and\(float32\[2\], float32\[2\]\)"),
]

ROWS = SHAPES + AXES + KEYWORDS + KINDS + PYTHON
