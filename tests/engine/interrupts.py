"""Interruptions that arrive at a chosen moment: after the n-th call of a function.

A Ctrl-C is delivered by CPython between two instructions, where it looks for one: when a function begins, and when
a call of a C function returns. A profile function is called at just these moments, so one that raises stands for
a Ctrl-C that can be repeated, at every single moment.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

OURS = ("tinygrad_sm", "contextlib")


class Counter:
    """Counts the moments in code of the package."""

    def __init__(self, stop_at: int | None) -> None:
        self.stop_at, self.count = stop_at, 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        ours = frame.f_globals.get("__name__", "").startswith(OURS)
        if sys.version_info < (3, 11) and event == "call" and frame.f_lasti >= 0:
            return  # a generator goes on: there a profile function's error, but no Ctrl-C, passes its `finally` by
        if ours and event in ("call", "c_return") and frame.f_code.co_name != "<genexpr>":  # some are only closed
            self.count += 1
            if self.count == self.stop_at:
                raise KeyboardInterrupt


@contextmanager
def counting(stop_at: int | None = None) -> Iterator[Counter]:
    """Count the moments inside the block, and raise KeyboardInterrupt at number `stop_at`."""
    counter, before = Counter(stop_at), sys.getprofile()
    sys.setprofile(counter)
    try:
        yield counter
    finally:
        sys.setprofile(before)


def at_every_moment(prepare: Callable[[], Any], act: Callable[[Any], Any], step: int = 1) -> Iterator[Any]:
    """Interrupt `act(state)` at its first moment, its second, … until it ends by itself; yield each state after.

    A `step` above 1 visits fewer of the moments.
    """
    for moment in itertools.count(1, step):
        state = prepare()
        try:
            with counting(moment) as counter:
                act(state)
        except KeyboardInterrupt:
            pass  # leave this block: with the exception go the frames that it holds, and what they had opened
        if counter.count < moment:
            return
        yield state
