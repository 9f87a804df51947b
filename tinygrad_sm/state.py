"""States, as `state_dict` makes them and `sm.load` reads them: arrays by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .tensor import Array
from .text import visible

LISTED = 20  # names in an error


def as_arrays(state: Any, caller: str) -> dict[str, Array]:
    """Return a state, as `state_dict` makes it and `sm.load` reads it, as arrays by name.

    Raises
    ------
    TypeError
        If it is something else, such as the path of a file or a module.
    """
    if not isinstance(state, Mapping):
        hint = ""
        if isinstance(state, (str, os.PathLike)):
            hint = "; to read a file, pass sm.load(path)"
        elif hasattr(state, "state_dict"):
            hint = "; pass its .state_dict()"
        raise TypeError(f"{caller} takes a dict of arrays by name, not a {type(state).__name__}{hint}")
    arrays = {}
    for name, value in state.items():
        try:
            arrays[name] = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{caller}: {name} is no array: {error}") from None
    return arrays


def check_names(wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, Any], what: str) -> None:
    """Raise one ValueError that lists every missing name, unexpected name and wrong shape; `what` opens it.

    >>> import numpy as np
    >>> from tinygrad_sm.state import check_names
    >>> check_names({"bias": (3,), "weight": (3, 4)}, {"weight": np.ones((4, 4)), "w": 1.0}, "Linear")
    Traceback (most recent call last):
    ValueError: Linear: the names and shapes do not fit
      missing: bias
      unexpected: w
      wrong shape: weight: expected (3, 4), file has (4, 4)
    """
    shapes = {name: np.shape(value) for name, value in given.items()}
    missing = [_shown(name) for name in wanted if name not in shapes]
    unexpected = [_shown(name) for name in shapes if name not in wanted]
    wrong = [
        f"{_shown(name)}: expected {tuple(shape)}, file has {shapes[name]}"
        for name, shape in wanted.items()
        if name in shapes and shapes[name] != tuple(shape)
    ]
    problems = [f"\n  missing: {', '.join(_first(missing))}"] if missing else []
    problems += [f"\n  unexpected: {', '.join(_first(unexpected))}"] if unexpected else []
    problems += [f"\n  wrong shape: {line}" for line in _first(wrong)]
    if problems:
        raise ValueError(f"{what}: the names and shapes do not fit{''.join(problems)}")


def _shown(name: Any) -> str:
    return visible(name, limit=200)


def _first(lines: list[str]) -> list[str]:
    return lines if len(lines) <= LISTED else [*lines[:LISTED], f"... and {len(lines) - LISTED:,} more"]
