"""The results as text: a line for the eye, a table for the page."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from .measure import Result
from .row import PEERS

HEAD = ["| | against | ours | theirs | ours/theirs | quartiles | bar | peak memory, ours / theirs |",
        "|---|---|---:|---:|---:|---:|---|---|"]  # fmt: skip


def duration(seconds: float) -> str:
    """Return a time with three digits and its unit.

    >>> duration(0.0123), duration(123e-6), duration(2)
    ('12.3 ms', '123 µs', '2.00 s')
    """
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= 0.9995 * unit or unit == 1e-6:
            return f"{seconds / unit:#.3g}".rstrip(".") + f" {name}"
    raise AssertionError


def _bar(met: bool | None, bar: float | None) -> str:
    return "" if met is None else f"{'met' if met else 'MISSED'} (≤ {bar:g})"


def _memory(result: Result) -> str:
    if result.memory is None:
        return ""
    ours, theirs = (f"{x / 1e6:.1f}" for x in result.memory)
    return f"{ours} / {theirs} MB, {_bar(result.memory_met, result.row.memory_bar)}"


def _time_bar(result: Result) -> str:
    return f"{_bar(result.met, result.row.bars.get(result.peer))} {result.note}".strip()


def line(result: Result) -> str:
    """Return one line for the eye, as the measurement goes on."""
    head = f"{result.row.name:48s} {result.peer:9s}"
    if result.times is None:
        return f"{head} {result.note}"
    t = result.times
    text = f"{head} {duration(t.ours):>8s} / {duration(t.theirs):>8s} = {t.ratio:5.3f} [{t.low:5.3f}, {t.high:5.3f}]"
    return f"{text} best {t.best:5.3f} {_time_bar(result)}  {_memory(result)}".rstrip()


def table(results: list[Result]) -> str:
    """Return the results as Markdown, a table for each group."""
    lines: list[str] = []
    for group, members in groupby(results, lambda result: result.row.group):
        lines += [f"### {group}", "", *HEAD]
        for r in members:
            cells = [r.row.name, PEERS[r.peer], "", "", "", "", r.note, ""]
            if r.times is not None:
                t = r.times
                cells[2:] = [duration(t.ours), duration(t.theirs), f"**{t.ratio:.2f}**", f"{t.low:.2f}–{t.high:.2f}",
                             _time_bar(r), _memory(r)]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def summary(results: list[Result]) -> str:
    """Return how many bars are met."""
    time, memory = (Counter(x for x in found if x is not None) for found in
                    ([r.met for r in results], [r.memory_met for r in results]))  # fmt: skip
    text = f"{time[True]} of {time.total()} bars on time are met"
    return text + (f", {memory[True]} of {memory.total()} on memory." if memory else ".")
