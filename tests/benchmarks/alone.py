"""Our time of some rows, alone: what `compare` runs in each checkout. Prints one JSON object, seconds by row."""

from __future__ import annotations

import json
import statistics
import sys
from time import perf_counter

from .cases import chosen
from .row import Missing, Step
from .timing import calls_per_turn, one_turn, set_threads


def seconds_of(step: Step, seconds: float) -> float:
    """Return the median time of one unit of work, from calls for about `seconds`."""
    calls, times, start = calls_per_turn(step), list[float](), perf_counter()
    while not times or perf_counter() - start < seconds:
        times += one_turn(step, calls)
    return statistics.median(times)


def main(words: list[str], seconds: float, threads: int) -> None:
    """Measure the rows that hold one of the words; a row that this checkout cannot do is left out."""
    set_threads(threads, [])
    found = {}
    for row in chosen(words):
        try:
            found[row.name] = seconds_of(row.builders()["ours"](), seconds)
        except (Missing, AttributeError):
            print(f"{row.name}: not in this revision", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
