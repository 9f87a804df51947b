"""Optimisers with PyTorch's formulas and parameter groups, learning-rate schedules, gradient clipping.

A step puts a *new* array into `p.data`, and leaves the old one, which a graph may still hold, as it was.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from .io import as_arrays, check_names
from .ops.arguments import single
from .ops.options import count, real, within
from .tensor import Array, Tensor


def _listed(params: Any, caller: str) -> list[Any]:
    """Return parameters as a list, and say what to pass instead of a model."""
    if hasattr(params, "parameters"):
        raise TypeError(f"{caller} takes parameters, not a {type(params).__name__}: pass model.parameters()")
    if callable(params):
        raise TypeError(f"{caller}: parameters is a method; call it: model.parameters()")
    if isinstance(params, dict):
        raise TypeError(f'{caller} takes a list of parameters, or of groups such as [{{"params": …}}], not a dict')
    if isinstance(params, (Tensor, np.ndarray, str)) or not isinstance(params, Iterable):
        raise TypeError(f"{caller} takes a list of parameters, such as [w, b], not a {type(params).__name__}")
    return list(params)


class Optimizer:
    """Base of the optimisers: parameter groups, and their state by name.

    `params` is a sequence of Tensors, or of dicts with "params" and options of their own (parameter groups).
    """

    buffers: tuple[str, ...] = ()  # names of the arrays that are kept for each parameter

    def __init__(self, params: Iterable[Any], **defaults: Any) -> None:
        groups = _listed(params, type(self).__name__)
        if not groups:
            raise ValueError(f"{type(self).__name__}: no parameters given")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        self.param_groups: list[dict[str, Any]] = []
        seen: set[int] = set()
        for group in groups:
            if not isinstance(group, dict):
                raise TypeError(f"{type(self).__name__}: {group!r:.60} is not a parameter group, a dict")
            if "params" not in group:
                raise ValueError(f'{type(self).__name__}: a parameter group has no "params": {group!r:.60}')
            unknown = group.keys() - defaults.keys() - {"params"}
            if unknown:
                raise ValueError(f"{type(self).__name__}: unknown options {sorted(unknown)} in a parameter group")
            members = (
                [group["params"]]
                if isinstance(group["params"], Tensor)
                else _listed(group["params"], type(self).__name__)
            )
            for p in members:
                if not isinstance(p, Tensor) or not p.is_leaf:
                    raise TypeError(
                        f"{type(self).__name__}: {p!r:.60} is not a leaf Tensor, made with requires_grad=True; "
                        "for those of a model, pass model.parameters()"
                    )
                if id(p) in seen:
                    raise ValueError(f"{type(self).__name__}: a parameter (shape {p.shape}) is given twice")
                seen.add(id(p))
            self.param_groups.append({**defaults, **group, "params": members})
            self._check(self.param_groups[-1])
        if not any(p.requires_grad for p in self._numbered().values()):
            raise ValueError(f"{type(self).__name__}: no parameter has requires_grad=True, so none would move")
        self.steps = 0
        self.state: dict[tuple[int, str], Array] = {}  # (number of the parameter, buffer) -> array

    def _check(self, group: dict[str, Any]) -> None:
        if group.get("nesterov") and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(f"{type(self).__name__}: nesterov needs a momentum above 0 and no dampening")
        for name, value in group.items():
            low, high = (0, 1) if name in ("momentum", "betas", "dampening") else (0, math.inf)
            if name in ("params", "nesterov"):
                continue
            if name == "betas" and not (isinstance(value, (tuple, list)) and len(value) == 2):
                raise TypeError(
                    f"{type(self).__name__}: betas must be two numbers, such as (0.9, 0.999), not {value!r}"
                )
            numbers = [real(v, name, type(self).__name__) for v in (value if name == "betas" else (value,))]
            if not all(low <= v < high for v in numbers):
                raise ValueError(f"{type(self).__name__}: {name}={value} must be in [{low}, {high})")
            group[name] = tuple(numbers) if name == "betas" else numbers[0]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient; warn if none has.

        Raises
        ------
        ValueError
            If a parameter's `.data` has got another shape since its gradient, or this optimiser's buffers, were made.
        """
        self._check_step()
        self.steps += 1
        number = 0
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data = np.asarray(self.updated(number, p.data, p.grad.data, group), p.dtype)
                number += 1

    def _check_step(self) -> None:
        name, found = type(self).__name__, False
        for number, p in self._numbered().items():
            if p.grad is None:
                continue
            found = True
            buffers = [self.state[number, b] for b in self.buffers if b != "t" and (number, b) in self.state]
            for what, shape in [("gradient", p.grad.shape), *(("buffer", b.shape) for b in buffers)]:
                if shape != p.shape:
                    raise ValueError(
                        f"{name}.step: parameter {number} now has shape {p.shape}, but its {what} {shape}: its .data "
                        "was replaced; run the forward and the backward pass again, with a new optimiser"
                    )
        if not found:
            warnings.warn(
                f"{name}.step: no parameter has a gradient, so none moves; loss.backward() comes before step(), and "
                "zero_grad() before the next backward()",
                stacklevel=3,
            )

    def updated(self, number: int, p: Array, g: Array, group: dict[str, Any]) -> Array:
        """Return the new value of parameter `number`, from its value, gradient and options; subclasses write this."""
        raise TypeError(f"{type(self).__name__} has no update rule")

    def _numbered(self) -> dict[int, Tensor]:
        return dict(enumerate(p for group in self.param_groups for p in group["params"]))

    def state_dict(self) -> dict[str, Array]:
        """Return steps, learning rates and buffers as arrays by name, for `sm.save`."""
        state = {"steps": np.asarray(self.steps)}
        state |= {f"lr.{i}": np.asarray(group["lr"], np.float64) for i, group in enumerate(self.param_groups)}
        return state | {f"{number}.{name}": a.copy() for (number, name), a in self.state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, for the same parameters in the same order."""
        arrays = as_arrays(state, f"{type(self).__name__}.load_state_dict")
        shapes: dict[str, tuple[int, ...]] = {"steps": (), **{f"lr.{i}": () for i in range(len(self.param_groups))}}
        possible = {
            f"{n}.{name}": () if name == "t" else p.shape for n, p in self._numbered().items() for name in self.buffers
        }
        begun = {name.partition(".")[0] for name in arrays}  # a parameter has all of its buffers, or none yet
        shapes |= {name: shape for name, shape in possible.items() if name.partition(".")[0] in begun}
        check_names(shapes, arrays, type(self).__name__)
        self.steps = int(arrays["steps"])
        for i, group in enumerate(self.param_groups):
            group["lr"] = float(arrays[f"lr.{i}"])
        numbers = {f"{n}.{name}": (n, name) for n in self._numbered() for name in self.buffers}
        self.state = {key: arrays[name].copy() for name, key in numbers.items() if name in arrays}


class SGD(Optimizer):
    """Stochastic gradient descent: p ← p − lr·d, with momentum b ← μ·b + (1 − dampening)·(g + wd·p), d = b.

    With `nesterov`, d = (g + wd·p) + μ·b.

    >>> import tinygrad_sm as sm
    >>> w = sm.Tensor([1.0], requires_grad=True)
    >>> optimizer = sm.optim.SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    Tensor([0.8], requires_grad=True)
    """

    buffers = ("momentum",)

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov
        )

    def updated(self, number: int, p: Array, g: Array, group: dict[str, Any]) -> Array:
        """Return p − lr·d."""
        lr, momentum, weight_decay = group["lr"], group["momentum"], group["weight_decay"]
        d = g + weight_decay * p if weight_decay else g
        if momentum:
            b = self.state.get((number, "momentum"))
            b = d.copy() if b is None else momentum * b + (1 - group["dampening"]) * d
            self.state[number, "momentum"] = b
            d = d + momentum * b if group["nesterov"] else b
        return p - lr * d


class Adam(Optimizer):
    """Adam (Kingma and Ba 2014): p ← p − lr·m̂/(√v̂ + ε), with weight decay added to the gradient.

    m ← β₁·m + (1 − β₁)·g and v ← β₂·v + (1 − β₂)·g²; m̂ and v̂ are divided by 1 − βᵗ, since both start at 0.

    >>> import tinygrad_sm as sm
    >>> w = sm.Tensor([1.0], requires_grad=True)
    >>> optimizer = sm.optim.Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> print(f"{w.item():.3f}")
    0.900
    """

    buffers = ("m", "v", "t")
    decoupled = False  # whether weight decay acts on p itself, not through the gradient

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def updated(self, number: int, p: Array, g: Array, group: dict[str, Any]) -> Array:
        """Return p − lr·m̂/(√v̂ + ε)."""
        (beta1, beta2), lr, weight_decay = group["betas"], group["lr"], group["weight_decay"]
        p, g = single(p), single(g)  # in half precision ε and g² would be 0
        if weight_decay and not self.decoupled:
            g = g + weight_decay * p
        if (number, "m") not in self.state:
            m, v, t = np.zeros_like(p), np.zeros_like(p), np.zeros((), np.int64)
            self.state |= {(number, "m"): m, (number, "v"): v, (number, "t"): t}  # all or, after Ctrl-C, none
        m, v, t = (self.state[number, name] for name in self.buffers)
        t += 1  # not self.steps: a parameter may have had no gradient in some
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * (g * g)
        move = np.sqrt(v)
        move /= math.sqrt(1 - beta2 ** int(t))
        move += group["eps"]
        move = m / move
        move *= -lr / (1 - beta1 ** int(t))
        move += p * (1 - lr * weight_decay) if weight_decay and self.decoupled else p
        return move


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017): p ← p·(1 − lr·wd) before the step."""

    decoupled = True

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 1e-2,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay)


class Schedule:
    """Base of the schedules: each step sets every group's learning rate to its base rate times `factor(count)`."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._check_optimizer(optimizer)
        self.optimizer, self.count = optimizer, 0
        self.base = [group["lr"] for group in optimizer.param_groups]
        self._apply()

    def _check_optimizer(self, optimizer: Any) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: the optimiser comes first, not a {type(optimizer).__name__}")

    def factor(self, count: int) -> float:
        """Return the factor after `count` steps; subclasses write this."""
        raise TypeError(f"{type(self).__name__} has no factor method")

    def _apply(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * self.factor(self.count)

    def step(self) -> None:
        """Advance by one; call it after each step of the optimiser."""
        self.count += 1
        self._apply()

    def state_dict(self) -> dict[str, Array]:
        """Return the count and the base rates, for `sm.save`."""
        return {"count": np.asarray(self.count), "base": np.asarray(self.base, np.float64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        arrays = as_arrays(state, f"{type(self).__name__}.load_state_dict")
        check_names({"count": (), "base": (len(self.base),)}, arrays, type(self).__name__)
        self.count, self.base = int(arrays["count"]), [float(b) for b in arrays["base"]]
        self._apply()


class CosineSchedule(Schedule):
    """Rise linearly for `warmup` steps, then fall along a cosine to `floor` times the base rate at `total` steps.

    >>> import tinygrad_sm as sm
    >>> optimizer = sm.optim.SGD([sm.Tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = sm.optim.CosineSchedule(optimizer, total=4, warmup=2)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(optimizer.param_groups[0]["lr"], 3))
    ...     schedule.step()
    >>> rates
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    def __init__(self, optimizer: Optimizer, total: int, *, warmup: int = 0, floor: float = 0.0) -> None:
        self._check_optimizer(optimizer)
        count(total, "total", "CosineSchedule")
        count(warmup, "warmup", "CosineSchedule", 0)
        within(floor, 0, 1, "floor", "CosineSchedule", closed=True)
        if warmup > total:
            raise ValueError(f"CosineSchedule: need warmup ≤ total; got {warmup} and {total}")
        self.total, self.warmup, self.floor = total, warmup, floor
        super().__init__(optimizer)

    def factor(self, count: int) -> float:
        """Return (count + 1)/warmup while warming up, then floor + (1 − floor)·½(1 + cos(π·progress))."""
        if count < self.warmup:
            return (count + 1) / self.warmup
        progress = min((count - self.warmup) / max(self.total - self.warmup, 1), 1.0)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))


class StepSchedule(Schedule):
    """Multiply the rate by `gamma` every `step_size` steps.

    >>> import tinygrad_sm as sm
    >>> optimizer = sm.optim.SGD([sm.Tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = sm.optim.StepSchedule(optimizer, step_size=2, gamma=0.1)
    >>> for _ in range(2): schedule.step()
    >>> optimizer.param_groups[0]["lr"]
    0.1
    """

    def __init__(self, optimizer: Optimizer, step_size: int, *, gamma: float = 0.1) -> None:
        self._check_optimizer(optimizer)
        count(step_size, "step_size", "StepSchedule")
        within(gamma, 0, math.inf, "gamma", "StepSchedule")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def factor(self, count: int) -> float:
        """Return gamma to the number of whole `step_size` in `count`."""
        return float(self.gamma ** (count // self.step_size))


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients down so that their joint norm is at most `max_norm`; return the norm before.

    A norm that is infinite or NaN is returned too, and then no gradient is touched: a training loop that wants to
    skip such a step asks `math.isfinite(norm)`. Without any gradient the norm is 0.

    >>> import tinygrad_sm as sm
    >>> w = sm.Tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w / 2).sum().backward()
    >>> sm.optim.clip_grad_norm_([w], 1.0)
    5.0
    """
    real(max_norm, "max_norm", "clip_grad_norm_")
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be above 0, not {max_norm}")
    tensors = [parameters] if isinstance(parameters, Tensor) else _listed(parameters, "clip_grad_norm_")
    for p in tensors:
        if not isinstance(p, Tensor):
            raise TypeError(f"clip_grad_norm_ takes Tensors with their .grad, not {p!r:.60}")
    with_grad = [(p, p.grad) for p in tensors if p.grad is not None]
    norm = math.hypot(*(float(np.linalg.norm(g.data.astype(np.float64))) for _, g in with_grad))
    scale = max_norm / (norm + 1e-6)
    if scale < 1 and norm < math.inf:
        for p, g in with_grad:
            p.grad = Tensor(g.data * g.dtype.type(scale))
    return norm
