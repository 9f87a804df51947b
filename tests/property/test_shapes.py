"""Any shapes that broadcast, any axes, dtypes, indices and masks: against the engine of single numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from helpers import close, normal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scalar import numbers, slopes

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor

FLOATS = st.sampled_from([np.float16, np.float32, np.float64])
ROUNDING = {np.float16: 2e-2, np.float32: 2e-5, np.float64: 1e-11}
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3)
SEEDS = st.integers(0, 1000)


def check(f: Callable[..., Any], *arrays: Any, reference: Callable[..., Any] | None = None) -> None:
    """Compare values and gradients of Σ f(…)·c, for random c, with the scalar engine, each in the leaf's own dtype."""
    ours = [Tensor(a, requires_grad=True) for a in arrays]
    theirs = [numbers(a) for a in arrays]
    y, expected = f(*ours), np.asarray((reference or f)(*theirs), object)
    worst = max(ROUNDING[a.dtype.type] for a in arrays)
    assert y.dtype == np.result_type(*arrays)
    assert y.shape == expected.shape
    close(y.data.astype(float), expected.astype(float), rtol=worst, atol=worst)
    c = normal(*y.shape, seed=99)
    (y * c.astype(y.dtype)).sum().backward()
    total = np.sum(expected * c)
    if not expected.size:
        assert all(not x.grad.data.any() for x in ours)
        return
    for x, g in zip(ours, slopes(total, *theirs), strict=True):
        assert (x.grad.dtype, x.grad.shape) == (x.dtype, x.shape)
        close(x.grad.data.astype(float), g.astype(float), rtol=worst, atol=10 * worst)


@given(
    st.sampled_from([np.add, np.subtract, np.multiply, np.true_divide, np.maximum, np.minimum]),
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=3),
    FLOATS, FLOATS, SEEDS,
)  # fmt: skip
def test_binary_ops_broadcast_and_mix_dtypes(f: Any, shapes: Any, first: Any, second: Any, seed: int) -> None:
    a, b = (normal(*s, seed=seed + i) for i, s in enumerate(shapes.input_shapes))
    b = np.where(b < 0, b - 0.5, b + 0.5)  # away from a division by zero
    check(f, a.astype(first), b.astype(second))


@st.composite
def shape_and_axes(draw: Any, several: bool = True) -> tuple[tuple[int, ...], Any]:
    shape = draw(SHAPES)
    one = st.integers(-len(shape), len(shape) - 1)
    if not several:
        return shape, draw(one)
    axes = hnp.valid_tuple_axes(len(shape), min_size=0)
    return shape, draw(st.none() | one | axes)


@given(shape_and_axes(), st.booleans(), st.sampled_from(["sum", "mean", "max", "min", "prod", "var"]), FLOATS, SEEDS)
def test_reductions_over_any_axes(case: Any, keepdims: bool, name: str, dtype: Any, seed: int) -> None:
    shape, axis = case
    x = (normal(*shape, seed=seed) + 0.1).astype(dtype)

    def composed(a: Any) -> Any:
        if name in ("mean", "var"):
            n = a.size / np.size(np.sum(a, axis=axis))
            m = np.sum(a, axis=axis, keepdims=True) * (1 / n)
            d = a - m
            return np.sum(a if name == "mean" else d * d, axis=axis, keepdims=keepdims) * (1 / n)
        return getattr(np, name)(a, axis=axis, keepdims=keepdims)

    check(lambda a: getattr(sm, name)(a, axis=axis, keepdims=keepdims), x, reference=composed)


def _softmax(x: Any, axis: int, t: float) -> Any:
    e = np.exp(x * (1 / t))
    return e / np.sum(e, axis=axis, keepdims=True)


@given(shape_and_axes(several=False), st.sampled_from([0.5, 1.0, 3.0]), FLOATS, SEEDS)
def test_softmax_family_along_any_axis(case: Any, temperature: float, dtype: Any, seed: int) -> None:
    shape, axis = case
    x = normal(*shape, seed=seed).astype(dtype)
    t = temperature
    check(lambda a: F.softmax(a, axis, temperature=t), x, reference=lambda a: _softmax(a, axis, t))
    check(lambda a: F.log_softmax(a, axis, temperature=t), x, reference=lambda a: np.log(_softmax(a, axis, t)))
    check(
        lambda a: F.logsumexp(a, axis, temperature=t), x,
        reference=lambda a: np.log(np.sum(np.exp(a * (1 / t)), axis=axis)),
    )  # fmt: skip


@st.composite
def losses(draw: Any) -> tuple[Any, ...]:
    shape = draw(SHAPES.filter(lambda s: len(s) > 1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    classes = shape[axis]
    rows = tuple(n for i, n in enumerate(shape) if i != axis % len(shape))
    target = draw(hnp.arrays(np.int64, rows, elements=st.integers(-1, classes - 1)))  # −1 is ignored
    weight = draw(st.none() | hnp.arrays(float, classes, elements=st.sampled_from([0.0, 0.5, 2.0])))
    return shape, axis, target, weight, draw(st.sampled_from(["mean", "sum", "none"])), draw(st.sampled_from([0, 0.3]))


@given(losses(), FLOATS, SEEDS)
def test_cross_entropy_with_every_option(case: Any, dtype: Any, seed: int) -> None:
    shape, axis, target, weight, reduction, smoothing = case
    w = np.ones(shape[axis]) if weight is None else weight

    def composed(z: Any) -> Any:
        log_p = np.log(_softmax(np.moveaxis(z, axis, -1), -1, 1.0))
        out, total = np.empty(target.shape, object), 0.0
        for i in np.ndindex(target.shape):
            y = target[i]
            out[i] = log_p[i][0] * 0.0
            if y >= 0:
                total += w[y]
                out[i] = log_p[i][y] * (-(1 - smoothing) * w[y]) - np.sum(log_p[i] * w) * (smoothing / len(w))
        if reduction == "none":
            return out
        return np.sum(out) * (1 / (total or 1) if reduction == "mean" else 1)

    if reduction == "mean" and not w[target[target >= 0]].sum():
        smoothing = 0  # no target counts: the loss is 0 by definition
    check(
        lambda z: F.cross_entropy(
            z, target, axis=axis, weight=weight, ignore_index=-1, reduction=reduction, label_smoothing=smoothing
        ),
        normal(*shape, seed=seed).astype(dtype),
        reference=composed,
    )


@st.composite
def attentions(draw: Any) -> tuple[Any, ...]:
    lead = draw(hnp.mutually_broadcastable_shapes(num_shapes=4, max_dims=2, min_side=1, max_side=2))
    t, s, d, e = (draw(st.integers(1, 3)) for _ in range(4))
    q, k, v, m = lead.input_shapes
    whole = np.broadcast_shapes(q, k, v)
    m = m if len(m) <= len(whole) and np.broadcast_shapes(m, whole) == whole else ()
    mask_shape = (*m, draw(st.sampled_from([1, t])), draw(st.sampled_from([1, s])))
    mask = draw(st.none() | hnp.arrays(bool, mask_shape))
    return (*q, t, d), (*k, s, d), (*v, s, e), mask, draw(st.booleans())


@given(attentions(), st.sampled_from([None, 1.0]), st.booleans(), SEEDS)
def test_attention_with_any_mask(case: Any, scale: float | None, added: bool, seed: int) -> None:
    q_shape, k_shape, v_shape, mask, causal = case
    t, s = q_shape[-2], k_shape[-2]
    allowed = np.tril(np.ones((t, s), bool)) if causal else np.ones((t, s), bool)
    allowed = allowed if mask is None else allowed & mask
    factor = q_shape[-1] ** -0.5 if scale is None else scale

    def composed(q: Any, k: Any, v: Any) -> Any:
        e = np.exp((q * factor) @ np.swapaxes(k, -1, -2)) * allowed.astype(float)
        total = np.sum(e, axis=-1, keepdims=True)
        return (e / np.where(total.astype(float) == 0, 1.0, total)) @ v  # nothing to attend to: zeros

    given_mask = mask if mask is None or not added else np.where(mask, 0.0, -np.inf)
    check(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask=given_mask, is_causal=causal, scale=scale),
        *(normal(*shape, seed=seed + i) for i, shape in enumerate((q_shape, k_shape, v_shape))),
        reference=composed,
    )


@st.composite
def indices(draw: Any) -> tuple[tuple[int, ...], Any]:
    shape = draw(SHAPES)
    basic = hnp.basic_indices(shape, allow_newaxis=True)
    fancy = hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3))
    return shape, draw(basic | fancy | hnp.arrays(bool, shape))


@given(indices(), SEEDS)
def test_any_index_that_numpy_knows(case: Any, seed: int) -> None:
    shape, index = case
    check(lambda x: x[index], normal(*shape, seed=seed))


@given(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=3), FLOATS, SEEDS)
def test_matmul_of_any_shapes(shapes: Any, dtype: Any, seed: int) -> None:
    a, b = (normal(*s, seed=seed + i).astype(dtype) for i, s in enumerate(shapes.input_shapes))
    check(np.matmul, a, b)


@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3), FLOATS, FLOATS, SEEDS)
def test_where_with_any_mask(shapes: Any, first: Any, second: Any, seed: int) -> None:
    m, a, b = shapes.input_shapes
    mask = normal(*m, seed=seed) > 0
    check(lambda x, y: np.where(mask, x, y), normal(*a).astype(first), normal(*b, seed=seed).astype(second))


@given(shape_and_axes(several=False), st.data())
def test_moving_elements_about(case: Any, data: Any) -> None:
    shape, axis = case
    order = data.draw(st.permutations(range(len(shape))))
    check(lambda x: np.transpose(x, order), normal(*shape))
    check(lambda x: np.flip(x, axis), normal(*shape))
    check(lambda x: np.cumsum(x, axis=axis), normal(*shape))
    check(lambda x: np.concatenate([x, x * 2.0, x], axis=axis), normal(*shape))
    check(lambda x: np.stack([x, x * 2.0], axis=axis), normal(*shape))
    target = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=1, base_shape=shape, max_dims=4, max_side=3))
    if np.broadcast_shapes(shape, target.result_shape) == target.result_shape:
        check(lambda x: np.broadcast_to(x, target.result_shape), normal(*shape))
