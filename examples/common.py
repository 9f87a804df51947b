"""What the examples share: where their pictures go, and figures without a display."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FOLDER = Path(__file__).parent / "output"

__all__ = ["output", "plt"]


def output(name: str, save: Callable[..., Any]) -> Path:
    """Call `save` with the path of a picture in `examples/output/`, and return that path."""
    FOLDER.mkdir(exist_ok=True)
    save(FOLDER / name)
    return FOLDER / name
