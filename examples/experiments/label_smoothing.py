"""Label smoothing: accuracy, calibration, clusters, and what a student learns from a smoothed teacher.

Müller, Kornblith and Hinton (2019), When Does Label Smoothing Help?, say that it draws the examples of a class together
in the layer before the last, which erases how they resemble other classes, so that a smoothed teacher distils worse. A
perceptron learns Fashion-MNIST from 10,000 pictures with smoothing ε (Szegedy et al. 2015); small students then learn
from its softmax at several temperatures, or alone from the labels, the same pictures or a tenth of them.

    python examples/experiments/label_smoothing.py            # 5 seeds, 10 to 25 minutes on one core
    python examples/experiments/label_smoothing.py --quick    # to see that it works
"""

from __future__ import annotations

from typing import Any

import harness
import numpy as np
from classify import CLASSES, difference, has_fashion, logits_of, measure, paired, parts, perceptron, train

import tinygrad_sm as sm
from tinygrad_sm import nn
from tinygrad_sm.calibration import fit_temperature
from tinygrad_sm.images import CLASSES as NAMES
from tinygrad_sm.viz.cards import INK
from tinygrad_sm.viz.plot import BLUE, GREEN, ORANGE, PURPLE, styled

SMOOTHINGS = (0.0, 0.1, 0.2)
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
THREE = (2, 4, 1)  # two classes that resemble each other, pullover and coat, and one that does not, trouser
PICTURES = {"all": (1, 1), "few": (10, 3)}  # for students: one of 10 that the teacher had, 3 times as many epochs
SHOWN = 100  # examples of each class in the figure
LOOKS = ((BLUE, "o"), (ORANGE, "^"), (GREEN, "s"))


def trial(data: str, images: int, epochs: int, smoothing: float, seed: int, student: int) -> dict[str, Any]:
    """Train a teacher with smoothing, and students from it and from the labels alone; return what was measured."""
    d = parts(data, seed, images)
    batch_size = 32 if data == "digits" else 128
    sm.manual_seed(seed)
    teacher = perceptron(d.x.shape[1], 256, 128, CLASSES)
    train(teacher, d.x, d.y, epochs=epochs, smoothing=smoothing, batch_size=batch_size)
    logits = logits_of(teacher, d.x_test)
    t = fit_temperature(logits_of(teacher, d.x_held), d.y_held)
    found: dict[str, Any] = {**measure(logits, d.y_test), "temperature": t}
    found |= {f"{name}_t": value for name, value in measure(logits, d.y_test, t).items() if name in ("ece", "nll")}
    body = nn.Sequential(*teacher[:-1])
    hidden = {"train": logits_of(body, d.x), "test": logits_of(body, d.x_test)}
    labels = {"train": d.y, "test": d.y_test}
    templates = teacher[-1].weight.data  # one for each class, in its row
    planes = {}
    for part, h in hidden.items():
        y = labels[part]
        found[f"spread_{part}"] = spread(h, y)
        z = logits_of(teacher[-1], h)
        found[f"spread_logits_{part}"] = spread(z - z.mean(axis=1, keepdims=True), y)  # a shift of a row means nothing
        at = plane(h, templates)
        three = np.isin(y, THREE)
        found[f"spread_plane_{part}"] = spread(at[three], y[three])
        planes[part] = [np.round(at[y == k][:SHOWN], 3).tolist() for k in THREE]
    taught = {"alone": (d.y, 1.0)} | {f"distilled_{t:g}": (logits_of(teacher, d.x), t) for t in TEMPERATURES}
    for name, (target, warmth) in taught.items():
        for pictures, (n, times) in PICTURES.items():
            sm.manual_seed(1000 + seed)  # all students of a seed start alike, and see the pictures in the same order
            model, m = perceptron(d.x.shape[1], student, CLASSES), len(d.x) // n
            train(model, d.x[:m], target[:m], epochs=epochs * times, smoothing=smoothing, temperature=warmth,
                  batch_size=batch_size)  # fmt: skip
            now = measure(logits_of(model, d.x_test), d.y_test)
            found |= {f"{pictures}_{name}_{what}": now[what] for what in ("accuracy", "nll", "ece")}
            found[f"{pictures}_{name}_held"] = measure(logits_of(model, d.x_held), d.y_held)["accuracy"]
    return {**found, "planes": planes}


def spread(x: Any, y: Any) -> float:
    """Return the variance within the classes over the whole variance: 0 if each class is a point, 1 if all coincide."""
    x = x.astype(np.float64)
    means = np.stack([x[y == k].mean(axis=0) if (y == k).any() else x[0] for k in range(CLASSES)])
    return float(((x - means[y]) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


def plane(hidden: Any, templates: Any) -> Any:
    """Project onto the plane through the templates of THREE classes; return coordinates (N, 2).

    The template of a class is its row of the last layer's weights (Müller et al. 2019, section 2).
    """
    a, b, c = templates[list(THREE)].astype(np.float64)
    basis, _ = np.linalg.qr(np.stack([b - a, c - a], axis=1))
    return hidden @ basis


def settings(args: Any) -> list[dict[str, Any]]:
    """List the runs: one for each smoothing and seed."""
    data = "fashion" if has_fashion(args.quick) else "digits"
    images, epochs = (10_000, 60) if not args.quick else (2000, 3) if data == "fashion" else (897, 5)
    return [
        {"data": data, "images": images, "epochs": epochs, "smoothing": smoothing, "seed": seed, "student": 32}
        for seed in args.seeds
        for smoothing in (SMOOTHINGS[:2] if args.quick else SMOOTHINGS)
    ]


def verdicts(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare smoothed with not, and students with each other, seed by seed: mean difference and its standard error.

    The temperature of distillation is chosen for each teacher by the mean accuracy of its students on held-out data.
    """
    found = []
    kinds = sorted({one["smoothing"] for one in runs})
    for smoothing in kinds[1:]:
        for name in (
            "accuracy", "nll", "nll_t", "ece", "ece_t", "brier", "spread_train", "spread_test", "spread_plane_train",
            "spread_plane_test", "spread_logits_train", "spread_logits_test", "all_alone_accuracy",
            "few_alone_accuracy",
        ):  # fmt: skip
            d = paired(runs, lambda one, name=name: one[name], smoothing=(smoothing, 0.0))
            found.append({"claim": f"smoothed − not, {name}", "smoothing": smoothing, **d})
    for pictures in PICTURES:
        found += [{"pictures": pictures, **d} for d in _students(runs, kinds, pictures)]
    return found


def _students(runs: list[dict[str, Any]], kinds: list[float], pictures: str) -> list[dict[str, Any]]:
    """Compare the students that saw all pictures, or few."""
    of = {k: {one["seed"]: one for one in runs if one["smoothing"] == k} for k in kinds}
    seeds, found, best = sorted(of[0.0]), [], {}

    def accuracy(smoothing: float, seed: int, name: str) -> float:
        return of[smoothing][seed][f"{pictures}_{name}_accuracy"]

    for k in kinds:
        held = {t: np.mean([one[f"{pictures}_distilled_{t:g}_held"] for one in of[k].values()]) for t in TEMPERATURES}
        best[k] = max(held, key=held.__getitem__)
        gain = [accuracy(k, s, f"distilled_{best[k]:g}") - accuracy(0.0, s, "alone") for s in seeds]
        claim = "student of this teacher − student alone"
        found.append({"claim": claim, "smoothing": k, "temperature": best[k], **difference(gain)})
    for k in kinds[1:]:
        for t in TEMPERATURES:
            less = [accuracy(k, s, f"distilled_{t:g}") - accuracy(0.0, s, f"distilled_{t:g}") for s in seeds]
            claim = "student of this teacher − of the plain teacher, both at this temperature"
            found.append({"claim": claim, "smoothing": k, "temperature": t, **difference(less)})
        less = [accuracy(k, s, f"distilled_{best[k]:g}") - accuracy(0.0, s, f"distilled_{best[0.0]:g}") for s in seeds]
        claim = "student of this teacher − of the plain teacher"
        found.append({"claim": claim, "smoothing": k, "temperature": best[k], **difference(less)})
    return found


def draw_planes(runs: list[dict[str, Any]]) -> Any:
    """Draw Müller's projection of the first seed: a row for each smoothing, training and test examples beside."""
    chosen = {one["smoothing"]: one for one in runs if one["seed"] == runs[0]["seed"]}
    chosen = {k: chosen[k] for k in (0.0, 0.1)}
    names = NAMES if runs[0]["data"] == "fashion" else [f"digit {k}" for k in range(CLASSES)]
    title = "The layer before the last, on the plane through the templates of three classes"
    with styled(2, 2, title, size=(3.6, 3.1)) as (figure, axes):
        for row, (smoothing, one) in zip(axes, chosen.items(), strict=True):
            for ax, part in zip(row, ("train", "test"), strict=True):
                for points, k, (colour, marker) in zip(one["planes"][part], THREE, LOOKS, strict=True):
                    x, y = np.array(points).T
                    ax.scatter(x, y, s=9, c=colour, marker=marker, alpha=0.6, linewidths=0, label=names[k])
                number = one[f"spread_plane_{part}"]
                ax.set_title(f"ε = {smoothing:g}, {part}: {100 * number:.1f} % of variance within", fontsize=9)
                ax.set(xlabel="first axis of the plane", ylabel="second axis")
                ax.set_aspect("equal", adjustable="datalim")
        axes[0, 0].legend(fontsize=8)
    return figure


def draw_students(runs: list[dict[str, Any]]) -> Any:
    """Draw the accuracy of the students over the temperature, for each teacher; the mean of the seeds and its error."""
    looks = ((BLUE, "-", "o"), (GREEN, "--", "s"), (ORANGE, "-.", "^"), (PURPLE, ":", "D"))
    images = runs[0]["images"]
    with styled(2, 1, "Students of smoothed and unsmoothed teachers", size=(4.2, 3.4)) as (figure, axes):
        for ax, (pictures, (n, _)) in zip(axes[0], PICTURES.items(), strict=True):
            for smoothing, (colour, style, marker) in zip(sorted({r["smoothing"] for r in runs}), looks, strict=False):
                some = [one for one in runs if one["smoothing"] == smoothing]
                values = np.array([[r[f"{pictures}_distilled_{t:g}_accuracy"] for t in TEMPERATURES] for r in some])
                error = values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
                line = {"color": colour, "ls": style, "marker": marker, "ms": 4, "capsize": 2}
                ax.errorbar(TEMPERATURES, values.mean(axis=0), error, label=f"teacher with ε = {smoothing:g}", **line)
            alone = [one[f"{pictures}_alone_accuracy"] for one in runs if one["smoothing"] == 0]
            ax.axhline(np.mean(alone), color=INK, lw=1, label="no teacher")
            ax.set_xscale("log", base=2)
            ax.set_xticks(TEMPERATURES, [f"{t:g}" for t in TEMPERATURES])
            ax.set(xlabel="temperature of distillation", title=f"{images // n:,} pictures for the student")
        axes[0, 0].set_ylabel("accuracy of the student, %")
        axes[0, 0].legend(fontsize=8)
    return figure


if __name__ == "__main__":
    args = harness.options(__doc__, "label_smoothing")
    runs = harness.run(args, trial, settings(args))
    table = harness.summary(runs, by=("smoothing",))
    print(
        harness.text(table, ["smoothing", "accuracy", "confidence", "ece", "nll", "temperature", "ece_t", "nll_t"], 2)
    )
    print(
        harness.text(
            table, ["smoothing", *(f"spread_{w}{p}" for w in ("", "plane_", "logits_") for p in ("train", "test"))]
        )
    )
    names = ["alone", *(f"distilled_{t:g}" for t in TEMPERATURES)]
    for pictures in PICTURES:
        print(harness.text(table, ["smoothing", *(f"{pictures}_{name}_accuracy" for name in names)], 2))
    judged = verdicts(runs)
    for v in judged:
        error = "" if v["se"] is None else f" ± {v['se']:.3f}"
        where = f"{v['pictures']}, T = {v['temperature']:g}: " if "pictures" in v else ""
        print(f"ε = {v['smoothing']:<4g} {where}{v['claim']}: {v['mean']:+.3f}{error}")
    harness.save(args, f"{args.name}_clusters", draw_planes(runs))
    harness.save(args, f"{args.name}_students", draw_students(runs))
    for one in runs:  # what the figure alone needs is kept for the first seed
        if one["seed"] != args.seeds[0]:
            del one["planes"]
    harness.write(args, {"table": table, "differences": judged, "runs": runs})
