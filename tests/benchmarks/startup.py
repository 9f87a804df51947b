"""How long `import tinygrad_sm` takes beyond `import numpy`, in fresh processes that take turns."""

from __future__ import annotations

import statistics
import subprocess
import sys

from .memory import ROOT

BAR = 0.060  # seconds
CODE = "from time import perf_counter as now; t = now(); import {0}; print(now() - t)"


def _seconds(module: str) -> float:
    command = [sys.executable, "-c", CODE.format(module)]
    return float(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)


def seconds(rounds: int = 20) -> float:
    """Return the median difference of the two."""
    return statistics.median(_seconds("tinygrad_sm") - _seconds("numpy") for _ in range(rounds))


def report(rounds: int = 20) -> str:
    """Return a sentence with the bar."""
    took = seconds(rounds)
    verdict = "met" if took <= BAR else "MISSED"
    return f"`import tinygrad_sm` takes {1e3 * took:.0f} ms over `import numpy`: {verdict} (≤ {1e3 * BAR:.0f} ms)."
