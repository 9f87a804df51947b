"""Calibration: of the answers given with confidence 0.8, are 80 % right? Measures of that, and temperature scaling.

A softmax says how probable each class is; the largest probability is the confidence of the answer. All measures here
take probabilities (N, K), whose rows sum to 1, and class indices (N,); they compute in float64 and return a float:

    p = F.softmax(model(x_test))
    print(reliability(p, y_test))                        # confidence beside accuracy, by bins; .plot() draws it
    t = fit_temperature(model(x_held_out), y_held_out)   # then F.softmax(model(x_test), temperature=t)

Sources: Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, for the measures by bins and
temperature scaling; Naeini, Cooper and Hauskrecht (2015) for ECE and MCE; Nixon and others (2019), Measuring
Calibration in Deep Learning, for the class-wise and adaptive ones; Brier (1950).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .ops.options import count, shown, toggle
from .temperature import class_indices, fit_temperature
from .tensor import Array, Tensor

if TYPE_CHECKING:
    from .viz.figures import Plot

__all__ = [
    "Bin", "Reliability", "brier_score", "expected_calibration_error", "fit_temperature", "maximum_calibration_error",
    "nll", "reliability",
]  # fmt: skip

BINS = 15  # as Guo et al. have


class Bin(NamedTuple):
    """One bin of a reliability diagram: confidences in (low, high]. An empty one has NaN for both means.

    >>> import tinygrad_sm as sm
    >>> found = sm.calibration.reliability([[0.8, 0.2], [0.7, 0.3]], [0, 1], bins=1)
    >>> found[0].count, found[0].accuracy
    (2, 0.5)
    """

    low: float
    high: float
    count: int  # type: ignore[assignment]  # a tuple has a method of that name
    confidence: float  # the mean of the confidences in it
    accuracy: float  # the share of them whose answer is right


@dataclass(frozen=True)
class Reliability:
    """What `reliability` returns: a sequence of bins, which prints as a table and plots itself.

    >>> import tinygrad_sm as sm
    >>> found = sm.calibration.reliability([[0.8, 0.2], [0.7, 0.3]], [0, 1])
    >>> print(f"{found.count} answers: {found.confidence:.2f} {found.accuracy:.2f} {found.ece:.2f} {found.mce:.2f}")
    2 answers: 0.75 0.50 0.45 0.70
    """

    bins: tuple[Bin, ...]

    def __iter__(self) -> Iterator[Bin]:
        return iter(self.bins)

    def __len__(self) -> int:
        return len(self.bins)

    def __getitem__(self, i: int) -> Bin:
        return self.bins[i]

    @property
    def count(self) -> int:
        """The number of examples, N."""
        return sum(b.count for b in self.bins)

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self._mean([b.accuracy for b in self.bins])

    @property
    def confidence(self) -> float:
        """The mean confidence; above the accuracy, the model is overconfident."""
        return self._mean([b.confidence for b in self.bins])

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean of |accuracy − confidence|, weighted by the counts."""
        return self._mean([abs(b.accuracy - b.confidence) for b in self.bins])

    @property
    def mce(self) -> float:
        """The maximum calibration error: the largest |accuracy − confidence| of a bin that is not empty."""
        return max(abs(b.accuracy - b.confidence) for b in self.bins if b.count)

    def _mean(self, values: list[float]) -> float:
        return sum(b.count * v for b, v in zip(self.bins, values, strict=True) if b.count) / self.count

    def __repr__(self) -> str:
        rows: list[tuple[str, ...]] = [("confidence in", "count", "confidence", "accuracy", "gap")]
        for b in self.bins:
            means = [f"{x:.3f}" for x in (b.confidence, b.accuracy)] if b.count else ["", ""]
            gap = f"{b.accuracy - b.confidence:+.3f}" if b.count else ""
            rows.append((f"({b.low:.3f}, {b.high:.3f}]", f"{b.count:,}", *means, gap))
        whole = (self.confidence, self.accuracy)
        rows.append(("all", f"{self.count:,}", *(f"{x:.3f}" for x in whole), f"{whole[1] - whole[0]:+.3f}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, f"ECE {self.ece:.4f}, MCE {self.mce:.4f}"])

    def plot(self, *, title: str | None = None) -> Plot:
        """Draw the reliability diagram, and above it how often each confidence occurs (Guo et al. 2017, Figure 1).

        A bar is the accuracy of a bin, pale if fewer than ten answers are in it; hatched is its gap to the mean
        confidence. On the diagonal a model is calibrated: a gap on top of a bar is overconfidence, one inside it is
        underconfidence.

        Parameters
        ----------
        title : str, optional
            Stands above the figure.

        Returns
        -------
        Plot

        Raises
        ------
        ImportError
            Without matplotlib.

        Examples
        --------
        >>> import tinygrad_sm as sm
        >>> sm.calibration.reliability([[0.8, 0.2], [0.7, 0.3]], [0, 1]).plot()
        <Plot: ...>
        """
        from .viz.calibration_figures import reliability_diagram  # here, since measuring needs no figures

        return reliability_diagram([self], [""], title)


def reliability(probabilities: Any, targets: Any, bins: int = BINS, *, adaptive: bool = False) -> Reliability:
    """Sort answers by their confidence into bins, and compare its mean with the share of right answers in each.

    The answer is the class with the largest probability, its confidence that probability; of equal ones, the first
    class counts. The bins are ((m − 1)/M, m/M], closed on the right as in Guo et al., with edges in the dtype of the
    probabilities, so that a float32 0.2 is at the edge 0.2; the first has 0 too.

    Parameters
    ----------
    probabilities : Tensor or array (N, K)
        After the softmax, so that each row sums to 1.
    targets : Tensor or array (N,) of integers
        The right classes, 0 to K − 1.
    bins : int
        M.
    adaptive : bool
        Bins of equal mass: with N/M examples each, as near as may be where confidences are equal, which stay together.

    Returns
    -------
    Reliability
        An iterable of `Bin(low, high, count, confidence, accuracy)`, which prints as a table; it has `ece`, `mce`,
        `accuracy`, `confidence`, `count` and `plot()`.

    Raises
    ------
    ValueError
        If rows do not sum to 1 (logits were given, or log-probabilities), for NaN, negative numbers, other shapes, or
        no rows at all.
    TypeError
        If the targets are not integers, or `bins` is not one.
    IndexError
        If a target is out of range.

    Examples
    --------
    >>> from tinygrad_sm.calibration import reliability
    >>> p = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]]
    >>> found = reliability(p, [0, 0, 0, 1], bins=4)
    >>> found[3].count, found[3].accuracy
    (2, 1.0)
    >>> print(found)
     confidence in  count  confidence  accuracy     gap
    (0.000, 0.250]      0
    (0.250, 0.500]      0
    (0.500, 0.750]      2       0.650     0.500  -0.150
    (0.750, 1.000]      2       0.850     1.000  +0.150
               all      4       0.750     0.750  +0.000
    ECE 0.1500, MCE 0.1500
    """
    p, y = _checked(probabilities, targets, "reliability")
    confidence, right = _answers(p, y)
    return _binned(confidence, right, count(bins, "bins", "reliability"), toggle(adaptive, "adaptive", "reliability"))


def expected_calibration_error(
    probabilities: Any, targets: Any, bins: int = BINS, *, adaptive: bool = False, classwise: bool = False
) -> float:
    """Return the expected calibration error, Σ_m (n_m/N)·|accuracy_m − confidence_m|, over bins of the confidence.

    Parameters
    ----------
    probabilities, targets, bins, adaptive
        As in `reliability`: the bins are equally wide, or `adaptive`, equally full.
    classwise : bool
        Take the probability of each class in turn in place of the confidence, compare it with how often that is the
        right class, and return the mean over the classes. So errors of probabilities that are not the largest count.
        Nixon et al. call it SCE, and with adaptive bins ACE.

    Raises
    ------
    ValueError, TypeError, IndexError
        As in `reliability`.

    Examples
    --------
    >>> from tinygrad_sm.calibration import expected_calibration_error
    >>> p = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]
    >>> round(expected_calibration_error(p, [0, 0, 1, 0]), 4)     # half of |1 − 0.9|, half of |0.5 − 0.6|
    0.1
    """
    p, y = _checked(probabilities, targets, "expected_calibration_error")
    bins = count(bins, "bins", "expected_calibration_error")
    adaptive = toggle(adaptive, "adaptive", "expected_calibration_error")
    if not toggle(classwise, "classwise", "expected_calibration_error"):
        return _binned(*_answers(p, y), bins, adaptive).ece
    return float(np.mean([_binned(p[:, k], y == k, bins, adaptive).ece for k in range(p.shape[1])]))


def maximum_calibration_error(probabilities: Any, targets: Any, bins: int = BINS, *, adaptive: bool = False) -> float:
    """Return the maximum calibration error, max_m |accuracy_m − confidence_m| over the bins that are not empty.

    A bin with a few examples can set it, so that it says little unless there are many, or bins are adaptive. Arguments
    and errors are those of `reliability`.

    >>> from tinygrad_sm.calibration import maximum_calibration_error
    >>> p = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]
    >>> round(maximum_calibration_error(p, [0, 0, 0, 0]), 4)      # 0.6 sure, and never right
    0.6
    """
    p, y = _checked(probabilities, targets, "maximum_calibration_error")
    bins = count(bins, "bins", "maximum_calibration_error")
    adaptive = toggle(adaptive, "adaptive", "maximum_calibration_error")
    return _binned(*_answers(p, y), bins, adaptive).mce


def brier_score(probabilities: Any, targets: Any) -> float:
    """Return the Brier score, 1/N Σ_i Σ_k (p_ik − y_ik)² with y one-hot: from 0 to 2, over all classes as Brier has it.

    For two classes some take only one of them, which gives half. Arguments and errors are those of `reliability`.

    >>> from tinygrad_sm.calibration import brier_score
    >>> round(brier_score([[0.7, 0.3], [0.7, 0.3]], [0, 1]), 4)   # the mean of 2·0.3² and 2·0.7²
    0.58
    """
    p, y = _checked(probabilities, targets, "brier_score")
    p = p.astype(np.float64)
    p[np.arange(len(y)), y] -= 1
    return float(np.mean(np.sum(p * p, axis=1)))


def nll(probabilities: Any, targets: Any) -> float:
    """Return the negative log-likelihood in nats, −1/N Σ_i log p_iy: infinite if a right class has probability 0.

    Where there are logits, `cross_entropy` of them is the same, and exact where a probability would round to 0.
    Arguments and errors are those of `reliability`.

    >>> from tinygrad_sm.calibration import nll
    >>> round(nll([[0.5, 0.5], [0.25, 0.75]], [0, 0]), 4)         # the mean of log 2 and log 4
    1.0397
    """
    p, y = _checked(probabilities, targets, "nll")
    with np.errstate(divide="ignore"):
        return float(-np.mean(np.log(p[np.arange(len(y)), y].astype(np.float64))) + 0.0)


def _answers(p: Array, y: Array) -> tuple[Array, Array]:
    """Return the confidence of each answer, and whether it is right."""
    answer = p.argmax(axis=1)
    return p[np.arange(len(p)), answer], answer == y


def _binned(confidence: Array, right: Array, bins: int, adaptive: bool) -> Reliability:
    """Sort confidences (N,) into bins closed on the right, and average them and `right` in each."""
    if (
        adaptive
    ):  # the m-th edge is the smallest confidence that a share m/M does not exceed, so equal ones stay together
        ranks = -(-np.arange(1, bins + 1) * len(confidence) // bins) - 1
        edges = np.sort(confidence)[np.maximum(ranks, 0)]
    else:
        edges = (np.arange(1, bins + 1) / bins).astype(confidence.dtype)
    place = np.minimum(np.searchsorted(edges, confidence, side="left"), bins - 1)  # a last ulp may exceed 1
    n = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, confidence, bins) / n
        accuracy = np.bincount(place, right, bins) / n
    low = np.concatenate([[0.0], edges[:-1]])
    columns = (a.tolist() for a in (low, edges.astype(np.float64), n, mean, accuracy))
    return Reliability(tuple(map(Bin, *columns)))


def _advice(p: Array, allowed: float) -> str:
    """Say what numbers that are no rows of probabilities may be."""
    if (p <= 0).all() and np.allclose(np.exp(p).sum(axis=1), 1, atol=allowed):
        return "log-probabilities; pass np.exp of them"
    if (p >= 0).all() and np.allclose(p.sum(axis=0), 1, atol=allowed):
        return "probabilities whose columns sum to 1; take the softmax over the classes, axis=1, or pass p.T"
    if (p >= 0).all() and np.allclose(p.sum(axis=1), 100, atol=100 * allowed):
        return "percentages; divide by 100"
    if (p >= 0).all() and (p <= 1).all():
        return "sigmoids, one for each class; these measures are for classes that exclude each other"
    return "logits; pass F.softmax(logits)"


def _checked(probabilities: Any, targets: Any, caller: str) -> tuple[Array, Array]:
    """Return probabilities (N, K) in their own float dtype and targets (N,), after checking both."""
    p = np.asarray(probabilities.data if isinstance(probabilities, Tensor) else probabilities)
    if p.dtype.kind not in "fiu":
        raise TypeError(f"{caller}: probabilities must be numbers, not {p.dtype}: {shown(probabilities)}")
    if p.ndim != 2 or p.shape[1] < 2:
        raise ValueError(
            f"{caller}: probabilities must be (N, K) with K ≥ 2 classes; got shape {p.shape}"
            + ("; of two classes give both: np.stack([1 - p, p], axis=1)" if p.ndim == 1 or p.shape[1:] == (1,) else "")
        )
    if not len(p):
        raise ValueError(f"{caller}: there are no rows: probabilities have shape {p.shape}, and no mean can be taken")
    p = p if p.dtype.kind == "f" else p.astype(np.float64)
    total = p.sum(axis=1, dtype=np.float64)
    allowed = 1e-2 if p.dtype == np.float16 else 1e-3
    wrong = ~(np.abs(total - 1) <= allowed) | (p < 0).any(axis=1)  # not ≤, so that NaN is wrong
    if wrong.any():
        i = int(np.argmax(wrong))
        row = f"row {i} is {shown(p[i].tolist())}"
        if np.isnan(p[i]).any():
            raise ValueError(f"{caller}: probabilities have NaN in {np.isnan(p).any(axis=1).sum():,} rows; {row}")
        advice = _advice(p.astype(np.float64), allowed)
        raise ValueError(
            f"{caller}: the rows of probabilities must be at least 0 and sum to 1; {row}, with the sum {total[i]:.4g}. "
            f"{wrong.sum():,} of {len(p):,} rows are so. They look like {advice}"
        )
    return p, class_indices(targets, len(p), p.shape[1], caller)
