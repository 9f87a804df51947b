"""What tests of hostile files share."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tinygrad_sm.io import load

KIB, MIB = 2**10, 2**20


class Bomb:
    """Unpickling it leaves a mark."""

    exploded = False

    def __reduce__(self) -> tuple[object, ...]:
        return setattr, (Bomb, "exploded", True)


@contextmanager
def memory_below(limit: float) -> Iterator[None]:
    """Fail if the block takes more bytes at a time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


def refused(path: Path, message: str = "", peak: float = 2 * MIB) -> None:
    """Check that a file gives one clear error, for little memory, and leaves nothing behind."""
    before = sorted(path.parent.iterdir())
    with memory_below(peak), pytest.raises(ValueError, match=rf"^load: .*{path.stem}.*{message}") as caught:
        load(path)
    assert type(caught.value) is ValueError
    assert len(str(caught.value)) < 1000
    assert sorted(path.parent.iterdir()) == before
    assert not Bomb.exploded
