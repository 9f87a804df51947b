"""Print the whole table: `python -m tests.benchmarks` from the root of a checkout.

It needs `pip install -e ".[bench]"`; peers that are not installed are left out. `--write` writes docs/performance.md,
with the machine, its limits, and the growth of time with size.
"""

from __future__ import annotations

import argparse
import os

from .cases import chosen
from .measure import Settings, measured
from .report import line, summary, table
from .row import PEERS, installed
from .timing import set_threads


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line, or these arguments in its place."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORDS", help="rows whose name holds one of these")
    parser.add_argument("--peers", help=f"modules, separated by commas (default: {','.join(PEERS)})")
    parser.add_argument("--quick", action="store_true", help="0.3 s a row and peer in place of 3 s, and no memory")
    parser.add_argument("--rounds", type=int, help="how often the two take turns, in place of a time")
    parser.add_argument("--threads", type=int, default=2, help="of every library (default: %(default)s)")
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md, and the figure in it")
    found = parser.parse_args(arguments)
    if found.write and (found.only or found.peers is not None or found.quick or found.no_memory):
        parser.error("--write goes without --only, --peers, --quick and --no-memory, as the page must be whole")
    found.peers = list(PEERS) if found.peers is None else found.peers.split(",")
    if unknown := [p for p in found.peers if p not in PEERS]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    if unknown := [words for words in found.only if not chosen([words])]:
        rows = "\n  ".join(row.name for row in chosen())
        parser.error(f"no row's name holds {' or '.join(map(repr, unknown))}; there are\n  {rows}")
    return found


def main() -> None:
    """Measure what is asked for, a line per row as it goes, and then print the table."""
    o = options()
    peers = tuple(p for p in o.peers if installed(p))
    absent = [PEERS[p] for p in o.peers if p not in peers]
    if absent:
        print(f"not installed here, and so left out: {', '.join(absent)}")
    set_threads(o.threads, peers)
    memory = not (o.no_memory or o.quick)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        print(f"the load is {load:.1f}: something else runs here, and may slow one side more than the other")
    settings = Settings(peers, 0.3 if o.quick else 3.0, o.rounds, memory, o.threads, load)
    results = []
    for row in chosen(o.only):
        for result in measured(row, settings):
            results.append(result)
            print(line(result), flush=True)
    print(f"\n{table(results)}\n{summary(results)}")
    if o.write:
        from .page import write

        write(results, settings)


if __name__ == "__main__":
    main()
