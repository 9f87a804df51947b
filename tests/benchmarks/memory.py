"""The peak memory of one unit of work, measured in a process of its own.

After a call that warms up, the process's peak is set back to what it holds now, and one more call is made whose outputs
are kept. The difference is what the work needs beyond its inputs, parameters and what an optimiser keeps. Linux counts
it, to about half a megabyte; elsewhere there is no such number.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .row import Builders, Step
from .timing import set_threads

ROOT = Path(__file__).resolve().parents[2]
RESOLUTION = 1 << 20  # bytes; smaller differences are not counted


def resident(field: str) -> int:
    """Return a field of the process's status in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def peak_of(step: Step) -> int:
    """Return the bytes at the peak of the second call, beyond those before it."""
    step()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed blocks go back, or the second call finds them and seems to need nothing
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before = resident("VmRSS")
    outputs = step()
    peak = resident("VmHWM") - before
    del outputs
    return max(peak, 0)


def peak(family: Any, size: tuple[int, ...], options: dict[str, Any], peer: str, threads: int) -> int | None:
    """Measure what `family(*size, **options)` builds for a peer; return None where that cannot be done."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    module = family.__module__.rpartition(".")[2]
    task = json.dumps([module, family.__name__, size, options, peer, threads])
    command = [sys.executable, "-m", "tests.benchmarks.memory", task]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)  # an error shows itself
    return int(run.stdout) if run.returncode == 0 else None


def _run(module: str, name: str, size: list[int], options: dict[str, Any], peer: str, threads: int) -> int:
    set_threads(threads, [peer])
    builders: Builders = getattr(importlib.import_module(f"tests.benchmarks.{module}"), name)(*size, **options)
    return peak_of(builders[peer]())


if __name__ == "__main__":
    print(_run(*json.loads(sys.argv[1])))
