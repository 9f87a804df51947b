"""Each experiment runs with `--quick`, and its committed results are those that the pages show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
pytest.importorskip("threadpoolctl")

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples/experiments"
HEAD = {"command", "versions", "machine", "seconds", "seeds", "runs", "table"}
# name, what its runs and what its JSON must have besides, its figures
EXPERIMENTS = [
    (
        "sqrt_dk",
        {"loss", "curve", "entropy", "entropy at first", "median gradient", "mean gradient", "dead rows", "peak_mb"},
        {"steps", "paired"},
        {"sqrt_dk_loss.svg", "sqrt_dk_attention.svg"},
    ),
]


@pytest.mark.parametrize(("name", "measured", "fields", "figures"), EXPERIMENTS, ids=[e[0] for e in EXPERIMENTS])
def test_quick(name, measured, fields, figures, tmp_path):
    """The quick mode ends, writes what the full one does, and tells apart what it should."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--quick", "--jobs", "2", "--out", str(tmp_path / "out")]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / f"out/{name}.json").read_text(encoding="utf-8"))
    assert found.keys() >= HEAD | fields
    assert found["runs"]
    assert all(run.keys() >= measured | {"seed", "seconds"} for run in found["runs"])
    assert {path.name for path in (tmp_path / "out").glob("*.svg")} == figures


def _experiment(name, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return __import__(name)


def test_sqrt_dk_page_shows_the_committed_results(monkeypatch):
    """The tables of docs/attention.md are made from docs/results/sqrt_dk.json, which has five seeds of each kind."""
    found = json.loads((ROOT / "docs/results/sqrt_dk.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/attention.md").read_text(encoding="utf-8")
    assert all(row["n"] == 5 for row in found["table"])
    for table in _experiment("sqrt_dk", monkeypatch).tables(found["table"], found["paired"]):
        assert table in page


def test_sqrt_dk_kinds_start_alike(monkeypatch):
    """Scaled and folded attention are the same at the start, and after a step only slowed folded attention is."""
    trial = _experiment("sqrt_dk", monkeypatch).trial
    found = {kind: trial(64, "unit", kind, seed=0, steps=1) for kind in ("scaled", "folded", "folded, slowed")}
    for kind in ("folded", "folded, slowed"):
        assert found[kind]["entropy at first"] == pytest.approx(found["scaled"]["entropy at first"], abs=1e-6)
    scaled, folded, slowed = (found[kind]["entropy"] for kind in found)
    assert abs(folded - scaled) > 100 * abs(slowed - scaled)
