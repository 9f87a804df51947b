"""The one random generator that initialisation, dropout and sampling use unless they are given another."""

from __future__ import annotations

from typing import Any

import numpy as np

from .tensor import Array

_generator: np.random.Generator | None = None  # made when it is first needed: to import np.random takes a while


def manual_seed(seed: int) -> np.random.Generator:
    """Start the library's generator anew from `seed`, and return it. Equal seeds give equal runs.

    >>> import tinygrad_sm as sm
    >>> a = sm.manual_seed(0).normal()
    >>> a == sm.manual_seed(0).normal()
    True
    """
    global _generator
    _generator = np.random.default_rng(seed)
    return _generator


def default_rng(rng: np.random.Generator | None = None) -> np.random.Generator:
    """Return `rng`, or the library's own generator for None."""
    global _generator
    if isinstance(rng, (int, np.integer)):
        raise TypeError(f"rng must be a numpy.random.Generator, not a number; np.random.default_rng({rng}) makes one")
    if rng is not None:
        return rng
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


def get_state(rng: np.random.Generator | None = None) -> Array:
    """Return the state of a generator as an array of six uint64, which can be saved with the weights."""
    state: Any = default_rng(rng).bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise TypeError(f"get_state knows NumPy's default generator PCG64, not {state['bit_generator']}")
    low = (1 << 64) - 1
    numbers = (state["state"]["state"], state["state"]["inc"])
    words = [w for n in numbers for w in (n >> 64, n & low)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)


def set_state(state: Array, rng: np.random.Generator | None = None) -> None:
    """Put a generator into a state that `get_state` returned."""
    words = [int(w) for w in state]
    default_rng(rng).bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": words[0] << 64 | words[1], "inc": words[2] << 64 | words[3]},
        "has_uint32": words[4],
        "uinteger": words[5],
    }


def dropout_mask(shape: tuple[int, ...], p: float, dtype: Any, rng: np.random.Generator | None = None) -> Array:
    """Return an array that is 0 with probability p and 1/(1 − p) otherwise, so that its mean is 1."""
    kept = default_rng(rng).random(shape, dtype=np.float32) >= p
    return kept * np.dtype(dtype).type(1 / (1 - p))
