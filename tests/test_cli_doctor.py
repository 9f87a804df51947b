"""The command `tinygrad-sm doctor`: what it finds in scripts, its exit status, what it refuses."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import tinygrad_sm as sm
from tinygrad_sm import cli
from tinygrad_sm.optimizer import Optimizer

HEAD = """import sys
import numpy as np
import tinygrad_sm as sm
from tinygrad_sm import functional as F, nn, optim
rng = np.random.default_rng(0)
x = rng.normal(size=(64, 8)).astype(np.float32)
y = x[:, :4].argmax(axis=1)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
"""
LOOP = """optimizer = optim.Adam(model.parameters(), lr=1e-3)
for step in range(10):
    loss = {}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
HEALTHY = LOOP.format("F.cross_entropy(model(x), y)")
TWICE = LOOP.format("F.cross_entropy(F.softmax(model(x)), y)")


@pytest.fixture
def script(tmp_path: Path) -> Any:
    """Write a script, and return its path as text."""

    def write(*lines: str, name: str = "train.py") -> str:
        (tmp_path / name).write_text(HEAD + "".join(lines), encoding="utf-8")
        return str(tmp_path / name)

    return write


def test_a_healthy_script(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", script(HEALTHY)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "doctor: nothing found in train.py:11: loss = F.cross_entropy(model(x), y) (10 backward passes)"
    )
    assert "not checked" not in out


def test_errors_exit_with_one_and_the_worst_comes_first(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", script(HEALTHY, TWICE)]) == 1
    out = capsys.readouterr().out
    assert re.findall(r"^doctor: (.*?) in train.py:(\d+)", out, re.M) == [("1 error", "17"), ("nothing found", "11")]
    assert "train.py:17: loss = F.cross_entropy(F.softmax(model(x)), y)" in out


def test_warnings_exit_with_zero(script: Any) -> None:
    assert cli.main(["doctor", script(LOOP.format("F.cross_entropy(model(x), y) / len(y)"))]) == 0


def test_a_rule_may_be_silenced(script: Any) -> None:
    silent = ["--silence", "softmax-before-cross-entropy", "--silence", "dead-relu"]
    assert cli.main(["doctor", *silent, script(TWICE)]) == 0


def test_the_script_has_its_arguments_and_is_main(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'if __name__ == "__main__":\n    print(sys.argv[1:])\n    F.cross_entropy(model(x), y).backward()\n'
    argv, path = list(sys.argv), list(sys.path)
    assert cli.main(["doctor", script(text), "--silence", "3", "-x"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("['--silence', '3', '-x']\n")
    assert (sys.argv, sys.path) == (argv, path)


def test_what_goes_wrong_later_is_found_too(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """At the 7th pass the loss is not finite, for one step only."""
    text = LOOP.format("F.cross_entropy(model(x), y) + (np.inf if step == 6 else 0.0)")
    assert cli.main(["doctor", script(text)]) == 1
    assert "error non-finite" in capsys.readouterr().out


def test_parameters_that_no_loss_reached(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Losses that take turns reach all of them, an unused layer is reached by none."""
    turns = (
        "a, b, c = (nn.Linear(8, 4) for _ in range(3))\noptimizer = optim.SGD([*a.parameters(), *b.parameters(){}])\n"
    )
    turns += "F.cross_entropy(a(x), y).backward()\nF.cross_entropy(b(x), y).backward()\n"
    assert cli.main(["doctor", script(turns.format(""))]) == 0
    assert "no-gradient" not in capsys.readouterr().out.replace("exploding-gradient", "")
    assert cli.main(["doctor", script(turns.format(", *c.parameters()"))]) == 0
    assert "warning no-gradient" in capsys.readouterr().out


def test_what_was_found_before_a_failure_is_told(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", script(TWICE, "nonsense\n")]) == 2
    captured = capsys.readouterr()
    assert "error softmax-before-cross-entropy" in captured.out
    assert re.search(r"train.py, line 15: NameError", captured.err)


def test_everything_is_put_back(script: Any) -> None:
    backward, init = sm.Tensor.backward, Optimizer.__init__
    for text in (HEALTHY, "nonsense\n", "raise SystemExit(3)\n"):
        cli.main(["doctor", script(text)])
        assert (sm.Tensor.backward, Optimizer.__init__) == (backward, init)


def test_gradients_and_training_are_the_same(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = "sm.manual_seed(0)\nmodel = nn.Sequential(nn.Linear(8, 4))\n" + HEALTHY + "print(loss.item())\n"
    exec(compile(HEAD + text, "train.py", "exec"), {"__name__": "__main__"})
    expected = capsys.readouterr().out
    assert cli.main(["doctor", script(text)]) == 0
    assert capsys.readouterr().out.startswith(expected)


@pytest.mark.parametrize(
    ("text", "args", "message"),
    [
        ("raise SystemExit(3)\n", [], "train.py ended with 3"),
        ("x = 1\n", [], "train.py sends no loss backward"),
        ("", ["--silence", "dead_relu"], "did you mean 'dead-relu'"),
        ("def f(:\n", [], "SyntaxError"),
    ],
)
def test_what_it_refuses(script: Any, capsys: Any, text: str, args: list[str], message: str) -> None:
    assert cli.main(["doctor", *args, script(text)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err


def test_no_such_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "nowhere.py"]) == 2
    assert "nowhere.py is no file to run" in capsys.readouterr().err


def test_losses_differentiated_by_grad_are_seen(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = """for _ in range(3):
    loss = F.cross_entropy(F.softmax(model(x)), y)
    for p, g in zip(model.parameters(), sm.grad(loss, list(model.parameters()))):
        p.data -= 0.1 * g.data
"""
    grad = sm.grad
    assert cli.main(["doctor", script(text)]) == 1
    out = capsys.readouterr().out
    assert "softmax-before-cross-entropy at cross_entropy" in out
    assert "(3 backward passes)" in out
    assert sm.grad is grad


def test_a_loss_without_a_history_is_seen(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Though `backward` refuses it, which ends the script."""
    assert cli.main(["doctor", script("F.cross_entropy(sm.Tensor(model(x).data), y).backward()\n")]) == 2
    captured = capsys.readouterr()
    assert "error detached-loss" in captured.out
    assert "requires a gradient" in captured.err


def test_a_divisor_that_is_the_number_of_batches_is_no_double_mean(script: Any, capsys: Any) -> None:
    """32 micro-batches of 32 rows: the gradients of all are added before a step."""
    text = """optimizer = optim.SGD(model.parameters(), lr=0.1)
for step in range(2):
    optimizer.zero_grad()
    for batch in range(32):
        (F.cross_entropy(model(x[:32]), y[:32]) / 32).backward()
    optimizer.step()
"""
    assert cli.main(["doctor", script(text)]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert cli.main(["doctor", script(text.replace("range(32)", "range(1)"))]) == 0
    assert "warning double-mean" in capsys.readouterr().out


def test_grad_with_create_graph_is_a_part_of_a_loss(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = """t = sm.Tensor(x, requires_grad=True)
slopes, = sm.grad(model(t).sum(), t, create_graph=True)
(F.cross_entropy(model(x), y) + (slopes ** 2).mean()).backward()
"""
    assert cli.main(["doctor", script(text)]) == 0
    assert capsys.readouterr().out.count("backward pass") == 1


def test_parameters_that_grad_reaches_have_a_gradient(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = """optimizer = optim.SGD(model.parameters(), lr=0.1)
loss = F.cross_entropy(model(x), y)
for p, g in zip(model.parameters(), sm.grad(loss, list(model.parameters()))):
    p.grad = g
optimizer.step()
"""
    assert cli.main(["doctor", script(text)]) == 0
    assert "no-gradient: " not in capsys.readouterr().out


def test_parameters_without_a_gradient_have_the_names_of_their_module(script: Any, capsys: Any) -> None:
    text = """class Cut(nn.Module):
    def __init__(self):
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(sm.Tensor(self.body(x).data))

def main():
    model = Cut()
    optimizer = optim.Adam(model.parameters())
    F.cross_entropy(model(x), y).backward()

main()
"""
    assert cli.main(["doctor", script(text)]) == 0
    assert "body.weight, body.bias: no gradient" in capsys.readouterr().out
