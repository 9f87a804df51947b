"""The gallery: each script runs and makes its picture, and the index shows them all."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

GALLERY = Path(__file__).parent.parent / "examples" / "gallery"
SCRIPTS = sorted(GALLERY.glob("[0-9]*.py"))
STARTS = {".svg": b"<svg", ".png": b"\x89PNG", ".html": b"<!doctype html>"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_makes_its_picture(script, tmp_path):
    if "viz." in script.read_text(encoding="utf-8"):
        pytest.importorskip("matplotlib")
    copy = Path(shutil.copy(script, tmp_path))
    runpy.run_path(str(copy))
    (made,) = (path for path in tmp_path.iterdir() if path.suffix in STARTS)
    assert made.read_bytes()[:20].lower().startswith(STARTS[made.suffix].lower())
    assert (GALLERY / made.name).exists()


def test_the_index_is_up_to_date():
    index = runpy.run_path(str(GALLERY / "make_index.py"))["index"]()
    assert (GALLERY / "README.md").read_text(encoding="utf-8") == index
