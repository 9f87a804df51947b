"""One row of the table, measured: do the peers agree, how long do they take, how much memory do they need."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import NamedTuple

from .memory import RESOLUTION, peak
from .row import Missing, Row, Step, disagreement
from .timing import Times, compare


class Memory(NamedTuple):
    """Bytes at the peak of one unit of work, beyond what stays."""

    ours: int
    theirs: int


class Result(NamedTuple):
    """A row against one peer. `times` is None, and `note` says why, where there is nothing to compare.

    Beside times, a note says that the results differ; then no bar is met.
    """

    row: Row
    peer: str
    times: Times | None
    memory: Memory | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Return whether the bar on time is met, or None where there is none."""
        bar = self.row.bars.get(self.peer)
        return None if bar is None or self.times is None else not self.note and self.times.ratio <= bar

    @property
    def memory_met(self) -> bool | None:
        """Return whether the bar on memory is met; what is within the resolution counts as met."""
        if self.memory is None:
            return None
        return not self.note and self.memory.ours <= self.row.memory_bar * self.memory.theirs + RESOLUTION


class Settings(NamedTuple):
    """How to measure."""

    peers: tuple[str, ...]
    seconds: float = 3.0
    rounds: int | None = None
    memory: bool = True
    threads: int = 2
    load: float = 0.0  # processes that ran in the minute before, as the system counts them


def measured(row: Row, settings: Settings) -> Iterator[Result]:
    """Yield the row against each of the peers that have it."""
    for peer in row.peers:
        if peer in settings.peers:
            yield _against(row, peer, settings)
            gc.collect()


def _against(row: Row, peer: str, settings: Settings) -> Result:
    builders = row.builders()
    try:
        ours = builders["ours"]()
    except Missing as error:
        return Result(row, peer, None, note=str(error))
    try:
        theirs = builders[peer]()
        theirs()
    except Exception as error:  # a peer that does not work here is a word in the table, not the table's end
        return Result(row, peer, None, note=f"{type(error).__name__}: {error}")
    ours()
    note = "" if row.tolerance is None or peer == "plain" else _difference(ours, theirs, row.tolerance)
    times = compare(ours, theirs, settings.seconds, settings.rounds)
    memory = _memory(row, settings.threads) if peer == "torch" and settings.memory else None
    return Result(row, peer, times, memory, note)


def _difference(ours: Step, theirs: Step, tolerance: float) -> str:
    """Return in words how two more calls differ: in training they show updates, and jitted functions replay."""
    worst = 0.0
    for _ in range(2):
        outputs = ours(), theirs()
        try:
            worst = max(worst, disagreement(*outputs))
        except ValueError as error:  # other shapes, or more outputs
            return f"results differ: {error}"
    return f"results differ by {worst:.1g}" if worst > tolerance else ""


def _memory(row: Row, threads: int) -> Memory | None:
    ours, theirs = (peak(row.family, row.size, row.options, peer, threads) for peer in ("ours", "torch"))
    return None if ours is None or theirs is None else Memory(ours, theirs)
