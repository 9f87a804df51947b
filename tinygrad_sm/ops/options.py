"""The options that public functions take: numbers in a range, counts, toggles, and none of another name.

Each check returns the option, in a form to compute with, or raises an error that names it and the caller.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..tensor import Tensor

OTHER_NAMES = {  # names that other libraries use, and ours
    "dim": "axis", "keepdim": "keepdims", "size_average": "reduction", "reduce": "reduction",
    "dropout": "dropout_p", "causal": "is_causal", "need_weights": "return_weights",
    "attn_mask": "mask (bool: True = attend)",
    "key_padding_mask": "mask (bool: True = attend), as ~key_padding_mask[:, None, None, :]",
}  # fmt: skip


def shown(x: Any) -> str:
    """Return a value as one short line, for an error."""
    text = " ".join(repr(x).split())
    return text if len(text) <= 60 else text[:57] + "..."


def refuse(other: dict[str, Any], takes: Callable[..., Any] | Sequence[str], caller: str) -> None:
    """Refuse options of other names than a function takes: list those that it does, and translate PyTorch's."""
    for name in other:
        if callable(takes):
            takes = [p.name for p in inspect.signature(takes).parameters.values() if p.kind != p.VAR_KEYWORD]
        ours = OTHER_NAMES.get(name, "")
        instead = f"; here it is {ours}" if ours.partition(" ")[0] in takes else ""
        raise TypeError(f"{caller}: there is no argument {name!r}{instead}; it takes {', '.join(takes)}")


def real(x: Any, name: str, caller: str, advice: str = "") -> float:
    """Return one real number as a Python float; `advice` says what to do where it is another kind, or wants a gradient.

    Raises
    ------
    TypeError
        For a bool, text, more than one number, None, or a Tensor that requires a gradient, which would get none.
    """
    if type(x) is float:
        return x
    if isinstance(x, Tensor) and x.requires_grad:
        raise TypeError(f"{caller}: {name} is a constant and gets no gradient; {advice or 'pass .item()'}")
    kind = "" if isinstance(x, (str, list, tuple)) or x is None else np.asarray(x).dtype.kind
    if kind not in tuple("fiu") or np.ndim(x):
        raise TypeError(f"{caller}: {name} must be one number, not {shown(x)}" + (f"; {advice}" if advice else ""))
    return float(x)


def within(x: Any, low: float, high: float, name: str, caller: str, *, closed: bool = False) -> float:
    """Return a number in [low, high), or in [low, high] if `closed`.

    Raises
    ------
    TypeError
        If it is not a number.
    ValueError
        If it is out of range or NaN.
    """
    x = real(x, name, caller)
    if not (low <= x < high or (closed and x == high)):
        raise ValueError(f"{caller}: {name} must be in [{low}, {high}{']' if closed else ')'}, not {x}")
    return x


def positive(x: Any, name: str, caller: str, advice: str = "") -> float:
    """Return a finite number above 0."""
    x = real(x, name, caller, advice)
    if not 0 < x < math.inf:
        raise ValueError(f"{caller}: {name} must be a finite number above 0, not {x}")
    return x


def count(x: Any, name: str, caller: str, least: int = 1) -> int:
    """Return a size or a number of things, which is an integer of at least `least`.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is less than `least`.
    """
    if isinstance(x, (bool, np.bool_)) or not isinstance(x, (int, np.integer)):
        raise TypeError(f"{caller}: {name} must be an integer, not {shown(x)}")
    if x < least:
        raise ValueError(f"{caller}: {name} must be at least {least}, not {x}")
    return int(x)


def choice(x: Any, choices: Sequence[str], name: str, caller: str) -> str:
    """Return one of several words; ValueError lists them."""
    if not isinstance(x, str) or x not in choices:
        raise ValueError(f"{caller}: {name} must be one of {', '.join(map(repr, choices))}, not {shown(x)}")
    return x


def toggle(x: Any, name: str, caller: str, advice: str = "") -> bool:
    """Return True or False, and refuse what merely counts as one of them; `advice` says what was meant instead."""
    if not isinstance(x, (bool, np.bool_)):
        raise TypeError(f"{caller}: {name} must be True or False, not {shown(x)}" + (f"; {advice}" if advice else ""))
    return bool(x)
