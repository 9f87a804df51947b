"""tinygrad_sm: a small reverse-mode autograd engine on NumPy, with softmax at its centre.

>>> import tinygrad_sm as sm
>>> logits = sm.Tensor([[1.0, 2.0, 3.0]], requires_grad=True)
>>> sm.cross_entropy(logits, [2]).backward()      # its gradient is p − y
>>> logits.grad.data.round(3)
array([[ 0.09 ,  0.245, -0.335]], dtype=float32)
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from . import functional, nn, ops, optim
from .derivatives import grad, hessian, hvp, jacobian, jvp, vjp
from .functional import (
    broadcast_to,
    clip,
    concatenate,
    cross_entropy,
    cumsum,
    einsum,
    expand_dims,
    flip,
    gelu,
    linear_cross_entropy,
    log_softmax,
    logit,
    logsumexp,
    matmul,
    moveaxis,
    nll_loss,
    pad,
    relu,
    reshape,
    sigmoid,
    silu,
    softmax,
    split,
    squeeze,
    stack,
    swapaxes,
    take_along_axis,
    tanh,
    transpose,
    tril,
    triu,
    where,
)  # fmt: skip
from .mode import enable_grad, no_grad
from .op import Op
from .ops.arithmetic import abs, cos, exp, expm1, log, log1p, maximum, minimum, sin, sqrt
from .ops.blocked import get_num_threads, set_num_threads
from .ops.reduction import max, mean, min, prod, std, sum, var
from .random import manual_seed
from .tensor import Tensor, set_default_dtype

if TYPE_CHECKING:
    from . import calibration, data, decoding, inspection, naive, pretrained, primer
    from . import graph as graph
    from . import io as io
    from . import viz as viz
    from .graph import Graph
    from .inspection import detect_anomaly, gradcheck, gradient_flow, record
    from .inspection.doctor import doctor
    from .inspection.explain import explain
    from .io import load, save
    from .viz.compare import compare
    from .viz.draw import draw

__version__ = "0.1.0"
__all__ = [
    "Graph", "Op", "Tensor", "abs", "broadcast_to", "calibration", "clip", "compare", "concatenate", "cos",
    "cross_entropy", "cumsum", "data", "decoding", "detect_anomaly", "doctor", "draw", "einsum", "enable_grad", "exp",
    "expand_dims", "explain", "expm1", "flip", "functional", "gelu", "get_num_threads", "grad", "gradcheck",
    "gradient_flow", "hessian", "hvp", "inspection", "jacobian", "jvp", "linear_cross_entropy", "load", "log", "log1p",
    "log_softmax", "logit", "logsumexp", "manual_seed", "matmul", "max", "maximum", "mean", "min", "minimum",
    "moveaxis", "naive", "nll_loss", "nn", "no_grad", "ops", "optim", "pad", "pretrained", "primer", "prod", "record",
    "relu", "reshape", "save", "set_default_dtype", "set_num_threads", "sigmoid", "silu", "sin", "softmax", "split",
    "sqrt", "squeeze", "stack", "std", "sum", "swapaxes", "take_along_axis", "tanh", "transpose", "tril", "triu", "var",
    "vjp", "where",
]  # fmt: skip

# What a training loop does without is imported when it is first asked for, so that `import tinygrad_sm` is quick.
_LATER = dict.fromkeys(
    ["calibration", "data", "decoding", "graph", "inspection", "io", "naive", "pretrained", "primer", "viz"], ""
)
_LATER |= {"Graph": "graph", "compare": "viz.compare", "draw": "viz.draw", "load": "io", "save": "io"}
_LATER |= {"doctor": "inspection.doctor", "explain": "inspection.explain"}
_LATER |= dict.fromkeys(["detect_anomaly", "gradcheck", "gradient_flow", "record"], "inspection")


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        homes = {"functional": name in functional.__all__, "nn": name in nn.__all__,
                 "optim": hasattr(vars(optim).get(name), "step")}  # fmt: skip
        here = next((f"; it is {__name__}.{home}.{name}" for home, has in homes.items() if has), "")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{here}")
    home = _import_module(f"{__name__}.{_LATER[name] or name}")
    return globals().setdefault(name, getattr(home, name) if _LATER[name] else home)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
