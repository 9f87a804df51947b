"""sm.gradcheck: finds planted errors, raises no false alarm, says what is wrong, and leaves everything as it was."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DIFFERENTIABLE, Case, normal

import tinygrad_sm as sm
from tinygrad_sm import Op, Tensor, nn
from tinygrad_sm import functional as F
from tinygrad_sm.inspection import GradcheckError, GradcheckReport
from tinygrad_sm.random import get_state


@pytest.fixture
def own(registry: dict[str, Op]) -> Callable[..., Op]:
    """Make ops that are forgotten after the test."""
    return lambda forward, *rules, **options: Op(forward, rules, **{"name": "own", **options})


def found(f: Any, inputs: Any, **options: Any) -> GradcheckReport:
    """Return the report of a check that must fail."""
    with pytest.raises(GradcheckError) as caught:
        sm.gradcheck(f, inputs, **options)
    assert not caught.value.report
    return caught.value.report


# -- planted errors --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6], ids="{:g}".format)
def test_a_relative_error_of_a_ten_thousandth_is_found(own: Any, seed: int, offset: float) -> None:
    for factor in (1 + 1e-4, 1 - 1e-4):
        cube = own(lambda x: x**3, lambda g, y, x, k=factor: g * 3 * x**2 * k)
        (row,) = found(lambda x, cube=cube: cube(x) + offset, normal(2, 3, seed=seed) + 2, seed=seed).failures
        assert row.analytic / row.numeric == pytest.approx(factor, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e9], ids="{:g}".format)
def test_an_error_is_found_at_any_scale_of_f_and_of_x(own: Any, scale: float) -> None:
    cube = own(lambda x: x**3, lambda g, y, x: g * 3.0003 * x**2)
    found(lambda x: scale * cube(x), normal(3) + 2)
    found(lambda x: cube(x) / scale**2, (normal(3) + 2) * scale)


def test_beside_a_large_value_wide_steps_see_what_narrow_ones_cannot(own: Any) -> None:
    nearly = own(lambda x: 2 * x, lambda g, y, x: 2.0002 * g)
    assert sm.gradcheck(lambda x: 2 * x + 1e8, normal(3))
    found(lambda x: nearly(x) + 1e8, normal(3))


def test_an_error_in_one_entry_of_many_is_found_and_located(own: Any) -> None:
    wrong = np.ones((20, 10))
    wrong[13, 7] = 1 + 1e-4
    square = own(lambda x: x * x, lambda g, y, x: g * 2 * x * wrong)
    (row,) = found(square, normal(20, 10) + 5).failures
    assert row.index == (13, 7)
    assert row.shape == (20, 10)


def test_a_rule_that_is_not_linear_in_the_cotangent_is_found(own: Any) -> None:
    found(own(lambda x: x * x, lambda g, y, x: g * g * 2 * x), [1.5])
    found(own(lambda x: x * x, lambda g, y, x: abs(g) * 2 * x), normal(8))


def test_a_missing_part_of_broadcasting_is_found(own: Any) -> None:
    found(own(lambda a, b: a + b, lambda g, y, a, b: g, lambda g, y, a, b: g[..., :1] + 0 * g),
          (normal(2, 3), normal(3)))  # fmt: skip


@pytest.mark.parametrize(
    "rule",
    [
        lambda g, y, x: g * 3 * np.asarray(x) ** 2,
        lambda g, y, x: g * 3 * (x.data if isinstance(x, Tensor) else x) ** 2,
        lambda g, y, x: g * 3 * x**2 * (1.0001 if isinstance(x, Tensor) else 1),
        lambda g, y, x: (g.data if isinstance(g, Tensor) else g) * 3 * x**2,
    ],
    ids=["asarray", "data", "other rule on Tensors", "cotangent cut"],
)
def test_a_rule_right_at_first_and_wrong_at_second_order_is_found(own: Any, rule: Any) -> None:
    cube = own(lambda x: x**3, rule)
    x = normal(2, 3) + 2
    assert sm.gradcheck(cube, x)
    assert {row.order for row in found(cube, x, order=2).failures} == {2}


def test_a_wrong_definition_is_found_at_second_order(own: Any) -> None:
    op = Op(lambda x: (x**3, None), lambda g, y, _, x: (g * 3 * x**2,), name="own", definition=lambda x: x**3 * 1.0001)
    assert sm.gradcheck(op, [2.0])
    found(op, [2.0], order=2)


def test_a_rule_wrong_at_third_order_only_is_found(own: Any) -> None:
    slope = own(lambda x: 3 * x**2, lambda g, y, x: g * 6 * np.asarray(x), name="own_slope")
    cube = own(lambda x: x**3, lambda g, y, x: g * slope(x))
    assert sm.gradcheck(cube, [2.0], order=2)
    assert {row.order for row in found(cube, [2.0], order=3).failures} == {3}


def test_an_order_is_checked_if_those_below_are_right(own: Any) -> None:
    wrong = own(lambda x: x**3, lambda g, y, x: g * 2 * x**2)
    assert {row.order for row in found(wrong, [2.0], order=3).rows} == {1}


def test_an_input_that_only_the_gradient_misses_is_found() -> None:
    (row,) = found(lambda x, y: x * Tensor(y.data), (normal(2), normal(2))).failures
    assert row.input == "input 1"
    assert ".detach()" in row.note
    assert (row.analytic, row.largest) == (0, abs(row.numeric))


# -- no false alarms -------------------------------------------------------------------------


@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_every_op_passes(case: Case) -> None:
    for seed in (1, 2):
        args = case.arguments(seed=seed)

        def f(*xs: Any, args: Any = args) -> Any:
            given = dict(zip(case.wanted, xs, strict=True))
            return case(*(given.get(i, a) for i, a in enumerate(args)))

        report = sm.gradcheck(f, tuple(args[i] for i in case.wanted), order=2, seed=seed)
        assert {row.order for row in report.rows} == {1, 2}
        assert report.error < 1e-6


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: (x * x).sum() + 1e12, [1.0, 2.0]),
        (lambda x: x * x, [1e8, -3e8]),
        (lambda x: x * x, [1e13]),
        (lambda x: 0.1 * x**3 + 1e3, [-0.00035024, -0.00121632, 0.00060328]),
        (lambda x: 1e-20 * x * x, [1.0, 2.0]),
        (lambda x: x.log(), [1e-3, 1e-4]),
        (lambda x: sm.softmax(x).sum(), [1.0, 2.0]),
        (lambda x: sm.logsumexp(x + 1e6), [1.0, 2.0]),
        (lambda x: F.layer_norm(x + 1e4, 3), [1.0, 2.0, 4.0]),
        (lambda x: sm.cross_entropy(x, [0]), [[30.0, 0.0, -2.0]]),
        (lambda x: abs(x), [3e-6, -1.1e-6]),
        (lambda x: x.astype(np.float32).astype(np.float64), [0.3]),
        (lambda x: x, [1.0]),
        (lambda x: x * 0 + 1, [1.0]),
        (lambda x: Tensor(np.ones(2)), [1.0]),
        (lambda x: (x, x * x, x), [1.0, 2.0]),
        (lambda x: [x.sum()], np.zeros((0, 3))),
        (lambda x: x * x, 2.5),
        (lambda x: sm.grad((x**3).sum(), x, create_graph=True)[0], [2.0]),
    ],
)
def test_right_gradients_of_awkward_functions_pass(f: Any, x: Any) -> None:
    for seed in range(4):
        assert sm.gradcheck(f, x, order=2, seed=seed)


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: nn.Linear(3, 2), normal(4, 3)),
        (lambda: nn.LayerNorm(3), normal(2, 3)),
        (lambda: nn.MultiHeadAttention(4, 2, causal=True), normal(1, 3, 4)),
        (lambda: nn.Embedding(4, 2), np.array([1, 3, 1])),
    ],
    ids=["Linear", "LayerNorm", "MultiHeadAttention", "Embedding"],
)
def test_modules_pass_at_second_order_and_their_parameters_are_checked(make: Any, x: Any) -> None:
    module = make()
    report = sm.gradcheck(module, x, order=2)
    first = {row.input for row in report.rows if row.order == 1}
    assert first == {name for name, _ in module.named_parameters()} | ({"input 0"} if x.dtype.kind == "f" else set())


@pytest.mark.parametrize("seed", range(3))
def test_a_transformer_block_passes(seed: int) -> None:
    sm.manual_seed(seed)
    assert sm.gradcheck(nn.TransformerBlock(4, 2), normal(1, 3, 4, seed=seed), seed=seed)


def test_an_error_in_a_module_is_found_in_the_parameter(own: Any) -> None:
    wrong = own(lambda x: x * 2, lambda g, y, x: g * 2.0002)

    class Layer(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return x @ wrong(self.inner.weight).T + self.inner.bias

    layer = Layer()
    assert [row.input for row in found(layer, normal(2, 3)).failures] == ["inner.weight"]
    assert layer.inner.weight.dtype == np.float32
    layer.inner.weight.requires_grad = False
    assert {row.input for row in sm.gradcheck(layer, normal(2, 3)).rows} == {"input 0", "inner.bias"}


# -- the report ------------------------------------------------------------------------------


def test_the_report_has_a_row_per_output_and_input() -> None:
    w = Tensor(normal(3, 2), name="w")
    report = sm.gradcheck(lambda x, w: (x @ w, sm.softmax(x)), (normal(2, 3), w))
    rows = [(row.output, row.input, row.shape) for row in report.rows]
    assert rows == [("output 0", "input 0", (2, 3)), ("output 1", "input 0", (2, 3)),
                    ("output 0", "w", (3, 2)), ("output 1", "w", (3, 2))]  # fmt: skip
    assert all(row.ok and row.ratio <= 1 and row.analytic == pytest.approx(row.numeric) for row in report.rows)
    assert report
    text = str(report)
    assert "4 right" in text
    assert text == repr(report)
    assert "NO" not in text


def test_inputs_of_one_name_stay_apart() -> None:
    a, b = (Tensor(normal(2, seed=s), name="x") for s in (0, 1))
    assert [row.input for row in sm.gradcheck(lambda a, b: a * b, (a, b)).rows] == ["x", "input 1"]


def test_the_error_shows_the_bad_rows_only_and_pickles(own: Any) -> None:
    wrong = own(lambda x: x * x, lambda g, y, x: g * 3 * x)
    with pytest.raises(GradcheckError) as caught:
        sm.gradcheck(lambda x, y: wrong(x) + y, (Tensor([2.0], name="bad\x1b[31m"), [1.0]))
    text = str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert "1 of 2" in text
    assert "input 1" not in text
    assert "\x1b" not in text
    assert "sm.ops.check()" in text
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == text
    assert again.report == caught.value.report


def test_without_raise_exception_the_report_comes_back(own: Any) -> None:
    wrong = own(lambda x: x * x, lambda g, y, x: g * 3 * x)
    report = sm.gradcheck(wrong, [2.0], raise_exception=False)
    (row,) = report.failures
    assert not report
    assert row.analytic / row.numeric == pytest.approx(1.5)
    assert row.error == pytest.approx(abs(row.numeric) / 2)
    assert report.error == pytest.approx(1 / 3)
    assert "1 of 1 wrong" in str(report)


def test_a_gradient_too_small_to_check_is_said_so() -> None:
    (row,) = sm.gradcheck(lambda x: 1e-20 * x * x, [1.0]).rows
    assert "cannot be seen" in row.note
    (row,) = sm.gradcheck(lambda x: 1e-20 * x * x, [1.0], atol=0).rows
    assert not row.note
    (row,) = sm.gradcheck(lambda x: x + 1e13, [1.0]).rows
    assert "cannot be seen" in row.note


def test_a_smaller_atol_sees_smaller_gradients(own: Any) -> None:
    wrong = own(lambda x: x * x, lambda g, y, x: g * 3 * x)
    assert sm.gradcheck(lambda x: 1e-20 * wrong(x), [1.0])
    found(lambda x: 1e-20 * wrong(x), [1.0], atol=0)


def test_tolerances_are_those_given(own: Any) -> None:
    nearly = own(lambda x: x * x, lambda g, y, x: g * 2.002 * x)
    assert sm.gradcheck(nearly, [2.0], rtol=1e-2)
    assert sm.gradcheck(nearly, [2.0], atol=0.1)
    found(nearly, [2.0], rtol=1e-4, atol=1e-4)


# -- what is special about the point ---------------------------------------------------------


def test_a_kink_shows_both_slopes() -> None:
    (row,) = found(lambda x: x.relu(), [1.0, 0.0], seed=0).failures
    assert row.index == (1,)
    assert "kink" in row.note
    assert "left the slope is 0, from the right" in row.note


def test_too_wide_a_step_says_that_a_smaller_helps() -> None:
    def wave(x: Any) -> Any:
        return np.sin(x * 1e9)

    (row,) = found(wave, [0.3]).failures
    assert "smaller eps" in row.note
    assert sm.gradcheck(wave, [0.3], eps=1e-9)
    assert sm.gradcheck(lambda x: np.sin(x * 1e6), [0.3])  # smaller steps are tried by themselves


def test_what_no_step_can_tell_is_not_passed(own: Any) -> None:
    found(own(lambda x: x + 0.01 * np.sin(1e10 * x), lambda g, y, x: g), [0.3, 0.7, 1.1])


def test_nan_in_the_gradient_and_the_edge_of_the_domain(own: Any) -> None:
    nan = own(lambda x: x * x, lambda g, y, x: g * np.nan)
    assert "NaN where f is finite" in found(nan, [1.0]).failures[0].note
    assert "edge" in found(lambda x: x.sqrt(), [0.0]).failures[0].note
    assert sm.gradcheck(lambda x: x.sqrt(), [1e-7])
    assert "edge" in found(lambda x: x.sqrt(), [1e-10]).failures[0].note
    assert sm.gradcheck(lambda x: x.sqrt(), [1e-10], eps=1e-11)


# -- refusals --------------------------------------------------------------------------------


def keeps_count() -> Callable[[Any], Any]:
    calls: list[int] = []
    return lambda x: (calls.append(1), x.sum() if len(calls) < 2 else x)[1]


def grows(x: Any) -> Any:
    x.data += 1.0
    return x * x


@pytest.mark.parametrize(
    ("f", "x", "kind", "message"),
    [
        (lambda x: F.dropout(x), np.ones(20), ValueError, r"not deterministic.*output 0 differs by.*\.eval\(\)"),
        (nn.MultiHeadAttention(4, 2, dropout=0.5), np.ones((1, 5, 4)), ValueError, r"not deterministic"),
        (keeps_count(), [1.0, 2.0], ValueError, r"other shapes"),
        (lambda x: x.data, [1.0], TypeError, r"output 0 is of ndarray.*\.data"),
        (lambda x: x.sum().item(), [1.0], TypeError, r"output 0 is of float.*\.item\(\)"),
        (lambda x: {"y": x}, [1.0], TypeError, r"of dict"),
        (lambda x: (x, None), [1.0], TypeError, r"output 1 is of NoneType"),
        (lambda x: x.argmax(), [1.0], TypeError, r"output 0 is of int64"),
        (lambda x: x.astype(np.float32), [1.0], TypeError, r"output 0 is of float32.*narrower"),
        (lambda x: (), [1.0], ValueError, r"no output"),
        (lambda x: x.log(), [-1.0], ValueError, r"output 0 is nan at \[0\]"),
        (lambda x: 1 / x, [1.0, 0.0], ValueError, r"output 0 is inf at \[1\]"),
        (lambda x: x, [1.0, np.nan], ValueError, r"input 0 is nan at \[1\]"),
        (lambda x: x, [1, 2], TypeError, r"input 0 is of int64.*1\.0 for 1"),
        (lambda x, i: x[i], (np.ones(2), np.array([0])), TypeError, r"input 1 is of int64.*lambda x"),
        (lambda x: x, Tensor([1, 2]), TypeError, r"input 0 is of int64"),
        (lambda x: x, "text", TypeError, r"input 0 is of <U4"),
        (lambda: Tensor(1.0), (), ValueError, r"nothing to check"),
        (nn.ReLU(), np.array([1]), ValueError, r"nothing to check"),
        (grows, [1.0], ValueError, r"writes into input 0: x = x \+ 1 makes a new array"),
        ([1.0], lambda x: x, TypeError, r"the first argument is the function to check, not list"),
    ],
)
def test_what_cannot_be_checked_is_refused(f: Any, x: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"gradcheck: .*{message}"):
        sm.gradcheck(f, x)


@pytest.mark.parametrize(
    "options",
    [{"eps": 0}, {"eps": -1e-6}, {"eps": 1.0}, {"eps": np.nan}, {"atol": -1}, {"rtol": np.nan}, {"order": 0},
     {"order": 1.5}, {"order": True}, {"seed": -1}],
    ids=str,
)  # fmt: skip
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"gradcheck: .*{name}"):
        sm.gradcheck(lambda x: x, [1.0], **options)


def test_dropout_passes_where_its_numbers_stay_the_same() -> None:
    assert sm.gradcheck(lambda x: F.dropout(x, rng=np.random.default_rng(0)) ** 2, normal(9))
    assert sm.gradcheck(nn.MultiHeadAttention(4, 2, dropout=0.5).eval(), normal(1, 3, 4))


# -- nothing is changed ----------------------------------------------------------------------


class Stop(BaseException):
    pass


def boom(*_: Any) -> Any:
    raise Stop


@pytest.mark.parametrize("after", [0, 1, 2, 5, 30])
def test_a_module_is_as_before_whatever_happens(after: int) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    arrays = [p.data for p in module.parameters()]
    values = [a.copy() for a in arrays]
    gradients = [Tensor(normal(*p.shape, dtype=np.float32)) for p in module.parameters()]
    for p, g in zip(module.parameters(), gradients, strict=True):
        p.grad = g
        p.register_hook(boom)
    hooks = [p.hooks for p in module.parameters()]
    calls: list[int] = []

    class Outer(nn.Module):
        def __init__(self) -> None:
            self.inner = module

        def forward(self, x: Any) -> Any:
            calls.append(1)
            if len(calls) == after:
                boom()
            return self.inner(x)

    outer = Outer()
    state = get_state()
    x = Tensor(normal(2, 3), requires_grad=True)
    if after:
        with pytest.raises(Stop):
            sm.gradcheck(outer, x)
    else:
        assert sm.gradcheck(outer, x)
    for p, a, v, g, h in zip(module.parameters(), arrays, values, gradients, hooks, strict=True):
        assert p.data is a
        assert np.array_equal(a, v)
        assert p.grad is g
        assert p.hooks is h
    assert x.grad is None
    assert np.array_equal(get_state(), state)


def test_inputs_and_generator_are_as_before() -> None:
    x = Tensor(normal(3), requires_grad=True)
    x.grad = kept = Tensor(normal(3))
    value = x.data.copy()
    state = get_state()

    def f(t: Any) -> Any:
        sm.manual_seed(3)
        return F.dropout(t) * 2

    assert sm.gradcheck(f, x)
    assert np.array_equal(get_state(), state)
    assert np.array_equal(x.data, value)
    assert x.grad is kept
    assert sm.gradcheck(lambda t: t * 2, Tensor(normal(3)))  # that wants no gradient
    assert sm.gradcheck(lambda t: t * 2, normal(3, dtype=np.float16))


def test_it_works_under_no_grad_and_while_others_watch(own: Any) -> None:
    wrong = own(lambda x: x * x, lambda g, y, x: g * 3 * x)
    for context in (sm.no_grad, sm.record, sm.detect_anomaly):
        with context():
            assert sm.gradcheck(nn.Linear(3, 2), normal(2, 3), order=2)
            found(wrong, [2.0])


def test_equal_seeds_give_equal_reports() -> None:
    first, again, other = (sm.gradcheck(sm.softmax, normal(2, 3), order=2, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other
