"""Tensor: an array, its gradient, and how it was made.

A Tensor *is* the node of the computation graph. It remembers the op that made it, the arguments of
that op and the arrays that the op saw. No tensor points to what was made from it, so the graph has
no reference cycle: when the last name of a loss goes, the whole graph is freed at once.

This file knows no op: operators (`a + b`) and methods (`t.exp()`) are attached by `ops/`.
"""

from __future__ import annotations

import itertools
import operator
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .op import Op

Array = np.ndarray[Any, Any]

UFUNCS: dict[Any, Callable[..., Any]] = {}  # NumPy's ufunc -> our op, so that np.exp(tensor) differentiates
FUNCTIONS: dict[Any, Callable[..., Any]] = {}  # NumPy's function -> ours, the same for np.sum(tensor)

_creation = itertools.count()  # creation order is a topological order: arguments come before results
_default_dtype = np.dtype(np.float32)


def set_default_dtype(dtype: Any) -> None:
    """Choose the dtype that lists and Python scalars of floats become (float32 at first); arrays keep theirs.

    >>> import numpy as np, tinygrad_sm as sm
    >>> sm.set_default_dtype(np.float32)
    """
    global _default_dtype
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        raise TypeError(f"set_default_dtype takes a floating dtype, such as np.float64; got {dtype}")
    _default_dtype = dtype


def as_array(data: Any, dtype: Any = None) -> Array:
    """Return `data` as an array of floats, integers or bools; without a copy where it is one already."""
    if _holds_tensors(data):
        raise TypeError("a list of Tensors has no data of its own: join them with sm.stack or sm.concatenate")
    array = np.asarray(data, dtype)
    if dtype is None and array.dtype == np.float64 and not hasattr(data, "dtype"):
        array = array.astype(_default_dtype)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a Tensor holds real numbers or bools, not dtype {array.dtype} (from {type(data).__name__})")
    return array


def _holds_tensors(x: Any) -> bool:
    return isinstance(x, (list, tuple)) and any(isinstance(item, Tensor) or _holds_tensors(item) for item in x)


class Tensor:
    """An n-dimensional array that remembers how it was computed.

    An array as `data` is used as it is; lists and scalars of floats become float32 (`set_default_dtype`), or `dtype`.
    With `requires_grad`, `backward` adds this tensor's gradient to `.grad`. `name` is for pictures and messages.

    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    Tensor([2., 4., 6.])
    """

    __slots__ = (
        "__weakref__", "_grad", "args", "data", "hooks", "kwargs", "name", "need", "note", "op", "order",
        "out", "raw", "requires_grad", "residual", "retains", "scope",
    )  # fmt: skip

    data: Array
    requires_grad: bool
    name: str | None
    op: Op | None  # how it was made: op(*args, **kwargs); None for a leaf
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    raw: list[Any]  # the arrays that stood in `args` then
    out: Array  # the array that the op returned: `data`, unless that was replaced
    need: list[bool]  # which of the arguments want a gradient
    residual: list[Any]  # what the forward pass of a fused op leaves for its backward pass
    order: int  # the place in the order of creation
    scope: tuple[str, ...]  # the modules around it
    hooks: list[Callable[[Tensor], Any]] | None
    retains: bool  # whether backward keeps the gradient of an inner tensor
    note: Any  # why it has no history, or what `sm.record()` noted of its making

    def __init__(self, data: Any, *, requires_grad: bool = False, dtype: Any = None, name: str | None = None) -> None:
        array = as_array(data, dtype)
        if requires_grad and array.dtype.kind != "f":
            raise TypeError(f"only floats have gradients, not {array.dtype}: write 1.0 for 1, or pass dtype=np.float32")
        _fill(self, array, requires_grad)
        self.name = name

    # -- the array ---------------------------------------------------------------------------
    shape = property(lambda self: self.data.shape, doc="Tuple of the sizes of the axes.")
    ndim = property(lambda self: self.data.ndim, doc="Number of axes.")
    size = property(lambda self: self.data.size, doc="Number of elements.")
    dtype = property(lambda self: self.data.dtype, doc="NumPy dtype of the elements.")
    is_leaf = property(lambda self: self.op is None, doc="True if no recorded op made this tensor.")

    def numpy(self) -> Array:
        """Return the array itself, without a copy."""
        return self.data

    def item(self) -> Any:
        """Return the only element as a Python number."""
        if self.data.size != 1:
            raise ValueError(f"item() is for one element, not of shape {self.shape}; use .tolist(), or np, not math")
        return self.data.item()

    def tolist(self) -> Any:
        """Return the elements as (nested) Python lists."""
        return self.data.tolist()

    def detach(self) -> Tensor:
        """Return a tensor with the same array and no history: gradients stop here."""
        cut = Tensor(self.data)
        cut.note = "detach() cut its history"
        return cut

    # -- the gradient ------------------------------------------------------------------------
    @property
    def grad(self) -> Tensor | None:
        """What `backward` added up: for leaves, and for inner tensors that `retain_grad` or `sm.record` asked for."""
        if self._grad is None and self.op is not None and not self.retains:
            warnings.warn("only leaves keep their .grad: call .retain_grad() on this inner tensor before backward() "
                          "(w -= ... makes an inner one: write w.data -= ...)", stacklevel=2)  # fmt: skip
        return self._grad

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        if gradient is not None and getattr(gradient, "shape", None) != self.shape:
            raise ValueError(f".grad is None or of the tensor's shape {self.shape}, not {gradient!r:.80}")
        self._grad = gradient if gradient is None or isinstance(gradient, Tensor) else Tensor(gradient)

    def retain_grad(self) -> None:
        """Make `backward` keep the gradient of this inner tensor in `.grad`, as it does for leaves."""
        if not self.requires_grad:
            raise ValueError("retain_grad: this tensor requires no gradient, so there will be none to keep")
        self.retains = True

    def register_hook(self, hook: Callable[[Tensor], Any]) -> Any:
        """Call `hook(gradient)` when this tensor's gradient is complete; what it returns replaces it.

        Returns a handle, whose `.remove()` takes the hook away.
        """
        if not self.requires_grad:
            raise ValueError("register_hook: this tensor requires no gradient, so the hook would never be called")
        hooks = self.hooks = self.hooks or []
        hooks.append(hook)
        return SimpleNamespace(remove=lambda: hooks.remove(hook) if hook in hooks else None)

    def __setstate__(self, state: Any) -> None:
        for name, value in state[1].items():
            setattr(self, name, value)
        global _creation  # a copy keeps its number; what is made of it must have a higher one, in a new process too
        if self.order >= next(_creation):
            _creation = itertools.count(self.order + 1000)  # other threads go on counting meanwhile

    # -- Python's protocols ------------------------------------------------------------------
    __hash__ = object.__hash__  # by identity, although == compares elementwise

    def __repr__(self) -> str:
        notes = []
        if self.dtype != _default_dtype and self.dtype not in (np.dtype(np.int64), np.dtype(bool)):
            notes.append(f"dtype={self.dtype}")
        notes += [f"op={self.op.name}"] if self.op is not None else ["requires_grad=True"] * self.requires_grad
        notes += [f"name={self.name!r}"] if self.name is not None else []
        return f"Tensor({', '.join([np.array2string(self.data, prefix='Tensor(', separator=', '), *notes])})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"the truth of shape {self.shape} is ambiguous: use .data.any() or .data.all()")
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return operator.index(self.item())

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("a Tensor is not changed in place, for its value may be part of a graph: use "
                        "sm.where(mask, value, tensor), or write to .data before you compute with it")  # fmt: skip

    # -- NumPy's protocols -------------------------------------------------------------------
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        converts = dtype is not None and dtype != self.dtype
        if converts and copy is False:
            raise ValueError(f"a tensor of dtype {self.dtype} cannot become {dtype} without a copy")
        return self.data.astype(dtype or self.dtype) if copy or converts else self.data

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        op = UFUNCS.get(ufunc)
        if op is None or method != "__call__" or kwargs:
            raise _no_rule(ufunc, f".{method}" if method != "__call__" else "".join(f" with {k}=" for k in kwargs))
        return op(*inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in FUNCTIONS:
            raise _no_rule(function)
        return FUNCTIONS[function](*args, **kwargs)

    if TYPE_CHECKING:  # attached by ops/ and autograd.py

        def _attached(self, *args: Any, **kwargs: Any) -> Tensor: ...

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _attached
        __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __neg__ = __abs__ = __getitem__ = _attached
        __lt__ = __le__ = __gt__ = __ge__ = _attached
        exp = log = log1p = expm1 = sqrt = abs = sin = cos = tanh = sigmoid = relu = clip = astype = _attached
        sum = mean = var = std = max = min = prod = cumsum = logsumexp = softmax = log_softmax = _attached
        reshape = transpose = swapaxes = squeeze = ravel = flatten = argmax = argmin = _attached
        T: Tensor
        backward: Callable[..., None]


def _no_rule(function: Any, detail: str = "") -> TypeError:
    name = f"{getattr(function, '__module__', 'numpy')}.{function.__name__}".replace("numpy", "np", 1)
    return TypeError(f"{name}{detail} has no gradient rule for Tensors: use the ops of tinygrad_sm, or {name}(t.data) "
                     "if no gradient has to flow, as in p.data -= lr * p.grad.data")  # fmt: skip


def attach(**methods: Any) -> None:
    """Give Tensor methods and operators; `ops/` calls this, so that the class itself imports no op."""
    for name, method in methods.items():
        setattr(Tensor, name, method)


def _fill(tensor: Tensor, array: Array, requires_grad: bool) -> Tensor:
    """Give a new tensor its slots, as a leaf."""
    tensor.data = array
    tensor.requires_grad = requires_grad
    tensor.order = next(_creation)
    tensor._grad = tensor.name = tensor.op = tensor.hooks = tensor.note = None
    tensor.args = tensor.scope = ()
    tensor.retains = False
    return tensor


def wrap(out: Any) -> Tensor:
    """Make a tensor of what an op computed, which needs no checks; `op.py` adds how it was made."""
    if isinstance(out, Tensor):
        raise TypeError("an op met a Tensor as .data (write p.data = (...).data) or as an option (pass it by position)")
    return _fill(Tensor.__new__(Tensor), out if type(out) is np.ndarray else as_array(np.asarray(out)), False)
