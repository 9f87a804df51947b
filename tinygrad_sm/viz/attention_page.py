"""The page of all attention weights of a model for one text: every layer and head, in one HTML file."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from ..text import visible
from .attention_weights import Packed, as_layers, packed, plan
from .page import Interactive, file, filled, inert, script

TOKENS = 1024  # more have no room on an axis
LONGEST = 60  # characters of a token that are shown


def attention_page(
    tokens: Sequence[str],
    weights: Sequence[Any],
    *,
    title: str = "Attention",
    before: Sequence[Any] | None = None,
    labels: tuple[str, str] = ("with 1/√d_k", "without"),
) -> Interactive:
    """Return a page on which a reader goes through the attention weights of every layer and head.

    It shows all heads as small heat maps, with the mean entropy of their rows as a share of log n, their mean largest
    weight, and the share of rows that have a weight above 0.99; and each head as a large one, as text whose tokens are
    coloured by the weight that a chosen query gives them, and as lines from queries to keys. It is one file, which
    works without a network.

    Up to 4 million weights are stored in steps of 1/65534. Of more, the largest of each row are kept (at least eight,
    as many as fit into 8 MB), and the page says so; entropies and the other statistics are always of all weights.

    Parameters
    ----------
    tokens : sequence of T str
        As the model saw them, with marks such as "[CLS]", "##izer" or "Ġhello"; without padding.
    weights : sequence of Tensors or arrays (heads, T, T), a layer each
        Row i is what query i takes from each key, and sums to 1. If all weights above the diagonal are 0, the model
        is taken for a causal one, whose row i has i + 1 keys.
    title : str
        Stands above the page.
    before : sequence, optional
        The weights of the same text under another setting, to compare: the same form as `weights`.
    labels : tuple of two str
        What `weights` and `before` are called.

    Returns
    -------
    Interactive
        `.save("attention.html")` writes the page, `.html` is its text, and a notebook shows it.

    Raises
    ------
    TypeError
        If `tokens` is one str, or the weights are one array and not a list of layers.
    ValueError
        If shapes do not agree with each other or with the tokens, if a weight lies outside of 0 … 1, or if there are
        more weights than a page can hold: 1024 tokens, or 250 000 rows over all layers and heads.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> layer = np.array([[[1.0, 0.0], [0.25, 0.75]]])  # one head
    >>> page = sm.viz.attention_page(["the", "cat"], [layer], title="A causal head")
    >>> page.html[:15], page.alt
    ('<!doctype html>', 'Attention weights of 1 layer for 2 tokens: A causal head')
    """
    words = _words(tokens)
    layers = as_layers(weights, "weights", len(words))
    settings = [layers] if before is None else [layers, as_layers(before, "before", len(words), like=layers)]
    names = _labels(labels)[: len(settings)]
    how = plan(settings)
    sides = [packed(side, how) for side in settings]
    heading = visible(" ".join(str(title).split()), limit=200) or "Attention"
    data = {
        "tokens": words,
        "heads": [len(layer) for layer in layers],
        "labels": names,
        "causal": how.causal,
        "kept": how.kept,
        "sides": [{"layers": side.layers, "stats": side.stats} for side in sides],
        "notes": [*_kept(how.kept, len(words)), *_notes(sides, names), *_marks(words)],
    }
    text = filled(
        "attention_page.html",
        {
            "title": html.escape(heading),
            "precision": _precision(how.kept, len(words)),
            "data": inert(data),
            "css": file("attention_page.css"),
            "page": script("attention_page.js"),
            "head": script("attention_head.js"),
        },
    )
    alt = f"Attention weights of {len(layers)} layer{'s' * (len(layers) > 1)} for {len(words)} tokens: {heading}"
    return Interactive(text, 800, alt)


def _words(tokens: Any) -> list[str]:
    """Return the tokens as the page shows them: what has no sign gets one."""
    if isinstance(tokens, (str, bytes)) or not isinstance(tokens, Iterable):
        raise TypeError(
            f"attention_page: tokens is a list of str, not one {type(tokens).__name__}; split it as the model does"
        )
    found = [_word(token) for token in tokens]
    if not 1 <= len(found) <= TOKENS:
        raise ValueError(
            f"attention_page: there are {len(found):,} tokens; a page shows 1 to {TOKENS:,}. "
            f"Run the model on a {'shorter' if found else 'longer'} text"
        )  # fmt: skip
    return found


def _word(token: Any) -> str:
    text = visible(str(token), limit=LONGEST)
    bare = text.strip(" ")
    left = len(text) - len(text.lstrip(" "))
    return "␣" * left + bare + "␣" * (len(text) - left - len(bare)) if text else "(empty)"


def _labels(labels: Any) -> list[str]:
    if not (isinstance(labels, (tuple, list)) and len(labels) == 2):
        raise ValueError(f"attention_page: labels are two str, of weights and of before; got {labels!r:.60}")
    return [visible(str(label), limit=40) for label in labels]


def _notes(sides: list[Packed], names: list[str]) -> list[str]:
    return [
        f"{name}: {note}" if len(sides) > 1 else note
        for name, side in zip(names, sides, strict=True)
        for note in side.notes
    ]


def _kept(kept: int, n: int) -> list[str]:
    return (
        [f"Of the {n} weights of each row only the {kept} largest are on this page; see Precision below."]
        if kept
        else []
    )


def _marks(words: list[str]) -> list[str]:
    """Explain the marks of tokenizers that are there."""
    marks = (
        ("Ġ", "Ġ stands for the space before a word.", any(w.startswith("Ġ") for w in words)),
        ("▁", "▁ stands for the space before a word.", any(w.startswith("▁") for w in words)),
        ("Ċ", "Ċ stands for the end of a line.", any("Ċ" in w for w in words)),
        ("##", "A piece that starts with ## goes on with the word before it.", any(w.startswith("##") for w in words)),
        ("␣", "␣ stands for a space.", any("␣" in w for w in words)),
    )
    return [text for _, text, there in marks if there]


def _precision(kept: int, n: int) -> str:
    steps = "Weights are stored in steps of 1/65534, so each is right to 0.000008"
    if not kept:
        return f"{steps}; small ones are shown with two digits."
    return (
        f"So many weights do not fit on a page: of the {n} of each row the {kept} largest are kept, and the others are "
        f"drawn as 0 and read as “below” the smallest of those. {steps}. Entropies and the other statistics "
        "were computed from all weights."
    )  # fmt: skip
