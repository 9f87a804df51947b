"""The command `tinygrad-sm check`: its table, its exit status, own ops in files, what it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tinygrad_sm import cli

HEAD = "import numpy as np\nimport tinygrad_sm as sm\nfrom tinygrad_sm.ops.sample import call\n"
RIGHT = (
    'cube = sm.Op(lambda x: x**3, (lambda g, y, x: g * 3 * x**2,), name="cube", formula="x³", samples=[call((2,))])\n'
)
WRONG = RIGHT.replace("cube", "wrong").replace("3 * x**2", "3.0003 * x**2")
BARE = RIGHT.replace("cube", "bare").replace(", samples=[call((2,))]", "")


pytestmark = pytest.mark.usefixtures("registry")


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Write a file of ops, and return its path as text."""

    def write(*lines: str, name: str = "my_ops.py") -> str:
        (tmp_path / name).write_text(HEAD + "".join(lines), encoding="utf-8")
        return str(tmp_path / name)

    return write


def rows(text: str) -> dict[str, str]:
    """Return the result of each op in the table."""
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: line[3] for line in lines if len(line) > 4 and line[1].isdigit()}


def test_ops_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "softmax", "exp", "--order", "1"]) == 0
    out = capsys.readouterr().out
    assert rows(out) == {"softmax": "ok", "exp": "ok"}
    assert "Σⱼ exp(zⱼ/T)" in out
    assert "2 ops: 2 ok" in out


def test_all_ops_in_a_process_of_its_own() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-m", "tinygrad_sm.cli", "check"], capture_output=True, env=environment)
    found = rows(run.stdout.decode())
    assert run.returncode == 0, run.stdout
    assert not run.stderr
    assert set(found) >= {"add", "softmax", "cross_entropy", "attention", "layer_norm"}
    assert set(found.values()) <= {"ok", "skipped"}


def test_the_ops_of_a_file_and_others(file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", file(RIGHT), "exp"]) == 0
    assert rows(capsys.readouterr().out) == {"cube": "ok", "exp": "ok"}


def test_a_wrong_op_of_a_file_exits_with_one(file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", file(RIGHT, WRONG)]) == 1
    out = capsys.readouterr().out
    assert rows(out) == {"cube": "ok", "wrong": "FAILED"}
    assert "gradcheck of wrong" in out


def test_an_op_without_samples_is_listed(file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", file(BARE)]) == 1  # nothing was checked
    assert "samples=[call((2, 3))]" in capsys.readouterr().out


def test_a_file_is_run_as_a_module_beside_its_neighbours(file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file(RIGHT, name="neighbour_of_ops.py")
    main = file("from neighbour_of_ops import cube\n", 'if __name__ == "__main__":\n    raise SystemExit(3)\n')
    path = list(sys.path)
    try:
        assert cli.main(["check", main]) == 0
    finally:
        sys.modules.pop("neighbour_of_ops", None)
    assert rows(capsys.readouterr().out) == {"cube": "ok"}
    assert sys.path == path


def test_a_file_may_end_itself(file: Any) -> None:
    assert cli.main(["check", file(RIGHT, "raise SystemExit\n")]) == 0


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["x = 1\n"], "registers no op"),
        (["x = 1\n", "nonsense\n"], "line 5: NameError"),
        (["raise SystemExit(2)\n"], "SystemExit: 2"),
        (["def f(:\n"], "SyntaxError"),
        ([RIGHT.replace('"cube"', '"exp"')], "line 4: ValueError.*'exp' is taken"),
    ],
)
def test_a_file_that_does_not_work(file: Any, capsys: Any, lines: list[str], message: str) -> None:
    assert cli.main(["check", file(*lines)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tinygrad-sm: ")
    assert "my_ops.py" in said
    assert re.search(message, said)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.py"], "No such file"),
        (["sofmax"], "did you mean softmax"),
        (["exp", "--order", "0"], "order must be 1"),
        (["exp", "--seed", "-1"], "seed must be 0"),
    ],
)
def test_what_it_refuses(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", *args]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert not captured.out


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.ops, "check", stop)
    assert cli.main(["check"]) == 130
