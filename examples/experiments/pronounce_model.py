"""Train the encoder-decoder Transformer that pronounces words; one that is trained is kept in a file ."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pronunciations as data

import tinygrad_sm as sm
from tinygrad_sm import nn, optim

FOLDER = Path("runs/pronounce")


def new_model(d_model: int = 128) -> nn.Transformer:
    """Return a model of two blocks on either side, with four heads."""
    return nn.Transformer(
        len(data.LETTERS), len(data.PHONES) + data.FIRST, d_model=d_model, n_heads=4, n_layers=2, context=data.CONTEXT
    )


def trained(
    train: data.Pairs, *, words: int, steps: int, smoothing: float, seed: int, d_model: int = 128,
    batch_size: int = 256, reuse: bool = True,
) -> tuple[nn.Transformer, float]:  # fmt: skip
    """Return a model trained on `words` of the words with label smoothing, and the processor's seconds that took.

    The seed chooses the words, their order and the first weights; two runs that differ in `smoothing` share all three.
    With `reuse` one that an earlier run has trained and kept is taken.
    """
    rng = sm.manual_seed(seed)
    model = new_model(d_model)
    file = FOLDER / f"words{words}-steps{steps}x{batch_size}-smoothing{smoothing}-seed{seed}-d{d_model}.npz"
    if reuse and file.exists():
        state = sm.load(file)
        took = float(state.pop("seconds"))
        model.load_state_dict(state)
        return model, took
    part = train[rng.permutation(len(train.letters))[:words]]
    optimizer = optim.AdamW(model.parameters(), lr=2e-3)
    schedule = optim.CosineSchedule(optimizer, steps, warmup=min(50, steps // 10))
    began = time.process_time()
    for chosen in data.batches(part, batch_size, steps, rng):
        source, mask, given, wanted = data.batch(chosen)
        loss = sm.cross_entropy(model(source, given, mask), wanted, label_smoothing=smoothing)
        model.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    took = time.process_time() - began
    FOLDER.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = {**model.state_dict(), "seconds": np.asarray(took)}
    sm.save(file, kept)
    return model, took
