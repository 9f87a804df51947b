"""Optimisers with PyTorch's formulas and parameter groups, learning-rate schedules, gradient clipping.

What they share, parameter groups, state and the step, is in `optimizer.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .ops.options import count, real, within
from .optimizer import Buffers, Optimizer, Options, listed
from .state import as_arrays, check_names
from .tensor import Array, Tensor


class SGD(Optimizer):
    """Stochastic gradient descent: p ← p − lr·d, with momentum b ← μ·b + (1 − dampening)·(g + wd·p), d = b.

    With `nesterov`, d = (g + wd·p) + μ·b.

    Parameters
    ----------
    params : iterable of Tensors, or of groups
        Such as model.parameters(); a group is a dict with "params" and options of its own.
    lr : float
        Learning rate.
    momentum, dampening : float
        μ, and what the share of a new d lacks of 1.
    weight_decay : float
        wd.
    nesterov : bool
        Look ahead; it needs a momentum and no dampening.

    Raises
    ------
    ValueError
        For options out of their range, or no parameters.
    TypeError
        For a module in place of its parameters.

    Examples
    --------
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

    def needed(self, options: Options) -> tuple[str, ...]:
        """Return the name of the buffer, if there is momentum."""
        return self.buffers if options["momentum"] else ()

    def update(self, p: Array, g: Array, old: Buffers, new: Buffers, out: Array, t: int, options: Options) -> None:
        """Write p − lr·d."""
        momentum, weight_decay = options["momentum"], options["weight_decay"]
        d = g + weight_decay * p if weight_decay else g
        if momentum:
            share = 1 - options["dampening"] if t > 1 else 1  # the first b is d itself
            b = np.multiply(old["momentum"], momentum, out=new["momentum"])
            b += d * share if share != 1 else d
            d = d + momentum * b if options["nesterov"] else b
        np.add(p, d * -options["lr"], out=out)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2014): p ← p − lr·m̂/(√v̂ + ε), with weight decay added to the gradient.

    m ← β₁·m + (1 − β₁)·g and v ← β₂·v + (1 − β₂)·g²; m̂ and v̂ are divided by 1 − βᵗ, since both start at 0.

    Parameters
    ----------
    params : iterable of Tensors, or of groups
        Such as model.parameters(); a group is a dict with "params" and options of its own.
    lr : float
        Learning rate.
    betas : (float, float)
        β₁ and β₂: how slowly the means of g and g² move.
    eps : float
        ε, against division by 0.
    weight_decay : float
        wd: wd·p is added to the gradient.

    Raises
    ------
    ValueError
        For options out of their range, or no parameters.
    TypeError
        For a module in place of its parameters.

    Examples
    --------
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

    def update(self, p: Array, g: Array, old: Buffers, new: Buffers, out: Array, t: int, options: Options) -> None:
        """Write p − lr·m̂/(√v̂ + ε)."""
        (beta1, beta2), lr, weight_decay = options["betas"], options["lr"], options["weight_decay"]
        if weight_decay and not self.decoupled:
            g = g + weight_decay * p
        move = g * (1 - beta1)
        m = np.multiply(old["m"], beta1, out=new["m"])
        m += move
        np.multiply(g, g, out=move)
        move *= 1 - beta2
        v = np.multiply(old["v"], beta2, out=new["v"])
        v += move
        root = math.sqrt(1 - beta2**t)  # √v̂ = √v / root, so m̂/(√v̂ + ε) = m̂·root/(√v + ε·root)
        np.sqrt(v, out=move)
        move += options["eps"] * root
        np.divide(m, move, out=move)
        move *= -lr * root / (1 - beta1**t)
        np.add(move, p * (1 - lr * weight_decay) if weight_decay and self.decoupled else p, out=out)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017): p ← p·(1 − lr·wd) before the step.

    `weight_decay` is that wd; params, lr, betas, eps and the errors are those of `Adam`.

    >>> import tinygrad_sm as sm
    >>> w = sm.Tensor([1.0], requires_grad=True)
    >>> optimizer = sm.optim.AdamW([w], lr=0.1, weight_decay=0.1)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> print(f"{w.item():.2f}")
    0.89
    """

    decoupled = True

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 1e-2,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay)


class Schedule:
    """Base of the schedules: each step sets every group's learning rate to its base rate times `factor(count)`.

    The base rates are those that the groups of the `optimizer` have when the schedule is made. Raises TypeError for
    anything but an optimiser, ValueError for one without a learning rate.

    >>> import tinygrad_sm as sm
    >>> class Halving(sm.optim.Schedule):
    ...     def factor(self, count):
    ...         return 0.5**count
    >>> w = sm.Tensor([1.0], requires_grad=True)
    >>> optimizer = sm.optim.SGD([w], lr=0.1)
    >>> schedule = Halving(optimizer)
    >>> schedule.step()
    >>> optimizer.param_groups[0]["lr"]
    0.05
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._check_optimizer(optimizer)
        self.optimizer, self.count = optimizer, 0
        self.base = [group["lr"] for group in optimizer.param_groups]
        self._apply()

    def _check_optimizer(self, optimizer: Any) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: the optimiser comes first, not a {type(optimizer).__name__}")
        if not all("lr" in group for group in optimizer.param_groups):
            raise ValueError(f"{type(self).__name__}: {type(optimizer).__name__} has no learning rate (lr) to schedule")

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
        """Return the count and the base rates, for `sm.save`.

        >>> import tinygrad_sm as sm
        >>> optimizer = sm.optim.SGD([sm.Tensor([1.0], requires_grad=True)], lr=0.5)
        >>> schedule = sm.optim.StepSchedule(optimizer, step_size=1)
        >>> schedule.step()
        >>> schedule.state_dict()
        {'count': array(1), 'base': array([0.5])}
        """
        return {"count": np.asarray(self.count), "base": np.asarray(self.base, np.float64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; ValueError or TypeError if it does not fit.

        >>> import tinygrad_sm as sm
        >>> optimizer = sm.optim.SGD([sm.Tensor([1.0], requires_grad=True)], lr=0.5)
        >>> schedule = sm.optim.StepSchedule(optimizer, step_size=1, gamma=0.1)
        >>> schedule.load_state_dict({"count": 1, "base": [0.5]})
        >>> optimizer.param_groups[0]["lr"]
        0.05
        """
        arrays = as_arrays(state, f"{type(self).__name__}.load_state_dict")
        check_names({"count": (), "base": (len(self.base),)}, arrays, type(self).__name__)
        self.count, self.base = int(arrays["count"]), [float(b) for b in arrays["base"]]
        self._apply()


class CosineSchedule(Schedule):
    """Rise linearly for `warmup` steps, then fall along a cosine to `floor` times the base rate at `total` steps.

    `optimizer` is the one whose rate it sets. Source: Loshchilov and Hutter 2016. Raises ValueError unless
    0 ≤ warmup ≤ total and 0 ≤ floor ≤ 1.

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
    """Multiply the rate of an `optimizer` by `gamma` every `step_size` steps.

    Raises ValueError unless `step_size` is at least 1 and `gamma` at least 0.

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
    skip such a step asks `math.isfinite(norm)`. Without any gradient the norm is 0. A tensor given twice counts once.

    Raises ValueError for a `max_norm` that is not above 0, TypeError for `parameters` that are not Tensors. Source:
    Pascanu et al. 2013.

    >>> import tinygrad_sm as sm
    >>> w = sm.Tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w / 2).sum().backward()
    >>> sm.optim.clip_grad_norm_([w], 1.0)
    5.0
    """
    real(max_norm, "max_norm", "clip_grad_norm_")
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be above 0, not {max_norm}")
    tensors = [parameters] if isinstance(parameters, Tensor) else listed(parameters, "clip_grad_norm_")
    for p in tensors:
        if not isinstance(p, Tensor):
            raise TypeError(f"clip_grad_norm_ takes Tensors with their .grad, not {p!r:.60}")
    with_grad = [(p, p.grad) for p in {id(p): p for p in tensors}.values() if p.grad is not None]
    norm = math.hypot(*(float(np.linalg.norm(g.data.astype(np.float64))) for _, g in with_grad))
    scale = max_norm / (norm + 1e-6)
    if scale < 1 and norm < math.inf:
        for p, g in with_grad:
            p.grad = Tensor(g.data * g.dtype.type(scale))
    return norm
