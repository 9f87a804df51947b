"""Low-rank adapters (LoRA): fine-tuning a few numbers beside weights that stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import functional as F
from ..ops.arguments import operand
from ..ops.options import count, positive
from ..tensor import Tensor
from ..text import visible
from .layers import Dropout, Linear, Rng, constant, uniform
from .module import Module


class LoRA(Module):
    """A frozen `Linear` and a product of two thin matrices beside it: W·x + b + (α/r)·B·A·x (Hu et al. 2022).

    A is drawn as the weight of a `Linear` is, and B is zero, so that at first nothing changes; and at the first step
    the gradient of A, which has B as a factor, is exactly zero. A and B have r·(in + out) numbers in place of in·out.

    Parameters
    ----------
    linear : Linear
        The layer, whose parameters are frozen.
    rank : int
        r, from 1 to the smaller of in and out.
    alpha : float, optional
        α; as large as the rank by default, so that the factor is 1.
    dropout : float
        Share of x set to zero in training, before A.
    rng : numpy.random.Generator, optional
        Draws A; that of `manual_seed` by default.

    Attributes
    ----------
    linear : Linear
        The frozen layer.
    a, b : Tensor
        A (r, in) and B (out, r), of the dtype of the weight.

    Raises
    ------
    TypeError
        If it is not given a Linear.
    ValueError
        For a rank, α or dropout out of its range.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> layer = sm.nn.Linear(4, 3)
    >>> adapted = sm.nn.LoRA(layer, rank=2)
    >>> [(path, p.shape, p.requires_grad) for path, p in adapted.named_parameters()]  # doctest: +NORMALIZE_WHITESPACE
    [('a', (2, 4), True), ('b', (3, 2), True), ('linear.weight', (3, 4), False), ('linear.bias', (3,), False)]
    >>> x = sm.Tensor(np.ones((1, 4), np.float32))
    >>> bool((adapted(x).data == layer(x).data).all())
    True
    """

    def __init__(
        self, linear: Linear, rank: int, *, alpha: float | None = None, dropout: float = 0.0, rng: Rng = None
    ) -> None:
        if not isinstance(linear, Linear):
            raise TypeError(f"LoRA adapts a Linear, not a {type(linear).__name__}")
        _check(linear, rank, alpha, "LoRA")
        self.rank, self.alpha = rank, float(rank if alpha is None else alpha)
        self.drop = Dropout(dropout)
        n_out, n_in = linear.weight.shape
        dtype = linear.weight.dtype
        self.a, self.b = uniform((rank, n_in), n_in**-0.5, rng), constant((n_out, rank), 0.0)
        self.a.data, self.b.data = self.a.data.astype(dtype, copy=False), self.b.data.astype(dtype, copy=False)
        self.linear = linear
        _freeze(linear)
        self.train(linear.training)

    def forward(self, x: Any) -> Any:
        """Return x·Wᵀ + b + (α/r)·(x·Aᵀ)·Bᵀ for x (…, in)."""
        x = operand(x)
        y = self.linear(x)
        low = F.linear(self.drop(x), self.a)  # (…, r): the factor costs least here
        return y + F.linear(low if self.alpha == self.rank else low * (self.alpha / self.rank), self.b)

    @property
    def weight(self) -> Any:
        """W + (α/r)·B·A: the weight by which the layer acts, computed at each look, and recorded."""
        return self.linear.weight + (self.b @ self.a) * (self.alpha / self.rank)

    @property
    def bias(self) -> Tensor | None:
        """The bias of the frozen layer."""
        return self.linear.bias

    def merged(self) -> Linear:
        """Return a plain `Linear` with the product added to its weight, frozen; this layer stays as it is.

        >>> import tinygrad_sm as sm
        >>> sm.nn.LoRA(sm.nn.Linear(4, 3), rank=2).merged().weight.shape
        (3, 4)
        """
        plain = copy.copy(self.linear)
        plain.__dict__.pop("_label", None)  # that of its place in here
        plain.weight = Tensor(self.weight.data, requires_grad=True)
        if self.linear.bias is not None:
            plain.bias = Tensor(self.linear.bias.data.copy(), requires_grad=True)
        _freeze(plain)
        return plain


def add_lora(
    module: Module, rank: int, *, to: Sequence[str] = ("qkv", "proj"), alpha: float | None = None,
    dropout: float = 0.0, rng: Rng = None,
) -> dict[str, LoRA]:  # fmt: skip
    """Freeze all parameters of a model, and give its Linear layers of certain names adapters, the only ones to learn.

    What else shall learn, such as a new head, is made free again: `p.requires_grad = True`; or it stands outside of
    `module`. An optimiser is made after this, of all parameters: it moves those with a gradient.

    Parameters
    ----------
    module : Module
        The model, which is changed in place.
    rank, alpha, dropout, rng
        As in `LoRA`.
    to : sequence of str
        The ends of the paths of the layers: "qkv" is that of "blocks.0.attn.qkv", and "mlp.layers.0" that of
        "blocks.0.mlp.layers.0".

    Returns
    -------
    dict
        The adapters by path.

    Raises
    ------
    TypeError
        If it is not given a model, or `to` is a single text.
    ValueError
        If no Linear has such a name, if there are adapters already, or for a rank that a layer is too small for;
        nothing is changed then.

    Notes
    -----
    The frozen parameters stay in `state_dict()`. What was learned is

    ``learned = {path: p.data for path, p in model.named_parameters() if p.requires_grad}``

    and ``model.load_state_dict(model.state_dict() | learned)`` puts it into a model that was given the same adapters.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> model = sm.nn.TransformerBlock(8, 2)
    >>> list(sm.nn.add_lora(model, rank=2))
    ['attn.qkv', 'attn.proj']
    >>> [path for path, p in model.named_parameters() if p.requires_grad]
    ['attn.qkv.a', 'attn.qkv.b', 'attn.proj.a', 'attn.proj.b']
    """
    if not isinstance(module, Module) or isinstance(module, Linear):
        hint = ": LoRA(linear, rank) adapts one" if isinstance(module, Linear) else ""
        raise TypeError(f"add_lora takes a model that holds Linear layers, not a {type(module).__name__}{hint}")
    to = list(to) if isinstance(to, Iterable) and not isinstance(to, str) else to
    if not (isinstance(to, list) and all(isinstance(end, str) for end in to)):
        raise TypeError(
            f"add_lora: to is a list of names, not {to!r:.60}" + f"; use [{to!r:.60}]" * isinstance(to, str)
        )
    if there := [path for path, m in module.named_modules() if isinstance(m, LoRA)]:
        raise ValueError(f"add_lora: there are adapters already, at {_listed(there)}; merge_lora(model) folds them in")
    linear = {path: m for path, m in module.named_modules() if isinstance(m, Linear)}
    chosen = {path: m for path, m in linear.items() if f".{path}".endswith(tuple(f".{end}" for end in to))}
    if not chosen:
        found = f"the Linear layers are {_listed(list(linear))}" if linear else "there is no Linear layer"
        raise ValueError(f"add_lora: no path of a Linear ends in {' or '.join(map(repr, to)) or 'nothing'}; {found}")
    for path, m in chosen.items():
        _check(m, rank, alpha, f"add_lora: {path}")
    Dropout(dropout)  # refuses a wrong one before anything is changed
    _freeze(module)
    adapters = {path: LoRA(m, rank, alpha=alpha, dropout=dropout, rng=rng) for path, m in chosen.items()}
    own = {id(adapter.linear): adapter for adapter in adapters.values()}
    _exchange(module, lambda m: own.get(id(m), m))
    return adapters


def merge_lora(module: Module) -> list[str]:
    """Put plain Linear layers in place of all adapters of a model, and return their paths; the outputs stay equal.

    `module` is changed in place; all that was frozen stays so. Raises ValueError if there are no adapters.

    >>> import tinygrad_sm as sm
    >>> model = sm.nn.TransformerBlock(8, 2)
    >>> adapters = sm.nn.add_lora(model, rank=2)
    >>> sm.nn.merge_lora(model)
    ['attn.qkv', 'attn.proj']
    >>> model.attn.qkv
    qkv: Linear weight[24, 8] bias[24]
    """
    if not isinstance(module, Module) or isinstance(module, LoRA):
        hint = ": use its merged()" if isinstance(module, LoRA) else ""
        raise TypeError(f"merge_lora takes a model that holds adapters, not a {type(module).__name__}{hint}")
    adapters = {path: m for path, m in module.named_modules() if isinstance(m, LoRA)}
    if not adapters:
        raise ValueError(f"merge_lora: there are no adapters in this {type(module).__name__}")
    plain = {id(adapter): adapter.merged() for adapter in adapters.values()}
    _exchange(module, lambda m: plain.get(id(m), m))
    return list(adapters)


def _check(linear: Linear, rank: Any, alpha: Any, caller: str) -> None:
    n_out, n_in = linear.weight.shape
    if count(rank, "rank", caller) > min(n_in, n_out):
        raise ValueError(f"{caller}: a rank of {rank} is more than a Linear({n_in}, {n_out}) can have")
    if alpha is not None:
        positive(alpha, "alpha", caller)


def _freeze(module: Module) -> None:
    for p in module.parameters():
        p.requires_grad, p.grad = False, None


def _listed(paths: list[str]) -> str:
    return ", ".join(map(visible, paths[:8])) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")


def _exchange(module: Module, other: Callable[[Module], Module]) -> None:
    """Put `other(m)` in place of every module m inside, in attributes, lists, tuples and dicts."""

    def walked(value: Any) -> Any:
        if isinstance(value, Module):
            return other(value)
        if isinstance(value, list):
            value[:] = map(walked, value)
        elif isinstance(value, dict):
            value.update({key: walked(item) for key, item in value.items()})
        elif isinstance(value, tuple):
            walk = map(walked, value)
            return type(value)(*walk) if hasattr(value, "_fields") else tuple(walk)
        return value

    for _, m in list(module.named_modules()):
        for name, value in list(vars(m).items()):
            if not name.startswith("_") and isinstance(value, (Module, list, tuple, dict)):
                setattr(m, name, walked(value))
