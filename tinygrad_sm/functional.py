"""Functions under the names that users of torch.nn.functional know: `import tinygrad_sm.functional as F`.

Axes follow NumPy (`axis`, `keepdims`). Each takes Tensors, arrays or lists; on Tensors it differentiates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .ops.activation import gelu, logit, relu, sigmoid, silu, tanh
from .ops.arithmetic import clip, where
from .ops.attention import scaled_dot_product_attention
from .ops.cross_entropy import cross_entropy
from .ops.indexing import embedding, one_hot, take_along_axis
from .ops.linalg import einsum, linear, matmul
from .ops.loss import kl_div, l1_loss, mse_loss, nll_loss
from .ops.norm import layer_norm, rms_norm
from .ops.shape import broadcast_to, concatenate, flip, moveaxis, pad, split, stack, tril, triu
from .ops.softmax import log_softmax, logsumexp, softmax
from .random import dropout_mask

__all__ = [
    "broadcast_to", "clip", "concatenate", "cross_entropy", "dropout", "einsum", "embedding", "flip", "gelu",
    "kl_div", "l1_loss", "layer_norm", "linear", "log_softmax", "logit", "logsumexp", "matmul", "moveaxis",
    "mse_loss", "nll_loss", "one_hot", "pad", "relu", "rms_norm", "scaled_dot_product_attention", "sigmoid",
    "silu", "softmax", "split", "stack", "take_along_axis", "tanh", "tril", "triu", "where",
]  # fmt: skip


def dropout(x: Any, p: float = 0.5, training: bool = True, *, rng: np.random.Generator | None = None) -> Any:
    """Set each element to zero with probability p, and divide the others by 1 − p; do nothing unless `training`.

    >>> import numpy as np, tinygrad_sm as sm
    >>> sm.functional.dropout(sm.Tensor([1.0, 1.0, 1.0]), 0.5, rng=np.random.default_rng(1))
    Tensor([0., 2., 2.])
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p must be in [0, 1), not {p}")
    return x * dropout_mask(np.shape(x), p, x.dtype, rng) if training and p else x
