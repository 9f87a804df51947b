"""The doctor: each rule finds its failing program and is silent on its twin; healthy models; faults planted in them."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from dataclasses import FrozenInstanceError
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doctor_cases import attention, losses, softmax, training
from doctor_cases.case import Case
from doctor_cases.healthy import TASKS, points, text
from helpers import cases

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import nn, optim
from tinygrad_sm.graph import rms
from tinygrad_sm.inspection.doctor import Report
from tinygrad_sm.inspection.rules.base import IDS, RULES
from tinygrad_sm.inspection.scripts import examine

CASES: list[Case] = [*losses.CASES, *softmax.CASES, *attention.CASES, *training.CASES]
ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def examined(program: Any) -> Report:
    """Run a program under `sm.record()`, and return what the doctor says."""
    with np.errstate(all="ignore"), sm.record():
        arguments = program()
    return sm.doctor(arguments.pop("loss"), **arguments)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.rule}: {case.wrong.__name__}" for case in CASES])
def test_the_wrong_program_is_found(case: Case) -> None:
    """Exactly this rule, at this op, on the line that says so."""
    report = examined(case.wrong)
    assert {found.rule for found in report} == {case.rule}, report
    found = report[0]
    assert found.op.endswith(case.op)
    if case.op not in ("input", "weight", ""):
        assert "# planted" in found.source, found.source
    assert found.evidence
    assert str(found.evidence)
    assert found.message.endswith(".")
    assert found.fix


@pytest.mark.parametrize("case", CASES, ids=[f"{case.rule}: {case.right.__name__}" for case in CASES])
def test_its_twin_is_healthy(case: Case) -> None:
    report = examined(case.right)
    assert not report, report


def test_each_rule_has_a_case_and_a_paragraph() -> None:
    assert set(RULES) == set(IDS), "ids without a rule, or rules that no id of IDS names"
    assert {case.rule for case in CASES} == set(IDS), "each rule needs a Case in tests/doctor_cases/"
    for rule in RULES.values():
        assert len(rule.docs.split()) > 25, f"the docstring of {rule.id} should explain it, in 26 words or more"


def test_the_pages_know_each_rule() -> None:
    page = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### ([\w-]+)$", page, re.M)) == set(IDS), "each rule needs a section in docs/doctor.md"
    for name in ("README.md", "CHANGELOG.md"):
        assert f" {len(IDS)} rules" in (ROOT / name).read_text(encoding="utf-8"), f"{name} counts the rules otherwise"


@pytest.mark.parametrize("steps", [0, 60])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TASKS)
def test_healthy_models(name: str, dtype: Any, steps: int) -> None:
    """Nothing is said of them, at the start and after training, and everything is checked but what cannot be."""
    task = TASKS[name](dtype)
    task.train(steps)
    with sm.record():
        loss = task.loss()
    report = sm.doctor(loss, task.model, optimizer=task.optimizer, inputs=task.inputs)
    assert not report, report
    assert set(report.unchecked) <= ({"detached-loss", "update-ratio"} if name == "logistic" else set())


def test_a_fix_is_code() -> None:
    """It can be pasted: it parses."""
    for case in CASES:
        for found in examined(case.wrong):
            compile(found.fix, "fix", "exec")


# -- faults planted in healthy models -----------------------------------------------------------


def planted(name: str, loss: Any, **options: Any) -> Report:
    """Return what the doctor says of a healthy model with another loss."""
    task = TASKS[name](np.float32)
    task.train(20)
    with np.errstate(all="ignore"), sm.record():
        value = loss(task.model)
    return sm.doctor(value, task.model, **options)


X, Y = points(128, 12, np.float32)
TOKENS = text()
INPUT, NEXT = TOKENS[:, :-1], TOKENS[:, 1:]


def see_all(lm: Any) -> Any:
    for block in lm.blocks:
        block.attn.causal = False
    return F.cross_entropy(lm(INPUT), NEXT)


def drown(mlp: Any) -> Any:
    mlp.layers[2].bias.data = mlp.layers[2].bias.data - np.float32(90)
    return F.cross_entropy(mlp(X), Y)


def forget_positions(lm: Any) -> Any:
    h = lm.tokens(INPUT)
    for block in lm.blocks:
        h = block(h)
    return F.cross_entropy(F.linear(lm.ln(h), lm.tokens.weight), NEXT)


def overflow(lm: Any) -> Any:
    lm.ln.weight.data = lm.ln.weight.data * np.float32(1e4)
    return F.linear(lm.hidden(INPUT), lm.tokens.weight).exp().mean()


def bad_mask(model: Any) -> Any:
    source = NEXT[:, ::-1].copy()
    source[0] = 0
    return F.cross_entropy(model(source, INPUT), NEXT)


def two_classes(model: Any) -> Any:
    p = model(X[:, :6]).sigmoid()
    return F.cross_entropy(sm.concatenate([1 - p, p], axis=1), Y % 2)


PLANTED = {
    "softmax in a classifier": (
        "mlp", lambda m: F.cross_entropy(F.softmax(m(X)), Y), "softmax-before-cross-entropy", "cross_entropy",
    ),
    "probabilities": ("mlp", lambda m: F.nll_loss(F.softmax(m(X)), Y), "nll-on-probabilities", "nll_loss"),
    "logits in a classifier": ("mlp", lambda m: F.nll_loss(m(X), Y), "nll-on-logits", "nll_loss"),
    "log in a classifier": ("mlp", lambda m: -F.softmax(m(X)).log()[np.arange(128), Y].mean(), "log-of-softmax", "log"),
    "axis in a classifier": (
        "mlp", lambda m: -F.log_softmax(m(X), axis=0)[np.arange(128), Y].mean(), "softmax-over-batch", "log_softmax",
    ),
    "sorted data": ("mlp", lambda m: F.cross_entropy(m(X), np.ones(128, int)), "degenerate-targets", "cross_entropy"),
    "float64": ("mlp", lambda m: F.cross_entropy(m(X.astype(np.float64)), Y), "float64-creep", "linear"),
    "a mean twice": ("regression", lambda m: ((m(X[:, :6]) - 1.0) ** 2).mean() / 128, "double-mean", "div"),
    "dead layer": ("mlp", drown, "dead-relu", "relu"),
    "data, not the model": ("mlp", lambda m: F.cross_entropy(sm.Tensor(m(X).data), Y), "detached-loss", "input"),
    "future in a language model": ("language_model", see_all, "missing-causal-mask", "attention"),
    "part unused in a language model": ("language_model", forget_positions, "no-gradient", ""),
    "overflow in a language model": ("language_model", overflow, "non-finite", "exp"),
    "empty source": ("encoder_decoder", bad_mask, "fully-masked-row", "attention"),
    "probabilities of two classes": ("binary", two_classes, "softmax-before-cross-entropy", "cross_entropy"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_in_a_healthy_model(name: str) -> None:
    model, loss, rule, op = PLANTED[name]
    report = planted(model, loss)
    assert {found.rule for found in report} == {rule}, report
    assert report[0].op == op
    assert report[0].source.startswith(("test_doctor.py:", "healthy.py:")) or op in ("", "input")


def test_module_and_severity_of_a_planted_fault() -> None:
    report = planted("language_model", see_all)
    assert report[0].module == "blocks.0.attn"
    assert [found.severity for found in report] == ["error"]
    assert planted("mlp", drown)[0].module == "layers.3"


def test_a_part_under_no_grad_is_a_note_unless_the_optimizer_moves_it() -> None:
    """The op that follows what was computed there is known too, and the reader is told what to pass."""
    program = training.still_but_not_meant()
    optimizer = program.pop("optimizer")
    (found,) = sm.doctor(program["loss"], program["model"])
    assert (found.rule, found.severity) == ("no-gradient", "note")
    assert "computed under sm.no_grad()" in found.message
    assert "pass optimizer=" in found.message
    (found,) = sm.doctor(program["loss"], program["model"], optimizer=optimizer)
    assert found.severity == "warning"


def test_frozen_models_and_replaced_layers_are_named() -> None:
    assert "all parameters of the model are frozen" in examined(training.loss_of_frozen)[0].message
    message = examined(training.layer_replaced_after)[0].message
    assert "does not move layers.2.weight, layers.2.bias, and holds 2 parameters" in message


# -- the report ---------------------------------------------------------------------------------


def broken() -> Any:
    z = sm.Tensor(np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32), requires_grad=True)
    return F.cross_entropy(F.softmax(z), np.arange(64) % 4) / 64


def test_a_report_is_a_sequence_of_findings() -> None:
    report = sm.doctor(broken())
    assert [found.rule for found in report] == ["softmax-before-cross-entropy", "double-mean"]  # the worst first
    assert len(report) == 2
    assert bool(report)
    assert report[0] in report
    assert len(report[:1]) == 1
    assert report.by_rule("double-mean") == [report[1]]
    assert report.errors == [report[0]]
    with pytest.raises(FrozenInstanceError):
        report[0].rule = "x"  # type: ignore[misc]
    assert all(type(value) in (int, float, str, list) for found in report for value in found.evidence.values())


def test_it_prints() -> None:
    text = str(sm.doctor(broken()))
    assert text.startswith("doctor: 1 error, 1 warning in the graph of div 64 (")
    assert "error softmax-before-cross-entropy at cross_entropy" in text
    assert "fix: loss = sm.cross_entropy(logits, target)" in text
    assert "not checked: no-gradient (pass model=)" in text


def test_a_healthy_report_says_what_was_checked() -> None:
    z = sm.Tensor(np.eye(4, dtype=np.float32), requires_grad=True)
    report = sm.doctor(F.cross_entropy(z, [0, 1, 2, 3]), silence="dead-relu")
    text = str(report)
    assert text.startswith("doctor: nothing found in the graph of cross_entropy")
    assert "checked: softmax-before-cross-entropy" in text
    assert "not checked: update-ratio (pass optimizer=)" in text
    assert "silenced: dead-relu" in text
    assert len(report.checked) == len(IDS) - 3
    assert not report


def test_many_places_are_told_together() -> None:
    task = TASKS["language_model"](np.float32)
    model = nn.TransformerLM(17, d_model=32, n_heads=1, n_layers=8, context=12, scaled=False, init="unit")
    text = str(sm.doctor(F.cross_entropy(model(INPUT), NEXT)))
    assert task.model is not model
    assert text.count("warning unscaled-attention") == 1
    assert "and in 3 other places" in text


def test_hostile_names_do_no_harm() -> None:
    name = '\x1b[2J<script>alert("x")</script>\u202e'
    z = sm.Tensor(np.zeros((20, 3)), requires_grad=True)
    report = sm.doctor(sm.Tensor([-np.inf], requires_grad=True, name=name).sum() + z.sum())
    assert report.by_rule("non-finite")
    assert "\x1b" not in str(report)
    assert "\u202e" not in str(report)
    html = report._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b" not in html


def test_html_has_what_the_text_has() -> None:
    html = sm.doctor(broken())._repr_html_()
    assert "softmax-before-cross-entropy" in html
    assert "<pre>loss = sm.cross_entropy(logits, target)" in html


def test_silenced_rules_are_silent() -> None:
    assert [found.rule for found in sm.doctor(broken(), silence=["double-mean"])] == ["softmax-before-cross-entropy"]


def test_a_graph_will_do() -> None:
    assert sm.doctor(sm.Graph(broken())).by_rule("double-mean")
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    graph = sm.Graph(F.cross_entropy(model.layers[0](np.ones((2, 3), np.float32)), [0, 1]))
    assert sm.doctor(graph, model).by_rule("no-gradient")
    with np.errstate(all="ignore"):
        task = TASKS["masked_model"](np.float32)
        lm = F.cross_entropy(task.model(INPUT), NEXT)
    assert sm.doctor(lm).by_rule("missing-causal-mask")
    assert "the loss itself" in sm.doctor(sm.Graph(lm)).unchecked["missing-causal-mask"]


def test_nothing_is_touched() -> None:
    """No gradient, no weight, no mode, no number of the generator, and the backward pass afterwards is the same."""
    tasks = [TASKS["language_model"](np.float32) for _ in range(2) if sm.manual_seed(0) is not None]
    gradients = []
    for task, seen in zip(tasks, (True, False), strict=True):
        loss = task.loss()
        before = [p.data.copy() for p in task.model.parameters()]
        state = str(sm.random.default_rng(None).bit_generator.state)
        if seen:
            sm.doctor(loss, task.model, optimizer=task.optimizer, inputs=task.inputs)
        assert state == str(sm.random.default_rng(None).bit_generator.state)
        assert all(p.grad is None for p in task.model.parameters())
        assert task.model.training
        loss.backward()
        assert all(np.array_equal(a, p.data) for a, p in zip(before, task.model.parameters(), strict=True))
        assert task.optimizer.steps == 0
        gradients.append([p.grad.data for p in task.model.parameters()])
    assert all(np.array_equal(a, b) for a, b in zip(*gradients, strict=True))


def test_after_backward_and_step_too() -> None:
    task = TASKS["mlp"](np.float32)
    loss = task.loss()
    loss.backward()
    task.optimizer.step()
    assert not sm.doctor(loss, task.model, optimizer=task.optimizer)


def test_the_next_step_is_computed_as_the_optimiser_takes_it() -> None:
    """The update that is measured, for each kind of optimiser, after some steps, is the one that step() makes."""
    for make in (partial(optim.SGD, lr=9.0, momentum=0.9, nesterov=True), partial(optim.AdamW, lr=9.0)):
        task = TASKS["mlp"](np.float32)
        task.train(5)
        optimizer = make(task.model.parameters())
        for _ in range(3):
            loss = task.loss()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss = task.loss()
        optimizer.zero_grad()
        loss.backward()
        found = sm.doctor(loss, optimizer=optimizer).by_rule("update-ratio")
        before = {name: p.data for name, p in task.model.named_parameters() if p.ndim > 1}
        optimizer.step()
        after = dict(task.model.named_parameters())
        ratios = [rms(after[name].data - w) / rms(w) for name, w in before.items()]
        expected = float(np.median(ratios))
        measured = found[0].evidence["median update over weight"] if found else 0.0
        assert (expected > 1) == bool(found)
        assert not found or abs(measured / expected - 1) < 1e-3


@pytest.mark.parametrize("case", cases(lambda op: op.vjp is not None))
def test_any_op_can_be_read(case: Any) -> None:
    """No rule fails on a graph of any op."""
    with np.errstate(all="ignore"), sm.record():
        inputs, _ = case.boxed(case.arguments(np.float32))
        loss = case(*inputs).sum()
    assert str(sm.doctor(loss)).startswith("doctor: ")


def test_empty_and_odd_graphs() -> None:
    for shape in ((0, 3), (1, 3), (1, 1)):
        z = sm.Tensor(np.zeros(shape, np.float32), requires_grad=True)
        with np.errstate(all="ignore"):
            for loss in (
                F.cross_entropy(z, np.zeros(shape[0], int)), F.softmax(z).sum(), F.nll_loss(z, np.zeros(shape[0], int)),
                F.softmax(z).log().sum(), F.relu(z).sum(), (z.exp() / z.exp().sum(axis=-1, keepdims=True)).sum(),
                F.scaled_dot_product_attention(z, z, z).sum(),
            ):  # fmt: skip
                str(sm.doctor(loss))


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("[0-9]*.py")))
def test_examples(name: str, monkeypatch: Any, tmp_path: Any) -> None:
    """Nothing is said of the examples, but of those that show a fault, and then of that."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    shown = {
        "02_p_minus_y": {"unstable-softmax"},  # "the long way": logsumexp from exp, sum and log
        "03_overflow_and_the_max_trick": {"log-of-softmax", "non-finite"},  # the naive cross-entropy
        "05_attention_and_sqrt_dk": {"unscaled-attention"},  # one of the two that are compared
        "07_gradient_flow": {"vanishing-gradient"},  # ten layers of sigmoids
        "10_find_the_nan": {"log-of-softmax", "non-finite", "update-ratio"},  # "in steps too large"
        "11_doctor": {
            "softmax-before-cross-entropy", "no-gradient", "float64-creep", "double-mean", "update-ratio",
            "saturated-softmax",  # what the steps that are too large come to
        },
    }  # fmt: skip
    monkeypatch.syspath_prepend(str(EXAMPLES))
    common = __import__("common")
    monkeypatch.setattr(common, "FOLDER", tmp_path)
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reports, failure = examine(EXAMPLES / f"{name}.py")
    assert not failure
    assert {found.rule for report in reports for found in report} == shown.get(name, set()), reports


# -- what it refuses ----------------------------------------------------------------------------


LOSS = sm.Tensor([1.0], requires_grad=True).sum()
BAD: list[tuple[str, Any, dict[str, Any], type[Exception], str]] = [
    ("an array", np.ones(()), {}, TypeError, "doctor reads what made a loss, a Tensor; this is of type ndarray"),
    ("a function", len, {}, TypeError, r"compute it first: doctor\(loss_function\(model\(x\), y\)\)"),
    ("many numbers", sm.Tensor([1.0, 2.0]), {}, ValueError, r"one number, not of shape \(2,\); take its mean"),
    ("a class as model", LOSS, {"model": nn.Linear}, TypeError, "model must be an nn.Module, not a type"),
    ("inputs as model", LOSS, {"model": np.ones(3)}, TypeError, "pass inputs= by name"),
    ("parameters as optimizer", LOSS, {"optimizer": [LOSS]}, TypeError, "optimizer must be one of sm.optim"),
    ("unknown rule", LOSS, {"silence": ["dead_relu"]}, ValueError, "no rule 'dead_relu'; did you mean 'dead-relu'"),
    ("unknown rule far off", LOSS, {"silence": "xyz"}, ValueError, "there are softmax-before-cross-entropy, nll"),
    ("a number as rule", LOSS, {"silence": [3]}, TypeError, "a rule is named by its id, such as 'dead-relu', not 3"),
    ("one number as rules", LOSS, {"silence": 3}, TypeError, "a rule is named by its id"),
]


@pytest.mark.parametrize("row", BAD, ids=[row[0] for row in BAD])
def test_what_it_refuses(row: Any) -> None:
    _, loss, options, kind, message = row
    with pytest.raises(kind, match=message):
        sm.doctor(loss, **options)


def test_many_ways_through_a_graph_are_not_gone_one_by_one() -> None:
    p = F.softmax(sm.Tensor(np.eye(3), requires_grad=True))
    for _ in range(100):  # 2¹⁰⁰ ways
        p = p * p
    with np.errstate(under="ignore"):
        sm.doctor(p.sum())


def test_an_unknown_rule_of_a_report() -> None:
    with pytest.raises(ValueError, match="by_rule: there is no rule 'relu'"):
        sm.doctor(LOSS).by_rule("relu")


def test_inputs_that_the_model_does_not_take() -> None:
    task = TASKS["mlp"](np.float32)
    report = sm.doctor(task.loss(), task.model, inputs=(X, X))
    assert report.unchecked["detached-loss"].startswith("the model does not take inputs=")
    report = sm.doctor(task.loss(), task.model, inputs=np.ones((4, 12), np.float32))
    assert report.unchecked["detached-loss"] == "the rows of inputs= are all equal"
