"""The experiment on √d_k: its page shows the committed results, and its kinds differ in what they should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples/experiments"


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
