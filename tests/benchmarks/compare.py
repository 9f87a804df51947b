"""Compare two revisions of ours: `python -m tests.benchmarks.compare OLD [NEW] [--only WORDS]`.

NEW is the working tree unless it is named. The package of each revision and today's benchmarks go into a folder of
their own, and processes of the two take turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .memory import ROOT
from .report import duration


def checkout(revision: str | None, folder: Path) -> Path:
    """Put the package of a revision (None: as it is in the working tree) and today's benchmarks into a folder."""
    if revision is None:
        shutil.copytree(ROOT / "tinygrad_sm", folder / "tinygrad_sm", ignore=shutil.ignore_patterns("__pycache__"))
    else:
        archive = folder / "package.zip"
        command = ["git", "archive", "--format=zip", f"--output={archive}", revision, "tinygrad_sm"]
        subprocess.run(command, cwd=ROOT, check=True)
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
    shutil.copytree(ROOT / "tests" / "benchmarks", folder / "tests" / "benchmarks")
    return folder


def run(folder: Path, words: list[str], seconds: float, threads: int) -> dict[str, float]:
    """Return our seconds by row, measured in a process that finds the package of `folder`."""
    task = json.dumps({"words": words, "seconds": seconds, "threads": threads})
    command = [sys.executable, "-m", "tests.benchmarks.alone", task]
    return json.loads(subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout)


def lines(old: list[dict[str, float]], new: list[dict[str, float]]) -> list[str]:
    """Return a line per row: medians over the rounds, of the times and of the ratio, and the ratio's range.

    >>> print(*lines([{"a": 2.0}, {"a": 4.0}], [{"a": 1.0}, {"a": 1.0}]), sep="\\n")
    a                                                  3.00 s ->  1.00 s  0.375 [0.250, 0.500]
    """
    found = []
    for name in [n for n in new[0] if n in old[0]]:
        before, after = ([times[name] for times in rounds] for rounds in (old, new))
        ratios = [a / b for a, b in zip(after, before, strict=True)]
        a, b, ratio = map(statistics.median, (after, before, ratios))
        text = f"{duration(b):>8s} -> {duration(a):>7s}  {ratio:.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"
        found.append(f"{name:48s} {text}")
    return found


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare", description=__doc__)
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORDS")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each row and process (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        folders = [checkout(o.old, Path(a)), checkout(o.new, Path(b))]
        rounds: list[list[dict[str, float]]] = [[], []]
        for number in range(o.rounds):
            for times, folder in zip(rounds, folders, strict=True):
                times.append(run(folder, o.only, o.seconds, o.threads))
            print(f"round {number + 1} of {o.rounds}", file=sys.stderr)
    print(f"{'':48s} {o.old} -> {o.new or 'the working tree'}, new/old [range over the rounds]")
    print(*lines(*rounds), sep="\n")


if __name__ == "__main__":
    main()
