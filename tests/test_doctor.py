"""The doctor: each rule finds its failing program and is silent on its twin; healthy models; faults planted in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from doctor_cases import attention, losses, softmax, training
from doctor_cases.case import Case
from doctor_cases.healthy import TASKS

import tinygrad_sm as sm
from tinygrad_sm.inspection.doctor import Report
from tinygrad_sm.inspection.rules.base import IDS, RULES

CASES: list[Case] = [*losses.CASES, *softmax.CASES, *attention.CASES, *training.CASES]
NO_LINE = ("no-gradient", "update-ratio")  # these are found at parameters, which no line makes


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
    assert set(RULES) == set(IDS) == {case.rule for case in CASES}
    assert len(IDS) == 24
    for rule in RULES.values():
        assert len(rule.docs.split()) > 25


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
