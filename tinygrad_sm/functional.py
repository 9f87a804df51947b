"""Functions under the names that users of torch.nn.functional know: `import tinygrad_sm.functional as F`.

Axes follow NumPy (`axis`, `keepdims`). Each takes Tensors, arrays or lists; on Tensors it differentiates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .ops.activation import gelu, logit, relu, sigmoid, silu, tanh
from .ops.arguments import floats, operand
from .ops.arithmetic import clip, maximum, minimum, where
from .ops.attention import scaled_dot_product_attention
from .ops.cross_entropy import cross_entropy
from .ops.indexing import embedding, one_hot, take_along_axis
from .ops.linalg import einsum, linear, matmul
from .ops.linear_cross_entropy import linear_cross_entropy
from .ops.loss import kl_div, l1_loss, mse_loss, nll_loss
from .ops.norm import layer_norm, rms_norm
from .ops.options import within
from .ops.reduction import cumsum
from .ops.rotary import rotary
from .ops.shape import (
    broadcast_to,
    concatenate,
    expand_dims,
    flip,
    moveaxis,
    pad,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    transpose,
    tril,
    triu,
)  # fmt: skip
from .ops.softmax import log_softmax, logsumexp, softmax
from .random import dropout_mask

__all__ = [
    "broadcast_to", "clip", "concatenate", "cross_entropy", "cumsum", "dropout", "einsum", "embedding", "expand_dims",
    "flip", "gelu", "kl_div", "l1_loss", "layer_norm", "linear", "linear_cross_entropy", "log_softmax", "logit",
    "logsumexp", "matmul", "maximum", "minimum", "moveaxis", "mse_loss", "nll_loss", "one_hot", "pad", "relu",
    "reshape", "rms_norm", "rotary", "scaled_dot_product_attention", "sigmoid", "silu", "softmax", "split", "squeeze",
    "stack", "swapaxes", "take_along_axis", "tanh", "transpose", "tril", "triu", "where",
]  # fmt: skip


def dropout(x: Any, p: float = 0.5, training: bool = True, *, rng: np.random.Generator | None = None) -> Any:
    """Set each element to zero with probability p, and divide the others by 1 − p; do nothing unless `training`.

    `x` holds floats; `rng` is a NumPy generator, that of `manual_seed` by default. Raises ValueError for p outside
    [0, 1), TypeError for integers. Source: Srivastava et al. 2014, with the scaling moved to training.

    >>> import numpy as np, tinygrad_sm as sm
    >>> sm.functional.dropout(sm.Tensor([1.0, 1.0, 1.0]), 0.5, rng=np.random.default_rng(1))
    Tensor([0., 2., 2.])
    """
    p, x = within(p, 0, 1, "p", "dropout"), floats(operand(x), "dropout")
    return x * dropout_mask(x.shape, p, x.dtype, rng) if training and p else x
