"""The ops, one file per family. Importing this package attaches operators and methods to Tensor."""

from . import activation, arithmetic, attention, cross_entropy, indexing, linalg, loss, norm, reduction, shape, softmax

__all__ = [
    "activation", "arithmetic", "attention", "cross_entropy", "indexing", "linalg", "loss", "norm", "reduction",
    "shape", "softmax",
]  # fmt: skip
