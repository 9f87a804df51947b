"""tinygrad_sm: a small reverse-mode autograd engine on NumPy, with softmax at its centre.

>>> import tinygrad_sm as sm
>>> logits = sm.Tensor([[1.0, 2.0, 3.0]], requires_grad=True)
>>> sm.cross_entropy(logits, [2]).backward()      # its gradient is p − y
>>> logits.grad.data.round(3)
array([[ 0.09 ,  0.245, -0.335]], dtype=float32)
"""

from . import data, functional, inspection, naive, nn, ops, optim
from .derivatives import grad, hessian, hvp, jacobian, jvp, vjp
from .functional import (
    broadcast_to,
    clip,
    concatenate,
    cross_entropy,
    einsum,
    flip,
    gelu,
    log_softmax,
    logit,
    logsumexp,
    matmul,
    moveaxis,
    nll_loss,
    pad,
    relu,
    sigmoid,
    silu,
    softmax,
    split,
    stack,
    take_along_axis,
    tanh,
    tril,
    triu,
    where,
)  # fmt: skip
from .graph import Graph
from .inspection import detect_anomaly, gradcheck, gradient_flow, record
from .io import load, save
from .op import Op, enable_grad, no_grad
from .ops.arithmetic import abs, cos, exp, expm1, log, log1p, maximum, minimum, sin, sqrt
from .ops.reduction import max, mean, min, prod, std, sum, var
from .random import manual_seed
from .tensor import Tensor, set_default_dtype
from .viz.dot import draw

__version__ = "0.1.0"
__all__ = [
    "Graph", "Op", "Tensor", "abs", "broadcast_to", "clip", "concatenate", "cos", "cross_entropy", "cumsum", "data",
    "detect_anomaly", "draw", "einsum", "enable_grad", "exp", "expand_dims", "expm1", "flip", "functional", "gelu",
    "grad", "gradcheck", "gradient_flow", "hessian", "hvp", "inspection", "jacobian", "jvp", "load", "log", "log1p",
    "log_softmax", "logit", "logsumexp", "manual_seed", "matmul", "max", "maximum", "mean", "min", "minimum",
    "moveaxis", "naive", "nll_loss", "nn", "no_grad", "ops", "optim", "pad", "prod", "record", "relu", "reshape",
    "save", "set_default_dtype", "sigmoid", "silu", "sin", "softmax", "split", "sqrt", "squeeze", "stack", "std",
    "sum", "swapaxes", "take_along_axis", "tanh", "transpose", "tril", "triu", "var", "vjp", "where",
]  # fmt: skip
