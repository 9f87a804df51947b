"""What the experiments share: their options, runs in parallel that may be interrupted, tables, and files.

An experiment is a function `trial(**setting)` that returns numbers, and a list of settings, one per seed and variant:

    args = options(__doc__, "calibration")
    runs = run(args, trial, [{"smoothing": e, "seed": s} for e in (0.0, 0.1) for s in args.seeds])
    table = summary(runs, by=("smoothing",))
    print(text(table))
    write(args, {"runs": runs, "table": table})
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from tables import markdown, spread
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import tinygrad_sm as sm
from tinygrad_sm.runs import to_json, write_json
from tinygrad_sm.viz.plot import saved

ROOT = Path(__file__).resolve().parents[2]


def options(doc: str | None, name: str, *, seeds: int = 5, add: Callable[[Any], Any] | None = None) -> Any:
    """Read the command line of an experiment; `add` is given the parser, for options of its own.

    The result has `quick`, `seeds` (a list), `jobs`, `out` (a folder) and `name`.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small, to see that it works; its numbers differ")
    parser.add_argument("--seeds", type=int, default=None, metavar="N", help=f"runs of each kind ({seeds}; quick: 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="runs at the same time")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="for the JSON and the figures")
    if add is not None:
        add(parser)
    args = parser.parse_args()
    args.name, args.began = name, time.perf_counter()
    args.seeds = list(range(args.seeds if args.seeds is not None else 1 if args.quick else seeds))
    args.out = args.out or (Path("runs/quick") if args.quick else ROOT / "docs/results")
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def run(args: Any, trial: Callable[..., dict[str, Any]], settings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each setting, the setting and what `trial(**setting)` gave, and the seconds and memory it took.

    Each run has a process of its own with one thread. A finished run is kept in `runs/NAME.jsonl`, and not done
    again if the experiment is interrupted and started once more; delete that file after a change of the code.
    """
    kept = Path("runs") / f"{args.name}{'-quick' if args.quick else ''}.jsonl"
    kept.parent.mkdir(exist_ok=True)
    done = {}
    if kept.exists() and not args.quick:
        for line in kept.read_text(encoding="utf-8").splitlines():
            setting, found = json.loads(line)
            done[to_json(setting)] = found
    left = [setting for setting in settings if to_json(setting) not in done]
    with (
        ProcessPoolExecutor(max(1, args.jobs), multiprocessing.get_context("spawn"), _start) as pool,
        tqdm(total=len(settings), initial=len(settings) - len(left), desc=args.name, unit="run", disable=None) as bar,
    ):
        futures = {pool.submit(_timed, trial, setting): setting for setting in left}
        for future in as_completed(futures):
            key = to_json(futures[future])
            done[key] = future.result()
            with kept.open("a", encoding="utf-8") as file:
                file.write(to_json([futures[future], done[key]]) + "\n")
            bar.update()
    return [{**setting, **done[to_json(setting)]} for setting in settings]


def _start() -> None:
    """Begin a process of the pool: it has one thread, and ends with the one that started it, even if that is killed."""
    threadpool_limits(1)  # BLAS
    sm.set_num_threads(1)
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _timed(trial: Callable[..., dict[str, Any]], setting: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    found = trial(**setting)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {**found, "seconds": round(time.perf_counter() - began, 1), "peak_mb": round(memory)}


def summary(runs: Sequence[dict[str, Any]], by: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each combination of the settings `by`: the mean and the standard deviation of each number.

    The deviation is that of a sample (n − 1), and null for a single run. What is no number is left out.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in runs:
        groups.setdefault(tuple(one[key] for key in by), []).append(one)
    table = []
    for key, members in groups.items():
        row: dict[str, Any] = {**dict(zip(by, key, strict=True)), "n": len(members)}
        for name, value in members[0].items():
            if name not in (*by, "seed") and isinstance(value, (int, float)) and not isinstance(value, bool):
                values = np.array([member[name] for member in members], float)
                deviation = float(values.std(ddof=1)) if len(values) > 1 else None
                row[name] = {"mean": float(values.mean()), "sd": deviation}
        table.append(row)
    return table


def text(table: Sequence[dict[str, Any]], columns: Sequence[str] = (), digits: int = 3) -> str:
    """Return a table of `summary` as Markdown, `mean ± deviation`; `columns` chooses some."""
    columns = columns or list(table[0])

    def cell(value: Any) -> str:
        return spread(value, f".{digits}f") if isinstance(value, dict) else str(value)

    return markdown(columns, ([cell(row[name]) for name in columns] for row in table))


def write(args: Any, content: dict[str, Any]) -> Path:
    """Write `NAME.json` into the folder: the command, what it ran on, how long it took, and `content`."""
    path: Path = args.out / f"{args.name}.json"
    head = {
        "command": " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "tinygrad_sm": sm.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {args.jobs} runs at a time with one thread each",
        "seconds": round(time.perf_counter() - args.began, 1),  # of this call, which may have found runs done before
        "seconds_of_runs": round(sum(one["seconds"] for one in content.get("runs", ())), 1),
        "peak_mb": max((one["peak_mb"] for one in content.get("runs", ())), default=None),
        "seeds": args.seeds,
    }
    write_json(path, {**head, **content}, indent=1)
    print(f"wrote {path}")
    return path


def save(args: Any, name: str, figure: Any) -> Path:
    """Save a matplotlib figure beside the JSON, as SVG."""
    path: Path = args.out / f"{name}.svg"
    saved(figure, path)
    print(f"wrote {path}")
    return path
