"""What rules do where a function has a kink or an infinite slope: select exactly, and keep a gradient of 0 at 0.

Both are true for arrays and for Tensors, as rules are. `docs/kinks.md` lists what follows for each op.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..tensor import Tensor

_BITS = {np.dtype(f"f{n}"): np.dtype(f"u{n}") for n in (2, 4, 8)}


def kept(g: Any, mask: Any) -> Any:
    """Return `g` where `mask` holds and exactly 0 elsewhere, even if `g` is infinite or NaN there.

    The product g·mask would make 0·∞ = NaN; `np.where` is right, but an order of magnitude slower where the mask
    looks random. The bits of `g`, times 0 or 1, are right at the speed of a product.

    >>> import numpy as np
    >>> kept(np.array([1.0, np.inf, np.nan]), np.array([True, False, False]))
    array([1., 0., 0.])
    """
    if isinstance(g, Tensor) or g.dtype not in _BITS:
        return np.where(mask, g, 0.0)
    return np.multiply(g.view(_BITS[g.dtype]), mask).view(g.dtype)


def only_where_needed(rule: Callable[..., Any], g: Any, *args: Any) -> Any:
    """Return `rule(g, *args)`, but 0 where `g` is 0 and the slope infinite or undefined.

    There the arguments are 1 instead, so that neither this gradient nor its own gradient meets 0/0 or 0·∞.
    """
    with np.errstate(all="ignore"):
        slope = rule(np.ones((), g.dtype), *(a.data if isinstance(a, Tensor) else a for a in args))
    fine = np.not_equal(g, 0) | np.isfinite(slope)
    safe = (np.where(fine, a, 1) if isinstance(a, (np.ndarray, np.generic, Tensor)) else a for a in args)
    return kept(rule(g, *safe), fine)


def steep(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Make a rule whose slope may be infinite give 0 where `g` is 0: no gradient comes in, so none goes out.

    NumPy's 0/0 and 0·∞ are NaN, which would come through `np.where(x > 0, np.log(x), 0)` at x = 0. The processor notes
    such an operation as it happens, so looking for it costs no pass over the data. Of the warnings that the
    caller's `np.errstate` asks for, those remain that a gradient other than 0 gives rise to.
    """

    def guarded(g: Any, *args: Any) -> Any:
        try:
            with np.errstate(divide="raise", over="raise", invalid="raise"):
                return rule(g, *args)
        except FloatingPointError:
            return only_where_needed(rule, g, *args)

    return guarded


quotient = steep(lambda g, d: g / d)
