"""The table of rows: what is measured, at which size, and what share of a peer's time we want to take at most."""

from __future__ import annotations

from collections.abc import Sequence

from . import transformer
from .attention import attention
from .layers import chain, dropout, embedding, gelu, layer_norm
from .losses import cross_entropy, linear_cross_entropy, softmax
from .mlp import mlp
from .row import Row

LOSSES, SOFTMAX, ATTENTION, LAYERS, TRAINING = (
    "Losses", "Softmax", "Causal attention", "Layers and ops", "Training and generating",
)  # fmt: skip
SMALL_MLP = {"autograd": 0.2, "mygrad": 0.4}
COMPILED = ("jax", "tinygrad")


def _softmax(name: str, n: int, v: int, bar: float, backward: bool = True, also: tuple[str, ...] = ()) -> Row:
    options = {"name": name, "backward": backward}
    label = f"{name} ({n}, {v})" + ("" if backward else ", forward only")
    return Row(label, SOFTMAX, softmax, (n, v), (6, 11), {"torch": bar}, also, options=options)


ROWS = [
    Row("cross_entropy (2048, 32000)", LOSSES, cross_entropy, (2048, 32000), (6, 11), {"torch": 0.2}, COMPILED),
    Row("cross_entropy (1024, 50257)", LOSSES, cross_entropy, (1024, 50257), (5, 13), {"torch": 0.2}),
    Row("cross_entropy (1024, 1000)", LOSSES, cross_entropy, (1024, 1000), (7, 9), {"torch": 0.9}, COMPILED),
    Row("cross_entropy (128, 10)", LOSSES, cross_entropy, (128, 10), (8, 3), {"torch": 0.6}),
    *(
        Row(f"cross_entropy (2048, 32000), {form}", LOSSES, cross_entropy, (2048, 32000), (12, 11), {"plain": 1.1},
            ("torch",), options={"form": form})
        for form in ("label-smoothed", "weighted", "ignore_index")
    ),
    Row("linear_cross_entropy N=4096 d=512 V=32000", LOSSES, linear_cross_entropy, (4096, 512, 32000), (6, 5, 11),
        {"torch": 0.8}, memory_bar=0.1),
    _softmax("softmax", 2048, 32000, 0.6, also=COMPILED),
    _softmax("softmax", 2048, 32000, 0.6, backward=False),
    _softmax("log_softmax", 2048, 32000, 0.6),
    _softmax("softmax", 8192, 512, 0.9),
    _softmax("log_softmax", 8192, 512, 0.9),
    Row("attention (8, 1024, 64)", ATTENTION, attention, (8, 1024, 64), (2, 7, 4), {"torch": 0.9}, COMPILED),
    Row("attention (4, 4096, 64)", ATTENTION, attention, (4, 4096, 64), (1, 9, 4), {"torch": 0.9}),
    Row("attention (8, 64, 32)", ATTENTION, attention, (8, 64, 32), (3, 5, 2), {"torch": 1.0}),
    Row("attention (16, 128, 32)", ATTENTION, attention, (16, 128, 32), (2, 4, 2), {"torch": 1.0}),
    Row("layer_norm (2048, 512)", LAYERS, layer_norm, (2048, 512), (5, 7), {"torch": 1.0}),
    Row("gelu (2048, 512)", LAYERS, gelu, (2048, 512), (5, 7), {"torch": 1.0}),
    Row("embedding of 2048 in (8192, 512)", LAYERS, embedding, (2048, 8192, 512), (9, 5, 3), {"torch": 1.0}),
    Row("dropout (2048, 512)", LAYERS, dropout, (2048, 512), (5, 7), {"torch": 1.0}, tolerance=None),
    Row("400 small ops in a chain", LAYERS, chain, (400,), (6,), {"torch": 0.7}),
    Row("MLP 64-16-10, batch 8, Adam", TRAINING, mlp, (64, 16, 10, 8), (6, 5, 3, 2), {"torch": 0.35, **SMALL_MLP},
        COMPILED),
    Row("MLP 64-128-10, batch 32, Adam", TRAINING, mlp, (64, 128, 10, 32), (6, 5, 3, 4), {"torch": 0.5, **SMALL_MLP},
        COMPILED),
    Row("MLP 784-512-10, batch 128, Adam", TRAINING, mlp, (784, 512, 10, 128), (7, 6, 3, 4), {"torch": 1.0},
        (*SMALL_MLP, *COMPILED)),
    Row("TransformerLM 2 layers d=64 T=64 B=8, AdamW", TRAINING, transformer.step, (2, 64, 64, 8), (1, 8, 4, 2),
        {"torch": 0.7}),
    Row("TransformerLM 4 layers d=128 T=128 B=16, AdamW", TRAINING, transformer.step, (4, 128, 128, 16), (1, 8, 5, 2),
        {"torch": 0.85}),
    Row("generate 256 tokens, 2 layers d=64, cached", TRAINING, transformer.generate, (2, 64, 64, 256), (1, 8, 4, 6),
        {"torch": 0.5}, tolerance=None),
]  # fmt: skip


def chosen(words: Sequence[str] = ()) -> list[Row]:
    """Return the rows whose group and name hold one of the words; all rows for none.

    >>> [row.name for row in chosen(["cross_entropy (128", "GELU"])]
    ['cross_entropy (128, 10)', 'gelu (2048, 512)']
    """
    return [r for r in ROWS if not words or any(w.lower() in f"{r.group}: {r.name}".lower() for w in words)]
