"""Does the factor 1/√d_k help training? A character model with and without it, on real text.

    python examples/experiments/sqrt_dk.py            # 90 runs, about 25 minutes of one core
    python examples/experiments/sqrt_dk.py --quick    # 4 short runs, 15 seconds of one core

For each seed the model starts with the same weights and sees the same batches; what differs is

    d_k       16, 64 and 128: 8 heads, 2 and 1 of a model of width 128
    init      unit: queries and keys start with variance 1, as the argument for the factor assumes. gpt2: small weights
    scores    scaled: q·k/√d_k.  unscaled: q·k.  The others find out what it is about the factor that counts:
              folded: q·k, but W_q starts divided by √d_k: scores as spread as scaled ones, but only at the start
              slowed: q·k, but W_q and W_k take steps 1/√d_k as long: spread scores, which move as slowly as scaled ones
              (with GPT-2's init more slowly: q and k, which start small, both grow 1/√d_k as fast)
              folded, slowed: W_q starts divided, and takes steps 1/√d_k as long. That is "scaled" in other variables

Measured are the held-out loss and, over the queries that see two keys or more: entropy of the weights over log n, the
share of rows with a weight above 0.99, the median and the mean norm of the gradient of a row of scores (times the
number of tokens, so that it does not depend on the batch), and the share of dead rows: those where the norm of the
softmax's Jacobian, at most 0.5, is below 0.001.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import sqrt_dk_figures
from harness import options, run, save, summary, write
from tables import markdown, spread

import tinygrad_sm as sm
from tinygrad_sm import data, training
from tinygrad_sm import functional as F
from tinygrad_sm.primer.attention import square_norms
from tinygrad_sm.viz.definition import with_definitions

KINDS = ("scaled", "unscaled", "folded", "slowed", "folded, slowed")
GROUP = ("init", "d_k", "scores")
MEASURED = {
    "entropy": ".2f", "rows above 0.99": ".0%", "median gradient": ".2g", "mean gradient": ".2g", "dead rows": ".0%"
}  # fmt: skip
SEEN = 8  # windows of held-out text in which the attention is looked at


def trial(d_k: int, init: str, scores: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one model, and return its losses and what its attention was like before and after."""
    chosen = {**training.DEFAULT, "n_heads": 128 // d_k, "init": init, "seed": seed, "steps": steps}
    chosen |= {"scaled": scores == "scaled", "eval_every": max(1, steps // 10)}
    job = training.Run(chosen, training.prepare(None, seed))
    qkv = [p for block in job.model.blocks for p in (block.attn.qkv.weight, block.attn.qkv.bias)]
    if "folded" in scores:
        for p in qkv:
            p.data[:128] /= math.sqrt(d_k)  # the rows are those of queries, keys, values: 128 each
    slow = slice(128 if "folded" in scores else 256)  # small queries make the steps of the keys small already
    found = {f"{name} at first": value for name, value in look(job).items()}
    curve = [(0, job.evaluate())]
    for step in range(1, steps + 1):
        before = [p.data[slow].copy() for p in qkv]
        job.advance()
        if "slowed" in scores:
            for p, old in zip(qkv, before, strict=True):
                p.data[slow] = old + (p.data[slow] - old) / math.sqrt(d_k)
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
    """Compare each run with the scaled one of the same seed: the mean difference in loss, and its standard error."""
    scaled = {(r["init"], r["d_k"], r["seed"]): r["loss"] for r in runs if r["scores"] == "scaled"}
    gaps = [{**r, "difference": r["loss"] - scaled[r["init"], r["d_k"], r["seed"]]} for r in runs]
    return [
        {**{key: row[key] for key in (*GROUP, "n")}, "difference": row["difference"]["mean"],
         "standard error": row["difference"]["sd"] and row["difference"]["sd"] / math.sqrt(row["n"])}
        for row in summary(gaps, GROUP) if row["scores"] != "scaled"
    ]  # fmt: skip


def tables(table: list[dict[str, Any]], paired: list[dict[str, Any]]) -> list[str]:
    """Return two tables as Markdown: of the losses, and of the attention at the start and at the end."""
    gaps = {tuple(row[key] for key in GROUP): row for row in paired}
    losses, attention = [], []
    for row in sorted(table, key=lambda r: (r["init"] != "unit", -r["d_k"], KINDS.index(r["scores"]))):
        name = [row["init"], str(row["d_k"]), row["scores"]]
        gap = gaps.get(tuple(row[key] for key in GROUP))
        error = "" if gap is None or gap["standard error"] is None else f" ± {gap['standard error']:.3f}"
        losses.append([*name, spread(row["loss"], ".3f"), "" if gap is None else f"{gap['difference']:+.3f}{error}"])
        attention.append(
            name + [f"{row[k + ' at first']['mean']:{f}} → {row[k]['mean']:{f}}" for k, f in MEASURED.items()]
        )
    return [
        markdown([*GROUP, "held-out loss", "paired difference to scaled"], losses),
        markdown([*GROUP, *MEASURED], attention),
    ]


def main() -> None:
    """Run all settings, print the tables, and write them."""
    args = options(__doc__, "sqrt_dk")
    if args.quick:
        steps, grid = 10, [("unit", 128, KINDS[:4])]
    else:
        steps, grid = 300, [
            ("unit", 128, KINDS), ("unit", 64, KINDS[:3]), ("unit", 16, KINDS[:3]),
            ("gpt2", 128, ("scaled", "unscaled", "slowed")), ("gpt2", 64, KINDS[:2]), ("gpt2", 16, KINDS[:2]),
        ]  # fmt: skip
    settings = [
        {"d_k": d_k, "init": init, "scores": kind, "seed": seed, "steps": steps}
        for init, d_k, kinds in grid for seed in args.seeds for kind in kinds
    ]  # fmt: skip
    runs = run(args, trial, settings)
    table, paired = summary(runs, by=GROUP), differences(runs)
    print(*tables(table, paired), sep="\n\n")
    save(args, "sqrt_dk_loss", sqrt_dk_figures.losses(runs))
    save(args, "sqrt_dk_attention", sqrt_dk_figures.attention(runs))
    write(args, {"steps": steps, "table": table, "paired": paired, "runs": runs})


if __name__ == "__main__":
    main()
