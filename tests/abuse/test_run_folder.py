"""A run folder that is damaged, or a stranger's, given to `--resume`, and what `--text` may name: one clear message."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_terminal import words

import tinygrad_sm as sm
from tinygrad_sm import training
from tinygrad_sm.runs import read_metrics, write_json


def silent(*_: Any) -> None:
    """Say nothing."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a run of four steps, stopped after the second; no pictures."""
    monkeypatch.setattr(training.plot, "curve", lambda *args: None)
    monkeypatch.setattr(training.Run, "draw_block", lambda *args: None)
    text = tmp_path / "text.txt"
    text.write_text(words(3000))
    options = {
        **training.DEFAULT, "text": str(text), "steps": 4, "batch_size": 2, "context": 8, "d_model": 8, "n_heads": 1,
        "n_layers": 1, "eval_every": 1,
    }  # fmt: skip
    with monkeypatch.context() as patch:
        advance = training.Run.advance
        patch.setattr(training.Run, "advance", lambda run: 1 / 0 if run.step == 2 else advance(run))
        with pytest.raises(ZeroDivisionError):
            training.train(tmp_path / "run", options, say=silent)
    return tmp_path / "run"


def resume(folder: Path) -> list[dict[str, Any]]:
    return training.train(folder, {}, resume=True, say=silent)


def refused(folder: Path, message: str) -> None:
    """Check that there is one clear message, and that nothing in the folder has changed."""
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=message) as caught:
        resume(folder)
    assert type(caught.value) is ValueError
    assert folder.name in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert all(c.isprintable() or c == "\n" for c in str(caught.value))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_the_run_resumes_when_nothing_is_wrong(folder: Path) -> None:
    assert [row["step"] for row in resume(folder)] == [1, 2, 3, 4]


# -- config.json --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"config\.json is not JSON .*damaged or cut short"),
        (b"{", "is not JSON"),
        (b"\0" * 500, "is not JSON"),
        (b'\xff\xfe{"a"', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a":' * 100_000, "is not JSON"),
        (b" " * (2**20 + 1), r"config\.json has 1,048,577 bytes, more than the 1,048,576"),
        (b"[]", r"does not hold the options: missing text, seed, .*unknown none"),
        (b"{}", "missing text, seed"),
        (b'"text"', "missing text, seed"),
        (b"9" * 5000, "JSON|missing"),
    ],
)
def test_a_damaged_config(folder: Path, content: bytes, message: str) -> None:
    (folder / "config.json").write_bytes(content)
    refused(folder, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": "4"}, "steps cannot be '4'; it is 700 by default"),
        ({"steps": 4.0}, "steps cannot be 4.0"),
        ({"steps": 0}, "steps cannot be 0"),
        ({"steps": True}, "steps cannot be True"),
        ({"steps": 2**70}, "steps cannot be 118"),
        ({"steps": None}, "steps cannot be None"),
        ({"seed": -1}, "seed cannot be -1"),
        ({"batch_size": -5}, "batch_size cannot be -5"),
        ({"d_model": [8]}, r"d_model cannot be \[8\]"),
        ({"d_model": 2**40}, "a larger model than state.npz holds"),
        ({"n_layers": 10**12}, "a larger model than state.npz holds"),
        ({"context": 10**12}, "a larger model than state.npz holds"),
        ({"lr": "fast"}, "lr cannot be 'fast'"),
        ({"lr": float("nan")}, "lr cannot be nan"),
        ({"lr": float("inf")}, "lr cannot be inf"),
        ({"scaled": 1}, "scaled cannot be 1"),
        ({"init": 3}, "init cannot be 3"),
        ({"text": 3}, "text cannot be 3"),
        ({"text": ["x" * 10_000]}, r"text cannot be \['x"),
        ({"\x1b[31m": 3}, r"missing none and unknown \\x1b\[31m"),
        ({f"{i}" * 300: 3 for i in range(1000)}, r"missing none and unknown 0"),
    ],
)
def test_a_config_of_another_kind(folder: Path, change: dict[str, Any], message: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    refused(folder, message)


# -- state.npz ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": None}, "does not fit the run .*'step'"),
        ({"step": np.array([2, 3])}, r"step is \[2 3\]"),
        ({"step": np.array(2.5)}, "step is 2.5"),
        ({"step": np.array(-1)}, "step is -1, of 4 steps"),
        ({"step": np.array(5)}, "step is 5, of 4 steps"),
        ({"losses": None}, "'losses'"),
        ({"losses": np.array(1.0)}, r"losses are float64\(\)"),
        ({"losses": np.array([1])}, r"losses are int64\(1,\)"),
        ({"random": None}, "'random'"),
        ({"random": np.zeros(5, np.uint64)}, r"random is uint64\(5,\)"),
        ({"random": np.zeros(6)}, r"random is float64\(6,\)"),
        ({"model.tokens.weight": None}, r"missing: tokens\.weight"),
        ({"model.tokens.weight": np.zeros((3, 3))}, r"wrong shape: tokens\.weight"),
        ({"model.\x1b[31m": np.zeros(3)}, r"unexpected: \\x1b\[31m"),
        ({"optimizer.steps": None}, "missing: steps"),
        ({"schedule.count": np.zeros(3)}, "wrong shape: count"),
    ],
)
def test_a_state_that_does_not_fit(folder: Path, change: dict[str, Any], message: str) -> None:
    state = {**sm.load(folder / "state.npz"), **change}
    sm.save(folder / "state.npz", {name: a for name, a in state.items() if a is not None})
    refused(folder, message)


@pytest.mark.parametrize("size", [0, 1, 1000, -10, -30])
def test_a_state_cut_short(folder: Path, size: int) -> None:
    path = folder / "state.npz"
    data = path.read_bytes()[:size] + bytes(20_000)  # so that the model could be in it
    path.write_bytes(data)
    refused(folder, r"load: cannot read .*state\.npz|larger model")


# -- metrics.jsonl ------------------------------------------------------------------------------


ROW = {"step": 1, "train_loss": 1.0, "held_out_loss": 1.0, "lr": 0.1, "grad_norms": {"a": 1.0}, "attention": []}


@pytest.mark.parametrize(
    "row",
    [
        b"{", b"\0\0\0\0", b"\xff", b"[" * 100_000, b"[]", b"3", b"null", b"{}",
        *(json.dumps({**ROW, key: value}).encode() for key, value in [
            ("step", "1"), ("step", 1.5), ("step", None), ("train_loss", "1"), ("train_loss", float("inf")),
            ("held_out_loss", [1]), ("lr", True), ("grad_norms", [1]), ("grad_norms", {"a": "1"}),
            ("grad_norms", {"b": 1.0}), ("attention", {}), ("attention", [3]),
            ("attention", [{"entropy": 1}]), ("attention", [{"entropy": "1", "largest": 1}]),
        ]),
    ],
)  # fmt: skip
def test_a_damaged_line_of_metrics(folder: Path, row: bytes) -> None:
    path = folder / "metrics.jsonl"
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, row, second, b""]))
    refused(folder, r"line 2 of .*metrics\.jsonl (is not JSON|does not hold a line of metrics)")


def test_a_line_cut_short_by_the_end_of_the_process(folder: Path) -> None:
    path = folder / "metrics.jsonl"
    whole = path.read_bytes()
    for cut in (1, 5, 100):
        path.write_bytes(whole + whole.splitlines(keepends=True)[-1][:-cut])
        rows = read_metrics(folder)
        assert [row["step"] for row in rows] == ([1, 2, 2] if cut == 1 else [1, 2])  # only the line's end was missing
    assert [row["step"] for row in resume(folder)] == [1, 2, 3, 4]
    assert len(path.read_bytes().splitlines()) == 4


def test_a_finished_run_without_metrics(folder: Path) -> None:
    assert resume(folder)
    for content in (b"", None):
        (folder / "metrics.jsonl").unlink()
        if content is not None:
            (folder / "metrics.jsonl").write_bytes(content)
        refused(folder, r"a finished run, but its metrics\.jsonl is missing or empty")


def test_what_is_not_a_number_is_null_in_the_file(tmp_path: Path) -> None:
    row = {**ROW, "lr": float("nan"), "grad_norms": {"null": float("inf"), "a": 1.0}}
    write_json(tmp_path / "metrics.jsonl", row, ROW | {"grad_norms": {"null": 1.0, "a": 1.0}})
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    (found, _) = read_metrics(tmp_path)
    assert np.isnan([found["lr"], found["grad_norms"]["null"]]).all()
    assert read_metrics(tmp_path / "gone") == []


def test_files_of_a_run_are_replaced_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run that dies while it writes its metrics anew keeps the old ones."""
    before = (folder / "metrics.jsonl").read_bytes()
    replace = os.replace

    def fail(source: Any, target: Any) -> None:
        if str(target).endswith("metrics.jsonl"):
            raise OSError("disk full")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            resume(folder)
    assert (folder / "metrics.jsonl").read_bytes() == before


# -- pipes and devices, and the text ------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="files that only POSIX has")
@pytest.mark.parametrize("name", ["config.json", "state.npz", "metrics.jsonl"])
@pytest.mark.parametrize(
    "make",
    [os.mkdir, lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero")],
    ids=["dir", "fifo", "zero"],
)
def test_what_is_not_a_file(folder: Path, name: str, make: Callable[[Path], None]) -> None:
    (folder / name).unlink()
    make(folder / name)
    refused(folder, r"is not a regular file|is a (directory|pipe or a device), not a file|larger model")


TEXTS: list[tuple[bytes, str]] = [
    (b"\0" * 5000, r"is not text: 5,000 of its 5,000 characters are NUL.*convert it to UTF-8"),
    (words(3000).encode("utf-16"), "is not text: .* NUL"),
    (b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 20, "is not text"),
    (b"", "too short"),
    (b"\n" * 10_000, "too short"),
    (b"\xef\xbb\xbf", "too short"),
]


@pytest.mark.parametrize(("content", "message"), TEXTS)
def test_what_is_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / ("text.txt" if os.name == "nt" else "text\x1b[31m.txt")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        training.train(tmp_path / "run", {**training.DEFAULT, "text": str(path)}, say=silent)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name != "posix", reason="files that only POSIX has")
def test_a_text_without_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", str(tmp_path / "pipe"), str(tmp_path)):
        with pytest.raises(ValueError, match=r"is a (directory|pipe or a device), not a file"):
            training.train(tmp_path / "run", {**training.DEFAULT, "text": path}, say=silent)


def test_line_ends_are_those_of_python(tmp_path: Path) -> None:
    for name, end in (("unix", "\n"), ("windows", "\r\n"), ("mac", "\r")):
        (tmp_path / name).write_bytes(words(3000).replace("\n", end).encode())
    corpora = [training.prepare(str(tmp_path / name), 0) for name in ("unix", "windows", "mac")]
    assert all(np.array_equal(corpora[0]["train"], other["train"]) for other in corpora[1:])
