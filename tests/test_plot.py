"""The figures of runs: the files, and that they show the numbers."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_sm.viz import plot

PNG = b"\x89PNG\r\n\x1a\n"


def metrics(n: int = 3, layers: int = 2, shift: float = 0.0) -> list[dict[str, Any]]:
    return [
        {
            "step": 10 * (i + 1), "train_loss": 3.0 - i / 4 + shift, "held_out_loss": 3.1 - i / 5 + shift,
            "grad_norms": {"tokens": 1.0, **{f"blocks.{k}": 0.5 + i + k for k in range(layers)}},
            "attention": [{"entropy": 0.9 - i / 10 - k / 20, "largest": 0.3} for k in range(layers)],
        }
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def matplotlib() -> Any:
    return pytest.importorskip("matplotlib")


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Keep the axes of what is drawn, by their titles."""
    kept: dict[str, Any] = {}
    drawn = plot.drawn

    @contextmanager
    def keeping(*args: Any) -> Iterator[Any]:
        with drawn(*args) as found:
            yield found
            kept.update({a.get_title(): a for a in found})

    monkeypatch.setattr(plot, "drawn", keeping)
    return kept


def lines(axis: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.get_lines()}


def drawings() -> dict[str, Any]:
    return {
        "curve": lambda path: plot.curve(metrics(), path, 2.4),
        "curve of one row": lambda path: plot.curve(metrics(1), path),
        "curve of many layers": lambda path: plot.curve(metrics(2, layers=12), path, 2.4),
        "curve of losses only": lambda path: plot.curve([{"step": 1, "train_loss": 3.0, "held_out_loss": 3.0}], path),
        "compare": lambda path: plot.compare({"a": metrics(), "b": metrics(shift=0.2)}, path, "√d_k on and off"),
    }


@pytest.mark.parametrize("name", drawings())
def test_a_picture_is_written(name: str, tmp_path: Path) -> None:
    drawings()[name](tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    assert data[:8] == PNG
    width, height = struct.unpack(">II", data[16:24])
    assert width > height > 300
    assert len(data) > 10_000


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_other_formats_by_the_suffix(suffix: str, tmp_path: Path) -> None:
    plot.curve(metrics(), tmp_path / f"x.{suffix}")
    assert (tmp_path / f"x.{suffix}").read_bytes()[:5] in (b"<?xml", b"%PDF-")


def test_curve_shows_the_numbers(axes: dict[str, Any], tmp_path: Path) -> None:
    rows = metrics()
    plot.curve(rows, tmp_path / "x.png", 2.4)
    steps = [10, 20, 30]
    loss, entropy, norm = (lines(axes[t]) for t in ("Loss", "Attention entropy", "Gradient norm by layer"))
    assert loss["training, mean since the last"] == (steps, [r["train_loss"] for r in rows])
    assert loss["held out"] == (steps, [r["held_out_loss"] for r in rows])
    assert loss["bigram model, 2.40"][1] == [2.4, 2.4]
    assert entropy["block 1"] == (steps, [r["attention"][1]["entropy"] for r in rows])
    assert set(norm) == {"tokens", "blocks.0", "blocks.1"}
    assert norm["blocks.1"] == (steps, [1.5, 2.5, 3.5])


def test_compare_shows_the_numbers(axes: dict[str, Any], tmp_path: Path) -> None:
    runs = {"on": metrics(), "off": metrics(shift=0.2)}
    plot.compare(runs, tmp_path / "x.png", "title")
    loss, entropy, norm = (lines(axis) for axis in axes.values())
    assert list(loss) == ["on", "off"]
    for name, rows in runs.items():
        assert loss[name] == ([10, 20, 30], [r["held_out_loss"] for r in rows])
        assert entropy[name][1] == pytest.approx([np.mean([a["entropy"] for a in r["attention"]]) for r in rows])
        assert norm[name][1] == pytest.approx([sqrt((0.5 + i) ** 2 + (1.5 + i) ** 2) for i in range(3)])


def test_every_run_of_a_comparison_is_drawn(axes: dict[str, Any], tmp_path: Path) -> None:
    plot.compare({str(i): metrics(shift=i) for i in range(5)}, tmp_path / "x.png", "five")
    assert list(lines(axes["Held-out loss"])) == ["0", "1", "2", "3", "4"]


def test_no_state_is_left_behind(matplotlib: Any, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    plot.curve(metrics(), tmp_path / "x.png")
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install matplotlib"):
        plot.curve(metrics(), tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
