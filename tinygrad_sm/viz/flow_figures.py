"""Figures of gradients: statistics by parameter or module, at one step as bars, over many as a map; and Jacobians."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ops.options import count
from ..tensor import Array
from .cards import BLUE as MINUS
from .cards import INK, NEUTRAL, blend
from .cards import ORANGE as PLUS
from .figures import Plot, numbers, ticks, words
from .plot import BLUE, GREY, ORANGE, styled, word
from .states import EXPLODING, VANISHING

Row = Mapping[str, float]
NAMES = {
    "rms": "rms of the gradient", "mean": "|mean| of the gradient", "norm": "norm of the gradient",
    "max": "largest |gradient|", "zeros": "share of zeros in the gradient", "ratio": "rms of gradient / rms of value",
    "update": "rms of change / rms of value",
}  # fmt: skip
LINES = {"rms": (VANISHING, EXPLODING), "update": (1e-3,)}  # what a number may be compared with
LABELLED = 120  # rows that are labelled each
COLUMNS = 150  # columns of a heat map; of more steps, each stands for several
DECADES = 16.0  # of a scale at most, below its largest number
WRITTEN, SIGNED = 12, 60  # rows and columns of a Jacobian that have room for numbers, and for signs


def flow_bars(
    labels: Sequence[str], rows: Sequence[Row], marks: Sequence[str], what: str, title: str | None = None
) -> Plot:
    """Draw a bar for each row, the first on top, its share of zeros beside it; hatched if a mark says what is wrong."""
    sizes = [abs(row[what]) for row in rows]
    low, high = _scale(np.array(sizes), what)
    with styled(1, 1, title, size=_size(labels, 6.4)) as (figure, axes):
        ax = axes[0, 0]
        for i, (x, row, wrong) in enumerate(zip(sizes, rows, marks, strict=True)):
            look: Any = {"color": ORANGE, "hatch": "////", "edgecolor": "white"} if wrong else {"color": BLUE}
            ax.barh(i, min(max(x, low), high) if math.isfinite(x) else low, 0.72, **look, linewidth=0)
            share = f"{0.1 * math.floor(1000 * row['zeros']):.3g} %"
            place: Any = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 7}
            ax.text(1.1, i, share, ha="right", color=GREY, **place)
            if wrong:
                ax.text(1.13, i, wrong, color=INK, **place)
        ax.text(1.1, 1.01, "zeros", transform=ax.transAxes, ha="right", va="bottom", fontsize=7, color=GREY)
        ax.set(xlabel=NAMES[what], xlim=(low, high), ylim=(len(labels) - 0.4, -0.6))
        if what != "zeros":
            ax.set_xscale("log")
        for line in LINES.get(what, ()):
            if low < line < high:
                ax.axvline(line, color=INK, lw=0.8, ls="--", zorder=0.5)
        ax.grid(axis="y", visible=False)
        ticks(ax.set_yticks, [word(label, 40) for label in labels], LABELLED)
    return Plot(figure, f"{NAMES[what]} of {_counted(labels)}, as bars")


def flow_map(labels: Sequence[str], table: Sequence[Sequence[Row | None]], what: str, title: str | None = None) -> Plot:
    """Draw a row for each parameter or module and a column for each step, light where the number is large.

    A cell with × is NaN, with ∞ inf; one without colour has no gradient, or all 0.
    """
    start = int(what == "update")  # there is none at the first step
    grid = np.array([[-1.0 if row is None else abs(row[what]) for row in line[start:]] for line in table])
    steps = grid.shape[1]
    each = -(-steps // COLUMNS)
    grid = np.maximum.reduceat(grid, np.arange(0, steps, each), axis=1)  # NaN is larger than all: none is overlooked
    low, high = _scale(grid, what, tight=True)
    size = _size(labels, 7.0)
    with styled(1, 1, title, size=size) as (figure, axes):
        from matplotlib.colors import LogNorm, Normalize

        ax = axes[0, 0]
        scale = Normalize(low, high) if what == "zeros" else LogNorm(low, high)
        hidden = ~np.isfinite(grid) | (grid < 0) | ((grid == 0) & (what != "zeros"))
        image = ax.imshow(
            np.ma.array(grid, mask=hidden), cmap="viridis", norm=scale, aspect="auto", interpolation="nearest",
            extent=(start - 0.5, start + each * grid.shape[1] - 0.5, len(labels) - 0.5, -0.5),
        )  # fmt: skip
        for name, marker, found in (("NaN", "x", np.isnan(grid)), ("inf", r"$\infty$", np.isinf(grid))):
            if found.any():
                i, j = np.nonzero(found)
                ax.scatter(
                    start + each * (j + 0.5) - 0.5,
                    i,
                    s=26,
                    c=INK,
                    marker=marker,
                    linewidths=0.8 * (marker == "x"),
                    label=name,
                )
                ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=7, borderaxespad=0)
        ax.set_xlabel("step" if each == 1 else f"step (each column: the largest of {each})")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(visible=False)
        ticks(ax.set_yticks, [word(label, 40) for label in labels], LABELLED)
        bar = figure.colorbar(image, ax=ax, label=NAMES[what], aspect=4 * size[1])
        for line in LINES.get(what, ()):
            if low < line < high:
                bar.ax.axhline(line, color="white", lw=1.5, ls="--")
    return Plot(figure, f"{NAMES[what]} of {_counted(labels)} over {steps} steps, as a heat map")


def _scale(sizes: Array, what: str, *, tight: bool = False) -> tuple[float, float]:
    """Return the ends of a scale, powers of ten around what is finite and not 0; if `tight`, as near as may be."""
    if what == "zeros":
        return 0.0, 1.0
    found = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not found.size:
        return 0.1, 1.0
    low, high = math.log10(found.min()), math.log10(found.max())
    if not tight or high - low < 1:
        low, high = math.ceil(low) - 1.0, math.floor(high) + 1.0
    return 10 ** max(low, high - DECADES, -300.0), 10 ** min(high, 300.0)


def _size(labels: Sequence[str], width: float) -> tuple[float, float]:
    return width, 1.3 + 0.19 * max(min(len(labels), LABELLED), 4)


def _counted(labels: Sequence[str]) -> str:
    return f"{len(labels)} row{'s' * (len(labels) != 1)}"


def jacobian(
    J: Any, rows: Sequence[Any] | None = None, columns: Sequence[Any] | None = None, *, outputs: int | None = None,
    title: str | None = None,
) -> Plot:  # fmt: skip
    """Draw a Jacobian as `sm.jacobian(f, x)` returns it: a row for each output, a column for each input.

    Blue is negative, orange positive, on one scale on both sides of 0. Up to 12 × 12 cells show their numbers, and up
    to 60 × 60 the negative ones a minus sign, so that a grey print can be read. NaN and inf are black.

    Parameters
    ----------
    J : Tensor or array, (outputs…, inputs…)
        The Jacobian; that of a scalar function, (inputs,), is one row. A Hessian will do too.
    rows, columns : sequence of str, optional
        The names of the outputs, and of the inputs.
    outputs : int, optional
        How many of the axes of J, from the left, are those of the output: f(x).ndim. It must be said if J has more
        than two; the axes of the output, and those of the input, are flattened.
    title : str, optional
        Stands above the figure.

    Returns
    -------
    Plot

    Raises
    ------
    ValueError
        If `outputs` is missing or does not fit, or there are not as many names as rows or columns.
    ImportError
        Without matplotlib.

    Examples
    --------
    The Jacobian of softmax is diag(p) − p·pᵀ:

    >>> import numpy as np, tinygrad_sm as sm
    >>> z = sm.Tensor([1.0, 2.0, 3.0])
    >>> J, p = sm.jacobian(sm.softmax, z).data, sm.softmax(z).data
    >>> bool(np.allclose(J, np.diag(p) - np.outer(p, p)))
    True
    >>> sm.viz.jacobian(J, ["p₁", "p₂", "p₃"], ["z₁", "z₂", "z₃"])
    <Plot: Jacobian of 3 outputs, 3 inputs>
    """
    what = "J must be the numbers that sm.jacobian(f, x) returns"
    array = numbers(J, "jacobian", tuple(range(65)), what)
    split = _split(array, outputs)
    grid = array.reshape(math.prod(array.shape[:split]), -1)
    height, width = grid.shape
    row_names = _entries(rows, array.shape[:split], "rows")
    column_names = _entries(columns, array.shape[split:], "columns")
    finite = np.isfinite(grid)
    peak = float(np.abs(grid[finite]).max(initial=0)) or 1.0
    written, digits = max(height, width) <= WRITTEN, 3 if max(height, width) <= WRITTEN // 2 else 2
    aspect = "equal" if written or 0.2 < height / width < 5 else "auto"
    cell = 0.5 if written else max(0.06, 4.5 / max(height, width))
    size = min(max(2.0 + cell * width, 3.2), 9.0), min(max(1.1 + cell * height, 1.8), 9.0)
    with styled(1, 1, title, size=size) as (figure, axes):
        from matplotlib.colors import LinearSegmentedColormap

        ax = axes[0, 0]
        colours = LinearSegmentedColormap.from_list("signs", [blend(c, c, 0) for c in (MINUS, NEUTRAL, PLUS)])
        image = ax.imshow(
            np.ma.array(grid, mask=~finite),
            cmap=colours.with_extremes(bad=INK),
            aspect=aspect,
            vmin=-peak,
            vmax=peak,
            interpolation="nearest",
        )
        for i, j in np.ndindex(grid.shape) if written else ():
            x = float(grid[i, j])
            ink = "white" if not finite[i, j] or x < -0.8 * peak else INK
            ax.text(j, i, _figure(x, digits), ha="center", va="center", fontsize=7, color=ink)
        if not written and max(height, width) <= SIGNED:
            i, j = np.nonzero(grid < 0)
            inks = np.where(grid[i, j] < -0.8 * peak, "white", INK)
            ax.scatter(j, i, s=10, c=inks, marker="_", linewidths=0.8)
        ax.set(xlabel="input", ylabel="output")
        ax.grid(visible=False)
        ticks(ax.set_xticks, column_names, rotation=0 if max(map(len, column_names)) * len(column_names) < 30 else 90)
        ticks(ax.set_yticks, row_names)
        figure.colorbar(image, ax=ax, label="∂output / ∂input", shrink=0.9)
    parts = [f"{n} {name}{'s' * (n != 1)}" for n, name in ((height, "output"), (width, "input"))]
    return Plot(figure, f"Jacobian of {', '.join(parts)}")


def _split(array: Array, outputs: int | None) -> int:
    """Return how many axes of a Jacobian are those of the output."""
    if outputs is None and array.ndim <= 2:
        return max(array.ndim - 1, 0)
    if outputs is None:
        raise ValueError(
            f"jacobian: J has shape {array.shape}; say how many of its axes are those of the output: outputs=f(x).ndim"
        )
    n = count(outputs, "outputs", "jacobian", least=0)
    if n > array.ndim:
        raise ValueError(f"jacobian: outputs={n}, but J has {array.ndim} axes, of shape {array.shape}")
    return n


def _entries(given: Sequence[Any] | None, shape: tuple[int, ...], name: str) -> list[str]:
    """Return a label for each entry of an output or input: those given, or its index."""
    own = [",".join(map(str, index)) or "0" for index in np.ndindex(shape)]
    return words(own if given is None else given, len(own), "jacobian", name)


def _figure(x: float, digits: int) -> str:
    """Write a number in two or three digits, as briefly as it goes: "−0.0015", "2.4e−8"."""
    if not np.isfinite(x):
        return "NaN" if np.isnan(x) else "∞" if x > 0 else "−∞"
    text = f"{x:.{digits}g}" if not 0 < abs(x) < 1e-3 else f"{x:.{digits - 1}e}"
    mantissa, _, exponent = text.partition("e")
    return (f"{mantissa}e{int(exponent)}" if exponent else mantissa).replace("-", "−")
