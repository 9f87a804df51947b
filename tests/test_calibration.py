"""Measures of calibration, beside hand-computed numbers and an oracle that loops; what they refuse; their figure."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import calibration
from tinygrad_sm.calibration import (
    Bin,
    Reliability,
    brier_score,
    expected_calibration_error,
    maximum_calibration_error,
    nll,
    reliability,
)

BINNED = [reliability, expected_calibration_error, maximum_calibration_error]
ALL = [*BINNED, brier_score, nll]


def sample(n: int, classes: int, seed: int = 0, scale: float = 2.0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    p = F.softmax(scale * rng.normal(size=(n, classes)))
    return p, rng.integers(classes, size=n)


@st.composite
def samples(draw: Any) -> tuple[Any, Any]:
    """Draw rows of eighths, so that confidences are equal, and at the edges of bins, often."""
    n, classes = draw(st.integers(1, 30)), draw(st.integers(2, 4))
    cuts = st.lists(st.integers(0, 8), min_size=classes - 1, max_size=classes - 1).map(sorted)
    p = np.array([np.diff([0, *draw(cuts), 8]) for _ in range(n)]) / 8
    return p, np.array(draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)))


# -- an oracle: loops, exact edges, and sums of fractions ------------------------------------


def slow_bins(confidence: list[float], right: list[bool], bins: int, adaptive: bool) -> list[list[int]]:
    """Return which examples are in each bin."""
    if adaptive:
        ordered = sorted(confidence)
        edges = [Fraction(ordered[max(0, math.ceil(Fraction(m * len(ordered), bins)) - 1)]) for m in range(1, bins + 1)]
    else:
        edges = [Fraction(m / bins) for m in range(1, bins + 1)]
    found: list[list[int]] = [[] for _ in range(bins)]
    for i, c in enumerate(confidence):
        found[next(m for m in range(bins) if Fraction(c) <= edges[m] or m == bins - 1)].append(i)
    return found


def slow_gaps(confidence: list[float], right: list[bool], bins: int, adaptive: bool) -> list[tuple[int, Fraction]]:
    """Return the count and |accuracy − confidence| of each bin that is not empty."""
    gaps = []
    for members in slow_bins(confidence, right, bins, adaptive):
        if members:
            mean = sum(Fraction(confidence[i]) for i in members) / len(members)
            gaps.append((len(members), abs(Fraction(sum(bool(right[i]) for i in members), len(members)) - mean)))
    return gaps


def slow_errors(p: Any, y: Any, bins: int, adaptive: bool) -> tuple[float, float, float]:
    """Return ECE, MCE and class-wise ECE."""
    rows, n = p.tolist(), len(p)
    gaps = slow_gaps(
        [max(r) for r in rows], [r.index(max(r)) == t for r, t in zip(rows, y, strict=True)], bins, adaptive
    )
    each = [
        sum(c * g for c, g in slow_gaps([r[k] for r in rows], [t == k for t in y], bins, adaptive)) / n
        for k in range(p.shape[1])
    ]
    return float(sum(c * g for c, g in gaps) / n), float(max(g for _, g in gaps)), float(sum(each) / len(each))


@given(samples(), st.integers(1, 20), st.booleans())
def test_the_errors_are_those_of_the_oracle(drawn: Any, bins: int, adaptive: bool) -> None:
    p, y = drawn
    ece, mce, classwise = slow_errors(p, y, bins, adaptive)
    assert expected_calibration_error(p, y, bins, adaptive=adaptive) == pytest.approx(ece, abs=1e-12)
    assert maximum_calibration_error(p, y, bins, adaptive=adaptive) == pytest.approx(mce, abs=1e-12)
    both = expected_calibration_error(p, y, bins, adaptive=adaptive, classwise=True)
    assert both == pytest.approx(classwise, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 10, 300])
@pytest.mark.parametrize("adaptive", [False, True])
def test_the_errors_of_softmaxes_are_those_of_the_oracle(classes: int, adaptive: bool) -> None:
    p, y = sample(400, classes)
    found = reliability(p, y, adaptive=adaptive)
    ece, mce, classwise = slow_errors(p, y, 15, adaptive)
    assert (found.ece, found.mce) == pytest.approx((ece, mce), abs=1e-12)
    assert expected_calibration_error(p, y, adaptive=adaptive, classwise=True) == pytest.approx(classwise, abs=1e-12)


# -- by hand ---------------------------------------------------------------------------------

P = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
Y = np.array([0, 1, 1, 1])


def test_bins_by_hand() -> None:
    found = reliability(P, Y, bins=5)
    empty, counts = [b for b in found if not b.count], [b.count for b in found]
    assert counts == [0, 0, 1, 2, 1]  # 0.6 | 0.7 and 0.8 | 0.9
    assert all(math.isnan(b.confidence) and math.isnan(b.accuracy) for b in empty)
    assert found[3] == Bin(0.6, 0.8, 2, pytest.approx(0.75), 0.5)
    assert (found.accuracy, found.confidence, found.count) == (0.75, pytest.approx(0.75), 4)
    assert found.ece == pytest.approx((0.4 + 2 * 0.25 + 0.1) / 4)
    assert found.mce == pytest.approx(0.4)
    assert len(found) == 5
    assert list(found)[4] == found[4]


def test_adaptive_by_hand() -> None:
    found = reliability(P, Y, bins=2, adaptive=True)
    assert [b.count for b in found] == [2, 2]  # 0.6 and 0.7 | 0.8 and 0.9
    assert [b.high for b in found] == [0.7, 0.9]
    assert found.ece == pytest.approx((abs(1 - 0.65) + abs(0.5 - 0.85)) / 2)


def test_classwise_by_hand() -> None:
    # class 0: .9 (right), .8, .3, .4; class 1: .1, .2 (right), .7 (right), .6 (right); two bins
    zero = (2 * abs(0 - 0.35) + 2 * abs(0.5 - 0.85)) / 4
    one = (2 * abs(0.5 - 0.15) + 2 * abs(1 - 0.65)) / 4
    assert expected_calibration_error(P, Y, 2, classwise=True) == pytest.approx((zero + one) / 2)


def test_brier_and_nll_by_hand() -> None:
    assert brier_score(P, Y) == pytest.approx(2 * (0.1**2 + 0.8**2 + 0.3**2 + 0.4**2) / 4)
    assert nll(P, Y) == pytest.approx(-math.log(0.9 * 0.2 * 0.7 * 0.6) / 4)
    assert (brier_score([[1, 0]], [0]), nll([[1, 0]], [0]), str(nll([[1, 0]], [0]))) == (0, 0, "0.0")
    assert (brier_score([[1, 0]], [1]), nll([[1, 0]], [1])) == (2, math.inf)


def test_brier_and_nll_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    p, y = sample(200, 5)
    assert nll(p, y) == pytest.approx(metrics.log_loss(y, p))
    assert nll(p, y) == pytest.approx(F.nll_loss(np.log(p), y))
    p2, y2 = sample(200, 2)
    assert brier_score(p2, y2) == pytest.approx(2 * metrics.brier_score_loss(y2, p2[:, 1]))


# -- edges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bins", [5, 10, 15])
def test_a_bin_is_closed_on_the_right_in_each_dtype(dtype: Any, bins: int) -> None:
    edges = [m / bins for m in range(bins // 2 + 1, bins + 1)]  # as confidences: above one half
    for m, edge in enumerate(edges, bins // 2):
        p = np.array([[edge, 1 - edge]], dtype)
        assert [b.count for b in reliability(p, [0], bins)].index(1) == m, edge
        above = np.nextafter(dtype(edge), dtype(2))
        if edge < 1:
            p = np.array([[above, 1 - above]], dtype)
            assert [b.count for b in reliability(p, [0], bins)].index(1) == m + 1


def test_confidence_one_is_in_the_last_bin_and_zero_in_the_first() -> None:
    assert reliability([[1, 0], [0, 1]], [0, 1])[14] == Bin(pytest.approx(14 / 15), 1.0, 2, 1.0, 1.0)
    assert expected_calibration_error([[1, 0], [0, 1]], [0, 1], classwise=True) == 0
    assert expected_calibration_error([[1, 0], [0, 1]], [1, 0], classwise=True) == 1
    p = np.array([[np.nextafter(np.float32(1), np.float32(2)), 0]], np.float32)  # a softmax may round to this
    assert reliability(p, [0])[14].count == 1


def test_of_equal_probabilities_the_first_class_is_the_answer() -> None:
    assert reliability([[0.5, 0.5]], [0]).accuracy == 1
    assert reliability([[0.5, 0.5]], [1]).accuracy == 0


@pytest.mark.parametrize("adaptive", [False, True])
def test_one_example(adaptive: bool) -> None:
    found = reliability([[0.25, 0.75]], [1], adaptive=adaptive)
    assert (found.ece, found.mce, found.count) == (0.25, 0.25, 1)
    assert sum(b.count for b in found) == 1


def test_equal_confidences_stay_together_in_adaptive_bins() -> None:
    p = np.array([[0.75, 0.25]] * 10 + [[0.9, 0.1]] * 2)
    y = np.array([0, 1] * 5 + [0, 0])
    found = reliability(p, y, bins=4, adaptive=True)
    assert [b.count for b in found] == [10, 0, 0, 2]
    assert found[0].accuracy == 0.5


def test_all_take_tensors_lists_and_unsigned_targets() -> None:
    for measure in ALL:
        want = str(measure(P, Y))
        assert str(measure(sm.Tensor(P), sm.Tensor(Y))) == want
        assert str(measure(P.tolist(), Y.tolist())) == want
        assert str(measure(P, Y.astype(np.uint8))) == want


def test_nothing_given_is_changed() -> None:
    p, y = P.copy(), Y.copy()
    for measure in ALL:
        measure(p, y)
    np.testing.assert_array_equal(p, P)
    np.testing.assert_array_equal(y, Y)


# -- properties ------------------------------------------------------------------------------


@given(samples(), st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_examples_means_nothing(drawn: Any, random: Any, adaptive: bool) -> None:
    p, y = drawn
    order = list(range(len(p)))
    random.shuffle(order)
    for measure in (expected_calibration_error, maximum_calibration_error):
        assert measure(p[order], y[order], adaptive=adaptive) == pytest.approx(measure(p, y, adaptive=adaptive))
    for measure in (brier_score, nll):
        assert measure(p[order], y[order]) == pytest.approx(measure(p, y))


@given(samples(), st.integers(1, 20), st.booleans())
def test_what_must_hold_for_all(drawn: Any, bins: int, adaptive: bool) -> None:
    p, y = drawn
    found = reliability(p, y, bins, adaptive=adaptive)
    assert sum(b.count for b in found) == len(y) == found.count
    assert found.accuracy == pytest.approx(np.mean(p.argmax(axis=1) == y))
    assert found.confidence == pytest.approx(p.max(axis=1).mean())
    assert abs(found.accuracy - found.confidence) - 1e-12 <= found.ece <= found.mce + 1e-12
    assert found.mce <= 1
    assert 0 <= brier_score(p, y) <= 2
    for b in found:
        assert not b.count or (adaptive and b.low == 0) or b.low - 1e-12 <= b.confidence <= b.high + 1e-12


def test_one_bin_compares_the_means_alone() -> None:
    p, y = sample(100, 4)
    assert reliability(p, y, 1).ece == pytest.approx(abs(np.mean(p.argmax(1) == y) - p.max(1).mean()))


def test_targets_drawn_from_the_probabilities_are_calibrated() -> None:
    """Perfect by construction: what is left falls as 1/√N."""
    errors = []
    for n in (1000, 100_000):
        p, _ = sample(n, 5, scale=1.5)
        y = (np.random.default_rng(1).random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=4)
        errors.append([
            expected_calibration_error(p, y, adaptive=adaptive, classwise=classwise)
            for adaptive in (False, True) for classwise in (False, True)
        ])  # fmt: skip
    assert max(errors[1]) < 0.01
    assert all(large < small / 3 for small, large in zip(*errors, strict=True))


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize(
    ("p", "y", "kind", "message"),
    [
        ([[2.0, -1.0, 5.0]], [0], ValueError,
         r"sum to 1; row 0 is \[2.0, -1.0, 5.0\], with the sum 6. .*look like logits; pass F.softmax\(logits\)"),
        ([[0.5, 0.5], [1.5, -0.5]], [0, 0], ValueError, r"at least 0 and sum to 1; row 1 .* 1 of 2 rows"),
        (np.log([[0.5, 0.5], [0.1, 0.9]]), [0, 0], ValueError, r"look like log-probabilities; pass np.exp"),
        ([[0.5, 0.5], [np.nan, 0.5]], [0, 0], ValueError, r"have NaN in 1 rows; row 1 is \[nan, 0.5\]"),
        ([[np.inf, 0.5]], [0], ValueError, r"sum to 1; row 0 is \[inf, 0.5\]"),
        (np.zeros((0, 3)), [], ValueError, r"there are no rows: probabilities have shape \(0, 3\)"),
        ([0.2, 0.8], [0, 1], ValueError, r"must be \(N, K\).*got shape \(2,\); of two classes give both: np.stack"),
        ([[0.2], [0.8]], [0, 1], ValueError, r"K ≥ 2 classes; got shape \(2, 1\); of two classes give both"),
        (np.full((2, 2, 2), 0.5), [0, 1], ValueError, r"must be \(N, K\) .* got shape \(2, 2, 2\)$"),
        ([["a", "b"]], [0], TypeError, r"probabilities must be numbers"),
        ([[0.5, 0.5]], [2], IndexError, r"target 2 of row 0 is out of range for 2 classes; 1 are.*\[keep\]"),
        ([[0.5, 0.5]] * 2, [0, -100], IndexError, r"target -100 of row 1"),
        ([[0.5, 0.5]], [0.0], TypeError, r"targets must be integers, .* not float64"),
        ([[0.5, 0.5]], [True], TypeError, r"targets must be integers, .* not bool"),
        ([[0.5, 0.5]], [[1, 0]], ValueError, r"shape \(1,\).*got \(1, 2\); of one-hot targets pass targets.argmax"),
        ([[0.5, 0.5]], [0, 1], ValueError, r"targets must have shape \(1,\), one for each row; got \(2,\)$"),
    ],
)  # fmt: skip
def test_an_error_says_what_is_wrong(measure: Any, p: Any, y: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=f"^{measure.__name__}: .*{message}"):
        measure(p, y)


@pytest.mark.parametrize("measure", BINNED)
@pytest.mark.parametrize(("bins", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_bins_are_a_count(measure: Any, bins: Any, kind: Any) -> None:
    with pytest.raises(kind, match=f"{measure.__name__}: bins must be"):
        measure(P, Y, bins)
    with pytest.raises(TypeError, match=f"{measure.__name__}: adaptive must be True or False"):
        measure(P, Y, adaptive="mass")


def test_rows_may_be_off_by_rounding() -> None:
    p = sample(50, 1000)[0].astype(np.float16)
    assert 0 <= expected_calibration_error(p, np.zeros(50, int)) <= 1
    assert reliability([[0.333, 0.333, 0.333]], [0]).count == 1


# -- table and figure ------------------------------------------------------------------------


def test_the_table() -> None:
    lines = repr(reliability(P, Y, bins=5)).splitlines()
    assert lines[0].split() == ["confidence", "in", "count", "confidence", "accuracy", "gap"]
    assert lines[1].split() == ["(0.000,", "0.200]", "0"]
    assert lines[4].split() == ["(0.600,", "0.800]", "2", "0.750", "0.500", "-0.250"]
    assert lines[-2].split() == ["all", "4", "0.750", "0.750", "+0.000"]
    assert lines[-1] == "ECE 0.2500, MCE 0.4000"


def test_the_figure_has_the_numbers() -> None:
    pytest.importorskip("matplotlib")
    found = reliability(P, Y, bins=5)
    plot = found.plot(title="four")
    histogram, diagram = plot.figure.axes
    assert [bar.get_height() for bar in histogram.patches] == [0.25, 0.5, 0.25]
    assert [line.get_xdata()[0] for line in histogram.lines] == [found.accuracy, found.confidence]
    bars = [bar for bar in diagram.patches if bar.get_width() and not bar.get_hatch()]
    assert [bar.get_height() for bar in bars] == [1, 0.5, 1]
    assert [bar.get_alpha() for bar in bars] == [0.35] * 3  # each of fewer than ten
    gaps = [bar for bar in diagram.patches if bar.get_hatch()]
    assert [bar.get_y() for bar in gaps] == pytest.approx([0.6, 0.5, 0.9])
    assert [bar.get_height() for bar in gaps] == pytest.approx([0.4, 0.25, 0.1])
    assert [text.get_text() for text in diagram.texts] == ["ECE 25.0 %"]
    assert (plot.figure.get_suptitle(), plot.alt) == ("four", "reliability of 4 answers; ECE 0.250")


def test_a_reliability_can_be_made_of_bins() -> None:
    found = Reliability((Bin(0, 0.5, 0, math.nan, math.nan), Bin(0.5, 1, 4, 0.9, 0.5)))
    assert (found.ece, found.mce, found.count) == (pytest.approx(0.4), pytest.approx(0.4), 4)
    assert set(calibration.__all__) <= set(dir(calibration))


THREE = np.array([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1]])


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (100 * THREE, "percentages; divide by 100"),
        (np.array([[0.9, 0.8], [0.3, 0.1], [0.5, 0.2]]), "sigmoids, one for each class"),
        (sm.softmax(np.log(THREE), axis=0), "whose columns sum to 1; take the softmax over the classes"),
        (np.log(THREE), "log-probabilities; pass np.exp of them"),
        (3 * THREE - 1, "logits; pass F.softmax"),
    ],
)
def test_what_is_given_in_place_of_probabilities_is_named(given: Any, advice: str) -> None:
    with pytest.raises(ValueError, match=re.escape(advice)):
        sm.calibration.reliability(given, [0, 1, 0])


def test_a_temperature_is_fitted_to_logits_not_to_probabilities() -> None:
    with pytest.raises(ValueError, match="it takes logits, but every row is a distribution"):
        sm.calibration.fit_temperature(THREE, [0, 1, 0])


@pytest.mark.parametrize(
    ("targets", "advice"),
    [([[0], [1], [0]], "targets.ravel()"), ([0.0, 1.0, 0.0], ".astype(int)"), ([True, False, True], ".astype(int)")],
)
def test_targets_of_another_kind_are_told_how_to_change(targets: Any, advice: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(advice)):
        sm.calibration.brier_score(THREE, targets)
