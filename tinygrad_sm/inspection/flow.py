"""Statistics of gradients by parameter, by module and over training, and of attention weights."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..nn.module import Module
from ..tensor import Array, Tensor
from ..text import visible
from .flow_table import Rows, listed, mark

if TYPE_CHECKING:
    from ..viz.figures import Plot

STATISTICS = ("mean", "norm", "rms", "max", "zeros", "ratio", "update")


class Step(NamedTuple):
    """What was measured at one step: `moments` has a row for each name, with the columns of `_moments`."""

    names: tuple[str, ...]
    moments: Array


# -- the flow -----------------------------------------------------------------------------------


class GradientFlow(Rows):
    """What `gradient_flow` returns: a dict of rows by parameter, which prints as a table and plots itself.

    It keeps a copy of the parameters for the next one to compare with, and the statistics of all that it follows, 56
    bytes a parameter and step. So keep the last one, not a list of them.

    >>> import tinygrad_sm as sm
    >>> model = sm.nn.Linear(2, 1)
    >>> model(sm.Tensor([[1.0, 2.0]])).sum().backward()
    >>> flow = sm.gradient_flow(model)
    >>> sorted(flow), list(flow.modules), len(flow.history)
    (['bias', 'weight'], [''], 1)
    """

    _values: dict[str, Array]  # all parameters, copied
    _groups: dict[str, list[str]]  # the names of the parameters in each module
    _kind: str  # the class of the model
    _steps: list[Step]
    _model: weakref.ref[Module] | None

    @property
    def modules(self) -> Rows:
        """The same statistics for each module, of all elements together of those of its parameters with a gradient.

        The path of the whole model is "". A parameter that two modules share counts in both, and once in the whole.
        """
        last, found = self._steps[-1], Rows()
        sizes = dict(zip(last.names, last.moments[:, 0].astype(int), strict=True))
        for path, names in self._groups.items():
            if (row := _joint(last, set(names))) is not None:
                found[path] = row
                found.shapes[path] = f"{sum(sizes.get(name, 0) for name in names):,}"
        found.heading = f"gradient flow of {visible(self._kind)} by module, at step {len(self._steps) - 1}"
        found.column, found.notes, found.first = "numbers", self.notes, self.first
        return found

    @property
    def history(self) -> list[dict[str, Any]]:
        """The statistics of all steps, oldest first, each as {"step": i, "rows": {path: row}}."""
        return [
            {"step": i, "rows": {name: _row(m) for name, m in zip(step.names, step.moments, strict=True)}}
            for i, step in enumerate(self._steps)
        ]

    def series(self, path: str, what: str = "rms") -> list[float]:
        """Return one statistic of a parameter or a module ("" for the whole model) at all steps, oldest first.

        It is NaN at a step at which there was no gradient. Raises ValueError for an unknown path or statistic.

        >>> import tinygrad_sm as sm
        >>> model = sm.nn.Linear(2, 1)
        >>> flow = None
        >>> for _ in range(2):
        ...     model(sm.Tensor([[3.0, 4.0]])).sum().backward()
        ...     flow = sm.gradient_flow(model, since=flow)
        >>> flow.series("weight", "norm")
        [5.0, 10.0]
        """
        if what not in STATISTICS:
            raise ValueError(f"series: what must be one of {', '.join(STATISTICS)}; not {what!r}")
        if path not in self._values and path not in self._groups:
            there = listed([name for name in (*self._groups, *self._values) if name])
            raise ValueError(
                f"series: there is no parameter or module {visible(repr(path), limit=60)}; there are {there}"
            )
        return [math.nan if row is None else row[what] for row in self._over(path)]

    def _over(self, path: str) -> list[dict[str, float] | None]:
        """Return the rows of a parameter or a module at all steps; None where there was no gradient."""
        names = {path} if path in self._values else set(self._groups[path])
        return [_joint(step, names) for step in self._steps]

    def plot(self, *, by: str = "parameter", what: str = "rms", title: str | None = None) -> Plot:
        """Draw one statistic of each parameter or module, the first layer on top: bars, or a heat map over the steps.

        Parameters
        ----------
        by : {"parameter", "module"}
            What has a bar, or a row of the heat map.
        what : {"rms", "mean", "norm", "max", "zeros", "ratio", "update"}
            The statistic; of the mean, its magnitude. The scale is logarithmic, except for zeros.
        title : str, optional
            Stands above the figure.

        Returns
        -------
        Plot

        Raises
        ------
        ValueError
            If there is no gradient to draw, or no such statistic.
        ImportError
            Without matplotlib.

        Examples
        --------
        >>> import tinygrad_sm as sm
        >>> model = sm.nn.Linear(2, 1)
        >>> model(sm.Tensor([[3.0, 4.0]])).sum().backward()
        >>> sm.gradient_flow(model).plot()
        <Plot: ...>
        """
        from ..viz.flow_figures import flow_bars, flow_map  # here, since training needs no figures

        if by not in ("parameter", "module"):
            raise ValueError(f"plot: by must be 'parameter' or 'module', not {by!r}")
        if what not in STATISTICS:
            raise ValueError(f"plot: what must be one of {', '.join(STATISTICS)}; not {what!r}")
        paths = list(self._values if by == "parameter" else self._groups)
        table = {path: over for path in paths if any(over := self._over(path))}
        if not table:
            raise ValueError(f"plot: there is nothing to draw: {' '.join(self.notes)}")
        if what == "update" and self.first:
            raise ValueError("plot: an update needs an earlier flow: gradient_flow(model, since=flow)")
        labels = [path or f"{self._kind} (all)" for path in table]
        if len(self._steps) == 1:
            rows = [row for (row,) in table.values() if row is not None]
            return flow_bars(labels, rows, list(map(mark, rows)), what, title)
        return flow_map(labels, list(table.values()), what, title)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}  # a reference to a model of this process fits in no file


def gradient_flow(module: Module, since: GradientFlow | None = None) -> GradientFlow:
    """Return statistics of the gradient of every parameter that has one, by its path.

    Call it once in each step, after `backward()` and before the optimiser moves the parameters.

    Parameters
    ----------
    module : Module
        The model.
    since : GradientFlow, optional
        What this function returned for the same model at an earlier step. The new flow goes on from there: it knows by
        how much each parameter has changed, and all earlier statistics.

    Returns
    -------
    GradientFlow
        A dict. It has for each parameter: `mean`, `norm` (Euclidean), `rms` (root mean square), `max` (largest
        magnitude), `zeros` (share of entries that are exactly 0), `ratio` (rms of the gradient over rms of the value)
        and `update` (rms of the change since the earlier flow over rms of the value; NaN if there is none). Printed, it
        is a table; `.modules` has the same for each module, `.series(path, what)` and `.history` have all steps, and
        `.plot()` draws them.

    Raises
    ------
    TypeError
        If it is not given a Module, or `since` is no flow.
    ValueError
        If `since` is the flow of another model.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> layer = sm.nn.Linear(2, 1)
    >>> layer(sm.Tensor(np.array([[3.0, 0.0]], np.float32))).sum().backward()
    >>> flow = sm.gradient_flow(layer)
    >>> flow["weight"]["norm"], flow["weight"]["zeros"]
    (3.0, 0.5)
    >>> sm.optim.SGD(layer.parameters(), lr=0.5).step()
    >>> flow = sm.gradient_flow(layer, since=flow)
    >>> len(flow.history), flow.series("weight", "norm")
    (2, [3.0, 3.0])
    """
    _check(module, since)
    parameters = dict(module.named_parameters())
    before = {} if since is None else since._values
    flow = GradientFlow()
    step = _measured(parameters, before)
    if since is not None and since._steps[-1].names == step.names:
        step = Step(since._steps[-1].names, step.moments)  # one tuple of names for all steps
    flow.update(zip(step.names, map(_row, step.moments), strict=True))
    flow.shapes = {name: "×".join(map(str, p.shape)) or "()" for name, p in parameters.items()}
    flow.first = since is None
    flow.total = _joint(step, set(step.names))
    flow._values = {name: p.data.copy() for name, p in parameters.items()}
    names = {id(p): name for name, p in parameters.items()}
    inside = ((path, [names[id(p)] for p in m.parameters() if id(p) in names]) for path, m in module.named_modules())
    flow._groups = {path: group for path, group in inside if group}
    flow._kind = type(module).__name__
    flow._steps = [*(() if since is None else since._steps), step]
    flow._model = weakref.ref(module)
    marked = sum(bool(mark(row)) for row in flow.values())
    flow.heading = f"gradient flow of {visible(flow._kind)} at step {len(flow._steps) - 1}"
    flow.heading += f": {marked} marked" if marked else ""
    flow.notes = _notes(parameters)
    return flow


def _check(module: Any, since: Any) -> None:
    """Refuse what is no model, and an earlier flow that is none or of another model."""
    if not isinstance(module, Module):
        kind = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
        hint = "; of one tensor read t.grad" if isinstance(module, Tensor) else ""
        raise TypeError(f"gradient_flow takes a model (an nn.Module), not {kind}: call gradient_flow(model) after "
                        f"loss.backward(){hint}")  # fmt: skip
    if since is None:
        return
    if not isinstance(since, GradientFlow):
        raise TypeError(
            "gradient_flow: since takes what gradient_flow(model) returned at an earlier step, not a "
            f"{type(since).__name__}"
        )
    if since._model is not None and since._model() is not module:
        raise ValueError(
            f"gradient_flow: since is the flow of another model, a {since._kind}; begin each model's with since=None"
        )
    if since._model is None and {n: a.shape for n, a in since._values.items()} != {
        n: p.shape for n, p in module.named_parameters()
    }:
        raise ValueError(f"gradient_flow: since is the flow of another model: {since._kind} had other parameters")


def _notes(parameters: Mapping[str, Tensor]) -> list[str]:
    """Say which parameters have no gradient, and what to do if that is all of them."""
    filled = {name: p for name, p in parameters.items() if p.size}
    without = [name if p.requires_grad else f"{name} (frozen)" for name, p in filled.items() if p.grad is None]
    if not filled:
        return ["no parameters"]
    if len(without) == len(filled):
        return ["no gradient: call loss.backward() first"]
    return [f"no gradient reached: {listed(without)}"] if without else []


# -- the numbers --------------------------------------------------------------------------------


def _measured(parameters: Mapping[str, Tensor], before: Mapping[str, Array]) -> Step:
    found = {
        name: _moments(p, p.grad, before.get(name)) for name, p in parameters.items() if p.grad is not None and p.size
    }
    return Step(tuple(found), np.array(list(found.values())).reshape(-1, 7))


def _moments(p: Tensor, grad: Tensor, before: Array | None) -> tuple[float, ...]:
    """Return what the statistics of a parameter, alone or with others, follow from.

    These are its size; mean, norm, largest magnitude and share of zeros of its gradient; norms of value and change.
    """
    g, value = grad.data.astype(np.float64), p.data.astype(np.float64)
    with np.errstate(all="ignore"):  # inf − inf
        change = math.nan if before is None or before.shape != value.shape else _norm(value - before)
        return g.size, float(g.mean()), _norm(g), float(np.abs(g).max()), float(np.mean(g == 0)), _norm(value), change


def _norm(x: Array) -> float:
    """Return √Σx²; squares neither overflow nor vanish, and scaling by a power of two rounds nothing."""
    peak = float(np.abs(x).max(initial=0.0))
    if not 0 < peak < math.inf:
        return peak
    scale = math.ldexp(1.0, math.frexp(peak)[1] - 1)
    return scale * math.sqrt(float(np.square(x / scale).sum()))


def _joint(step: Step, names: set[str]) -> dict[str, float] | None:
    """Return the statistics of all elements of some parameters together; None if none has a gradient."""
    chosen = [i for i, name in enumerate(step.names) if name in names]
    if not chosen:
        return None
    sizes, means, norms, peaks, zeros, values, changes = step.moments[chosen].T
    n = sizes.sum()
    with np.errstate(all="ignore"):
        return _row((
            n, sizes @ means / n, _norm(norms), peaks.max(), sizes @ zeros / n, _norm(values), _norm(changes),
        ))  # fmt: skip


def _row(moments: Any) -> dict[str, float]:
    size, mean, norm, peak, zeros, value, change = map(float, moments)
    return {
        "mean": mean, "norm": norm, "rms": norm / math.sqrt(size), "max": peak, "zeros": zeros,
        "ratio": _ratio(norm, value), "update": _ratio(change, value),
    }  # fmt: skip


def _ratio(a: float, b: float) -> float:
    """Return a / b; 0 / 0, of a parameter that is 0 and stays so, is 0."""
    return a / b if b else a * math.inf if a else 0.0


def layer_norms(module: Module, flow: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, float]:
    """Return the joint gradient norm of each layer: of each direct child, and of each item of a list of children.

    `module` is the model after `backward()`, and `flow` what `gradient_flow` returned for it, if that is there already.

    >>> import numpy as np, tinygrad_sm as sm
    >>> mlp = sm.nn.Sequential(sm.nn.Linear(2, 3), sm.nn.ReLU(), sm.nn.Linear(3, 1))
    >>> mlp(np.ones((1, 2), np.float32)).sum().backward()
    >>> list(sm.inspection.layer_norms(mlp))
    ['layers.0', 'layers.2']
    """
    if flow is None:  # no copies of the parameters for this
        step = _measured(dict(module.named_parameters()), {})
        flow = dict(zip(step.names, map(_row, step.moments), strict=True))
    norms: dict[str, list[float]] = {}
    for name, row in flow.items():
        parts = name.split(".")
        layer = ".".join(parts[:2]) if len(parts) > 1 and parts[1].isdigit() else parts[0]
        norms.setdefault(layer, []).append(row["norm"])
    return {layer: _norm(np.array(found)) for layer, found in norms.items()}


def attention_stats(weights: Array, *, causal: bool = False) -> dict[str, float]:
    """Return how spread attention weights (…, T, S) are: mean entropy and mean largest weight.

    `entropy` is −Σ w·log w as a share of log n, the most that n keys allow: 1 is uniform, 0 looks at one key.
    With `causal`, row i sees i + 1 keys, and row 0, which has no choice, is left out.

    >>> import numpy as np
    >>> stats = attention_stats(np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.25, 0.25]]), causal=True)
    >>> round(stats["entropy"], 3), stats["largest"]
    (0.973, 0.5)
    """
    w = np.asarray(weights, np.float64)
    keys = np.minimum(np.arange(w.shape[-2]) + 1, w.shape[-1]) if causal else np.full(w.shape[-2], w.shape[-1])
    w, keys = w[..., keys > 1, :], keys[keys > 1]
    if not w.size:
        return {"entropy": math.nan, "largest": math.nan}
    entropy = -(w * np.log(np.where(w > 0, w, 1))).sum(axis=-1) / np.log(keys)
    return {"entropy": float(entropy.mean()), "largest": float(w.max(axis=-1).mean())}
