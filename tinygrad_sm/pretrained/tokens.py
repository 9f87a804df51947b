"""Tokenizers, by the package of that name: a tokenizer.json, or what a GGUF file says of its vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..text import visible
from .weights import exactly, reading

LARGEST = 64 * 2**20  # bytes of a tokenizer.json; those of the largest vocabularies have 20 MB


def _package() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ImportError("pretrained models need the package tokenizers: pip install tokenizers") from None
    return tokenizers


def readable(text: str, caller: str) -> str:
    """Return a text; ValueError if there are code points in it that are no characters, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = visible(repr(text), limit=60)
        raise ValueError(
            f"{caller}: the text {shown} has lone surrogates: it was made of bytes that are not UTF-8"
        ) from None
    return text


def from_json(path: Path, longest: int | None = None) -> Any:
    """Return the tokenizer of a tokenizer.json, without padding, which cuts texts after `longest` tokens."""
    tokenizers = _package()
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: is not there; transformers writes it when a fast tokenizer (AutoTokenizer) is saved with "
            "save_pretrained"
        )
    with reading(path, "from_pretrained") as (file, source):
        if source.size > LARGEST:
            raise ValueError(f"it has {source.size:,} bytes, of which at most {LARGEST:,} are read")
        content = exactly(file, source.size)
    with _failing(f"{path}: is no tokenizer.json that can be read"):
        tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
    tokenizer.no_padding()
    if longest is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(longest)
    return tokenizer


def encoded(tokenizer: Any, texts: list[str]) -> list[Any]:
    """Return several texts as the package encodes them: their `ids`, with those that it puts around each, and more."""
    with _failing("the tokenizer cannot read this text"):
        return list(tokenizer.encode_batch(texts))


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Raise ValueError for all that the package raises, whose errors have no kinds; a panic is no Exception even."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ValueError(f"{what}: {visible(error, limit=300)}") from None


def from_gguf(metadata: Mapping[str, Any], source: str) -> Any:
    """Return the byte-level BPE tokenizer whose vocabulary and merges stand in a GGUF file."""
    tokenizers = _package()
    kind = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        found = " with ".join(visible(repr(name), limit=60) for name in kind)
        raise ValueError(
            f"{source}: the tokenizer {found} is not read, only 'gpt2' with 'smollm': byte-level BPE that takes digits "
            "one by one"
        )
    for name in ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"):
        if metadata.get(name, False) is not False:
            raise ValueError(f"{source}: {name} must be False, not {visible(repr(metadata[name]), limit=60)}")
    tokens, merges = (_texts(metadata, f"tokenizer.ggml.{name}", source) for name in ("tokens", "merges"))
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs = [(a, b) for a, _, b in (merge.partition(" ") for merge in merges)]
    broken = [f"{a} {b}" for a, b in pairs if not {a, b, a + b} <= vocabulary.keys()]
    if broken or len(vocabulary) < len(tokens):
        why = f"the merge {visible(broken[0], limit=60)}" if broken else "a token stands twice"
        raise ValueError(f"{source}: its vocabulary and merges do not fit: {why}")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, pairs))
    split, parts = tokenizers.pre_tokenizers, tokenizers.decoders
    tokenizer.pre_tokenizer = split.Sequence(
        [split.Digits(individual_digits=True), split.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = parts.ByteLevel()
    types = metadata.get("tokenizer.ggml.token_type")
    control = 3  # the type of those that are no text
    special = [t for t, kind in zip(tokens, types, strict=False) if kind == control] if isinstance(types, list) else []
    tokenizer.add_special_tokens(special)
    return tokenizer


def _texts(metadata: Mapping[str, Any], name: str, source: str) -> list[str]:
    found = metadata.get(name)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{source}: {name} must be a list of texts, not {visible(repr(found), limit=60)}")
    return found
