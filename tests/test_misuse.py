"""Misuse that is no error: warned of, or given the one meaning it can have; and failures that change nothing."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import numpy as np
import pytest
from helpers import close, leaf

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor, nn, optim
from tinygrad_sm.ops.elsewhere import HERE

INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.bool_]


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.__name__)
def test_integers_and_bools_are_counted_as_numpy_counts_them(dtype: Any) -> None:
    x = np.ones((2, 200), dtype)
    for name in ("sum", "mean", "prod", "cumsum"):
        y = getattr(Tensor(x), name)()
        expected = getattr(np, name)(x)
        assert y.dtype == expected.dtype
        assert np.array_equal(y.data, expected)
    assert sm.sum(x) == 400


@pytest.mark.parametrize("f", [sm.sqrt, sm.exp, F.sigmoid, F.silu, lambda x: x / 2, lambda x: x.std()])
def test_functions_of_integers_are_floats(f: Any) -> None:
    assert f(Tensor(np.array([1, 2, 3]))).dtype == np.float64


def test_lists_and_ranges_stand_for_arrays_forward_and_backward() -> None:
    for other in ([1.0, 2.0], range(1, 3)):
        x = leaf([3.0, 4.0])
        (x * other).sum().backward()
        assert x.grad.tolist() == [1.0, 2.0]
    a = leaf(np.eye(2))
    (a @ [1.0, 2.0]).sum().backward()
    assert a.grad.tolist() == [[1.0, 2.0], [1.0, 2.0]]


def test_an_array_that_is_passed_too_much_is_not_written_to() -> None:
    x, y = Tensor([1.0, 2.0]), Tensor([5.0, 6.0])
    for call in (lambda: sm.exp(x, y), lambda: sm.maximum(x, x, y), lambda: F.tanh(x, y)):
        with pytest.raises(TypeError):
            call()
    assert y.tolist() == [5.0, 6.0]


# -- optimisers ----------------------------------------------------------------------------------


def test_a_step_without_any_gradient_warns() -> None:
    optimizer = optim.SGD([leaf([1.0])], lr=0.1)
    with pytest.warns(UserWarning, match=r"SGD\.step: no parameter has a gradient.*backward\(\) comes before step"):
        optimizer.step()


def test_one_gradient_among_many_parameters_does_not_warn() -> None:
    w, other = leaf([1.0]), leaf([1.0])
    w.grad = Tensor([1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optim.SGD([w, other], lr=0.1).step()


def test_a_step_that_fails_changes_nothing() -> None:
    first, second = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    optimizer = optim.Adam([first, second])
    for p in (first, second):
        p.grad = Tensor(np.ones(2))
    second.data = np.ones(3)
    with pytest.raises(ValueError, match="parameter 1 now has shape"):
        optimizer.step()
    assert first.tolist() == [1.0, 2.0]
    assert (optimizer.steps, optimizer.state) == (0, {})


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW], ids=lambda k: k.__name__)
def test_adam_in_half_precision_whose_epsilon_would_be_zero(kind: Any) -> None:
    gradient = np.array([0.0, 1e-4, 1.0, 300.0], np.float16)
    half, full = leaf(np.ones(4), np.float16), leaf(np.ones(4))
    optimizers = [kind([half], lr=0.01), kind([full], lr=0.01)]
    for _ in range(3):
        for p, optimizer in zip((half, full), optimizers, strict=True):
            p.grad = Tensor(gradient.astype(p.dtype))
            optimizer.step()
    assert half.dtype == np.float16
    close(half.data.astype(float), full.data, rtol=2e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clipping_leaves_gradients_that_are_not_finite_and_says_so(bad: float) -> None:
    p, q = leaf([1.0, 2.0]), leaf([3.0])
    p.grad, q.grad = Tensor(np.array([1.0, bad])), Tensor(np.array([3.0]))
    norm = optim.clip_grad_norm_([p, q], 1.0)
    assert not math.isfinite(norm)
    assert np.array_equal(p.grad.data, [1.0, bad], equal_nan=True)
    assert q.grad.tolist() == [3.0]


def test_clipping_without_gradients() -> None:
    assert optim.clip_grad_norm_([leaf([1.0])], 1.0) == 0.0
    assert optim.clip_grad_norm_([], 1.0) == 0.0


# -- modules -------------------------------------------------------------------------------------


def test_a_module_need_not_call_the_constructor_of_its_base() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            self.w = leaf([1.0])

    class Mixin:
        def __init__(self) -> None:
            self.mixed = True

    class Both(nn.Module, Mixin):
        def __init__(self) -> None:
            super().__init__()
            self.w = leaf([1.0])

    assert list(Plain().state_dict()) == list(Both().state_dict()) == ["w"]
    assert Both().mixed


def test_sizes_may_be_integers_of_numpy() -> None:
    n = np.int64(3)
    x = np.ones((5, 3), np.float32)
    for layer in (nn.Linear(n, n), nn.LayerNorm(n), nn.RMSNorm(n), nn.LayerNorm([n]), nn.RMSNorm([n])):
        assert layer(x).shape == (5, 3)


@pytest.mark.parametrize("mode", [True, False, np.True_])
def test_modes_are_bools(mode: Any) -> None:
    assert nn.Sequential(nn.Dropout()).train(mode)[0].training is bool(mode)


def test_a_drawing_of_integers_has_one_node() -> None:
    assert "1 constant" in sm.draw(Tensor([1, 2])).alt


# -- names of other libraries ---------------------------------------------------------------------


@pytest.mark.parametrize("name", HERE)
def test_a_method_of_another_library_is_translated(name: str) -> None:
    x = sm.Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(AttributeError, match=rf"a Tensor has no '{name}'; here it is {re.escape(HERE[name])}"):
        getattr(x, name)
    assert not hasattr(x, name)
    for ours in re.findall(r"sm\.(\w+)", HERE[name]):
        assert hasattr(sm, ours)
    for ours in re.findall(r"\bx\.(\w+)", HERE[name]):
        assert hasattr(x, ours)


def test_an_attribute_that_nobody_has() -> None:
    with pytest.raises(AttributeError, match=r"a Tensor has no 'foo'$") as caught:
        sm.Tensor(1.0).foo  # noqa: B018
    assert caught.value.name == "foo"


RETAINING = [lambda y, x: y.backward(retain_graph=True), lambda y, x: sm.grad(y, x, retain_graph=True)]


@pytest.mark.parametrize("call", RETAINING)
def test_a_graph_needs_no_retaining(call: Any) -> None:
    x = sm.Tensor(2.0, requires_grad=True)
    with pytest.raises(TypeError, match="no argument 'retain_graph'; leave it out: a graph lives as long as its loss"):
        call(x * x, x)
