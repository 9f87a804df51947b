"""What the formulas of the registry call the arguments and options of an op."""

from __future__ import annotations

from ..op import Op

ARGUMENTS = {
    "where": "c a b", "logit": "p", "softmax": "z", "log_softmax": "z", "logsumexp": "z", "attention": "q k v",
    "embedding": "W i", "nll_loss": "ℓ y", "cross_entropy": "z y", "soft_cross_entropy": "z q", "matmul": "A B",
    "linear": "x W b", "layer_norm": "x w b", "rms_norm": "x w", "linear_cross_entropy": "x W y b",
    "embedding_rows": "x i",
}  # fmt: skip
NO_GRADIENT = {  # letters of arguments that are no floats, or have no gradient
    "where": "c", "cross_entropy": "y", "nll_loss": "y", "soft_cross_entropy": "q", "linear_cross_entropy": "y",
    "embedding": "i", "embedding_rows": "i",
}  # fmt: skip
OPTIONS = {"temperature": "T", "eps": "ε", "ddof": "ddof", "low": "low", "high": "high", "scale": "scale", "k": "k"}


def arguments_of(op: Op) -> tuple[str, ...]:
    """Return the letters that stand for the positional arguments of an op in its formulas.

    >>> from tinygrad_sm.op import REGISTRY
    >>> [arguments_of(REGISTRY[name]) for name in ("mul", "exp", "linear")]
    [('a', 'b'), ('x',), ('x', 'W', 'b')]
    """
    if op.name in ARGUMENTS:
        return tuple(ARGUMENTS[op.name].split())
    two = (isinstance(op.vjp, tuple) and len(op.vjp) == 2) or op.name in ("einsum", "concatenate")
    return ("a", "b") if two else ("x",)
