"""What is printed: no escape code that a name of a file, an option, a text or a model brings reaches a terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_sm as sm
from tinygrad_sm import cli, training
from tinygrad_sm.text import visible
from tinygrad_sm.viz import plot

WORDS = (
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "while",
    "dogs",
    "ran",
    "over",
    "green",
    "hills",
    "and",
    "birds",
    "sang",
)


@given(st.text())
def test_visible_text_is_printable_and_says_all(text: str) -> None:
    line = visible(text)
    assert line.isprintable()
    if "\\" not in text:
        assert re.sub(r"\\(x..|u....|U.{8}|[nrt])", lambda m: m[0].encode().decode("unicode_escape"), line) == text
    assert visible(text, limit=20).isprintable()
    assert len(visible(text, limit=20)) <= 20
    assert visible(text, keep="\n").replace("\n", "").isprintable()
    assert visible(text, keep="\n").count("\n") == text.count("\n")


def words(characters: int, more: str = "") -> str:
    rng, text = np.random.default_rng(0), ""
    while len(text) < characters:
        text += " ".join(rng.choice(WORDS, 30)) + more + ".\n\n"
    return text


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the command on a small model in an empty folder, with no pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plot, "curve", lambda *args: None)
    monkeypatch.setattr(training.Run, "draw_block", lambda *args: None)
    small = (
        "--steps",
        "2",
        "--d-model",
        "8",
        "--n-heads",
        "1",
        "--n-layers",
        "1",
        "--context",
        "8",
        "--batch-size",
        "2",
    )
    return lambda *args: cli.main(["train", *small, *args])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names of files")
def test_a_text_of_escape_codes_reaches_no_terminal(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a\x1b[31m.txt").write_text(words(3000, "\x1b[31m\x9b2J\x07\u202e\r\b"), encoding="utf-8")
    assert train("--text", "a\x1b[31m.txt", "--name", "run\x1b[31m") == 0
    said = capsys.readouterr()
    assert "a\\x1b[31m.txt" in said.out
    assert "run\\x1b[31m" in said.out
    assert all(c.isprintable() or c in "\n\t" for c in said.out)
    assert "\x1b[31m" not in said.err
    sample = training.Run.sample
    training.Run.sample = lambda run, length: "\x1b[2J\u202egone\ud800"  # type: ignore[method-assign,assignment]
    try:
        assert train("--text", "a\x1b[31m.txt", "--name", "run") == 0
    finally:
        training.Run.sample = sample  # type: ignore[method-assign]
    assert "  | \\x1b[2J\\u202egone\\ud800\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args",
    [
        ("--text", "no\x1b[31m.txt"), ("--name", "a/\x1b[31m"), ("--name", "\x1b[31m", "--resume"),
        ("--runs", "\x1b[31m", "--resume"),
        ("--text", "nul\0.txt"),
    ],
)  # fmt: skip
def test_errors_repeat_no_escape_codes(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str], args: Any
) -> None:
    assert train(*args) == 2
    said = capsys.readouterr().err
    assert said.startswith("tinygrad-sm: ")
    assert all(c.isprintable() or c == "\n" for c in said)


def test_unknown_options_repeat_no_escape_codes(train: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    for args in (("--\x1b[31m",), ("\x1b[31m",), ("--steps", "\x1b[31m"), ("--init", "\x1b[31m")):
        with pytest.raises(SystemExit):
            train(*args)
        said = capsys.readouterr().err
        assert "x1b[31m" in said
        assert all(c.isprintable() or c == "\n" for c in said)


def test_a_tensor_shows_its_name_without_escape_codes() -> None:
    assert "\x1b" not in repr(sm.Tensor([1.0], name="\x1b[31m"))
