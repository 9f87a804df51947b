"""sm.ops.check: every op of the library passes, planted errors of each kind fail, and own ops join."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from helpers import NEEDS_SCIPY

import tinygrad_sm as sm
from tinygrad_sm import Op, Tensor
from tinygrad_sm.inspection.opcheck import OpsReport
from tinygrad_sm.op import REGISTRY
from tinygrad_sm.ops.sample import call

LIBRARY = [op.name for op in REGISTRY.values() if op.vjp is not None and op.home.startswith("tinygrad_sm.ops")]


pytestmark = pytest.mark.usefixtures("registry")


def own(forward: Any, vjp: Any, **options: Any) -> Op:
    return Op(forward, vjp, **{"name": "own", "formula": "f(x)", "samples": [call((2, 3))], **options})


def note(op: Op, **options: Any) -> str:
    """Return what the check says of an op that must fail."""
    report = sm.ops.check(op.name, **options)
    (row,) = report.rows
    assert not report
    assert report.failures == (row,)
    assert row.status == "FAILED"
    assert row.note in str(report)
    return row.note


def cube_rule(g: Any, y: Any, x: Any) -> Any:
    return g * 3 * x**2


# -- what is right passes --------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole() -> OpsReport:
    return sm.ops.check(LIBRARY)


def test_every_op_of_the_library_passes(whole: OpsReport) -> None:
    assert whole, str(whole)
    for row in whole.rows:
        assert row.status == "ok" or (row.name in NEEDS_SCIPY and row.status == "skipped")
        assert row.error < 1e-6
        assert row.samples == len(REGISTRY[row.name].samples)
        assert row.formula in str(whole)
    assert len(whole.rows) == len(LIBRARY) > 50


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds_raise_no_false_alarm(seed: int) -> None:
    report = sm.ops.check(LIBRARY, seed=seed)
    assert report, str(report)


def test_third_order_of_some() -> None:
    assert sm.ops.check(["softmax", "layer_norm", "gelu", "pow"], order=3)


def test_an_own_op_joins_the_check_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(REGISTRY) - {"exp", "sign"}:
        monkeypatch.delitem(REGISTRY, name)
    own(lambda x: x**3, (cube_rule,))
    other, row = sm.ops.check().rows
    assert other.name == "exp"
    assert (row.name, row.status, row.samples, row.formula) == ("own", "ok", 1, "f(x)")
    assert 0 < row.error < 1e-6


def test_names_may_be_one_several_or_ops() -> None:
    for names in ("exp", ["exp"], ("exp",), sm.exp, [sm.exp], (n for n in ["exp"])):
        assert [row.name for row in sm.ops.check(names, order=1).rows] == ["exp"]


# -- planted errors --------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1 + 1e-4, 1 - 1e-4, -1, 0])
def test_a_wrong_rule(factor: float) -> None:
    said = note(own(lambda x: x**3, (lambda g, y, x: g * 3 * x**2 * factor,)))
    assert "sample 0, call((2, 3))" in said
    assert "gradcheck of own" in said
    assert "argument 0" in said


@pytest.mark.parametrize(
    "rule", [lambda g, y, x: g * 3 * np.asarray(x) ** 2, lambda g, y, x: g * 3 * getattr(x, "data", x) ** 2]
)
def test_a_rule_that_leaves_the_tensors(rule: Any) -> None:
    def safe(g: Any, y: Any, x: Any) -> Any:
        return rule(g, y, x) if isinstance(x, Tensor) else cube_rule(g, y, x)

    op = own(lambda x: x**3, (safe,))
    assert sm.ops.check("own", order=1)
    assert "\n2      ∇ argument 0" in note(op)


def test_a_rule_with_other_values_on_tensors_is_found_at_order_one() -> None:
    op = own(lambda x: x**3, (lambda g, y, x: cube_rule(g, y, x) * (1.0001 if isinstance(x, Tensor) else 1),))
    assert "the gradient of argument 0 is" in note(op, order=1)


def test_a_rule_that_raises() -> None:
    assert "ZeroDivisionError" in note(own(lambda x: x**3, (lambda g, y, x: 1 / 0,)))
    assert "sample 1" in note(own(lambda x: x**3, (cube_rule,), samples=[call((2,)), call("text")]))


def test_a_wrong_value_or_gradient_of_the_definition() -> None:
    def fused(definition: Any) -> Op:
        return own(lambda x: (x**3, None), lambda g, y, _, x: (3 * g * x**2,), definition=definition)

    assert note(fused(lambda x: x**3 + 1e-6)).count("of the definition") == 1
    assert "the value" in note(fused(lambda x: x**3 + 1e-6), order=1)
    assert "the gradient of argument 0" in note(fused(lambda x: x**3 + 0 * (x - x.detach())
                                                      + 1e-6 * (x - x.detach())), order=1)  # fmt: skip
    assert "shape" in note(fused(lambda x: (x**3)[None]), order=1)
    fused(lambda x: x * x * x)
    assert sm.ops.check("own")


def test_a_wrong_dtype() -> None:
    assert "float32 arguments give float64" in note(own(lambda x: x**3 * np.float64(1), (cube_rule,)))
    low = own(lambda x: x**3 if x.dtype == np.float64 else np.float32(1.01) * x**3, (cube_rule,))
    assert "the value in float32" in note(low)


def test_what_keeps_no_dtype_is_named() -> None:
    assert "write float(np.log(2)), np.arange" in note(own(lambda x: x + np.log(2), (lambda g, y, x: g,)))
    assert sm.ops.check(own(lambda x: x + float(np.log(2)), (lambda g, y, x: g,)))


def test_a_forward_and_a_rule_that_write_into_what_they_are_given() -> None:
    def forward(x: Any) -> Any:
        x *= 2.0
        return x

    def rule(g: Any, y: Any, x: Any) -> Any:
        g *= 2.0
        return g

    assert "own(float64[2, 3]): output array is read-only; an op writes" in note(own(forward, (lambda g, y, x: 2 * g,)))
    assert "the gradient of own(float64[2, 3]): output array is read-only" in note(own(lambda x: 2 * x, (rule,)))
    with pytest.raises(ValueError, match="gradcheck: f, or an op in it, writes into input 0"):
        sm.gradcheck(own(forward, (rule,)), [1.0, 2.0])


def test_a_rule_that_returns_nothing() -> None:
    assert "does a rule return None?" in note(own(lambda x: x**3, (lambda g, y, x: None,)))


def test_a_wrong_shape_and_a_wrong_broadcast() -> None:
    assert "shape (3,)" in note(own(lambda x: x**3, (lambda g, y, x: cube_rule(g, y, x)[0],)))
    pair = own(np.add, (lambda g, y, a, b: g, lambda g, y, a, b: np.broadcast_to(g.mean(axis=0), (2, 3))),
               samples=[call((2, 3), (2, 3)), call((2, 3), (3,))])  # fmt: skip
    assert "argument 1" in note(pair)


def test_a_value_that_differs_on_tensors() -> None:
    calls: list[int] = []

    def drifting(x: Any) -> Any:
        calls.append(1)
        return x * (1 + 1e-13 * len(calls))

    assert "the value on Tensors" in note(own(drifting, (lambda g, y, x: g,)))


# -- what is not checked ---------------------------------------------------------------------


def test_an_op_without_samples_is_listed_with_how_to_add_them() -> None:
    own(lambda x: x**3, (cube_rule,), samples=())
    report = sm.ops.check(["own", "exp"])
    assert [row.status for row in report.rows] == ["no samples", "ok"]
    assert "from tinygrad_sm.ops.sample import call" in report.rows[0].note
    assert "1 no samples" in str(report)


def test_a_piecewise_constant_op_has_nothing_to_check() -> None:
    (row,) = sm.ops.check("sign").rows
    assert row.status == "no gradient"


def test_an_op_whose_extra_is_missing_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    report = sm.ops.check(["erf", "exp"])
    assert report
    assert [row.status for row in report.rows] == ["skipped", "ok"]
    assert "SciPy" in str(report)
    assert "1 skipped" in str(report)


# -- refusals, and looks ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("sofmax", {}, "no op 'sofmax'; did you mean softmax"),
        (["exp", "qqqq"], {}, "no op 'qqqq'; sm.op.REGISTRY"),
        (3, {}, "no op 3"),
        ("exp", {"order": 0}, "order must be 1"),
        ("exp", {"seed": -1}, "seed must be 0"),
    ],
)
def test_what_it_refuses(names: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^check: .*{message}"):
        sm.ops.check(names, **options)


def test_no_escape_code_reaches_the_terminal() -> None:
    op = own(lambda x: x**3, (lambda g, y, x: {}["\x1b[31m"],))
    op.formula = "f\x07"
    text = str(sm.ops.check("own"))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_numbers_and_gradients_of_others_stay() -> None:
    state = sm.random.get_state()
    sm.ops.check(["softmax", "cross_entropy"])
    assert np.array_equal(sm.random.get_state(), state)
    with sm.no_grad():
        assert sm.ops.check("softmax")
