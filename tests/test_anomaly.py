"""sm.detect_anomaly: the first NaN or inf is named, in both passes, and nothing else is."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from helpers import DIFFERENTIABLE, Case, close, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor, nn
from tinygrad_sm.inspection import AnomalyError

INF, NAN = np.inf, np.nan


def named(data: Any, name: str = "x") -> Tensor:
    return Tensor(np.array(data, np.float32), requires_grad=True, name=name)


def scaled_until_it_overflows() -> Any:
    net = nn.Sequential(nn.Linear(3, 2))
    return net(Tensor(np.full((1, 3), 1e38, np.float32))) * 1e38


def broken_layer() -> Any:
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    net.layers[0].weight.data = np.full((2, 3), NAN, np.float32)
    return net(Tensor(np.ones((1, 3), np.float32)))


def two_steps_that_meet() -> Any:
    """Each share of the gradient is finite; their sum is not."""
    x = named([1.0])
    F.concatenate([x * 1.0, x]).backward([3e38, 3e38])


def bad_hook() -> Any:
    y = named([1.0]) * 2
    y.register_hook(lambda g: np.array([NAN]))
    y.backward()


FORWARD = [
    ("log of 0", lambda: named([0.5, 0.0]).log(), r"log made -inf: 1 of 2 entries, the first at \(1,\)",
     r"argument 0 'x': float32\[2\], 0.0 at \(1,\)"),
    ("log of a negative", lambda: named([-1.0]).log(), "log made NaN: 1 of 1", r"-1.0 at \(0,\)"),
    ("division by zero", lambda: named([[1.0, 2.0]]) / named([[1.0], [0.0]], "n"),
     r"div made inf: 2 of 4 entries, the first at \(1, 0\)", r"argument 1 'n': float32\[2, 1\], 0.0 at \(1, 0\)"),
    ("0/0", lambda: named([0.0]) / 0, "div made NaN", "argument 1: 0\n"),
    ("inf − inf", lambda: named([-INF]) - named([-INF]), "sub made NaN", "-inf"),
    ("overflow", lambda: named([100.0]).exp(), "exp made inf", "100.0"),
    ("+inf into softmax", lambda: F.softmax(named([INF, 0.0], "z")), "softmax was given inf: 1 of 2 .*argument 0 'z'",
     "line: "),
    ("all −inf", lambda: F.softmax(named([-INF, -INF])), "softmax made NaN: 2 of 2", "-inf"),
    ("NaN in the data", lambda: named([[1.0], [NAN]]) @ named([[1.0]]),
     r"matmul was given NaN: 1 of 2 entries, the first at \(1, 0\), in argument 0 'x'", "line: "),
    ("loss of an impossible class", lambda: F.cross_entropy(named([[-INF, 0.0]]), [0]), "cross_entropy made inf",
     r"from -inf to 0.0"),
    ("half precision", lambda: Tensor(np.float16([60000.0]), requires_grad=True) * 2, "mul made inf", "60000.0"),
    ("inside a layer", broken_layer, "linear was given NaN: 6 of 6 .* in argument 1 'weight'",
     "module: Sequential > layers.0: Linear"),
    ("after a layer", scaled_until_it_overflows, "(linear|mul) made -?inf", "line: test_anomaly.py"),
    ("nothing to differentiate", lambda: Tensor([0.0]).log(), "log made -inf", "line: test_anomaly.py"),
    ("no_grad", lambda: sm.no_grad()(lambda: named([0.0]).log())(), "log made -inf", "0.0 at"),
]  # fmt: skip
BACKWARD = [
    ("sqrt of 0", lambda: named([4.0, 0.0]).sqrt().sum().backward(),
     r"the backward pass of sqrt made inf: 1 of 2 entries, the first at \(1,\), for argument 0 'x'",
     r"the gradient that came in: float32\[2\], 1.0 at \(1,\)\n  argument 0 'x': float32\[2\], 0.0 at \(1,\)"),
    ("overflow", lambda: (named([1.0]) * 1e30).backward([1e30]), "the backward pass of mul made inf", "1e\\+30"),
    ("a NaN to start from", lambda: (named([1.0]) * 2).backward([NAN]), r"the gradient of mul, float32\[1\], has NaN",
     "line: "),
    ("a hook's NaN", bad_hook, "the gradient of mul, .* has NaN", "line: "),
    ("a sum that overflows", two_steps_that_meet, r"the gradient of a leaf 'x', float32\[1\], has inf", ""),
]  # fmt: skip


@pytest.mark.parametrize(("f", "message", "detail"), [row[1:] for row in FORWARD + BACKWARD],
                         ids=[row[0] for row in FORWARD + BACKWARD])  # fmt: skip
def test_the_first_is_named(f: Any, message: str, detail: str) -> None:
    with pytest.raises(AnomalyError, match=f"^{message}") as caught, sm.detect_anomaly():
        f()
    assert isinstance(caught.value, FloatingPointError)
    assert caught.match(detail)


def test_a_recorded_backward_pass_is_watched() -> None:
    x = named([0.0])
    with sm.detect_anomaly(), pytest.raises(AnomalyError, match="inf"):
        sm.grad(x.sqrt().sum(), x, create_graph=True)


def test_a_loss_from_outside_is_watched_backwards() -> None:
    x = named([0.0])
    y = x.sqrt().sum()
    with sm.detect_anomaly(), pytest.raises(AnomalyError, match="the backward pass of sqrt made inf"):
        y.backward()
    assert x.grad is None


@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_no_op_raises_a_false_alarm(case: Case) -> None:
    args = case.arguments()
    cotangent = np.ones(np.shape(case(*args)))
    expected = case.first(args, cotangent)
    with sm.detect_anomaly():
        close(case.first(args, cotangent), expected, rtol=1e-12)


def hidden_class() -> Tensor:
    return F.cross_entropy(leaf([[-INF, 0.0, 1.0]]), [1])


def masked_scores() -> Tensor:
    scores = F.where(np.tri(3, dtype=bool), leaf(normal(3, 3)), -INF)
    return (F.softmax(scores) * F.log_softmax(leaf(normal(3, 3)))).sum()


def masked_attention() -> Tensor:
    x, mask = leaf(normal(3, 2)), np.array([[0.0, -INF, 0.0], [-INF] * 3, [0.0, 0.0, -INF]])
    out, _ = F.scaled_dot_product_attention(x, x, x, mask=mask, is_causal=True, return_weights=True)
    return (out * F.scaled_dot_product_attention(x, x, x, mask=mask)).sum()


@pytest.mark.parametrize("f", [hidden_class, masked_scores, masked_attention], ids=lambda f: f.__name__)
@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_a_mask_of_minus_infinity_is_no_anomaly(f: Any, create_graph: bool) -> None:
    with sm.detect_anomaly():
        f().backward(create_graph=create_graph)


def test_numpy_does_not_warn_inside_and_does_again_outside() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(AnomalyError), sm.detect_anomaly():
            named([0.0]).log()
        assert seen == []
        named([0.0]).log()
    assert len(seen) == 1


def test_record_inside_detect_anomaly_still_detects() -> None:
    with sm.detect_anomaly(), sm.record(), pytest.raises(AnomalyError):
        named([0.0]).log()


@pytest.mark.parametrize(("row", "message"), [([0.5, 0.6], "1.1"), ([1.5, -0.5], "-0.5"), ([0.0, 0.0], "0")])
def test_probabilities_that_are_none_are_refused_only_here(row: list[float], message: str) -> None:
    z, target = named([[1.0, 2.0], [0.0, 0.0]]), np.array([[0.25, 0.75], row], np.float32)
    assert np.isfinite(F.cross_entropy(z, target).item())
    for given in (target, Tensor(target, requires_grad=True)):
        with sm.detect_anomaly(), pytest.raises(ValueError, match=f"^cross_entropy: .*{message}"):
            F.cross_entropy(z, given)
    with sm.detect_anomaly():
        F.cross_entropy(z, F.softmax(Tensor(normal(2, 2, dtype=np.float32) * 9)))


def test_a_nan_from_a_number_or_an_option_is_blamed_where_it_comes_in() -> None:
    x = named([1.0, 2.0])
    with sm.detect_anomaly(), pytest.raises(AnomalyError, match=r"^mul made NaN"):
        x * NAN
    q = leaf(normal(2, 2))
    with sm.detect_anomaly(), pytest.raises(AnomalyError, match=r"^attention was given NaN.*in option mask"):
        F.scaled_dot_product_attention(q, q, q, mask=np.array([[0.0, NAN], [0.0, 0.0]]))
    with sm.detect_anomaly():
        F.clip(x, 0.0, INF)
