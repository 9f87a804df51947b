"""Sample calls of ops: the rows of the table that tests, documents and checks are made of."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Sample(NamedTuple):
    """One call of an op: a tuple of integers stands for a random array of that shape, all else for itself."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def draw(self, domain: tuple[float, float], seed: int = 0, dtype: Any = np.float64) -> list[Any]:
        """Return the arguments, with arrays drawn uniformly from `domain` in place of the shapes."""
        rng = np.random.default_rng(seed)
        return [np.asarray(rng.uniform(*domain, size=a), dtype) if type(a) is tuple else a for a in self.args]

    @property
    def wanted(self) -> list[int]:
        """Which arguments want a gradient: all that are drawn, and a first one that is given as floats."""
        first = isinstance(self.args[0], np.ndarray) and self.args[0].dtype.kind == "f"
        return [i for i, a in enumerate(self.args) if type(a) is tuple or (i == 0 and first)]


def call(*args: Any, **kwargs: Any) -> Sample:
    """Describe a sample call of an op: `call((2, 3), (3,))` is `op(a, b)` with arrays of these shapes."""
    return Sample(args, kwargs)
