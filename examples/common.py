"""What the examples share: where their pictures go, and figures without a display."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "output"


def output(name: str, save: Callable[..., Any]) -> Path:
    """Call `save` with the path of a picture in `examples/output/`, and return that path."""
    FOLDER.mkdir(exist_ok=True)
    save(FOLDER / name)
    return FOLDER / name


def __getattr__(name: str) -> Any:
    """Return matplotlib's pyplot for an example that draws with it: `from common import plt`."""
    if name != "plt":
        raise AttributeError(name)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
