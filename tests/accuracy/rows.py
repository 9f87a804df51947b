"""Rows of logits that break naive forms, by name, in a dtype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

DOMINANCE = (5, 7.3, 11, 16.6, 17.4, 24, 36, 50, 70, 87, 95, 100)


class Case(NamedTuple):
    """Some rows of one kind, with what the losses and gradients need beside them, all of one dtype."""

    name: str
    z: Any  # (N, V) logits
    y: Any  # (N,) classes: of half the rows the largest logit's, of the others a random one
    g: Any  # (N, V) a cotangent
    q: Any  # (N, V) probabilities
    weight: Any  # (V,) class weights


def _logits(every: bool) -> Iterator[tuple[str, Any]]:
    rng = np.random.default_rng(0)
    normal = rng.normal
    yield "ordinary, 2 classes", normal(size=(60, 2)) * 4
    yield "ordinary, 10 classes", normal(size=(60, 10)) * 2
    yield "ordinary, 1000 classes", normal(size=(3, 1000)) * 2
    for n, name in ((10, "10 classes"), (200, "200 classes")):
        others = normal(size=(len(DOMINANCE), n))
        for row, margin in zip(others, DOMINANCE, strict=True):
            row[rng.integers(n)] = row.max() + margin
        yield f"one dominates, {name}", others
        yield f"one dominates, all below 0, {name}", others - others.max(axis=1, keepdims=True) - 0.3
    at_zero = others - others.max(axis=1, keepdims=True)  # the largest is 0, so that logsumexp is tiny
    yield "one dominates, at 0", at_zero
    equal = np.full((len(DOMINANCE), 200), 0.3)
    equal[:, 7] += DOMINANCE
    yield "one dominates equal others", equal
    one = np.full((len(DOMINANCE), 200), -np.inf)
    one[:, 3], one[:, 7] = 0.3, 0.3 + np.array(DOMINANCE)
    yield "one dominates one other", one
    few = normal(size=(8, 40))
    for offset, name in ((1e4, "+1e4"), (-1e4, "-1e4"), (1e6, "+1e6"), (-1e6, "-1e6")):
        yield f"offset {name}", few * 3 + offset
    yield "spread of 1e4", rng.uniform(-5e3, 5e3, (8, 200))
    yield "1e5 classes", rng.choice(normal(size=500), (1, 100_000))
    if every:
        peaked = rng.choice(normal(size=500), (1, 100_000))
        peaked[0, 777] = 30
        yield "1e5 classes, one dominates", peaked
    yield "all equal", np.repeat([[0.1], [-0.1], [1000.1], [-1000.1], [1e-3]], 200, axis=1)
    infinite = normal(size=(6, 50)) * 3
    infinite[:, ::3] = -np.inf
    infinite[0, 1:] = -np.inf
    infinite[0, 0] = 1.5
    yield "-inf entries", infinite
    yield "subnormal logits", normal(size=(4, 40)) * 1e-41
    yield "subnormal probabilities", np.concatenate([np.full((4, 1), 0.2), normal(size=(4, 300)) - 98], axis=1)
    yield "a gap of 40 and of 90", np.concatenate([[[0.7, -40.3, -90.1]] * 2, np.full((2, 60), -300.3)], axis=1)


def cases(dtype: Any, every: bool = False) -> list[Case]:
    """Return the cases in `dtype`, but not the slowest unless `every`."""
    rng = np.random.default_rng(1)
    found = []
    for name, z in _logits(every):
        n, v = z.shape
        z = z.astype(dtype)
        y = np.where(np.arange(n) % 2, rng.integers(v, size=n), z.argmax(axis=1))
        y = np.where(np.isinf(z[np.arange(n), y]), z.argmax(axis=1), y)
        q = rng.dirichlet(np.ones(v), n) if v <= 1000 else rng.choice(rng.uniform(size=500) / v, (n, v))
        q[np.isinf(z)] = 0
        g, weight = rng.choice(rng.normal(size=1000), z.shape), rng.choice(rng.uniform(0.5, 2, 500), v)
        found.append(Case(name, z, y, g.astype(dtype), q.astype(dtype), weight.astype(dtype)))
    return found
