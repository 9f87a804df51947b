"""The commands embed, generate and attention."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import checked_target, replacing
from ..text import visible
from . import load
from .language import LanguageModel
from .sentences import SentenceEncoder
from .tokens import encoded

COLUMNS = 20  # of a table of cosines
NAMES = {"minilm": load.minilm, "smollm2": load.smollm2}


def add(commands: Any) -> None:
    """Add the three commands to the parser."""
    embed = commands.add_parser(
        "embed",
        help="turn texts into vectors with MiniLM, and print how alike they are",
        description="Turn texts into vectors of length 1 with the sentence encoder MiniLM. Of several texts the table "
        "of their cosines is printed, of one text its vector; --out writes the vectors to a file. Empty texts and "
        "lines are left out; of long texts the first 256 tokens are read.",
    )
    embed.add_argument("texts", nargs="*", metavar="TEXT", help="a text")
    embed.add_argument("--file", metavar="FILE", help="a file with one text a line; - is the standard input")
    embed.add_argument("--out", type=Path, metavar="FILE", help="write the vectors: .npy, or .jsonl with the texts")
    generate = commands.add_parser(
        "generate",
        help="continue a text with SmolLM2, token by token",
        description="Continue a text with the language model SmolLM2-135M-Instruct, and print it as it is made.",
    )
    generate.add_argument("prompt", metavar="PROMPT", help="the text to continue")
    generate.add_argument(
        "--chat", action="store_true", help="the text is a message, which the model answers (SmolLM2's form, ChatML)"
    )
    generate.add_argument("--max-new-tokens", type=int, default=200, metavar="N", help="at most so many (default: 200)")
    generate.add_argument(
        "--temperature", type=float, default=0.2, metavar="T", help="0 takes the likeliest token (default: 0.2)"
    )
    generate.add_argument("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens")
    generate.add_argument(
        "--top-p", type=float, default=0.9, metavar="P",
        help="sample among the fewest tokens that have this probability together (default: 0.9)",
    )  # fmt: skip
    generate.add_argument("--seed", type=int, default=0, metavar="N", help="of the samples (default: 0)")
    attention = commands.add_parser(
        "attention",
        help="write a page with the attention weights of every layer and head for a text",
        description="Write an HTML page that shows where each token of a text looks, in every layer and head.",
    )
    attention.add_argument("text", metavar="TEXT", help="the text")
    attention.add_argument("--compare", action="store_true", help="with and without √d_k, beside each other")
    attention.add_argument(
        "--out", type=Path, default=Path("attention.html"), metavar="FILE", help="default: attention.html"
    )
    for command, model, known in (
        (embed, "minilm", "minilm or a folder with a model"),
        (generate, "smollm2", "smollm2, a folder with a model, or a .gguf file"),
        (attention, "minilm", "minilm, smollm2, a folder with a model, or a .gguf file"),
    ):
        command.add_argument("--model", default=model, metavar="MODEL", help=f"{known} (default: {model})")
        command.add_argument("--no-scale", dest="scaled", action="store_false", help="do not divide the scores by √d_k")


def _model(args: argparse.Namespace, kind: type, scaled: bool | None = None) -> Any:
    scaled = args.scaled if scaled is None else scaled
    make: Any = NAMES.get(args.model)
    model = make(scaled=scaled) if make else load.from_pretrained(args.model, scaled=scaled)
    if not isinstance(model, kind):
        wanted = "a sentence encoder" if kind is SentenceEncoder else "a language model"
        raise ValueError(f"{args.command} takes {wanted}; {visible(args.model)} is a {type(model).__name__}")
    return model


def _tell_cut(model: SentenceEncoder, texts: list[str]) -> None:
    """Say of how many texts the model has read the beginning only."""
    cut = sum(bool(found.overflowing) for found in encoded(model.tokenizer, texts))
    if cut:
        longest = model.tokenizer.truncation["max_length"]
        of = "the text" if len(texts) == 1 else f"{cut:,} of {len(texts):,} texts"
        print(f"tinygrad-sm: of {of}, only the first {longest} tokens were read", file=sys.stderr)


def embed(args: argparse.Namespace) -> int:
    """Print cosines or a vector, or write vectors."""
    texts = list(args.texts)
    if args.file == "-":
        texts += sys.stdin.read().splitlines()
    elif args.file is not None:
        try:
            texts += Path(args.file).read_text(encoding="utf-8-sig").splitlines()  # Windows may write a mark first
        except UnicodeDecodeError as error:
            raise ValueError(f"embed: {args.file} is not a text in UTF-8: {error}") from None
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ValueError("embed: there is no text; give some, or --file FILE")
    if args.out is not None and args.out.suffix not in (".npy", ".jsonl"):
        raise ValueError(f"embed: --out must end in .npy or .jsonl, not {visible(args.out.suffix) or 'nothing'}")
    if args.out is not None:
        checked_target(args.out, "embed")
    elif len(texts) > COLUMNS:
        raise ValueError(
            f"embed: there are {len(texts):,} texts; a table shows at most {COLUMNS}, and --out vectors.npy writes all"
        )
    model = _model(args, SentenceEncoder)
    vectors = model.encode(texts)
    _tell_cut(model, texts)
    if args.out is not None:
        with replacing(args.out, "embed") as file:
            if args.out.suffix == ".npy":
                np.lib.format.write_array(file, vectors, allow_pickle=False)
            else:
                for text, vector in zip(texts, vectors, strict=True):
                    line = json.dumps({"text": text, "vector": vector.tolist()}, ensure_ascii=False)
                    file.write(f"{line}\n".encode())
        print(f"written: {args.out} ({len(texts):,} vectors of {vectors.shape[1]})")
    elif len(texts) == 1:
        print(json.dumps([round(float(v), 6) for v in vectors[0]]))
    else:
        for i, row in enumerate(vectors @ vectors.T):
            print(f"{i + 1:>3}", *(f"{v:6.3f}" for v in row), f" {visible(texts[i], limit=60)}")
    return 0


def generate(args: argparse.Namespace) -> int:
    """Print what the model writes, as it is made."""
    if args.seed < 0:
        raise ValueError(f"--seed must be 0 or more, not {args.seed}")
    model = _model(args, LanguageModel)
    if args.chat and model.tokenizer.token_to_id("<|im_start|>") is None:
        raise ValueError(f"--chat writes messages in the form ChatML, which {visible(args.model)} has no tokens for")
    prompt = model.chat(args.prompt) if args.chat else args.prompt
    pieces = model.stream(
        prompt, args.max_new_tokens, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p,
        rng=np.random.default_rng(args.seed),
    )  # fmt: skip
    first = next(pieces, "")  # what is wrong with the options is said before anything is printed
    try:
        for piece in ("" if args.chat else prompt, first):
            print(visible(piece, keep="\n\t"), end="", flush=True)
        for piece in pieces:
            print(visible(piece, keep="\n\t"), end="", flush=True)
    finally:  # Ctrl-C too
        print()
    return 0


def attention(args: argparse.Namespace) -> int:
    """Write the page."""
    from ..viz import attention_page
    from ..viz.attention_page import TOKENS

    if args.compare and not args.scaled:
        raise ValueError("--compare shows both; leave out --no-scale")
    checked_target(args.out, "attention")
    model = _model(args, object)
    if isinstance(model, SentenceEncoder):
        _tell_cut(model, [args.text])
    elif (count := len(model.encode(args.text))) > TOKENS:
        raise ValueError(f"attention: the text has {count:,} tokens; a page shows at most {TOKENS:,}")
    tokens, weights = model.attention(args.text)
    before = _model(args, object, scaled=False).attention(args.text)[1] if args.compare else None
    labels = ("with 1/√d_k", "without") if args.scaled else ("without 1/√d_k", "")
    title = f"Attention: {args.text:.80}{'…' if len(args.text) > 80 else ''}"
    attention_page(tokens, weights, title=title, before=before, labels=labels).save(args.out)
    print(f"written: {args.out} ({len(weights)} layers of {len(weights[0])} heads, {len(tokens)} tokens)")
    return 0
