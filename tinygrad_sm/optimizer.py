"""What all optimisers share: parameter groups, state by name, and a step over flat arrays.

Parameters are moved in runs: their values lie one behind the other in one flat array, and so do their gradients
and buffers, so that a step is a few passes over these, however many small parameters a model has. A step puts *new*
arrays into `.data`, parts of a new flat one, and leaves the old ones, which a graph may still hold, as they were.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Collection, Iterable
from itertools import starmap
from operator import is_
from typing import Any

import numpy as np

from .ops.blocked import each, row_blocks
from .ops.options import count, real
from .state import as_arrays, check_names
from .tensor import Array, Tensor

State = dict[tuple[int, str], Array]
Buffers = dict[str, Array]
Options = dict[str, Any]

RUN_BYTES = 1 << 17  # small parameters are joined up to this size; a larger one is a run by itself


def listed(params: Any, caller: str) -> list[Any]:
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


class Run:
    """Parameters of one group and dtype, with as many steps behind them, which are moved together."""

    def __init__(self, numbers: list[int], params: list[Tensor], options: Options) -> None:
        self.numbers, self.params, self.options = numbers, params, options
        self.parts = [p.data for p in params]
        self.whole: Any = None  # the flat array that they are parts of, after the first step
        self.shapes = [part.shape for part in self.parts]
        self.work = np.promote_types(params[0].dtype, np.float32)  # in half precision Adam's ε and g² would be 0
        self.t = 0  # steps since the buffers were made
        self.buffers: Buffers = {}  # flat, by name

    def fits(self, params: dict[int, Tensor], gradients: dict[int, Array]) -> bool:
        """Tell whether all have gradients again, and `.data` of the same kind as this run put there."""
        for n, p, part in zip(self.numbers, self.params, self.parts, strict=True):
            if n not in gradients or params[n] is not p:
                return False
            if p.data is not part and (p.data.shape, p.data.dtype) != (part.shape, part.dtype):
                return False
        return True

    def values(self) -> Array:
        """Return the values of all parameters as one flat array, without a copy if they are parts of one."""
        data = [p.data for p in self.params]
        # Where a `.data` was replaced they are not; nor where they were pickled or copied, each by itself.
        known = all(map(is_, data, self.parts)) and self.whole is not None and data[0].base is self.whole
        return self.whole if known else joined(data, data[0].dtype)

    def cut(self, flat: Array) -> list[Array]:
        """Return the part of a flat array that belongs to each parameter, in its shape."""
        parts, start = [], 0
        for shape in self.shapes:
            stop = start + math.prod(shape)
            parts.append(flat[start:stop].reshape(shape))
            start = stop
        return parts


def joined(arrays: list[Array], dtype: Any) -> Array:
    """Return arrays one behind the other in a flat one; a single one without a copy, if that is possible."""
    if len(arrays) == 1:
        return arrays[0].reshape(-1).astype(dtype, copy=False)
    return np.concatenate(arrays, axis=None, dtype=dtype, casting="unsafe")


class Optimizer:
    """Base of the optimisers: parameter groups, and their state by name.

    `params` is a sequence of Tensors, or of dicts with "params" and options of their own (parameter groups).

    >>> import numpy as np, tinygrad_sm as sm
    >>> class SignDescent(sm.optim.Optimizer):
    ...     def update(self, p, g, old, new, out, t, options):
    ...         np.subtract(p, options["lr"] * np.sign(g), out=out)
    >>> w = sm.Tensor([1.0], requires_grad=True)
    >>> optimizer = SignDescent([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.item()
    0.75
    >>> optimizer.zero_grad()
    >>> w.grad is None
    True
    """

    buffers: tuple[str, ...] = ()  # names of the arrays that are kept for each parameter; "t" counts its steps

    def __init__(self, params: Iterable[Any], **defaults: Any) -> None:
        groups = listed(params, type(self).__name__)
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
                else listed(group["params"], type(self).__name__)
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
        self._moving: list[Run] = []  # the parameters that the last step moved …
        self._idle: list[Run] = []  # … and others that have buffers

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

    def _rate(self, lr: Any) -> float:
        """Return a learning rate that was set or loaded later, after the check of those given at the start."""
        group: dict[str, Any] = {"lr": lr}
        self._check(group)
        return float(group["lr"])

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    # -- the step ----------------------------------------------------------------------------
    def step(self) -> None:
        """Move every parameter that has a gradient; warn if none has.

        All change together at the end, so that after a Ctrl-C a step was done, or was not. (Only the buffers of large
        parameters are written in place, and may hold the last gradient already.)

        Raises
        ------
        ValueError
            If a parameter's `.data` has got another shape since its gradient, or this optimiser's buffers, were made.
        TypeError
            If a group's "lr" has been set to something other than a number.
        """
        for group in self.param_groups:
            lr = group.get("lr", 0.0)
            if type(lr) is not float:
                group["lr"] = self._rate(lr)
        params = self._numbered()
        gradients = self._gradients(params)
        changes: list[Any] = [(self, "steps", self.steps + 1)]
        for run in self._arranged(params, gradients):
            changes += self._moved(run, joined([gradients[n] for n in run.numbers], run.work))
        deque(starmap(setattr, changes), maxlen=0)  # one call, without a moment for a Ctrl-C between the changes

    def _moved(self, run: Run, g: Array) -> list[tuple[Any, str, Any]]:
        """Compute the step of one run, and return what is to change: (object, attribute, value)."""
        p, t, old = run.values(), run.t + 1, run.buffers
        names = self.needed(run.options)
        if not old:
            t, old = 1, {name: np.zeros(g.size, g.dtype) for name in names}
        new = old if g.nbytes > RUN_BYTES or not names else {name: np.empty_like(g) for name in names}
        out = np.empty_like(p)
        self._update(p.astype(g.dtype, copy=False), g, old, new, out, t, run.options)
        parts = run.cut(out)
        moved = [(p, "data", part) for p, part in zip(run.params, parts, strict=True)]
        return [*moved, (run, "parts", parts), (run, "whole", out), (run, "buffers", new), (run, "t", t)]

    def _update(self, p: Array, g: Array, old: Buffers, new: Buffers, out: Array, t: int, options: Options) -> None:
        """Call `update`, in blocks if the arrays are large."""
        blocks = row_blocks(g.size, g.itemsize)
        if len(blocks) == 1:
            return self.update(p, g, old, new, out, t, options)

        def update(s: slice) -> None:
            olds, news = {name: a[s] for name, a in old.items()}, {name: a[s] for name, a in new.items()}
            self.update(p[s], g[s], olds, news, out[s], t, options)

        each(update, blocks)

    def update(self, p: Array, g: Array, old: Buffers, new: Buffers, out: Array, t: int, options: Options) -> None:
        """Write the new values of the parameters to `out`, and of each buffer in `old` to `new`; subclasses do this.

        All are flat and equally long; `old` and `new` may be the same arrays. In the first step t is 1 and `old` zero.
        """
        raise TypeError(f"{type(self).__name__} has no update rule")

    def needed(self, options: Options) -> tuple[str, ...]:
        """Return the names of the buffers that `update` takes under these options.

        >>> import tinygrad_sm as sm
        >>> optimizer = sm.optim.SGD([sm.Tensor([1.0], requires_grad=True)], momentum=0.9)
        >>> optimizer.needed({"momentum": 0.9}), optimizer.needed({"momentum": 0.0})
        (('momentum',), ())
        """
        return tuple(name for name in self.buffers if name != "t")

    def _gradients(self, params: dict[int, Tensor]) -> dict[int, Array]:
        """Return the gradients by number, after checking their shapes."""
        gradients = {}
        for number, p in params.items():
            g = p.grad
            if g is not None:
                if g.data.shape != p.data.shape:
                    raise self._misfit(number, p, "gradient", g.shape)
                gradients[number] = g.data
        if not gradients:
            warnings.warn(
                f"{type(self).__name__}.step: no parameter has a gradient, so none moves; loss.backward() comes before "
                "step(), and zero_grad() before the next backward()",
                stacklevel=3,
            )
        return gradients

    def _misfit(self, number: int, p: Tensor, what: str, shape: tuple[int, ...]) -> ValueError:
        return ValueError(
            f"{type(self).__name__}.step: parameter {number} now has shape {p.shape}, but its {what} {shape}: its "
            ".data was replaced; run the forward and the backward pass again, with a new optimiser"
        )

    def _arranged(self, params: dict[int, Tensor], gradients: dict[int, Array]) -> list[Run]:
        """Return the parameters to move in runs: those of the last step, if nothing else has changed."""
        same = sum(len(run.numbers) for run in self._moving) == len(gradients)
        if not same or not all(run.fits(params, gradients) for run in self._moving):
            state = self.state
            for (n, name), buffer in state.items():
                if n in gradients and name != "t" and buffer.shape != params[n].shape:
                    raise self._misfit(n, params[n], "buffer", buffer.shape)
            moving = self._joined(state, gradients)
            self._idle = self._joined(state, {n for n, _ in state if n not in gradients})
            self._moving = moving
        return self._moving

    def _joined(self, state: State, members: Collection[int]) -> list[Run]:
        """Join parameters that have options, dtype and number of steps in common, to runs."""
        params, options = self._numbered(), [group for group in self.param_groups for _ in group["params"]]
        buffers = [name for name in self.buffers if name != "t"]
        alike: dict[Any, list[int]] = {}
        for n in sorted(members):
            begun = [name for name in buffers if (n, name) in state]
            t = int(state.get((n, "t"), len(begun)))
            alike.setdefault((t, params[n].dtype, id(options[n])), []).append(n)
        runs = []
        for (t, *_), same in alike.items():
            for numbers in portions(same, params):
                run = Run(numbers, [params[n] for n in numbers], options[numbers[0]])
                for name in buffers if t else ():
                    run.shapes = [state[n, name].shape for n in numbers]
                    run.buffers[name] = joined([state[n, name] for n in numbers], run.work)
                run.t = t
                runs.append(run)
        return runs

    # -- the state ---------------------------------------------------------------------------
    @property
    def state(self) -> State:
        """The buffers of each parameter that has any, by its number and the buffer's name; "t" counts its steps."""
        state: State = {}
        for run in (*self._moving, *self._idle):
            for name, flat in run.buffers.items():
                state |= {(n, name): part for n, part in zip(run.numbers, run.cut(flat), strict=True)}
            if run.buffers:
                state |= {(n, "t"): np.asarray(run.t) for n in run.numbers}
        return state

    def _numbered(self) -> dict[int, Tensor]:
        return dict(enumerate([p for group in self.param_groups for p in group["params"]]))

    def _rated(self) -> dict[str, dict[str, Any]]:
        """Return the groups that have a learning rate, by its name in the state."""
        return {f"lr.{i}": group for i, group in enumerate(self.param_groups) if "lr" in group}

    def state_dict(self) -> dict[str, Array]:
        """Return steps, learning rates and buffers as arrays by name, for `sm.save`.

        >>> import tinygrad_sm as sm
        >>> w = sm.Tensor([1.0], requires_grad=True)
        >>> optimizer = sm.optim.SGD([w], lr=0.5, momentum=0.9)
        >>> w.sum().backward()
        >>> optimizer.step()
        >>> optimizer.state_dict()
        {'steps': array(1), 'lr.0': array(0.5), '0.momentum': array([1.], dtype=float32)}
        """
        state = {"steps": np.asarray(self.steps)}
        state |= {name: np.asarray(group["lr"], np.float64) for name, group in self._rated().items()}
        kept = sorted((n, self.buffers.index(name), a) for (n, name), a in self.state.items() if name in self.buffers)
        return state | {f"{n}.{self.buffers[i]}": a.copy() for n, i, a in kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, for the same parameters in the same order.

        Raises
        ------
        ValueError, TypeError
            If names or shapes do not fit, or a learning rate or a number of steps cannot be one. Then nothing changes.

        Examples
        --------
        >>> import tinygrad_sm as sm
        >>> optimizer = sm.optim.SGD([sm.Tensor([1.0], requires_grad=True)], lr=0.5)
        >>> optimizer.load_state_dict({"steps": 3, "lr.0": 0.25})
        >>> optimizer.steps, optimizer.param_groups[0]["lr"]
        (3, 0.25)
        """
        caller = f"{type(self).__name__}.load_state_dict"
        arrays = as_arrays(state, caller)
        rated = self._rated()
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(["steps", *rated], ())
        possible = {
            f"{n}.{name}": () if name == "t" else p.shape for n, p in self._numbered().items() for name in self.buffers
        }
        begun = {name.partition(".")[0] for name in arrays}  # a parameter has all of its buffers, or none yet
        shapes |= {name: shape for name, shape in possible.items() if name.partition(".")[0] in begun}
        check_names(shapes, arrays, type(self).__name__)
        numbers = {f"{n}.{name}": (n, name) for n in self._numbered() for name in self.buffers}
        buffers = {key: arrays[name].copy() for name, key in numbers.items() if name in arrays}
        rates = {name: self._rate(arrays[name]) for name in rated}
        counts = [name for name in arrays if name == "steps" or name.endswith(".t")]
        steps = {name: count(arrays[name][()], name, caller, 0) for name in counts}
        self._idle = self._joined(buffers, {n for n, _ in buffers})
        self._moving, self.steps = [], steps["steps"]
        for name, group in rated.items():
            group["lr"] = rates[name]


def portions(numbers: list[int], params: dict[int, Tensor]) -> list[list[int]]:
    """Cut a list of parameters where their values pass `RUN_BYTES`."""
    found: list[list[int]] = []
    filled = math.inf
    for n in numbers:
        filled += params[n].data.nbytes
        if filled > RUN_BYTES:
            found.append([])
            filled = params[n].data.nbytes
        found[-1].append(n)
    return found
