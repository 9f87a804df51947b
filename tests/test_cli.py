"""The command `tinygrad-sm`: files, output, options, exit statuses, missing extras, odd consoles."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_training import crash_after, english, interrupt_after

import tinygrad_sm as sm
from tinygrad_sm import cli, training
from tinygrad_sm.viz import render

TINY = ["--d-model", "16", "--n-heads", "2", "--n-layers", "2", "--context", "8", "--batch-size", "3"]
TINY += ["--steps", "6", "--eval-every", "3"]
FILES = {
    "config.json",
    "metrics.jsonl",
    "result.json",
    "state.npz",
    "weights.safetensors",
    "curve.png",
    "block.svg",
} | {"block.html"}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(english())
    return path


@pytest.fixture
def train(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `tinygrad-sm train` in an empty folder with a small text; drawing is left out unless asked for."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str, pictures: bool = False, own_text: bool = True) -> int:
        with monkeypatch.context() as patch:
            if not pictures:
                patch.setattr(training.plot, "curve", lambda *_: None)
                patch.setattr(training.plot, "compare", lambda *_: None)
                patch.setattr(training.Run, "draw_block", lambda *_: None)
            return cli.main(["train", *(["--text", str(text)] if own_text else []), *TINY, *args])

    return run


def numbers_after(words: str, said: str) -> list[float]:
    return [float(n) for n in re.findall(rf"{words} ([\d.]*\d)", said)]


# -- one whole run -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Make one run with everything; return its folder, and what it printed and put on the error stream."""
    for extra in ("matplotlib", "safetensors"):
        pytest.importorskip(extra)
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, "-m", "tinygrad_sm.cli", "train", "--text", str(text), *TINY, "--name", "mine"]
    env = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(Path(sm.__file__).parents[1])}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "mine", done.stdout, done.stderr


def test_all_files_are_there_and_valid(whole: tuple[Path, str, str]) -> None:
    folder, _, _ = whole
    if not any(render.programs()):
        pytest.skip("no program to draw graphs with")
    assert {p.name for p in folder.iterdir()} == FILES
    assert (folder / "curve.png").read_bytes()[:8] == PNG
    assert (folder / "block.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    svg = ET.parse(folder / "block.svg").getroot()
    assert svg.tag.endswith("svg")
    words = " ".join(svg.itertext())
    assert all(word in words for word in ("loss", "attn", "blocks.0", "One training step"))
    assert "blocks.1" not in words
    config = json.loads((folder / "config.json").read_text())
    assert config.keys() == training.DEFAULT.keys()
    assert (config["d_model"], config["steps"], config["scaled"], config["seed"]) == (16, 6, True, 0)


def test_weights_load_into_a_new_model(whole: tuple[Path, str, str]) -> None:
    folder, _, _ = whole
    weights, state = sm.load(folder / "weights.safetensors"), sm.load(folder / "state.npz")
    lm = sm.nn.TransformerLM(len(weights["tokens.weight"]), d_model=16, n_heads=2, n_layers=2, context=8)
    lm.load_state_dict(weights)
    assert all((state[f"model.{name}"] == a).all() for name, a in weights.items())


def test_metrics_are_lines_of_strict_json(whole: tuple[Path, str, str]) -> None:
    folder, _, _ = whole
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6]
    for row in rows:
        assert row.keys() == {"step", "train_loss", "held_out_loss", "lr", "grad_norms", "attention"}
        assert row["grad_norms"].keys() == {"tokens", "positions", "blocks.0", "blocks.1", "ln"}
        assert len(row["attention"]) == 2
        assert all(0 < a["largest"] <= 1 and 0 <= a["entropy"] <= 1 + 1e-6 for a in row["attention"])
        assert all(n > 0 for n in row["grad_norms"].values())
        assert 2 < row["train_loss"] < 4
        assert 2 < row["held_out_loss"] < 4


def test_output_says_what_happened(whole: tuple[Path, str, str]) -> None:
    folder, said, _ = whole
    for words in (
        "characters", "without repeated paragraphs", "held out in whole topics", "occur word for word",
        "2 blocks, d_model 16, 2 heads of d_k = 8, context 8", "parameters; init gpt2, scores divided by √d_k",
        "bigram", "attention entropy", "largest weight", "gradient norm", "the model writes",
        "runs/mine", *FILES - {"config.json"},
    ):  # fmt: skip
        assert words in said, words
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    (loss,), (held_out,) = numbers_after("training loss", said), numbers_after("held-out loss", said)
    assert loss == pytest.approx(last["train_loss"], abs=5e-4)
    assert held_out == pytest.approx(last["held_out_loss"], abs=0.05)
    assert numbers_after(r"\(perplexity", said) == pytest.approx([math.exp(loss), math.exp(held_out)], rel=1e-3)
    weights = sm.load(folder / "weights.safetensors")
    assert f"{sum(a.size for a in weights.values()):,} parameters" in said
    table = [line.split() for line in said.splitlines() if re.match(r" +[01] +[01]\.\d{3} ", line)]
    assert [float(row[3]) for row in table] == pytest.approx(
        [last["grad_norms"][f"blocks.{i}"] for i in range(2)], abs=5e-5
    )


def test_nothing_but_progress_on_the_error_stream(whole: tuple[Path, str, str]) -> None:
    _, said, errors = whole
    assert "Traceback" not in errors
    assert "Warning" not in errors
    assert "\r" not in said
    assert "step/s" not in said


# -- options -----------------------------------------------------------------------------------


def metrics(folder: str) -> str:
    return (Path("runs") / folder / "metrics.jsonl").read_text()


def test_seed_and_name(train: Any) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "7")):
        assert train("--name", name, "--seed", seed) == 0
    assert metrics("a") == metrics("b") != metrics("c")


def test_no_scale(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--no-scale", "--runs", "elsewhere") == 0
    assert "NOT divided by √d_k" in capsys.readouterr().out
    config = json.loads(Path("elsewhere/demo/config.json").read_text())
    assert config["scaled"] is False


def test_compare(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert train("--compare", "--n-heads", "1", pictures=True) == 0
    folder = Path("runs/compare")
    assert (folder / "compare.png").read_bytes()[:8] == PNG
    for name in ("scaled", "unscaled"):
        assert {"metrics.jsonl", "state.npz", "curve.png", "config.json"} <= {p.name for p in (folder / name).iterdir()}
    said = capsys.readouterr().out
    for words in ("compare.png", "init unit, d_k = 16", "not divided", "attention entropy", "nats a character here"):
        assert words in said, words
    on, off = (json.loads((folder / name / "config.json").read_text()) for name in ("scaled", "unscaled"))
    assert (on["init"], on["scaled"], off["scaled"]) == ("unit", True, False)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], {}),
        (["--long"], training.LONG),
        (["--compare"], training.UNIT),
        (["--init", "unit"], training.UNIT),
        (["--compare", "--init", "gpt2"], {}),
        (["--compare", "--n-heads", "2"], {"init": "unit", "n_heads": 2}),
        (["--long", "--steps", "3", "--init", "unit"], {**training.LONG, **training.UNIT, "steps": 3}),
        (["--no-scale", "--lr", "0.5", "--dropout", "0.2", "--seed", "4", "--text", "x"],
         {"scaled": False, "lr": 0.5, "dropout": 0.2, "seed": 4, "text": "x"}),
    ],
)  # fmt: skip
def test_presets_and_what_is_laid_over_them(args: list[str], expected: dict[str, Any]) -> None:
    assert cli._options(cli._parser().parse_args(["train", *args])) == {**training.DEFAULT, **expected}


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--steps", "0"], "--steps must be 1 or more"),
        (["--batch-size", "-1"], "--batch-size must be 1 or more"),
        (["--eval-every", "0"], "--eval-every must be 1 or more"),
        (["--n-heads", "3"], "n_heads=3 must divide d_model=16"),
        (["--dropout", "1"], "ropout"),
        (["--dropout", "-0.5"], "ropout"),
        (["--lr", "-1"], "lr"),
        (["--lr", "nan"], "lr"),
        (["--seed", "-1"], "seed"),
        (["--context", "100000"], "context"),
        (["--resume"], "nothing to resume"),
        (["--resume", "--compare"], "nothing to resume"),
        (["--text", "no-such-file.txt"], "no-such-file.txt"),
        (["--text", "."], "directory"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_with_status_2(
    train: Any, args: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*args) == 2
    said = capsys.readouterr()
    assert said.err.startswith("tinygrad-sm: ")
    assert word in said.err
    assert "training loss" not in said.out


@pytest.mark.parametrize("args", [[], ["train", "--init", "x"], ["train", "--steps", "many"], ["fly"], ["train", "-q"]])
def test_wrong_command_lines_show_the_usage(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    assert caught.value.code == 2
    assert "usage: tinygrad-sm" in capsys.readouterr().err


@pytest.mark.parametrize(("args", "word"), [(["--version"], sm.__version__), (["train", "--help"], "--no-scale")])
def test_help_and_version(args: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    assert caught.value.code == 0
    assert word in capsys.readouterr().out


# -- texts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "too short", "a " * 49, "one paragraph again and again\n\n" * 200])
def test_texts_that_are_too_short(train: Any, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("short.txt").write_text(content)
    assert train("--text", "short.txt") == 2
    assert "tinygrad-sm: " in capsys.readouterr().err


def test_text_that_is_not_utf_8(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It is read as Latin-1, which every file is."""
    Path("latin.txt").write_bytes(english().replace("a", "ä").encode("latin-1"))
    assert train("--text", "latin.txt", "--name", "latin") == 0
    assert f"{len(set(english()))} characters," in capsys.readouterr().out  # "ä" in the place of "a"


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_ends_of_other_systems(train: Any, newline: str, text: Path) -> None:
    Path("other.txt").write_bytes(english().replace("\n", newline).encode())
    assert train("--text", "other.txt", "--name", "other") == 0
    assert train("--text", str(text), "--name", "same") == 0
    assert metrics("other") == metrics("same")


def test_text_without_line_breaks(train: Any) -> None:
    Path("line.txt").write_text(english().replace("\n", " "))
    assert train("--text", "line.txt") == 0


def test_python_without_its_reference_manual(
    train: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert train(own_text=False) == 2
    assert "--text FILE" in capsys.readouterr().err


def test_the_text_that_python_ships(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pydoc_data.topics")
    assert train("--steps", "1", own_text=False) == 0
    assert "pydoc_data.topics" in capsys.readouterr().out


# -- interruptions -----------------------------------------------------------------------------


def test_ctrl_c_saves_and_resume_goes_on(
    train: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--name", "whole") == 0
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4)
        assert train("--name", "broken") == 130
    said = capsys.readouterr().out
    assert "stopped at step 4; state saved" in said
    assert Path("runs/broken/state.npz").exists()
    assert train("--name", "broken", "--resume") == 0
    assert metrics("broken") == metrics("whole")
    a, b = (sm.load(f"runs/{name}/state.npz") for name in ("whole", "broken"))
    assert {k: v.tolist() for k, v in a.items()} == {k: v.tolist() for k, v in b.items()}


def test_ctrl_c_while_the_text_is_read(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "prepare", pressed)
    assert train() == 130


def test_a_damaged_state_is_an_error(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert train() == 0
    state = Path("runs/demo/state.npz")
    state.write_bytes(state.read_bytes()[:1000])
    assert train("--resume") == 2
    assert "state.npz" in capsys.readouterr().err


def test_a_bug_is_not_hidden(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    crash_after(monkeypatch, 2)
    with pytest.raises(RuntimeError, match="lights"):
        train()


# -- numbers that run away ---------------------------------------------------------------------


@pytest.mark.parametrize("loss", [1e4, math.inf, math.nan])
def test_a_loss_that_ran_away(
    train: Any, loss: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its perplexity overflows, but the run still ends with its files and a report."""
    measure = training.Run.measure
    monkeypatch.setattr(training.Run, "evaluate", lambda *_: loss)
    monkeypatch.setattr(training.Run, "measure", lambda run: {**measure(run), "train_loss": loss})
    assert train(pictures=True) == 0
    assert "held-out loss" in capsys.readouterr().out


def test_metrics_stay_strict_json_with_a_context_of_one(train: Any) -> None:
    """With one key there is no choice and no entropy; NaN is not JSON."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    assert train("--context", "1") == 0
    for line in metrics("demo").splitlines():
        json.loads(line, parse_constant=refuse)


# -- missing extras ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "file", "words"),
    [
        ("matplotlib", "curve.png", "pip install matplotlib"),
        ("safetensors", None, "weights.npz"),
        ("dot", None, "block.svg"),
        ("tqdm", None, "tqdm"),
    ],
)
def test_a_missing_extra_leaves_a_message(
    train: Any, missing: str, file: str | None, words: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    if missing == "dot":
        monkeypatch.setattr(render, "programs", lambda: iter(()))
    for name in [missing, *(n for n in sys.modules if n.split(".")[0] == missing)]:
        monkeypatch.setitem(sys.modules, name, None)
    assert train("--n-layers", "1", pictures=missing in ("matplotlib", "dot")) == 0
    said = capsys.readouterr()
    assert words in said.out + said.err
    assert {"metrics.jsonl", "state.npz", "config.json"} <= {p.name for p in Path("runs/demo").iterdir()}
    if file is not None:
        assert f"not written: {file}" in said.out
        assert not Path("runs/demo", file).exists()
        assert file not in said.out.splitlines()[-2]  # the list of what was written
    if missing == "dot":  # the built-in layout draws it
        assert Path("runs/demo/block.svg").read_text(encoding="utf-8").startswith("<svg")


def test_compare_without_matplotlib(train: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(training.Run, "draw_block", lambda *_: None)
    for name in ["matplotlib", *(n for n in sys.modules if n.split(".")[0] == "matplotlib")]:
        monkeypatch.setitem(sys.modules, name, None)
    assert train("--compare", "--steps", "2", pictures=True) == 0
    said = capsys.readouterr().out
    assert "not written: compare.png" in said
    assert "nats a character here" in said


# -- consoles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("args", [["--steps", "1", "--n-layers", "1", "--name", "x"], ["--help"]])
def test_consoles_that_cannot_show_a_root_sign(args: list[str], encoding: str, text: Path, tmp_path: Path) -> None:
    """A redirected stream on Windows is cp1252, a bare container may be ASCII."""
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(sm.__file__).parents[1])}
    env["TINYGRAD_SM_DOT"] = "no-such-program"
    command = [sys.executable, "-m", "tinygrad_sm.cli", "train", "--text", str(text), *TINY, *args]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert (b"training loss" in done.stdout) == (args != ["--help"])


def test_resume_refuses_other_options(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What a run began with goes on to hold; to say something else and be ignored would mislead."""
    assert train() == 0
    assert train("--resume", "--steps", "9") == 2
    assert "steps was 6" in capsys.readouterr().err


def test_a_name_is_no_path(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--name", "../elsewhere") == 2
    assert "not a path" in capsys.readouterr().err


def test_a_run_that_diverges_says_so(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with np.errstate(all="ignore"):
        assert train("--lr", "1e30") == 2
    assert "diverged" in capsys.readouterr().err


def test_a_run_without_entropy_resumes(train: Any) -> None:
    """What was not a number is null in the metrics; read again it is NaN, which can be printed."""
    assert train("--context", "1") == 0
    before = metrics("demo")
    assert train("--context", "1", "--resume") == 0
    assert metrics("demo") == before
