"""Statistics of gradients by parameter and by layer, and of attention weights."""

from __future__ import annotations

import math

import numpy as np

from ..nn.module import Module
from ..tensor import Array


def gradient_flow(module: Module) -> dict[str, dict[str, float]]:
    """Return statistics of the gradient of every parameter that has one, by its path.

    Returns
    -------
    dict of dict
        For each parameter: `norm` (Euclidean), `rms` (root mean square), `max` (largest magnitude), `zeros` (share
        of entries that are exactly 0) and `ratio` (rms of the gradient over rms of the value).

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> layer = sm.nn.Linear(2, 1)
    >>> layer(sm.Tensor(np.array([[3.0, 0.0]], np.float32))).sum().backward()
    >>> flow = sm.gradient_flow(layer)
    >>> flow["weight"]["norm"], flow["weight"]["zeros"]
    (3.0, 0.5)
    """
    rows = {}
    for name, p in module.named_parameters():
        if p.grad is not None and p.size:
            g, value = p.grad.data.astype(np.float64), p.data.astype(np.float64)
            rms = float(np.sqrt(np.mean(g * g)))
            size = float(np.sqrt(np.mean(value * value)))
            rows[name] = {
                "norm": float(np.linalg.norm(g)),
                "rms": rms,
                "max": float(np.abs(g).max()),
                "zeros": float(np.mean(g == 0)),
                "ratio": rms / size if size else math.inf,
            }
    return rows


def layer_norms(module: Module, flow: dict[str, dict[str, float]] | None = None) -> dict[str, float]:
    """Return the joint gradient norm of each layer: of each direct child, and of each item of a list of children.

    >>> import numpy as np, tinygrad_sm as sm
    >>> mlp = sm.nn.Sequential(sm.nn.Linear(2, 3), sm.nn.ReLU(), sm.nn.Linear(3, 1))
    >>> mlp(np.ones((1, 2), np.float32)).sum().backward()
    >>> list(sm.inspection.layer_norms(mlp))
    ['layers.0', 'layers.2']
    """
    squares: dict[str, float] = {}
    for name, row in (gradient_flow(module) if flow is None else flow).items():
        parts = name.split(".")
        layer = ".".join(parts[:2]) if len(parts) > 1 and parts[1].isdigit() else parts[0]
        squares[layer] = squares.get(layer, 0.0) + row["norm"] ** 2
    return {layer: math.sqrt(s) for layer, s in squares.items()}


def attention_stats(weights: Array, *, causal: bool = False) -> dict[str, float]:
    """Return how spread attention weights (…, T, S) are: mean entropy and mean largest weight.

    `entropy` is −Σ w·log w as a share of log n, the most that n keys allow: 1 is uniform, 0 looks at one key.
    With `causal`, row i sees i + 1 keys, and row 0, which has no choice, is left out.

    >>> import numpy as np
    >>> stats = attention_stats(np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.25, 0.25]]), causal=True)
    >>> round(stats["entropy"], 3), stats["largest"]
    (0.973, 0.5)
    """
    w = np.asarray(weights, np.float64)
    keys = np.minimum(np.arange(w.shape[-2]) + 1, w.shape[-1]) if causal else np.full(w.shape[-2], w.shape[-1])
    w, keys = w[..., keys > 1, :], keys[keys > 1]
    if not w.size:
        return {"entropy": math.nan, "largest": math.nan}
    entropy = -(w * np.log(np.where(w > 0, w, 1))).sum(axis=-1) / np.log(keys)
    return {"entropy": float(entropy.mean()), "largest": float(w.max(axis=-1).mean())}
