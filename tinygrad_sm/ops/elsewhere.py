"""Names of methods that other libraries have: asked for one, a Tensor says what it is called here."""

from __future__ import annotations

from typing import NoReturn

from ..tensor import Tensor, attach

HERE = {
    "view": "x.reshape(...)", "permute": "x.transpose(*axes)", "unsqueeze": "x[:, None], or sm.expand_dims(x, axis)",
    "contiguous": "x itself: strides do not matter", "to": "x.astype(dtype); there are no devices",
    "float": "x.astype(np.float32)", "double": "x.astype(np.float64)", "half": "x.astype(np.float16)",
    "long": "x.astype(np.int64)", "type": "x.astype(dtype)", "cpu": "x itself: all is on the CPU",
    "cuda": "x itself: there are no GPUs here", "clone": "sm.Tensor(x.data.copy()), or x * 1 to go on in the graph",
    "copy": "sm.Tensor(x.data.copy())", "norm": "(x * x).sum().sqrt()", "pow": "x ** n", "numel": "x.size",
    "dim": "x.ndim", "masked_fill": "sm.where(mask, value, x)", "gather": "sm.take_along_axis(x, index, axis)",
    "index_select": "x[index]", "expand": "sm.broadcast_to(x, shape)", "repeat": "sm.concatenate([x] * n, axis)",
    "mm": "a @ b", "bmm": "a @ b", "t": "x.T", "zero_": "x.grad = None", "detach_": "x = x.detach()",
    "requires_grad_": "sm.Tensor(data, requires_grad=True)", "add_": "x = x + y", "sub_": "x = x - y",
    "mul_": "x = x * y", "cat": "sm.concatenate(tensors, axis)",
}  # fmt: skip


def _missing(tensor: Tensor, name: str) -> NoReturn:
    """Refuse an attribute that there is not, and name ours.

    >>> import tinygrad_sm as sm
    >>> sm.Tensor([1.0, 2.0]).view(2, 1)
    Traceback (most recent call last):
    AttributeError: a Tensor has no 'view'; here it is x.reshape(...)
    """
    here = f"; here it is {HERE[name]}" if name in HERE else ""
    raise AttributeError(f"a Tensor has no {name!r}{here}", name=name, obj=tensor)


attach(__getattr__=_missing)
