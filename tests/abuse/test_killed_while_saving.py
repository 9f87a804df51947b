"""A process killed while it saves leaves the old file or the new one, whole; what it leaves beside is removed later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_sm import io
from tinygrad_sm.atomic import HOUR, LEFT_OVER, replacing

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes and kills them")
KILLS = 100  # for each of the two formats


def killed(folder: Path, suffix: str, kills: int, how: str) -> Any:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, script, folder, suffix, str(kills), how],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@posix
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_file_is_whole_after_every_kill(tmp_path: Path, suffix: str) -> None:
    result = killed(tmp_path, suffix, KILLS, "atomic")
    assert result["seen"].keys() == {"A", "B"}
    assert sum(result["seen"].values()) == KILLS
    assert result["left_over"] > KILLS / 10  # they were killed in the middle of saving, not between


@posix
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_kills_would_break_a_file_that_is_written_in_place(tmp_path: Path, suffix: str) -> None:
    seen = killed(tmp_path, suffix, 60, "plain")["seen"]
    assert any(what.startswith("broken") for what in seen)


def test_left_overs_of_killed_saves_are_removed_when_they_are_old(tmp_path: Path) -> None:
    with replacing(tmp_path / "x.npz"):
        (name,) = os.listdir(tmp_path)
    assert LEFT_OVER.fullmatch(name)
    old = time.time() - HOUR - 60
    for other in (name, ".0123456789abcdef.tinygrad_sm.tmp", "mine.tinygrad_sm.tmp", ".0123456789abcdef.tmp", "x.npz"):
        (tmp_path / other).write_bytes(b"")
        os.utime(tmp_path / other, (old, old))
    fresh = tmp_path / ".fedcba9876543210.tinygrad_sm.tmp"  # another process may be writing it
    fresh.write_bytes(b"")
    io.save(tmp_path / "y.npz", {"w": 1})
    assert set(os.listdir(tmp_path)) == {"mine.tinygrad_sm.tmp", ".0123456789abcdef.tmp", "x.npz", "y.npz", fresh.name}


def test_what_is_written_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        calls.append(("fsync", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def replaced(source: Any, target: Any) -> None:
        calls.append(("replace", os.path.getsize(source)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    io.save(tmp_path / "x.npz", {"w": np.zeros(1000)})
    size = (tmp_path / "x.npz").stat().st_size
    assert calls[:2] == [("fsync", size), ("replace", size)]
    assert [name for name, _ in calls[2:]] == (["fsync"] if os.name == "posix" else [])  # of the folder


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("not here")

    monkeypatch.setattr(os, "open", fail)
    io.save(tmp_path / "x.npz", {"w": 3})
    assert io.load(tmp_path / "x.npz")["w"] == 3
