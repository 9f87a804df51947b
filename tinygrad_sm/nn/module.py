"""Module: a function with parameters, found by walking attributes. Nothing has to be registered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ..mode import MODE, Call, Mode
from ..ops.options import toggle
from ..state import as_arrays, check_names
from ..tensor import Array, Tensor
from ..text import visible


class Module:
    """Base class of layers and models: assign Tensors and other Modules as attributes, and write `forward`.

    Every leaf Tensor with `requires_grad` found in attributes, lists, tuples and dicts is a parameter, and stays one
    when it is frozen later; except behind names that start with an underscore. Other state is yours alone.

    >>> import numpy as np, tinygrad_sm as sm
    >>> class Scale(sm.nn.Module):
    ...     def __init__(self):
    ...         self.factor = sm.Tensor(np.ones(2, np.float32), requires_grad=True)
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> [name for name, p in Scale().named_parameters()]
    ['factor']
    """

    training = True
    _label: str | None = None  # "name: Class", once this module is an attribute of another
    _adopted = False  # whether all inside has its name: made sure of at the first call after an attribute was set

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take no options; a subclass with an `__init__` of its own may leave this one out."""
        if args or kwargs:
            name = type(self).__name__
            raise TypeError(f"{name} takes no options, and no tensors: make it first, then call it: {name}()(x)")
        super().__init__()  # there may be another base

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; subclasses write this, users call the module itself."""
        raise TypeError(f"{type(self).__name__} has no forward method")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `forward`, with the module's name put on what is recorded inside (for pictures and messages)."""
        if not self._adopted:  # finds what was appended to a list since
            self._adopt(self._members(""))
            self.__dict__["_adopted"] = True
        mode = MODE.get()
        try:
            MODE.set(Mode(mode.grad, (*mode.scope, Call(self._label or type(self).__name__)), mode.watch))
            return self.forward(*args, **kwargs)
        finally:
            MODE.set(mode)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if isinstance(value, HOLDS) and not name.startswith("_"):
            self.__dict__["_adopted"] = False
            self._adopt(_walk(name, value))

    def _adopt(self, members: Iterator[tuple[str, Any]]) -> None:
        """Give modules and parameters inside this one their names, for pictures and messages."""
        for path, item in members:
            if isinstance(item, Module):
                item.__dict__["_label"] = f"{path}: {type(item).__name__}"
            elif not item.scope:
                item.scope = (type(self).__name__,)  # a leaf with an owner: a parameter
                item.name = item.name or path

    def _members(self, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if not name.startswith("_"):
                yield from _walk(f"{prefix}.{name}" if prefix else name, value)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield (path, module) for this module (path "") and all inside it, each once.

        >>> import tinygrad_sm as sm
        >>> [path for path, _ in sm.nn.Sequential(sm.nn.Linear(2, 3), sm.nn.ReLU()).named_modules()]
        ['', 'layers.0', 'layers.1']
        """
        seen, stack = set(), [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield path, module
                stack += [(p, m) for p, m in module._members(path) if isinstance(m, Module)][::-1]

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, tensor) for every parameter; one that is shared appears once, under its first path.

        >>> import tinygrad_sm as sm
        >>> [(path, p.shape) for path, p in sm.nn.Linear(2, 3).named_parameters()]
        [('weight', (3, 2)), ('bias', (3,))]
        """
        seen = set()
        for path, module in self.named_modules():
            for name, item in module._members(path):
                if isinstance(item, Tensor) and id(item) not in seen:
                    seen.add(id(item))
                    yield name, item

    def parameters(self) -> list[Tensor]:
        """Return all parameters, each once.

        >>> import tinygrad_sm as sm
        >>> sum(p.size for p in sm.nn.Linear(2, 3).parameters())
        9
        """
        return [p for _, p in self.named_parameters()]

    def state_dict(self) -> dict[str, Array]:
        """Return the arrays of all parameters by path.

        >>> import tinygrad_sm as sm
        >>> sorted(sm.nn.Linear(2, 3).state_dict())
        ['bias', 'weight']
        """
        return {path: p.data for path, p in self._by_path().items()}

    def _by_path(self) -> dict[str, Tensor]:
        """Return all parameters by path; refuse two with one path, as the keys 1 and "1" of a dict make."""
        found: dict[str, Tensor] = {}
        for path, p in self.named_parameters():
            if path in found:
                raise ValueError(
                    f"{type(self).__name__}: two parameters have the path {path!r}, so that a file would lose one; "
                    "rename a key of the dict they stand in"
                )
            found[path] = p
        return found

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put arrays in place of the parameters' own; names and shapes must match, and nothing is changed if not.

        Raises
        ------
        ValueError
            That lists every missing name, unexpected name and wrong shape.
        TypeError
            If it is not a dict of arrays.

        Examples
        --------
        >>> import numpy as np, tinygrad_sm as sm
        >>> layer = sm.nn.Linear(1, 1)
        >>> layer.load_state_dict({"weight": np.array([[2.0]]), "bias": np.array([1.0])})
        >>> layer(sm.Tensor([3.0])).item()
        7.0
        """
        own = self._by_path()
        arrays = as_arrays(state, f"{type(self).__name__}.load_state_dict")
        check_names({name: p.shape for name, p in own.items()}, arrays, type(self).__name__)
        for name, a in arrays.items():
            if a.dtype.kind not in "fiub":
                raise TypeError(f"{type(self).__name__}: {name} must be numbers, not {a.dtype}")
        converted = {name: arrays[name].astype(p.dtype) for name, p in own.items()}
        for name, p in own.items():
            p.data = converted[name]

    def train(self, mode: bool = True) -> Module:
        """Switch this module and all inside it to training (dropout works), or with False to evaluation.

        >>> import tinygrad_sm as sm
        >>> sm.nn.Dropout(0.5).train(False)(sm.Tensor([1.0, 2.0]))
        Tensor([1., 2.])
        """
        mode = toggle(mode, "mode", "train")
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch to evaluation: `train(False)`.

        >>> import tinygrad_sm as sm
        >>> sm.nn.Dropout(0.5).eval()(sm.Tensor([1.0, 2.0]))
        Tensor([1., 2.])
        """
        return self.train(False)

    def evaluating(self) -> AbstractContextManager[None]:
        """Switch to evaluation inside a `with` block; each part gets its own mode back after.

        >>> import tinygrad_sm as sm
        >>> drop = sm.nn.Dropout(0.5)
        >>> with drop.evaluating():
        ...     y = drop(sm.Tensor([1.0, 2.0]))
        >>> y.tolist(), drop.training
        ([1.0, 2.0], True)
        """
        return evaluating([module for _, module in self.named_modules()])

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters.

        >>> import tinygrad_sm as sm
        >>> layer = sm.nn.Linear(1, 1)
        >>> layer(sm.Tensor([3.0])).sum().backward()
        >>> layer.zero_grad()
        >>> layer.weight.grad is None
        True
        """
        for p in self.parameters():
            p.grad = None

    def __repr__(self) -> str:
        lines: list[str] = []
        above: list[str] = []
        for path, module in self.named_modules():
            above = [p for p in above if path.startswith(f"{p}.") or not p]  # the modules around this one
            own = [f"{n}{list(p.shape)}" for n, p in module._members("") if isinstance(p, Tensor)]
            lines.append(f"{'  ' * len(above)}{module._label or type(module).__name__} {' '.join(own)}".rstrip())
            above.append(path)
        return "\n".join(map(visible, lines))


HOLDS = (Tensor, Module, list, tuple, dict)  # kinds of attributes in which parameters are found


@contextmanager
def evaluating(modules: list[Module]) -> Iterator[None]:
    """Switch modules to evaluation inside a `with` block; those that were in training are so again after."""
    training = [module for module in modules if module.training]
    try:
        for module in training:
            module.__dict__["training"] = False  # past __setattr__, for generation comes here for each token
        yield
    finally:
        for module in training:
            module.__dict__["training"] = True


def _walk(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (path, item) for the Modules and leaf Tensors in a value, a list, a tuple or a dict."""
    stack = [(path, value)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, Module):
            yield path, value
        elif isinstance(value, Tensor) and value.is_leaf and (value.requires_grad or value.scope):
            yield path, value  # a leaf with a scope has an owner: it was a parameter before it was frozen
        elif isinstance(value, (list, tuple)):
            stack += [(f"{path}.{i}", item) for i, item in enumerate(value)][::-1]
        elif isinstance(value, dict):
            stack += [(f"{path}.{key}", item) for key, item in value.items()][::-1]
