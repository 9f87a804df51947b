"""The ops, one file per family. Importing this package attaches operators and methods to Tensor."""

from __future__ import annotations

from inspect import cleandoc
from typing import TYPE_CHECKING, Any

from ..op import REGISTRY
from ..tensor import Tensor
from . import (
    activation,
    arithmetic,
    attention,
    cross_entropy,
    elsewhere,
    indexing,
    linalg,
    loss,
    norm,
    reduction,
    rotary,
    shape,
    softmax,
)
from .method_docs import METHODS, described

if TYPE_CHECKING:
    from ..inspection.opcheck import OpsReport

__all__ = [
    "activation", "arithmetic", "attention", "check", "cross_entropy", "elsewhere", "indexing", "linalg", "loss",
    "norm", "reduction", "rotary", "shape", "softmax",
]  # fmt: skip


for _name in METHODS:  # a method that is an op has the op's docstring, with an example
    _method = getattr(Tensor, _name)
    _method.__doc__ = described(_name, cleandoc(_method.__doc__ or getattr(REGISTRY.get(_name), "__doc__", None) or ""))


def check(names: Any = None, *, order: int = 2, seed: int = 0) -> OpsReport:
    """Check registered ops, one's own among them, on their samples: every gradient, and what else an op promises.

    On arguments drawn from the op's domain: the gradient and the derivatives up to `order` beside differences
    (`sm.gradcheck`); the recorded gradient beside the raw one; of a fused op the value and the gradient beside those
    of its definition; and that float32 stays float32. `tinygrad-sm check` does this on the command line.

    Parameters
    ----------
    names : str, Op, or several
        Which ops; None for all that have a gradient.
    order : int
        Up to which derivative.
    seed : int
        Of the arguments and cotangents.

    Returns
    -------
    OpsReport
        With `rows`, one per op, and `failures`; true if nothing failed. It prints as a table. An op that needs an
        extra which is not installed is listed as skipped, and one without samples as that.

    Raises
    ------
    ValueError
        For a name that is not registered, with those that are near.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> report = sm.ops.check(["exp", "softmax"])
    >>> bool(report), [row.status for row in report.rows]
    (True, ['ok', 'ok'])
    """
    from ..inspection.opcheck import check_ops  # here, since ops stand below inspection, which is made of them

    return check_ops(names, order=order, seed=seed)
