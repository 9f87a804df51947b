"""What attention refuses, as a function and as a module, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from row import Row

import tinygrad_sm.functional as F
from tinygrad_sm import Tensor, nn, no_grad
from tinygrad_sm.nn.attention import Cache

Q, K, V = (
    Tensor(np.ones(shape)) for shape in ((2, 3, 5), (2, 4, 5), (2, 4, 2))
)  # (B, T, d_k), (B, S, d_k), (B, S, d_v)
HEADS = [Tensor(np.ones((2, 6, *x.shape[1:]))) for x in (Q, K, V)]  # (B, H, …)
X = np.ones((3, 5, 8), np.float32)
PADDING = np.ones((3, 5), bool)  # a padding mask (B, S)
sdpa = F.scaled_dot_product_attention
Case = tuple[str, Any, dict[str, Any], type[Exception], str]

FUNCTION: list[Case] = [
    # shapes
    ("d_k", (Q, np.ones((2, 4, 6)), V), {}, ValueError,
     r"q \(2, 3, 5\), k \(2, 4, 6\), v \(2, 4, 2\) do not fit: d_k is 5 in q and 6 in k. Expected"),
    ("keys and values", (Q, K, np.ones((2, 3, 2))), {}, ValueError, "do not fit: there are 4 keys and 3 values"),
    ("one axis", ([1.0], K, V), {}, ValueError, r"q \(1,\), .*: each must have two axes or more"),
    ("heads", (np.ones((2, 8, 3, 5)), *HEADS[1:]), {}, ValueError,
     r"q \(2, 8, 3, 5\), k \(2, 6, 4, 5\), .* leading axes \(batch, heads\) do not broadcast; each must be"),
    ("heads and time exchanged", (np.ones((2, 3, 6, 5)), *HEADS[1:]), {}, ValueError, "do not broadcast"),
    # kinds
    ("integers", (Q.data.astype(int), K, V), {}, TypeError, r"must be floats, not int64, float64, float64; use"),
    ("no values", (Q, K, None), {}, TypeError, "v: .*NoneType"),
    ("is_causal a mask", (Q, K, V), {"is_causal": np.ones((3, 4), bool)}, TypeError,
     r"is_causal must be True or False, not array\(.*; a mask goes with mask="),
    ("is_causal text", (Q, K, V), {"is_causal": "yes"}, TypeError, "is_causal must be True or False, not 'yes'"),
    ("attn_mask", (Q, K, V), {"attn_mask": None}, TypeError, r"here it is mask \(bool: True = attend\); it takes q"),
    ("causal", (Q, K, V), {"causal": True}, TypeError, "here it is is_causal"),
    ("dropout", (Q, K, V), {"dropout": 0.1}, TypeError, "here it is dropout_p"),
    ("enable_gqa, 2 of 3 heads", (np.ones((3, 3, 5)), K, V), {"enable_gqa": True}, ValueError,
     "with enable_gqa, k and v have the same number"),
    ("enable_gqa, another d_k", (np.ones((4, 3, 4)), np.ones((2, 5, 6)), np.ones((2, 5, 6))), {"enable_gqa": True},
     ValueError, r"q \(4, 3, 4\), k \(2, 5, 6\), v \(2, 5, 6\) do not fit: d_k is 4 in q and 6 in k"),
    ("enable_gqa, one query, is_causal a mask", (np.ones((4, 1, 5)), np.ones((2, 3, 5)), np.ones((2, 3, 5))),
     {"enable_gqa": True, "is_causal": np.ones((1, 3), bool)}, TypeError, "is_causal must be True or False"),
    ("enable_gqa, a word", (Q, K, V), {"enable_gqa": "yes"}, TypeError, "enable_gqa"),
    # scale
    ("scale 0", (Q, K, V), {"scale": 0}, ValueError, "scale must be a finite number above 0, not 0"),
    ("scale −1", (Q, K, V), {"scale": -1.0}, ValueError, "finite number above 0, not -1"),
    ("scale NaN", (Q, K, V), {"scale": np.nan}, ValueError, "finite number above 0, not nan"),
    ("scale ∞", (Q, K, V), {"scale": np.inf}, ValueError, "finite number above 0, not inf"),
    ("scale True", (Q, K, V), {"scale": True}, TypeError,
     r"scale must be one number, not True; None is 1/sqrt\(d_k\), and 1.0 switches the scaling off"),
    ("scale False", (Q, K, V), {"scale": False}, TypeError, "scale must be one number, not False; None is"),
    ("scale NumPy's bool", (Q, K, V), {"scale": np.False_}, TypeError, "scale must be one number"),
    ("scale text", (Q, K, V), {"scale": "0.5"}, TypeError, "scale must be one number, not '0.5'"),
    ("scale per head", (Q, K, V), {"scale": np.ones(2)}, TypeError, "scale must be one number, not array"),
    ("scale learned", (Q, K, V), {"scale": Tensor(1.0, requires_grad=True)}, TypeError,
     "gets no gradient; .*to learn it, multiply q with it"),
    # dropout
    *((f"dropout_p {p}", (Q, K, V), {"dropout_p": p}, ValueError, rf"dropout_p must be in \[0, 1\), not {shown}")
      for p, shown in ((1.0, "1.0"), (1, "1"), (2.0, "2"), (-0.1, "-0.1"), (np.nan, "nan"), (np.inf, "inf"))),
    ("dropout_p True", (Q, K, V), {"dropout_p": True}, TypeError, "dropout_p must be one number, not True"),
    ("dropout_p None", (Q, K, V), {"dropout_p": None}, TypeError, "dropout_p must be one number, not None"),
    # masks
    *((f"mask of {kind.__name__}", (Q, K, V), {"mask": np.ones((3, 4), kind)}, TypeError,
       r"mask must be bool \(True = attend\) or float \(added to the scores\), not .*; use np.asarray\(mask, bool\)")
      for kind in (np.int64, np.uint8, complex)),
    ("mask a list of integers", (Q, K, V), {"mask": [1, 1, 1, 0]}, TypeError, "mask must be bool .*, not int64"),
    ("mask a Tensor of integers", (Q, K, V), {"mask": Tensor(np.ones((3, 4), int))}, TypeError, "mask must be bool"),
    ("mask text", (Q, K, V), {"mask": "causal"}, TypeError, "mask: .*str"),
    ("mask exchanged", (Q, K, V), {"mask": np.ones((4, 3), bool)}, ValueError,
     r"mask of shape \(4, 3\) does not broadcast to the scores \(2, 3, 4\)$"),
    ("mask of queries", (Q, K, V), {"mask": np.ones(3, bool)}, ValueError, r"mask of shape \(3,\) does not"),
    ("mask of more axes", (Q, K, V), {"mask": np.ones((1, 2, 3, 4), bool)}, ValueError, r"shape \(1, 2, 3, 4\) does"),
    ("mask wider than the scores", (Q, np.ones((2, 1, 5)), np.ones((2, 1, 2))), {"mask": np.ones((3, 2), bool)},
     ValueError, r"mask of shape \(3, 2\) does not broadcast to the scores \(2, 3, 1\)"),
    ("padding mask", (Q, K, V), {"mask": np.ones((2, 4), bool)}, ValueError,
     r"a padding mask \(batch, S\) goes as mask\[:, None, :\]"),
    ("padding mask, with heads", HEADS, {"mask": np.ones((2, 4), bool)}, ValueError, r"mask\[:, None, None, :\]"),
    ("mask without heads", HEADS, {"mask": np.zeros((2, 3, 4))}, ValueError, r"T, S\) goes as mask\[:, None\]"),
]  # fmt: skip


def module(*sizes: Any, **options: Any) -> Callable[[], Any]:
    return partial(nn.MultiHeadAttention, *(sizes or (8, 2)), **options)


def call(x: Any, mask: Any = None, causal: bool = False, **options: Any) -> Callable[[], Any]:
    return lambda: nn.MultiHeadAttention(8, 2, causal=causal)(x, mask, **options)


def continued(mask: Any) -> Callable[[], Any]:
    """Return a call with 4 positions in the cache and 5 new ones."""

    def run() -> Any:
        attend, cache = nn.MultiHeadAttention(8, 2, causal=True), Cache(16)
        with no_grad():
            attend(X[:, :4], cache=cache)
            try:
                attend(X, mask, cache=cache)
            finally:
                assert cache.length == 4  # nothing is changed by a call that fails

    return run


def flipped() -> Any:
    attend = nn.MultiHeadAttention(8, 2)
    attend.scaled = 0.125  # type: ignore[assignment]
    return attend(X)


MODULE: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("heads that do not divide", module(8, 3), ValueError, "n_heads=3 must divide d_model=8"),
    ("no heads", module(8, 0), ValueError, "n_heads=0 must divide"),
    ("sizes of floats", module(8, 2.0), TypeError, "d_model and n_heads must be integers, not 8 and 2.0"),
    ("sizes of text", module("8", 2), TypeError, "must be integers, not '8' and 2"),
    ("scaled a number", module(scaled=0.125), TypeError,
     r"scaled must be True or False, not 0.125; True divides the scores by sqrt\(d_head\), and F.scaled.* takes any"),
    ("scaled 1.0", module(scaled=1.0), TypeError, "scaled must be True or False, not 1.0"),
    ("scaled None", module(scaled=None), TypeError, "scaled must be True or False, not None"),
    ("scaled a number in a block", partial(nn.TransformerBlock, 8, 2, scaled=0.5), TypeError, "not 0.5; True divides"),
    ("scaled a number afterwards", flipped, TypeError, "scaled must be True or False, not 0.125"),
    ("causal a mask", module(causal=np.ones((5, 5), bool)), TypeError,
     "causal must be True or False, not array.* a mask goes with each call"),
    ("dropout 1", module(dropout=1.0), ValueError, r"dropout must be in \[0, 1\), not 1.0"),
    ("dropout −0.1", module(dropout=-0.1), ValueError, "not -0.1"),
    ("dropout NaN", module(dropout=np.nan), ValueError, "not nan"),
    ("dropout text", module(dropout="0.1"), TypeError, "dropout must be one number, not '0.1'"),
    ("width", call(X[..., :7]), ValueError, r"x must be \(batch, time, 8\), not \(3, 5, 7\)$"),
    ("no batch", call(X[0]), ValueError, r"not \(5, 8\); use x\[None\]"),
    ("integers", call(X.astype(int)), TypeError, r"x must be floats, not int64; use .astype"),
    ("nothing", call(None), TypeError, "x: .*NoneType"),
    ("attn_mask", call(X, attn_mask=None), TypeError, r"here it is mask \(bool: True = attend\); it takes x, mask"),
    ("key_padding_mask", call(X, key_padding_mask=PADDING), TypeError,
     r"here it is mask \(bool: True = attend\), as ~key_padding_mask\[:, None, None, :\]"),
    ("need_weights", call(X, need_weights=True), TypeError, "here it is return_weights"),
    ("padding mask", call(X, PADDING), ValueError,
     r"mask of shape \(3, 5\) .* scores \(3, 2, 5, 5\); a padding mask \(batch, S\) goes as mask\[:, None, None, :\]"),
    ("padding mask, causal", call(X, PADDING, causal=True), ValueError, r"goes as mask\[:, None, None, :\]"),
    ("mask of integers", call(X, np.ones((5, 5), int)), TypeError, "mask must be bool"),
    ("mask without heads", call(X, np.ones((3, 5, 5), bool)), ValueError, r"goes as mask\[:, None\]"),
    ("mask of another length", call(X, np.ones((3, 3), bool)), ValueError, r"mask of shape \(3, 3\) does not"),
    ("mask of integers with a cache", continued(np.ones(9, int)), TypeError, "mask must be bool"),
    ("mask of the new keys only, with a cache", continued(np.ones((5, 5), bool)), ValueError, r"scores \(3, 2, 5, 9\)"),
    ("padding mask with a cache", continued(np.ones((3, 9), bool)), ValueError, r"goes as mask\[:, None, None, :\]"),
]  # fmt: skip

ROWS = [
    *(Row(name, partial(sdpa, *args, **kwargs), kind, f"^scaled_dot_product_attention: .*{message}")
      for name, args, kwargs, kind, message in FUNCTION),
    *(Row(f"MultiHeadAttention: {name}", run, kind, f"^MultiHeadAttention: .*{message}")
      for name, run, kind, message in MODULE),
    Row("mask by position", partial(sdpa, Q, K, V, np.ones((3, 4), bool)), TypeError, "positional"),
]  # fmt: skip
