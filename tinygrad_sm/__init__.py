"""tinygrad_sm: a small reverse-mode autograd engine on NumPy, with softmax at its centre.

>>> import tinygrad_sm as sm
>>> logits = sm.Tensor([[1.0, 2.0, 3.0]], requires_grad=True)
>>> sm.cross_entropy(logits, [2]).backward()      # its gradient is p − y
>>> logits.grad.data.round(4).tolist()
[[0.09000000357627869, 0.24469999969005585, -0.33480000495910645]]
"""

from . import functional

from .derivatives import grad, hessian, hvp, jacobian, jvp, vjp
from .functional import (
    broadcast_to, clip, concatenate, cross_entropy, einsum, flip, gelu, log_softmax, logit, logsumexp, matmul,
    moveaxis, nll_loss, pad, relu, sigmoid, silu, softmax, split, stack, take_along_axis, tanh, tril, triu, where,
)  # fmt: skip
from .op import Op, enable_grad, no_grad
from .ops.arithmetic import abs, cos, exp, expm1, log, log1p, maximum, minimum, sin, sqrt
from .ops.reduction import max, mean, min, prod, std, sum, var
from .random import manual_seed
from .tensor import Tensor, set_default_dtype

__version__ = "0.1.0"
__all__: list[str] = []
