"""How long `import tinygrad_sm` takes beyond `import numpy`, in fresh processes that take turns."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from tempfile import TemporaryDirectory

from .memory import ROOT

BAR = 0.060  # seconds
CODE = "from time import perf_counter as now; t = now(); import {0}; print(now() - t)"


def _seconds(module: str, bytecode: str) -> float:
    command = [sys.executable, "-c", CODE.format(module)]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
    return float(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout)


def seconds(rounds: int = 20) -> float:
    """Return the median difference of the two, where both were imported once before, and so are compiled."""
    with TemporaryDirectory() as bytecode:
        _seconds("tinygrad_sm", bytecode)
        return statistics.median(_seconds("tinygrad_sm", bytecode) - _seconds("numpy", bytecode) for _ in range(rounds))


def report(rounds: int = 20) -> str:
    """Return a sentence with the bar."""
    took = seconds(rounds)
    verdict = "met" if took <= BAR else "MISSED"
    return f"`import tinygrad_sm` takes {1e3 * took:.0f} ms over `import numpy`: {verdict} (≤ {1e3 * BAR:.0f} ms)."
