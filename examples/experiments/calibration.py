"""Overconfidence: how large it is, and what temperature scaling and label smoothing do (Guo et al. 2017).

A perceptron learns Fashion-MNIST from 10,000 pictures, too few for it, so that it ends sure of answers that are wrong;
the same from 55,000; and scikit-learn's digits, which it hardly ever gets wrong. Each without and with label smoothing,
measured at every second epoch and, at the end, before and after a temperature fitted on held-out data.

    python examples/experiments/calibration.py            # 5 seeds, about 10 minutes on one core
    python examples/experiments/calibration.py --quick    # to see that it works
"""

from __future__ import annotations

from typing import Any

import harness
import numpy as np
from classify import has_fashion, logits_of, measure, paired, parts, perceptron, train

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm.calibration import Bin, Reliability, fit_temperature, reliability
from tinygrad_sm.viz.calibration_figures import reliability_diagram
from tinygrad_sm.viz.plot import BLUE, GREEN, ORANGE, styled

BY = ("data", "images", "smoothing")
LINES = ((BLUE, "-", "o"), (GREEN, "--", "s"), (ORANGE, ":", "^"))


def trial(data: str, images: int, epochs: int, smoothing: float, seed: int) -> dict[str, Any]:
    """Train one model; return its measures before and after temperature scaling (`_t`), bins, and curves."""
    sm.manual_seed(seed)
    d = parts(data, seed, images)
    model = perceptron(d.x.shape[1], 256, 128, 10)
    curve: list[dict[str, float]] = []

    def follow(epoch: int) -> None:
        if epoch % 2 == 0 or epoch == 1:
            now = measure(logits_of(model, d.x_test), d.y_test)
            curve.append(
                {"epoch": epoch, **{k: round(now[k], 4) for k in ("accuracy", "confidence", "ece", "nll", "brier")}}
            )

    train(model, d.x, d.y, epochs=epochs, smoothing=smoothing, batch_size=32 if data == "digits" else 128, after=follow)
    logits, learned = logits_of(model, d.x_test), measure(logits_of(model, d.x), d.y)
    t = fit_temperature(logits_of(model, d.x_held), d.y_held)
    after = {f"{name}_t": value for name, value in measure(logits, d.y_test, t).items()}
    bins = {
        name: [
            [x if x == x else None for x in b]
            for b in reliability(F.softmax(logits, temperature=temperature), d.y_test)
        ]
        for name, temperature in (("before", 1.0), ("after", t))
    }
    trained = {f"train_{name}": learned[name] for name in ("accuracy", "confidence")}
    return {**measure(logits, d.y_test), "temperature": t, **after, **trained, "curve": curve, "bins": bins}


def settings(args: Any) -> list[dict[str, Any]]:
    """List the runs: each kind of data with its smoothings, for all seeds."""
    fashion = has_fashion(args.quick)
    kinds: list[tuple[str, int, int, tuple[float, ...]]] = [("digits", 897, 20 if args.quick else 60, (0.0, 0.1))]
    if fashion and args.quick:
        kinds = [("fashion", 2000, 6, (0.0, 0.1)), *kinds]
    elif fashion:
        kinds = [("fashion", 10_000, 60, (0.0, 0.05, 0.1)), *kinds, ("fashion", 55_000, 25, (0.0, 0.1))]
    return [
        {"data": data, "images": images, "epochs": epochs, "smoothing": smoothing, "seed": seed}
        for data, images, epochs, smoothings in kinds
        for seed in args.seeds
        for smoothing in smoothings
    ]


def differences(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare each smoothing with none, seed by seed."""
    found = []
    for data, images in dict.fromkeys((one["data"], one["images"]) for one in runs):
        some = [one for one in runs if (one["data"], one["images"]) == (data, images)]
        for smoothing in sorted({one["smoothing"] for one in some} - {0.0}):
            for name in ("accuracy", "ece", "ece_classwise", "nll", "brier", "nll_t", "ece_t"):
                d = paired(some, lambda one, name=name: one[name], smoothing=(smoothing, 0.0))
                found.append({"data": data, "images": images, "smoothing": smoothing, "of": name, **d})
    return found


def draw_epochs(runs: list[dict[str, Any]], title: str) -> Any:
    """Draw accuracy, calibration error and NLL over the epochs, the mean of the seeds and their deviation."""
    names = (("accuracy", "accuracy on the test, %"), ("ece", "ECE, %"), ("nll", "NLL, nats"))
    with styled(3, 1, title, size=(3.6, 3.0)) as (figure, axes):
        for ax, (name, label) in zip(axes[0], names, strict=True):
            for smoothing, (colour, style, marker) in zip(sorted({r["smoothing"] for r in runs}), LINES, strict=False):
                curves = [r["curve"] for r in runs if r["smoothing"] == smoothing]
                epochs = [point["epoch"] for point in curves[0]]
                values = np.array([[point[name] for point in curve] for curve in curves])
                mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1) if len(values) > 1 else 0.0
                ax.plot(
                    epochs, mean, color=colour, ls=style, marker=marker, ms=3, markevery=5, label=f"ε = {smoothing:g}"
                )
                ax.fill_between(epochs, mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
            ax.set(xlabel="epoch", ylabel=label)
            if name != "accuracy":
                ax.set_ylim(bottom=0)
        axes[0, 0].legend(title="label smoothing", loc="lower right")
    return figure


def draw_bins(runs: list[dict[str, Any]], title: str) -> Any:
    """Draw reliability diagrams of the first seed: no smoothing before and after temperature scaling, and smoothing."""
    first = [r for r in runs if r["seed"] == runs[0]["seed"]]
    plain, smooth = first[0], first[-1]
    chosen = [
        (plain, "before", "ε = 0"),
        (plain, "after", f"ε = 0, T = {plain['temperature']:.2f}"),
        (smooth, "before", f"ε = {smooth['smoothing']:g}"),
        (smooth, "after", f"ε = {smooth['smoothing']:g}, T = {smooth['temperature']:.2f}"),
    ]
    found = [
        Reliability(tuple(Bin(*(np.nan if x is None else x for x in b)) for b in one["bins"][when]))
        for one, when, _ in chosen
    ]
    return reliability_diagram(found, [label for *_, label in chosen], title).figure


if __name__ == "__main__":
    args = harness.options(__doc__, "calibration")
    runs = harness.run(args, trial, settings(args))
    table = harness.summary(runs, by=BY)
    print(harness.text(table, [*BY, "accuracy", "confidence", "ece", "ece_adaptive", "ece_classwise", "mce", "nll"], 2))
    print(harness.text(table, [*BY, "temperature", "ece_t", "ece_adaptive_t", "ece_classwise_t", "mce_t", "nll_t"], 2))
    for data, images in dict.fromkeys((one["data"], one["images"]) for one in runs):
        some = [one for one in runs if (one["data"], one["images"]) == (data, images)]
        title = {"fashion": "Fashion-MNIST", "digits": "digits"}[data] + f", {images:,} training images"
        where = f"{args.name}_{data}" + ("_all" if images == 55_000 else "")
        harness.save(args, f"{where}_epochs", draw_epochs(some, f"{title}, seeds: {len(args.seeds)}"))
        harness.save(args, f"{where}_bins", draw_bins(some, f"{title}, one model each"))
    for one in runs:  # what the figures alone need is kept for the first seed
        if one["seed"] != args.seeds[0]:
            del one["bins"]
    harness.write(args, {"table": table, "differences": differences(runs), "runs": runs})
