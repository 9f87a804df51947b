"""Does the factor 1/√d_k help training? A character model with and without it, on real text.

    python examples/experiments/sqrt_dk.py            # 75 runs, about 25 minutes of one core
    python examples/experiments/sqrt_dk.py --quick    # 3 short runs, half a minute

One model, text and batch order for each seed; what differs is

    init      unit: queries and keys start with variance 1, as the argument for the factor assumes. gpt2: small weights
    scores    scaled: q·k/√d_k.  unscaled: q·k.  folded: q·k, but W_q starts divided by √d_k: the same scores at the
              start as scaled ones, without the factor in the chain rule later
    d_k       16, 64 and 128: 8, 2 heads and 1 of a model of width 128

Measured are the held-out loss and, over the queries that see two keys or more: entropy of the weights over log n, the
share of rows with a weight above 0.99, the median and the mean norm of the gradient of a row of scores (times the
number of tokens, so that it does not depend on the batch), and the share of dead rows: those where the norm of the
softmax's Jacobian, at most 0.5, is below 0.001.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from harness import options, run, save, summary, text, write

import tinygrad_sm as sm
from tinygrad_sm import data, training
from tinygrad_sm import functional as F
from tinygrad_sm.primer.attention import square_norms
from tinygrad_sm.viz.definition import with_definitions
from tinygrad_sm.viz.plot import BLUE, GREEN, ORANGE, styled

KINDS = ("scaled", "unscaled", "folded")
LOOKS = {"scaled": (BLUE, "-"), "unscaled": (ORANGE, "--"), "folded": (GREEN, ":")}
SEEN = 8  # windows of held-out text in which the attention is looked at


def trial(d_k: int, init: str, scores: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one model, and return its losses and what its attention was like before and after."""
    chosen = {**training.DEFAULT, "n_heads": 128 // d_k, "init": init, "seed": seed, "steps": steps}
    chosen |= {"scaled": scores == "scaled", "eval_every": max(1, steps // 10)}
    job = training.Run(chosen, training.prepare(None, seed))
    if scores == "folded":
        for block in job.model.blocks:
            for p in (block.attn.qkv.weight, block.attn.qkv.bias):
                p.data[:128] /= math.sqrt(d_k)  # queries come first
    found = {f"{name} at first": value for name, value in look(job).items()}
    curve = [(0, job.evaluate())]
    for step in range(1, steps + 1):
        job.advance()
        if job.due():
            curve.append((step, job.evaluate()))
    return {"loss": job.evaluate(None), **found, **look(job), "curve": curve}


def look(job: Any) -> dict[str, float]:
    """Measure weights and gradients of the attention on held-out text."""
    x, y = (part[:SEEN] for part in data.all_windows(job.corpus["held_out"], job.options["context"]))
    (loss,), _, _ = with_definitions([F.cross_entropy(job.model(x), y)], ["attention"])
    graph = sm.Graph(loss)
    rows = []
    for node in graph:
        if node.op == "softmax":
            (before,) = (graph[edge.source] for edge in graph.edges_into(node))
            w, g = (np.asarray(a, np.float64)[:, :, 1:] for a in (node.value, before.grad))  # row 0 sees one key
            n = np.log(np.arange(2, w.shape[-1] + 1))
            entropy = -(w * np.log(np.where(w > 0, w, 1))).sum(axis=-1) / n
            norms = np.linalg.norm(g, axis=-1) * y.size
            rows.append([a.ravel() for a in (entropy, w.max(axis=-1), norms, square_norms(w))])
    entropy, largest, norms, jacobian = map(np.concatenate, zip(*rows, strict=True))
    return {
        "entropy": float(entropy.mean()),
        "rows above 0.99": float((largest > 0.99).mean()),
        "median gradient": float(np.median(norms)),
        "mean gradient": float(norms.mean()),
        "dead rows": float((jacobian < 1e-3).mean()),
    }


def differences(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare unscaled and folded runs with the scaled one of the same seed: mean difference and standard error."""
    key = ("d_k", "init", "seed")
    scaled = {tuple(r[k] for k in key): r["loss"] for r in runs if r["scores"] == "scaled"}
    groups: dict[tuple[Any, ...], list[float]] = {}
    for r in runs:
        if r["scores"] != "scaled":
            gap = r["loss"] - scaled[tuple(r[k] for k in key)]
            groups.setdefault((r["d_k"], r["init"], r["scores"]), []).append(gap)
    return [
        {
            "d_k": d_k, "init": init, "scores": scores, "n": len(gaps), "loss − that of scaled": float(np.mean(gaps)),
            "standard error": float(np.std(gaps, ddof=1) / math.sqrt(len(gaps))) if len(gaps) > 1 else None,
        }
        for (d_k, init, scores), gaps in groups.items()
    ]  # fmt: skip


def draw_losses(args: Any, runs: list[dict[str, Any]]) -> None:
    """Draw the held-out loss over the steps: a panel for each d_k and init, the mean over seeds and their range."""
    widths, inits = sorted({r["d_k"] for r in runs}), sorted({r["init"] for r in runs}, reverse=True)
    with styled(len(widths), len(inits), size=(3.6, 3.0)) as (figure, axes):
        for row, init in zip(axes, inits, strict=True):
            for ax, d_k in zip(row, widths, strict=True):
                for kind, (colour, style) in LOOKS.items():
                    curves = [r["curve"] for r in runs if (r["d_k"], r["init"], r["scores"]) == (d_k, init, kind)]
                    if curves:
                        steps, losses = np.array(curves[0])[:, 0], np.array(curves)[:, :, 1]
                        ax.plot(steps, losses.mean(axis=0), style, color=colour, label=kind)
                        ax.fill_between(steps, losses.min(axis=0), losses.max(axis=0), color=colour, alpha=0.2, lw=0)
                ax.set(title=f"d_k = {d_k}, {init} init", xlabel="step", ylabel="nats, held out", ylim=(1.9, 3.2))
                ax.legend()
    save(args, "sqrt_dk_loss", figure)


def draw_attention(args: Any, runs: list[dict[str, Any]]) -> None:
    """Draw entropy and gradients at the start and at the end over d_k."""
    widths, inits = sorted({r["d_k"] for r in runs}), sorted({r["init"] for r in runs}, reverse=True)
    names = ("entropy", "median gradient", "dead rows")
    titles = ("entropy / log n", "median gradient norm of the scores", "share of dead rows")
    with styled(len(names), len(inits), size=(3.6, 3.0)) as (figure, axes):
        for row, init in zip(axes, inits, strict=True):
            for ax, name, title in zip(row, names, titles, strict=True):
                for kind, (colour, style) in LOOKS.items():
                    for when, marker in ((" at first", "o"), ("", "s")):
                        values = [
                            [r[name + when] for r in runs if (r["d_k"], r["init"], r["scores"]) == (d_k, init, kind)]
                            for d_k in widths
                        ]
                        if all(values):
                            label = f"{kind}, {'at first' if when else 'at the end'}"
                            look = {"color": colour, "ls": style, "marker": marker, "mfc": "white" if when else colour}
                            ax.plot(widths, [np.mean(v) for v in values], ms=5, label=label, **look)
                ax.set(title=f"{init} init: {title}", xlabel="d_k", xscale="log", xticks=widths)
                ax.set_xticks(widths, map(str, widths))
                ax.minorticks_off()
                if name == "median gradient":
                    ax.set_yscale("log")
                else:
                    ax.set_ylim(-0.03, 1.03)
            row[0].legend(fontsize=6)
    save(args, "sqrt_dk_attention", figure)


def main() -> None:
    """Run all settings, print the tables, and write them."""
    args = options(__doc__, "sqrt_dk")
    steps, widths = (20, [128]) if args.quick else (300, [128, 64, 16])
    settings = [
        {"d_k": d_k, "init": init, "scores": kind, "seed": seed, "steps": steps}
        for init, kinds in (("unit", KINDS), ("gpt2", KINDS[:2]))
        for d_k in widths for seed in args.seeds for kind in kinds
        if not args.quick or init == "unit"
    ]  # fmt: skip
    runs = run(args, trial, settings)
    table, paired = summary(runs, by=("init", "d_k", "scores")), differences(runs)
    print(
        text(table, ["init", "d_k", "scores", "n", "loss", "entropy", "median gradient", "mean gradient", "dead rows"])
    )
    print(text(paired))
    draw_losses(args, runs)
    draw_attention(args, runs)
    write(args, {"steps": steps, "table": table, "paired": paired, "runs": runs})


if __name__ == "__main__":
    main()
