"""What a row of the table is, and what the families of rows share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

Step = Callable[[], Sequence[Any]]
Builders = dict[str, Callable[[], Step]]

# Peer by the name of its module; "plain" is our own simplest form of the same work.
PEERS = {"torch": "PyTorch", "plain": "our plain form", "autograd": "HIPS autograd", "mygrad": "MyGrad",
         "jax": "jax.jit", "tinygrad": "tinygrad"}  # fmt: skip


class Missing(Exception):
    """This library, or a peer, has not what the row needs."""


class Row(NamedTuple):
    """One line of the table.

    `family(*size, **options)` returns a builder by peer; ours is "ours". A builder makes the inputs and returns a
    step: a function that does one unit of work, with fresh outputs, and returns them. `bars` says what share of a
    peer's time is the most that we want to take, `memory_bar` the same of PyTorch's peak memory; `also` names the
    peers that are measured without a bar. `tolerance` is how far the outputs may be from the peer's, relative to
    their largest, or None where they are random.
    """

    name: str
    group: str
    family: Callable[..., Builders]
    size: tuple[int, ...]
    small: tuple[int, ...]
    bars: dict[str, float]
    also: tuple[str, ...] = ()
    memory_bar: float = 1.0
    tolerance: float | None = 1e-4
    options: dict[str, Any] = {}  # noqa: RUF012 (never changed)

    @property
    def peers(self) -> tuple[str, ...]:
        """Return the names of those that the row is measured against."""
        return (*self.bars, *self.also)

    def builders(self, *, small: bool = False) -> Builders:
        """Return the builder of each peer, for the size of the row or one that runs in no time."""
        return self.family(*(self.small if small else self.size), **self.options)


def installed(peer: str) -> bool:
    """Tell whether a peer can be measured here; tinygrad compiles what it runs with clang."""
    there = peer in ("ours", "plain") or find_spec(peer) is not None
    return there and (peer != "tinygrad" or shutil.which("clang") is not None)


def normal(*shape: int, seed: int = 0) -> Any:
    """Return standard normal numbers in float32, the same for every peer."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def classes(n: int, v: int, seed: int = 1) -> Any:
    """Return n classes below v."""
    return np.random.default_rng(seed).integers(v, size=n)


def as_array(x: Any) -> Any:
    """Return what any peer returned as an array."""
    x = x.detach() if hasattr(x, "detach") else x
    return x.numpy() if hasattr(x, "numpy") else np.asarray(x)


def disagreement(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """Return the largest difference between two steps' outputs, each relative to the largest number of its output.

    It is infinite where a difference is not a number, or not finite.
    """
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        a, b = as_array(a), as_array(b)
        if a.shape != b.shape:
            raise ValueError(f"the outputs' shapes differ: {a.shape} and {b.shape}")
        with np.errstate(invalid="ignore"):
            off = float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
        worst = max(worst, off if np.isfinite(off) else np.inf)
    return worst
