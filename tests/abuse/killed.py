"""Kill processes while they save, and look at the file after each: `killed.py FOLDER SUFFIX KILLS HOW`.

A process that saves two states in turn is forked, and gets SIGKILL after a random time; HOW is "atomic" for `save`, or
"plain" for writing the same file in place. Prints, as JSON, how often the file held which state, or was broken.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from tinygrad_sm.atomic import LEFT_OVER
from tinygrad_sm.io import load, save

STATES = {
    name: {"weight": np.full((4, 64_000), number, np.float32), "bias": np.full(7, number)}
    for name, number in (("A", 1.0), ("B", 2.0))
}


def plain_save(path: Path, state: dict[str, np.ndarray]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **state)
    else:
        import safetensors.numpy

        path.write_bytes(safetensors.numpy.save(state))


def held(path: Path) -> str:
    """Return which state the file holds, whole, or what is wrong with it."""
    try:
        found = load(path)
    except (ValueError, OSError) as error:
        return f"broken: {type(error).__name__}"
    for name, state in STATES.items():
        if found.keys() == state.keys() and all(np.array_equal(found[key], a) for key, a in state.items()):
            return name
    return "broken: neither"


def main(folder: str, suffix: str, kills: int, how: str) -> None:
    path, write, rng = Path(folder) / f"state{suffix}", save if how == "atomic" else plain_save, random.Random(0)
    began = time.perf_counter()
    for name in "ABA":
        write(path, STATES[name])
    longest = 2 * (time.perf_counter() - began) / 3  # twice the time of a save
    seen: dict[str, int] = {}
    left_over = 0
    for kill in range(kills):
        child = os.fork()
        if child == 0:
            while True:
                for name in "AB" if kill % 2 else "BA":
                    write(path, STATES[name])
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        what = held(path)
        seen[what] = seen.get(what, 0) + 1
        for other in path.parent.iterdir():
            if LEFT_OVER.fullmatch(other.name):
                left_over += 1
                other.unlink()
            elif other != path:
                seen[f"also there: {other.name}"] = 1
        if what not in STATES:
            write(path, STATES["A"])
    print(json.dumps({"seen": seen, "left_over": left_over}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
